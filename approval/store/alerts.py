"""Alerts in the transaction that reaches them: into the trail, and into the change, for the log."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final

from sqlalchemy import bindparam, select

from approval.core import alerting, grants, meters
from approval.core.audit import Entry
from approval.core.call import Call
from approval.core.demand import Demand, Holdings
from approval.core.ledger import Kind, Reservation
from approval.core.lifecycle import Change
from approval.core.meters import Draw
from approval.core.money import Money
from approval.errors import NotFound
from approval.ports import Kept, Limits
from approval.store import granting, ledger, rows
from approval.store.prepared import Executor
from approval.store.tables import meters as meter_rows
from approval.store.work import Work

_KEPT: Final = select(meter_rows).where(meter_rows.c.id == bindparam("id"))


def reserved(work: Work, change: Change, demand: Demand | None, held: Holdings) -> Change:
    """Tell what is reached by what a call reserves, or moves to where it counts now."""
    return _told(work, change, alerting.alerts(change, demand, held))


def booked(work: Work, change: Change, limits: Limits | None) -> Change:
    """Tell what is reached by what is booked beyond what was held; its sums have moved by now.

    Their meters are locked since, so of two calls at once exactly one reaches a share.
    """
    beyond = {each.meter_id: each for each in _beyond(change)}
    if not beyond or limits is None:
        return change
    kept = [_kept(work.connection, meter_id) for meter_id in beyond]
    known = [*limits(kept), *_of_grant(work.connection, change.call, kept)]
    draws = {draw.meter_id: draw for draw in known if draw.meter_id in beyond}
    after = {
        meter_id: ledger.with_it(work.connection, draw, beyond[meter_id], work.now)
        for meter_id, draw in draws.items()
    }
    return _told(work, change, alerting.booked(change, draws, after))


def _beyond(change: Change) -> Iterator[Reservation]:
    for booking in change.bookings:
        if any(entry.kind is Kind.OVERRUN for entry in booking.entries):
            yield booking.reservation


def _kept(connection: Executor, meter_id: str) -> Kept:
    return rows.to_kept(connection.execute(_KEPT, {"id": meter_id}).mappings().one())


def _of_grant(connection: Executor, call: Call, kept: Iterable[Kept]) -> Iterator[Draw]:
    """Name the meters of the grant that was issued for the call; the rules know all others."""
    if call.grant is None:
        return
    with suppress(NotFound):
        for meter in grants.meters(granting.get(connection, call.grant).grant):
            for each in kept:
                if meters.meter_id(meter, each.key) == each.meter_id:
                    nothing = Money(0, meter.limit.currency)
                    yield Draw(meter_id=each.meter_id, key=each.key, meter=meter, amount=nothing)


def _told(work: Work, change: Change, found: Iterable[Entry]) -> Change:
    told = tuple(found)
    work.entries += told
    return replace(change, alerts=told) if told else change
