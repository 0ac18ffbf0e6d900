"""Money and counts on a real database: all of a call fits, or nothing is taken."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from approval.core import admission
from approval.core import ledger as booking
from approval.core.admission import Counted
from approval.core.audit import Entry, Tag
from approval.core.call import Answer, Choice, Status
from approval.core.demand import Count, Holdings
from approval.core.ledger import State
from approval.core.lifecycle import Event
from approval.core.meters import Usage
from approval.core.rates import Algorithm, Rate, rate_keys
from approval.core.rulebook import Rulebook
from approval.core.subject import Subject
from approval.errors import Conflict
from approval.store import ledger
from approval.store.store import SqlStore
from tests.factories import Clock
from tests.store.conftest import Database
from tests.store.spending import (
    BUY,
    NOTHING_DONE,
    answered,
    ask,
    buying,
    claim,
    end,
    lawful,
    pot,
    vote,
)

TEN = 1000
MICROSECOND = timedelta(microseconds=1)
SUBJECT = Subject(agent="ops-agent", upstream="shop", tool=BUY, arguments={})


async def test_who_demands_nothing_meets_nothing(store: SqlStore) -> None:
    met = await store._engine.write(lambda work: ledger.holdings(work, None))
    assert met == Holdings()


# --- what becomes of money ---


@pytest.mark.parametrize(
    ("on_error", "answer", "sums"),
    [
        ("keep", answered(None), (0, 1000, 0)),
        ("keep", answered(700), (0, 700, 0)),
        ("keep", answered(0), (0, 1000, 0)),
        ("keep", answered(1300), (0, 1300, 0)),
        ("keep", NOTHING_DONE, (0, 0, 0)),
        ("keep", answered(None, Status.ERRORED), (0, 1000, 0)),
        ("post", answered(None, Status.ERRORED), (0, 1000, 0)),
        ("void", answered(None, Status.ERRORED), (0, 0, 0)),
    ],
)
async def test_an_ended_call_leaves_what_it_took_and_holds_nothing(
    store: SqlStore,
    database: Database,
    on_error: str,
    answer: Answer,
    sums: tuple[int, int, int],
) -> None:
    rules = buying(on_error=on_error)
    begun = await ask(store, 1, rules)
    assert (begun.event, await pot(database)) == (Event.ALLOW, (1000, 0, 0))
    ended = (await end(store, begun.call, answer)).call

    assert await store.get(ended.id) == ended
    assert all(each.state is not State.HELD for each in ended.reservations)
    assert list((await lawful(database)).values()) == ([] if sums == (0, 0, 0) else [sums])
    entries = await database.execute("SELECT kind, amount FROM ledger_entry ORDER BY id")
    assert entries[0] == ("reserve", TEN)
    assert (
        sum(int(str(amount)) for kind, amount in entries if kind in {"post", "overrun"})
        == (sums[1])
    )


@pytest.mark.parametrize("choice", [Choice.REJECT, Choice.APPROVE])
async def test_a_held_call_holds_its_money_until_it_is_decided(
    store: SqlStore, database: Database, choice: Choice
) -> None:
    rules = buying(asking=True)
    held = (await ask(store, 1, rules)).call
    assert await pot(database) == (1000, 0, 0)
    await vote(store, held, rules, choice)
    kept = await lawful(database)
    assert list(kept.values()) == ([(1000, 0, 0)] if choice is Choice.APPROVE else [])


async def test_what_has_no_room_is_denied_and_leaves_nothing(
    store: SqlStore, database: Database
) -> None:
    rules = buying("15.00 USD")
    await ask(store, 1, rules)
    denied = await ask(store, 2, rules)
    assert denied.event is Event.DENY
    assert await pot(database) == (1000, 0, 0)
    assert await database.execute("SELECT count(*) FROM call") == [(1,)]
    assert await database.execute("SELECT count(*) FROM ledger_entry") == [(1,)]
    assert (await store.verify()).problems == ()


async def test_money_moves_to_the_day_on_which_the_call_runs(
    store: SqlStore, database: Database, clock: Clock
) -> None:
    """36: yesterday's reservation is given back, and made anew today."""
    rules = buying("15.00 USD", asking=True)
    approved = await vote(store, (await ask(store, 1, rules)).call, rules, Choice.APPROVE)
    [before] = await lawful(database)
    clock.advance(hours=12)
    change = await claim(store, approved, rules)

    assert change.event is Event.CLAIM
    [(after, sums)] = (await lawful(database)).items()
    assert (after[0], sums) == (before[0], (1000, 0, 0))
    assert int(str(after[1])) - int(str(before[1])) == timedelta(days=1) // MICROSECOND
    kinds = await database.execute("SELECT kind, window_start FROM ledger_entry ORDER BY id")
    assert kinds == [("reserve", before[1]), ("void", before[1]), ("reserve", after[1])]
    await end(store, change.call, answered(1200))
    assert await pot(database) == (0, 1200, 0)
    assert (await store.verify()).problems == ()


