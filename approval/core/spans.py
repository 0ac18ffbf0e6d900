"""Spans of time as people write them: `90s`, `15m`, `24h`, `30d`."""

from datetime import timedelta
from typing import Final

LONGEST: Final = timedelta(days=365)
UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def read_duration(text: str) -> timedelta | None:
    """Read `"90s"`, `"15m"`, `"2h"` or `"1d"`: from a second to 365 days, else None."""
    digits, unit = text[:-1], UNITS.get(text[-1:])
    if unit is None or not (digits.isascii() and digits.isdecimal()) or len(digits) > 9:
        return None
    duration = timedelta(**{unit: int(digits)})
    return duration if timedelta(0) < duration <= LONGEST else None


def span_text(span: timedelta) -> str:
    """Write a span as `read_duration` reads it, in its largest whole unit; a day is `"24h"`."""
    seconds = span // timedelta(seconds=1)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        # As elsewhere: a day alone reads as a calendar day, which a span is not.
        if seconds % size == 0 and (unit != "d" or seconds > size):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
