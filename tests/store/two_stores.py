"""Two stores on one database, for machines that play calls through either."""

import asyncio
import tempfile
from contextlib import ExitStack
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Self

from approval.core.call import Call, CallId
from approval.core.lifecycle import Change
from approval.ports import Step
from approval.store import schema
from approval.store.store import SqlStore
from tests.core.life_machine import PROCESSES
from tests.factories import Clock
from tests.postgres import Server


@cache
def empty_database() -> bytes:
    """Migrate once; every run begins with a copy."""
    with tempfile.TemporaryDirectory() as folder:
        schema.upgrade(Path(folder) / "approval.db")
        return (Path(folder) / "approval.db").read_bytes()


class TwoStores:
    """Each call goes through the store of the process that the machine names."""

    def __init__(self, clock: Clock, url: str, stack: ExitStack) -> None:
        self.stack = stack
        self.runner = asyncio.Runner()
        self.clock = clock
        self.stores = {
            process: self.runner.run(SqlStore.open(url, clock=clock)) for process in PROCESSES
        }

    @classmethod
    def on_sqlite(cls, clock: Clock) -> Self:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            (Path(folder) / "approval.db").write_bytes(empty_database())
            return cls(clock, f"sqlite:///{folder}/approval.db", stack.pop_all())

    @classmethod
    def on_postgres(cls, clock: Clock, server: Server) -> Self:
        with ExitStack() as stack:
            url = stack.enter_context(server.database())
            return cls(clock, url, stack.pop_all())

    def now(self) -> datetime:
        return max(self.runner.run(store.now()) for store in self.stores.values())

    def advance(self, call_id: CallId, step: Step, process: str) -> Change:
        return self.runner.run(self.stores[process].advance(call_id, step))

    def get(self, call_id: CallId, process: str) -> Call:
        return self.runner.run(self.stores[process].get(call_id))

    def close(self) -> None:
        reports = [self.runner.run(store.verify()) for store in self.stores.values()]
        self.discard()
        assert [report.problems for report in reports] == [(), ()]  # 13, 51
        assert len({(report.calls, report.head) for report in reports}) == 1

    def discard(self) -> None:
        for store in self.stores.values():
            self.runner.run(store.close())
        self.runner.close()
        self.stack.close()
