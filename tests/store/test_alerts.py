"""The trail is told once of each share of a limit that is reached, and again when it is again."""

import asyncio
from datetime import datetime

import orjson

from approval.core import intake, steps
from approval.core.call import Answer, Call, Outcome, Status, new_call_id
from approval.core.demand import Demand, Holdings
from approval.core.lifecycle import Change
from approval.core.meters import Draw, Meter, meter_id
from approval.core.money import Money
from approval.core.scopes import Key, Scope
from approval.core.windows import Calendar, Unit
from approval.store.store import SqlStore
from tests.factories import NOW, Clock, make_asked, make_directory, make_lease, make_verdict
from tests.store.conftest import decide

KEY: Key = ((Scope.AGENT, "ops-agent"),)


def usd(minor: int) -> Money:
    return Money(minor, "USD")


def demanding(minor: int) -> Demand:
    """Draw on a limit of one dollar a day."""
    meter = Meter(name="pot", origin="p", limit=usd(100), window=Calendar(unit=Unit.DAY))
    draw = Draw(meter_id=meter_id(meter, KEY), key=KEY, meter=meter, amount=usd(minor))
    return Demand(amount=usd(minor), draws=(draw,))


async def spend(store: SqlStore, number: int, minor: int, outcome: Outcome = Outcome.ALLOW) -> Call:
    """Admit a call at this price, which runs at once unless it is held."""
    verdict = make_verdict(outcome, demand=demanding(minor))
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
