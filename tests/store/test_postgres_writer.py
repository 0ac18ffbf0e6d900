"""PostgreSQL's writes: races have one winner, trouble is repeated or owned up to, never doubled."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import repeat
from urllib.parse import urlsplit

import orjson
import pytest
from sqlalchemy import NullPool, insert, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only
from typing_extensions import override

from approval.core import intake, steps
from approval.core.audit import Written
from approval.core.call import Call, CallId, Choice, Status
from approval.core.demand import Holdings
from approval.core.lifecycle import Change
from approval.core.steps import Ballot
from approval.errors import Conflict, Refused, StoreUnavailable, Unreadable
from approval.store import postgres, postgres_writer
from approval.store.postgres import PostgresEngine
from approval.store.postgres_writer import QUEUE_LIMIT, PostgresWriter
from approval.store.store import SqlStore
from approval.store.tables import processes
from approval.store.work import Work
from tests.factories import NOW, Clock, make_asked, make_directory, make_lease, make_verdict
from tests.postgres import execute
from tests.store.conftest import decide, entry, hold
from tests.store.test_sql import claim

pytestmark = pytest.mark.postgres


class Ticking(Clock):
    """Another time at each look: entries of one time were committed together."""

    @override
    def __call__(self) -> datetime:
        self.advance(microseconds=1)
        return self.now


def writer_of(store: SqlStore) -> PostgresWriter:
    assert isinstance(store._engine, PostgresEngine)
    return store._engine._writer


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        for _ in repeat(None):
            if done():
                return
            await asyncio.sleep(0.001)


def times(lines: tuple[Written, ...]) -> set[str]:
    return {orjson.loads(line.body)["at"] for line in lines}


@asynccontextmanager
async def holding(url: str, statement: str) -> AsyncIterator[None]:
    """Keep what this statement locks locked, as a foreign process would."""
    engine = create_async_engine(
        "postgresql+asyncpg://", connect_args={"dsn": url}, poolclass=NullPool
    )
    async with engine.connect() as connection:
        await connection.execute(text(statement))
        yield
    await engine.dispose()


WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'approval' AND datname = current_database() AND wait_event_type = 'Lock'
"""


async def waiters(url: str, wanted: int) -> None:
    """Wait until so many of ours wait for a lock."""
    async with asyncio.timeout(10):
        while (await execute(url, WAITING))[0][0] != wanted:  # noqa: ASYNC110  # as below
            await asyncio.sleep(0.01)


# --- races ---


async def test_of_fifty_advances_at_once_one_changes_the_call(
    store: SqlStore, other: SqlStore
) -> None:
    approved = await decide(store, await hold(store))
    claims = (claim(each, approved) for each in [store, other] * 25)
    found = await asyncio.gather(*claims, return_exceptions=True)
    assert [type(each) for each in found].count(Call) == 1
    assert [type(each) for each in found].count(Conflict) == 49
    assert (await store.get(approved.id)).version == approved.version + 1
    assert len(await store.trail(subject=approved.id)) == approved.version + 1


async def test_a_decision_that_waited_for_the_lock_meets_the_deadline_after_it(
    store: SqlStore, clock: Clock, postgres_url: str
) -> None:
    held = await hold(store)
    ballot = Ballot(person="ann", choice=Choice.APPROVE, digest=held.digest, via="web")

    def vote(call: Call, now: datetime) -> Change:
        return steps.decide(
            call, ballot, directory=make_directory(), verdict=make_verdict(), now=now
        )

    async with (
        asyncio.TaskGroup() as group,
        holding(postgres_url, "SELECT id FROM call FOR UPDATE"),
    ):
        voted = group.create_task(store.advance(held.id, vote))
        await waiters(postgres_url, 1)
        clock.now = held.decide_before + timedelta(microseconds=1)
    assert voted.result().call.status is Status.EXPIRED
    assert (await store.get(held.id)).votes == ()


