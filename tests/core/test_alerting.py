"""The trail is told when a call brings a meter to a share of its limit, and only then."""

from datetime import timedelta

import pytest

from approval.core import ledger
from approval.core.alerting import alerts, booked
from approval.core.audit import Entry, Tag
from approval.core.demand import Demand, Holdings
from approval.core.ledger import Booking
from approval.core.lifecycle import Change, Event
from approval.core.meters import USES, Draw, Meter, Soft, Usage, meter_id
from approval.core.money import Money
from approval.core.scopes import Key, Scope
from approval.core.windows import AllTime, Calendar, Rolling, Unit, Window
from tests.factories import NOW, make_call

KEY: Key = ((Scope.AGENT, "ops-agent"), (Scope.GROUP, None))


def usd(minor: int) -> Money:
    return Money(minor, "USD")


def drawing(amount: Money, limit: Money, window: Window | None = None) -> Draw:
    soft = Soft(override_by=("cfo",), up_to=limit)
    meter = Meter(name="pot", origin="p", limit=limit, window=window or AllTime(), soft=soft)
    return Draw(meter_id=meter_id(meter, KEY), key=KEY, meter=meter, amount=amount)


def told(draw: Draw, usage: Usage, *bookings: Booking | None) -> list[Entry]:
    made = tuple(each for each in bookings if each is not None)
    assert len(made) == len(bookings)
    change = Change(call=make_call(), event=Event.HOLD, actor="agent:ops-agent", bookings=made)
    demand = Demand(amount=draw.amount, draws=(draw,))
    return list(alerts(change, demand, Holdings(usage={draw.meter_id: usage})))


def test_an_alert_says_which_meter_whose_and_how_full() -> None:
    draw = drawing(usd(115), usd(200))
    found = told(draw, Usage(held=20, posted=30), ledger.reserve(draw, Usage(held=50), NOW))
    facts = {
        "key": {"agent": "ops-agent", "group": None},
        "limit": "2.00 USD",
        "meter": "pot",
        "origin": "p",
        "used": "1.65 USD",
    }
    assert found == [
        Entry(
            tag=Tag.METER_ALERT,
            subject=make_call().id,
            actor="agent:ops-agent",
            facts={**facts, "percent": percent},
        )
        for percent in (50, 80)
    ]


@pytest.mark.parametrize(
    ("usage", "amount", "percents"),
    [
        (Usage(), 49, []),
        (Usage(), 50, [50]),
        (Usage(held=49), 1, [50]),
        (Usage(posted=50), 29, []),
        (Usage(posted=50), 30, [80]),
        (Usage(held=40, posted=39), 21, [80, 100]),
        (Usage(), 100, [50, 80, 100]),
        (Usage(held=100), 10, []),
        # What people let pass beyond the limit counts towards none of it.
        (Usage(held=95), 10, [100]),
        (Usage(held=60, overridden=20), 9, []),
        (Usage(held=60, overridden=20), 10, [50]),
    ],
)
def test_each_share_is_told_when_it_is_reached(
    usage: Usage, amount: int, percents: list[int]
) -> None:
    draw = drawing(usd(amount), usd(100))
    booking = ledger.reserve(draw, usage, NOW, override=True)
    assert [entry.facts["percent"] for entry in told(draw, usage, booking)] == percents


def test_what_people_let_pass_beyond_the_limit_is_not_told_as_used() -> None:
    draw, usage = drawing(usd(10), usd(100)), Usage(held=95)
    [entry] = told(draw, usage, ledger.reserve(draw, usage, NOW, override=True))
    assert (entry.facts["used"], entry.facts["limit"]) == ("1.00 USD", "1.00 USD")


def test_of_uses_the_number_is_told() -> None:
    draw = drawing(Money(1, USES), Money(2, USES))
    [entry] = told(draw, Usage(), ledger.reserve(draw, Usage(), NOW))
    assert (entry.facts["used"], entry.facts["limit"]) == ("1 use", "2 uses")


def test_what_is_counted_anew_in_a_window_that_rolls_reaches_nothing() -> None:
    draw = drawing(usd(60), usd(100), Rolling(span=timedelta(days=1)))
    held = ledger.reserve(draw, Usage(), NOW)
    assert held is not None
    later = NOW + timedelta(hours=1)
    assert told(draw, Usage(), ledger.rehome(held.reservation, draw, Usage(), later)) == []


