"""The laws of a call's life, over the real store: two writers at once, and a clean trail."""

from collections.abc import Sequence
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from typing_extensions import override

from approval.core.call import CallId, Listener, ToolCall
from approval.core.lifecycle import Change
from approval.ports import Admission
from tests.core.life_machine import LifeMachine
from tests.factories import Clock
from tests.postgres import Server
from tests.store.two_stores import TwoStores


class TwoShelves(TwoStores):
    """What the machine of lives asks of the stores."""

    def admit(self, asked: ToolCall, step: Admission, process: str) -> Change:
        return self.runner.run(self.stores[process].admit(asked, None, step))

    def deliver(self, call_id: CallId, process: str) -> None:
        self.runner.run(self.stores[process].deliver(call_id))

    def listen(self, call_id: CallId, listener: Listener, process: str) -> None:
        self.runner.run(self.stores[process].listen(call_id, listener, process))

    def due(self, process: str) -> Sequence[CallId]:
        # A heartbeat is a transaction: it brings this process's clock up to the trail's.
        self.runner.run(self.stores[process].heartbeat(process))
        return self.runner.run(self.stores[process].due())


class SqliteMachine(LifeMachine):
    @override
    def make_shelf(self, clock: Clock) -> TwoShelves:
        return TwoShelves.on_sqlite(clock)


class PostgresMachine(LifeMachine):
    server: ClassVar[Server]

    @override
    def make_shelf(self, clock: Clock) -> TwoShelves:
        return TwoShelves.on_postgres(clock, self.server)


TestLivesInTheStore = SqliteMachine.TestCase
TestLivesInTheStore.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)


@pytest.mark.postgres
def test_lives_in_postgres(postgres_server: Server) -> None:
    PostgresMachine.server = postgres_server
    limits = settings(max_examples=10, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(PostgresMachine, settings=limits)
