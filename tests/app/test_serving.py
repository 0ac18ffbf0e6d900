"""Running until told to stop, and reading again when told to or when a file changes."""

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest
from typing_extensions import override

from approval.app import serving
from approval.app.opening import opened
from approval.app.reloading import Reloader
from approval.app.running import Running
from approval.app.serving import Wishes
from approval.core.call import Outcome
from tests.config.files import VALID, read

FREE = '[server]\nlisten = "127.0.0.1:0"\n'
OPEN = (FREE + VALID).replace('default = "deny"', 'default = "allow"')


class Announced:
    """Hears when the service is up."""

    def __init__(self) -> None:
        self.service: asyncio.Future[Running] = asyncio.get_running_loop().create_future()

    async def __call__(self, running: Running) -> None:
        self.service.set_result(running)


async def in_force(service: Running) -> None:
    """Wait until the open rules are in force."""
    async with asyncio.timeout(10):
        judge = service.service.rules.judge
        while judge("ops-agent", "shop", "x", {}).outcome is Outcome.DENY:
            judge = service.service.rules.judge
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("asked", [True, False])
async def test_a_changed_file_is_read_again_asked_or_not(tmp_path: Path, asked: bool) -> None:
    wishes, announced = Wishes(), Announced()
    config = read(tmp_path, FREE + VALID)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(serving.run(config, announced, wishes))
        service = await announced.service
        config.path.write_text(OPEN)
        if asked:
            wishes.reload.set()
        await in_force(service)
        wishes.stop.set()
    assert run.done()
    assert not wishes.reload.is_set()


async def test_a_fault_while_reading_again_is_not_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wishes, announced = Wishes(), Announced()
    config = read(tmp_path, FREE + VALID)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serving.run(config, announced, wishes))
        service = await announced.service
        config.path.write_text("broken = ")
        wishes.reload.set()
        async with asyncio.timeout(10):
            while "not read again" not in caplog.text:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.01)
        config.path.write_text(OPEN)
        await in_force(service)
        wishes.stop.set()


class Broken(Reloader):
    """Fails in a way that nobody foresaw, and says how often."""

    looks = 0

    @override
    def changed(self) -> bool:
        self.looks += 1
        raise RuntimeError("a fault")


async def test_an_unforeseen_fault_is_not_the_end_either(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = read(tmp_path, VALID)
    async with opened(config) as (_, service):
        broken = Broken(service, config)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(serving.LOOK_SECONDS * 1.5):
                await serving._watch(broken, Wishes())
    assert broken.looks == 1
    assert "the old rules stay in force" in caplog.text


async def test_signals_are_wishes_while_it_runs_and_nobodys_afterwards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    announced = Announced()
    config = read(tmp_path, FREE + VALID)
    before = signal.getsignal(signal.SIGHUP)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serving.run(config, announced))
        await announced.service
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(10):
            while "was read again" not in caplog.text:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) == before


def test_it_runs_in_a_loop_of_its_own_until_it_stops(tmp_path: Path) -> None:
    seen: list[str] = []

    async def announce(running: Running) -> None:
        seen.append(type(asyncio.get_running_loop()).__module__)
        os.kill(os.getpid(), signal.SIGINT)

    serving.serve(read(tmp_path, FREE + VALID), announce)
    assert seen == ["uvloop"]