async def test_a_day_that_is_full_takes_no_call_of_yesterday(
    store: SqlStore, database: Database, clock: Clock
) -> None:
    rules = buying("15.00 USD", asking=True)
    approved = await vote(store, (await ask(store, 1, rules)).call, rules, Choice.APPROVE)
    clock.advance(hours=12)
    today = await ask(store, 2, rules)
    change = await claim(store, approved, rules)

    assert change.event is Event.INVALIDATE
    assert change.call.note.startswith("budget: The limit pot is 15.00 USD a day; ")
    assert await pot(database) == (1000, 0, 0)
    assert [each.state for each in (await store.get(today.call.id)).reservations] == [State.HELD]
    assert [each.state for each in (await store.get(approved.id)).reservations] == [State.VOID]


async def test_a_meter_that_came_into_force_meanwhile_is_drawn_on(
    store: SqlStore, database: Database
) -> None:
    held = (await ask(store, 1, buying(asking=True))).call
    renamed = buying(asking=True, name="jar")
    approved = await vote(store, held, renamed, Choice.APPROVE)
    change = await claim(store, approved, renamed)

    assert change.event is Event.CLAIM
    assert len(change.call.reservations) == 2
    assert list((await lawful(database)).values()) == [(1000, 0, 0)] * 2


async def test_a_window_that_is_full_is_guarded_where_it_is_written(
    store: SqlStore, database: Database
) -> None:
    """A caller that read before another wrote is refused by the UPDATE itself."""
    rules = buying()
    for number in range(10):
        begun = await ask(store, number, rules)
        assert begun.event is Event.ALLOW
    verdict = rules.judge("ops-agent", "shop", BUY, {})
    assert verdict.demand is not None
    [draw] = verdict.demand.draws
    stale = booking.reserve(draw, Usage(), await store.now())
    assert stale is not None
    with pytest.raises(Conflict, match="taken at the same moment"):
        await store._engine.write(
            lambda work: ledger.book(
                work.connection, begun.call.id, [stale], {draw.meter_id: draw}, work.now
            )
        )
    assert await pot(database) == (10 * TEN, 0, 0)


async def test_a_rolling_window_gives_back_what_has_rolled_out_and_says_when(
    store: SqlStore, database: Database, clock: Clock
) -> None:
    rules = buying("25.00 USD", window={"rolling": "24h"})
    for hour in range(2):
        begun = await ask(store, hour, rules)
        await end(store, begun.call, answered(None))
        clock.advance(hours=1)
    refused = await ask(store, 2, rules)
    assert refused.refusal is not None
    assert refused.refusal.retry_after == timedelta(hours=22)

    clock.advance(hours=22, microseconds=-1)
    assert (await ask(store, 3, rules)).event is Event.DENY
    clock.advance(microseconds=1)
    assert (await ask(store, 4, rules)).event is Event.ALLOW
    assert (await ask(store, 5, rules)).event is Event.DENY
    assert await pot(database) == (1000, 2000, 0)


async def test_what_a_failed_call_gave_back_never_counts_in_a_rolling_window(
    store: SqlStore, clock: Clock
) -> None:
    rules = buying("10.00 USD", window={"rolling": "24h"})
    for number in range(3):
        begun = await ask(store, number, rules)
        assert begun.event is Event.ALLOW
        await end(store, begun.call, NOTHING_DONE)


async def test_what_people_let_pass_is_counted_apart(store: SqlStore, database: Database) -> None:
    soft = {"soft": {"override_by": "finance", "up_to": "10.00 USD"}, "over": "ask"}
    rules = buying("15.00 USD", meter=soft)
    assert (await ask(store, 1, rules)).event is Event.ALLOW
    held = await ask(store, 2, rules)
    assert held.event is Event.HOLD
    assert await pot(database) == (2000, 0, 500)
    assert (await ask(store, 3, rules)).event is Event.DENY  # 5.00 are left to be let pass

    approved = await vote(store, held.call, rules, Choice.APPROVE)
    claimed = (await claim(store, approved, rules)).call
    await end(store, claimed, answered(600))
    assert await pot(database) == (1000, 600, 100)


# --- many at once ---


