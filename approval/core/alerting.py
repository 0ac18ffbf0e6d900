"""Alerts: what the trail is told when a call brings a meter to a share of its limit.

A call reserves when it is admitted, and moves what it holds when it is claimed. What is booked
later is within that, unless the upstream took more, or a person has found so.
"""

from collections.abc import Iterator, Mapping

from approval.core import meters
from approval.core.audit import Entry, Tag
from approval.core.demand import Demand, Holdings
from approval.core.ledger import Booking, Kind
from approval.core.lifecycle import Change
from approval.core.meters import Draw, Usage
from approval.core.windows import Calendar


def alerts(change: Change, demand: Demand | None, holdings: Holdings) -> Iterator[Entry]:
    """Give an entry for each share of a limit that is reached by what a call reserves.

    `holdings` is what its demand met, under the lock under which it is written: of two calls at
    once exactly one reaches it. Whatever is given back and reserved anew tells again.
    """
    draws = {draw.meter_id: draw for draw in demand.draws} if demand is not None else {}
    for booking in change.bookings:
        draw = draws.get(booking.reservation.meter_id)
        if draw is None:
            continue
        before, after = _on_the_way(booking, holdings.used(draw))
        for percent in meters.alerts(before, after, draw.meter.limit):
            yield _entry(change, draw, percent, after)


def booked(
    change: Change, draws: Mapping[str, Draw], after: Mapping[str, Usage | None]
) -> Iterator[Entry]:
    """Give an entry for each share of a limit that is reached by what overran a reservation.

    `after` is what counts with it, in the row where it was reserved; by now that of a calendar may
    have ended, so the entry names it. A meter that counts it no more has none, or is unknown.
    """
    for booking in change.bookings:
        draw = draws.get(booking.reservation.meter_id)
        usage = after.get(booking.reservation.meter_id)
        if draw is None or usage is None:
            continue
        overrun = (each.amount for each in booking.entries if each.kind is Kind.OVERRUN)
        before = usage.counted - sum(overrun)
        for percent in meters.alerts(before, usage.counted, draw.meter.limit):
            yield _entry(change, draw, percent, usage.counted, booking)


def _on_the_way(booking: Booking, usage: Usage) -> tuple[int, int]:
    """Say what counted towards the limit before this booking, and what counts after it.

    Where a window rolls, a call that is claimed is counted anew. `usage` leaves it out, but it
    stood in the same row: what only moves reaches nothing.
    """
    reserved = [each for each in booking.entries if each.kind is Kind.RESERVE]
    rows = {each.window_start for each in reserved}
    moved = [
        each for each in booking.entries if each.kind is Kind.VOID and each.window_start in rows
    ]
    before = usage.counted + sum(each.amount - each.override for each in moved)
    return before, usage.counted + sum(each.amount - each.override for each in reserved)


def _entry(
    change: Change, draw: Draw, percent: int, used: int, later: Booking | None = None
) -> Entry:
    limit = draw.meter.limit
    facts: dict[str, object] = {
        "key": {scope.value: value for scope, value in draw.key},
        "limit": meters.plain_minor(limit.minor, limit),
        "meter": draw.meter.name,
        "origin": draw.meter.origin,
        "percent": percent,
        "used": meters.plain_minor(used, limit),
    }
    if later is not None and isinstance(draw.meter.window, Calendar):
        facts["window"] = later.reservation.window_start.isoformat()
    return Entry(tag=Tag.METER_ALERT, subject=change.call.id, actor=change.actor, facts=facts)
