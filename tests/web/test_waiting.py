import asyncio

import pytest

from approval.web.problems import Problem
from approval.web.waiting import Waiting


async def held(waiting: Waiting, key: str, inside: asyncio.Event) -> str:
    async with waiting.held(key):
        inside.set()
        await asyncio.Event().wait()
    return "over"


async def test_what_waits_under_a_key_is_ended_and_nothing_else() -> None:
    waiting, one, two = Waiting(), asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        ann = tasks.create_task(held(waiting, "ann", one))
        bob = tasks.create_task(held(waiting, "bob", two))
        await one.wait()
        await two.wait()
        waiting.end("ann")
        assert await ann == "over"
        assert not bob.done()
        waiting.close()
    assert bob.result() == "over"


async def test_waiting_ends_with_its_time() -> None:
    async with asyncio.timeout(5), Waiting().held("ann", 0.001):
        await asyncio.Event().wait()


async def test_nobody_holds_more_than_allowed() -> None:
    waiting = Waiting()
    async with waiting.held("ann", most=1):
        with pytest.raises(Problem, match="wait already") as refusal:
            async with waiting.held("ann", most=1):
                pass
        async with waiting.held("bob", most=1):
            pass
    assert refusal.value.status == 429
    async with waiting.held("ann", most=1):
        pass


async def test_after_closing_nothing_waits() -> None:
    waiting = Waiting()
    waiting.close()
    with pytest.raises(Problem, match="stopping"):
        async with waiting.held("ann"):
            pass
