"""Money and counts on a real database: all of a call fits, or nothing is taken."""

from approval.core.demand import Holdings
from approval.store import ledger
from approval.store.store import SqlStore


async def test_who_demands_nothing_meets_nothing(store: SqlStore) -> None:
    met = await store._engine.write(lambda work: ledger.holdings(work, None))
    assert met == Holdings()
