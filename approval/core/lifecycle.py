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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from approval.core import ledger
from approval.core.audit import Entry, Tag
from approval.core.call import Answer, Call, Status
from approval.core.demand import Taken
from approval.core.issued import Issue
from approval.core.ledger import Booking, LedgerEntry, Reservation
from approval.core.meters import USES
from approval.core.money import Money
from approval.core.price import OnError, OnOverrun
from approval.core.refusals import Refusal
from approval.errors import Conflict


class Event(enum.StrEnum):
    HOLD = "hold"
    ALLOW = "allow"
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
    RELEASE = "release"
    CLAIM = "claim"
    SUCCEED = "succeed"
    ERR = "err"
    FAIL = "fail"
    LOSE = "lose"
    SUCCEED_LATE = "succeed_late"
    ERR_LATE = "err_late"
    SETTLE_EXECUTED = "settle_executed"
    SETTLE_FAILED = "settle_failed"
    CORRECT = "correct"


class Funds(enum.StrEnum):
    """What becomes of the money a call has reserved.

    It is given back on proof alone: an answer that is an error may have spent it, and a doubt keeps
    it. `LOWER` keeps what an approver typed, or may still type, and gives back the rest; where the
    price is known all is kept. `BY_RULE` is the tool's `on_error`; *keep* there books all that was
    reserved, for an ended call holds nothing. `ADJUST` is a person's evidence, which is better than
    a rule, and than what counted as proof: it books what was given back as well.
    """

    NONE = "none"
    RESERVE = "reserve"
    KEEP = "keep"
    LOWER = "lower"
    POST = "post"
    VOID = "void"
    BY_RULE = "by rule"
    ADJUST = "adjust"


@dataclass(frozen=True, slots=True)
class Transition:
    target: Status
    funds: Funds


TRANSITIONS: Final[Mapping[tuple[Status | None, Event], Transition]] = {
    (None, Event.HOLD): Transition(Status.PENDING, Funds.RESERVE),
    (None, Event.ALLOW): Transition(Status.EXECUTING, Funds.RESERVE),
    (None, Event.DENY): Transition(Status.DENIED, Funds.NONE),
    (Status.PENDING, Event.JOIN): Transition(Status.PENDING, Funds.KEEP),
    (Status.PENDING, Event.TIGHTEN): Transition(Status.PENDING, Funds.LOWER),
    (Status.PENDING, Event.ENDORSE): Transition(Status.PENDING, Funds.KEEP),
    (Status.PENDING, Event.APPROVE): Transition(Status.APPROVED, Funds.LOWER),
    (Status.PENDING, Event.REJECT): Transition(Status.REJECTED, Funds.VOID),
    (Status.PENDING, Event.EXPIRE): Transition(Status.EXPIRED, Funds.VOID),
    (Status.PENDING, Event.CANCEL): Transition(Status.CANCELLED, Funds.VOID),
    (Status.PENDING, Event.INVALIDATE): Transition(Status.INVALIDATED, Funds.VOID),
    (Status.APPROVED, Event.JOIN): Transition(Status.APPROVED, Funds.KEEP),
    (Status.APPROVED, Event.RELEASE): Transition(Status.APPROVED, Funds.KEEP),
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
    (Status.EXECUTED, Event.CORRECT): Transition(Status.EXECUTED, Funds.ADJUST),
    (Status.ERRORED, Event.CORRECT): Transition(Status.ERRORED, Funds.ADJUST),
    (Status.FAILED, Event.CORRECT): Transition(Status.FAILED, Funds.ADJUST),
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
    bookings: tuple[Booking, ...] = ()
    """What moves in meters, in the order in which they are locked."""
    taken: tuple[Taken, ...] = ()
    """The counts that an admitted call raises."""
    issue: Issue | None = None
    """The grant that comes of an approval."""
    refusal: Refusal | None = None
    """Why there was no room, where a call was denied for want of it."""
    alerts: tuple[Entry, ...] = ()
    """What the trail is told beside it of meters that it fills; the store adds them."""
    overran: bool = False
    """Whether the call has just turned out to have taken more than was set aside for it."""

    @property
    def freezes(self) -> bool:
        """Say whether the tool is frozen for its agent: the upstream took more than was approved.

        The excess is booked in the meters that the call draws on, since the money is gone; it is
        never treated as permitted, whether or not any meter counts it.
        """
        return self.overran and self.call.terms.on_overrun is OnOverrun.FREEZE

    def entry(self) -> Entry:
        """Word the change for the trail. Replaying these yields every call's status and version.

        Raises:
            ValueError: If nothing changed; there is nothing to write then.
        """
        if self.event is None:
            raise ValueError("a change without an event has no audit entry")
        facts: dict[str, object] = {"to": self.call.status, **self.facts}
        if self.event is not Event.DENY:  # of a denied call no record is kept, so it has no version
            facts |= {"from": self.previous, "version": self.call.version}
        if moved := [_written(entry) for each in self.bookings for entry in each.entries]:
            facts["ledger"] = moved
        if self.freezes:
            facts["frozen"] = True
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
    actual: Money | None = None,
) -> Change:
    """Move the call along the table, and its money with it; `actual` is what it is known to cost.

    Raises:
        Conflict: If the call's status does not take this event.
    """
    transition = TRANSITIONS.get((call.status, event))
    if transition is None:
        raise Conflict(f"the call is {call.status} and takes no {event}")
    bookings = _booked(call, transition.funds, actual)
    moved = replace(
        call,
        status=transition.target,
        version=call.version + 1,
        ended_at=now if transition.target.ended and not call.status.ended else call.ended_at,
    )
    return booked(
        Change(
            call=moved,
            event=event,
            previous=call.status,
            funds=transition.funds,
            actor=actor,
            facts=facts or {},
            overran=transition.funds in _SETTLED and _is_beyond(call, actual),
        ),
        bookings,
    )


