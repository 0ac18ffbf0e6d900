"""Money and counts in the database: what a demand meets, and what an admitted call moves.

Whatever is read here is locked first, in one order everywhere: counts, then windows of meters, each
sorted. A row that is not there yet is made before it is locked, for two callers cannot wait for a
row that neither has. A reservation is guarded once more where it is written: the sums of a window
pass its limit for no caller, whatever was read before (read-then-write overspends on PostgreSQL,
even at REPEATABLE READ).
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, text, update

from approval.core import meters, rates
from approval.core.call import CallId
from approval.core.demand import Count, Demand, Holdings, Ring, Taken
from approval.core.ledger import Booking, Kind, LedgerEntry, Reservation, State
from approval.core.meters import Draw, Meter, Usage
from approval.core.rates import Algorithm
from approval.core.windows import Rolling
from approval.errors import Conflict
from approval.store import rows
from approval.store.tables import (
    ledger_entries,
    meter_windows,
    rate_counts,
    rate_slots,
    reservations,
    to_microseconds,
)
from approval.store.tables import (
    meters as meter_rows,
)
from approval.store.work import Work

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""When a count that nobody has used was used last."""

_MAKE_COUNT: Final = text(
    "INSERT INTO rate_count (id, family, n, used_at) VALUES (:id, :family, 0, :now)"
    " ON CONFLICT DO NOTHING"
)
_MAKE_METER: Final = text(
    "INSERT INTO meter (id, name, origin, currency, key)"
    " VALUES (:id, :name, :origin, :currency, :key) ON CONFLICT DO NOTHING"
)
_MAKE_WINDOW: Final = text(
    "INSERT INTO meter_window (meter_id, window_start, held, posted, overridden)"
    " VALUES (:meter_id, :window_start, 0, 0, 0) ON CONFLICT DO NOTHING"
)
_PUT_SLOT: Final = text(
    "INSERT INTO rate_slot (count_id, slot, at) VALUES (:count_id, :slot, :at)"
    " ON CONFLICT (count_id, slot) DO UPDATE SET at = excluded.at"
)
_COUNT = select(rate_counts).where(rate_counts.c.id == bindparam("id")).with_for_update()
_LATEST = (
    select(rate_counts)
    .where(rate_counts.c.family == bindparam("family"))
    # Of two that were used at the same instant the asked one counts.
    .order_by(rate_counts.c.used_at.desc(), rate_counts.c.id != bindparam("id"))
    .limit(1)
    .with_for_update()
)
_EMPTY = delete(rate_slots).where(rate_slots.c.count_id == bindparam("b_id"))
_SLOTS = select(rate_slots).where(rate_slots.c.count_id == bindparam("count_id"))
_SAVE_COUNT = update(rate_counts).where(rate_counts.c.id == bindparam("b_id"))
# Others may refer to the row meanwhile: nobody changes what they refer to.
_METER = (
    select(meter_rows.c.id)
    .where(meter_rows.c.id == bindparam("id"))
    .with_for_update(key_share=True)
)
_WINDOW = (
    select(meter_windows)
    .where(
        meter_windows.c.meter_id == bindparam("meter_id"),
        meter_windows.c.window_start == bindparam("window_start"),
    )
    .with_for_update()
)
_LOOK = select(meter_windows).where(
    meter_windows.c.meter_id == bindparam("meter_id"),
    meter_windows.c.window_start == bindparam("window_start"),
)
_COUNTED = select(reservations).where(
    reservations.c.meter_id == bindparam("meter_id"),
    reservations.c.at > bindparam("since"),
    reservations.c.call_id != bindparam("call_id"),
    text("state <> 'void'"),
)
_MOVE: Final = text(
    "UPDATE meter_window SET held = held + :held, posted = posted + :posted,"
    " overridden = overridden + :overridden"
    " WHERE meter_id = :meter_id AND window_start = :window_start"
)
_MOVE_GUARDED: Final = text(
    f"{_MOVE.text} AND held + :held + posted + :posted - overridden - :overridden <= :most"
    " AND overridden + :overridden <= :most_overridden"
)
_UNBOUNDED: Final = 2**62
_ENTRY = insert(ledger_entries)
_RESERVE = insert(reservations)
_SAVE_RESERVATION = update(reservations).where(
    reservations.c.call_id == bindparam("b_call_id"),
    reservations.c.meter_id == bindparam("b_meter_id"),
)
_OF_CALL = (
    select(reservations)
    .where(reservations.c.call_id == bindparam("id"))
    .order_by(reservations.c.meter_id)
)


