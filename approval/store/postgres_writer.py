"""PostgreSQL's writes: units beside each other, the head of the trail locked last, commits proven.

Each unit has a transaction of its own, so that one that waits for a locked call delays no other.
Plain entries, which lock nothing but the head, are gathered: while one commit is under way the next
ones come together, and share theirs.

A transaction that lost a race (a deadlock, a lock that did not come) or its connection is run
again. When a connection is lost at the COMMIT nobody knows whether it happened, and running it
again could write it twice; so the trail is read first: an entry with our hash in our place is
there, or it never will be, for whoever holds the head knows that nobody before is still under way.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import BigInteger, Connection, bindparam, func, select, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from approval.core import audit as trail
from approval.core.audit import Entry, Written
from approval.errors import ApprovalError, Conflict, StoreUnavailable, Unreadable
from approval.store.prepared import Executor, PreparedConnection, Statements
from approval.store.tables import SCHEMA, audit, audit_head, from_microseconds, to_microseconds
from approval.store.work import Work, tell

QUEUE_LIMIT: Final = 10_000
SHARE: Final = 1000
"""The most entries that share a commit."""

LATER_SECONDS: Final = 0.1
TRIES: Final = 3
TRY_SECONDS: Final = 10.0
"""How long one transaction may take: a server that fell silent must not hold callers for ever."""

PASSING: Final = ("08", "40001", "40P01", "55P03", "57P01", "57P02", "57P03")
"""What a transaction may meet and its repetition may not: lost connections, lost races."""

OWN_FAULT: Final = ("22", "23", "54")
"""What the caller's own values are to blame for; they would fail for ever."""

TROUBLE: Final = (DBAPIError, PoolTimeout, OSError, TimeoutError)

log = logging.getLogger(__name__)

T = TypeVar("T")

Clock = Callable[[], datetime]

_TAKE = select(func.pg_advisory_xact_lock(bindparam("number", type_=BigInteger)))
_TIME = select(func.clock_timestamp(), audit_head.c.at)
_HEAD = select(
    audit_head.c.seq,
    audit_head.c.hash,
    audit_head.c.at,
    audit_head.c.schema,
    func.clock_timestamp().label("wall"),
    func.current_setting("synchronous_commit").label("durable"),
).with_for_update()
_APPEND = text(
    """
    WITH line AS (
        INSERT INTO audit (seq, subject, body, hash)
        SELECT * FROM unnest(
            CAST(:seqs AS bigint[]), CAST(:subjects AS text[]),
            CAST(:bodies AS bytea[]), CAST(:hashes AS bytea[])
        )
    )
    UPDATE audit_head SET seq = :seq, hash = :hash, at = :at
    """
)
"""One way to the server and back: everybody who writes waits while the head is held."""


@dataclass(slots=True, kw_only=True)
class _Attempt:
    """One transaction: what was chained in it, and whether its COMMIT may have been sent."""

    committing: bool = False
    last: Written | None = None


@dataclass(slots=True)
class _Line:
    """One plain entry. `future` is None where nobody waits."""

    entry: Entry
    future: asyncio.Future[None] | None
    error: ApprovalError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """The end of the trail, locked; and the time, never before what is written already."""

    seq: int
    hash: bytes
    now: datetime


@dataclass(slots=True)
class _Chain:
    """What this transaction adds to the trail."""

    head: _Head
    written: list[tuple[str, Written]] = field(default_factory=list)

    @property
    def last(self) -> Written | None:
        return self.written[-1][1] if self.written else None

    def add(self, entry: Entry) -> None:
        if "\0" in entry.subject:
            raise Unreadable("nul", "the database cannot keep U+0000 in the subject of an entry")
        last = self.last
        seq, digest = (last.seq, last.hash) if last else (self.head.seq, self.head.hash)
        line = trail.write(entry, seq=seq + 1, at=self.head.now, previous=digest)
        self.written.append((entry.filed_under, line))


