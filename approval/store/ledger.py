"""Money and counts in the database: what a demand meets, and what an admitted call moves.

Whatever is read or moved here is locked first, in one order everywhere: counts, then meters, each
sorted, and then the windows of those meters: at midnight a claim moves money between two of them,
while yesterday's calls end. A row that is not there yet is made before it is locked, for two
callers cannot wait for a row that neither has. A reservation is guarded once more where it is
written: the sums of a window pass its limit for no caller, whatever was read before
(read-then-write overspends on PostgreSQL, even at REPEATABLE READ).
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Row, bindparam, delete, insert, select, text, update

from approval.core import meters, rates
from approval.core.call import CallId
from approval.core.demand import Count, Demand, Holdings, Ring, Taken
from approval.core.ledger import Booking, Kind, LedgerEntry, Reservation, State
from approval.core.meters import Draw, Usage
from approval.core.rates import Algorithm
from approval.core.windows import Rolling
from approval.errors import Conflict
from approval.store import rows, windows
from approval.store.prepared import Executor, Transaction, Write
from approval.store.tables import (
    ledger_entries,
    rate_counts,
    rate_slots,
    reservations,
    to_microseconds,
)
from approval.store.tables import (
    meters as meter_rows,
)
from approval.store.work import Work

MOST_ASKED_ONE_BY_ONE: Final = 4
"""So many slots of a ring are read each by itself; a call that takes more reads the whole ring."""

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""When a count that nobody has used was used last."""

