"""What an admission costs: money on two meters and a rate, beside the same SQL by the bare driver.

What the store runs for each call is recorded once and run again on a new database, by `sqlite3`
with sixteen calls to a commit, and by `asyncpg` with a transaction for each on eight connections.
The yardstick makes no decision, words no entry and waits for no caller: it is what is left of an
admission when only the database works. On both, all calls meet on the same meters and one count.
"""

import asyncio
import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it has no types of its own
import pytest
from sqlalchemy import event

from approval.core import intake
from approval.core.call import Call, CallId, ToolCall, new_call_id
from approval.core.canonical import JSON, canonical
from approval.core.demand import Holdings
from approval.core.intake import Lease
from approval.core.lifecycle import Change, Event
from approval.core.rulebook import Rulebook
from approval.store import schema
from approval.store.postgres import PostgresEngine
from approval.store.prepared import Statements
from approval.store.sqlite import SqliteEngine
from approval.store.store import SqlStore
from tests import postgres
from tests.factories import make_lease, make_rulebook

CALLERS = 16
CONNECTIONS = 8
TOOL = "create_incoming_phone_number"
RULES = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {
        TOOL: {
            "spend": {"amount": {"fixed": "0.01 USD"}, "meters": ["day", "month"]},
            "rate_limit": {"max": 10_000, "window": 60},
            "require_approval": [{"approvers": "finance"}],
        }
    },
    "meters": {
        "day": {"limit": "1000000.00 USD", "window": {"calendar": "day"}, "scope": []},
        "month": {"limit": "1000000.00 USD", "window": {"calendar": "month"}, "scope": []},
    },
}