def held_by(connection: Connection, call_id: str) -> tuple[Reservation, ...]:
    """Read what a call has taken from meters."""
    found = connection.execute(_OF_CALL, {"id": call_id}).mappings()
    return tuple(rows.to_reservation(row) for row in found)


# --- what a demand meets ---


def holdings(work: Work, demand: Demand | None, *, call_id: CallId | None = None) -> Holdings:
    """Lock and read the sums and counts of a demand, without what `call_id` itself holds.

    The time is read once all is locked: whoever waited here must not write an earlier instant than
    the one it waited for, nor count in a window that has ended meanwhile.
    """
    if demand is None:
        return Holdings()
    for each in demand.counts:
        _lock_count(work.connection, each)
    for draw in demand.draws:
        _lock_meter(work.connection, draw)
    rings = {each.key.id: _ring(work.connection, each, work.now) for each in demand.counts}
    usage: dict[str, Usage] = {}
    room_at: dict[str, datetime] = {}
    for draw in demand.draws:
        usage[draw.meter_id] = _usage(work.connection, draw, work.now, call_id or "", room_at)
    return Holdings(usage=usage, rings=rings, room_at=room_at)


def _usage(
    connection: Connection, draw: Draw, now: datetime, call_id: str, room_at: dict[str, datetime]
) -> Usage:
    key = {
        "meter_id": draw.meter_id,
        "window_start": to_microseconds(meters.window_start(draw, now)),
    }
    connection.execute(_MAKE_WINDOW, key)
    row = connection.execute(_WINDOW, key).one()
    window = draw.meter.window
    if not isinstance(window, Rolling):
        return Usage(held=row.held, posted=row.posted, overridden=row.overridden)
    since = {"meter_id": draw.meter_id, "since": window.start(now), "call_id": call_id}
    counted = [rows.to_reservation(row) for row in connection.execute(_COUNTED, since).mappings()]
    usage = Usage(
        held=sum(each.taken for each in counted),
        overridden=sum(each.override for each in counted),
    )
    if not meters.admits(draw, usage):
        free = meters.room_at(
            draw, window, [(each.at, each.taken - each.override) for each in counted], now
        )
        if free is not None:
            room_at[draw.meter_id] = free
    return usage


def _lock_meter(connection: Connection, draw: Draw) -> None:
    """Make the meter's own row, and lock it: one admission at a time."""
    meter = draw.meter
    connection.execute(
        _MAKE_METER,
        {
            "id": draw.meter_id,
            "name": meter.name,
            "origin": meter.origin,
            "currency": meter.limit.currency,
            "key": json.dumps(draw.key),
        },
    )
    connection.execute(_METER, {"id": draw.meter_id})


def _lock_count(connection: Connection, each: Count) -> None:
    key = {"id": each.key.id, "family": each.key.family, "now": to_microseconds(_NEVER)}
    connection.execute(_MAKE_COUNT, key)
    connection.execute(_COUNT, key)


def _ring(connection: Connection, each: Count, now: datetime) -> Ring:
    key = {"id": each.key.id, "family": each.key.family}
    row = connection.execute(_COUNT, key).one()
    latest = connection.execute(_LATEST, key).one()
    if latest.id != row.id:
        # The limit was changed, or changed back: what counts is what was counted last.
        _carry_over(connection, each, latest, now)
        row = connection.execute(_COUNT, key).one()
    if each.rate.algorithm is Algorithm.CALENDAR:
        return Ring(n=row.n if row.start_at == rates.count_start(each.rate, now) else 0)
    slots = _slots(connection, each.key.id)
    return Ring(n=row.n, old=tuple(slots.get(at) for at in rates.next_slots(each.rate, row.n)))


