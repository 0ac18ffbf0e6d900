"""A real store on a real database, and what several tests of this room do to it.

A test that asks for `store` runs on every engine. One that also asks for `file`, or for `engine`,
looks at what only SQLite has, as do the modules in `SQLITES_OWN`; those in `SERVERS_OWN` look at
what only a server has.
"""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection

from approval.core import intake, steps
from approval.core.audit import Entry, Tag
from approval.core.call import Call, CallId, Choice, ToolCall, new_call_id
from approval.core.demand import Holdings
from approval.core.lifecycle import Change
from approval.core.steps import Ballot
from approval.ports import Store
from approval.store.prepared import PreparedConnection, Statements
from approval.store.sqlite import SqliteEngine
from approval.store.store import SqlStore
from tests import postgres
from tests.factories import Clock, make_asked, make_directory, make_lease, make_verdict

URL = "sqlite:///approval.db"
SQLITES_OWN = {"test_sqlite", "test_writer"}
SERVERS_OWN = {"test_ledger_races", "test_postgres", "test_postgres_writer"}
ENGINES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" in metafunc.fixturenames:
        module = metafunc.module.__name__.rpartition(".")[2]
        its_own = module in SQLITES_OWN or {"file", "engine"} & set(metafunc.fixturenames)
        engines = ENGINES[:1] if its_own else ENGINES[1:] if module in SERVERS_OWN else ENGINES
        metafunc.parametrize("database", engines, indirect=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass(frozen=True)
class Database:
    """Where a test's stores keep everything."""

    url: str
    folder: Path

    async def open(self, clock: Clock | None = None) -> SqlStore:
        return await SqlStore.open(self.url, base=self.folder, clock=clock)

    async def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement behind the store's back."""
        if self.url == URL:
            with opened(self.folder / "approval.db") as database:
                return database.execute(statement).fetchall()
        return await postgres.execute(self.url, statement)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    url = URL if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return Database(url, tmp_path)


@pytest.fixture
async def store(database: Database, clock: Clock) -> AsyncIterator[SqlStore]:
    store = await database.open(clock)
    yield store
    await store.close()


@pytest.fixture
async def other(store: SqlStore, database: Database, clock: Clock) -> AsyncIterator[SqlStore]:
    """Open a second store on the same database, as another process would."""
    other = await database.open(clock)
    yield other
    await other.close()


@pytest.fixture
def file(store: SqlStore, tmp_path: Path) -> Path:
    return tmp_path / "approval.db"


@pytest.fixture
async def engine(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteEngine]:
    """Open the file with little patience for others."""
    engine = await SqliteEngine.open(tmp_path / "approval.db", clock, wait_seconds=0.05)
    yield engine
    await engine.close()


@pytest.fixture
def hasty(engine: SqliteEngine) -> Store:
    return SqlStore(engine)


def database_of(engine: SqliteEngine) -> sqlite3.Connection:
    return engine._writer._database


@contextlib.contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    """Open the file behind the store's back."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
        yield database


def entry(number: int = 1, **facts: object) -> Entry:
    return Entry(tag=Tag.CALL_ALLOW, subject=f"apr_{number}", actor="agent:ops-agent", facts=facts)


async def hold(store: SqlStore, asked: ToolCall | None = None, number: int = 1) -> Call:
    """Hold a call in the store, or join the equal one, as the service does."""
    wanted = asked or make_asked()

    def admit(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
        if existing is not None and intake.joins(existing, wanted, now):
            return intake.join(existing, owner="me")
        call_id = new_call_id(now, number.to_bytes(10))
        return intake.begin(
            wanted, make_verdict(), holdings, call_id=call_id, lease=make_lease(), now=now
        )

    return (await store.admit(wanted, None, admit)).call


async def decide(
    store: SqlStore, call: Call, choice: Choice = Choice.APPROVE, person: str = "ann"
) -> Call:
    ballot = Ballot(person=person, choice=choice, digest=call.digest, via="web", reason="fine")

    def step(call: Call, now: datetime) -> Change:
        return steps.decide(
            call, ballot, directory=make_directory(), verdict=make_verdict(), now=now
        )

    return (await store.advance(call.id, step)).call


async def cancel(store: SqlStore, call_id: CallId) -> Call:
    def step(call: Call, now: datetime) -> Change:
        return steps.cancel(call, actor="agent:ops-agent", reason="", now=now)

    return (await store.advance(call_id, step)).call


def prepared_of(connection: Connection) -> PreparedConnection:
    """Prepare statements for this connection alone."""
    return PreparedConnection(connection, Statements(connection.dialect))
