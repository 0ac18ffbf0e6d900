"""Sending a claimed call, once, and recording what became of it, however long that takes."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import chain, repeat
from typing import Final

from approval.core import canonical, steps
from approval.core.call import Answer, Call, CallId, Status
from approval.core.lifecycle import Change
from approval.errors import AnswerLost, Conflict, NeverSent, StoreUnavailable
from approval.ports import Send, Step, Store

log = logging.getLogger(__name__)

SEND_WINDOW_SECONDS: Final = 2.0
"""The longest time between taking a claim and the first byte. A process that was frozen in between
may find its lease gone; it then must not send (semantics: leases, fencing)."""

SETTLE_RETRY_SECONDS: Final = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How long an upstream may take, and how long its claim is held beyond that."""

    upstream_timeout: timedelta = timedelta(seconds=60)
    timeouts: Mapping[str, timedelta] = field(default_factory=dict)
    """By upstream, where one differs from `upstream_timeout`."""
    lease_margin: timedelta = timedelta(seconds=15)
    max_in_flight: int = 1024

    def timeout(self, upstream: str) -> timedelta:
        return self.timeouts.get(upstream, self.upstream_timeout)


Advance = Callable[[CallId, Step], Awaitable[Change]]
"""Runs a step in the store and tells whoever waits what it changed."""


class Sender:
    """Sends what `owner` has claimed. Only a definite answer ends an execution."""

    def __init__(
        self, advance: Advance, store: Store, *, owner: str, timeout: Callable[[str], timedelta]
    ) -> None:
        self._advance = advance
        self._store = store
        self._owner = owner
        self._timeout = timeout

    async def run(self, claimed: Call, send: Send, asked_at: float) -> Call:
        """Send a call whose claim was asked for at this monotonic time, and settle it."""
        limit = self._timeout(claimed.asked.upstream)
        try:
            async with asyncio.timeout(limit.total_seconds()):
                found = await self._sent(claimed, send, asked_at)
        except AnswerLost as lost:
            return await self._lost(claimed.id, str(lost))
        except TimeoutError:
            return await self._lost(claimed.id, "the upstream did not answer in time")
        except Exception:
            log.exception("sending a claimed call failed", extra={"call": claimed.id})
            return await self._lost(claimed.id, "the gateway failed while sending")
        step = partial(steps.answer, found=found, owner=self._owner)
        return await self._record(claimed.id, lambda call, now: step(call, now=now))

    async def _sent(self, call: Call, send: Send, asked_at: float) -> Answer:
        if time.monotonic() - asked_at > SEND_WINDOW_SECONDS:
            return _unsent("the gateway was too slow between the claim and the first byte")
        try:
            return await send(call)
        except NeverSent as unsent:
            return _unsent(str(unsent))

    async def _lost(self, call_id: CallId, why: str) -> Call:
        step = partial(steps.lose, why=why, actor=f"service:{self._owner}")
        return await self._record(call_id, lambda call, now: step(call))

    async def _record(self, call_id: CallId, step: Step) -> Call:
        """Write what became of a sent call, as long as it takes: nobody else knows it."""
        pauses = chain(SETTLE_RETRY_SECONDS, repeat(SETTLE_RETRY_SECONDS[-1]))
        for pause in pauses:
            try:
                return (await self._advance(call_id, step)).call
            except Conflict:
                return await self._store.get(call_id)  # lapsed or settled by a person meanwhile
            except StoreUnavailable:
                log.exception("an outcome could not be recorded yet", extra={"call": call_id})
            await asyncio.sleep(pause)
        raise AssertionError("unreachable: the pauses never end")


def _unsent(why: str) -> Answer:
    error: canonical.JSON = {"code": -32603, "message": f"The call never left the gateway: {why}"}
    return Answer(status=Status.FAILED, body=canonical.write({"error": error}))
