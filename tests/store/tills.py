"""Two stores on one database as a till: what machines ask of them, and look at in their tables."""

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import select

from approval.core.call import CallId, ToolCall
from approval.core.demand import Demand, Offer
from approval.core.ledger import Kind, LedgerEntry
from approval.core.lifecycle import Change
from approval.core.meters import Usage
from approval.ports import Admission, Claim
from approval.store.tables import from_microseconds, ledger_entries, meter_windows
from tests.core.till import Row
from tests.store.two_stores import TwoStores


class TwoTills(TwoStores):
    """What the machine asks of the stores, and what it looks at in their tables."""

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
        return self.runner.run(self.stores[process].claim(call_id, lambda call: (demand, step)))

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
