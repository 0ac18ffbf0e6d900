"""The words of refusals: exact enough to act on, and never too early."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from approval.core.refusals import worded_instant, worded_span, worded_wait


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(seconds=1), "second"),
        (timedelta(seconds=90), "90 seconds"),
        (timedelta(minutes=1), "minute"),
        (timedelta(minutes=15), "15 minutes"),
        (timedelta(hours=1), "hour"),
        (timedelta(hours=24), "24 hours"),
        (timedelta(hours=36), "36 hours"),
        (timedelta(days=7), "7 days"),
        (timedelta(seconds=1_000_001), "1000001 seconds"),
    ],
)
def test_a_span_is_worded_in_its_largest_whole_unit(span: timedelta, words: str) -> None:
    assert worded_span(span) == words


@pytest.mark.parametrize(
    ("wait", "words"),
    [
        (timedelta(seconds=12), "12 s"),
        (timedelta(seconds=12, microseconds=1), "13 s"),
        (timedelta(microseconds=1), "1 s"),
        (timedelta(days=1), "86400 s"),
    ],
)
def test_a_wait_is_rounded_up(wait: timedelta, words: str) -> None:
    assert worded_wait(wait) == words


def test_an_instant_is_worded_in_utc_and_rounded_up() -> None:
    here = timezone(timedelta(hours=2))
    assert worded_instant(datetime(2026, 11, 25, 1, tzinfo=here)) == "2026-11-24T23:00:00Z"
    late = datetime(2026, 12, 31, 23, 59, 59, 1, tzinfo=UTC)
    assert worded_instant(late) == "2027-01-01T00:00:00Z"
