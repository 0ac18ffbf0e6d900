"""The laws of money over the real store: two writers on one database, and one ledger."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import select
from typing_extensions import override

from approval.core.call import Call, CallId, ToolCall
from approval.core.demand import Demand, Offer
from approval.core.ledger import Kind, LedgerEntry
from approval.core.lifecycle import Change
from approval.core.meters import Usage
from approval.ports import Admission, Claim, Step
from approval.store.store import SqlStore
from approval.store.tables import from_microseconds, ledger_entries, meter_windows
from tests.core.money_machine import PROCESSES, MoneyMachine, Row
from tests.factories import Clock
from tests.postgres import Server
from tests.store.test_store_properties import empty_database


class TwoStores:
    """Two stores on one database, each call through the one that the machine names."""

    def __init__(self, clock: Clock, url: str, stack: ExitStack) -> None:
        self.stack = stack
        self.runner = asyncio.Runner()
        self.stores = {
            process: self.runner.run(SqlStore.open(url, clock=clock)) for process in PROCESSES
        }

    def now(self) -> datetime:
        return max(self.runner.run(store.now()) for store in self.stores.values())

    def admit(
        self,
        asked: ToolCall,
        demand: Demand | None,
        step: Admission,
        offers: tuple[Offer, ...],
        process: str,
    ) -> Change:
        store = self.stores[process]
        return self.runner.run(store.admit(asked, demand, step, lambda issued: offers))

    def claim(self, call_id: CallId, demand: Demand | None, step: Claim, process: str) -> Change:
        return self.runner.run(self.stores[process].claim(call_id, lambda call: demand, step))

    def advance(self, call_id: CallId, step: Step, process: str) -> Change:
        return self.runner.run(self.stores[process].advance(call_id, step))

    def get(self, call_id: CallId, process: str) -> Call:
        return self.runner.run(self.stores[process].get(call_id))

    def sums(self, process: str) -> Mapping[Row, Usage]:
        engine = self.stores[process]._engine
        query = select(meter_windows)
        found = self.runner.run(engine.read(lambda reader: reader.execute(query).all()))
        return {
            (row.meter_id, from_microseconds(row.window_start)): Usage(
                held=row.held, posted=row.posted, overridden=row.overridden
            )
            for row in found
        }

    def entries(self, process: str) -> Counter[tuple[str, LedgerEntry]]:
        engine = self.stores[process]._engine
        query = select(ledger_entries)
        found = self.runner.run(engine.read(lambda reader: reader.execute(query).all()))
        return Counter(
            (
                row.call_id,
                LedgerEntry(
                    kind=Kind(row.kind),
                    meter_id=row.meter_id,
                    window_start=from_microseconds(row.window_start),
                    amount=row.amount,
                    override=row.override,
                ),
            )
            for row in found
        )

    def close(self) -> None:
        reports = [self.runner.run(store.verify()) for store in self.stores.values()]
        for store in self.stores.values():
            self.runner.run(store.close())
        self.runner.close()
        self.stack.close()
        assert [report.problems for report in reports] == [(), ()]


class SqliteMoney(MoneyMachine):
    @override
    def make_till(self, clock: Clock) -> TwoStores:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            (Path(folder) / "approval.db").write_bytes(empty_database())
            return TwoStores(clock, f"sqlite:///{folder}/approval.db", stack.pop_all())


class PostgresMoney(MoneyMachine):
    server: ClassVar[Server]

    @override
    def make_till(self, clock: Clock) -> TwoStores:
        with ExitStack() as stack:
            url = stack.enter_context(self.server.database())
            return TwoStores(clock, url, stack.pop_all())


TestMoneyInTheStore = SqliteMoney.TestCase
TestMoneyInTheStore.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


@pytest.mark.postgres
def test_money_in_postgres(postgres_server: Server) -> None:
    PostgresMoney.server = postgres_server
    limits = settings(max_examples=10, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(PostgresMoney, settings=limits)