def test_what_moves_to_a_window_that_has_begun_reaches_its_shares_there() -> None:
    draw = drawing(usd(60), usd(100), Calendar(unit=Unit.DAY))
    held = ledger.reserve(draw, Usage(), NOW)
    assert held is not None
    moved = ledger.rehome(held.reservation, draw, Usage(held=25), NOW + timedelta(days=1))
    found = told(draw, Usage(held=25), moved)
    assert [entry.facts["percent"] for entry in found] == [50, 80]


def test_what_is_given_back_or_booked_reaches_nothing_nor_does_an_unknown_meter() -> None:
    draw = drawing(usd(60), usd(100))
    held = ledger.reserve(draw, Usage(), NOW)
    assert held is not None
    for booking in (ledger.void(held.reservation), ledger.post(held.reservation, usd(90))):
        assert told(draw, Usage(held=60), booking) == []
    change = Change(call=make_call(), event=Event.HOLD, bookings=(held,))
    assert list(alerts(change, None, Holdings())) == []


def told_later(draw: Draw, after: Usage | None, booking: Booking) -> list[Entry]:
    change = Change(call=make_call(), event=Event.SUCCEED, actor="service:me", bookings=(booking,))
    return list(booked(change, {draw.meter_id: draw}, {draw.meter_id: after}))


@pytest.mark.parametrize(
    ("others", "reserved", "took", "percents"),
    [
        (0, 40, 49, []),
        (0, 40, 50, [50]),
        (0, 50, 50, []),
        (10, 50, 90, [80, 100]),
        (0, 10, 300, [50, 80, 100]),
        (40, 30, 10, []),
        (0, 100, 130, []),
        (0, 100, 0, []),
    ],
)
def test_what_is_booked_beyond_what_was_held_reaches_shares(
    others: int, reserved: int, took: int, percents: list[int]
) -> None:
    draw = drawing(usd(reserved), usd(100))
    held = ledger.reserve(draw, Usage(), NOW)
    assert held is not None
    posted = ledger.post(held.reservation, usd(took))
    found = told_later(draw, Usage(held=others, posted=took), posted)
    assert [entry.facts["percent"] for entry in found] == percents
    assert all(entry.tag is Tag.METER_ALERT for entry in found)
    # The same from nothing, where it was given back before.
    again = ledger.adjust(ledger.void(held.reservation).reservation, usd(took))
    found = told_later(draw, Usage(held=others, posted=took), again)
    marks = [each for each in (50, 80, 100) if others < each <= others + took]
    assert [entry.facts["percent"] for entry in found] == marks


def test_a_correction_upwards_reaches_shares_and_one_downwards_none() -> None:
    draw = drawing(usd(40), usd(100))
    held = ledger.reserve(draw, Usage(), NOW)
    assert held is not None
    posted = ledger.post(held.reservation, usd(40)).reservation
    up = ledger.adjust(posted, usd(85))
    [first, second] = told_later(draw, Usage(posted=85), up)
    assert (first.facts["percent"], second.facts["percent"]) == (50, 80)
    assert (first.facts["used"], first.actor) == ("0.85 USD", "service:me")
    down = ledger.adjust(up.reservation, usd(60))
    assert told_later(draw, Usage(posted=60), down) == []


def test_what_people_let_pass_counts_towards_no_share_later_either() -> None:
    draw, usage = drawing(usd(10), usd(100)), Usage(held=100)
    held = ledger.reserve(draw, usage, NOW, override=True)
    assert held is not None
    assert held.reservation.override == 10
    less = ledger.post(held.reservation, usd(4))
    assert told_later(draw, Usage(held=100, posted=4, overridden=4), less) == []


def test_of_a_calendar_the_window_is_named_and_of_others_none() -> None:
    for window in (Calendar(unit=Unit.DAY), Rolling(span=timedelta(days=1)), AllTime()):
        draw = drawing(usd(10), usd(100), window)
        held = ledger.reserve(draw, Usage(), NOW)
        assert held is not None
        [entry] = told_later(draw, Usage(posted=60), ledger.post(held.reservation, usd(60)))
        named = isinstance(window, Calendar)
        start = "2026-11-21T00:00:00+00:00"
        assert entry.facts.get("window") == (start if named else None)


def test_what_no_longer_counts_or_has_no_limit_reaches_nothing() -> None:
    draw = drawing(usd(10), usd(100))
    held = ledger.reserve(draw, Usage(), NOW)
    assert held is not None
    overrun = ledger.post(held.reservation, usd(60))
    assert told_later(draw, None, overrun) == []
    change = Change(call=make_call(), event=Event.SUCCEED, bookings=(overrun,))
    assert list(booked(change, {}, {})) == []
