"""A connection lost at the COMMIT: nothing is written twice, and what is not known is owned up to.

Between the store and a real server stands a wire that cuts the line at that very word.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qs, urlsplit

import asyncpg  # type: ignore[import-untyped]  # it has no types of its own
import pytest
from sqlalchemy import insert, text
from sqlalchemy.util import await_only

from approval.core.call import Status
from approval.errors import StoreUnavailable
from approval.store import postgres_writer
from approval.store.store import SqlStore
from approval.store.tables import processes
from approval.store.work import Work
from tests.factories import NOW, Clock
from tests.store.conftest import decide, entry, hold

pytestmark = pytest.mark.postgres


@pytest.fixture
async def store(postgres_url: str, clock: Clock) -> AsyncIterator[SqlStore]:
    store = await SqlStore.open(postgres_url, clock=clock)
    yield store
    await store.close()


@dataclass
class Wire:
    """Stands between us and the server, and cuts the line at a COMMIT as often as it is told."""

    url: str
    cuts: int = 0
    delivered: bool = True
    """Whether the server still hears a COMMIT whose answer is cut off."""
    shut: bool = False
    """Whether nobody gets through after that."""
    met: int = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.shut and self.met:
            writer.close()
            return
        server_reader, server_writer = await self._dial()
        async with asyncio.TaskGroup() as group:
            back = group.create_task(pump(server_reader, writer))
            await self._forward(reader, server_writer)
            back.cancel()
        server_writer.close()
        writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand on what we say until we hang up, or until a COMMIT at which the line is cut."""
        while data := await reader.read(65536):
            cut = b"COMMIT;" in data and self.met < self.cuts
            self.met += cut
            if self.delivered or not cut:
                writer.write(data)
            if cut:
                return

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.url)
        if folder := parse_qs(parts.query).get("host"):
            return await asyncio.open_unix_connection(f"{folder[0]}/.s.PGSQL.5432")
        return await asyncio.open_connection(parts.hostname, parts.port or 5432)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@asynccontextmanager
async def through(wire: Wire, clock: Clock) -> AsyncIterator[SqlStore]:
    """Open a store whose connections all go through the wire."""
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    parts = urlsplit(wire.url)
    user = parts.netloc.rpartition("@")[0] or "postgres"
    store = await SqlStore.open(
        f"postgresql://{user}@127.0.0.1:{port}{parts.path}?sslmode=disable", clock=clock
    )
    try:
        yield store
    finally:
        await store.close()
        server.close()


@pytest.mark.parametrize("delivered", [True, False])
@pytest.mark.parametrize("cuts", [1, 2])
async def test_what_was_cut_off_at_the_commit_is_written_once(
    store: SqlStore, postgres_url: str, clock: Clock, *, delivered: bool, cuts: int
) -> None:
    wire = Wire(postgres_url, delivered=delivered)
    async with through(wire, clock) as cut:
        held = await hold(cut)
        for work in (lambda: decide(cut, held), lambda: cut.journal(entry(5)), lambda: hold(cut)):
            wire.met, wire.cuts = 0, cuts
            await work()
            assert wire.met >= 1
    assert len((await store.find()).calls) == 1
    assert len((await store.get(held.id)).votes) == 1
    assert [line.body.count(b"apr_5") for line in await store.trail()].count(1) == 1
    report = await store.verify()
    assert (report.entries, report.problems) == (4, ())


async def test_what_cannot_be_found_out_is_owned_up_to(
    store: SqlStore, postgres_url: str, clock: Clock
) -> None:
    held = await hold(store)
    wire = Wire(postgres_url, shut=True)
    async with through(wire, clock) as cut:
        wire.cuts = 1
        with pytest.raises(StoreUnavailable, match="lost at a commit, and whether it happened"):
            await decide(cut, held)
        wire.shut = False
        # Asking again reads first: the vote is there, and counts once.
        assert (await decide(cut, held)).status is Status.APPROVED
    assert len((await store.get(held.id)).votes) == 1
    assert (await store.verify()).problems == ()


async def test_a_commit_that_never_comes_through_is_given_up(
    store: SqlStore, postgres_url: str, clock: Clock
) -> None:
    held = await hold(store)
    wire = Wire(postgres_url, delivered=False, cuts=99)
    async with through(wire, clock) as cut:
        with pytest.raises(StoreUnavailable, match="could not be written"):
            await decide(cut, held)
    assert wire.met == postgres_writer.TRIES
    assert await store.get(held.id) == held


# --- a connection lost before that ---

PROCESS = insert(processes)
MANY = 4
"""So often a statement is run until the driver runs it: see `approval.store.prepared`."""


def process_row(work: Work, name: str) -> None:
    work.connection.execute(PROCESS, {"instance": name, "heartbeat_at": NOW})


async def test_a_connection_that_is_lost_amid_kept_statements_is_replaced(
    store: SqlStore, postgres_url: str
) -> None:
    runs: list[str] = []

    async def end(pid: object) -> None:
        admin = await asyncpg.connect(postgres_url)
        await admin.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        await admin.close()

    def unit(work: Work) -> None:
        runs.append("run")
        if len(runs) == 1:
            await_only(end(work.connection.execute(text("SELECT pg_backend_pid()")).scalar()))
        process_row(work, "mine")

    for n in range(MANY):
        await store._engine.write(partial(process_row, name=f"{n}"))
    await store._engine.write(unit)
    assert runs == ["run", "run"]
    assert await store.living() == {"mine", *(f"{n}" for n in range(MANY))}
