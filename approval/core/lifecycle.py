"""The life of a call, as one table.

Nothing else in this project writes a status. `TRANSITIONS` says which event may follow which
status, where it leads, and what becomes of the money; a pair that is not in the table cannot
happen, and asking for it is a `Conflict`. `steps` holds the guards and decides which event it is.

Three rules shape the table. A call is *claimed* before a byte of it is sent, and nothing leads from
executing back to approved: it runs at most once. Only a definite answer ends an execution; silence
leads to *in doubt*, which a person settles. Rejections beat approvals until the claim, after that
only the upstream's truth counts (Teleport's rule for access requests).
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from approval.core.audit import Entry, Tag
from approval.core.call import Answer, Call, Status
from approval.errors import Conflict


class Event(enum.StrEnum):
    HOLD = "hold"
    DENY = "deny"
    JOIN = "join"
    TIGHTEN = "tighten"
    ENDORSE = "endorse"
    APPROVE = "approve"
    REJECT = "reject"
    REVOKE = "revoke"
    EXPIRE = "expire"
    CANCEL = "cancel"
    INVALIDATE = "invalidate"
    CLAIM = "claim"
    SUCCEED = "succeed"
    ERR = "err"
    FAIL = "fail"
    LOSE = "lose"
    SUCCEED_LATE = "succeed_late"
    ERR_LATE = "err_late"
    SETTLE_EXECUTED = "settle_executed"
    SETTLE_FAILED = "settle_failed"


class Funds(enum.StrEnum):
    """What becomes of the money a call has reserved. No call carries money yet."""

    NONE = "none"
    RESERVE = "reserve"
    KEEP = "keep"
    POST = "post"
    VOID = "void"
    BY_RULE = "by rule"


@dataclass(frozen=True, slots=True)
class Transition:
    target: Status
    funds: Funds


TRANSITIONS: Final[Mapping[tuple[Status | None, Event], Transition]] = {
    (None, Event.HOLD): Transition(Status.PENDING, Funds.RESERVE),
    (None, Event.DENY): Transition(Status.DENIED, Funds.NONE),
    (Status.PENDING, Event.JOIN): Transition(Status.PENDING, Funds.KEEP),
    (Status.PENDING, Event.TIGHTEN): Transition(Status.PENDING, Funds.KEEP),
    (Status.PENDING, Event.ENDORSE): Transition(Status.PENDING, Funds.KEEP),
    (Status.PENDING, Event.APPROVE): Transition(Status.APPROVED, Funds.KEEP),
    (Status.PENDING, Event.REJECT): Transition(Status.REJECTED, Funds.VOID),
    (Status.PENDING, Event.EXPIRE): Transition(Status.EXPIRED, Funds.VOID),
    (Status.PENDING, Event.CANCEL): Transition(Status.CANCELLED, Funds.VOID),
    (Status.PENDING, Event.INVALIDATE): Transition(Status.INVALIDATED, Funds.VOID),
    (Status.APPROVED, Event.JOIN): Transition(Status.APPROVED, Funds.KEEP),
    (Status.APPROVED, Event.REVOKE): Transition(Status.REJECTED, Funds.VOID),
    (Status.APPROVED, Event.EXPIRE): Transition(Status.EXPIRED, Funds.VOID),
    (Status.APPROVED, Event.CANCEL): Transition(Status.CANCELLED, Funds.VOID),
    (Status.APPROVED, Event.INVALIDATE): Transition(Status.INVALIDATED, Funds.VOID),
    (Status.APPROVED, Event.CLAIM): Transition(Status.EXECUTING, Funds.KEEP),
    (Status.EXECUTING, Event.JOIN): Transition(Status.EXECUTING, Funds.KEEP),
    (Status.EXECUTING, Event.SUCCEED): Transition(Status.EXECUTED, Funds.POST),
    (Status.EXECUTING, Event.ERR): Transition(Status.ERRORED, Funds.BY_RULE),
    (Status.EXECUTING, Event.FAIL): Transition(Status.FAILED, Funds.VOID),
    (Status.EXECUTING, Event.LOSE): Transition(Status.IN_DOUBT, Funds.KEEP),
    (Status.IN_DOUBT, Event.JOIN): Transition(Status.IN_DOUBT, Funds.KEEP),
    (Status.IN_DOUBT, Event.SUCCEED_LATE): Transition(Status.EXECUTED, Funds.POST),
    (Status.IN_DOUBT, Event.ERR_LATE): Transition(Status.ERRORED, Funds.BY_RULE),
    (Status.IN_DOUBT, Event.SETTLE_EXECUTED): Transition(Status.EXECUTED, Funds.POST),
    (Status.IN_DOUBT, Event.SETTLE_FAILED): Transition(Status.FAILED, Funds.VOID),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a step found. `event` is None when nothing is to be written."""

    call: Call
    event: Event | None = None
    previous: Status | None = None
    funds: Funds = Funds.NONE
    actor: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    answer: Answer | None = None

    def entry(self) -> Entry:
        """Word the change for the trail. Replaying these yields every call's status and version.

        Raises:
            ValueError: If nothing changed; there is nothing to write then.
        """
        if self.event is None:
            raise ValueError("a change without an event has no audit entry")
        facts: dict[str, object] = {
            "from": self.previous,
            "to": self.call.status,
            "version": self.call.version,
            **self.facts,
        }
        return Entry(
            tag=Tag(f"call:{self.event}"), subject=self.call.id, actor=self.actor, facts=facts
        )


def move(
    call: Call,
    event: Event,
    actor: str,
    *,
    now: datetime | None = None,
    facts: Mapping[str, object] | None = None,
) -> Change:
    """Move the call along the table.

    Raises:
        Conflict: If the call's status does not take this event.
    """
    transition = TRANSITIONS.get((call.status, event))
    if transition is None:
        raise Conflict(f"the call is {call.status} and takes no {event}")
    moved = replace(
        call,
        status=transition.target,
        version=call.version + 1,
        ended_at=now if transition.target.ended else call.ended_at,
    )
    return Change(
        call=moved,
        event=event,
        previous=call.status,
        funds=transition.funds,
        actor=actor,
        facts=facts or {},
    )


def replayed(status: Status | None, event: Event) -> Status:
    """Follow one event of the trail through the table.

    Raises:
        Conflict: If the table has no such transition: the trail tells an impossible story.
    """
    transition = TRANSITIONS.get((status, event))
    if transition is None:
        raise Conflict(f"the trail leads from {status} by {event}, which cannot happen")
    return transition.target


def diagram() -> str:
    """Draw the table as a Mermaid state diagram: what the README shows."""
    lines = ["stateDiagram-v2"]
    arrows: dict[tuple[str, str], list[str]] = {}
    for (source, event), transition in TRANSITIONS.items():
        if source is transition.target:
            continue
        arrows.setdefault((source or "[*]", transition.target), []).append(str(event))
    lines += [f"    {a} --> {b}: {' / '.join(events)}" for (a, b), events in arrows.items()]
    ends = sorted({t.target for t in TRANSITIONS.values() if t.target.ended})
    return "\n".join(lines + [f"    {end} --> [*]" for end in ends])
