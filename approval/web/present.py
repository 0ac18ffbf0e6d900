"""What a person is shown of a call: pure functions from records to the words and fields of a page.

Everything is drawn from the arguments that will run, never from the agent's or the upstream's
description of them. What is too long for a card is folded there and whole on the call's own page.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from string import Formatter
from typing import Final

from approval.budgets import Line
from approval.core import canonical, giving, identity, parking
from approval.core.call import Call, Listener, Status
from approval.core.grantable import Bounds
from approval.core.identity import Directory, Right
from approval.web.fields import Field, fields_of, has_secret, is_complete, mask
from approval.web.text import Piece, is_suspicious, pieces, plain

STATES: Final = {
    Status.PENDING: "waiting",
    Status.APPROVED: "approved",
    Status.EXECUTING: "running",
    Status.EXECUTED: "executed",
    Status.ERRORED: "ended with an error",
    Status.FAILED: "failed",
    Status.IN_DOUBT: "in doubt",
    Status.REJECTED: "rejected",
    Status.DENIED: "denied by policy",
    Status.EXPIRED: "expired",
    Status.CANCELLED: "cancelled",
    Status.INVALIDATED: "invalidated",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One factor of the requirement, with the people who may fill it and those who have."""

    approvals: int
    named: tuple[str, ...]
    people: tuple[str, ...]
    given: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One call as one person sees it at one moment."""

    call: Call
    now: datetime
    person: str
    headline: tuple[Piece, ...]
    tool: tuple[Piece, ...]
    fields: tuple[Field, ...]
    raw: tuple[Piece, ...]
    complete: bool
    masked: bool
    revealed: bool
    seats: tuple[Seat, ...]
    barred: tuple[str, ...]
    story: str
    told: tuple[str | datetime, ...]
    may_approve: bool
    may_reject: bool
    may_cancel: bool
    may_settle: bool
    budgets: tuple[Line, ...] = ()
    may_run: bool = False
    """Whether the call waits for its agent in vain, and this person may have it run now."""
    grantable: Bounds | None = None
    """How far a grant may reach that this person may give along with an approval."""

    @property
    def state(self) -> str:
        return STATES[self.call.status]

    @property
    def headline_text(self) -> str:
        """The headline where no markup can be: a page's title, an announcement."""
        return plain(headline(self.call))

    @property
    def suspicious(self) -> bool:
        drawn = (self.headline, self.tool, self.raw)
        return any(map(is_suspicious, drawn)) or any(field.suspicious for field in self.fields)

    @property
    def needs_others(self) -> bool:
        """Say whether one approval alone may not be enough."""
        return len(self.seats) > 1 or any(seat.approvals > 1 for seat in self.seats)

    @property
    def waits_for(self) -> datetime | None:
        """The moment silence ends the call: the deadline to decide, then that to run."""
        if self.call.status is Status.PENDING:
            return self.call.decide_before
        return self.call.run_before if self.call.status is Status.APPROVED else None


def view(
    call: Call,
    person: str,
    directory: Directory,
    now: datetime,
    *,
    reveal: bool = False,
    budgets: tuple[Line, ...] = (),
) -> View:
    """Draw a call for a person; `budgets` are its meters, if it waits and spends."""
    arguments = canonical.read(call.asked.arguments)
    fields = fields_of(arguments, reveal=reveal)
    masked = has_secret(arguments)
    shown = arguments if reveal else mask(arguments)
    open_to = may_decide(call, person, directory)
    may_approve = call.status is Status.PENDING and open_to and not has_voted(call, person)
    return View(
        call=call,
        now=now,
        person=person,
        headline=pieces(headline(call)),
        tool=pieces(call.asked.tool),
        fields=fields,
        raw=pieces(canonical.canonical(shown).decode()),
        complete=is_complete(fields),
        masked=masked,
        revealed=reveal and masked,
        seats=seats(call, directory),
        barred=tuple(sorted(_title(directory, name) for name in _barred(call, directory))),
        story=story(call, directory, now, person),
        told=tell(call, directory, now, person),
        may_approve=may_approve,
        may_reject=open_to,
        may_cancel=may_cancel(call, person, directory),
        may_settle=call.status is Status.IN_DOUBT and directory.has_right(person, Right.SETTLE),
        budgets=budgets,
        grantable=giving.bounds_of(call, call.requirement) if may_approve else None,
    )


# --- who may ---


def may_decide(call: Call, person: str, directory: Directory) -> bool:
    """Say whether a decision of this person could still count.

    On an approved call that has not begun to run, only a rejection does.
    """
    return call.status in {Status.PENDING, Status.APPROVED} and person in identity.deciders(
        directory, call
    )


def has_voted(call: Call, person: str) -> bool:
    return any(vote.person == person for vote in call.votes)


def may_cancel(call: Call, person: str, directory: Directory) -> bool:
    """Withdrawing is for who answers for the agent, and for admins, until the call is claimed."""
    agent = directory.agents.get(call.asked.agent)
    owns = agent is not None and agent.owner == person
    open_ = call.status in {Status.PENDING, Status.APPROVED}
    return open_ and (owns or directory.has_right(person, Right.ADMIN))