class PostgresWriter:
    """Runs units and writes entries, on a pool of connections. Its tasks outlive their callers."""

    def __init__(self, engine: AsyncEngine, clock: Clock | None) -> None:
        self._engine = engine
        self._clock = clock
        self._tasks = asyncio.TaskGroup()
        self._open = 0
        self._statements = Statements(engine.dialect, joins=True)
        self._lines: list[_Line] = []
        self._writing_lines = False
        self._nudge: asyncio.TimerHandle | None = None
        self._closing = False

    async def start(self) -> None:
        await self._tasks.__aenter__()

    async def close(self) -> None:
        """Write what is queued, and take no more."""
        self._closing = True
        self._write_lines_soon()
        await self._tasks.__aexit__(None, None, None)

    def time(self, connection: Executor) -> datetime:
        """Read the time: the clock's, but never earlier than what is already written."""
        wall, at = connection.execute(_TIME).one()
        return _never_back(self._clock() if self._clock else wall, at)

    async def write(self, unit: Callable[[Work], T]) -> T:
        """Run one unit in a transaction of its own; on disk when this returns.

        A caller who no longer waits disturbs nothing: the transaction goes on to its end.

        Raises:
            StoreUnavailable: If nothing was written, or if that cannot be found out. Whatever the
                unit raises passes through.
        """
        self._admit()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._open += 1
        self._tasks.create_task(self._perform(unit, future))
        return await future

    async def journal(self, entry: Entry) -> None:
        """Write one audit entry together with others; on disk when this returns."""
        self._admit()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.append(_Line(entry, future))
        self._write_lines_soon()
        await future

    def journal_later(self, entry: Entry) -> None:
        """Write one audit entry with those that come next, within `LATER_SECONDS`."""
        if self._closing or self._is_full():
            return
        self._lines.append(_Line(entry, None))
        if self._nudge is None and not self._writing_lines:
            loop = asyncio.get_running_loop()
            self._nudge = loop.call_later(LATER_SECONDS, self._write_lines_soon)

    def _admit(self) -> None:
        if self._closing or self._is_full():
            raise StoreUnavailable("the store takes no more work now; try again later")

    def _is_full(self) -> bool:
        return self._open + len(self._lines) >= QUEUE_LIMIT

    # --- units ---

    async def _perform(self, unit: Callable[[Work], T], future: asyncio.Future[T]) -> None:
        try:
            result = await self._repeated(partial(self._run, unit))
        except Exception as error:  # noqa: BLE001 - it is handed to the caller who waits
            _refuse(future, error)
        else:
            if not future.done():
                future.set_result(result)
        finally:
            self._open -= 1

    def _run(self, unit: Callable[[Work], T], attempt: _Attempt, connection: Connection) -> T:
        connection.begin()
        executor = PreparedConnection(connection, self._statements)
        work = Work(executor, partial(self.time, executor), partial(_take_name, executor))
        result = unit(work)
        if work.entries or work.notices:
            chain = _Chain(_lock_head(executor, self._clock, not_before=work.read_at))
            tell(work, chain.head.now)  # under the lock: numbered in the order of commits
            for entry in work.entries:
                chain.add(entry)
            _append(executor, chain)
            attempt.last = chain.last
        return result

    # --- plain entries ---

    def _write_lines_soon(self) -> None:
        """Begin to write the entries that wait, unless somebody is at it already."""
        if self._nudge is not None:
            self._nudge.cancel()
            self._nudge = None
        if self._lines and not self._writing_lines:
            self._writing_lines = True
            self._tasks.create_task(self._write_lines())

    async def _write_lines(self) -> None:
        while self._lines:
            lines, self._lines = self._lines[:SHARE], self._lines[SHARE:]
            await self._write_together(lines)
        self._writing_lines = False

    async def _write_together(self, lines: list[_Line]) -> None:
        trouble: Exception | None = None
        try:
            await self._repeated(partial(self._run_lines, lines))
        except Exception as error:  # noqa: BLE001 - it is handed to the callers who wait
            trouble = error
        for line in lines:
            if line.future is None:
                continue
            if (failed := line.error or trouble) is not None:
                _refuse(line.future, failed)
            elif not line.future.done():
                line.future.set_result(None)

    def _run_lines(self, lines: Sequence[_Line], attempt: _Attempt, connection: Connection) -> None:
        connection.begin()
        executor = PreparedConnection(connection, self._statements)
        chain = _Chain(_lock_head(executor, self._clock))
        for line in lines:
            line.error = _blamed(partial(chain.add, line.entry))
        _append(executor, chain)
        attempt.last = chain.last

    # --- transactions ---

    async def _repeated(self, run: Callable[[_Attempt, Connection], T]) -> T:
        """Run a transaction until it is committed, a few times at most."""
        for left in reversed(range(TRIES)):
            attempt, results = _Attempt(), list[T]()
            try:
                async with asyncio.timeout(TRY_SECONDS):
                    await self._attempt(run, attempt, results)
            except TROUBLE as error:
                if attempt.committing and await self._is_written(attempt.last):
                    return results[0]
                if not left or not (attempt.committing or _passes(error)):
                    raise _worded(error) from error
                log.warning("a transaction is run again", extra={"error": named(error)})
            else:
                return results[0]
        raise AssertionError("the last try returns or raises")

    async def _attempt(
        self,
        run: Callable[[_Attempt, Connection], T],
        attempt: _Attempt,
        results: list[T],
    ) -> None:
        def transact(connection: Connection) -> None:
            results.append(run(attempt, connection))
            attempt.committing = True
            connection.commit()

        async with self._engine.connect() as connection:
            await connection.run_sync(transact)

    async def _is_written(self, last: Written | None) -> bool:
        """Find out whether a transaction whose COMMIT went unanswered is in the trail.

        One that left no entry only says that somebody lives or listens: it may be run again.
        """
        if last is None:
            return False
        try:
            async with asyncio.timeout(TRY_SECONDS), self._engine.connect() as connection:
                await connection.execute(_HEAD)  # waits until the server knows its end, too
                found = await connection.scalar(select(audit.c.hash).where(audit.c.seq == last.seq))
        except TROUBLE as error:
            raise StoreUnavailable(
                "the connection was lost at a commit, and whether it happened cannot be found out:"
                f" {named(error)}"
            ) from error
        return bool(found == last.hash)


