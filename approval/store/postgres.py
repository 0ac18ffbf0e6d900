"""PostgreSQL as the store's engine: the address, the schema, reading, and one duty.

Only this module and `postgres_writer` know that the database is PostgreSQL. The driver is loaded
when a server is first spoken to: a service on SQLite never needs it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import Connection, NullPool, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from approval.core.audit import Entry
from approval.errors import Misconfigured, StoreUnavailable
from approval.store import schema
from approval.store.postgres_writer import TROUBLE, PostgresWriter, named
from approval.store.tables import SCHEMA, notices
from approval.store.work import Work

T = TypeVar("T")

SCHEMES: Final = ("postgresql://", "postgres://")

WRITERS: Final = 8
READERS: Final = 3
"""Connections of one process, besides the one that holds the duty."""

WAIT_SECONDS: Final = 5.0
"""How long to wait for a connection: a new one, or one that others use."""

SESSION: Final = {
    "application_name": "approval",
    "lock_timeout": "2000",
    "statement_timeout": "5000",
    # A process that is frozen between two statements must not keep its locks for ever, and one
    # whose machine is gone must not keep the duty.
    "idle_in_transaction_session_timeout": "10000",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

DUTY: Final = (0x61707276, 1)
"""The advisory lock of whoever sweeps and delivers. Names of calls lock in another key space."""
MIGRATION: Final = (0x61707276, 2)


def shown(url: str) -> str:
    """Write the address without what is secret in it."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return f"postgresql://{user.partition(':')[0]}{at}{host}{parts.path}"


class PostgresEngine:
    """One PostgreSQL database, which any number of processes on any machines may share."""

    def __init__(self, url: str, writer: PostgresWriter, pools: tuple[AsyncEngine, ...]) -> None:
        self._write, self._read, self._look = pools
        self._writer = writer
        self._duty = Duty(url)
        self._closed = False

    @classmethod
    async def open(cls, url: str, clock: Callable[[], datetime] | None = None) -> Self:
        """Open the database. Without a clock of its own the store's time is the server's.

        Raises:
            Misconfigured: If it cannot be used: no schema, another schema, no durable commits, no
                right to connect.
            StoreUnavailable: If the server does not answer.
        """
        async with connected(url) as connection:
            await _check(url, connection)
        write = _engine(url, pool_size=WRITERS, isolation_level="READ COMMITTED")
        read = _engine(url, pool_size=READERS, isolation_level="REPEATABLE READ")
        read = read.execution_options(postgresql_readonly=True)
        look = read.execution_options(isolation_level="AUTOCOMMIT", postgresql_readonly=False)
        writer = PostgresWriter(write, clock)
        await writer.start()
        return cls(url, writer, (write, read, look))

    async def now(self) -> datetime:
        """Tell the store's time: never earlier than what is already written."""
        return await self._asked(self._look, self._writer.time)

    async def write(self, unit: Callable[[Work], T]) -> T:
        """Run one unit in a transaction of its own; on disk when this returns."""
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
            StoreUnavailable: If the database cannot be read, or is closed.
        """
        return await self._asked(self._read, query)

    async def version(self) -> int:
        """Read a number that changes with every commit that another process must hear of.

        Notices are numbered in the order of their commits, so nothing comes in below the newest.
        """
        return await self._asked(self._look, _newest_notice)

    async def _asked(self, pool: AsyncEngine, query: Callable[[Connection], T]) -> T:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            try:
                return await _answer(pool, query)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # The server was restarted since the connection was last used; reading may repeat.
                return await _answer(pool, query)
        except PoolTimeout as error:
            raise StoreUnavailable("the database could not be read: too many readers") from error
        except TROUBLE as error:
            raise StoreUnavailable(f"the database could not be read: {named(error)}") from error

    async def backup(self, target: Path) -> None:
        """Refuse: a server has better ways to copy its databases.

        Raises:
            Misconfigured: Always.
        """
        raise Misconfigured((f"{target}: PostgreSQL is copied with pg_dump --format=custom",))

    async def take_duty(self) -> bool:
        """Try to become the one process that sweeps and delivers; keep it while connected."""
        return await self._duty.take()

    async def close(self) -> None:
        """Write what is queued and let the database go."""
        self._closed = True
        await self._writer.close()
        await self._duty.give_back()
        await self._write.dispose()
        await self._read.dispose()


class Duty:
    """A lock of one session: the server takes it back from whoever is no longer connected."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._connection: AsyncConnection | None = None
        self._turn = asyncio.Lock()

    async def take(self) -> bool:
        """Answer whether the duty is ours now. Asks the server each time: it knows best.

        Raises:
            StoreUnavailable: If the server does not answer.
        """
        async with self._turn:
            if self._connection is not None and await self._is_kept(self._connection):
                return True
            await self._drop()
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    return await self._try()
            except TROUBLE as error:
                raise StoreUnavailable(f"the duty cannot be taken: {named(error)}") from error

    async def _try(self) -> bool:
        connection = await self._engine.connect()
        taken: bool | None = None
        try:
            taken = await connection.scalar(select(func.pg_try_advisory_lock(*DUTY)))
        finally:
            if taken:
                self._connection = connection
            else:
                await connection.close()
        return bool(taken)

    async def _is_kept(self, connection: AsyncConnection) -> bool:
        with contextlib.suppress(*TROUBLE):
            async with asyncio.timeout(WAIT_SECONDS):
                await connection.execute(text("SELECT 1"))
                return True
        return False

    async def give_back(self) -> None:
        async with self._turn:
            await self._drop()
            await self._engine.dispose()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*TROUBLE):
                await connection.close()