def _slots(connection: Connection, count_id: str) -> dict[int, datetime]:
    found = connection.execute(_SLOTS, {"count_id": count_id})
    return {row.slot: row.at for row in found}


def _carry_over(connection: Connection, each: Count, before: Row[Any], now: datetime) -> None:
    """Fill a count with what the one before it remembers: a changed limit forgives nothing."""
    connection.execute(_EMPTY, {"b_id": each.key.id})
    admitted = _remembered(connection, before)
    if each.rate.algorithm is Algorithm.CALENDAR:
        counted = rates.carry_count(admitted, each.rate, now)
        _save_count(connection, each, counted, now)
        return
    ring = rates.carry_over(admitted, each.rate)
    for slot, at in enumerate(ring.slots):
        _put_slot(connection, each.key.id, slot, at)
    _save_count(connection, each, ring.n, now)


def _remembered(connection: Connection, before: Row[Any]) -> list[datetime]:
    if before.start_at is not None:
        return [before.used_at] * min(before.n, rates.MOST_SLOTS)
    return list(_slots(connection, before.id).values())


# --- what people look at ---


def usage(
    connection: Connection, draws: Iterable[Draw], now: datetime, *, without: str = ""
) -> dict[str, Usage]:
    """Read the sums that draws meet now, leaving out what the call `without` has taken.

    Nothing is locked or made: this is for people to look at, and admits nobody.
    """
    own = {(each.meter_id, each.window_start): each for each in held_by(connection, without)}
    found: dict[str, Usage] = {}
    for draw in draws:
        if isinstance(draw.meter.window, Rolling):
            found[draw.meter_id] = _rolled(connection, draw, draw.meter.window, now, without)
        else:
            start = meters.window_start(draw, now)
            found[draw.meter_id] = _seen(connection, draw, start, own.get((draw.meter_id, start)))
    return found


def _rolled(
    connection: Connection, draw: Draw, window: Rolling, now: datetime, without: str
) -> Usage:
    since = {"meter_id": draw.meter_id, "since": window.start(now), "call_id": without}
    counted = [rows.to_reservation(row) for row in connection.execute(_COUNTED, since).mappings()]
    return Usage(
        held=sum(each.taken for each in counted if each.state is State.HELD),
        posted=sum(each.taken for each in counted if each.state is not State.HELD),
        overridden=sum(each.override for each in counted),
    )


def _seen(connection: Connection, draw: Draw, start: datetime, own: Reservation | None) -> Usage:
    key = {"meter_id": draw.meter_id, "window_start": to_microseconds(start)}
    row = connection.execute(_LOOK, key).one_or_none()
    if row is None:
        return Usage()
    taken, override = (own.taken, own.override) if own is not None else (0, 0)
    is_held = own is not None and own.state is State.HELD
    return Usage(
        held=row.held - (taken if is_held else 0),
        posted=row.posted - (0 if is_held else taken),
        overridden=row.overridden - override,
    )


# --- what an admitted call moves ---


def take(connection: Connection, taken: Iterable[Taken], now: datetime) -> None:
    """Write the counts of an admitted call."""
    for each in taken:
        for slot in each.slots:
            _put_slot(connection, each.count.key.id, slot, now)
        _save_count(connection, each.count, each.n, now)


def book(
    connection: Connection,
    call_id: CallId,
    bookings: Iterable[Booking],
    limits: Mapping[str, Draw],
    now: datetime,
) -> None:
    """Write what moves in meters; `limits` guards what is reserved.

    Raises:
        Conflict: If a window has no room any more, or a sum would contradict itself.
    """
    for booking in bookings:
        for entry in booking.entries:
            _move(connection, entry, limits.get(entry.meter_id))
            connection.execute(_ENTRY, rows.entry_row(call_id, entry, now))
        _save_reservation(connection, call_id, booking.reservation)


