"""Meters: how much may be spent in a window, by whom, and how much of it is left.

A call draws on a meter in minor units of the meter's one currency. What is held for calls under
way counts as spent, so an approval can never fail on money. The sums are kept in the store; here
stands what they mean.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from approval.core.money import CAP, Money
from approval.core.refusals import Refusal, worded_instant, worded_span
from approval.core.scopes import Key, Scope, keys, stable_id
from approval.core.subject import Subject
from approval.core.windows import AllTime, Calendar, Rolling, Unit, Window

USES: Final = "use"
"""The unit of a meter that counts calls. No code of a currency is in small letters."""

SHARED: Final = "[meters]"
"""The origin of the meters that all upstreams share: no policy is called so."""

ALERTS: Final = (50, 80, 100)
"""Percentages of a limit at which people are told."""


class Over(enum.StrEnum):
    """What becomes of a call for which a meter has no room."""

    DENY = "deny"
    ASK = "ask"


@dataclass(frozen=True, slots=True, kw_only=True)
class Soft:
    """Who may let calls pass beyond the limit, and by how much in one window, all calls together.

    The cap is for the window, not for each call: many small overrides must not add up to no limit.
    """

    override_by: tuple[str, ...]
    up_to: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A limit on what is spent in a window. `origin` names the document that it belongs to.

    Without `soft` nobody can exceed it. With it, `over` says what becomes of a call that no rule
    holds: it is denied, or held for those who may override.
    """

    name: str
    origin: str
    limit: Money
    window: Window
    scope: tuple[Scope, ...] = ()
    soft: Soft | None = None
    over: Over = Over.DENY

    def __post_init__(self) -> None:
        if self.soft is None and self.over is Over.ASK:
            raise ValueError("a hard meter has nobody to ask")
        if self.soft is not None and self.soft.up_to.currency != self.limit.currency:
            raise ValueError("a meter has one currency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What one call takes from one meter. `key` says whose sums `meter_id` names."""

    meter_id: str
    key: Key
    meter: Meter
    amount: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The sums of one meter in one window, in minor units; `overridden` is within the other two."""

    held: int = 0
    posted: int = 0
    overridden: int = 0

    def __post_init__(self) -> None:
        if min(self.held, self.posted, self.overridden) < 0 or self.overridden > self.taken:
            raise ValueError("the sums of a meter contradict themselves")

    @property
    def taken(self) -> int:
        return self.held + self.posted

    @property
    def counted(self) -> int:
        """What counts towards the limit."""
        return self.taken - self.overridden


def draws(
    meter: Meter, subject: Subject, amount: Money, *, grant: str | None = None
) -> tuple[Draw, ...]:
    """Give what a call takes from a meter: from each group's own, where groups are counted."""
    return tuple(
        Draw(meter_id=meter_id(meter, key), key=key, meter=meter, amount=amount)
        for key in keys(meter.scope, subject, grant)
    )


def all_draws(
    meters: Iterable[Meter], subject: Subject, amount: Money, *, grant: str | None = None
) -> tuple[Draw, ...]:
    """Give what a call takes from several meters, once from each, in the order to lock them."""
    found = [draw for meter in meters for draw in draws(meter, subject, amount, grant=grant)]
    return tuple(sorted({draw.meter_id: draw for draw in found}.values(), key=_lock_order))


def under_grant(draw: Draw, grant: str) -> Draw:
    """Give what a call takes instead that passes under a grant, from a meter that counts by it."""
    key = tuple((scope, grant if scope is Scope.GRANT else value) for scope, value in draw.key)
    return draw if key == draw.key else replace(draw, key=key, meter_id=meter_id(draw.meter, key))


def meter_id(meter: Meter, key: Key) -> str:
    """Name the sums of a meter, the same for as long as they mean the same.

    The limit has no part in it, nor has a rolling span, a zone, the first day of a week or who may
    override: whoever changes them keeps what was spent. Where the window that counts now begins at
    another instant, the store finds what was spent in it in the rows of before. Another currency,
    scope or kind of window begins anew, because the old sums say nothing about it.
    """
    currency, kind = meter.limit.currency, meter.window.kind
    return stable_id("meter", meter.origin, meter.name, currency, kind, key)


def window_start(draw: Draw, now: datetime) -> datetime:
    """Give the instant that, with `meter_id`, names the row of sums which is written now."""
    return draw.meter.window.row(now)


# --- room ---


def room(draw: Draw, usage: Usage) -> Money:
    """Give what is left under the limit; nothing where more was taken than it allows."""
    limit = draw.meter.limit
    return Money(max(0, limit.minor - usage.counted), limit.currency)


def admits(draw: Draw, usage: Usage, *, override: bool = False) -> bool:
    """Say whether the call fits; with `override`, whether it fits with what people may let pass."""
    meter = draw.meter
    if draw.amount.currency != meter.limit.currency:
        return False
    excess = overshoot(draw, usage)
    if excess == 0:
        return True
    if not override or meter.soft is None:
        return False
    return usage.overridden + excess <= meter.soft.up_to.minor


def overshoot(draw: Draw, usage: Usage) -> int:
    """Give how much of this call an override would have to cover, in minor units.

    Never more than the call: what others took beyond the limit is not its matter.
    """
    excess = usage.counted + draw.amount.minor - draw.meter.limit.minor
    return min(max(0, excess), draw.amount.minor)


def room_at(
    draw: Draw, window: Rolling, counted: Iterable[tuple[datetime, int]], now: datetime
) -> datetime | None:
    """Give the first instant at which enough has rolled out of the window; None when never.

    `counted` is every reservation in the window: since when it counts, and how much towards the
    limit.
    """
    limit, amount = draw.meter.limit, draw.amount
    if amount.currency != limit.currency or amount.minor > limit.minor:
        return None
    entries = sorted((at, minor) for at, minor in counted if at > window.start(now))
    excess = sum(minor for _, minor in entries) + amount.minor - limit.minor
    rolled_out = now
    for at, minor in entries:
        if excess <= 0:
            break
        excess -= minor
        rolled_out = at + window.span
    return rolled_out


def alerts(before: int, after: int, limit: Money) -> tuple[int, ...]:
    """Give the percentages of the limit that were reached on the way from `before` to `after`.

    Both are what counts towards the limit, in minor units; on the way down nothing is reached.
    """
    return tuple(
        percent for percent in ALERTS if before * 100 < percent * limit.minor <= after * 100
    )


# --- words ---


def words(draw: Draw, usage: Usage, *, at_most: bool = False) -> str:
    """Word for the card what is left before this call and after it: `usage` leaves it out.

    With `at_most` the call may still come to less.
    """
    meter, left = draw.meter, room(draw, usage)
    told = f"{shown(left)} of {shown(meter.limit)} left {current(meter.window)}"
    if draw.amount.currency != left.currency:
        return f"{told}; this is in another currency, {draw.amount}"
    if left < draw.amount:
        return f"{told}, {shown(draw.amount - left)} too little for this"
    least = "at least " if at_most else ""
    return f"{told}, {least}{shown(left - draw.amount)} after this"


def refusal(
    draw: Draw, usage: Usage, now: datetime, *, rolled_out: datetime | None = None
) -> Refusal:
    """Word why a call does not fit. `rolled_out` is `room_at`, for a window that rolls."""
    meter = draw.meter
    named = (meter.origin, meter.name)
    limit = f"The limit {meter.name} is {limit_words(meter)}"
    if draw.amount.currency != meter.limit.currency:
        text = f"{limit}; this call needs {draw.amount}, which it cannot count."
        return Refusal(code="currency", text=text, limit=named)
    text = (
        f"{limit}; {plain_minor(usage.taken, meter.limit)} is used or held,"
        f" {_plain(room(draw, usage))} is left, this call needs {_plain(draw.amount)}."
    )
    if draw.amount > meter.limit:
        return Refusal(
            code="limit", text=f"{text} Waiting does not help: ask for less.", limit=named
        )
    if isinstance(meter.window, Calendar):
        resets = meter.window.end(now)
        text = f"{text} It resets at {worded_instant(resets)}."
        return Refusal(code="limit", text=text, retry_after=resets - now, limit=named)
    if rolled_out is not None:
        text = f"{text} There is room from {worded_instant(rolled_out)}."
        wait = max(rolled_out - now, timedelta(0))
        return Refusal(code="limit", text=text, retry_after=wait, limit=named)
    return Refusal(code="limit", text=text, limit=named)


def limit_words(meter: Meter) -> str:
    """Word a limit and how often it is given: `5.00 USD a day`."""
    return f"{_plain(meter.limit)} {_each(meter.window)}"


def _each(window: Window) -> str:
    """Word how often a limit is given, to follow it: `5.00 USD a day`."""
    match window:
        case Calendar():
            return f"a {window.unit}"
        case Rolling():
            return f"in any {worded_span(window.span)}"
        case AllTime():
            return "in all"


def current(window: Window) -> str:
    """Word the window that counts now, to follow what is left in it: `left this month`."""
    match window:
        case Calendar(unit=Unit.DAY):
            return "today"
        case Calendar():
            return f"this {window.unit}"
        case Rolling():
            return f"in any {worded_span(window.span)}"
        case AllTime():
            return "in all"


def shown(money: Money) -> str:
    """Word money as people write it on cards."""
    text = _plain(money)
    return f"${text.removesuffix(' USD')}" if money.currency == "USD" else text


def _plain(money: Money) -> str:
    if money.currency != USES:
        return str(money)
    return "1 use" if money.minor == 1 else f"{money.minor} uses"


def plain_minor(minor: int, like: Money) -> str:
    """Word a sum, which may be beyond what a single amount can be."""
    return _plain(Money(min(minor, CAP), like.currency))


def _lock_order(draw: Draw) -> str:
    return draw.meter_id
