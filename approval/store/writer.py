"""SQLite's one writer: a thread that takes all the work there is and commits it together.

Callers put whole units of work on a list and wait; the thread writes all of them in one transaction
and wakes them, then looks again. No timer: a lone caller waits no longer than one commit, and
sixteen callers share one `fsync`. (Measured: five to nine times the throughput of a commit each,
and fair, where SQLite's busy handler starves all writers but one.)

Each unit runs in a savepoint of its own, so one that raises, or leaves an entry that the trail
cannot hold, takes nothing with it. The audit entries of a batch are chained as they come and
written last, with the head. A batch of nothing but entries, which is what allowed calls bring, is
one statement: the driver gives the interpreter up around each, and with a busy loop beside it the
thread waits longest for getting it back (0.2 ms a statement at sixteen callers, measured).

Every commit holds an exclusive lock on `<file>.lock`. Several processes may share the file, and
SQLite before 3.51.3 can lose a commit when two connections write and checkpoint at once; therefore
automatic checkpoints are off and ours run under the same lock.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from approval.core import audit
from approval.core.audit import Entry
from approval.errors import Conflict, StoreUnavailable, Unreadable
from approval.store.prepared import PreparedConnection, Statements
from approval.store.tables import SCHEMA, from_microseconds, to_microseconds
from approval.store.work import Work, tell

QUEUE_LIMIT: Final = 20_000
"""The most units and entries that may be on their way to the disk: room for ten thousand held calls
whose agents all hang up at once, and for as many others."""

WAIT_SECONDS: Final = 5.0
"""How long to wait for another process, or for a connection to read with."""

LATER_SECONDS: Final = 0.1
GATHER_TURNS: Final = 8
"""The most turns of the loop for which a batch may grow before it is handed over."""

BUSY_MILLISECONDS: Final = 2000
CHECKPOINT_BYTES: Final = 4 << 20
"""How much is written, roughly, between two checkpoints.

The log is then written over from its start and keeps its size: a commit into space that is there
already syncs in about half the time of one that makes the file longer (140 against 260 µs here).
"""
LOG_BYTES: Final = 2 * CHECKPOINT_BYTES
"""A log longer than this (a reader stood in the way for long) is cut when that is possible."""
PAGES_A_COMMIT: Final = 16 << 10
APPEND_LIMIT: Final = 200
"""The most entries of one statement: SQLite bounds its variables."""

CHECKPOINT_MILLISECONDS: Final = 50
"""The longest that a checkpoint waits for readers: everybody who writes waits with it."""

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class _Job:
    """One caller's unit, or just entries. `future` is None where nobody waits."""

    unit: Callable[[Work], None] | None
    entries: tuple[Entry, ...]
    future: asyncio.Future[None] | None
    error: Exception | None = None

    @contextlib.contextmanager
    def blamed(self) -> Iterator[None]:
        """Keep what is raised inside for this job's caller; let the database's trouble pass."""
        try:
            yield
        except (IntegrityError, DataError) as refused:
            self.error = Conflict(f"the database does not take this: {refused.orig}")
        except UnicodeEncodeError as unwritable:
            self.error = Unreadable("surrogate", f"this text cannot be kept: {unwritable.reason}")
        except (sqlite3.Error, DBAPIError):
            raise  # a full disk, a lost file: the whole batch did not happen
        except Exception as error:  # noqa: BLE001 - it is handed to the caller who waits
            self.error = error


@dataclass(frozen=True, slots=True)
class _Head:
    """The end of the trail; `at` is the store's time then, in microseconds."""

    seq: int
    hash: bytes
    at: int


