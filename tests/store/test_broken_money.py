"""Stores that keep money wrong in the four ways that look right, and the proofs that catch them.

Each proof runs first on the real store, which passes it, and then on a store that differs in one
thing alone, which fails it. A proof that a broken store passes would prove nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import pytest
from typing_extensions import override

from approval.core.call import Call, CallId, Choice, Status, ToolCall
from approval.core.demand import Demand, Holdings
from approval.core.lifecycle import Change, Event
from approval.core.money import CAP, Money
from approval.core.price import OnError
from approval.core.rulebook import Rulebook
from approval.ports import Admission, Covering, Limits, Step
from approval.store import ledger, sql
from approval.store.store import SqlStore
from approval.store.work import Work
from tests.factories import Clock, make_rulebook
from tests.store.conftest import Database
from tests.store.spending import BUY, DAY, answered, ask, buying, claim, end, pot, vote

LIMIT = 100_00
CAUGHT = "caught"
CROWDS = 20
"""How many crowds try to wait in a circle: whether one does hangs on a moment."""


# --- the broken ones ---


class ReadsThenWrites(SqlStore):
    """Reads the sums, decides, and writes: without a lock before, or a guard at the writing.

    Its first call is admitted as it should be, which makes the rows.
    """

    _is_first = True

    @override
    async def admit(
        self,
        asked: ToolCall,
        demand: Demand | None,
        step: Admission,
        covering: Covering | None = None,
        max_pending: int | None = None,
    ) -> Change:
        assert demand is not None
        if self._is_first:
            self._is_first = False
            return await super().admit(asked, demand, step, covering)
        met = Holdings(usage=await self.usage(demand.draws))

        def write(work: Work) -> Change:
            change = step(None, met, work.now)
            if change.event is Event.DENY:
                work.entries.append(change.entry())
            else:
                sql._insert(work, change, unguarded(demand))
            return change

        return await self._engine.write(write)


def unguarded(demand: Demand) -> Demand:
    """Draw on the same meters, as if they had no limit."""
    endless = Money(CAP, "USD")
    draws = (replace(draw, meter=replace(draw.meter, limit=endless)) for draw in demand.draws)
    return replace(demand, draws=tuple(draws))


class ReservesAtTheClaim(SqlStore):
    """Admits a call when there is room, but takes the room only when the call runs."""

    @override
    async def admit(
        self,
        asked: ToolCall,
        demand: Demand | None,
        step: Admission,
        covering: Covering | None = None,
        max_pending: int | None = None,
    ) -> Change:
        def broken(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
            change = step(existing, holdings, now)
            return replace(change, call=replace(change.call, reservations=()), bookings=())

        return await super().admit(asked, demand, broken, covering)


class RefundsErrors(SqlStore):
    """Gives the money back when the upstream answers with an error, whatever the policy says."""

    @override
    async def advance(self, call_id: CallId, step: Step, limits: Limits | None = None) -> Change:
        def broken(call: Call, now: datetime) -> Change:
            return step(replace(call, terms=replace(call.terms, on_error=OnError.VOID)), now)

        return await super().advance(call_id, broken, limits)


class LocksInTheOrderAsked(SqlStore):
    """Locks the meters of a call as the call names them; here every other names them in reverse."""

    @override
    async def admit(
        self,
        asked: ToolCall,
        demand: Demand | None,
        step: Admission,
        covering: Covering | None = None,
        max_pending: int | None = None,
    ) -> Change:
        assert demand is not None
        is_odd = int(asked.arguments.split(b":")[1].strip(b"}")) % 2
        draws = demand.draws[::-1] if is_odd else demand.draws

        def write(work: Work) -> Change:
            for draw in draws:
                ledger._lock_meter(work.connection, draw.meter_id, draw)
            return sql.admit(work, asked, demand, step, covering)

        return await self._engine.write(write)


# --- the proofs ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Two stores of one kind on one database, as two processes have them."""

    stores: tuple[SqlStore, SqlStore]
    database: Database
    log: pytest.LogCaptureFixture

    def store(self, number: int) -> SqlStore:
        return self.stores[number % 2]

    async def ask_all(self, rules: Rulebook, count: int) -> list[Change]:
        return await asyncio.gather(*[ask(self.store(n), n, rules) for n in range(count)])


Proof = Callable[[Bench], Awaitable[None]]