@pytest.mark.parametrize("window", [{"calendar": "day"}, {"rolling": "24h"}])
async def test_of_fifty_at_once_through_two_processes_ten_are_admitted(
    store: SqlStore, other: SqlStore, database: Database, window: dict[str, object]
) -> None:
    rules = buying(window=window)
    changes = await asyncio.gather(*[ask((store, other)[n % 2], n, rules) for n in range(50)])
    events = Counter(change.event for change in changes)
    assert events == {Event.ALLOW: 10, Event.DENY: 40}
    assert await pot(database) == (10 * TEN, 0, 0)
    assert (await store.verify()).problems == ()


async def test_of_twenty_at_once_through_two_processes_seven_are_counted(
    store: SqlStore, other: SqlStore
) -> None:
    rate = Rate(origin="o", name="r", path="/r", max=7, window=timedelta(hours=1))
    told = await asyncio.gather(*[count((store, other)[n % 2], rate) for n in range(20)])
    assert Counter(each.refusal is None for each in told) == {True: 7, False: 13}


async def test_a_rate_and_a_pot_are_taken_together_or_not_at_all(
    store: SqlStore, other: SqlStore, database: Database
) -> None:
    """The twelve that the pot refuses raise no count, so a thirteenth finds room once it grows."""
    rules = buying("50.00 USD", rate_limit={"max": 7, "window": 3600})
    changes = await asyncio.gather(*[ask((store, other)[n % 2], n, rules) for n in range(20)])
    assert Counter(change.event for change in changes) == {Event.ALLOW: 5, Event.DENY: 15}
    richer = buying("500.00 USD", rate_limit={"max": 7, "window": 3600})
    more = [await ask(store, 100 + n, richer) for n in range(5)]
    assert [change.event for change in more] == [Event.ALLOW] * 2 + [Event.DENY] * 3
    assert {change.refusal.code for change in more if change.refusal} == {"rate"}
    assert await pot(database) == (7 * TEN, 0, 0)