def _never_back(wall: datetime, at: int) -> datetime:
    return from_microseconds(max(to_microseconds(wall), at))


def _take_name(connection: Executor, name: str) -> None:
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).digest()
    number = int.from_bytes(digest[:8], signed=True)
    connection.execute(_TAKE, {"number": number})


def _lock_head(
    connection: Executor, clock: Clock | None, *, not_before: datetime | None = None
) -> _Head:
    row = connection.execute(_HEAD).one_or_none()
    if row is None:
        raise StoreUnavailable("the database has lost the head of its trail: restore a backup")
    if row.schema > SCHEMA:
        raise StoreUnavailable(
            f"the database has schema {row.schema}, this version knows {SCHEMA}: upgrade approval"
        )
    if row.durable == "off":
        raise StoreUnavailable("the server was set to synchronous_commit=off: set it back to on")
    now = _never_back(clock() if clock else row.wall, row.at)
    return _Head(seq=row.seq, hash=row.hash, now=max(now, not_before) if not_before else now)


def _append(connection: Executor, chain: _Chain) -> None:
    """Write what was chained, with the new head."""
    last = chain.last
    if last is None:
        return
    lines = [line for _, line in chain.written]
    connection.execute(
        _APPEND,
        {
            "seqs": [line.seq for line in lines],
            "subjects": [subject for subject, _ in chain.written],
            "bodies": [line.body for line in lines],
            "hashes": [line.hash for line in lines],
            "seq": last.seq,
            "hash": last.hash,
            "at": to_microseconds(chain.head.now),
        },
    )


def _blamed(write: Callable[[], None]) -> ApprovalError | None:
    """Keep one entry that the trail cannot hold from taking the others with it."""
    try:
        write()
    except ApprovalError as error:
        return error
    return None


def _refuse(future: "asyncio.Future[T]", error: Exception) -> None:
    if future.done():
        return
    # A new one for each who waits: raising an exception writes into it.
    own = StoreUnavailable(str(error)) if isinstance(error, StoreUnavailable) else error
    future.set_exception(own)


def _state(error: BaseException) -> str:
    found = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return found if isinstance(found, str) else ""


def named(error: BaseException) -> str:
    """Name a trouble by its kind alone: the driver's own words quote what was to be written."""
    state = _state(error)
    return type(_cause(error)).__name__ + (f" ({state})" if state else "")


def _cause(error: BaseException) -> BaseException:
    """Give what the driver raised, from beneath SQLAlchemy's two wrappers."""
    return (error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else None) or error


def _passes(error: BaseException) -> bool:
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return lost or _state(error).startswith(PASSING)


def _worded(error: BaseException) -> ApprovalError:
    """Say whose trouble it is: the caller's values', or everybody's."""
    if isinstance(_cause(error).__cause__, UnicodeError) or _state(error) == "22021":
        return Unreadable("text", "the database cannot keep this text")
    if isinstance(error, IntegrityError | DataError) or _state(error).startswith(OWN_FAULT):
        return Conflict(f"the database does not take this: {named(error)}")
    return StoreUnavailable(f"the database could not be written: {named(error)}")
