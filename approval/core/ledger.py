"""The ledger of a meter: reserve when a call is admitted, then post what it took, or void it.

Every change of a meter's sums is an entry, and entries are only ever added. A reservation is what
the entries of one call come to; whatever becomes of it, what was reserved and what overran it
equal what was posted, voided and adjusted away.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from approval.core.meters import Draw, Usage, admits, overshoot, window_start
from approval.core.money import Money
from approval.core.windows import Rolling


class State(enum.StrEnum):
    HELD = "held"
    POSTED = "posted"
    VOID = "void"


class Kind(enum.StrEnum):
    RESERVE = "reserve"
    POST = "post"
    VOID = "void"
    OVERRUN = "overrun"
    """More was taken than is held or booked for it. The one entry that may pass a limit."""
    ADJUST = "adjust"
    """A person corrected downwards what had been posted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One movement in the sums of a row. `override` is the part of `amount` beyond the limit."""

    kind: Kind
    meter_id: str
    window_start: datetime
    amount: int
    override: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What one call has taken from one meter.

    `at` is since when it counts, which matters where a window rolls. `override` is how much of it
    people let pass beyond the limit, and `posted` how much was spent, both in minor units.
    """

    meter_id: str
    window_start: datetime
    at: datetime
    amount: Money
    override: int = 0
    state: State = State.HELD
    posted: int = 0

    @property
    def overran(self) -> bool:
        return self.posted > self.amount.minor

    @property
    def taken(self) -> int:
        """What it takes from the meter now, be it held or posted."""
        return self.amount.minor if self.state is State.HELD else self.posted


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """A reservation as it is now, and the entries that led there."""

    reservation: Reservation
    entries: tuple[LedgerEntry, ...] = ()


def reserve(draw: Draw, usage: Usage, now: datetime, *, override: bool = False) -> Booking | None:
    """Take a call's amount from the meter; None when there is no room."""
    return _placed(draw, usage, now, up_to=draw.amount.minor if override else 0)


def post(held: Reservation, actual: Money) -> Booking:
    """Book what the call took: less frees the difference, more is an overrun.

    The money of an overrun is gone, so it is booked although nobody allowed it.

    Raises:
        ValueError: If the reservation is not held, or `actual` is in another currency.
    """
    _check(held, State.HELD)
    reserved, spent = held.amount.minor, _minor(held, actual)
    freed = reserved - min(spent, reserved)
    released = min(held.override, freed)
    posted = replace(held, state=State.POSTED, posted=spent, override=held.override - released)
    return _booked(
        posted,
        _entry(held, Kind.POST, reserved - freed, held.override - released),
        _entry(held, Kind.VOID, freed, released),
        _entry(held, Kind.OVERRUN, spent - (reserved - freed)),
    )


def lower(held: Reservation, amount: Money) -> Booking:
    """Hold less than was reserved, because an approver typed what an open amount comes to.

    Raises:
        ValueError: If the reservation is not held, is for less, or is in another currency.
    """
    _check(held, State.HELD)
    freed = held.amount.minor - _minor(held, amount)
    if freed < 0:
        raise ValueError("more than was reserved is reserved anew, where there is room")
    released = min(held.override, freed)
    lowered = replace(held, amount=amount, override=held.override - released)
    return _booked(lowered, _entry(held, Kind.VOID, freed, released))


def void(held: Reservation) -> Booking:
    """Give back all of it, because the call is proven to have taken nothing.

    Raises:
        ValueError: If the reservation is not held.
    """
    _check(held, State.HELD)
    voided = replace(held, state=State.VOID, override=0)
    return _booked(voided, _entry(held, Kind.VOID, held.amount.minor, held.override))


def adjust(settled: Reservation, actual: Money) -> Booking:
    """Correct what was booked to what is known now, on a person's word.

    What was given back may turn out to have been spent. Nobody has kept room for it since, so all
    of it is an overrun, where it was reserved.

    Raises:
        ValueError: If the reservation is still held, or `actual` is in another currency.
    """
    if settled.state is State.HELD:
        raise ValueError("the reservation is held: nothing is booked yet that could be corrected")
    spent = _minor(settled, actual)
    back = max(0, settled.posted - spent)
    released = min(settled.override, back)
    return _booked(
        replace(settled, state=State.POSTED, posted=spent, override=settled.override - released),
        _entry(settled, Kind.ADJUST, back, released),
        _entry(settled, Kind.OVERRUN, max(0, spent - settled.posted)),
    )


def rehome(held: Reservation, draw: Draw, usage: Usage, now: datetime) -> Booking | None:
    """Move a reservation to where the call counts now that it is about to run.

    It was made when the call was admitted; since then the window may have ended, or the meter may
    have changed. `usage` is that of the row it moves to, without this reservation. What people
    let pass moves along as far as it is still needed. None when there is no room, which is looked
    at where it stays as well: the limit may have been lowered since.

    Raises:
        ValueError: If the reservation is not held.
    """
    _check(held, State.HELD)
    moved = _placed(replace(draw, amount=held.amount), usage, now, up_to=held.override)
    if moved is None:
        return None
    row = (draw.meter_id, window_start(draw, now))
    if row == (held.meter_id, held.window_start) and not isinstance(draw.meter.window, Rolling):
        return Booking(reservation=held)
    return Booking(reservation=moved.reservation, entries=(*void(held).entries, *moved.entries))


def applied(usage: Usage, entries: Iterable[LedgerEntry]) -> Usage:
    """Add entries to the sums of the one row that they all belong to.

    Raises:
        ValueError: If the sums then contradict themselves.
    """
    held, posted, overridden = usage.held, usage.posted, usage.overridden
    for entry in entries:
        match entry.kind:
            case Kind.RESERVE:
                held, overridden = held + entry.amount, overridden + entry.override
            case Kind.POST:
                held, posted = held - entry.amount, posted + entry.amount
            case Kind.VOID:
                held, overridden = held - entry.amount, overridden - entry.override
            case Kind.OVERRUN:
                posted += entry.amount
            case Kind.ADJUST:
                posted, overridden = posted - entry.amount, overridden - entry.override
    return Usage(held=held, posted=posted, overridden=overridden)


def _placed(draw: Draw, usage: Usage, now: datetime, *, up_to: int) -> Booking | None:
    """Reserve, with no more of it beyond the limit than `up_to`."""
    excess = overshoot(draw, usage)
    if not admits(draw, usage, override=excess <= up_to):
        return None
    made = Reservation(
        meter_id=draw.meter_id,
        window_start=window_start(draw, now),
        at=now,
        amount=draw.amount,
        override=excess,
    )
    return _booked(made, _entry(made, Kind.RESERVE, draw.amount.minor, excess))


def _booked(reservation: Reservation, *entries: LedgerEntry) -> Booking:
    """Leave out entries that move nothing."""
    return Booking(reservation=reservation, entries=tuple(each for each in entries if each.amount))


def _entry(of: Reservation, kind: Kind, amount: int, override: int = 0) -> LedgerEntry:
    return LedgerEntry(
        kind=kind,
        meter_id=of.meter_id,
        window_start=of.window_start,
        amount=amount,
        override=override,
    )


def _minor(reservation: Reservation, actual: Money) -> int:
    if actual.currency != reservation.amount.currency:
        raise ValueError("what was reserved in one currency is not settled in another")
    return actual.minor


def _check(reservation: Reservation, state: State) -> None:
    if reservation.state is not state:
        raise ValueError(f"the reservation is {reservation.state}, and not {state}")
