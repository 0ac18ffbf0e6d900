"""The store: every method one transaction, whatever database is beneath."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol, Self, TypeVar

from sqlalchemy import Connection

from approval.core.admission import Counted
from approval.core.audit import Entry, Tag, Written
from approval.core.call import Answer, Call, CallId, CallPage, Listener, Status, ToolCall
from approval.core.demand import Count, Demand
from approval.core.grants import Grant
from approval.core.issued import GrantPage, Issued
from approval.core.lifecycle import Change
from approval.core.meters import Draw, Meter, Usage
from approval.errors import Misconfigured
from approval.ports import (
    Admission,
    Claiming,
    Counting,
    Covering,
    Credential,
    Freeze,
    Kept,
    Limits,
    Step,
    TrailReport,
)
from approval.store import freezing, granting, ledger, postgres, schema, sql, sums, trail
from approval.store.postgres import PostgresEngine
from approval.store.sqlite import SqliteEngine
from approval.store.work import Work
from approval.store.writing import Writing

T = TypeVar("T")

PREFIX = "sqlite:///"


def wall_clock() -> datetime:
    """Read the machine's clock: the store's default, and the only place besides `app` that may."""
    return datetime.now(UTC)  # noqa: TID251


async def schema_version(url: str) -> int:
    """Read a database's schema number; 0 for one that is new.

    Raises:
        Misconfigured, StoreUnavailable, sqlite3.Error: If it cannot be read.
    """
    if url.startswith(postgres.SCHEMES):
        return await postgres.version(url)
    return await asyncio.to_thread(schema.version, Path(_file(url)))


async def upgrade(url: str) -> None:
    """Bring a server's schema up to date. That of a file is whenever it is opened.

    Raises:
        Misconfigured: If it is newer than this code, or belongs to another program.
    """
    if url.startswith(postgres.SCHEMES):
        await postgres.upgrade(url)


def _file(url: str) -> str:
    # Without the URL: whatever it names, there may be a password in it.
    if not url.startswith(PREFIX) or len(url) == len(PREFIX) or ":memory:" in url:
        forms = "sqlite:///name.db or postgresql://user@host/name"
        raise Misconfigured((f"database.url: names no database that we know; write {forms}",))
    return url.removeprefix(PREFIX)


class Engine(Protocol):
    """What a database must do for the store; the engines' own docstrings say how each keeps it."""

    async def now(self) -> datetime:
        """Tell the store's time: never earlier than what is already written."""
        ...

    async def write(self, unit: Callable[[Work], T]) -> T:
        """Run one unit, write what it leaves in its `Work`, and commit; on disk at the return."""
        ...

    async def journal(self, entry: Entry) -> None: ...
    def journal_later(self, entry: Entry) -> None: ...

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run one query on a snapshot of what is committed."""
        ...

    async def version(self) -> int:
        """Read a number that changes with every commit that another process must hear of.

        Cheap: it is asked four times a second for as long as anybody waits.
        """
        ...

    async def take_duty(self) -> bool: ...
    async def backup(self, target: Path) -> None: ...
    async def close(self) -> None: ...


class SqlStore:
    """Keeps everything in one SQL database: `ports.Store` is the contract. Open it, close it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writing = Writing(engine)
        self._timers: tuple[int, datetime | None] = (-1, None)
        """When the next timer is due, as of that version of the database."""
        self._quiet = (-1, -1)
        """The mark beyond which there was nothing, and the database's version then."""

    @classmethod
    async def open(
        cls, url: str, *, base: Path = Path(), clock: Callable[[], datetime] | None = None
    ) -> Self:
        """Open `sqlite:///file`, relative to `base`, or `postgresql://user@host/database`.

        A file's schema is brought up to date; a server's is left to `upgrade`. Without a `clock`
        the time is this machine's with a file, and the server's with a server.

        Raises:
            Misconfigured: If the URL names another database, or one that cannot be used.
            StoreUnavailable: If somebody else holds the file, or the server does not answer.
        """
        if url.startswith(postgres.SCHEMES):
            return cls(await PostgresEngine.open(url, clock))
        return cls(await SqliteEngine.open(base / _file(url), clock or wall_clock))

    async def close(self) -> None:
        """Commit what is queued and let the database go."""
        await self._engine.close()

    def trouble(self) -> str | None:
        """Say why nothing could be written the last time; None if it could. Asks nobody.

        It names no path and quotes nothing that was to be written.
        """
        return self._writing.trouble

    async def take_duty(self) -> bool:
        """Try to become the one process that sweeps and delivers for this database."""
        return await self._engine.take_duty()

    async def backup(self, target: Path) -> None:
        """Copy the database as it is now into a new file, while it is in use."""
        await self._engine.backup(target)

    async def journal(self, entry: Entry) -> None:
        await self._writing.journal(entry)

    def journal_later(self, entry: Entry) -> None:
        self._engine.journal_later(entry)

    async def admit(
        self,
        asked: ToolCall,
        demand: Demand | None,
        step: Admission,
        covering: Covering | None = None,
        max_pending: int | None = None,
    ) -> Change:
        unit = partial(
            sql.admit,
            asked=asked,
            demand=demand,
            step=step,
            covering=covering,
            max_pending=max_pending,
        )
        return await self._writing.write(unit)

    async def claim(self, call_id: CallId, claiming: Claiming) -> Change:
        return await self._writing.write(partial(sql.claim, call_id=call_id, claiming=claiming))

    async def sums(self, meter: Meter, now: datetime) -> Usage:
        """Add up what a meter holds in the window that counts now, over all whose sums it keeps."""
        return await self._engine.read(partial(sums.used, meter=meter, now=now))

    async def count(self, counts: tuple[Count, ...], step: Counting) -> Counted:
        return await self._writing.write(partial(sql.count, counts=counts, step=step))

    async def advance(self, call_id: CallId, step: Step, limits: Limits | None = None) -> Change:
        unit = partial(sql.advance, call_id=call_id, step=step, limits=limits)
        return await self._writing.write(unit)

    async def usage(
        self, draws: Collection[Draw], *, without: CallId | None = None
    ) -> Mapping[str, Usage]:
        now = await self._engine.now()
        query = partial(ledger.usage, draws=draws, now=now, without=without or "")
        return await self._engine.read(query)

    async def kept(self) -> tuple[Kept, ...]:
        found: list[Kept] = []
        while page := await self._engine.read(
            partial(sums.kept, after=found[-1].meter_id if found else "")
        ):
            found += page
        return tuple(found)

    async def spent(
        self, meter_ids: Collection[str], days: Sequence[datetime]
    ) -> Mapping[str, tuple[int, ...]]:
        return await self._engine.read(partial(sums.spent, meter_ids=meter_ids, days=days))

    async def listen(self, call_id: CallId, listener: Listener, owner: str) -> None:
        await self._writing.write(
            partial(sql.listen, call_id=call_id, listener=listener, owner=owner)
        )

    async def deliver(self, call_id: CallId) -> None:
        entry = Entry(tag=Tag.CALL_DELIVER, subject=call_id, actor="service")
        await self._writing.write(partial(sql.deliver, call_id=call_id, entry=entry))

    async def get(self, call_id: CallId) -> Call:
        return await self._engine.read(partial(sql.get, call_id=call_id))

    async def answer(self, call_id: CallId) -> Answer | None:
        return await self._engine.read(partial(sql.answer, call_id=call_id))

    async def find(
        self, *, states: Collection[Status] = (), after: str | None = None, limit: int = 50
    ) -> CallPage:
        return await self._engine.read(partial(sql.find, states=states, after=after, limit=limit))

    async def due(self) -> tuple[CallId, ...]:
        version, now = await self._engine.version(), await self._engine.now()
        known, next_timer = self._timers
        if version == known and (next_timer is None or now < next_timer):
            return ()  # nothing was written since, and nothing has come due by itself
        next_timer = await self._engine.read(sql.next_timer)
        self._timers = (version, next_timer)
        if next_timer is None or now <= next_timer:
            return ()
        return await self._engine.read(partial(sql.due, now=now))

    async def changes(self, after: int) -> tuple[tuple[tuple[str, int], ...], int]:
        # Asked first, read second: what is committed in between is seen the next time.
        version = await self._engine.version()
        if (after, version) == self._quiet:
            await asyncio.sleep(0)  # who asks in a loop must let the others go on
            return (), after
        found, mark = await self._engine.read(partial(sql.changes, after=after))
        if len(found) < sql.MOST_CHANGES:
            self._quiet = (mark, version)
        return found, mark

    async def freezes(self) -> tuple[Freeze, ...]:
        return await self._engine.read(freezing.find)

    async def lift(self, call_id: CallId, entry: Entry) -> None:
        await self._writing.write(partial(freezing.lift, call_id=call_id, entry=entry))

    async def heartbeat(self, instance: str) -> None:
        await self._writing.write(partial(sql.heartbeat, instance=instance))

    async def living(self) -> frozenset[str]:
        now = await self._engine.now()
        return await self._engine.read(partial(sql.living, now=now))

    async def keep_credential(self, credential: Credential, entry: Entry) -> None:
        await self._writing.write(partial(sql.keep_credential, credential=credential, entry=entry))

    async def credentials(self, kind: str) -> tuple[Credential, ...]:
        now = await self._engine.now()
        return await self._engine.read(partial(sql.find_credentials, kind=kind, now=now))

    async def spend_credential(self, kind: str, digest: str, entry: Entry) -> Credential | None:
        return await self._writing.write(
            partial(sql.spend_credential, kind=kind, digest=digest, entry=entry)
        )

    async def keep_grant(self, grant: Grant, entry: Entry) -> Issued:
        return await self._writing.write(partial(granting.keep, grant=grant, entry=entry))

    async def revoke_grant(self, grant_id: str, entry: Entry) -> Issued:
        return await self._writing.write(partial(granting.revoke, grant_id=grant_id, entry=entry))

    async def grant(self, grant_id: str) -> Issued:
        return await self._engine.read(partial(granting.get, grant_id=grant_id))

    async def grants(self, *, after: str | None = None, limit: int = 50) -> GrantPage:
        return await self._engine.read(partial(granting.find, after=after, limit=limit))

    async def trail(
        self, *, after: int = 0, limit: int = 100, subject: str | None = None
    ) -> tuple[Written, ...]:
        return await self._engine.read(
            partial(sql.trail, after=after, limit=limit, subject=subject)
        )

    async def verify(self) -> TrailReport:
        return await self._engine.read(trail.verify)

    async def now(self) -> datetime:
        return await self._engine.now()
