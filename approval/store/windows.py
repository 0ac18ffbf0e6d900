"""The sums of the window that counts now: its own row, and what other rows hold of the same time.

A row is named by the instant at which its window began, as the clocks of the meter's zone had it
when something was reserved. Where the zone or the first day of the week is changed, or where two
processes have other zone data, the window that counts now has another row, and what was spent in it
before stands elsewhere. Nothing of that is moved or forgotten: it is counted where it stands.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Row, bindparam, case, func, select, text, true

from approval.core.demand import Demand
from approval.core.ledger import Reservation, State
from approval.core.meters import Draw, Usage, window_start
from approval.core.money import Money
from approval.core.windows import Calendar, Window
from approval.store.prepared import Executor
from approval.store.tables import meter_windows, reservations, to_microseconds

_MAKE: Final = text(
    "INSERT INTO meter_window (meter_id, window_start, held, posted, overridden)"
    " VALUES (:meter_id, :window_start, 0, 0, 0) ON CONFLICT DO NOTHING"
)
_OTHER = meter_windows.alias("other")


def _since(amount: ColumnElement[int]) -> ColumnElement[int]:
    """Add up what was reserved through another row since this window began.

    Asked of each of those rows by itself, that is found by the index: nothing, where no clock was
    changed. Of all of them at once, both databases would go through all that was reserved today.
    """
    taken = reservations.c
    return (
        select(func.sum(amount))
        .where(
            taken.meter_id == _OTHER.c.meter_id,
            taken.window_start == _OTHER.c.window_start,
            taken.at >= bindparam("since", type_=BigInteger),
            taken.at < bindparam("until", type_=BigInteger),
            taken.call_id != bindparam("call_id"),
            text("reservation.state <> 'void'"),
        )
        .correlate(_OTHER)
        .scalar_subquery()
    )


_HELD = case((text("reservation.state = 'held'"), reservations.c.amount), else_=text("0"))
_OTHERS = (
    select(
        _since(_HELD).label("held"),
        _since(reservations.c.posted).label("posted"),
        _since(reservations.c.override).label("overridden"),
    )
    .where(
        _OTHER.c.meter_id == bindparam("meter_id"),
        _OTHER.c.window_start >= bindparam("earliest"),
        _OTHER.c.window_start < bindparam("until", type_=BigInteger),
        _OTHER.c.window_start != bindparam("window_start"),
    )
    .subquery("others")
)
_ELSEWHERE = select(
    func.coalesce(func.sum(_OTHERS.c.held), text("0")).label("other_held"),
    func.coalesce(func.sum(_OTHERS.c.posted), text("0")).label("other_posted"),
    func.coalesce(func.sum(_OTHERS.c.overridden), text("0")).label("other_overridden"),
).subquery("elsewhere")
_HERE = (meter_windows.c.meter_id == bindparam("meter_id")) & (
    meter_windows.c.window_start == bindparam("window_start")
)
_SUMS = select(
    *(meter_windows.c.held, meter_windows.c.posted, meter_windows.c.overridden),
    *(_ELSEWHERE.c.other_held, _ELSEWHERE.c.other_posted, _ELSEWHERE.c.other_overridden),
)
_ROW = select(meter_windows).where(_HERE)
_SEEN = _SUMS.select_from(_ELSEWHERE.outerjoin(meter_windows, _HERE))
_LOCKED = (
    _SUMS.select_from(meter_windows.join(_ELSEWHERE, true()))
    .where(_HERE)
    .with_for_update(of=meter_windows)
)


def locked(
    connection: Executor, draw: Draw, now: datetime, call_id: str, own: Reservation | None
) -> tuple[Usage, Usage | None]:
    """Read the sums that count now, and the part of them that stands elsewhere, if any does.

    What `call_id` holds is left out; `own` is what it holds of this meter. The row is made the
    first time, and locked. The meter's own row is locked already, without which nothing moves here.
    """
    key = _key(draw, now)
    met = {**key, **_span(draw.meter.window, now), "call_id": call_id}
    row = connection.execute(_LOCKED, met).one_or_none()
    if row is None:
        connection.execute(_MAKE, key)
        row = connection.execute(_LOCKED, met).one()
    return _without(row, draw, now, own), _elsewhere(row)


def seen(
    connection: Executor, draw: Draw, now: datetime, call_id: str, own: Reservation | None
) -> Usage:
    """Read the sums that count now, without a lock, and without what `call_id` holds."""
    met = {**_key(draw, now), **_span(draw.meter.window, now), "call_id": call_id}
    return _without(connection.execute(_SEEN, met).one(), draw, now, own)


def of_row(connection: Executor, meter_id: str, start: datetime) -> Usage:
    """Read the sums of one row alone: of the window that began there."""
    key = {"meter_id": meter_id, "window_start": to_microseconds(start)}
    row = connection.execute(_ROW, key).one_or_none()
    if row is None:
        return Usage()
    return Usage(held=row.held, posted=row.posted, overridden=row.overridden)


def guarding(demand: Demand | None, elsewhere: Mapping[str, Usage]) -> Demand | None:
    """Lower the limits of a demand by what stands elsewhere, for those who see but one row."""
    if demand is None or not elsewhere:
        return demand
    draws = (_lowered(draw, elsewhere.get(draw.meter_id, Usage())) for draw in demand.draws)
    return replace(demand, draws=tuple(draws))


def _lowered(draw: Draw, other: Usage) -> Draw:
    meter = draw.meter
    soft = meter.soft and replace(meter.soft, up_to=_less(meter.soft.up_to, other.overridden))
    return replace(draw, meter=replace(meter, limit=_less(meter.limit, other.counted), soft=soft))


def _less(bound: Money, minor: int) -> Money:
    return Money(max(0, bound.minor - minor), bound.currency)


def _key(draw: Draw, now: datetime) -> dict[str, object]:
    start = to_microseconds(window_start(draw, now))
    return {"meter_id": draw.meter_id, "window_start": start}


def _span(window: Window, now: datetime) -> dict[str, object]:
    """Say where else to look, and since when and until when what is found there counts."""
    if not isinstance(window, Calendar):
        return {"earliest": 0, "since": 0, "until": 0}
    span = {"earliest": window.reached_from(now), "since": window.start(now)}
    span["until"] = window.end(now)
    return {name: to_microseconds(at) for name, at in span.items()}


def _elsewhere(row: Row[Any]) -> Usage | None:
    held, posted, overridden = row.other_held, row.other_posted, row.other_overridden
    if not (held or posted):
        return None
    return Usage(held=int(held), posted=int(posted), overridden=int(overridden))


def _without(row: Row[Any], draw: Draw, now: datetime, own: Reservation | None) -> Usage:
    """Add up what a row and others hold, leaving out what one call has taken from the row."""
    is_here = own is not None and own.window_start == window_start(draw, now)
    taken, override = (own.taken, own.override) if own is not None and is_here else (0, 0)
    is_held = own is not None and own.state is State.HELD
    return Usage(
        held=(row.held or 0) + int(row.other_held) - (taken if is_held else 0),
        posted=(row.posted or 0) + int(row.other_posted) - (0 if is_held else taken),
        overridden=(row.overridden or 0) + int(row.other_overridden) - override,
    )
