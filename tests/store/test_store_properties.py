"""The laws of a call's life, over the real store: two writers on one file, and a clean trail."""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

from hypothesis import settings
from typing_extensions import override

from approval.core.call import Call, CallId, Listener, ToolCall
from approval.core.lifecycle import Change
from approval.ports import Admission, Step, TrailReport
from approval.store import schema
from approval.store.store import SqlStore
from tests.core.life_machine import PROCESSES, LifeMachine
from tests.factories import Clock


@cache
def empty_database() -> bytes:
    """Migrate once; every run begins with a copy."""
    with tempfile.TemporaryDirectory() as folder:
        schema.upgrade(Path(folder) / "approval.db")
        return (Path(folder) / "approval.db").read_bytes()


class TwoStores:
    """Two stores on one file, each call through the one that the machine names."""

    def __init__(self, clock: Clock) -> None:
        self.folder = Path(tempfile.mkdtemp())
        (self.folder / "approval.db").write_bytes(empty_database())
        self.runner = asyncio.Runner()
        self.clock = clock
        self.stores = {
            process: self.runner.run(
                SqlStore.open("sqlite:///approval.db", base=self.folder, clock=clock)
            )
            for process in PROCESSES
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
        shutil.rmtree(self.folder)


def head(report: TrailReport) -> tuple[int, str]:
    return report.calls, report.head


class StoreMachine(LifeMachine):
    @override
    def make_shelf(self, clock: Clock) -> TwoStores:
        return TwoStores(clock)


TestLivesInTheStore = StoreMachine.TestCase
TestLivesInTheStore.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
