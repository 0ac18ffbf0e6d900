"""Windows tile time: every instant is in exactly one, whatever the clocks of its zone do."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from approval.core.windows import (
    ALWAYS,
    AllTime,
    Calendar,
    Rolling,
    Unit,
    Weekday,
    Window,
    is_zone,
    last_days,
)

TICK = timedelta(microseconds=1)

# Each with what its clocks have done: day zones, half hours, and midnights skipped or repeated.
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",  # midnight twice
    "America/Sao_Paulo",  # midnight skipped, and 23:00 twice
    "Africa/Cairo",  # midnight skipped
    "Asia/Beirut",
    "America/Asuncion",
    "America/Toronto",  # 1919: from 23:30 to 00:30
    "Pacific/Apia",  # 2011: without the 30th of December
    "Pacific/Kwajalein",  # 1993: without the 21st of August
    "America/Juneau",  # 1867: a day twice
    "Asia/Manila",  # 1844: without the 31st of December
    "Australia/Lord_Howe",  # half an hour
    "Asia/Kathmandu",
    "Africa/Monrovia",  # 44 minutes and 30 seconds
]
CALENDARS = st.builds(
    Calendar,
    unit=st.sampled_from(list(Unit)),
    zone=st.sampled_from(ZONES),
    week_start=st.sampled_from(list(Weekday)),
)
FIRST, YEARS = datetime(1840, 1, 1, tzinfo=UTC), 560
INSTANTS = st.timedeltas(timedelta(0), timedelta(days=365 * YEARS)).map(lambda since: FIRST + since)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


TROUBLE = st.sampled_from(
    [
        ("America/Havana", utc("2026-11-01T05:00")),
        ("America/Havana", utc("2026-03-08T05:00")),
        ("America/Sao_Paulo", utc("2018-02-18T02:00")),
        ("America/Sao_Paulo", utc("2018-11-04T03:00")),
        ("Asia/Beirut", utc("1984-04-30T22:00")),
        ("America/Toronto", utc("1919-03-31T04:30")),
        ("Pacific/Apia", utc("2011-12-30T10:00")),
        ("Pacific/Kwajalein", utc("1993-08-21T12:00")),
        ("America/Juneau", utc("1867-10-19T00:31:13")),
        ("Asia/Manila", utc("1844-12-31T00:00")),
        ("Africa/Monrovia", utc("1972-01-07T00:44:30")),
    ]
)
NEAR_TROUBLE = st.builds(
    lambda trouble, unit, away: (Calendar(unit=unit, zone=trouble[0]), trouble[1] + away),
    TROUBLE,
    st.sampled_from(list(Unit)),
    st.timedeltas(timedelta(days=-2), timedelta(days=2)),
)
"""A calendar, and an instant close to where its zone's clocks jump."""


def calendar(unit: str, zone: str = "UTC", week_start: str = "monday") -> Calendar:
    return Calendar(unit=Unit(unit), zone=zone, week_start=Weekday(week_start))