async def test_one_key_stands_for_one_call_however_many_ask_at_once(
    store: SqlStore, other: SqlStore
) -> None:
    asked = (replace(make_asked({"n": n}), key="one-key") for n in range(20))
    work = (hold([store, other][n % 2], each, n) for n, each in enumerate(asked))
    found = await asyncio.gather(*work, return_exceptions=True)
    assert [type(each) for each in found].count(Call) == 1
    assert [type(each) for each in found].count(Refused) == 19


async def test_a_request_that_joins_waits_for_whoever_changes_the_call(
    store: SqlStore, other: SqlStore
) -> None:
    for number in range(1, 4):
        asked = make_asked({"number": number})
        held = await hold(store, asked, number)
        joins = (hold(each, asked) for each in [store, other] * 5)
        found = await asyncio.gather(*joins, decide(store, held), return_exceptions=True)
        assert [type(each) for each in found] == [Call] * 11
    assert (await store.verify()).problems == ()


async def test_calls_of_one_agent_without_a_key_do_not_wait_for_each_other(
    store: SqlStore, postgres_url: str
) -> None:
    held = await hold(store)
    async with holding(postgres_url, f"SELECT id FROM call WHERE id = '{held.id}' FOR UPDATE"):
        assert (await hold(store, make_asked({"n": 2}), 2)).status is Status.PENDING


async def test_the_head_is_locked_after_the_call(store: SqlStore, postgres_url: str) -> None:
    """Whoever waits for a call holds up nobody's audit entries."""
    held = await hold(store)
    async with (
        asyncio.TaskGroup() as group,
        holding(postgres_url, "SELECT id FROM call FOR UPDATE"),
    ):
        waiting = group.create_task(decide(store, held))
        await waiters(postgres_url, 1)
        await store.journal(entry())
        assert not waiting.done()
    assert len(await store.trail()) == 3


# --- sharing commits ---


@pytest.fixture
def ticking(postgres_url: str) -> Ticking:
    return Ticking()


async def test_entries_that_come_together_share_a_commit_and_others_trouble_stays_theirs(
    postgres_url: str, ticking: Ticking
) -> None:
    store = await SqlStore.open(postgres_url, clock=ticking)
    bad = (entry(7, bad="\ud800"), replace(entry(8), subject="nul\0"))
    store.journal_later(entry(9))
    found = await asyncio.gather(
        *(store.journal(each) for each in (entry(1), *bad, entry(2), entry(3))),
        return_exceptions=True,
    )
    assert [type(each) for each in found] == [
        *(type(None), Unreadable, Unreadable, type(None), type(None))
    ]
    lines = await store.trail()
    assert len(lines) == 4
    assert len(times(lines)) == 1
    assert (await store.verify()).problems == ()
    await store.close()


async def test_many_concurrent_callers_need_few_commits(
    postgres_url: str, ticking: Ticking
) -> None:
    store = await SqlStore.open(postgres_url, clock=ticking)

    async def caller() -> None:
        for _ in range(10):
            await store.journal(entry())

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(caller())
    lines = await store.trail(limit=1000)
    assert len(lines) == 500
    assert len(times(lines)) <= 100
    await store.close()


async def test_what_may_come_later_comes_by_itself(store: SqlStore) -> None:
    store.journal_later(entry(1))
    store.journal_later(entry(2))
    async with asyncio.timeout(10):
        while len(await store.trail()) < 2:  # noqa: ASYNC110  # the database is no event
            await asyncio.sleep(0.01)
    await until(lambda: not writer_of(store)._writing_lines)
    store.journal_later(entry(3))
    await store.close()


