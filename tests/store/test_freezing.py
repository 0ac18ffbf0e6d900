"""Freezes on every database; `tests/test_freezing.py` tells how they come about."""

import asyncio
import threading
import time

import pytest

from approval.core import steps
from approval.core.audit import Entry, Tag
from approval.core.call import CallId, Choice
from approval.core.lifecycle import Change, Event
from approval.errors import NotFound
from approval.store import sql
from approval.store.store import SqlStore
from approval.store.work import Work
from tests.store.conftest import Database
from tests.store.spending import answered, ask, buying, claim, end, lawful, vote

OVERRUN = answered(1001)


async def test_nothing_is_frozen_at_first_and_nothing_can_be_lifted(store: SqlStore) -> None:
    assert await store.freezes() == ()
    entry = Entry(tag=Tag.FREEZE_LIFT, subject="apr_1", actor="person:dora")
    with pytest.raises(NotFound, match="nothing is frozen"):
        await store.lift(CallId("apr_1"), entry)
    assert await store.trail() == ()


async def test_what_was_approved_before_a_freeze_does_not_run_until_it_is_lifted(
    store: SqlStore, database: Database
) -> None:
    """Not even the call that was approved first; another agent's runs, and so does a later one."""
    rules = buying(asking=True, freezes=True)
    calls = [(await ask(store, number, rules)).call for number in range(3)]
    calls.append((await ask(store, 3, rules, agent="other-agent")).call)
    first, second, third, others = [
        await vote(store, call, rules, Choice.APPROVE) for call in calls
    ]
    running = (await claim(store, second, rules)).call
    await end(store, running, OVERRUN)

    change = await claim(store, first, rules)
    assert change.event is Event.INVALIDATE
    assert change.call.note.startswith(
        f"frozen: This tool is frozen for this agent: call {second.id} "
    )
    assert (await claim(store, others, rules)).event is Event.CLAIM
    assert list((await lawful(database)).values()) == [(2000, 1001, 0)]
    entry = Entry(tag=Tag.FREEZE_LIFT, subject=second.id, actor="person:dora")
    await store.lift(second.id, entry)
    assert (await claim(store, third, rules)).event is Event.CLAIM
    assert (await store.verify()).problems == ()


async def test_a_claim_that_waits_for_an_overrun_to_be_written_knows_of_the_freeze(
    store: SqlStore, other: SqlStore
) -> None:
    """It waits for the meter that both draw on, and looks for freezes once it has it."""
    rules = buying(asking=True, freezes=True)
    calls = [(await ask(store, number, rules)).call for number in range(2)]
    running, waiting = [await vote(store, call, rules, Choice.APPROVE) for call in calls]
    await claim(store, running, rules)
    written = threading.Event()

    def overrun(work: Work) -> Change:
        change = sql.advance(
            work, running.id, lambda call, now: steps.answer(call, OVERRUN, owner="me", now=now)
        )
        written.set()
        time.sleep(0.3)  # so long it is not committed
        return change

    async def beside() -> Change:
        assert await asyncio.to_thread(written.wait, 10)
        return await claim(store, waiting, rules)

    _, change = await asyncio.gather(other._engine.write(overrun), beside())
    assert change.event is Event.INVALIDATE
    assert change.call.note.startswith("frozen: ")
