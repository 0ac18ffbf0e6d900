"""The laws of money over the real store: two writers on one database, and one ledger."""

from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from typing_extensions import override

from tests.core.correcting_machine import CorrectingMachine
from tests.factories import Clock
from tests.postgres import Server
from tests.store.tills import TwoTills


class SqliteMoney(CorrectingMachine):
    @override
    def make_till(self, clock: Clock) -> TwoTills:
        return TwoTills.on_sqlite(clock)


class PostgresMoney(CorrectingMachine):
    server: ClassVar[Server]

    @override
    def make_till(self, clock: Clock) -> TwoTills:
        return TwoTills.on_postgres(clock, self.server)


TestMoneyInTheStore = SqliteMoney.TestCase
TestMoneyInTheStore.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


@pytest.mark.postgres
def test_money_in_postgres(postgres_server: Server) -> None:
    PostgresMoney.server = postgres_server
    limits = settings(max_examples=10, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(PostgresMoney, settings=limits)