Statement = tuple[str, Any, bool]
"""The text, its values, and whether those are many."""
Replay = Callable[[list[list[Statement]]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Admissions a second, by the bare driver and by the store, and the store's ms of processor."""

    raw: float
    store: float
    cpu: float


async def admit(store: SqlStore, rules: Rulebook, lease: Lease, number: int) -> None:
    """Admit one call, as the service does; no two are equal."""
    arguments: JSON = {"number": number}
    asked = ToolCall(
        agent="ops-agent",
        upstream="shop",
        tool=TOOL,
        arguments=canonical(arguments),
        protocol_version="2025-11-25",
    )
    verdict = rules.judge(asked.agent, asked.upstream, asked.tool, arguments)

    def step(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
        call_id: CallId = new_call_id(now, number.to_bytes(10))
        return intake.begin(asked, verdict, holdings, call_id=call_id, lease=lease, now=now)

    change = await store.admit(asked, verdict.demand, step)
    if change.event is not Event.HOLD:
        raise RuntimeError(f"not admitted: {change.refusal}")


async def together(store: SqlStore, numbers: Iterator[int]) -> None:
    """Admit all of these, as many at a time as there are callers."""
    rules, lease = make_rulebook(RULES), make_lease()

    async def caller() -> None:
        for number in numbers:
            await admit(store, rules, lease, number)

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())


async def recorded(store: SqlStore, source: object, count: int) -> list[list[Statement]]:
    """Write down what the store runs for each of so many calls, one after the other."""
    calls: list[list[Statement]] = []

    def note(*told: Any) -> None:
        calls[-1].append((told[2], told[3], told[5]))

    event.listen(source, "before_cursor_execute", note)
    rules, lease = make_rulebook(RULES), make_lease()
    with pytest.MonkeyPatch.context() as patch:
        # By SQLAlchemy alone, which tells what it runs; the text is the same.
        patch.setattr(Statements, "prepared", lambda *_: None)
        for number in range(count):
            calls.append([])
            await admit(store, rules, lease, number)
    event.remove(source, "before_cursor_execute", note)
    return calls


async def one_round(
    opened: Callable[[], Awaitable[SqlStore]],
    replay: Callable[[], Awaitable[float]],
    count: int,
) -> Rates:
    raw = await replay()
    store = await opened()
    await together(store, iter(range(count, count + 2 * CALLERS)))
    start, before = time.perf_counter(), time.process_time()
    await together(store, iter(range(count)))
    took, cpu = time.perf_counter() - start, time.process_time() - before
    await store.close()
    return Rates(raw=count / raw, store=count / took, cpu=cpu / count * 1000)


# --- SQLite ---


async def on_sqlite(folder: Path, *, count: int, rounds: int) -> list[Rates]:
    store = await SqlStore.open("sqlite:///recorded.db", base=folder)
    engine = store._engine
    assert isinstance(engine, SqliteEngine)
    calls = await recorded(store, engine._writer._connection, count)
    lines = [(line.seq, "x", line.body, line.hash) for line in await store.trail(limit=count)]
    await store.close()
    numbers = iter(range(2 * rounds))

    async def opened() -> SqlStore:
        return await SqlStore.open(f"sqlite:///{next(numbers)}.db", base=folder)

    async def replay() -> float:
        file = folder / f"raw{next(numbers)}.db"
        return await asyncio.to_thread(_replayed, file, calls, lines)

    return [await one_round(opened, replay, count) for _ in range(rounds)]


def _replayed(file: Path, calls: list[list[Statement]], lines: list[tuple[Any, ...]]) -> float:
    schema.upgrade(file)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            database.execute(f"PRAGMA {pragma}")
        start = time.perf_counter()
        for first in range(0, len(calls), CALLERS):
            database.execute("BEGIN IMMEDIATE")
            for statements in calls[first : first + CALLERS]:
                database.execute("SAVEPOINT unit")
                for statement, values, are_many in statements:
                    if are_many:
                        database.executemany(statement, values)
                    else:
                        database.execute(statement, values).fetchall()
                database.execute("RELEASE unit")
            batch = lines[first : first + CALLERS]
            database.executemany(
                "INSERT INTO audit (seq, subject, body, hash) VALUES (?, ?, ?, ?)", batch
            )
            head = (batch[-1][0], batch[-1][3])
            database.execute("UPDATE audit_head SET seq = ?, hash = ?", head)
            database.execute("COMMIT")
        return time.perf_counter() - start


# --- PostgreSQL ---


async def on_postgres(server: postgres.Server, *, count: int, rounds: int) -> list[Rates]:
    found: list[Rates] = []
    calls = await _recorded_on(await _fresh(server), count)
    for _ in range(rounds):
        raw_url, url = await _fresh(server), await _fresh(server)

        async def opened(url: str = url) -> SqlStore:
            return await SqlStore.open(url)

        async def replay(url: str = raw_url) -> float:
            return await _replayed_on(url, calls)

        found.append(await one_round(opened, replay, count))
    return found


async def _fresh(server: postgres.Server) -> str:
    return server.named(await asyncio.to_thread(lambda: server.create(like=server.template())))


async def _recorded_on(url: str, count: int) -> list[list[Statement]]:
    store = await SqlStore.open(url)
    engine = store._engine
    assert isinstance(engine, PostgresEngine)
    calls = await recorded(store, engine._write.sync_engine, count)
    await store.close()
    return calls


async def _replayed_on(url: str, calls: list[list[Statement]]) -> float:
    left = iter(calls[1:])
    connections = [await asyncpg.connect(url) for _ in range(CONNECTIONS)]

    async def work(connection: Any, turns: Iterable[list[Statement]]) -> None:
        for statements in turns:
            async with connection.transaction():
                for statement, values, are_many in statements:
                    if are_many:
                        await connection.executemany(statement, values)
                    else:
                        await connection.fetch(statement, *values)

    await work(connections[0], calls[:1])  # it makes the rows on which the others meet
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(work(connection, left))
    took = time.perf_counter() - start
    for connection in connections:
        await connection.close()
    return took


# --- the table ---


async def admission(*, count: int, rounds: int) -> None:
    """Print how many calls a second are admitted, on each database."""
    print(f"\n{CALLERS} callers, two meters and a rate, {count} calls a round")
    print("| database | bare driver, admits/s | store, admits/s | ratio | CPU, ms an admit |")
    print("| --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(prefix="approval-bench-") as name:
        print(row("SQLite", await on_sqlite(Path(name), count=count, rounds=rounds)), flush=True)
    with contextlib.ExitStack() as stack:
        server = await asyncio.to_thread(stack.enter_context, postgres.running())
        await asyncio.to_thread(
            server.run, "ALTER SYSTEM SET fsync = on", "SELECT pg_reload_conf()"
        )
        print(row("PostgreSQL", await on_postgres(server, count=count, rounds=rounds)), flush=True)


def row(name: str, rounds: list[Rates]) -> str:
    ratio = median(each.store / each.raw for each in rounds)
    return (
        f"| {name} | {median(each.raw for each in rounds):.0f} "
        f"| {median(each.store for each in rounds):.0f} | {ratio:.2f} "
        f"| {median(each.cpu for each in rounds):.2f} |"
    )
