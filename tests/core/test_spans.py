"""Spans of time: read strictly, and written as they are read."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.core.spans import LONGEST, read_duration, span_text


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        ("365d", timedelta(days=365)),
        ("366d", None),
        ("0s", None),
        ("-1m", None),
        ("1.5h", None),
        ("15", None),
        ("m", None),
        ("", None),
        ("15 m", None),
        ("15M", None),
        ("\u0661m", None),
        ("9" * 10 + "s", None),
        ("15ms", None),
    ],
)
def test_a_duration_is_a_number_and_one_unit(text: str, duration: timedelta | None) -> None:
    assert read_duration(text) == duration


@given(st.integers(1, LONGEST // timedelta(seconds=1)))
def test_what_is_written_is_read_as_the_same_span(seconds: int) -> None:
    span = timedelta(seconds=seconds)
    assert read_duration(span_text(span)) == span


def test_a_day_is_written_as_hours() -> None:
    # A day alone reads as a calendar day, which a span is not.
    assert [span_text(timedelta(days=days)) for days in (1, 2)] == ["24h", "2d"]
