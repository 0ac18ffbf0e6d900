"""Checking the money: the trail's movements, added up again, against the sums that are kept.

What moves in a meter is told four times: in the trail, which is chained; in the entries of the
ledger; in what each call has taken; and in the sums of each window, from which calls are admitted.
Whoever changes one of the last three behind the service's back contradicts the first.

What people look at of a meter is added up here too, for it locks nothing; what admission counts it
locks, in `approval.store.ledger`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeAlias

from sqlalchemy import Connection, Select, bindparam, case, func, select, text

from approval.core.ledger import Kind, State
from approval.core.meters import Meter, Usage
from approval.core.windows import Rolling
from approval.ports import Kept
from approval.store import rows
from approval.store.ledger import deltas
from approval.store.tables import (
    ledger_entries,
    meter_windows,
    meters,
    reservations,
    to_microseconds,
)

Amounts: TypeAlias = tuple[int, int, int]
"""Held, posted, and beyond the limit, in minor units."""

Told: TypeAlias = dict[tuple[str, ...], Amounts]
"""Amounts by a name of one or more parts. Those that come to nothing are left out to compare."""

NOTHING: Amounts = (0, 0, 0)

_WINDOWS = select(meter_windows)
_NAMES = select(meters.c.id, meters.c.name)
# Without `at`, which is not compared: a column of SQLite may hold what cannot be read as a time.
_TAKEN = select(
    reservations.c.call_id,
    reservations.c.meter_id,
    reservations.c.window_start,
    reservations.c.amount,
    reservations.c.override,
    reservations.c.state,
    reservations.c.posted,
)
_ENTRIES = select(
    ledger_entries.c.call_id,
    ledger_entries.c.meter_id,
    ledger_entries.c.window_start,
    ledger_entries.c.kind,
    ledger_entries.c.amount,
    ledger_entries.c.override,
)


class Sums:
    """What the trail says that each call has taken, and from which window of which meter."""

    def __init__(self) -> None:
        self._taken: Told = {}

    def add(self, call_id: str, told: object) -> None:
        """Add the movements that one entry of the trail tells of.

        Raises:
            ValueError, TypeError: If they cannot be read.
        """
        if not isinstance(told, list):
            raise TypeError("movements are a list")
        for kind, meter_id, start, amount, override in told:
            if (type(amount), type(override)) != (int, int):
                raise ValueError("amounts are whole numbers")
            moved = _movement(kind, amount, override)
            key = (call_id, meter_id, str(to_microseconds(datetime.fromisoformat(start))))
            self._taken[key] = _plus(self._taken.get(key, NOTHING), moved)

    def problems(self, connection: Connection) -> Iterator[str]:
        """Name every sum that is kept otherwise than the trail tells."""
        names = {row.id: str(row.name) for row in connection.execute(_NAMES)}
        windows = _by_window(self._taken)
        for key, told, kept in _differing(windows, _windows(connection)):
            where = f"meter {names.get(key[0], key[0])}, window {key[1]}"
            yield f"{where}: the trail adds up to {_words(told)}; the database says {_words(kept)}"
        for key, told, kept in _differing(self._taken, _reserved(connection)):
            where = f"{key[0]}: of meter {names.get(key[1], key[1])} it has"
            yield f"{where} {_words(told)} by the trail, and {_words(kept)} by its reservation"
        for key, told, kept in _differing(self._taken, _entered(connection)):
            where = f"{key[0]}: of meter {names.get(key[1], key[1])} it has"
            yield f"{where} {_words(told)} by the trail, and {_words(kept)} by the ledger"


def _movement(kind: str, amount: int, override: int) -> Amounts:
    return deltas(Kind(kind), amount, override)


def _plus(one: Amounts, other: Amounts) -> Amounts:
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2])


def _by_window(taken: Mapping[tuple[str, ...], Amounts]) -> Told:
    found: Told = {}
    for (_, *window), amounts in taken.items():
        found[tuple(window)] = _plus(found.get(tuple(window), NOTHING), amounts)
    return found


def _windows(connection: Connection) -> Told:
    return {
        (row.meter_id, str(row.window_start)): (row.held, row.posted, row.overridden)
        for row in connection.execute(_WINDOWS)
    }


def _reserved(connection: Connection) -> Told:
    """Read what calls have taken; what is unreadable in a row differs from all that is told."""
    found: Told = {}
    for row in connection.execute(_TAKEN):
        held = row.amount if row.state == State.HELD else 0
        posted = 0 if row.state == State.HELD else row.posted
        key = (row.call_id, row.meter_id, str(row.window_start))
        found[key] = (held, posted, row.override)
    return found


def _entered(connection: Connection) -> Told:
    found: Told = {}
    for row in connection.execute(_ENTRIES):
        key = (row.call_id, row.meter_id, str(row.window_start))
        try:
            moved = _movement(row.kind, row.amount, row.override)
            found[key] = _plus(found.get(key, NOTHING), moved)
        except (TypeError, ValueError):
            found[row.call_id, row.meter_id, "unreadable"] = (-1, -1, -1)
    return found


def _differing(told: Told, kept: Told) -> Iterator[tuple[tuple[str, ...], Amounts, Amounts]]:
    for key in sorted(told.keys() | kept.keys(), key=str):
        one, other = told.get(key, NOTHING), kept.get(key, NOTHING)
        if one != other:
            yield key, one, other


def _words(amounts: Amounts) -> str:
    held, posted, beyond = amounts
    return f"{held} held, {posted} posted, {beyond} beyond the limit"


# --- what people look at ---


PAGE: Final = 1000
"""So many meters are read or asked about at once: all of them are told, but in no one statement."""

_KEPT = select(meters).where(meters.c.id > bindparam("after")).order_by(meters.c.id).limit(PAGE)
_WINDOWS_OF = (
    select(meter_windows)
    .join(meters, meters.c.id == meter_windows.c.meter_id)
    .where(
        meters.c.name == bindparam("name"),
        meters.c.origin == bindparam("origin"),
        meter_windows.c.window_start == bindparam("window_start"),
    )
)
_ROLLED = (
    select(reservations)
    .join(meters, meters.c.id == reservations.c.meter_id)
    .where(
        meters.c.name == bindparam("name"),
        meters.c.origin == bindparam("origin"),
        reservations.c.at > bindparam("since"),
        text("state <> 'void'"),
    )
)


def kept(connection: Connection, after: str) -> tuple[Kept, ...]:
    """Name the meters that have been drawn on whose ids follow this one, a page of them."""
    found = connection.execute(_KEPT, {"after": after}).mappings()
    return tuple(rows.to_kept(row) for row in found)


def spent(
    connection: Connection, meter_ids: Collection[str], days: Sequence[datetime]
) -> dict[str, tuple[int, ...]]:
    """Add up what was booked between each two of these instants, which ascend.

    What a person corrected counts when they did so. A meter of which nothing was booked is absent.
    """
    found: dict[str, list[int]] = {}
    ids, query = sorted(meter_ids), _spent(days)
    for first in range(0, len(ids), PAGE):
        for row in connection.execute(query, {"ids": ids[first : first + PAGE]}):
            of_days = found.setdefault(row.meter_id, [0] * (len(days) - 1))
            of_days[row.day] = int(row.spent)
    return {meter_id: tuple(of_days) for meter_id, of_days in found.items()}


def _spent(days: Sequence[datetime]) -> Select[tuple[str, int, int]]:
    """Ask for the sums of each day; on some days clocks are changed, so none has a fixed length."""
    entries = ledger_entries.c
    day = case(*((entries.at < end, number) for number, end in enumerate(days[1:])))
    sign = case((entries.kind == Kind.ADJUST.value, -entries.amount), else_=entries.amount)
    moved = (
        select(entries.meter_id, day.label("day"), sign.label("amount"))
        .where(
            entries.meter_id.in_(bindparam("ids", expanding=True)),
            entries.at >= days[0],
            entries.at < days[-1],
            entries.kind.in_([Kind.POST.value, Kind.OVERRUN.value, Kind.ADJUST.value]),
        )
        .subquery()
        .c
    )
    return select(moved.meter_id, moved.day, func.sum(moved.amount).label("spent")).group_by(
        moved.meter_id, moved.day
    )


def used(connection: Connection, meter: Meter, now: datetime) -> Usage:
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
    kept = connection.execute(_WINDOWS_OF, start).all()
    return Usage(
        held=sum(row.held for row in kept),
        posted=sum(row.posted for row in kept),
        overridden=sum(row.overridden for row in kept),
    )
