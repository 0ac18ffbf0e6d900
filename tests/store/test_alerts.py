"""The trail is told once of each share of a limit that is reached, and again when it is again."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import orjson
import pytest

from approval.core import intake, steps
from approval.core.call import Answer, Call, Outcome, Status, new_call_id
from approval.core.demand import Demand, Holdings, Terms
from approval.core.lifecycle import Change
from approval.core.meters import Draw, Meter, meter_id
from approval.core.money import Money
from approval.core.money import Unit as MinorOrMajor
from approval.core.pointers import Pointer
from approval.core.price import Actual, OnOverrun
from approval.core.scopes import Key, Scope
from approval.core.windows import Calendar, Rolling, Unit, Window
from approval.ports import Kept, Limits
from approval.store.store import SqlStore
from tests.factories import NOW, Clock, make_asked, make_directory, make_lease, make_verdict
from tests.store.conftest import decide

KEY: Key = ((Scope.AGENT, "ops-agent"),)


def usd(minor: int) -> Money:
    return Money(minor, "USD")


DAILY = Calendar(unit=Unit.DAY)
ROLLING = Rolling(span=timedelta(hours=24))
TERMS = Terms(
    on_overrun=OnOverrun.ALERT,
    actual=Actual(at=Pointer(text="/took", steps=("took",)), unit=MinorOrMajor.MINOR),
)


def demanding(minor: int, window: Window = DAILY) -> Demand:
    """Draw on a limit of one dollar a day."""
    meter = Meter(name="pot", origin="p", limit=usd(100), window=window)
    draw = Draw(meter_id=meter_id(meter, KEY), key=KEY, meter=meter, amount=usd(minor))
    return Demand(amount=usd(minor), terms=TERMS, draws=(draw,))


def limits(kept: Sequence[Kept], window: Window = DAILY) -> tuple[Draw, ...]:
    """Give the one meter, as long as it is asked for."""
    asked = {(each.origin, each.name, each.key): each.meter_id for each in kept}
    found = demanding(0, window).draws
    return tuple(each for each in found if asked.get(("p", "pot", KEY)) == each.meter_id)


async def spend(
    store: SqlStore,
    number: int,
    minor: int,
    outcome: Outcome = Outcome.ALLOW,
    window: Window = DAILY,
) -> Call:
    """Admit a call at this price, which runs at once unless it is held."""
    verdict = make_verdict(outcome, demand=demanding(minor, window))
    asked = make_asked({"number": number})
    call_id = new_call_id(NOW, number.to_bytes(10))

    def begin(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
        lease = make_lease()
        return intake.begin(asked, verdict, holdings, call_id=call_id, lease=lease, now=now)

    return (await store.admit(asked, verdict.demand, begin)).call


async def claim(store: SqlStore, call: Call, minor: int) -> Call:
    demand = demanding(minor)

    def step(call: Call, holdings: Holdings, now: datetime) -> Change:
        return steps.claim(
            call,
            holdings,
            lease=make_lease(),
            directory=make_directory(),
            verdict=make_verdict(demand=demand),
            now=now,
        )

    return (await store.claim(call.id, lambda call: (demand, step))).call


async def end(store: SqlStore, call: Call, status: Status) -> None:
    done = Answer(status=status, body=b"{}")
    await store.advance(call.id, lambda call, now: steps.answer(call, done, owner="me", now=now))


async def told(store: SqlStore) -> list[tuple[str, int]]:
    """Say of which calls alerts are in the trail, and at how many percent."""
    entries = [orjson.loads(entry.body) for entry in await store.trail(after=0, limit=100)]
    found = [entry for entry in entries if entry["tag"] == "meter:alert"]
    return [(entry["subject"], entry["facts"]["percent"]) for entry in found]


async def test_each_share_is_told_once_and_again_when_it_is_reached_again(store: SqlStore) -> None:
    first = await spend(store, 1, 49)
    assert await told(store) == []
    second = await spend(store, 2, 1)
    wanted = [(second.id, 50)]
    assert await told(store) == wanted
    third = await spend(store, 3, 30)
    wanted += [(third.id, 80)]
    await end(store, first, Status.EXECUTED)
    fourth = await spend(store, 4, 20)
    wanted += [(fourth.id, 100)]
    assert (await spend(store, 5, 1)).status is Status.DENIED
    assert await told(store) == wanted

    await end(store, third, Status.FAILED)
    await end(store, fourth, Status.FAILED)
    assert await told(store) == wanted
    again = await spend(store, 6, 50)
    assert await told(store) == [*wanted, (again.id, 80), (again.id, 100)]
    assert (await store.verify()).problems == ()


async def test_of_calls_at_once_one_reaches_each_share(store: SqlStore) -> None:
    await asyncio.gather(*(spend(store, number, 10) for number in range(1, 11)))
    assert [percent for _, percent in await told(store)] == [50, 80, 100]


async def test_a_call_that_runs_in_a_new_window_reaches_its_shares_there(
    store: SqlStore, clock: Clock
) -> None:
    clock.advance(hours=11, minutes=55)
    call = await spend(store, 1, 60, Outcome.GATE)
    await decide(store, call)
    clock.advance(minutes=6)
    assert (await claim(store, call, 60)).status is Status.EXECUTING
    assert await told(store) == [(call.id, 50), (call.id, 50)]


async def took(store: SqlStore, call: Call, minor: int, known: Limits | None = limits) -> Change:
    """Let the upstream say what the call has taken."""
    done = Answer(status=Status.EXECUTED, body=b'{"result":{"took":%d}}' % minor)
    return await store.advance(
        call.id, lambda call, now: steps.answer(call, done, owner="me", now=now), known
    )


async def correct(store: SqlStore, call: Call, minor: int, known: Limits = limits) -> Change:
    def step(call: Call, now: datetime) -> Change:
        return steps.correct(call, person="dora", evidence="", actual=usd(minor), now=now)

    return await store.advance(call.id, step, known)


async def test_an_overrun_and_corrections_reach_shares_each_once(store: SqlStore) -> None:
    first, second = await spend(store, 1, 10), await spend(store, 2, 20)
    change = await took(store, first, 35)
    wanted = [(first.id, 50)]
    assert await told(store) == wanted
    assert [entry.facts["percent"] for entry in change.alerts] == [50]
    assert (await took(store, second, 20)).alerts == ()
    await correct(store, second, 44)
    assert await told(store) == wanted
    await correct(store, second, 70)
    wanted += [(second.id, 80), (second.id, 100)]
    assert await told(store) == wanted
    # On the way down nothing is reached, and whoever comes again is told again.
    await correct(store, second, 40)
    assert await told(store) == wanted
    await correct(store, second, 45)
    assert await told(store) == [*wanted, (second.id, 80)]
    assert (await store.verify()).problems == ()


async def test_what_was_settled_as_failed_and_is_booked_after_all_reaches_shares(
    store: SqlStore,
) -> None:
    first = await spend(store, 1, 10)
    await end(store, first, Status.FAILED)
    await correct(store, first, 90)
    assert await told(store) == [(first.id, 50), (first.id, 80)]


async def test_of_overruns_at_once_one_reaches_each_share(store: SqlStore) -> None:
    calls = [await spend(store, number, 1) for number in range(1, 11)]
    await asyncio.gather(*(took(store, call, 15) for call in calls))
    assert [percent for _, percent in await told(store)] == [50, 80, 100]


async def test_an_overrun_counts_in_the_window_in_which_it_was_reserved(
    store: SqlStore, clock: Clock
) -> None:
    yesterday = await spend(store, 1, 10)
    clock.advance(days=1)
    await spend(store, 2, 45)
    change = await took(store, yesterday, 60)
    [entry] = change.alerts
    assert (entry.facts["percent"], entry.facts["used"]) == (50, "0.60 USD")
    assert entry.facts["window"] == NOW.replace(hour=0).isoformat()


async def test_in_a_window_that_rolls_only_what_counts_now_reaches_shares(
    store: SqlStore, clock: Clock
) -> None:
    known = partial(limits, window=ROLLING)
    first = await spend(store, 1, 10, window=ROLLING)
    clock.advance(hours=1)
    second = await spend(store, 2, 30, window=ROLLING)
    assert [e.facts["percent"] for e in (await took(store, second, 50, known)).alerts] == [50]
    clock.advance(hours=23)
    # The first has rolled out: what it took does not count now, nor what it had reserved.
    assert (await took(store, first, 90, known)).alerts == ()
    again = (await correct(store, second, 80, known)).alerts
    assert [entry.facts["percent"] for entry in again] == [80]


@pytest.mark.parametrize("known", [None, lambda kept: ()])
async def test_where_no_limit_is_known_nothing_is_reached(
    store: SqlStore, known: Limits | None
) -> None:
    call = await spend(store, 1, 10)
    assert (await took(store, call, 90, known)).alerts == ()
    assert await told(store) == []