@pytest.mark.parametrize(
    ("window", "now", "start", "end"),
    [
        (calendar("day"), "2026-11-25T00:00:00", "2026-11-25T00:00", "2026-11-26T00:00"),
        (calendar("day"), "2026-11-25T23:59:59.999999", "2026-11-25T00:00", "2026-11-26T00:00"),
        (calendar("week"), "2026-11-25T10:00", "2026-11-23T00:00", "2026-11-30T00:00"),
        (calendar("week", "UTC", "sunday"), "2026-11-25T10", "2026-11-22", "2026-11-29"),
        (calendar("week", "UTC", "sunday"), "2026-11-22T00", "2026-11-22", "2026-11-29"),
        (calendar("week", "UTC", "thursday"), "2026-11-25T10", "2026-11-19", "2026-11-26"),
        (calendar("week"), "2027-01-01T10:00", "2026-12-28", "2027-01-04"),
        (calendar("month"), "2026-11-30T23:59", "2026-11-01", "2026-12-01"),
        (calendar("month"), "2026-12-31T23:59", "2026-12-01", "2027-01-01"),
        (calendar("month"), "2027-01-31T12:00", "2027-01-01", "2027-02-01"),
        (calendar("month"), "2028-02-29T12:00", "2028-02-01", "2028-03-01"),
        (calendar("year"), "2026-12-31T23:59", "2026-01-01", "2027-01-01"),
        # Berlin's day begins an hour or two before UTC's.
        (calendar("day", "Europe/Berlin"), "2026-11-25T23:30", "2026-11-25T23", "2026-11-26T23"),
        (calendar("month", "Europe/Berlin"), "2026-10-31T23", "2026-10-31T23", "2026-11-30T23"),
        (calendar("year", "Europe/Berlin"), "2026-07-01", "2025-12-31T23", "2026-12-31T23"),
        # Of 23 and of 25 hours.
        (calendar("day", "Europe/Berlin"), "2026-03-29T12", "2026-03-28T23", "2026-03-29T22"),
        (calendar("day", "Europe/Berlin"), "2026-10-25T12", "2026-10-24T22", "2026-10-25T23"),
        # Midnight twice: the day begins with the first.
        (calendar("day", "America/Havana"), "2026-11-01T04:30", "2026-11-01T04", "2026-11-02T05"),
        (calendar("day", "America/Havana"), "2026-11-01T05:30", "2026-11-01T04", "2026-11-02T05"),
        # 23:00 to 24:00 twice, and then midnight once.
        (calendar("day", "America/Sao_Paulo"), "2018-02-18T02", "2018-02-17T02", "2018-02-18T03"),
        # No midnight: the day begins at one o'clock.
        (calendar("day", "America/Sao_Paulo"), "2018-11-04T12", "2018-11-04T03", "2018-11-05T02"),
        (calendar("month", "Asia/Beirut"), "1984-05-03", "1984-04-30T22", "1984-05-31T21"),
        # From 23:30 to 00:30: the day begins with the jump.
        (calendar("day", "America/Toronto"), "1919-03-31T12", "1919-03-31T04:30", "1919-04-01T04"),
        (calendar("day", "America/Toronto"), "1919-03-31T04", "1919-03-30T05", "1919-03-31T04:30"),
        # A day that never was is no window.
        (calendar("day", "Pacific/Apia"), "2011-12-30T09:59", "2011-12-29T10", "2011-12-30T10"),
        (calendar("day", "Pacific/Apia"), "2011-12-30T10", "2011-12-30T10", "2011-12-31T10"),
        # A day that comes twice is one window, as long as two.
        (
            calendar("day", "America/Juneau"),
            "1867-10-18T12",
            "1867-10-18T08:57:41",
            "1867-10-20T08:57:41",
        ),
    ],
)
def test_a_window_begins_at_its_first_local_instant(
    window: Calendar, now: str, start: str, end: str
) -> None:
    assert window.start(utc(now)) == utc(start)
    assert window.end(utc(now)) == utc(end)
    assert window.row(utc(now)) == utc(start)
    assert window.start(utc(now)).tzinfo is UTC


@given(case=st.tuples(CALENDARS, INSTANTS) | NEAR_TROUBLE)
@example(case=(calendar("day", "America/Juneau"), utc("1867-10-18T20:00")))
@settings(deadline=None, max_examples=400)
def test_every_instant_is_in_exactly_one_window(case: tuple[Calendar, datetime]) -> None:
    window, now = case
    start, end = window.start(now), window.end(now)
    assert start <= now < end
    for within in (start, end - TICK):
        assert (window.start(within), window.end(within)) == (start, end)
    assert window.start(end) == end
    assert window.end(start - TICK) == start


@given(case=st.tuples(CALENDARS, INSTANTS) | NEAR_TROUBLE)
@settings(deadline=None, max_examples=400)
def test_a_window_begins_when_the_clock_first_shows_its_first_day(
    case: tuple[Calendar, datetime],
) -> None:
    window, now = case
    zone, start = ZoneInfo(window.zone), window.start(now)
    clock = start.astimezone(zone).replace(tzinfo=None)
    midnight = clock.replace(hour=0, minute=0, second=0, microsecond=0)
    assert (start - TICK).astimezone(zone).replace(tzinfo=None) < midnight <= clock
    if window.unit is Unit.WEEK and clock == midnight:
        assert list(Weekday)[clock.weekday()] is window.week_start
    if window.unit in {Unit.MONTH, Unit.YEAR} and clock == midnight:
        assert clock.day == 1