def seats(call: Call, directory: Directory) -> tuple[Seat, ...]:
    """List who may decide, factor by factor, by the names people read."""
    may = identity.deciders(directory, call)
    approved = [vote.person for vote in call.approvals]
    found = []
    for factor in call.requirement.factors:
        pool = directory.members(factor.approvers) & may
        found.append(
            Seat(
                approvals=factor.approvals,
                named=factor.approvers,
                people=tuple(sorted(_title(directory, name) for name in pool)),
                given=tuple(_title(directory, name) for name in approved if name in pool),
            )
        )
    return tuple(found)


def _barred(call: Call, directory: Directory) -> frozenset[str]:
    named = (factor.approvers for factor in call.requirement.factors)
    pool = frozenset().union(*(directory.members(names) for names in named))
    return identity.barred(directory, call) & pool


# --- words ---


def headline(call: Call) -> str:
    """Say what the agent wants: the policy's words, or else the tool's name."""
    wants = call.title or f"run {call.asked.tool}"
    return f"{call.asked.agent} wants to {wants}"


_APPROVED: Final = "{decider} approved this {decided}"

TOLD: Final[Mapping[str, str]] = {
    "pending": "This is waiting for a decision.",
    "pending endorsed": "{decider} approved this {voted}; it needs more approvals.",
    "approved": _APPROVED + ". It is about to run.",
    "approved parked": _APPROVED + ". It runs when the agent asks again.",
    "executing": _APPROVED + ". It is running now.",
    "executed": _APPROVED + ". The upstream executed it {ended}.",
    "executed settled": "{who} settled this {ended}: it was executed.",
    "errored": _APPROVED + ". The upstream answered with an error {ended}; it may have acted.",
    "failed": _APPROVED + ". It never took effect at the upstream.",
    "failed settled": "{who} settled this {ended}: nothing happened.",
    "in_doubt": _APPROVED + ". It was sent, and nobody knows what became of it.",
    "rejected": "{decider} rejected this {ended}.",
    "denied": "Policy denied this {ended}.",
    "expired": "Nobody decided in time. It expired {ended}.",
    "expired parked": _APPROVED + ", but nobody collected it in time. It expired {ended}.",
    "cancelled": "{who} cancelled this {ended}.",
    "invalidated": "The policy in force no longer permits this. It ended {ended}.",
}


def tell(
    call: Call, directory: Directory, now: datetime, person: str = ""
) -> tuple[str | datetime, ...]:
    """Say in one or two sentences what the call is now, and who made it so, when.

    Moments stay moments, so that a page left open can go on counting.
    """
    who = actor(call.ended_by, directory, person)
    last = call.votes[-1] if call.votes else None
    values: Mapping[str | None, str | datetime] = {
        "who": who,
        "decider": actor(f"person:{last.person}", directory, person) if last else who,
        "decided": call.decided_at or now,
        "ended": call.ended_at or now,
        "voted": last.at if last else now,
    }
    cut = Formatter().parse(TOLD[_telling(call)])
    return tuple(part for text, name, _, _ in cut for part in (text, values.get(name)) if part)


def story(call: Call, directory: Directory, now: datetime, person: str = "") -> str:
    """Say the same as plain text."""
    told = tell(call, directory, now, person)
    return "".join(part if isinstance(part, str) else ago(part, now) for part in told)


def _runs_by_itself(call: Call) -> bool:
    return call.listener is Listener.WAITING or parking.releasable(call)


def _telling(call: Call) -> str:
    by_person = call.ended_by.startswith("person:")
    match call.status:
        case Status.PENDING if call.approvals:
            return "pending endorsed"
        case Status.APPROVED if not _runs_by_itself(call):
            return "approved parked"
        case Status.EXECUTED | Status.FAILED if by_person:
            return f"{call.status} settled"
        case Status.EXPIRED if call.decided_at is not None:
            return "expired parked"
        case _:
            return str(call.status)


LISTENERS: Final = {
    Listener.WAITING: ("The agent is waiting", "It holds the line and runs this when approved."),
    Listener.TOLD: ("The agent was told", "It knows that this is pending and how to collect it."),
    Listener.GONE: ("The agent has gone", "It hung up before it was told that this is pending."),
}


def actor(named: str, directory: Directory, person: str = "") -> str:
    """Word an actor of the trail (`person:ann`, `agent:x`, `clock`) as the reader knows it."""
    kind, _, name = named.partition(":")
    if kind == "person":
        return "You" if name == person else _title(directory, name)
    return ACTORS.get(kind, "The service").format(name=plain(name))


ACTORS: Final[Mapping[str, str]] = {
    "agent": "The agent {name}",
    "upstream": "The upstream {name}",
    "clock": "The clock",
    "policy": "The policy",
    "web": "A browser",
}


def _title(directory: Directory, name: str) -> str:
    known = directory.people.get(name)
    return known.title if known is not None else plain(name)


def ago(moment: datetime, now: datetime) -> str:
    """Word a span of the past: `12 s ago`."""
    seconds = int((now - moment).total_seconds())
    return "just now" if seconds < 2 else f"{span(timedelta(seconds=seconds))} ago"


def span(length: timedelta) -> str:
    """Word a length of time in its one or two largest units."""
    seconds = max(0, int(length.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def stamp(moment: datetime | None) -> str | None:
    """Write a moment as RFC 3339 in UTC with a Z."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