@dataclass(slots=True)
class _Chain:
    """The end of the trail, and what this transaction adds to it."""

    start: _Head
    now: datetime
    seq: int = field(init=False)
    hash: bytes = field(init=False)
    lines: list[tuple[int, str, bytes, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seq, self.hash = self.start.seq, self.start.hash

    @property
    def end(self) -> _Head:
        """The head once the lines are written; as it was if there are none."""
        return _Head(self.seq, self.hash, to_microseconds(self.now)) if self.lines else self.start

    def add(self, entries: Sequence[Entry]) -> None:
        """Chain these entries: all of them, or none if one cannot be written."""
        seq, digest, lines = self.seq, self.hash, []
        for entry in entries:
            seq += 1
            written = audit.write(entry, seq=seq, at=self.now, previous=digest)
            digest = written.hash
            lines.append((seq, entry.filed_under, written.body, digest))
        self.seq, self.hash = seq, digest
        self.lines += lines


class Writer:
    """Owns the only connection of this process that writes. Start it once, close it once."""

    def __init__(
        self,
        connection: Connection,
        path: Path,
        clock: Callable[[], datetime],
        *,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._connection = connection
        self._database = _driver(connection)
        self._executor = PreparedConnection(connection, Statements(connection.dialect))
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._unmoved = 0
        self._loop = asyncio.get_running_loop()
        self._wal = path.with_name(path.name + "-wal")
        self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._fresh: list[_Job] = []
        self._handing = False
        self._handed: SimpleQueue[list[_Job]] = SimpleQueue()
        """What the thread takes; an empty list says that no more will come.

        A queue written in C: a `Condition` runs Python on both sides of each commit, where the
        interpreter is what both sides wait for.
        """
        self._under_way = 0
        self._closing = False
        self._nudge: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._run, name="approval-writer", daemon=True)
        self._database.execute("PRAGMA temp_store=MEMORY")
        for statement in _APPENDING:
            self._database.execute(statement)
        self._head = self._read_head()
        """The trail's end as this process last saw it. Only the thread writes it."""

    def start(self) -> None:
        self._thread.start()

    def now(self) -> datetime:
        """Tell the store's time: the clock's, but never earlier than what is already written."""
        return self._time(self._head)

    def _time(self, head: _Head) -> datetime:
        return from_microseconds(max(to_microseconds(self._clock()), head.at))

    async def write(self, unit: Callable[[Work], T]) -> T:
        """Run one unit in the next transaction; on disk when this returns.

        Raises:
            StoreUnavailable: If nothing was written. Whatever the unit raises passes through.
        """
        results: list[T] = []

        def run(work: Work) -> None:
            results.append(unit(work))

        await self._put(run)
        return results[0]

    async def journal(self, entry: Entry) -> None:
        """Write one audit entry in the next transaction; on disk when this returns."""
        await self._put(None, entry)

    def journal_later(self, entry: Entry) -> None:
        """Write one audit entry with whatever is committed next, within `LATER_SECONDS`."""
        if self._is_full():
            return
        self._fresh.append(_Job(None, (entry,), None))
        if self._nudge is None and not self._handing:
            self._nudge = self._loop.call_later(LATER_SECONDS, self._hand_over)

    async def _put(self, unit: Callable[[Work], None] | None, *entries: Entry) -> None:
        if self._closing or self._is_full():
            raise StoreUnavailable("the store takes no more work now; try again later")
        future: asyncio.Future[None] = self._loop.create_future()
        self._fresh.append(_Job(unit, entries, future))
        if not self._handing:
            self._handing = True
            self._loop.call_soon(self._gather, len(self._fresh), 1)
        await future

    def _is_full(self) -> bool:
        return len(self._fresh) + self._under_way >= QUEUE_LIMIT

    def _gather(self, seen: int, turn: int) -> None:
        """Hand over what has come, once a turn of the loop brings nothing more.

        Woken at the first of sixteen callers, the thread would fight the loop for the interpreter
        while the other fifteen arrive, and commit one of them alone. Waiting for a lull instead
        makes a call a fifth cheaper at sixteen callers (0.27 to 0.21 ms, measured), and costs a
        lone one nothing: there is nothing else that the loop could do meanwhile.
        """
        if seen < len(self._fresh) < APPEND_LIMIT and turn < GATHER_TURNS:
            self._loop.call_soon(self._gather, len(self._fresh), turn + 1)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        self._handing = False
        if self._nudge is not None:
            self._nudge.cancel()
            self._nudge = None
        if self._fresh:
            self._under_way += len(self._fresh)
            self._handed.put(self._fresh)
            self._fresh = []

    def _resolve(self, jobs: list[_Job]) -> None:
        self._under_way -= len(jobs)
        for job in jobs:
            future = job.future
            if future is None or future.done():
                continue
            if job.error is not None:
                future.set_exception(job.error)
            else:
                future.set_result(None)

    async def close(self) -> None:
        """Commit what is queued, end the thread, checkpoint, and close the connection."""
        self._closing = True
        self._hand_over()
        self._handed.put([])
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        self._thread.join()
        # Closing the last connection to a file checkpoints too; that also belongs under the lock.
        with contextlib.suppress(StoreUnavailable):
            take_lock(self._lock, self._wait_seconds)
            self._checkpoint()
        self._connection.close()
        os.close(self._lock)

    # --- on the thread ---

    def _run(self) -> None:
        more = True
        while more:
            handed = [self._handed.get()]
            while not self._handed.empty():
                handed.append(self._handed.get())
            more = all(handed)
            if batch := [job for jobs in handed for job in jobs]:
                self._commit(batch)
                self._checkpoint_if_due()

    def _commit(self, batch: list[_Job]) -> None:
        try:
            self._transaction(batch)
        except Exception as error:
            # Whatever it is: a thread that died of it would leave everybody waiting for ever.
            expected = isinstance(error, sqlite3.Error | DBAPIError | OSError | StoreUnavailable)
            log.warning("%s", _unavailable(error), exc_info=None if expected else error)
            self._undo()
            for job in batch:
                job.error = _unavailable(error)
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._resolve, batch)

    def _transaction(self, batch: list[_Job]) -> None:
        take_lock(self._lock, self._wait_seconds)
        try:
            if any(job.unit is not None for job in batch) or not self._append_alone(batch):
                self._write_all(batch)
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _append_alone(self, batch: list[_Job]) -> bool:
        """Write entries in one statement; False, and nothing written, if the trail's end moved.

        Another process may have written since: the statement compares the head before it appends.
        """
        if len(batch) > APPEND_LIMIT:
            return False
        database, chain = self._database, _Chain(self._head, self._time(self._head))
        for job in batch:
            with job.blamed():
                chain.add(job.entries)
        if not chain.lines:
            return True
        values = [value for line in chain.lines for value in line]
        before = database.total_changes
        database.execute(
            _append_statement(len(chain.lines)),
            (to_microseconds(chain.now), *values, chain.start.seq, chain.start.hash, SCHEMA),
        )
        if database.total_changes == before:
            return False
        self._wrote(batch, chain)
        return True

    def _write_all(self, batch: list[_Job]) -> None:
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        head = self._read_head()
        chain = _Chain(head, self._time(head))
        for job in batch:
            self._perform(job, chain)
        _append(database, chain)
        database.execute("COMMIT")
        self._wrote(batch, chain)

    def _wrote(self, batch: list[_Job], chain: _Chain) -> None:
        self._head = chain.end
        self._unmoved += _weight(batch, chain)

    def _perform(self, job: _Job, chain: _Chain) -> None:
        """Run one job. What it raises is its caller's alone, unless the database is in trouble."""
        if job.unit is None:
            with job.blamed():
                chain.add(job.entries)
            return
        self._database.execute("SAVEPOINT unit")
        with job.blamed():
            work = Work(self._executor, lambda: chain.now)
            job.unit(work)
            tell(work, chain.now)
            chain.add(work.entries)
        if job.error is not None:
            self._database.execute("ROLLBACK TO unit")
        self._database.execute("RELEASE unit")

    def _read_head(self) -> _Head:
        query = "SELECT seq, hash, at, schema FROM audit_head"
        head = self._database.execute(query).fetchone()
        if head is None:
            raise StoreUnavailable("the database has lost the head of its trail: restore a backup")
        seq, digest, at, schema = head
        if schema > SCHEMA:
            raise StoreUnavailable(
                f"the database has schema {schema}, this version knows {SCHEMA}: upgrade approval"
            )
        return _Head(seq, digest, at)

    def _undo(self) -> None:
        # Should even this fail, the next batch fails by itself and says so to its callers.
        with contextlib.suppress(sqlite3.Error):
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")

    def _checkpoint_if_due(self) -> None:
        """Move the log into the file when `CHECKPOINT_BYTES` have been written since."""
        if self._unmoved < CHECKPOINT_BYTES:
            return
        self._unmoved = 0
        with contextlib.suppress(OSError, StoreUnavailable):
            take_lock(self._lock, self._wait_seconds)
            try:
                self._checkpoint()
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _checkpoint(self) -> None:
        """Move what readers let us move, without waiting for them; cut a log that grew too long."""
        database = self._database
        try:
            _, frames, moved = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if frames != moved or self._wal.stat().st_size <= LOG_BYTES:
                return
            database.execute(f"PRAGMA busy_timeout={CHECKPOINT_MILLISECONDS}")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            log.exception("the log could not be emptied; it grows until a later try succeeds")
        finally:
            database.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")


def _weight(batch: list[_Job], chain: _Chain) -> int:
    """Guess how many bytes a batch put into the log."""
    units = sum(job.unit is not None for job in batch)
    bodies = sum(len(body) for _, _, body, _ in chain.lines)
    return (1 + units) * PAGES_A_COMMIT + bodies * 5 // 4


def _driver(connection: Connection) -> sqlite3.Connection:
    """Reach through to the driver: what is the same for every unit is prepared text."""
    database = connection.connection.driver_connection
    if not isinstance(database, sqlite3.Connection):
        raise TypeError("the writer writes to SQLite alone")
    return database


def take_lock(lock: int, seconds: float) -> None:
    """Take the file's lock, or give up: a frozen process must not freeze us for ever.

    Raises:
        StoreUnavailable: If somebody else holds it for that long.
    """
    deadline = time.monotonic() + seconds
    pause = 0.0002
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StoreUnavailable("another process holds the database") from None
            time.sleep(pause)
            pause = min(pause * 2, 0.01)
        else:
            return


def _append(database: sqlite3.Connection, chain: _Chain) -> None:
    """Write what the batch has chained, with the new head (prepared text: the hot path)."""
    if not chain.lines:
        return
    insert = "INSERT INTO audit (seq, subject, body, hash) VALUES (?, ?, ?, ?)"
    database.executemany(insert, chain.lines)
    end = chain.end
    head = (end.seq, end.hash, end.at)
    database.execute("UPDATE audit_head SET seq = ?, hash = ?, at = ?", head)


_APPENDING: Final = (
    """
    CREATE TEMP VIEW appended AS
    SELECT audit.seq, subject, body, audit.hash, at FROM audit JOIN audit_head
    """,
    """
    CREATE TEMP TRIGGER append INSTEAD OF INSERT ON appended BEGIN
      INSERT INTO audit (seq, subject, body, hash)
      VALUES (new.seq, new.subject, new.body, new.hash);
      UPDATE audit_head SET seq = new.seq, hash = new.hash, at = new.at;
    END
    """,
)
"""What lets one statement write entries and head: this connection's own, not in the file."""


@cache
def _append_statement(lines: int) -> str:
    """Write so many lines and the head, if the head is still where the chain began."""
    rows = ", ".join(["(?, ?, ?, ?)"] * lines)
    return f"""
        INSERT INTO appended (at, seq, subject, body, hash)
        SELECT ?, line.* FROM (VALUES {rows}) AS line
        WHERE (SELECT (seq, hash) = (?, ?) AND schema <= ? FROM audit_head)
    """  # noqa: S608 - no text of anybody's is in it


def _unavailable(error: Exception) -> StoreUnavailable:
    # A new one for each who waits: raising an exception writes into it.
    if isinstance(error, StoreUnavailable):
        return StoreUnavailable(str(error))
    trouble = error.orig if isinstance(error, DBAPIError) else error
    # Strangers are told: of what is not SQLite's own, the text could hold a path or a value.
    words = trouble if isinstance(trouble, sqlite3.Error) else type(error).__name__
    return StoreUnavailable(f"the database could not be written: {words}")
