"""A refusal for want of room: why a limit or a grant does not let a call pass, and until when."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_SPANS = (
    ("day", timedelta(days=1)),
    ("hour", timedelta(hours=1)),
    ("minute", timedelta(minutes=1)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a call does not pass.

    `code` is stable and short, `text` a sentence for agents and people. `retry_after` is given
    where waiting helps, and is then long enough unless others take the room first. `retryable`
    alone says that waiting helps, and that nobody knows for how long. `limit` names the limit that
    has no room, by its document and its name there.
    """

    code: str
    text: str
    retry_after: timedelta | None = None
    retryable: bool = False
    limit: tuple[str, str] | None = None


def longest(refusals: Iterable[Refusal]) -> Refusal:
    """Give the one that stands longest: who waits as it says has waited for the others as well.

    One without a wait is passed by none, so it comes before all that have one.
    """
    return max(refusals, key=_wait)


def worded_span(span: timedelta) -> str:
    """Word a span in its largest whole unit, to follow "in any": `24 hours`, `7 days`, `minute`."""
    for name, unit in _SPANS:
        # A day alone reads as a calendar day, which a span is not.
        if span % unit == timedelta(0) and (name != "day" or span > unit):
            return _counted(span // unit, name)
    return _counted(span // timedelta(seconds=1), "second")


def worded_instant(instant: datetime) -> str:
    """Word an instant in UTC, to the second and never too early."""
    utc = instant.astimezone(UTC)
    if utc.microsecond:
        utc = utc.replace(microsecond=0) + timedelta(seconds=1)
    return utc.replace(tzinfo=None).isoformat() + "Z"


def worded_wait(wait: timedelta) -> str:
    """Word a wait in whole seconds, rounded up: who waits so long has waited long enough."""
    return f"{-(-wait // timedelta(seconds=1))} s"


def _wait(refusal: Refusal) -> timedelta:
    return timedelta.max if refusal.retry_after is None else refusal.retry_after


def _counted(number: int, unit: str) -> str:
    return unit if number == 1 else f"{number} {unit}s"