def _move(connection: Connection, entry: LedgerEntry, draw: Draw | None) -> None:
    held, posted, overridden = _deltas(entry)
    moved: dict[str, object] = {
        "held": held,
        "posted": posted,
        "overridden": overridden,
        "meter_id": entry.meter_id,
        "window_start": to_microseconds(entry.window_start),
    }
    # The row of a rolling meter sums up its whole life: what counts was added up from entries.
    if (
        entry.kind is Kind.RESERVE
        and draw is not None
        and not isinstance(draw.meter.window, Rolling)
    ):
        done = connection.execute(_MOVE_GUARDED, moved | _bounds(entry, draw))
    else:
        done = connection.execute(_MOVE, moved)
    if done.rowcount != 1:
        raise Conflict("the budget was taken at the same moment")


def _bounds(entry: LedgerEntry, draw: Draw) -> dict[str, object]:
    """Say how far a reservation may take the sums: each part of it is held to its own bound.

    What people let pass whole adds nothing to what counts. Where an overrun or a lowered limit has
    left the sums beyond the limit, it passes all the same, within what people may let pass.
    """
    meter = draw.meter
    up_to = meter.soft.up_to.minor if meter.soft is not None else 0
    return {
        "most": meter.limit.minor if entry.override < entry.amount else _UNBOUNDED,
        "most_overridden": up_to if entry.override else _UNBOUNDED,
    }


def _deltas(entry: LedgerEntry) -> tuple[int, int, int]:
    """Say what an entry does to held, posted and overridden."""
    match entry.kind:
        case Kind.RESERVE:
            return entry.amount, 0, entry.override
        case Kind.POST:
            return -entry.amount, entry.amount, 0
        case Kind.VOID:
            return -entry.amount, 0, -entry.override
        case Kind.OVERRUN:
            return 0, entry.amount, 0
        case Kind.ADJUST:
            return 0, -entry.amount, -entry.override


def _save_reservation(connection: Connection, call_id: CallId, reservation: Reservation) -> None:
    row = rows.reservation_row(call_id, reservation)
    key = {"b_call_id": call_id, "b_meter_id": reservation.meter_id}
    if connection.execute(_SAVE_RESERVATION, {**row, **key}).rowcount == 0:
        connection.execute(_RESERVE, row)


def _save_count(connection: Connection, count: Count, n: int, now: datetime) -> None:
    is_calendar = count.rate.algorithm is Algorithm.CALENDAR
    start = rates.count_start(count.rate, now) if is_calendar else None
    row = {"n": n, "start_at": start, "used_at": now, "b_id": count.key.id}
    connection.execute(_SAVE_COUNT, row)


def _put_slot(connection: Connection, count_id: str, slot: int, at: datetime) -> None:
    key = {"count_id": count_id, "slot": slot, "at": to_microseconds(at)}
    connection.execute(_PUT_SLOT, key)


# --- what people look at ---


_SUMS = (
    select(meter_windows)
    .join(meter_rows, meter_rows.c.id == meter_windows.c.meter_id)
    .where(
        meter_rows.c.name == bindparam("name"),
        meter_rows.c.origin == bindparam("origin"),
        meter_windows.c.window_start == bindparam("window_start"),
    )
)
_ROLLED = (
    select(reservations)
    .join(meter_rows, meter_rows.c.id == reservations.c.meter_id)
    .where(
        meter_rows.c.name == bindparam("name"),
        meter_rows.c.origin == bindparam("origin"),
        reservations.c.at > bindparam("since"),
        text("state <> 'void'"),
    )
)


def sums(connection: Connection, meter: Meter, now: datetime) -> Usage:
    """Add up a meter over all whose sums it keeps, in the window that counts now; locks nothing."""
    named = {"name": meter.name, "origin": meter.origin}
    window = meter.window
    if isinstance(window, Rolling):
        since = named | {"since": window.start(now)}
        found = [rows.to_reservation(row) for row in connection.execute(_ROLLED, since).mappings()]
        return Usage(
            held=sum(each.taken for each in found if each.state is State.HELD),
            posted=sum(each.posted for each in found),
            overridden=sum(each.override for each in found),
        )
    start = named | {"window_start": to_microseconds(window.row(now))}
    kept = connection.execute(_SUMS, start).all()
    return Usage(
        held=sum(row.held for row in kept),
        posted=sum(row.posted for row in kept),
        overridden=sum(row.overridden for row in kept),
    )
