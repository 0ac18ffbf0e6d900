"""Bounded pending calls on a real database: two services, many callers, and never one too many."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import OperationalError
from typing_extensions import override

from approval.core.audit import Entry, Tag
from approval.core.call import Call, Choice, Status, ToolCall
from approval.core.canonical import JSON
from approval.core.demand import Demand, Holdings
from approval.core.lifecycle import Change
from approval.core.pending import Pending
from approval.core.rulebook import Rulebook
from approval.core.steps import Ballot
from approval.errors import NoRoom
from approval.ports import Admission, Covering
from approval.service import Service
from approval.store import pending, sql
from approval.store.store import SqlStore
from approval.store.work import Work
from tests.factories import Clock, make_asked
from tests.store.conftest import URL, Database, opened, prepared_of
from tests.store.spending import buying, lawful

MOST = 5
PRICED = buying("10000.00 USD", asking=True, rate_limit={"max": 1000, "window": "1h"})


def bounded(most: int | None = MOST, rules: Rulebook = PRICED) -> Rulebook:
    """Bound what one agent may have waiting; another one has no bound."""
    directory = rules.directory
    agent = replace(directory.agents["ops-agent"], max_pending=most)
    agents = {**directory.agents, "ops-agent": agent}
    return replace(rules, directory=replace(directory, agents=agents))


@asynccontextmanager
async def serving(*stores: SqlStore, rules: Rulebook) -> AsyncIterator[list[Service]]:
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Service(store, rules)) for store in stores]


async def ask(service: Service, number: int, agent: str = "ops-agent") -> Call | NoRoom:
    """Ask for one number; another number is another call."""
    arguments: JSON = {"number": number}
    asked = make_asked(arguments, agent=agent)
    verdict = service.rules.judge(agent, asked.upstream, asked.tool, arguments)
    try:
        return (await service.submit(asked, verdict)).call
    except NoRoom as refused:
        return refused


async def held(service: Service, number: int) -> Call:
    call = await ask(service, number)
    assert isinstance(call, Call)
    return call


async def all_at_once(services: list[Service], count: int, first: int = 0) -> list[Call]:
    """Ask for many through all services; give what is held, once the others are told alike."""
    found = await asyncio.gather(
        *[ask(services[n % len(services)], first + n) for n in range(count)]
    )
    refused = [each for each in found if isinstance(each, NoRoom)]
    assert {(each.code, each.retryable, each.retry_after) for each in refused} <= {
        ("too_many_pending", True, None)
    }
    return [each for each in found if isinstance(each, Call)]


async def test_of_many_at_once_through_two_services_so_many_are_held(
    store: SqlStore, other: SqlStore, database: Database
) -> None:
    async with serving(store, other, rules=bounded()) as services:
        calls = await all_at_once(services, 24)
        assert len({call.id for call in calls}) == MOST

        # Nothing is kept of the others but their denials: no row, no money, no slot.
        [(_, (reserved, _, _))] = (await lawful(database)).items()
        assert reserved == MOST * 1000
        assert await database.execute("SELECT count(*) FROM call") == [(MOST,)]
        assert await database.execute("SELECT n FROM rate_count") == [(MOST,)]
        bodies = [orjson.loads(entry.body) for entry in await store.trail()]
        assert Counter(body["tag"] for body in bodies) == {
            "call:hold": MOST,
            "call:deny": 24 - MOST,
        }
        denied = [body["facts"] for body in bodies if body["tag"] == "call:deny"]
        assert all(facts["codes"] == ["too_many_pending"] for facts in denied)
        assert (await store.verify()).problems == ()


async def reject(service: Service, call: Call, _: Clock) -> Status:
    ballot = Ballot(person="ann", choice=Choice.REJECT, digest=call.digest, via="web", reason="no")
    return (await service.decide(call.id, ballot)).status


async def approve(service: Service, call: Call, _: Clock) -> Status:
    ballot = Ballot(person="ann", choice=Choice.APPROVE, digest=call.digest, via="web")
    return (await service.decide(call.id, ballot)).status


async def cancel(service: Service, call: Call, _: Clock) -> Status:
    return (await service.cancel(call.id, actor="agent:ops-agent", reason="")).status


async def expire(service: Service, call: Call, clock: Clock) -> Status:
    """Let the time of the first one pass; the others were asked for a minute later."""
    clock.now = call.decide_before
    clock.advance(microseconds=1)
    await service.expire_due()
    return (await service.get(call.id)).status


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (reject, Status.REJECTED),
        (approve, Status.APPROVED),
        (cancel, Status.CANCELLED),
        (expire, Status.EXPIRED),
    ],
)
async def test_for_each_that_waits_no_longer_exactly_one_more_fits(
    store: SqlStore,
    other: SqlStore,
    clock: Clock,
    end: Callable[[Service, Call, Clock], Awaitable[Status]],
    status: Status,
) -> None:
    async with serving(store, other, rules=bounded()) as services:
        first = await held(services[0], 1000)
        clock.advance(minutes=1)
        assert len(await all_at_once(services, MOST)) == MOST - 1

        assert await end(services[1], first, clock) is status
        assert len(await all_at_once(services, 12, first=100)) == 1


async def test_what_waits_already_is_joined_at_the_bound_and_under_the_lock(
    store: SqlStore, other: SqlStore
) -> None:
    async with serving(store, other, rules=bounded()) as services:
        calls = [await held(services[0], number) for number in range(MOST)]
        again = await asyncio.gather(*[held(services[n % 2], n % MOST) for n in range(4 * MOST)])
        assert {call.id for call in again} == {call.id for call in calls}
        assert await all_at_once(services, 4, first=100) == []


async def test_an_answer_that_was_never_handed_over_is_given_at_the_bound(store: SqlStore) -> None:
    async with serving(store, rules=bounded(1)) as [service]:
        first = await held(service, 1)
        await service.cancel(first.id, actor="agent:ops-agent", reason="")
        await held(service, 2)
        assert (await held(service, 1)).id == first.id
        await service.delivered(first)
        assert isinstance(await ask(service, 1), NoRoom)


async def test_another_agent_is_not_bounded_by_it(store: SqlStore, other: SqlStore) -> None:
    async with serving(store, other, rules=bounded()) as services:
        others = [ask(services[n % 2], n, agent="other-agent") for n in range(12)]
        bounded_ones, found = await asyncio.gather(
            all_at_once(services, 12), asyncio.gather(*others)
        )
        assert len(bounded_ones) == MOST
        assert all(isinstance(each, Call) for each in found)


async def test_a_new_bound_counts_at_once_and_ends_nothing_that_waits(store: SqlStore) -> None:
    entry = Entry(tag=Tag.POLICY_LOAD, subject="policy", actor="test")
    async with serving(store, rules=bounded(None)) as [service]:
        calls = await all_at_once([service], 7)
        assert len(calls) == 7
        await service.adopt(bounded(2), entry)
        assert isinstance(refused := await ask(service, 100), NoRoom)
        assert "At most 2 calls" in str(refused)
        assert "(now: 7)" in str(refused)
        assert {(await service.get(call.id)).status for call in calls} == {Status.PENDING}
        await service.adopt(bounded(8), entry)
        assert len(await all_at_once([service], 3, first=200)) == 1


async def test_what_policy_allows_at_a_price_does_not_wait_and_is_not_counted(
    store: SqlStore,
) -> None:
    allowing = bounded(1, buying("10000.00 USD"))
    async with serving(store, rules=bounded(1)) as [service]:
        await held(service, 1)
        await service.adopt(allowing, Entry(tag=Tag.POLICY_LOAD, subject="policy", actor="test"))
        for number in range(2, 5):
            assert (await held(service, number)).status is Status.EXECUTING


# --- the broken ones ---


class CountsBefore(SqlStore):
    """Counts before its transaction begins, and believes it."""

    @override
    async def admit(
        self,
        asked: ToolCall,
        demand: Demand | None,
        step: Admission,
        covering: Covering | None = None,
        max_pending: int | None = None,
    ) -> Change:
        def read(connection: Connection) -> Pending:
            counted = connection.execute(pending._COUNT, {"agent": asked.agent}).scalar_one()
            return Pending(count=counted, most=MOST)

        found = await self._engine.read(read)

        def broken(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
            return step(existing, replace(holdings, pending=found), now)

        return await super().admit(asked, demand, broken, covering)


class LocksNobodyOut(SqlStore):
    """Counts in its transaction, while others of the same agent count in theirs."""

    @override
    async def admit(
        self,
        asked: ToolCall,
        demand: Demand | None,
        step: Admission,
        covering: Covering | None = None,
        max_pending: int | None = None,
    ) -> Change:
        def write(work: Work) -> Change:
            work.alone = lambda name: None
            return sql.admit(work, asked, demand, step, covering, max_pending)

        return await self._engine.write(write)


@pytest.mark.parametrize("broken", [CountsBefore, LocksNobodyOut])
async def test_a_store_that_counts_carelessly_is_caught(
    store: SqlStore, other: SqlStore, database: Database, broken: type[SqlStore]
) -> None:
    """Of two transactions at once neither sees the other; SQLite has one writer at a time."""
    stores = [broken(each._engine) for each in (store, other)]
    async with serving(*stores, rules=bounded()) as services:
        calls = await all_at_once(services, 24)
    has_one_writer = database.url == URL and broken is LocksNobodyOut
    assert (len(calls) == MOST) is has_one_writer


# --- what it costs ---


def test_without_a_bound_nothing_is_locked_or_asked() -> None:
    names: list[str] = []
    with create_engine("sqlite://").connect() as connection:  # which has no tables
        work = Work(prepared_of(connection), Clock(), names.append)
        assert pending.met(work, "ops-agent", None) is None
        assert names == []
        with pytest.raises(OperationalError):
            pending.met(work, "ops-agent", 1)
    assert names == ["\0pending\0ops-agent"]


class NamesNoted(SqlStore):
    """Notes the names under which its admissions keep others out."""

    names: list[str]

    @override
    async def admit(
        self,
        asked: ToolCall,
        demand: Demand | None,
        step: Admission,
        covering: Covering | None = None,
        max_pending: int | None = None,
    ) -> Change:
        def write(work: Work) -> Change:
            alone = work.alone
            self.names = []

            def noted(name: str) -> None:
                self.names.append(name)
                alone(name)

            work.alone = noted
            return sql.admit(work, asked, demand, step, covering, max_pending)

        return await self._engine.write(write)


async def test_only_an_admission_that_may_add_to_them_locks_out_its_agents_others(
    store: SqlStore,
) -> None:
    noting = NamesNoted(store._engine)
    mine = "\0pending\0ops-agent"
    async with serving(noting, rules=bounded()) as [service]:
        await held(service, 1)
        assert noting.names[1] == mine  # after the name of the call
        await held(service, 1)
        assert mine not in noting.names  # it joined
        await ask(service, 2, agent="other-agent")
        assert not any(name.startswith("\0pending") for name in noting.names)  # it has no bound


async def test_the_count_reads_an_index_of_its_own_and_no_call(file: Path) -> None:
    with opened(file) as database:
        plan = database.execute(f"EXPLAIN QUERY PLAN {pending._COUNT}", {"agent": "a"}).fetchall()
    assert "COVERING INDEX call_pending" in str(plan)
