"""Counts on PostgreSQL, where one process changes a limit while another waits to count under it."""

import asyncio

import pytest

from approval.core.rates import Rate
from approval.store.store import SqlStore
from tests.factories import Clock
from tests.store.test_ledger import admits, ring
from tests.store.test_postgres_writer import holding, waiters

pytestmark = pytest.mark.postgres


async def one_after_the_other(
    url: str, lock: str, clock: Clock, *asking: tuple[SqlStore, Rate]
) -> list[int]:
    """Let each ask for one call and come to where this lock keeps it; then let go of the lock."""
    async with asyncio.TaskGroup() as tasks, holding(url, lock):
        told = []
        for number, (store, rate) in enumerate(asking, 1):
            told.append(tasks.create_task(admits(store, rate, 1)))
            await waiters(url, number)
            clock.advance(seconds=1)
    return [task.result() for task in told]


async def test_a_limit_that_another_process_changes_meanwhile_forgives_nothing(
    postgres_url: str, store: SqlStore, other: SqlStore, clock: Clock
) -> None:
    """The second waits for a count that it knows, while the first makes one that it does not."""
    assert await admits(store, ring(10), 9) == 9
    lock = "SELECT id FROM rate_count FOR UPDATE"
    asking = [(store, ring(11)), (other, ring(10))]
    assert await one_after_the_other(postgres_url, lock, clock, *asking) == [1, 0]
    assert await admits(store, ring(11), 2) == 1


async def test_two_processes_that_count_first_under_two_limits_know_of_each_other(
    postgres_url: str, store: SqlStore, other: SqlStore, clock: Clock
) -> None:
    """Neither finds a row that it could wait for: the making of one is what waits here."""
    lock = "LOCK TABLE rate_count IN SHARE MODE"
    asking = [(store, ring(2)), (other, ring(3))]
    assert await one_after_the_other(postgres_url, lock, clock, *asking) == [1, 1]
    assert await admits(store, ring(3), 3) == 1
