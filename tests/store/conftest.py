"""A real store on a real file, and what several tests of this room do to it."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from approval.core import intake, steps
from approval.core.audit import Entry, Tag
from approval.core.call import Call, CallId, Choice, ToolCall, new_call_id
from approval.core.demand import Holdings
from approval.core.lifecycle import Change
from approval.core.steps import Ballot
from approval.ports import Store
from approval.store.sqlite import SqliteEngine
from approval.store.store import SqlStore
from tests.factories import Clock, make_asked, make_directory, make_lease, make_verdict

URL = "sqlite:///approval.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqlStore]:
    store = await SqlStore.open(URL, base=tmp_path, clock=clock)
    yield store
    await store.close()


@pytest.fixture
async def other(store: SqlStore, tmp_path: Path, clock: Clock) -> AsyncIterator[SqlStore]:
    """Open a second store on the same file, as another process would."""
    other = await SqlStore.open(URL, base=tmp_path, clock=clock)
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