async def test_closing_writes_what_is_queued_and_then_takes_no_more(
    postgres_url: str, other: SqlStore
) -> None:
    store = await SqlStore.open(postgres_url)
    store.journal_later(entry(1))
    async with asyncio.TaskGroup() as group:
        holding_one = group.create_task(hold(store))
        await asyncio.sleep(0)
        await store.close()
    assert holding_one.result().status is Status.PENDING
    assert len(await other.trail()) == 2
    for work in (store.journal(entry()), store.heartbeat("me")):
        with pytest.raises(StoreUnavailable, match="takes no more work"):
            await work


async def test_the_queue_has_an_end_and_says_so(store: SqlStore) -> None:
    for n in range(QUEUE_LIMIT + 5):
        store.journal_later(entry(n))
    assert len(writer_of(store)._lines) == QUEUE_LIMIT
    for work in (store.journal(entry()), store.heartbeat("me")):
        with pytest.raises(StoreUnavailable, match="takes no more work now; try again later"):
            await work


async def test_a_caller_who_no_longer_waits_disturbs_nobody(
    store: SqlStore, postgres_url: str
) -> None:
    async with (
        holding(postgres_url, "SELECT seq FROM audit_head FOR UPDATE"),
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(store.journal(entry(n))) for n in range(3)]
        held = group.create_task(store.admit(make_asked(), None, hold_one))
        await waiters(postgres_url, 2)
        for task in (*tasks, held):
            task.cancel()
    await until(lambda: not writer_of(store)._writing_lines and not writer_of(store)._open)
    assert len(await store.trail()) == 4
    assert (await store.verify()).problems == ()


