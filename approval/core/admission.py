"""Admission: what a call demands meets the sums and counts that the store holds, under its lock.

All of it fits, or nothing is taken. A call for which a soft limit has no room is held for those who
may let it pass; where no limit can be passed, it is denied, and told until when all have room.
"""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from approval.core import ledger, meters, pending, rates
from approval.core.audit import Entry
from approval.core.call import Factor, Outcome, Reason, Requirement, Verdict
from approval.core.canonical import quoted
from approval.core.demand import Count, Demand, Holdings, Offer, Ring, Taken, passing
from approval.core.ledger import Booking
from approval.core.meters import Draw, Over
from approval.core.policy import unite
from approval.core.rates import Algorithm, Wait
from approval.core.refusals import Refusal, longest
from approval.errors import NoRoom


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A call that fits: the verdict it is held or run under, and what it takes."""

    verdict: Verdict
    bookings: tuple[Booking, ...] = ()
    taken: tuple[Taken, ...] = ()
    grant: str | None = None
    """The grant under which it runs without asking; None where none stands in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A call that is merely counted: its entry, and either what it took or why it took nothing."""

    entry: Entry
    taken: tuple[Taken, ...] = ()
    refusal: Refusal | None = None


Denial = Callable[[Refusal], Entry]
"""Words a call that there is no room for, for the trail."""


def admit(verdict: Verdict, holdings: Holdings, now: datetime) -> Admitted | Refusal:
    """Fit a call in, or say why it does not fit.

    A gate is passed under the first grant that has room, and is held where none has. Where an
    approver types what the call costs none stands in: nobody would type it. Only what would be held
    counts as pending, and limits are looked at first: what they refuse may be refused for good.
    """
    asks = verdict.demand is not None and verdict.demand.asks
    for offer in holdings.offers if verdict.outcome is Outcome.GATE and not asks else ():
        admitted = _under(offer, verdict, holdings, now) if offer.is_in_force(now) else None
        if admitted is not None:
            return admitted
    found = _fit(verdict, holdings, now)
    waiting = holdings.pending
    if isinstance(found, Refusal) or found.verdict.outcome is not Outcome.GATE or waiting is None:
        return found
    return pending.refusal(waiting) if waiting.is_full else found


def _under(offer: Offer, verdict: Verdict, holdings: Holdings, now: datetime) -> Admitted | None:
    """Fit a call in without asking; None where the grant, or anything else, has no room for it.

    A grant stands in for the people of a rule. It does not exceed a soft limit: whoever may let a
    call pass that is asked for each.
    """
    text = f"The grant {quoted(offer.grant)} stands in for an approval."
    reason = Reason(code="grant", path=offer.path, text=text)
    freed = replace(
        verdict,
        outcome=Outcome.ALLOW,
        reasons=(reason, *verdict.reasons),
        requirement=None,
        demand=passing(verdict.demand, offer),
    )
    admitted = _fit(freed, holdings, now)
    if isinstance(admitted, Refusal) or admitted.verdict.outcome is not Outcome.ALLOW:
        return None
    return replace(admitted, grant=offer.grant)


def _fit(verdict: Verdict, holdings: Holdings, now: datetime) -> Admitted | Refusal:
    """Fit a call in under its verdict. Of all that has no room the longest wait is told."""
    demand = verdict.demand
    if demand is None:
        return Admitted(verdict=verdict)
    if holdings.frozen and demand.spends:
        return frozen(holdings.frozen)
    overridden = _overridden(verdict, demand, holdings)
    taken = count(demand.counts, holdings, now)
    bookings = _reserved(demand.draws, holdings, now, overridden)
    if isinstance(taken, Refusal) or isinstance(bookings, Refusal):
        return longest(each for each in (taken, bookings) if isinstance(each, Refusal))
    verdict = _asking(verdict, tuple(overridden.values()))
    return Admitted(verdict=verdict, bookings=bookings, taken=taken)


def count(
    counts: tuple[Count, ...], holdings: Holdings, now: datetime
) -> tuple[Taken, ...] | Refusal:
    """Raise every count of a call, or none."""
    taken: list[Taken] = []
    full: list[Refusal] = []
    for each in counts:
        found = _counted(each, holdings.rings.get(each.key.id, Ring()), now)
        if isinstance(found, Wait):
            full.append(rates.refusal(each.rate, found))
        else:
            taken.append(found)
    return longest(full) if full else tuple(taken)


def _reserved(
    draws: Iterable[Draw], holdings: Holdings, now: datetime, overridden: Container[str]
) -> tuple[Booking, ...] | Refusal:
    """Take a call's amount from every meter, or from none.

    Only those who are asked about this very meter let a call pass it: `overridden` names those.
    """
    made: list[Booking] = []
    full: list[Refusal] = []
    for draw in draws:
        override = draw.meter_id in overridden
        booking = ledger.reserve(draw, holdings.used(draw), now, override=override)
        if booking is None:
            full.append(refusal(draw, holdings, now))
        else:
            made.append(booking)
    return longest(full) if full else tuple(made)


def refusal(draw: Draw, holdings: Holdings, now: datetime) -> Refusal:
    """Word why a meter has no room for a call."""
    rolled_out = holdings.room_at.get(draw.meter_id)
    return meters.refusal(draw, holdings.used(draw), now, rolled_out=rolled_out)


def denied(verdict: Verdict, why: Refusal) -> Verdict:
    """Make a denial of a verdict for which there is no room."""
    reason = Reason(code=why.code, path="", text=why.text)
    return replace(verdict, outcome=Outcome.DENY, reasons=(reason,), requirement=None, demand=None)


def rehome(
    demand: Demand, held: dict[str, ledger.Reservation], holdings: Holdings, now: datetime
) -> tuple[Booking, ...] | Refusal:
    """Move what a call holds to where it counts now that it is about to run (property 36).

    A meter that came into force since it was admitted is drawn on too, and a limit that was lowered
    since is kept: nothing loosens by waiting. Rates are not looked at. They bound how many calls
    are admitted, and this one was.
    """
    bookings: list[Booking] = []
    for draw in demand.draws:
        usage, known = holdings.used(draw), held.get(draw.meter_id)
        if known is not None:
            booking = ledger.rehome(known, draw, usage, now)
        else:
            booking = ledger.reserve(draw, usage, now)
        if booking is None:
            return refusal(draw, holdings, now)
        bookings.append(booking)
    return tuple(booking for booking in bookings if booking.entries)


def counted(
    entry: Entry, counts: tuple[Count, ...], holdings: Holdings, now: datetime, denial: Denial
) -> Counted:
    """Count a call that needs nothing else: `entry` if it is admitted, its denial if not."""
    taken = count(counts, holdings, now)
    if isinstance(taken, Refusal):
        return Counted(entry=denial(taken), refusal=taken)
    return Counted(entry=entry, taken=taken)


def no_room(why: Refusal) -> NoRoom:
    """Make an error of a refusal; a wait is told in whole seconds, and never too short."""
    wait = why.retry_after
    seconds = None if wait is None else -(-wait // timedelta(seconds=1))
    return NoRoom(why.code, why.text, retry_after=seconds, retryable=why.retryable, limit=why.limit)


def frozen(call_id: str) -> Refusal:
    """Word why a tool spends nothing for an agent for the time being."""
    return Refusal(
        code="frozen",
        text=f"This tool is frozen for this agent: call {call_id} took more than was approved."
        " It stays frozen until a person has looked into it and lifts the freeze.",
    )


def _counted(each: Count, ring: Ring, now: datetime) -> Taken | Wait:
    if each.rate.algorithm is Algorithm.CALENDAR:
        counted = rates.count(each.rate, ring.n, now)
        return counted if isinstance(counted, Wait) else Taken(count=each, n=counted)
    found = rates.take(each.rate, ring.n, ring.old, now)
    if isinstance(found, Wait):
        return found
    return Taken(count=each, n=found.n, slots=found.slots)


def _overridden(verdict: Verdict, demand: Demand, holdings: Holdings) -> dict[str, Factor]:
    """Find the soft limits that a call is beyond, and who may let it pass each.

    One that no rule holds is held only where the meter says *ask*; one that is held anyway is asked
    of them as well.
    """
    found: dict[str, Factor] = {}
    for draw in demand.draws:
        soft, usage = draw.meter.soft, holdings.used(draw)
        if soft is None or meters.admits(draw, usage):
            continue
        may_ask = draw.meter.over is Over.ASK or verdict.outcome is Outcome.GATE
        if may_ask and meters.admits(draw, usage, override=True):
            found[draw.meter_id] = Factor(approvers=soft.override_by)
    return found


def _asking(verdict: Verdict, factors: tuple[Factor, ...]) -> Verdict:
    """Hold a call for all of these as well, under the terms of what holds it anyway, or would.

    No grant comes of it: those who let one call pass a limit are asked for the next.
    """
    if not factors:
        return verdict
    terms = verdict.requirement or verdict.terms or Requirement(factors=())
    asked = replace(terms, factors=factors, grantable=None)
    return replace(verdict, outcome=Outcome.GATE, requirement=unite(terms, asked))
