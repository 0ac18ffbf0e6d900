"""The laws of a call's life, over the real store: two writers at once, and a clean trail."""

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from typing_extensions import override

from approval.core.call import Call, CallId, Listener, ToolCall
from approval.core.lifecycle import Change
from approval.ports import Admission, Step, TrailReport
from approval.store import schema
from approval.store.store import SqlStore
from tests.core.life_machine import PROCESSES, LifeMachine
from tests.factories import Clock
from tests.postgres import Server


@cache
def empty_database() -> bytes:
    """Migrate once; every run begins with a copy."""
    with tempfile.TemporaryDirectory() as folder:
        schema.upgrade(Path(folder) / "approval.db")
        return (Path(folder) / "approval.db").read_bytes()


class TwoStores:
    """Two stores on one database, each call through the one that the machine names."""

    def __init__(self, clock: Clock, url: str, stack: ExitStack) -> None:
        self.stack = stack
        self.runner = asyncio.Runner()
        self.clock = clock
        self.stores = {
            process: self.runner.run(SqlStore.open(url, clock=clock)) for process in PROCESSES
        }

    def now(self) -> datetime:
        return max(self.runner.run(store.now()) for store in self.stores.values())

    def admit(self, asked: ToolCall, step: Admission, process: str) -> Change:
        return self.runner.run(self.stores[process].admit(asked, None, step))

    def advance(self, call_id: CallId, step: Step, process: str) -> Change:
        return self.runner.run(self.stores[process].advance(call_id, step))

    def deliver(self, call_id: CallId, process: str) -> None:
        self.runner.run(self.stores[process].deliver(call_id))

    def listen(self, call_id: CallId, listener: Listener, process: str) -> None:
        self.runner.run(self.stores[process].listen(call_id, listener, process))

    def get(self, call_id: CallId, process: str) -> Call:
        return self.runner.run(self.stores[process].get(call_id))

    def due(self, process: str) -> Sequence[CallId]:
        # A heartbeat is a transaction: it brings this process's clock up to the trail's.
        self.runner.run(self.stores[process].heartbeat(process))
        return self.runner.run(self.stores[process].due())

    def close(self) -> None:
        reports = [self.runner.run(store.verify()) for store in self.stores.values()]
        self.discard()
        assert [report.problems for report in reports] == [(), ()]  # 13, 51
        assert len(set(map(head, reports))) == 1

    def discard(self) -> None:
        for store in self.stores.values():
            self.runner.run(store.close())
        self.runner.close()
        self.stack.close()


def head(report: TrailReport) -> tuple[int, str]:
    return report.calls, report.head


class SqliteMachine(LifeMachine):
    @override
    def make_shelf(self, clock: Clock) -> TwoStores:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            (Path(folder) / "approval.db").write_bytes(empty_database())
            return TwoStores(clock, f"sqlite:///{folder}/approval.db", stack.pop_all())


class PostgresMachine(LifeMachine):
    server: ClassVar[Server]

    @override
    def make_shelf(self, clock: Clock) -> TwoStores:
        with ExitStack() as stack:
            url = stack.enter_context(self.server.database())
            return TwoStores(clock, url, stack.pop_all())


TestLivesInTheStore = SqliteMachine.TestCase
TestLivesInTheStore.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)


@pytest.mark.postgres
def test_lives_in_postgres(postgres_server: Server) -> None:
    PostgresMachine.server = postgres_server
    limits = settings(max_examples=10, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(PostgresMachine, settings=limits)
