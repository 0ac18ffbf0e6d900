"""The write-ahead log is emptied under the lock, as far as readers allow, and stops nobody."""

import os
from pathlib import Path

import pytest

from approval.ports import Store
from approval.store.sqlite import SqliteEngine
from approval.store.writer import CHECKPOINT_BYTES, LOG_BYTES
from tests.factories import Clock
from tests.store.conftest import database_of, entry, opened


def wal(folder: Path) -> int:
    return (folder / "approval.db-wal").stat().st_size


async def grow(engine: SqliteEngine, size: int = CHECKPOINT_BYTES) -> None:
    piece = 64 << 10
    for n in range(size // piece + 2):
        await engine.journal(entry(n, filler="x" * piece))


async def test_the_log_is_written_over_again_and_again(
    engine: SqliteEngine, tmp_path: Path
) -> None:
    sizes = []
    for _ in range(3):
        await grow(engine)
        sizes.append(wal(tmp_path))
    assert max(sizes) < CHECKPOINT_BYTES + (256 << 10)
    assert min(sizes) > CHECKPOINT_BYTES // 2, "a log that is cut must grow again at every commit"
    assert database_of(engine).execute("PRAGMA busy_timeout").fetchone() == (2000,)
    assert database_of(engine).execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)


async def test_a_long_reader_keeps_the_log_and_when_it_has_gone_the_log_is_cut(
    engine: SqliteEngine, hasty: Store, tmp_path: Path
) -> None:
    with opened(tmp_path / "approval.db") as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM audit").fetchone() == (0,)
        await grow(engine, 2 * LOG_BYTES)
        assert wal(tmp_path) > 2 * LOG_BYTES
        assert reader.execute("SELECT count(*) FROM audit").fetchone() == (0,)
    await grow(engine)
    assert wal(tmp_path) < LOG_BYTES
    assert (await hasty.verify()).problems == ()


async def test_nothing_is_left_of_the_log_after_closing(tmp_path: Path, clock: Clock) -> None:
    engine = await SqliteEngine.open(tmp_path / "approval.db", clock)
    await engine.journal(entry())
    await engine.close()
    assert sorted(os.listdir(tmp_path)) == ["approval.db", "approval.db.lock"]  # noqa: PTH208


async def test_a_failed_checkpoint_stops_nobody(
    engine: SqliteEngine, hasty: Store, caplog: pytest.LogCaptureFixture
) -> None:
    # Inside a transaction SQLite refuses to checkpoint: a stand-in for any failure of it.
    database_of(engine).execute("BEGIN IMMEDIATE")
    engine._writer._checkpoint()
    database_of(engine).execute("ROLLBACK")
    assert "the log could not be emptied" in caplog.text
    await engine.journal(entry())
    assert len(await hasty.trail()) == 1