def hold_one(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
    return intake.begin(
        make_asked(),
        make_verdict(),
        holdings,
        call_id=CallId("apr_1"),
        lease=make_lease(),
        now=now,
    )


# --- what a unit raises, and what a value does ---


SECRET = "not-for-any-log"


PROCESS = insert(processes)
TOUCH = text("UPDATE process SET heartbeat_at = heartbeat_at WHERE instance = :n")
NOWHERE = text("INSERT INTO nowhere VALUES (:it)")
SEEN = 4
"""So often a statement is run until the driver runs it: see `approval.store.prepared`."""


def process_row(name: str) -> Callable[[Work], str]:
    def unit(work: Work) -> str:
        work.connection.execute(PROCESS, {"instance": name, "heartbeat_at": NOW})
        return name

    return unit


def failing(work: Work) -> None:
    process_row("from a unit that failed")(work)
    raise LookupError("mine alone")


def twice(work: Work) -> None:
    process_row(SECRET)(work)
    process_row(SECRET)(work)


def half_a_pair(work: Work) -> None:
    process_row(SECRET + "\ud800")(work)


def nul(work: Work) -> None:
    process_row(SECRET + "\0")(work)


def unwritable(work: Work) -> None:
    process_row("with an entry that cannot be written")(work)
    work.entries.append(entry(reason="\udcff"))


def no_such_table(work: Work) -> None:
    work.connection.execute(NOWHERE, {"it": SECRET})


@pytest.mark.parametrize(
    ("unit", "kind"),
    [
        (failing, LookupError),
        (twice, Conflict),
        (half_a_pair, Unreadable),
        (nul, Unreadable),
        (unwritable, Unreadable),
        (no_such_table, StoreUnavailable),
    ],
)
async def test_what_a_unit_raises_leaves_nothing_and_quotes_nothing(
    store: SqlStore,
    unit: Callable[[Work], None],
    kind: type[Exception],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(SEEN):
        with pytest.raises(kind) as raised:
            await store._engine.write(unit)
        assert SECRET not in f"{raised.value} {caplog.text}"
    assert await store.living() == frozenset()
    assert await store.trail() == ()
    assert await store._engine.write(process_row("a")) == "a"


@pytest.mark.parametrize("bad", ["\0", "\ud800"])
async def test_a_name_that_cannot_be_kept_is_refused_as_unreadable(
    store: SqlStore, bad: str
) -> None:
    with pytest.raises(Unreadable):
        await hold(store, replace(make_asked(), tool=f"buy{bad}"))
    assert await store.trail() == ()


# --- trouble that passes, and trouble that does not ---


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres.SESSION, "lock_timeout", "100")
    monkeypatch.setattr(postgres_writer, "TRY_SECONDS", 3.0)


async def test_a_lock_that_does_not_come_is_asked_for_again(
    hasty: None, store: SqlStore, postgres_url: str
) -> None:
    held = await hold(store)
    runs: list[datetime] = []

    def step(call: Call, now: datetime) -> Change:
        runs.append(now)
        return steps.cancel(call, actor="agent:x", reason="", now=now)

    async with (
        asyncio.TaskGroup() as group,
        holding(postgres_url, "SELECT seq FROM audit_head FOR UPDATE"),
    ):
        work = group.create_task(store.advance(held.id, step))
        await until(lambda: len(runs) == 2)
    assert work.result().call.status is Status.CANCELLED
    assert len(await store.trail()) == 2
    assert (await store.verify()).problems == ()


async def test_a_lock_that_never_comes_is_not_waited_for_for_ever(
    hasty: None, store: SqlStore, postgres_url: str
) -> None:
    held = await hold(store)
    async with holding(postgres_url, "SELECT seq FROM audit_head FOR UPDATE"):
        work = (decide(store, held), store.journal(entry()))
        found = await asyncio.gather(*work, return_exceptions=True)
    told = "the database could not be written: LockNotAvailableError (55P03)"
    assert [(type(each), str(each)) for each in found] == [(StoreUnavailable, told)] * 2
    assert await store.get(held.id) == held
    assert (await decide(store, held)).status is Status.APPROVED


async def test_of_two_in_a_deadlock_both_get_through(store: SqlStore) -> None:
    for name in ("a", "b"):
        await store._engine.write(process_row(name))
    met = asyncio.Barrier(2)
    runs = {"ab": 0, "ba": 0}

    def crossing(names: str) -> Callable[[Work], None]:
        def unit(work: Work) -> None:
            runs[names] += 1
            for name in names:
                work.connection.execute(TOUCH, {"n": name})
                if runs[names] == 1 and name == names[0]:
                    await_only(met.wait())

        return unit

    for _ in range(SEEN):
        runs.update(ab=0, ba=0)
        await asyncio.gather(*(store._engine.write(crossing(names)) for names in runs))
        assert sum(runs.values()) == 3


async def test_a_server_that_falls_silent_is_not_waited_for_for_ever(
    hasty: None, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_writer, "TRY_SECONDS", 0.1)
    with pytest.raises(StoreUnavailable, match="could not be written: TimeoutError"):
        await store._engine.write(lambda work: work.connection.execute(text("SELECT pg_sleep(30)")))
    monkeypatch.undo()
    await store.journal(entry())


async def test_a_newer_version_that_migrated_meanwhile_stops_this_one(
    store: SqlStore, postgres_url: str
) -> None:
    held = await hold(store)
    await execute(postgres_url, "UPDATE audit_head SET schema = 99")
    for work in (store.journal(entry()), decide(store, held)):
        with pytest.raises(StoreUnavailable, match="has schema 99, this version knows"):
            await work
    assert await store.get(held.id) == held


async def test_a_trail_without_its_head_takes_nothing_more(
    store: SqlStore, postgres_url: str
) -> None:
    await execute(postgres_url, "DELETE FROM audit_head")
    with pytest.raises(StoreUnavailable, match="lost the head of its trail: restore a backup"):
        await store.journal(entry())


async def test_commits_that_are_no_longer_durable_stop_the_store(postgres_url: str) -> None:
    store = await SqlStore.open(postgres_url)
    name = urlsplit(postgres_url).path[1:]
    await execute(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    for work in (store.journal(entry()), hold(store)):
        with pytest.raises(StoreUnavailable, match="synchronous_commit=off: set it back"):
            await work
    await store.close()
