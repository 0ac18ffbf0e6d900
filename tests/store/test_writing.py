"""A failed write is remembered, in words for anybody, until one that works."""

from pathlib import Path

import pytest
from sqlalchemy import text

from approval.errors import Conflict, StoreUnavailable
from approval.store.sqlite import SqliteEngine
from approval.store.work import Work
from approval.store.writing import Writing
from tests.store.conftest import database_of, entry, opened


def well(work: Work) -> str:
    return "done"


def at_fault(work: Work) -> None:
    raise Conflict("too late")


def faulty(work: Work) -> None:
    work.connection.execute(text("INSERT INTO nowhere VALUES (1)"))


def told(writing: Writing) -> str | None:
    return writing.trouble


async def refused(writing: Writing) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await writing.journal(entry(filler="x" * 30_000))
    return str(caught.value)


async def test_a_database_that_another_holds_is_trouble_until_it_is_let_go(
    engine: SqliteEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    writing = Writing(engine)
    database_of(engine).execute("PRAGMA busy_timeout=20")
    with opened(tmp_path / "approval.db") as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        assert await refused(writing) == told(writing)
        assert told(writing) == "the database could not be written: database is locked"
    for _ in range(2):
        assert await writing.write(well) == "done"
        assert told(writing) is None
    assert caplog.messages.count("the database can be written again") == 1


async def test_a_full_disk_is_trouble_until_there_is_room(engine: SqliteEngine) -> None:
    writing = Writing(engine)
    pages = database_of(engine).execute("PRAGMA page_count").fetchone()[0]
    database_of(engine).execute(f"PRAGMA max_page_count={pages}")
    await refused(writing)
    assert told(writing) == "the database could not be written: database or disk is full"
    database_of(engine).execute("PRAGMA max_page_count=1000000")
    await writing.journal(entry())
    assert told(writing) is None


async def test_what_one_caller_did_wrong_is_no_trouble_and_cures_none(
    engine: SqliteEngine,
) -> None:
    writing = Writing(engine)
    with pytest.raises(Conflict):
        await writing.write(at_fault)
    assert told(writing) is None
    with pytest.raises(StoreUnavailable):
        await writing.write(faulty)
    with pytest.raises(Conflict):
        await writing.write(at_fault)
    assert told(writing) == "the database could not be written: no such table: nowhere"