@given(
    unit=st.sampled_from(list(Unit)),
    zones=st.tuples(*[st.sampled_from([*ZONES, "Etc/GMT+12", "Pacific/Kiritimati"])] * 2),
    starts=st.tuples(*[st.sampled_from(list(Weekday))] * 2),
    now=INSTANTS.filter(lambda now: now.year >= 1970),
    where=st.floats(0, 1),
)
@example(
    unit=Unit.DAY,
    zones=("Pacific/Apia", "UTC"),
    starts=(Weekday.MONDAY, Weekday.MONDAY),
    now=utc("2011-12-30T11:00"),
    where=0.5,
)
@settings(deadline=None, max_examples=1000)
def test_windows_of_other_clocks_that_reach_into_one_began_in_its_reach(
    unit: Unit,
    zones: tuple[str, str],
    starts: tuple[Weekday, Weekday],
    now: datetime,
    where: float,
) -> None:
    one, other = (
        Calendar(unit=unit, zone=zone, week_start=start)
        for zone, start in zip(zones, starts, strict=True)
    )
    start, end = one.start(now), one.end(now)
    within = start + where * (end - TICK - start)
    assert one.reached_from(now) < start
    assert one.reached_from(now) <= other.start(within) < end
    assert other.start(start) >= one.reached_from(now)


@given(now=INSTANTS, zone=st.sampled_from(ZONES))
def test_the_zone_of_now_itself_does_not_matter(now: datetime, zone: str) -> None:
    window = calendar("day", "Europe/Berlin")
    assert window.start(now.astimezone(ZoneInfo(zone))) == window.start(now)


@given(now=INSTANTS)
def test_a_rolling_window_is_one_row_and_ends_now(now: datetime) -> None:
    window = Rolling(span=timedelta(hours=24))
    assert window.start(now) == now - timedelta(hours=24)
    assert window.row(now) == ALWAYS


@given(now=INSTANTS)
def test_all_time_is_one_row(now: datetime) -> None:
    assert AllTime().row(now) == ALWAYS == datetime(1970, 1, 1, tzinfo=UTC)


def test_kinds_of_windows_are_told_apart() -> None:
    windows: list[Window] = [*map(calendar, Unit), Rolling(span=timedelta(days=1)), AllTime()]
    assert [window.kind for window in windows] == [
        *("day", "week", "month", "year", "rolling", "all_time")
    ]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("UTC", True),
        ("Europe/Berlin", True),
        ("Asia/Kathmandu", True),
        ("europe/berlin", False),
        ("Europe/Berlino", False),
        ("localtime", False),
        ("Europe", False),
        ("../../etc/passwd", False),
        ("/etc/localtime", False),
        ("", False),
        ("UTC\0", False),
        ("+02:00", False),
    ],
)
def test_a_zone_is_one_that_every_machine_has(name: str, known: bool) -> None:
    assert is_zone(name) is known


# --- the last days of a zone ---


@pytest.mark.parametrize(
    ("zone", "now", "began"),
    [
        ("UTC", "2026-03-01T00:00", ["2026-02-27T00:00", "2026-02-28T00:00", "2026-03-01T00:00"]),
        (
            "Europe/Berlin",
            "2026-03-30T12:00",
            ["2026-03-27T23:00", "2026-03-28T23:00", "2026-03-29T22:00"],
        ),
        # In Havana midnight is skipped in spring.
        (
            "America/Havana",
            "2026-03-09T12:00",
            ["2026-03-07T05:00", "2026-03-08T05:00", "2026-03-09T04:00"],
        ),
        # Samoa had no 30 December in 2011.
        (
            "Pacific/Apia",
            "2011-12-31T12:00",
            ["2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00"],
        ),
    ],
)
def test_the_last_days_are_those_that_clocks_showed(zone: str, now: str, began: list[str]) -> None:
    at = datetime.fromisoformat(f"{now}:00+00:00")
    *starts, end = last_days(zone, at, 3)
    assert [f"{start:%Y-%m-%dT%H:%M}" for start in starts] == began
    assert end == Calendar(unit=Unit.DAY, zone=zone).end(at)


@given(now=INSTANTS, zone=st.sampled_from(ZONES), count=st.integers(1, 40))
@example(now=utc("2011-12-31T12:00"), zone="Pacific/Apia", count=3)
@example(now=utc("2026-11-02T12:00"), zone="America/Havana", count=3)
@settings(deadline=None)
def test_the_last_days_are_one_after_the_other_and_each_is_a_date(
    now: datetime, zone: str, count: int
) -> None:
    bounds = last_days(zone, now, count)
    assert len(bounds) == count + 1
    assert bounds[-2] <= now < bounds[-1]
    dates = [bound.astimezone(ZoneInfo(zone)).date() for bound in bounds[:-1]]
    assert dates == sorted(set(dates))
    day = Calendar(unit=Unit.DAY, zone=zone)
    assert [day.end(start) for start in bounds[:-1]] == list(bounds[1:])