async def version(url: str) -> int:
    """Read a database's schema number; 0 for an empty one, and for another program's.

    Raises:
        Misconfigured: If there is no such database, or no right to use it.
        StoreUnavailable: If the server does not answer.
    """
    async with connected(url) as connection:
        return await connection.run_sync(_version)


async def upgrade(url: str) -> None:
    """Migrate the database to the schema this code knows, in one transaction.

    Raises:
        Misconfigured: If it is newer than this code, or belongs to another program.
        StoreUnavailable: If the server does not answer.
    """
    async with connected(url, statement_timeout="0") as connection:
        await connection.execute(select(func.pg_advisory_xact_lock(*MIGRATION)))
        await connection.run_sync(_upgrade, shown(url))
        await connection.commit()


def _upgrade(connection: Connection, name: str) -> None:
    found = _version(connection)
    if found > SCHEMA:
        raise Misconfigured((_newer(name, found),))
    if found == SCHEMA:
        return
    if found == 0 and connection.scalar(text(_ANY_TABLE)):
        raise Misconfigured(
            (f"{name}: holds another program's tables; name a database of its own",)
        )
    schema.migrate(connection)


_ANY_TABLE: Final = """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
        AND oid NOT IN (SELECT objid FROM pg_catalog.pg_depend WHERE deptype = 'e')
    )
"""


def _version(connection: Connection) -> int:
    if connection.scalar(text("SELECT to_regclass('audit_head')")) is None:
        return 0
    return connection.scalar(text("SELECT schema FROM audit_head")) or 0


def _newer(name: str, found: int) -> str:
    return f"{name}: has schema {found}, this version knows {SCHEMA}; upgrade approval"


async def _check(url: str, connection: AsyncConnection) -> None:
    """Refuse what cannot keep its promises."""
    found = await connection.run_sync(_version)
    if found > SCHEMA:
        raise Misconfigured((_newer(shown(url), found),))
    if found < SCHEMA:
        has = f"has schema {found}, this version knows {SCHEMA}" if found else "has no schema yet"
        raise Misconfigured((f"{shown(url)}: {has}; run `approval db upgrade`",))
    if await connection.scalar(text("SHOW synchronous_commit")) == "off":
        # A committed claim could be undone by a crash of the server, and then we would send twice.
        why = "commits are not on disk when they return (synchronous_commit is off)"
        raise Misconfigured((f"{shown(url)}: {why}; set it to on for this role or database",))


@asynccontextmanager
async def connected(url: str, **session: str) -> AsyncIterator[AsyncConnection]:
    """Connect once, in a transaction, and say in words what hinders it.

    Raises:
        Misconfigured: If the driver is missing, or the server refuses.
        StoreUnavailable: If it does not answer, or is lost meanwhile.
    """
    engine = _engine(url, session, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailable(f"{shown(url)}: was lost: {named(error)}") from error
        raise Misconfigured((f"{shown(url)}: cannot be used: {named(error)}",)) from error
    except (OSError, TimeoutError) as error:
        raise StoreUnavailable(f"{shown(url)}: cannot be reached: {named(error)}") from error
    except ValueError as error:
        raise Misconfigured(
            (f"{shown(url)}: is no address of a server: {named(error)}",)
        ) from error
    finally:
        await engine.dispose()


def _engine(url: str, session: dict[str, str] | None = None, **options: object) -> AsyncEngine:
    """Make a pool. The address goes to the driver as it is, so that libpq's words all work."""
    if "poolclass" not in options:
        options |= {"max_overflow": 0, "pool_timeout": WAIT_SECONDS}
    settings = {**SESSION, **(session or {})}
    arguments = {"dsn": url, "timeout": WAIT_SECONDS, "server_settings": settings}
    try:
        # hide_parameters: what fails to be written must not end up in a log or an answer.
        return create_async_engine(
            "postgresql+asyncpg://", connect_args=arguments, hide_parameters=True, **options
        )
    except ImportError as error:
        remedy = "PostgreSQL needs its driver; run: pip install 'approval[postgres]'"
        raise Misconfigured((f"database.url: {remedy}",)) from error


async def _answer(pool: AsyncEngine, query: Callable[[Connection], T]) -> T:
    async with pool.connect() as connection:
        return await connection.run_sync(query)


def _newest_notice(connection: Connection) -> int:
    return connection.scalar(select(func.max(notices.c.id))) or 0
