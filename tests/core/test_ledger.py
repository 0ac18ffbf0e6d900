"""Every movement of a meter, one by one: what it writes, and what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.core.ledger import (
    Booking,
    Kind,
    Reservation,
    State,
    adjust,
    applied,
    lower,
    post,
    rehome,
    reserve,
    void,
)
from approval.core.meters import Draw, Meter, Soft, Usage, draws, room
from approval.core.money import Money
from approval.core.subject import Subject
from approval.core.windows import ALWAYS, AllTime, Calendar, Rolling, Unit, Window

LATE = datetime(2026, 11, 25, 23, 50, tzinfo=UTC)
NEXT = datetime(2026, 11, 26, 0, 10, tzinfo=UTC)
TODAY, TOMORROW = datetime(2026, 11, 25, tzinfo=UTC), datetime(2026, 11, 26, tzinfo=UTC)
DAY = Calendar(unit=Unit.DAY)
OPS = Subject(agent="ops", upstream="shop", tool="buy", arguments={})


def usd(minor: int) -> Money:
    return Money(minor, "USD")


def draw(
    amount: int = 115, limit: int = 500, window: Window = DAY, *, up_to: int = 0, name: str = "m"
) -> Draw:
    soft = Soft(override_by=("cfo",), up_to=usd(up_to)) if up_to else None
    meter = Meter(name=name, origin="p", limit=usd(limit), window=window, soft=soft)
    return draws(meter, OPS, usd(amount))[0]


def booked(booking: Booking | None) -> Booking:
    assert booking is not None
    return booking


def held(amount: int = 115, *, taken: int = 0) -> Reservation:
    """Reserve on a meter of 500; what goes beyond, up to 100, is overridden."""
    taking = draw(amount, up_to=100)
    return booked(reserve(taking, Usage(posted=taken), LATE, override=True)).reservation


def moves(booking: Booking) -> list[tuple[str, int, int]]:
    return [(entry.kind, entry.amount, entry.override) for entry in booking.entries]


def test_a_reservation_holds_the_amount_in_the_row_that_counts() -> None:
    booking = booked(reserve(draw(), Usage(posted=385), LATE))
    made = booking.reservation
    assert (made.window_start, made.at, made.amount) == (TODAY, LATE, usd(115))
    assert (made.state, made.override, made.posted, made.taken) == (State.HELD, 0, 0, 115)
    assert moves(booking) == [("reserve", 115, 0)]
    [entry] = booking.entries
    assert (entry.meter_id, entry.window_start) == (draw().meter_id, TODAY)


def test_without_room_nothing_is_reserved() -> None:
    assert reserve(draw(), Usage(posted=386), LATE) is None
    assert reserve(draw(), Usage(posted=386), LATE, override=True) is None
    assert reserve(draw(up_to=100), Usage(posted=386), LATE) is None
    assert reserve(draw(up_to=100), Usage(posted=486), LATE, override=True) is None


def test_an_override_covers_what_is_beyond_the_limit_and_no_more() -> None:
    assert held(taken=400).override == 15
    assert held(taken=385).override == 0
    # What others took beyond the limit is not overridden along with it.
    assert (
        booked(
            reserve(draw(up_to=115), Usage(posted=900), LATE, override=True)
        ).reservation.override
        == 115
    )


@pytest.mark.parametrize(
    ("taken", "actual", "entries", "override"),
    [
        (0, 115, [("post", 115, 0)], 0),
        (0, 100, [("post", 100, 0), ("void", 15, 0)], 0),
        (0, 0, [("void", 115, 0)], 0),
        (0, 130, [("post", 115, 0), ("overrun", 15, 0)], 0),
        (415, 115, [("post", 115, 30)], 30),
        (415, 105, [("post", 105, 20), ("void", 10, 10)], 20),
        (415, 85, [("post", 85, 0), ("void", 30, 30)], 0),
        (415, 50, [("post", 50, 0), ("void", 65, 30)], 0),
        (415, 120, [("post", 115, 30), ("overrun", 5, 0)], 30),
    ],
)
def test_posting_frees_the_difference_or_marks_an_overrun(
    taken: int, actual: int, entries: list[tuple[str, int, int]], override: int
) -> None:
    booking = post(held(taken=taken), usd(actual))
    posted = booking.reservation
    assert moves(booking) == entries
    assert (posted.state, posted.posted, posted.taken) == (State.POSTED, actual, actual)
    assert posted.override == override
    assert posted.overran is (actual > 115)


def test_voiding_gives_back_all_of_it() -> None:
    booking = void(held(taken=415))
    assert moves(booking) == [("void", 115, 30)]
    voided = booking.reservation
    assert (voided.state, voided.taken, voided.override, voided.overran) == (
        State.VOID,
        0,
        0,
        False,
    )


def test_an_approver_types_at_most_what_was_held() -> None:
    booking = lower(held(taken=415), usd(100))
    assert moves(booking) == [("void", 15, 15)]
    assert (booking.reservation.amount, booking.reservation.override) == (usd(100), 15)
    assert booking.reservation.state is State.HELD
    assert moves(lower(held(), usd(115))) == []
    with pytest.raises(ValueError, match="reserved anew"):
        lower(held(), usd(116))


@pytest.mark.parametrize(
    ("taken", "posted", "actual", "entries"),
    [
        (0, 115, 100, [("adjust", 15, 0)]),
        (0, 115, 0, [("adjust", 115, 0)]),
        (0, 115, 115, []),
        (0, 115, 120, [("overrun", 5, 0)]),
        (0, 130, 120, [("adjust", 10, 0)]),
        (415, 115, 100, [("adjust", 15, 15)]),
        (415, 115, 50, [("adjust", 65, 30)]),
    ],
)
def test_a_person_corrects_what_was_posted(
    taken: int, posted: int, actual: int, entries: list[tuple[str, int, int]]
) -> None:
    booking = adjust(post(held(taken=taken), usd(posted)).reservation, usd(actual))
    assert moves(booking) == entries
    assert booking.reservation.posted == actual


@pytest.mark.parametrize("taken", [0, 415])
def test_what_was_given_back_is_booked_whole_where_it_was_spent_after_all(taken: int) -> None:
    voided = void(held(taken=taken)).reservation
    booked = adjust(voided, usd(100))
    assert moves(booked) == [("overrun", 100, 0)]
    spent = booked.reservation
    assert (spent.state, spent.taken, spent.override) == (State.POSTED, 100, 0)
    assert (spent.meter_id, spent.window_start, spent.at) == (
        voided.meter_id,
        voided.window_start,
        voided.at,
    )
    assert moves(adjust(spent, usd(0))) == [("adjust", 100, 0)]


def test_what_is_settled_is_settled_and_what_is_not_is_not() -> None:
    posted, voided = post(held(), usd(1)).reservation, void(held()).reservation
    wrongs: tuple[Callable[[Reservation], object], ...] = (
        void,
        lambda it: post(it, usd(1)),
        lambda it: lower(it, usd(1)),
        lambda it: rehome(it, draw(), Usage(), NEXT),
    )
    for settled in (posted, voided):
        for wrong in wrongs:
            with pytest.raises(ValueError, match="and not held"):
                wrong(settled)
    with pytest.raises(ValueError, match="the reservation is held"):
        adjust(held(), usd(1))


def test_no_other_currency_settles_it() -> None:
    posted = post(held(), usd(1)).reservation
    wrongs: tuple[Callable[[], object], ...] = (
        lambda: post(held(), Money(1, "EUR")),
        lambda: lower(held(), Money(1, "EUR")),
        lambda: adjust(posted, Money(1, "EUR")),
    )
    for wrong in wrongs:
        with pytest.raises(ValueError, match="one currency"):
            wrong()


# --- windows that end while a call waits ---


def test_a_call_that_runs_in_the_window_it_was_admitted_in_stays_there() -> None:
    waiting = held()
    booking = booked(rehome(waiting, draw(), Usage(held=115), LATE + timedelta(minutes=9)))
    assert booking == Booking(reservation=waiting)


def test_a_call_moves_to_the_window_it_runs_in() -> None:
    booking = booked(rehome(held(), draw(), Usage(posted=385), NEXT))
    assert moves(booking) == [("void", 115, 0), ("reserve", 115, 0)]
    assert [entry.window_start for entry in booking.entries] == [TODAY, TOMORROW]
    assert (booking.reservation.window_start, booking.reservation.at) == (TOMORROW, NEXT)


def test_a_call_without_room_in_the_next_window_does_not_move() -> None:
    assert rehome(held(), draw(), Usage(posted=386), NEXT) is None
    # Nobody let this one pass beyond a limit, so it does not pass beyond the next.
    assert rehome(held(), draw(up_to=100), Usage(posted=386), NEXT) is None


@pytest.mark.parametrize(
    ("posted", "overridden", "override"),
    [
        (0, 0, 0),
        (385, 0, 0),
        (400, 0, 15),
        (415, 0, 30),
        (416, 0, None),
        (485, 85, 15),
        (486, 86, None),
    ],
)
def test_what_people_let_pass_moves_along_as_far_as_it_is_needed(
    posted: int, overridden: int, override: int | None
) -> None:
    waiting = held(taken=415)
    usage = Usage(posted=posted, overridden=overridden)
    moved = rehome(waiting, draw(up_to=100), usage, NEXT)
    assert (None if moved is None else moved.reservation.override) == override


def test_the_amount_that_moves_is_the_one_reserved() -> None:
    moved = booked(rehome(held(115), draw(amount=1), Usage(), NEXT))
    assert moved.reservation.amount == usd(115)


def test_a_rolling_reservation_counts_from_when_the_call_runs() -> None:
    window = Rolling(span=timedelta(hours=24))
    waiting = booked(reserve(draw(window=window), Usage(), LATE)).reservation
    booking = booked(rehome(waiting, draw(window=window), Usage(posted=385), NEXT))
    assert (booking.reservation.at, booking.reservation.window_start) == (NEXT, ALWAYS)
    assert moves(booking) == [("void", 115, 0), ("reserve", 115, 0)]
    assert rehome(waiting, draw(window=window), Usage(posted=386), NEXT) is None


def test_a_meter_of_all_time_keeps_its_reservations() -> None:
    window = AllTime()
    waiting = booked(reserve(draw(window=window), Usage(), LATE)).reservation
    assert booked(rehome(waiting, draw(window=window), Usage(), NEXT)).entries == ()


def test_a_call_moves_to_the_meter_that_the_policy_has_by_now() -> None:
    other = draw(name="other")
    booking = booked(rehome(held(), other, Usage(), LATE))
    assert [entry.meter_id for entry in booking.entries] == [draw().meter_id, other.meter_id]
    assert rehome(held(), draw(name="other", limit=100), Usage(), LATE) is None


def test_a_zone_whose_days_have_moved_counts_a_waiting_call_once() -> None:
    # The same meter by name; its rows now start at other instants.
    moved = draw(window=Calendar(unit=Unit.DAY, zone="Europe/Berlin"))
    assert moved.meter_id == draw().meter_id
    booking = booked(rehome(held(), moved, Usage(), LATE))
    rows = [(entry.kind, entry.window_start) for entry in booking.entries]
    assert rows == [("void", TODAY), ("reserve", datetime(2026, 11, 25, 23, tzinfo=UTC))]


# --- sums ---


def test_n_calls_of_one_amount_are_admitted_as_often_as_they_fit() -> None:
    usage, admitted = Usage(), 0
    for _ in range(20):
        booking = reserve(draw(115, limit=1000), usage, LATE)
        if booking is not None:
            usage, admitted = applied(usage, booking.entries), admitted + 1
    assert (admitted, usage) == (1000 // 115, Usage(held=8 * 115))


amounts = st.integers(0, 300)


@given(amount=st.integers(1, 300), taken=st.integers(0, 400), actual=amounts, corrected=amounts)
def test_what_was_reserved_is_posted_voided_adjusted_or_still_held(
    amount: int, taken: int, actual: int, corrected: int
) -> None:
    before = Usage(posted=taken)
    made = reserve(draw(amount, up_to=300), before, LATE, override=True)
    if made is None:
        return
    posted = post(made.reservation, usd(actual))
    adjusted = adjust(posted.reservation, usd(corrected))
    trail = [*made.entries, *posted.entries, *adjusted.entries]
    by_kind = {kind: sum(e.amount for e in trail if e.kind is kind) for kind in Kind}
    assert by_kind[Kind.RESERVE] == by_kind[Kind.POST] + by_kind[Kind.VOID]
    assert by_kind[Kind.POST] + by_kind[Kind.OVERRUN] == by_kind[Kind.ADJUST] + corrected
    assert all(entry.amount > 0 and entry.override >= 0 for entry in trail)
    usage = applied(before, trail)
    final = adjusted.reservation
    assert usage == Usage(posted=taken + corrected, overridden=final.override)


@given(amount=st.integers(1, 300), posted=st.integers(0, 400), held_=st.integers(0, 100))
def test_voiding_leaves_exactly_the_room_that_was_there(
    amount: int, posted: int, held_: int
) -> None:
    taking, before = draw(amount, up_to=100), Usage(posted=posted, held=held_)
    made = reserve(taking, before, LATE, override=True)
    if made is None:
        return
    after = applied(applied(before, made.entries), void(made.reservation).entries)
    assert after == before
    assert room(taking, after) == room(taking, before)


def test_sums_that_entries_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match="contradict"):
        applied(Usage(held=1), void(held()).entries)
    with pytest.raises(ValueError, match="contradict"):
        applied(Usage(), adjust(replace(held(), state=State.POSTED, posted=5), usd(0)).entries)