async def test_at_midnight_yesterdays_endings_and_todays_claims_wait_in_no_circle(
    store: SqlStore, other: SqlStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A claim moves money from yesterday to today, and holds the month's sums meanwhile."""
    plain, asking = day_before_month(asking=False), day_before_month(asking=True)
    held = [(await ask(store, n, asking)).call for n in range(6)]
    approved = [await vote(store, call, asking, Choice.APPROVE) for call in held]
    running = [(await ask(store, 100 + n, plain)).call for n in range(6)]
    clock.advance(hours=12)
    changes = await asyncio.gather(
        *[claim(store, call, asking) for call in approved],
        *[end(other, call, answered(None)) for call in running],
    )
    assert Counter(each.event for each in changes) == {Event.CLAIM: 6, Event.SUCCEED: 6}
    assert [record for record in caplog.records if "run again" in record.message] == []
    assert (await store.verify()).problems == ()


def day_before_month(*, asking: bool) -> Rulebook:
    """Draw on a day's meter and a month's, named so that the day's is locked first."""
    for number in range(100):
        rules = buying(
            "1000.00 USD",
            asking=asking,
            name=f"day{number}",
            besides={f"month{number}": {"limit": "1000.00 USD", "window": {"calendar": "month"}}},
        )
        demand = rules.judge("ops-agent", "shop", BUY, {}).demand
        assert demand is not None
        if demand.draws[0].meter.name.startswith("day"):
            return rules
    raise AssertionError("half of all names would do")


# --- rates ---


def ring(most: int = 3, hours: int = 1, **changes: object) -> Rate:
    rate = Rate(origin="o", name="r", path="/r", max=most, window=timedelta(hours=hours))
    return replace(rate, **changes)  # type: ignore[arg-type]


async def count(store: SqlStore, rate: Rate) -> Counted:
    counts = tuple(Count(rate=rate, key=key) for key in rate_keys(rate, SUBJECT))
    entry = Entry(tag=Tag.CALL_ALLOW, subject="apr_x", actor="agent:ops-agent")

    def step(holdings: Holdings, now: datetime) -> Counted:
        return admission.counted(entry, counts, holdings, now, lambda why: entry)

    return await store.count(counts, step)


async def admits(store: SqlStore, rate: Rate, times: int = 12) -> int:
    """Say how many are admitted right now, with nothing given back."""
    return sum([(await count(store, rate)).refusal is None for _ in range(times)])


async def test_a_ring_admits_its_maximum_in_any_window(store: SqlStore, clock: Clock) -> None:
    assert (await count(store, ring())).refusal is None
    clock.advance(minutes=30)
    assert await admits(store, ring()) == 2
    refused = (await count(store, ring())).refusal
    assert refused is not None
    assert refused.retry_after == timedelta(minutes=30)
    clock.advance(minutes=30, microseconds=-1)
    assert await admits(store, ring()) == 0
    clock.advance(microseconds=1)
    assert await admits(store, ring()) == 1
    clock.advance(minutes=30)
    assert await admits(store, ring()) == 2


async def test_a_call_of_a_higher_cost_takes_as_many_places(store: SqlStore) -> None:
    assert await admits(store, ring(5, cost=2)) == 2
    assert await admits(store, ring(5)) == 1


@pytest.mark.parametrize(
    ("first", "taken", "then", "left"),
    [
        (ring(3), 3, ring(5), 2),
        (ring(5), 5, ring(3), 0),
        (ring(5), 2, ring(3), 1),
        (ring(3), 3, ring(3, hours=2), 0),
        (ring(3), 3, ring(5, algorithm=Algorithm.CALENDAR), 2),
        (ring(4, algorithm=Algorithm.CALENDAR), 4, ring(6), 2),
        (ring(4, algorithm=Algorithm.CALENDAR), 4, ring(6, algorithm=Algorithm.CALENDAR), 2),
    ],
)
async def test_a_changed_limit_forgives_nothing_nor_does_changing_it_back(
    store: SqlStore, clock: Clock, first: Rate, taken: int, then: Rate, left: int
) -> None:
    assert await admits(store, first, taken) == taken
    clock.advance(seconds=1)
    assert await admits(store, then) == left
    clock.advance(seconds=1)
    assert await admits(store, first) == max(0, first.max - taken - left)
    clock.advance(seconds=1)
    assert await admits(store, then) == 0


@pytest.mark.parametrize("seconds", [0, 1])
@pytest.mark.parametrize(
    "steps",
    [
        # Changed back while the clock stands still: nobody can tell which was used last.
        [(ring(10), 5, 5), (ring(11), 6, 6), (ring(10), 10, 0), (ring(11), 1, 0), (ring(12), 3, 1)],
        [(ring(10), 9, 9), (ring(11), 1, 1), (ring(10), 1, 0), (ring(11), 2, 1), (ring(10), 1, 0)],
        # A small ring between two large ones remembers less than they do.
        [(ring(10), 10, 10), (ring(1), 1, 0), (ring(9), 9, 0), (ring(11), 2, 1)],
        [(ring(5), 5, 5), (ring(2), 1, 0), (ring(6, hours=2), 3, 1), (ring(5), 5, 0)],
    ],
)
async def test_however_often_a_limit_changes_nothing_is_forgiven(
    store: SqlStore, clock: Clock, steps: list[tuple[Rate, int, int]], seconds: int
) -> None:
    for rate, times, admitted in steps:
        assert await admits(store, rate, times) == admitted
        clock.advance(seconds=seconds)
    clock.advance(hours=2)
    assert await admits(store, steps[0][0], 1) == 1


async def test_a_calendar_counter_begins_anew_with_its_window(
    store: SqlStore, clock: Clock
) -> None:
    rate = ring(2, algorithm=Algorithm.CALENDAR)
    clock.advance(minutes=59)
    assert await admits(store, rate) == 2
    clock.advance(seconds=59)
    assert await admits(store, rate) == 0
    clock.advance(seconds=1)
    assert await admits(store, rate) == 2


async def test_of_two_counts_of_which_one_is_full_neither_is_raised(store: SqlStore) -> None:
    full, free = ring(1, name="full"), ring(2, name="free")
    assert await admits(store, full) == 1
    counts = tuple(
        Count(rate=rate, key=key)
        for rate in sorted((full, free), key=lambda each: rate_keys(each, SUBJECT)[0].id)
        for key in rate_keys(rate, SUBJECT)
    )
    entry = Entry(tag=Tag.CALL_ALLOW, subject="apr_x", actor="agent:ops-agent")
    both = await store.count(
        counts, lambda held, now: admission.counted(entry, counts, held, now, lambda why: entry)
    )
    assert both.refusal is not None
    assert await admits(store, free) == 2


async def test_what_people_may_let_pass_is_admitted_where_the_sums_are_beyond_the_limit(
    store: SqlStore, database: Database
) -> None:
    soft = {"soft": {"override_by": "finance", "up_to": "10.00 USD"}, "over": "ask"}
    assert (await ask(store, 1, buying("15.00 USD", meter=soft))).event is Event.ALLOW
    lowered = buying("5.00 USD", meter=soft)
    assert (await ask(store, 2, lowered)).event is Event.HOLD
    assert await pot(database) == (2000, 0, 1000)
    assert (await ask(store, 3, lowered)).event is Event.DENY  # nothing is left to be let pass
