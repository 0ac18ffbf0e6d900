"""SQLite as the store's engine: opening the file safely, reading beside the writer, one duty.

Only this module and `writer` know that the database is SQLite.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, Self, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError

from approval.core.audit import Entry
from approval.errors import Misconfigured, StoreUnavailable
from approval.store import schema
from approval.store.readers import READERS, Readers
from approval.store.work import Work
from approval.store.writer import BUSY_MILLISECONDS, WAIT_SECONDS, Writer, take_lock

T = TypeVar("T")

PREPARE_SECONDS: Final = 60.0
"""How long to wait for another process that is just migrating the same file."""

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        "9p",
        "afs",
        "afpfs",
        "ceph",
        "cifs",
        "davfs",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "gfs2",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "smb2",
        "smb3",
        "smbfs",
        "webdav",
    }
)


class SqliteEngine:
    """One SQLite file: a writer thread, a few read-only connections, and the duty lock."""

    def __init__(self, path: Path, write: Engine, readers: Readers, writer: Writer) -> None:
        self._path = path
        self._write = write
        self._readers = readers
        self._writer = writer
        self._duty: int | None = None
        self._closed = False
        self._watch = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)

    @classmethod
    async def open(
        cls, path: Path, clock: Callable[[], datetime], *, wait_seconds: float = WAIT_SECONDS
    ) -> Self:
        """Open the file, bring its schema up to date, and start the writer.

        Raises:
            Misconfigured: If the file cannot be used: a network file system, a newer schema, no
                right to write.
            StoreUnavailable: If another process holds the file.
        """
        path = await asyncio.to_thread(_prepare, path, max(wait_seconds, PREPARE_SECONDS))
        # hide_parameters: what fails to be written must not end up in a log or an answer.
        write = create_engine(_url(path, "rw"), poolclass=NullPool, hide_parameters=True)
        event.listen(write, "connect", _set_up_writer)
        try:
            connection = write.connect().execution_options(isolation_level="AUTOCOMMIT")
        except DBAPIError as error:
            raise Misconfigured((f"{path}: cannot be opened: {error.orig}",)) from error
        readers = Readers(_reading_engine(path), wait_seconds=wait_seconds)
        writer = Writer(connection, path, clock, wait_seconds=wait_seconds)
        writer.start()
        return cls(path, write, readers, writer)

    async def now(self) -> datetime:
        return self._writer.now()

    async def write(self, unit: Callable[[Work], T]) -> T:
        """Run one unit in the next transaction; on disk when this returns."""
        return await self._writer.write(unit)

    async def journal(self, entry: Entry) -> None:
        """Write one audit entry; on disk when this returns."""
        await self._writer.journal(entry)

    def journal_later(self, entry: Entry) -> None:
        """Write one audit entry with the next commit, without waiting for it."""
        self._writer.journal_later(entry)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run one query on a snapshot of what is committed.

        Raises:
            StoreUnavailable: If the database cannot be read now, or is closed.
        """
        return await self._readers.read(query)

    async def version(self) -> int:
        """Read a number that changes with every commit of anybody.

        A look at a counter in shared memory, a few microseconds: asking is not reading, and so it
        may be done on the loop, four times a second, for as long as a call waits.

        Raises:
            StoreUnavailable: If the database cannot be read, or is closed.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            number: int = self._watch.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database could not be read: {error}") from error
        return number

    async def backup(self, target: Path) -> None:
        """Copy the database as it is now into a new file, while it is in use.

        Raises:
            Misconfigured: If the target exists or cannot be written.
        """
        await asyncio.to_thread(schema.copy, self._path, target)

    async def take_duty(self) -> bool:
        """Try to become the one process that sweeps and delivers for this file; keep it if so."""
        if self._duty is not None:
            return True
        duty = os.open(f"{self._path}.duty", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(duty, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(duty)
            return False
        self._duty = duty
        return True

    async def close(self) -> None:
        """Commit what is queued and let the file go."""
        self._closed = True
        self._watch.close()
        await self._readers.close()
        await self._writer.close()
        self._write.dispose()
        if self._duty is not None:
            os.close(self._duty)
            self._duty = None


def _url(path: Path, mode: str) -> URL:
    # check_same_thread: a connection is opened by one thread and used by another, never by two.
    query = {"mode": mode, "uri": "true", "check_same_thread": "false"}
    return URL.create("sqlite", database=f"file:{quote(str(path))}", query=query)


def _set_up_writer(connection: DBAPIConnection, record: object) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        # FULL: in WAL with NORMAL a power cut can undo a committed claim, and then we would
        # send twice. With shared commits it costs little.
        "synchronous=FULL",
        "fullfsync=1",  # macOS: fsync alone leaves data in the drive's cache
        "checkpoint_fullfsync=1",
        "wal_autocheckpoint=0",  # ours run under the file's lock: see writer.py
        f"busy_timeout={BUSY_MILLISECONDS}",
        "foreign_keys=ON",
        "trusted_schema=OFF",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _reading_engine(path: Path) -> Engine:
    engine = create_engine(
        _url(path, "ro"),
        poolclass=QueuePool,
        pool_size=READERS,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"isolation_level": None},  # no transaction that we do not begin
    )
    event.listen(engine, "connect", _set_up_reader)
    event.listen(engine, "begin", _begin_snapshot)
    return engine


def _begin_snapshot(connection: Connection) -> None:
    # Without it every statement would see another state: a call's row of one moment and its votes
    # of the next, or a trail that grows while it is checked.
    connection.exec_driver_sql("BEGIN")


def _set_up_reader(connection: DBAPIConnection, record: object) -> None:
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_MILLISECONDS}", "query_only=ON", "trusted_schema=OFF"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare(path: Path, wait_seconds: float) -> Path:
    """Refuse what cannot keep its promises, then bring the schema up to date under the lock."""
    # Resolved: two names for one file must lead to one lock, and a link may lead off this disk.
    path = path.resolve()
    check_disk(path, file_system(path.parent))
    if not path.parent.is_dir():
        raise Misconfigured((f"{path}: its folder does not exist; make it first",))
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Misconfigured((f"{path}: cannot be written: {error.strerror}",)) from error
    try:
        take_lock(lock, wait_seconds)
        schema.upgrade(path)
    except (sqlite3.Error, DBAPIError) as error:
        trouble = error.orig if isinstance(error, DBAPIError) else error
        raise Misconfigured((f"{path}: is no usable SQLite database: {trouble}",)) from error
    finally:
        os.close(lock)
    return path


def check_disk(path: Path, kind: str) -> None:
    """Refuse a kind of file system whose locks do not hold.

    Raises:
        Misconfigured: If it is a network's.
    """
    if kind in NETWORK_FILE_SYSTEMS:
        where = f"a network file system ({kind}) does not hold SQLite's locks"
        raise Misconfigured((f"{path}: {where}; put the file on a local disk",))


def file_system(folder: Path) -> str:
    """Name the kind of file system a folder lies on, or "" where the machine does not say."""
    with contextlib.suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_bytes()
        return kind_of(folder, os.fsdecode(mounts))
    return ""


_OCTAL: Final = re.compile(r"\\([0-7]{3})")
"""How `mountinfo` writes spaces, tabs, newlines and backslashes; all else stands as it is."""


def kind_of(folder: Path, mounts: str) -> str:
    """Find the folder's kind of file system in the text of Linux's `mountinfo` (proc(5))."""
    best, found = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        mount = _OCTAL.sub(lambda escape: chr(int(escape[1], 8)), fields[4])
        if folder.is_relative_to(mount) and len(mount) >= len(best):
            best, found = mount, after.split()[0]
    return found
