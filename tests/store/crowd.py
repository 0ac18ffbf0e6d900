"""Two services on one database, many callers at once, and either service dying where it hurts.

A process dies at one of its writes: before anything of it happened, or when it is on disk and
nobody has heard of it yet. From then on nothing that it asks for returns; it is buried without a
word to the database, and another is started in its place. What reached the upstream is remembered
by a witness that no process can reach.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self, TypeVar

import orjson
from sqlalchemy import Connection

from approval.core import canonical
from approval.core.audit import Entry
from approval.core.call import Answer, Call, CallId, Status
from approval.core.canonical import JSON
from approval.core.rulebook import Rulebook
from approval.errors import AnswerLost, ApprovalError, NeverSent
from approval.service import Service
from approval.store.store import Engine, SqlStore
from approval.store.work import Work
from tests.core.life_machine import PROCESSES
from tests.factories import Clock
from tests.postgres import Server
from tests.store.two_stores import empty_database

T = TypeVar("T")

PATIENCE_SECONDS = 60


class Mortal:
    """An engine whose process dies at the write that `dies_at` names."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.died = asyncio.Event()
        self._writes_left = 0
        self._commits = False

    def dies_at(self, write: int, *, commits: bool) -> None:
        """Die at the write of this number from now, and let it be committed first or not."""
        self._writes_left, self._commits = write, commits

    async def write(self, unit: Callable[[Work], T]) -> T:
        await self._lives()
        self._writes_left -= 1
        if self._writes_left == 0:
            if self._commits:
                with suppress(ApprovalError):
                    await self.engine.write(unit)
            self.died.set()
            await self._lives()
        done = await self.engine.write(unit)
        await self._lives()
        return done

    async def read(self, query: Callable[[Connection], T]) -> T:
        await self._lives()
        return await self.engine.read(query)

    async def journal(self, entry: Entry) -> None:
        await self._lives()
        await self.engine.journal(entry)

    def journal_later(self, entry: Entry) -> None:
        if not self.died.is_set():
            self.engine.journal_later(entry)

    async def now(self) -> datetime:
        return await self.engine.now()

    async def version(self) -> int:
        return await self.engine.version()

    async def take_duty(self) -> bool:
        return await self.engine.take_duty()

    async def backup(self, target: Path) -> None:
        await self.engine.backup(target)

    async def close(self) -> None:
        await self.engine.close()

    async def _lives(self) -> None:
        """Return to the living; the dead wait until they are buried."""
        if self.died.is_set():
            await asyncio.Future()


@dataclass
class Upstream:
    """Does what the arguments of a call say, and remembers all of it."""

    reached: Counter[CallId] = field(default_factory=Counter)
    took: dict[CallId, int] = field(default_factory=dict)
    """What it really took for each call that it did, whatever it answered."""

    async def send(self, call: Call) -> Answer:
        arguments = orjson.loads(call.asked.arguments)
        if arguments["answer"] == "unsent":
            raise NeverSent("nothing left")
        self.reached[call.id] += 1
        await asyncio.sleep(0)  # others get their turn while it is under way
        if arguments["answer"] == "refused":
            return Answer(status=Status.FAILED, body=b"{}")
        said = arguments["took"]
        quoted = arguments["amount"] if call.amount is None else call.amount.minor
        self.took[call.id] = quoted if said is None else said
        if arguments["answer"] == "silent":
            raise AnswerLost("no answer")
        result: JSON = {"structuredContent": {} if said is None else {"took": said}}
        status = Status.EXECUTED if arguments["answer"] == "ok" else Status.ERRORED
        return Answer(status=status, body=canonical.write({"result": result}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    service: Service
    store: SqlStore
    engine: Mortal
    stack: AsyncExitStack

    @classmethod
    async def start(cls, url: str, clock: Clock, rules: Rulebook) -> Self:
        async with AsyncExitStack() as stack:
            store = await SqlStore.open(url, clock=clock)
            store._engine = engine = Mortal(store._engine)
            stack.push_async_callback(engine.close)
            service = await stack.enter_async_context(Service(store, rules))
            return cls(service=service, store=store, engine=engine, stack=stack.pop_all())

    async def work(self, works: Sequence[Awaitable[None]]) -> None:
        """Do all of this at once, and what comes of it, unless the process dies meanwhile."""
        async with asyncio.TaskGroup() as group:
            death = group.create_task(self.engine.died.wait())
            busy = group.create_task(self._all_of(works))
            await asyncio.wait({death, busy}, return_when=asyncio.FIRST_COMPLETED)
            death.cancel()
            busy.cancel()

    async def _all_of(self, works: Sequence[Awaitable[None]]) -> None:
        await asyncio.gather(*works)
        while tasks := set(self.service._tasks._tasks):
            await asyncio.wait(tasks)

    async def bury(self) -> None:
        """End what is under way where it stands, and let the database go."""
        for task in set(self.service._tasks._tasks):
            task.cancel()
        await self.stack.aclose()


Doing = Callable[[Service], Awaitable[None]]


class World:
    """Two processes on one database, the upstream, and the clock."""

    def __init__(self, clock: Clock, url: str, stack: ExitStack, rules: Rulebook) -> None:
        self.clock = clock
        self.url = url
        self.stack = stack
        self.upstream = Upstream()
        self.runner = asyncio.Runner()
        self.rules = dict.fromkeys(PROCESSES, rules)
        self.processes = {name: self._start(name) for name in PROCESSES}

    @classmethod
    def on_sqlite(cls, clock: Clock, rules: Rulebook) -> Self:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            (Path(folder) / "approval.db").write_bytes(empty_database())
            return cls(clock, f"sqlite:///{folder}/approval.db", stack.pop_all(), rules)

    @classmethod
    def on_postgres(cls, clock: Clock, rules: Rulebook, server: Server) -> Self:
        with ExitStack() as stack:
            url = stack.enter_context(server.database())
            return cls(clock, url, stack.pop_all(), rules)

    def _start(self, name: str) -> Process:
        return self.runner.run(Process.start(self.url, self.clock, self.rules[name]))

    def at_once(self, works: Sequence[tuple[str, Doing]]) -> bool:
        """Let processes do all of this at once; say whether one died, which is replaced then."""

        async def all_of_it() -> None:
            async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
                for name, process in self.processes.items():
                    mine = [do(process.service) for named, do in works if named == name]
                    group.create_task(process.work(mine))

        self.runner.run(all_of_it())
        dead = [name for name, each in self.processes.items() if each.engine.died.is_set()]
        for name in dead:
            self.runner.run(self.processes[name].bury())
            self.processes[name] = self._start(name)
        return bool(dead)

    def calls(self) -> list[Call]:
        """Read every call there is, the oldest first."""
        store = self.processes[PROCESSES[0]].store
        found: list[Call] = []
        after: str | None = None
        while True:
            page = self.runner.run(store.find(states=(), after=after, limit=500))
            found += page.calls
            if page.next is None:
                return found[::-1]
            after = page.next

    def names(self) -> dict[str, str]:
        """Name the meters that have been drawn on, by their ids."""
        kept = self.runner.run(self.processes[PROCESSES[1]].store.kept())
        return {each.meter_id: each.name for each in kept}

    def problems(self) -> list[str]:
        """Check the trail, and every sum against it."""
        reports = [self.runner.run(each.store.verify()) for each in self.processes.values()]
        return [problem for report in reports for problem in report.problems]

    def close(self) -> None:
        for process in self.processes.values():
            self.runner.run(process.bury())
        self.runner.close()
        self.stack.close()