_MAKE_COUNT: Final = text(
    "INSERT INTO rate_count (id, family, n, used_at, family_size)"
    " VALUES (:id, :family, 0, :now, 0) ON CONFLICT DO NOTHING"
)
_MAKE_METER: Final = text(
    "INSERT INTO meter (id, name, origin, currency, key)"
    " VALUES (:id, :name, :origin, :currency, :key) ON CONFLICT DO NOTHING"
)
_PUT_SLOT: Final = text(
    "INSERT INTO rate_slot (count_id, slot, at) VALUES (:count_id, :slot, :at)"
    " ON CONFLICT (count_id, slot) DO UPDATE SET at = excluded.at"
)
# All numbers with which one limit was ever counted, most often one; in one order for everybody.
_FAMILY = (
    select(rate_counts)
    .where(rate_counts.c.family == bindparam("family"))
    .order_by(rate_counts.c.id)
    .with_for_update()
)
_SAVE_SIZE = text("UPDATE rate_count SET family_size = :size WHERE family = :family")
_EMPTY = delete(rate_slots).where(rate_slots.c.count_id == bindparam("b_id"))
_SLOTS = select(rate_slots).where(rate_slots.c.count_id == bindparam("count_id"))
_SLOT = select(rate_slots.c.at).where(
    rate_slots.c.count_id == bindparam("count_id"), rate_slots.c.slot == bindparam("slot")
)
_SAVE_COUNT = update(rate_counts).where(rate_counts.c.id == bindparam("b_id"))
# Others may refer to the row meanwhile: nobody changes what they refer to.
_METER = (
    select(meter_rows.c.id)
    .where(meter_rows.c.id == bindparam("id"))
    .with_for_update(key_share=True)
)
# What rolls stands in the row of `ALWAYS`, however long ago it was reserved.
_COUNTED = select(reservations).where(
    reservations.c.meter_id == bindparam("meter_id"),
    reservations.c.window_start == 0,
    reservations.c.at > bindparam("since"),
    reservations.c.call_id != bindparam("call_id"),
    text("state <> 'void'"),
)
_COUNTED_SUM: Final = text(
    "SELECT coalesce(sum(CASE state WHEN 'held' THEN amount ELSE posted END), 0) AS taken,"
    " coalesce(sum(override), 0) AS overridden FROM reservation"
    " WHERE meter_id = :meter_id AND window_start = 0 AND at > :since"
    " AND call_id <> :call_id AND state <> 'void'"
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
_SAVE_RESERVATION: Final = text(
    "INSERT INTO reservation (call_id, meter_id, window_start, at, amount, currency, override,"
    " state, posted) VALUES (:call_id, :meter_id, :window_start, :at, :amount, :currency,"
    " :override, :state, :posted) ON CONFLICT (call_id, meter_id) DO UPDATE SET"
    " window_start = excluded.window_start, at = excluded.at, amount = excluded.amount,"
    " override = excluded.override, state = excluded.state, posted = excluded.posted"
)
_OF_CALL = (
    select(reservations)
    .where(reservations.c.call_id == bindparam("id"))
    .order_by(reservations.c.meter_id)
)


def held_by(connection: Executor, call_id: str) -> tuple[Reservation, ...]:
    """Read what a call has taken from meters."""
    found = connection.execute(_OF_CALL, {"id": call_id}).mappings()
    return tuple(rows.to_reservation(row) for row in found)


# --- what a demand meets ---


def holdings(
    work: Work,
    demand: Demand | None,
    *,
    call_id: CallId | None = None,
    own: Iterable[Reservation] = (),
) -> Holdings:
    """Lock and read the sums and counts of a demand, without what `call_id` itself holds.

    `own` is what it holds. Those meters are locked as well, for it may be given back; and where it
    stands in the row that counts now, it is left out: a call that fits is not counted twice.

    The time is read once all is locked: whoever waited here must not write an earlier instant than
    the one it waited for, nor count in a window that has ended meanwhile.
    """
    if demand is None:
        return Holdings()
    locked = [(each, _lock_count(work, each)) for each in demand.counts]
    draws = {draw.meter_id: draw for draw in demand.draws}
    taken = {each.meter_id: each for each in own}
    for meter_id in sorted(draws.keys() | taken.keys()):
        _lock_meter(work.connection, meter_id, draws.get(meter_id))
    rings = {each.key.id: _ring(work.connection, each, family, work.now) for each, family in locked}
    usage: dict[str, Usage] = {}
    elsewhere: dict[str, Usage] = {}
    room_at: dict[str, datetime] = {}
    for draw in demand.draws:
        window, mine = draw.meter.window, taken.get(draw.meter_id)
        met, other = windows.locked(work.connection, draw, work.now, call_id or "", mine)
        if isinstance(window, Rolling):
            met = _rolling(work.connection, draw, window, work.now, call_id or "", room_at)
        usage[draw.meter_id] = met
        if other is not None:
            elsewhere[draw.meter_id] = other
    return Holdings(usage=usage, elsewhere=elsewhere, rings=rings, room_at=room_at)


def _rolling(
    connection: Executor,
    draw: Draw,
    window: Rolling,
    now: datetime,
    call_id: str,
    room_at: dict[str, datetime],
) -> Usage:
    counted = {
        "meter_id": draw.meter_id,
        "since": to_microseconds(window.start(now)),
        "call_id": call_id,
    }
    found = connection.execute(_COUNTED_SUM, counted).one()
    usage = Usage(held=int(found.taken), overridden=int(found.overridden))
    if not meters.admits(draw, usage):
        free = _room_at(connection, draw, window, now, call_id)
        if free is not None:
            room_at[draw.meter_id] = free
    return usage


def _room_at(
    connection: Executor, draw: Draw, window: Rolling, now: datetime, call_id: str
) -> datetime | None:
    """Find out when there will be room: all that counts is read for it, one by one."""
    since = {"meter_id": draw.meter_id, "since": window.start(now), "call_id": call_id}
    found = [rows.to_reservation(row) for row in connection.execute(_COUNTED, since).mappings()]
    return meters.room_at(
        draw, window, [(each.at, each.taken - each.override) for each in found], now
    )


def _lock_meter(connection: Executor, meter_id: str, draw: Draw | None = None) -> None:
    """Lock the meter's own row, making it the first time: one call at a time moves its sums.

    Which window counts is known once this is locked, so it is not the window that is locked first.
    """
    key = {"id": meter_id}
    if connection.execute(_METER, key).first() is not None or draw is None:
        return
    meter = draw.meter
    row = {
        "name": meter.name,
        "origin": meter.origin,
        "currency": meter.limit.currency,
        "key": json.dumps(draw.key),
    }
    connection.execute(_MAKE_METER, key | row)
    connection.execute(_METER, key)


def _lock_count(work: Work, each: Count) -> Sequence[Row[Any]]:
    """Lock a count and all that its limit was counted with before, making it the first time.

    Whoever waited for a row gets it as it is now, but none that was made since the statement began.
    So each row says how many there are, and where that is not how many were found they are read
    anew. Of two that find none yet the second waits here, for there is nothing else to wait for.
    """
    connection, key = work.connection, {"family": each.key.family}
    family = connection.execute(_FAMILY, key).all()
    is_whole = all(row.family_size == len(family) for row in family)
    if is_whole and any(row.id == each.key.id for row in family):
        return family
    work.alone(each.key.family)
    connection.execute(_MAKE_COUNT, key | {"id": each.key.id, "now": to_microseconds(_NEVER)})
    family = connection.execute(_FAMILY, key).all()
    connection.execute(_SAVE_SIZE, key | {"size": len(family)})
    return family


def _ring(connection: Executor, each: Count, family: Sequence[Row[Any]], now: datetime) -> Ring:
    [row] = (row for row in family if row.id == each.key.id)
    others = [other for other in family if other.id != row.id]
    is_calendar = each.rate.algorithm is Algorithm.CALENDAR
    n, start = row.n, row.start_at
    if any(other.used_at >= row.used_at for other in others):
        # The limit was changed, or changed back. A clock may stand still, so of two that were used
        # at the same instant either may have been the last.
        n = _carry_over(connection, each, row, others, now)
        start = rates.count_start(each.rate, now)
    if is_calendar:
        return Ring(n=n if start == rates.count_start(each.rate, now) else 0)
    return Ring(n=n, old=_old(connection, each, n))


def _old(connection: Executor, each: Count, n: int) -> tuple[datetime | None, ...]:
    """Read the slots that the next call takes, and no others: a ring may have ten thousand."""
    wanted = rates.next_slots(each.rate, n)
    if len(wanted) > MOST_ASKED_ONE_BY_ONE:
        slots = _slots(connection, each.key.id)
        return tuple(slots.get(at) for at in wanted)
    keys = ({"count_id": each.key.id, "slot": slot} for slot in wanted)
    return tuple(connection.execute(_SLOT, key).scalar() for key in keys)


def _slots(connection: Executor, count_id: str) -> dict[int, datetime]:
    found = connection.execute(_SLOTS, {"count_id": count_id})
    return {row.slot: row.at for row in found}


def _carry_over(
    connection: Executor, each: Count, row: Row[Any], others: Iterable[Row[Any]], now: datetime
) -> int:
    """Fill a count with what it and all others of its limit remember: a change forgives nothing.

    No single one remembers all: the last may have been too small to hold what was before it.
    """
    own = Counter(_remembered(connection, row))
    known = own
    for other in others:
        if other.used_at > now - each.rate.window:
            # What two of them remember is the same calls.
            known = known | Counter(_remembered(connection, other))
    admitted = list(known.elements())
    if each.rate.algorithm is Algorithm.CALENDAR:
        counted = rates.carry_count(admitted, each.rate, now)
        connection.execute(*_count(each, counted, now))
        return counted
    ring, n = rates.carry_over(admitted, each.rate), int(row.n)
    if Counter(ring.slots) != own:  # while a clock stands still every call comes here
        n = ring.n
        connection.execute(_EMPTY, {"b_id": each.key.id})
        for slot, at in enumerate(ring.slots):
            connection.execute(*_slot(each.key.id, slot, at))
    connection.execute(*_count(each, n, now))
    return n


def _remembered(connection: Executor, before: Row[Any]) -> list[datetime]:
    if before.start_at is not None:
        return [before.used_at] * min(before.n, rates.MOST_SLOTS)
    return list(_slots(connection, before.id).values())


# --- what people look at ---


def usage(
    connection: Executor, draws: Iterable[Draw], now: datetime, *, without: str = ""
) -> dict[str, Usage]:
    """Read the sums that draws meet now, leaving out what the call `without` has taken.

    Nothing is locked or made: this is for people to look at, and admits nobody.
    """
    own = {each.meter_id: each for each in held_by(connection, without)}
    found: dict[str, Usage] = {}
    for draw in draws:
        window, mine = draw.meter.window, own.get(draw.meter_id)
        if isinstance(window, Rolling):
            found[draw.meter_id] = _rolled(connection, draw, window, now, without)
        else:
            found[draw.meter_id] = windows.seen(connection, draw, now, without, mine)
    return found


def with_it(connection: Executor, draw: Draw, booked: Reservation, now: datetime) -> Usage | None:
    """Read the sums where a call was booked, with it; None where it has rolled out of what counts.

    Of a calendar it is the row in which the call was reserved, which may have ended since.
    """
    window = draw.meter.window
    if not isinstance(window, Rolling):
        return windows.of_row(connection, draw.meter_id, booked.window_start)
    return _rolled(connection, draw, window, now, "") if booked.at > window.start(now) else None


def _rolled(
    connection: Executor, draw: Draw, window: Rolling, now: datetime, without: str
) -> Usage:
    since = {"meter_id": draw.meter_id, "since": window.start(now), "call_id": without}
    counted = [rows.to_reservation(row) for row in connection.execute(_COUNTED, since).mappings()]
    return Usage(
        held=sum(each.taken for each in counted if each.state is State.HELD),
        posted=sum(each.taken for each in counted if each.state is not State.HELD),
        overridden=sum(each.override for each in counted),
    )


# --- what an admitted call moves ---


def counting(taken: Iterable[Taken], now: datetime) -> Iterator[Write]:
    """Give what is to be written of the counts of an admitted call."""
    for each in taken:
        yield from (_slot(each.count.key.id, slot, now) for slot in each.slots)
        yield _count(each.count, each.n, now)


def book(
    connection: Transaction,
    call_id: CallId,
    bookings: Iterable[Booking],
    limits: Mapping[str, Draw],
    now: datetime,
    besides: Iterable[Write] = (),
) -> None:
    """Write what moves in meters; `limits` guards what is reserved, and those are locked already.

    `besides` is what is to be written with it, before it.

    Raises:
        Conflict: If a window has no room any more, or a sum would contradict itself.
    """
    made = tuple(bookings)
    entries = [entry for booking in made for entry in booking.entries]
    for meter_id in sorted({each.meter_id for each in entries} - limits.keys()):
        _lock_meter(connection, meter_id)
    first = list(besides)
    moves = [_move(entry, limits.get(entry.meter_id)) for entry in entries]
    kept = list[Write]()
    if entries:
        kept.append(Write(_ENTRY, [rows.entry_row(call_id, each, now) for each in entries]))
    if made:
        kept.append(Write(_SAVE_RESERVATION, [_saved(call_id, each.reservation) for each in made]))
    if len({(each.meter_id, each.window_start) for each in entries}) == len(entries):
        met = connection.together([*first, *moves, *kept])[len(first) : len(first) + len(moves)]
    else:
        # What is given back and taken anew moves one row twice, in this order.
        connection.together(first)
        met = [connection.execute(*each).rowcount for each in moves]
        connection.together(kept)
    if any(count != 1 for count in met):
        raise Conflict("the budget was taken at the same moment")


def _saved(call_id: CallId, reservation: Reservation) -> dict[str, object]:
    at = to_microseconds(reservation.at)
    return rows.reservation_row(call_id, reservation) | {"at": at}


def _move(entry: LedgerEntry, draw: Draw | None) -> Write:
    if entry.kind is Kind.RESERVE and draw is None:
        raise ValueError("a meter is drawn on that was neither locked nor read")
    held, posted, overridden = deltas(entry.kind, entry.amount, entry.override)
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
        return Write(_MOVE_GUARDED, moved | _bounds(entry, draw))
    return Write(_MOVE, moved)


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


def deltas(kind: Kind, amount: int, override: int) -> tuple[int, int, int]:
    """Say what an entry does to held, posted and overridden."""
    match kind:
        case Kind.RESERVE:
            return amount, 0, override
        case Kind.POST:
            return -amount, amount, 0
        case Kind.VOID:
            return -amount, 0, -override
        case Kind.OVERRUN:
            return 0, amount, 0
        case Kind.ADJUST:
            return 0, -amount, -override


def _count(count: Count, n: int, now: datetime) -> Write:
    is_calendar = count.rate.algorithm is Algorithm.CALENDAR
    start = rates.count_start(count.rate, now) if is_calendar else None
    return Write(_SAVE_COUNT, {"n": n, "start_at": start, "used_at": now, "b_id": count.key.id})


def _slot(count_id: str, slot: int, at: datetime) -> Write:
    return Write(_PUT_SLOT, {"count_id": count_id, "slot": slot, "at": to_microseconds(at)})
