"""Queries beside the writer: how many at a time, who waits, and what is left of those given up."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, QueuePool, create_engine, text

from approval.errors import StoreUnavailable
from approval.store.readers import READERS, Readers

SOON = 0.05


@pytest.fixture
async def readers(tmp_path: Path) -> AsyncIterator[Readers]:
    url = f"sqlite:///{tmp_path}/r.db?check_same_thread=false"
    engine = create_engine(url, poolclass=QueuePool, pool_size=READERS, max_overflow=0)
    readers = Readers(engine, wait_seconds=SOON)
    yield readers
    await readers.close()


def answer(connection: Connection) -> int:
    found: int = connection.execute(text("SELECT 42")).scalar_one()
    return found


class Blocked:
    """A query that does not end before it is told to."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self._go = threading.Event()

    def __call__(self, connection: Connection) -> int:
        self.begun.release()
        self._go.wait(10)
        return answer(connection)

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._go.set()


@asynccontextmanager
async def occupied(readers: Readers) -> AsyncIterator[list[asyncio.Task[int]]]:
    """Give every reader something to do for as long as this lasts."""
    blocked = Blocked()
    async with asyncio.TaskGroup() as group:
        with blocked.released():
            tasks = [group.create_task(readers.read(blocked)) for _ in range(READERS)]
            for _ in tasks:
                assert await asyncio.to_thread(blocked.begun.acquire, timeout=10)
            yield tasks


async def test_as_many_queries_run_at_a_time_as_there_are_readers(readers: Readers) -> None:
    async with occupied(readers) as tasks:
        pass
    assert [task.result() for task in tasks] == [42] * READERS


async def test_too_many_readers_are_told_to_come_back(readers: Readers) -> None:
    async with occupied(readers):
        with pytest.raises(StoreUnavailable, match="too many readers"):
            await readers.read(answer)
    assert await readers.read(answer) == 42


async def test_one_more_waits_for_a_reader_that_gets_free_in_time(readers: Readers) -> None:
    readers._wait_seconds = 10
    async with asyncio.TaskGroup() as group, occupied(readers):
        late = group.create_task(readers.read(answer))
        await asyncio.sleep(SOON)
        assert not late.done()
    assert late.result() == 42


async def test_queries_that_are_given_up_leave_their_connections_usable(readers: Readers) -> None:
    async with occupied(readers) as tasks:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    readers._wait_seconds = 10
    assert await asyncio.gather(*(readers.read(answer) for _ in range(5 * READERS))) == [42] * (
        5 * READERS
    )


async def test_what_a_query_raises_passes_and_the_databases_trouble_is_worded(
    readers: Readers,
) -> None:
    def fail(connection: Connection) -> None:
        raise LookupError("mine")

    for _ in range(2 * READERS):
        with pytest.raises(LookupError, match="mine"):
            await readers.read(fail)
    with pytest.raises(StoreUnavailable, match="could not be read: no such table: nowhere"):
        await readers.read(lambda connection: connection.execute(text("SELECT 1 FROM nowhere")))


async def test_closing_waits_for_the_queries_under_way_and_lets_no_more_in(
    readers: Readers,
) -> None:
    async with asyncio.TaskGroup() as group, occupied(readers) as tasks:
        closing = group.create_task(readers.close())
        await asyncio.sleep(SOON)
        assert not closing.done()
    assert [task.result() for task in tasks] == [42] * READERS
    with pytest.raises(StoreUnavailable, match="closed"):
        await readers.read(answer)
