"""The writer shares commits, and keeps one caller's trouble from the others and from itself."""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from itertools import repeat
from pathlib import Path

import orjson
import pytest
from sqlalchemy import insert, text
from typing_extensions import override

from approval.core.audit import Entry, Written
from approval.errors import Conflict, StoreUnavailable, Unreadable
from approval.ports import Store
from approval.store.sqlite import SqliteEngine
from approval.store.store import SqlStore
from approval.store.tables import SCHEMA, processes
from approval.store.work import Work
from approval.store.writer import GATHER_TURNS, QUEUE_LIMIT, take_lock
from tests.factories import NOW, Clock
from tests.store.conftest import URL, database_of, entry, opened


class Ticking(Clock):
    """Another time at each look: entries of one time were committed together."""

    @override
    def __call__(self) -> datetime:
        self.advance(microseconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Ticking()


async def until(done: Callable[[], bool]) -> None:
    """Let the loop turn until this holds."""
    async with asyncio.timeout(10):
        for _ in repeat(None):
            if done():
                return
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def busy(engine: SqliteEngine) -> AsyncIterator[None]:
    """Keep the writer at work on one unit, so that what comes meanwhile is one batch."""
    entered, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait(work: Work) -> None:
        loop.call_soon_threadsafe(entered.set)
        release.wait(10)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(engine.write(wait))
        await entered.wait()
        yield
        await until(lambda: not engine._writer._handed.empty())
        release.set()


async def batch(engine: SqliteEngine, *units: Callable[[Work], object] | Entry) -> list[object]:
    """Hand these to the writer as one batch; answer what came of each."""
    async with busy(engine):
        waiting = asyncio.gather(
            *(
                engine.journal(unit) if isinstance(unit, Entry) else engine.write(unit)
                for unit in units
            ),
            return_exceptions=True,
        )
        await until(lambda: engine._writer._under_way == 1 + len(units))
    return await waiting


def times(lines: tuple[Written, ...]) -> list[str]:
    return [orjson.loads(line.body)["at"] for line in lines]


def process_row(name: str) -> Callable[[Work], str]:
    def unit(work: Work) -> str:
        row = {"instance": name, "heartbeat_at": work.now}
        work.connection.execute(insert(processes), row)
        work.entries.append(entry(facts=name))
        return name

    return unit


async def names(hasty: Store) -> list[str]:
    return sorted(await hasty.living())


# --- group commit ---


async def test_callers_who_come_together_share_one_commit(
    engine: SqliteEngine, hasty: Store
) -> None:
    assert await batch(engine, *(entry(n) for n in range(50))) == [None] * 50
    lines = await hasty.trail()
    assert (len(lines), len(set(times(lines)))) == (50, 1)
    assert (await hasty.verify()).problems == ()


async def test_many_concurrent_callers_need_few_commits(engine: SqliteEngine, hasty: Store) -> None:
    await asyncio.gather(*(engine.journal(entry(n)) for n in range(200)))
    lines = await hasty.trail(limit=500)
    assert len(lines) == 200
    assert len(set(times(lines))) <= 20


async def journal_at_turn(engine: SqliteEngine, turn: int) -> None:
    for _ in range(turn):
        await asyncio.sleep(0)
    await engine.journal(entry(turn))


@pytest.mark.parametrize(
    ("turns", "first"),
    [
        pytest.param(4, 8, id="a short run of arrivals is handed over whole"),
        pytest.param(100, 2 * GATHER_TURNS, id="an endless one makes nobody wait for its end"),
    ],
)
async def test_callers_of_consecutive_turns_are_gathered(
    engine: SqliteEngine, hasty: Store, monkeypatch: pytest.MonkeyPatch, turns: int, first: int
) -> None:
    writer, handed = engine._writer, list[int]()
    hand_over = writer._hand_over

    def counted() -> None:
        handed.append(len(writer._fresh))
        hand_over()

    monkeypatch.setattr(writer, "_hand_over", counted)
    pairs = (journal_at_turn(engine, turn // 2) for turn in range(2 * turns))
    await asyncio.gather(*pairs)
    assert len(await hasty.trail(limit=500)) == 2 * turns == sum(handed)
    assert handed[0] == first


async def test_each_unit_has_its_own_result(engine: SqliteEngine, hasty: Store) -> None:
    assert await batch(engine, process_row("a"), process_row("b")) == ["a", "b"]
    assert await names(hasty) == ["a", "b"]


async def test_what_is_written_is_on_disk_when_the_caller_hears_of_it(
    engine: SqliteEngine, tmp_path: Path
) -> None:
    await engine.journal(entry())
    with opened(tmp_path / "approval.db") as database:
        assert database.execute("SELECT count(*) FROM audit").fetchone() == (1,)
        assert database_of(engine).execute("PRAGMA synchronous").fetchone() == (2,)


# --- one caller's trouble ---


def failing(work: Work) -> None:
    process_row("from a unit that failed")(work)
    raise LookupError("mine alone")


def twice(work: Work) -> None:
    process_row("x")(work)
    process_row("x")(work)


def half_a_pair(work: Work) -> None:
    process_row("\ud800")(work)


def unwritable(work: Work) -> None:
    process_row("with an entry that cannot be written")(work)
    work.entries.append(entry(reason="\udcff"))


async def test_what_one_unit_raises_takes_nothing_with_it(
    engine: SqliteEngine, hasty: Store
) -> None:
    spoilt = (failing, twice, half_a_pair, unwritable, entry(bad="\ud800"))
    found = await batch(engine, process_row("a"), *spoilt, entry(), process_row("b"))
    kinds = [type(each) for each in found]
    assert kinds == [
        str,
        LookupError,
        Conflict,
        Unreadable,
        Unreadable,
        Unreadable,
        type(None),
        str,
    ]
    assert await names(hasty) == ["a", "b"]
    report = await hasty.verify()
    assert (report.entries, report.problems) == (3, ())
    assert len(set(times(await hasty.trail()))) == 1


async def test_a_caller_who_no_longer_waits_disturbs_nobody(
    engine: SqliteEngine, hasty: Store
) -> None:
    async with busy(engine), asyncio.TaskGroup() as group:
        task = group.create_task(engine.journal(entry(1)))
        await until(lambda: not engine._writer._handed.empty())
        task.cancel()
    await engine.journal(entry(2))
    assert len(await hasty.trail()) == 2


# --- the database's trouble ---


SECRET = "not-for-any-log"


def no_such_table(work: Work) -> None:
    work.connection.execute(text("INSERT INTO nowhere VALUES (:it)"), {"it": SECRET})


async def test_the_databases_own_trouble_is_everybodys_and_passes(
    engine: SqliteEngine, hasty: Store, caplog: pytest.LogCaptureFixture
) -> None:
    found = await batch(engine, process_row("a"), no_such_table, entry())
    assert [type(each) for each in found] == [StoreUnavailable] * 3
    assert {str(each) for each in found} == {
        "the database could not be written: no such table: nowhere"
    }
    assert len({id(each) for each in found}) == 3
    (record,) = caplog.records
    assert (record.message, record.exc_info) == (str(found[0]), None)
    assert SECRET not in caplog.text
    assert (await names(hasty), await hasty.trail()) == ([], ())
    await engine.journal(entry())
    assert (await hasty.verify()).entries == 1


async def test_a_full_disk_refuses_the_whole_batch_and_leaves_the_store_usable(
    engine: SqliteEngine, hasty: Store
) -> None:
    await engine.journal(entry())
    pages = database_of(engine).execute("PRAGMA page_count").fetchone()[0]
    database_of(engine).execute(f"PRAGMA max_page_count={pages + 2}")
    large = [entry(n, filler="x" * 3000) for n in range(20)]
    found = await batch(engine, process_row("a"), *large)
    assert {str(each) for each in found} == {
        "the database could not be written: database or disk is full"
    }
    assert (await names(hasty), len(await hasty.trail())) == ([], 1)
    database_of(engine).execute("PRAGMA max_page_count=1000000")
    await engine.journal(entry())
    report = await hasty.verify()
    assert (report.entries, report.problems) == (2, ())


async def test_a_foreign_writer_who_holds_on_too_long_is_waited_out_and_refused(
    engine: SqliteEngine, hasty: Store, tmp_path: Path
) -> None:
    database_of(engine).execute("PRAGMA busy_timeout=20")
    with opened(tmp_path / "approval.db") as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="database is locked"):
            await engine.journal(entry())
        foreign.execute("ROLLBACK")
    await engine.journal(entry())
    assert len(await hasty.trail()) == 1


HOLD_THE_LOCK = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held_by_another_process(lock: Path) -> Iterator[None]:
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(lock)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.communicate()


async def test_a_process_that_holds_the_lock_for_ever_is_not_waited_for_for_ever(
    engine: SqliteEngine, hasty: Store, tmp_path: Path
) -> None:
    with (
        held_by_another_process(tmp_path / "approval.db.lock"),
        pytest.raises(StoreUnavailable, match="another process holds the database"),
    ):
        await engine.journal(entry())
    await engine.journal(entry())
    assert len(await hasty.trail()) == 1


async def test_closing_does_not_wait_for_such_a_process_either(
    tmp_path: Path, clock: Clock
) -> None:
    engine = await SqliteEngine.open(tmp_path / "approval.db", clock, wait_seconds=0.05)
    with held_by_another_process(tmp_path / "approval.db.lock"):
        async with asyncio.timeout(10):
            await engine.close()


def test_a_free_lock_is_taken_at_once_and_a_held_one_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.lock").open("w") as one, (tmp_path / "a.lock").open("w") as two:
        take_lock(one.fileno(), 0)
        with pytest.raises(StoreUnavailable):
            take_lock(two.fileno(), 0)


async def test_whatever_goes_wrong_the_thread_lives_on(
    engine: SqliteEngine, hasty: Store, clock: Clock
) -> None:
    good = engine._writer._clock

    def broken() -> datetime:
        raise ZeroDivisionError("the clock fell off the wall")

    engine._writer._clock = broken
    with pytest.raises(StoreUnavailable, match="could not be written: ZeroDivisionError"):
        await engine.journal(entry())
    engine._writer._clock = good
    await engine.journal(entry())
    assert len(await hasty.trail()) == 1


async def test_a_newer_version_that_migrated_meanwhile_stops_this_one(
    engine: SqliteEngine, hasty: Store, tmp_path: Path
) -> None:
    with opened(tmp_path / "approval.db") as database:
        database.execute(f"UPDATE audit_head SET schema = {SCHEMA + 1}")
        with pytest.raises(
            StoreUnavailable, match=f"has schema {SCHEMA + 1}, this version knows {SCHEMA}: upgrade"
        ):
            await engine.journal(entry())
        database.execute(f"UPDATE audit_head SET schema = {SCHEMA}")
    await engine.journal(entry())
    assert len(await hasty.trail()) == 1


async def test_a_trail_without_its_head_takes_nothing_more(
    engine: SqliteEngine, tmp_path: Path
) -> None:
    with opened(tmp_path / "approval.db") as database:
        database.execute("DELETE FROM audit_head")
        with pytest.raises(StoreUnavailable, match="lost the head of its trail"):
            await engine.journal(entry())


# --- later ---


async def test_what_may_come_later_comes_by_itself(engine: SqliteEngine, hasty: Store) -> None:
    engine.journal_later(entry(1))
    engine.journal_later(entry(2))
    async with asyncio.timeout(5):
        while len(await hasty.trail()) < 2:
            pass
    # Once more: the first nudge has been used up.
    engine.journal_later(entry(3))
    async with asyncio.timeout(5):
        while len(await hasty.trail()) < 3:
            pass


async def test_what_may_come_later_rides_the_next_commit(
    engine: SqliteEngine, hasty: Store
) -> None:
    engine.journal_later(entry(1))
    await engine.journal(entry(2))
    lines = await hasty.trail()
    assert [orjson.loads(line.body)["subject"] for line in lines] == ["apr_1", "apr_2"]
    assert len(set(times(lines))) == 1


async def test_closing_commits_what_is_queued_and_then_takes_no_more(
    tmp_path: Path, clock: Clock
) -> None:
    engine = await SqliteEngine.open(tmp_path / "approval.db", clock)
    engine.journal_later(entry(1))
    waiting = asyncio.gather(*(engine.journal(entry(n)) for n in range(2, 12)))
    await asyncio.sleep(0)
    await engine.close()
    await waiting
    with pytest.raises(StoreUnavailable, match="takes no more work"):
        await engine.journal(entry(12))
    engine.journal_later(entry(13))
    again = await SqlStore.open(URL, base=tmp_path, clock=clock)
    assert (await again.verify()).entries == 11
    await again.close()


async def test_closing_commits_what_might_have_come_later(tmp_path: Path, clock: Clock) -> None:
    engine = await SqliteEngine.open(tmp_path / "approval.db", clock)
    engine.journal_later(entry(1))
    await engine.close()
    again = await SqlStore.open(URL, base=tmp_path, clock=clock)
    assert (await again.verify()).entries == 1
    await again.close()


async def test_the_queue_has_an_end_and_says_so(engine: SqliteEngine, hasty: Store) -> None:
    async with busy(engine):
        for n in range(1, QUEUE_LIMIT):
            engine.journal_later(entry(n))
        with pytest.raises(StoreUnavailable, match="takes no more work now"):
            await engine.journal(entry())
        engine.journal_later(entry(-1))
    await until(lambda: not engine._writer._under_way)
    await engine.journal(entry(-2))
    report = await hasty.verify()
    assert (report.entries, report.problems) == (QUEUE_LIMIT, ())


def test_a_loop_that_ends_first_loses_no_write(tmp_path: Path) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(work: Work) -> None:
        entered.set()
        release.wait(10)
        process_row("slow")(work)

    async def begin() -> SqliteEngine:
        engine = await SqliteEngine.open(tmp_path / "approval.db", Clock())
        waiting = asyncio.gather(engine.write(slow))
        await asyncio.to_thread(entered.wait, 10)
        waiting.cancel()
        return engine

    engine = asyncio.run(begin())
    release.set()
    asyncio.run(engine.close())
    with opened(tmp_path / "approval.db") as database:
        assert database.execute("SELECT instance FROM process").fetchall() == [("slow",)]


# --- time ---


async def test_a_clock_set_back_does_not_turn_back_the_stores_time(
    engine: SqliteEngine, hasty: Store, clock: Clock, tmp_path: Path
) -> None:
    await engine.journal(entry(1))
    written = await hasty.now()
    clock.advance(hours=-1)
    await engine.journal(entry(2))
    assert times(await hasty.trail()) == sorted(times(await hasty.trail()))
    assert await hasty.now() >= written - timedelta(microseconds=1) > clock.now
    # Another process, and one that starts anew, are bound by what is written.
    second = await SqlStore.open(URL, base=tmp_path, clock=Clock(NOW - timedelta(hours=2)))
    assert await second.now() >= NOW
    await second.journal(entry(3))
    await second.close()
    assert times(await hasty.trail()) == sorted(times(await hasty.trail()))
    assert (await hasty.verify()).problems == ()


async def test_units_see_the_stores_time(engine: SqliteEngine, clock: Clock) -> None:
    await engine.journal(entry())
    clock.advance(hours=-1)
    assert await engine.write(lambda work: work.now) >= NOW
