"""Alerts: what the trail is told when an admission brings a meter to a share of its limit."""

from collections.abc import Iterator

from approval.core import meters
from approval.core.audit import Entry, Tag
from approval.core.demand import Demand, Holdings
from approval.core.ledger import Booking, Kind
from approval.core.lifecycle import Change
from approval.core.meters import Draw, Usage


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


def _entry(change: Change, draw: Draw, percent: int, used: int) -> Entry:
    limit = draw.meter.limit
    facts = {
        "key": {scope.value: value for scope, value in draw.key},
        "limit": meters.plain_minor(limit.minor, limit),
        "meter": draw.meter.name,
        "origin": draw.meter.origin,
        "percent": percent,
        "used": meters.plain_minor(used, limit),
    }
    return Entry(tag=Tag.METER_ALERT, subject=change.call.id, actor=change.actor, facts=facts)