async def the_limit_holds(bench: Bench) -> None:
    """Of fifty at once, nine of ten dollars fit beside one into a hundred."""
    await ask(bench.store(0), 1000, buying())
    changes = await bench.ask_all(buying(), 50)
    admitted = sum(change.event is Event.ALLOW for change in changes)
    held, posted, _ = await pot(bench.database)
    assert (admitted, held + posted) == (LIMIT // 1000 - 1, LIMIT), CAUGHT


async def what_is_approved_never_fails_on_money(bench: Bench) -> None:
    """Whatever is held has its money: once people have said yes, it runs."""
    rules = buying(asking=True)
    held = [each for each in await bench.ask_all(rules, 15) if each.event is Event.HOLD]
    approved = [await vote(bench.store(0), each.call, rules, Choice.APPROVE) for each in held]
    claimed = [await claim(bench.store(1), call, rules) for call in approved]
    assert [each.call.note for each in claimed if each.event is not Event.CLAIM] == [], CAUGHT
    assert len(claimed) == LIMIT // 1000


async def no_more_is_spent_than_the_limit(bench: Bench) -> None:
    """An upstream that takes the money, and then answers with an error, has taken the money."""
    rules, witnessed = buying(), 0
    for number in range(15):
        begun = await ask(bench.store(number), number, rules)
        if begun.event is Event.ALLOW:
            witnessed += 1000
            await end(bench.store(number), begun.call, answered(None, Status.ERRORED))
    assert witnessed == LIMIT, CAUGHT


async def nobody_waits_in_a_circle(bench: Bench) -> None:
    """Whatever the order in which calls name two meters, no two wait for each other's."""
    spend = {"amount": {"fixed": "0.01 USD"}, "meters": ["one", "two"]}
    meter = {"limit": "100.00 USD", "window": DAY, "scope": []}
    document = {
        "dialect": "approval-1",
        "version": "1",
        "default": "deny",
        "tools": {BUY: {"spend": spend}},
        "meters": {"one": meter, "two": meter},
    }
    rules = make_rulebook(document)
    await ask(bench.store(0), 1000, rules)  # the rows are there, and only they are met
    for begin in range(0, 12 * CROWDS, 12):
        with bench.log.at_level(logging.WARNING, logger="approval.store.postgres_writer"):
            outcomes = await asyncio.gather(
                *[ask(bench.store(n), n, rules) for n in range(begin, begin + 12)],
                return_exceptions=True,
            )
        circles = [each for each in bench.log.records if "40P01" in str(vars(each).get("error"))]
        failed = [each for each in outcomes if isinstance(each, BaseException)]
        assert (circles, failed) == ([], []), CAUGHT


# --- the judgement ---


PROOFS: list[tuple[Proof, type[SqlStore], bool]] = [
    (the_limit_holds, ReadsThenWrites, False),
    (what_is_approved_never_fails_on_money, ReservesAtTheClaim, False),
    (no_more_is_spent_than_the_limit, RefundsErrors, False),
    (nobody_waits_in_a_circle, LocksInTheOrderAsked, True),
]
"""A proof, the store it catches, and whether only PostgreSQL, which has row locks, shows it."""

NAMES = [broken.__name__ for _, broken, _ in PROOFS]


@asynccontextmanager
async def opened(
    kind: type[SqlStore], database: Database, clock: Clock, log: pytest.LogCaptureFixture
) -> AsyncIterator[Bench]:
    open_one = partial(kind.open, database.url, base=database.folder, clock=clock)
    first, second = await open_one(), await open_one()
    try:
        yield Bench(stores=(first, second), database=database, log=log)
    finally:
        await first.close()
        await second.close()


@pytest.mark.parametrize(("proof", "broken", "row_locks"), PROOFS, ids=NAMES)
async def test_the_real_store_passes(
    proof: Proof,
    broken: type[SqlStore],
    row_locks: bool,
    database: Database,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened(SqlStore, database, clock, caplog) as bench:
        await proof(bench)
        assert (await bench.stores[0].verify()).problems == ()


@pytest.mark.parametrize(("proof", "broken", "row_locks"), PROOFS, ids=NAMES)
async def test_the_broken_store_is_caught(
    proof: Proof,
    broken: type[SqlStore],
    row_locks: bool,
    database: Database,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # SQLite has one writer at a time, who waits for nobody, whatever the order.
    shows = not row_locks or not database.url.startswith("sqlite")
    catching = pytest.raises(AssertionError, match=CAUGHT) if shows else nullcontext()
    async with opened(broken, database, clock, caplog) as bench:
        with catching:
            await proof(bench)
