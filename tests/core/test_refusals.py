"""The words of refusals: exact enough to act on, and never too early."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from approval.core.refusals import Refusal, longest, worded_instant, worded_span, worded_wait


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


@pytest.mark.parametrize(
    ("waits", "told"),
    [
        ((3,), 0),
        ((1, 3, 2), 1),
        ((3, None, 5), 1),
        ((None, 7), 0),
        ((2, 2), 0),
    ],
)
def test_the_longest_wait_covers_the_others_and_none_at_all_is_longer_still(
    waits: tuple[int | None, ...], told: int
) -> None:
    refusals = [
        Refusal(
            code="limit",
            text=str(number),
            retry_after=None if wait is None else timedelta(seconds=wait),
        )
        for number, wait in enumerate(waits)
    ]
    assert longest(refusals) is refusals[told]
