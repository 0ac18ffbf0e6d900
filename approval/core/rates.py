"""Rates: at most so many calls in every interval of a length, counted exactly in a ring.

A ring has `max` slots, and each admitted call writes its instant into the next. The slot to be
written next therefore holds the call admitted `max` calls ago, and whether there is room is
whether that was a window ago. This equals a log of every admitted call at a fixed cost, where
fixed windows and leaky buckets admit up to twice the limit. What is refused leaves no trace; what
was admitted is never given back, since a limit that gives back can be played.

Above `MOST_SLOTS` a ring would be too large, and a counter by calendar stands in for it.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from approval.core.refusals import Refusal, worded_span, worded_wait
from approval.core.scopes import Scope, keys, stable_id
from approval.core.subject import Subject

MOST_SLOTS: Final = 10_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Algorithm(enum.StrEnum):
    RING = "ring"
    CALENDAR = "calendar"
    """Intercept's: minutes, hours and days of UTC, so twice the limit can pass at a boundary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `max` in every `window`; one call counts for `cost`.

    `origin` names the document and `name` the limit in it, the same however entries move about.
    `path` points to where the document says it.
    """

    origin: str
    name: str
    path: str
    max: int
    window: timedelta
    scope: tuple[Scope, ...] = (Scope.AGENT,)
    cost: int = 1
    algorithm: Algorithm = Algorithm.RING

    def __post_init__(self) -> None:
        if not 1 <= self.cost <= self.max or self.window <= timedelta(0):
            raise ValueError("a rate admits at least one call in some time")
        if self.algorithm is Algorithm.RING and self.max > MOST_SLOTS:
            raise ValueError("the ring is too large")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateKey:
    """One count. `family` is whose it is; `id` also says with which numbers it counts.

    Of a family one id is in use. When a call comes under another, `carry_over` fills it from what
    all of them remember, so that a changed limit forgives nothing.
    """

    id: str
    family: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Room, and the slots in which to write the instant; `n` is how many were admitted then."""

    slots: tuple[int, ...]
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """No room until this has passed, and not a microsecond earlier."""

    retry_after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """A ring as the store keeps it: how many were admitted, and the instant in each slot."""

    n: int = 0
    slots: tuple[datetime, ...] = ()


def rate_keys(rate: Rate, subject: Subject, *, grant: str | None = None) -> tuple[RateKey, ...]:
    """Give the counts of a call, in the order to lock them. All of them must have room, or none."""
    found = [_rate_key(rate, key) for key in keys(rate.scope, subject, grant)]
    return tuple(sorted(found, key=lambda each: each.id))


def next_slots(rate: Rate, n: int) -> tuple[int, ...]:
    """Give the slots that the next call takes after `n` were admitted, the oldest first."""
    return tuple((n + number) % rate.max for number in range(rate.cost))


def take(rate: Rate, n: int, old: Iterable[datetime | None], now: datetime) -> Taken | Wait:
    """Say whether a call is admitted; `old` is what stands in its `next_slots`, None where nothing.

    All its slots are free, or it takes none.
    """
    free_at = max((at + rate.window for at in old if at is not None), default=now)
    if free_at > now:
        return Wait(retry_after=free_at - now)
    return Taken(slots=next_slots(rate, n), n=n + rate.cost)


def carry_over(admitted: Iterable[datetime], rate: Rate) -> Ring:
    """Fill a new ring with the last of what those before it remember.

    A counter remembers no instants: give its latest as often as it counted.
    """
    last = sorted(admitted)[-rate.max :]
    return Ring(n=len(last), slots=tuple(last))


def count_start(rate: Rate, now: datetime) -> datetime:
    """Give the start of the calendar window that a counter counts in now."""
    return now - (now - _EPOCH) % rate.window


def count(rate: Rate, counted: int, now: datetime) -> int | Wait:
    """Add a call to what was counted since `count_start`, or say how long to wait."""
    if counted + rate.cost > rate.max:
        return Wait(retry_after=count_start(rate, now) + rate.window - now)
    return counted + rate.cost


def carry_count(admitted: Iterable[datetime], rate: Rate, now: datetime) -> int:
    """Count what those before remember of the window that a new counter counts in now."""
    start = count_start(rate, now)
    return sum(at >= start for at in admitted)


def refusal(rate: Rate, wait: Wait) -> Refusal:
    """Word why there is no room. It names the limit, not the one whose count it is."""
    again = worded_wait(wait.retry_after)
    text = f"The limit of {limit_words(rate)} is reached. Try again in {again}."
    return Refusal(
        code="rate", text=text, retry_after=wait.retry_after, limit=(rate.origin, rate.name)
    )


def limit_words(rate: Rate) -> str:
    """Word a limit: `10 calls in any minute for each agent`."""
    calls = "1 call" if rate.max == 1 else f"{rate.max} calls"
    for_each = f" for each {' and '.join(rate.scope)}" if rate.scope else ""
    in_any = "in each" if rate.algorithm is Algorithm.CALENDAR else "in any"
    return f"{calls} {in_any} {worded_span(rate.window)}{for_each}"


def _rate_key(rate: Rate, key: Sequence[object]) -> RateKey:
    family = stable_id("rate", rate.origin, rate.name, key)
    # The window in microseconds, whole: a float would be another text on another day.
    window = rate.window // timedelta(microseconds=1)
    # A counter with another maximum goes on counting; a ring needs as many slots as its maximum.
    slots = rate.max if rate.algorithm is Algorithm.RING else None
    return RateKey(id=stable_id("rate", family, rate.algorithm, slots, window), family=family)
