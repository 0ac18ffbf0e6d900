"""Run the service until a signal says stop; read the configuration again when one says so."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from approval.app.reloading import Reloader
from approval.app.running import Running, running
from approval.config import Config

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often the files are looked at for a change."""

Announce = Callable[[Running], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was asked of the running service from outside."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reload: asyncio.Event = field(default_factory=asyncio.Event)


def serve(config: Config, announce: Announce) -> None:
    """Run the service in this thread until SIGTERM or SIGINT."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run(config, announce))


async def run(config: Config, announce: Announce, wishes: Wishes | None = None) -> None:
    """Run the service until it is asked to stop.

    Raises:
        Misconfigured: If it cannot start.
    """
    wishes = wishes or Wishes()
    with _signals(wishes):
        async with running(config) as service:
            await announce(service)
            _settle_down()
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(_watch(Reloader(service.service, config), wishes))
                await wishes.stop.wait()
                watch.cancel()
            log.info("stopping: calls that wait are kept, and sends under way are finished")


def _settle_down() -> None:
    """Tell the garbage collector that what is here now stays.

    It would walk through every module's objects again and again for the few that a call leaves.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


async def _watch(reloader: Reloader, wishes: Wishes) -> None:
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await wishes.reload.wait()
        try:
            if wishes.reload.is_set() or reloader.changed():
                wishes.reload.clear()
                await reloader.reload()
        except Exception:
            log.exception("the configuration could not be read again; the old rules stay in force")


@contextmanager
def _signals(wishes: Wishes) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    heard = {
        signal.SIGTERM: wishes.stop,
        signal.SIGINT: wishes.stop,
        signal.SIGHUP: wishes.reload,
    }
    for number, wish in heard.items():
        loop.add_signal_handler(number, wish.set)
    try:
        yield
    finally:
        for number in heard:
            loop.remove_signal_handler(number)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  # absent where it has no build
    except ImportError:
        return None
    return uvloop.new_event_loop