_SETTLED: Final = frozenset({Funds.POST, Funds.BY_RULE})
"""Where it comes out what a call took. A person who corrects that has looked into it already."""


def _is_beyond(call: Call, actual: Money | None) -> bool:
    allowed = call.amount
    if actual is None or allowed is None or actual.currency != allowed.currency:
        return False
    return actual > allowed


def booked(change: Change, bookings: Iterable[Booking]) -> Change:
    """Add movements of money to a change; the call has its reservations as they are then."""
    made = tuple(bookings)
    known = {each.meter_id: each for each in change.call.reservations}
    known |= {each.reservation.meter_id: each.reservation for each in made}
    reservations = tuple(known[meter_id] for meter_id in sorted(known))
    return replace(
        change,
        call=replace(change.call, reservations=reservations),
        bookings=(*change.bookings, *made),
    )


def _booked(call: Call, funds: Funds, actual: Money | None) -> list[Booking]:
    """Say what becomes of what the call holds. Only `held` reservations move.

    What is posted moves on a person's word alone, and only where that is known in its currency.
    """
    if funds is Funds.ADJUST:
        wrong = [*correctable(call, actual), *_used_after_all(call, actual)]
        in_order = sorted(wrong, key=lambda each: each.meter_id)
        return [ledger.adjust(each, _cost(each, actual, kept=False)) for each in in_order]
    held = [each for each in call.reservations if each.state is ledger.State.HELD]
    match _by_rule(funds, call):
        case Funds.VOID:
            return [ledger.void(each) for each in held]
        case Funds.LOWER if actual is not None:
            return [ledger.lower(each, _cost(each, actual, kept=False)) for each in held]
        case Funds.POST:
            kept = funds is Funds.BY_RULE and call.terms.on_error is OnError.KEEP
            return [ledger.post(each, _cost(each, actual, kept=kept)) for each in held]
        case _:
            return []


def correctable(call: Call, actual: Money | None) -> list[Reservation]:
    """Give what the call took, or gave back, in the currency of `actual`: what it may correct."""
    return [
        each
        for each in call.reservations
        if each.state is not ledger.State.HELD
        and actual is not None
        and each.amount.currency == actual.currency
    ]


def _used_after_all(call: Call, actual: Money | None) -> list[Reservation]:
    """Give the uses of grants that were given back, where a call turns out to have spent."""
    if actual is None or actual.minor == 0:
        return []
    return [
        each
        for each in call.reservations
        if each.state is ledger.State.VOID and each.amount.currency == USES
    ]


def _by_rule(funds: Funds, call: Call) -> Funds:
    if funds is not Funds.BY_RULE:
        return funds
    return Funds.VOID if call.terms.on_error is OnError.VOID else Funds.POST


def _cost(held: Reservation, actual: Money | None, *, kept: bool) -> Money:
    """Count what is known in the meter's currency; uses of a grant, and all else, as reserved.

    With `kept` nothing lowers it: what an error says it did not take is no proof.
    """
    if actual is None or actual.currency != held.amount.currency:
        return held.amount
    return max(actual, held.amount) if kept else actual


def _written(entry: LedgerEntry) -> list[object]:
    """Write a movement for the trail, from which every meter can be added up again."""
    return [
        entry.kind.value,
        entry.meter_id,
        entry.window_start.isoformat(),
        entry.amount,
        entry.override,
    ]


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
