"""Duties on a tick: expire what is due, release what is approved, listen to other processes.

A duty is a function that does its work once, and an entry in `DUTIES`. Nothing depends on a tick
coming in time: deadlines are compared under the store's lock, and a wake-up is only a hint.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from approval.errors import StoreUnavailable
from approval.ports import Send
from approval.service import Service

log = logging.getLogger(__name__)

LONGEST_PAUSE: Final = timedelta(seconds=30)
"""However often a duty failed, it is tried again at least this often."""

GATHER: Final = timedelta(milliseconds=5)
"""Changes come in flocks; one round serves those that follow each other this closely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What duties work with. `take_duty` says whether this process is the one that sweeps."""

    service: Service
    send: Send
    take_duty: Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """Something to do again and again.

    `alone`: of several processes on one store only one does it. `hint`: an event that calls for it
    before its time. `steady`: a failure does not slow it.
    """

    name: str
    every: timedelta
    run_once: Callable[[Parts], Awaitable[object]]
    alone: bool = False
    steady: bool = False
    hint: Callable[[Parts], asyncio.Event] | None = None


async def poll(parts: Parts) -> None:
    """Learn what other processes changed, and which tokens they issued or revoked."""
    await parts.service.poll()


async def heartbeat(parts: Parts) -> None:
    """Say that this process lives, so that what it holds is left to it.

    It is also how a service that has nothing to do learns whether it could write.
    """
    await parts.service.heartbeat()


async def expire(parts: Parts) -> int:
    """End what is past its deadline or lease."""
    return await parts.service.expire_due()


async def release(parts: Parts) -> int:
    """Run approved calls whose agent does not hold the line and knows of them all the same."""
    return await parts.service.release_due(parts.send)


DUTIES: Final = (
    Duty(name="poll", every=timedelta(milliseconds=250), run_once=poll),
    Duty(name="heartbeat", every=timedelta(seconds=5), run_once=heartbeat, steady=True),
    Duty(name="expire", every=timedelta(seconds=1), run_once=expire, alone=True),
    Duty(
        name="release",
        every=timedelta(seconds=15),
        run_once=release,
        alone=True,
        hint=lambda parts: parts.service.released,
    ),
)


async def sweep(parts: Parts) -> None:
    """Do what must be done before anybody is let in: expire what fell due while nobody ran."""
    if await parts.take_duty():
        await expire(parts)


async def work(parts: Parts) -> None:
    """Do every duty until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        for duty in DUTIES:
            tasks.create_task(_repeat(duty, parts), name=f"duty {duty.name}")


async def _repeat(duty: Duty, parts: Parts) -> None:
    failures = 0
    while True:
        done = await attempt(duty, parts)
        failures = 0 if done is not False else failures + 1
        await _pause(duty, parts, failures, heed=done is True)


async def attempt(duty: Duty, parts: Parts) -> bool | None:
    """Do a duty once: True when done, None when another process does it, False when it failed."""
    try:
        if duty.alone and not await parts.take_duty():
            return None
        await duty.run_once(parts)
    except StoreUnavailable:
        # Expected trouble, and repeated every tick while it lasts: a line, not a traceback.
        log.warning("a duty could not reach the store", extra={"duty": duty.name})
        return False
    except Exception:
        log.exception("a duty failed", extra={"duty": duty.name})
        return False
    return True


def pause_after(duty: Duty, failures: int) -> timedelta:
    """Say how long to wait: the duty's own time, doubled with each failure in a row."""
    if duty.steady:
        return duty.every
    return min(duty.every * (1 << min(failures, 10)), max(LONGEST_PAUSE, duty.every))


async def _pause(duty: Duty, parts: Parts, failures: int, *, heed: bool) -> None:
    seconds = pause_after(duty, failures).total_seconds()
    if duty.hint is None or not heed:
        await asyncio.sleep(seconds)
        return
    # A hint is heeded only after a round that went well, for that is what takes it down.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await duty.hint(parts).wait()
        await asyncio.sleep(GATHER.total_seconds())
