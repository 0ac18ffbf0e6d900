"""The ring is a log of every admitted call: it admits the same, and forgets nothing it needs."""

from bisect import bisect_right
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from approval.core.rates import (
    MOST_SLOTS,
    Algorithm,
    Rate,
    Ring,
    Taken,
    Wait,
    carry_count,
    carry_over,
    count,
    count_start,
    next_slots,
    rate_keys,
    refusal,
    take,
)
from approval.core.scopes import Scope
from approval.core.subject import Subject

NOW = datetime(2026, 11, 25, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TICK = timedelta(microseconds=1)
OPS = Subject(agent="ops", upstream="shop", tool="buy", arguments={}, groups=("a", "b"))


def rate(most: int = 10, window: timedelta = MINUTE, cost: int = 1) -> Rate:
    return Rate(
        origin="p", name="/tools/x/rate_limit", path="/x", max=most, window=window, cost=cost
    )


CALENDAR = replace(rate(), algorithm=Algorithm.CALENDAR)


class Slots:
    """The rows of a ring, as a store keeps them."""

    def __init__(self, limit: Rate, ring: Ring | None = None) -> None:
        ring = ring or Ring()
        self.limit, self.n = limit, ring.n
        self.at = dict(enumerate(ring.slots))

    def ask(self, now: datetime) -> Taken | Wait:
        old = [self.at.get(slot) for slot in next_slots(self.limit, self.n)]
        return take(self.limit, self.n, old, now)

    def call(self, now: datetime) -> Taken | Wait:
        found = self.ask(now)
        if isinstance(found, Taken):
            self.n = found.n
            self.at.update(dict.fromkeys(found.slots, now))
        return found


class Log:
    """The meaning itself: every admitted call, and how many are younger than a window."""

    def __init__(self, limit: Rate) -> None:
        self.limit = limit
        self.admitted: list[datetime] = []

    def fits(self, now: datetime) -> bool:
        young = len(self.admitted) - bisect_right(self.admitted, now - self.limit.window)
        return young + self.limit.cost <= self.limit.max

    def call(self, now: datetime) -> bool:
        fits = self.fits(now)
        self.admitted += [now] * (self.limit.cost if fits else 0)
        return fits


# Steps of whole windows and their parts, so that calls fall on the very edge of a window.
WINDOW = timedelta(microseconds=12)
streams = st.lists(
    st.sampled_from([0, 0, 0, 1, 2, 3, 4, 6, 11, 12, 13, 24]) | st.integers(0, 40), max_size=60
)
limits = st.builds(
    lambda most, cost: rate(most, WINDOW, min(cost, most)), st.integers(1, 6), st.integers(1, 3)
)


def instants(stream: list[int]) -> list[datetime]:
    now, found = NOW, []
    for step in stream:
        now += step * TICK
        found.append(now)
    return found


@given(limit=limits, stream=streams)
@settings(max_examples=400, deadline=None)
def test_the_ring_admits_what_a_log_of_all_calls_admits(limit: Rate, stream: list[int]) -> None:
    ring, log = Slots(limit), Log(limit)
    for now in instants(stream):
        assert isinstance(ring.call(now), Taken) is log.call(now)
    event(f"admitted {len(log.admitted) > limit.max}")
    assert ring.n == len(log.admitted)
    assert len(ring.at) <= limit.max


@given(limit=limits, stream=streams)
@settings(max_examples=400, deadline=None)
def test_no_interval_of_a_windows_length_holds_more(limit: Rate, stream: list[int]) -> None:
    ring, admitted = Slots(limit), []
    for now in instants(stream):
        if isinstance(ring.call(now), Taken):
            admitted += [now] * limit.cost
    for last in admitted:
        assert sum(last - limit.window < each <= last for each in admitted) <= limit.max


@given(limit=limits, stream=streams)
@settings(max_examples=400, deadline=None)
def test_a_refused_call_leaves_no_trace_and_is_told_exactly_how_long_to_wait(
    limit: Rate, stream: list[int]
) -> None:
    ring = Slots(limit)
    for now in instants(stream):
        before = (ring.n, dict(ring.at))
        found = ring.call(now)
        if isinstance(found, Taken):
            assert len(set(found.slots)) == limit.cost
            continue
        assert (ring.n, ring.at) == before
        assert timedelta(0) < found.retry_after <= limit.window
        assert isinstance(ring.ask(now + found.retry_after), Taken)
        assert isinstance(ring.ask(now + found.retry_after - TICK), Wait)


@pytest.mark.parametrize("most", [1, 2, 10, 50])
def test_bursts_around_a_boundary_do_not_pass_twice(most: int) -> None:
    ring, admitted = Slots(rate(most)), 0
    for second in (59, 60, 61, 118):
        for _ in range(most):
            admitted += isinstance(ring.call(NOW + timedelta(seconds=second)), Taken)
    assert admitted == most
    assert isinstance(ring.call(NOW + timedelta(seconds=119)), Taken)


@given(
    before=limits,
    after=limits,
    stream=streams,
    later=st.integers(0, 30),
)
@settings(max_examples=300, deadline=None)
def test_changing_the_numbers_forgives_no_remembered_call(
    before: Rate, after: Rate, stream: list[int], later: int
) -> None:
    old, admitted = Slots(before), []
    for now in instants(stream):
        if isinstance(old.call(now), Taken):
            admitted += [now] * before.cost
    ring, log = Slots(after, carry_over(old.at.values(), after)), Log(after)
    log.admitted = admitted[-before.max :]
    start = [NOW, *instants(stream)][-1] + later * TICK
    for step in range(40):
        now = start + step * TICK
        assert isinstance(ring.call(now), Taken) is log.call(now)


def test_the_same_numbers_are_the_same_ring() -> None:
    full = Slots(rate(3))
    for _ in range(3):
        full.call(NOW)
    again = carry_over(full.at.values(), rate(3))
    assert again == Ring(n=3, slots=(NOW, NOW, NOW))
    assert isinstance(Slots(rate(3), again).ask(NOW + MINUTE - TICK), Wait)


# --- the calendar's counter ---


def test_a_counter_begins_anew_with_each_calendar_window() -> None:
    assert count_start(CALENDAR, NOW) == datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
    day = replace(CALENDAR, window=timedelta(days=1))
    assert count_start(day, NOW) == datetime(2026, 11, 25, tzinfo=UTC)
    assert count_start(day, datetime(1969, 12, 31, 1, tzinfo=UTC)) == datetime(
        1969, 12, 31, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("cost", "counted", "found"),
    [
        (1, 0, 1),
        (1, 9, 10),
        (1, 10, Wait(retry_after=timedelta(seconds=30))),
        (1, 99, Wait(retry_after=timedelta(seconds=30))),
        (4, 6, 10),
        (4, 7, Wait(retry_after=timedelta(seconds=30))),
    ],
)
def test_a_counter_counts_to_its_maximum(cost: int, counted: int, found: int | Wait) -> None:
    assert count(replace(CALENDAR, cost=cost), counted, NOW) == found


def test_a_counter_that_replaces_a_ring_counts_what_the_ring_remembers() -> None:
    seconds = (1, 29, 30, 31, 90)
    admitted = [NOW - timedelta(seconds=second) for second in seconds]
    assert carry_count(admitted, CALENDAR, NOW) == 3


# --- whose count ---


def key_ids(of: Rate, subject: Subject = OPS) -> set[str]:
    return {each.id for each in rate_keys(of, subject)}


def families(of: Rate, subject: Subject = OPS) -> set[str]:
    return {each.family for each in rate_keys(of, subject)}


@pytest.mark.parametrize(
    ("scope", "other"),
    [
        (Scope.AGENT, replace(OPS, agent="other")),
        (Scope.TOOL, replace(OPS, tool="sell")),
        (Scope.UPSTREAM, replace(OPS, upstream="b")),
        (Scope.GROUP, replace(OPS, groups=("c",))),
    ],
)
def test_a_scope_makes_a_count_for_each(scope: Scope, other: Subject) -> None:
    scoped = replace(rate(), scope=(scope,))
    assert key_ids(scoped).isdisjoint(key_ids(scoped, other))
    unscoped = replace(rate(), scope=tuple(each for each in Scope if each is not scope))
    assert key_ids(unscoped) == key_ids(unscoped, other)


def test_an_agent_in_several_groups_counts_in_each_and_always_in_one_order() -> None:
    scoped = replace(rate(), scope=(Scope.GROUP,))
    found = rate_keys(scoped, OPS)
    assert len(found) == 2
    assert found == rate_keys(scoped, replace(OPS, groups=("b", "a")))


def test_the_id_holds_the_numbers_and_the_family_does_not() -> None:
    others = [rate(11), rate(10, 2 * MINUTE), CALENDAR]
    assert {frozenset(families(each)) for each in others} == {frozenset(families(rate()))}
    ids = [key_ids(each) for each in (rate(), *others)]
    assert len(set().union(*ids)) == 4
    # The cost says what one call takes, not what is kept.
    assert key_ids(rate(cost=2)) == key_ids(rate())
    # A counter goes on counting towards another maximum.
    assert key_ids(CALENDAR) == key_ids(replace(CALENDAR, max=11))


@pytest.mark.parametrize("changed", [{"origin": "q"}, {"name": "/tools/y/rate_limit"}])
def test_limits_of_different_places_are_different(changed: dict[str, str]) -> None:
    other = replace(rate(), origin=changed.get("origin", "p"), name=changed.get("name", "n"))
    assert families(other).isdisjoint(families(rate()))


def test_where_it_stands_in_the_file_does_not_matter() -> None:
    assert key_ids(replace(rate(), path="/elsewhere")) == key_ids(rate())


# --- what is no rate, and what is told ---


@pytest.mark.parametrize(
    ("most", "window", "cost", "why"),
    [
        (0, MINUTE, 1, "admits at least one"),
        (10, MINUTE, 0, "admits at least one"),
        (10, MINUTE, 11, "admits at least one"),
        (10, timedelta(0), 1, "admits at least one"),
        (MOST_SLOTS + 1, MINUTE, 1, "too large"),
    ],
)
def test_what_admits_nothing_or_keeps_too_much_is_no_rate(
    most: int, window: timedelta, cost: int, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        rate(most, window, cost)


def test_a_counter_has_no_such_bound() -> None:
    assert replace(CALENDAR, max=MOST_SLOTS + 1).max == MOST_SLOTS + 1


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (rate(), "The limit of 10 calls in any minute for each agent is reached."),
        (
            rate(1, 90 * timedelta(seconds=1)),
            "The limit of 1 call in any 90 seconds for each agent",
        ),
        (replace(rate(), scope=()), "The limit of 10 calls in any minute is reached."),
        (
            replace(rate(), scope=(Scope.AGENT, Scope.TOOL)),
            "in any minute for each agent and tool is reached.",
        ),
        (CALENDAR, "The limit of 10 calls in each minute for each agent is reached."),
    ],
)
def test_a_refusal_says_which_limit_and_how_long_to_wait(limit: Rate, told: str) -> None:
    found = refusal(limit, Wait(retry_after=timedelta(seconds=11, microseconds=1)))
    assert told in found.text
    assert found.text.endswith(" Try again in 12 s.")
    assert (found.code, found.retry_after) == ("rate", timedelta(seconds=11, microseconds=1))
