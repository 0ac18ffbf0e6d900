"""Windows over which a meter sums: calendar periods of a time zone, a rolling span, or all time.

A calendar window is named by the UTC instant at which its local period starts. Whoever reserves
writes that instant down, so a later change of zone data moves no sum that was already counted; what
falls into the window that counts now is found all the same, by when it was reserved.

A local period starts at the first instant at which a clock of the zone reads its midnight or
later. Told that way there is one answer on every day: where midnight is skipped it is the moment
the clock jumps, where midnight comes twice it is the first, and days of 23 and 25 hours need no
case of their own.
"""

import enum
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo, available_timezones

ALWAYS: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The one row of a meter whose sums no calendar divides."""

_SECOND = timedelta(seconds=1)


class Unit(enum.StrEnum):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


class Weekday(enum.StrEnum):
    """A day that a week may start on, in the order of `datetime.weekday`."""

    MONDAY = "monday"
    TUESDAY = "tuesday"
    WEDNESDAY = "wednesday"
    THURSDAY = "thursday"
    FRIDAY = "friday"
    SATURDAY = "saturday"
    SUNDAY = "sunday"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Days, weeks, months or years, one after the other, as clocks in `zone` show them."""

    unit: Unit
    zone: str = "UTC"
    week_start: Weekday = Weekday.MONDAY

    @property
    def kind(self) -> str:
        return self.unit

    def start(self, now: datetime) -> datetime:
        """Give the UTC instant at which the window that holds `now` began."""
        return _bounds(self, now)[0]

    def end(self, now: datetime) -> datetime:
        """Give the UTC instant at which the window that holds `now` ends: the next one's start."""
        return _bounds(self, now)[1]

    def row(self, now: datetime) -> datetime:
        """Give the instant that names its row of sums."""
        return self.start(now)

    def reached_from(self, now: datetime) -> datetime:
        """Give an instant before which no window began that reaches into the one that holds `now`.

        Of windows of the same unit, that is, whatever clocks or first day of a week they go by:
        since clocks agree on the date line, none of them is as long as two of these.
        """
        before = self.start(self.start(now) - timedelta.resolution)
        return self.start(before - timedelta.resolution)

    def period(self, day: date) -> date:
        """Give the first day of the window that `day` belongs to, by the zone's clocks."""
        match self.unit:
            case Unit.DAY:
                return day
            case Unit.WEEK:
                first = list(Weekday).index(self.week_start)
                return day - timedelta(days=(day.weekday() - first) % 7)
            case Unit.MONTH:
                return day.replace(day=1)
            case Unit.YEAR:
                return day.replace(month=1, day=1)

    def following(self, period: date) -> date:
        """Give the first day of the window after the one that begins with `period`."""
        match self.unit:
            case Unit.DAY:
                return period + timedelta(days=1)
            case Unit.WEEK:
                return period + timedelta(days=7)
            case Unit.MONTH:
                # No month is longer than 31 days, and none so short that two fit into 32.
                return (period + timedelta(days=31)).replace(day=1)
            case Unit.YEAR:
                return period.replace(year=period.year + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolling:
    """The span that ends now: what happened exactly `span` ago no longer counts.

    No instant empties it. It empties entry by entry.
    """

    span: timedelta

    @property
    def kind(self) -> str:
        return "rolling"

    def start(self, now: datetime) -> datetime:
        """Give the instant after which things count."""
        return now - self.span

    def row(self, now: datetime) -> datetime:
        return ALWAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class AllTime:
    """One window that never ends."""

    @property
    def kind(self) -> str:
        return "all_time"

    def row(self, now: datetime) -> datetime:
        return ALWAYS


Window: TypeAlias = Calendar | Rolling | AllTime


def last_days(zone: str, now: datetime, count: int) -> tuple[datetime, ...]:
    """Give the instants at which the last `count` days of a zone began, and when today ends.

    The oldest comes first. Clocks of the zone show the day that each begins, however long it is.
    """
    day = Calendar(unit=Unit.DAY, zone=zone)
    bounds = [day.end(now), day.start(now)]
    while len(bounds) <= count:
        bounds.append(day.start(bounds[-1] - timedelta.resolution))
    return tuple(reversed(bounds))


@cache
def is_zone(name: str) -> bool:
    """Say whether `name` is a zone on every machine: spelled exactly, and not its own `localtime`.

    A file system that ignores case would load `europe/berlin` here and fail elsewhere.
    """
    return name == "UTC" or (name != "localtime" and name in available_timezones())


@lru_cache(maxsize=256)
def _bounds(window: Calendar, now: datetime) -> tuple[datetime, datetime]:
    """Give start and end. Remembered: one admission asks for the same ones several times."""
    zone = ZoneInfo(window.zone)
    period = window.period(now.astimezone(zone).date())
    while (end := _midnight(window.following(period), zone)) <= now:
        # A clock set back over midnight shows yesterday again; yesterday's window is over.
        period = window.following(period)
    return _midnight(period, zone), end


@lru_cache(maxsize=1024)
def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """Give the first instant at which clocks in `zone` read the midnight of `day`, or later."""
    wanted = datetime.combine(day, time())
    # Of a midnight that comes twice, the first (fold is 0).
    instant = wanted.replace(tzinfo=zone).astimezone(UTC)
    if _clock(instant, zone) == wanted:
        return instant
    return _jump(wanted, zone)


def _jump(wanted: datetime, zone: ZoneInfo) -> datetime:
    """Find the second at which clocks in `zone` jump over `wanted`."""
    before = wanted.replace(tzinfo=zone, fold=1).astimezone(UTC)
    after = wanted.replace(tzinfo=zone, fold=0).astimezone(UTC)
    while after - before > _SECOND:
        middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
        if _clock(middle, zone) < wanted:
            before = middle
        else:
            after = middle
    return after


def _clock(instant: datetime, zone: ZoneInfo) -> datetime:
    """Read a clock of `zone` at this instant."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)
