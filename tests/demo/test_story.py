"""The demo tells the truth: it ends well only if the shop sold exactly what was approved."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from approval.core.call import Choice, Status
from approval.core.steps import Ballot
from approval.demo import story
from approval.demo.story import BUY, StoryFailed, stage

ROOT = Path(__file__).resolve().parents[2]


def test_by_itself_it_shows_purchases_approved_rejected_expired_and_beyond_the_limit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    story.show(by_itself=True)
    told = capsys.readouterr().out
    assert "REJECTED by ann, NOT EXECUTED" in told
    assert "EXPIRED, NOT EXECUTED" in told
    assert "DENIED, NOT EXECUTED: The limit numbers-day is 5.00 USD a day; 4.60 USD" in told
    assert "bought    +14155550100, +14155550102, +14155550103, +14155550104\n" in told
    assert "the trail holds" in told
    assert "exactly those four were bought" in told


async def test_a_reader_who_never_answers_buys_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    await story._with_reader(Console(highlight=False), 0, patience="1s")
    told = capsys.readouterr().out
    assert "Sign in as Ann: http://127.0.0.1:" in told
    assert told.count("EXPIRED, NOT EXECUTED") == 3
    assert told.endswith("bought    nothing\n")


async def test_what_was_bought_is_read_from_the_shops_own_ledger() -> None:
    async with stage(0) as on:
        assert on.bought() == []
        async with asyncio.TaskGroup() as tasks:
            buying = tasks.create_task(on.agent.call(BUY, {"phone_number": "+14155550100"}))
            async with asyncio.timeout(10):
                while not (await on.service.store.find(states={Status.PENDING})).calls:  # noqa: ASYNC110 - a store
                    await asyncio.sleep(0.01)
            (call,) = (await on.service.store.find()).calls
            ballot = Ballot(person="ann", choice=Choice.APPROVE, digest=call.digest, via="test")
            await on.service.service.decide(call.id, ballot)
            await buying
        assert on.bought() == ["+14155550100"]
        folder = on.ledger.parent
    assert not folder.exists()


def test_a_port_that_is_none_is_a_usage_error() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "approval", "demo", "--yes", "--port", "70000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2


def test_what_goes_wrong_among_several_things_is_told_alone() -> None:
    inner = StoryFailed("the first")
    group = BaseExceptionGroup("x", [BaseExceptionGroup("y", [inner]), ValueError("later")])
    assert story._first(group) is inner
    assert story._first(inner) is inner
