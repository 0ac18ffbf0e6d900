"""Who in this process waits for a change, and how they hear of it: hints, the store decides."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from approval.core.call import Call, CallId

BACKLOG: Final = 1000
REMEMBERED: Final = 4096
SMALL: Final = 4096
"""Calls with more bytes of arguments than this are read again instead: memory has its bounds."""


class Wakeups:
    """Wakes those who watch one call, and tells those who watch all of them."""

    def __init__(self) -> None:
        self._watchers: dict[CallId, set[asyncio.Future[Call | None]]] = {}
        self._subscribers: set[asyncio.Queue[CallId]] = set()
        self._latest: dict[CallId, Call] = {}

    def latest(self, call_id: CallId) -> Call | None:
        """Give a call as this process last changed it, unless another process has done so since.

        Thousands of calls that begin to wait at once need not be read again for that.
        """
        return self._latest.get(call_id)

    def hint(self, call_id: CallId, version: int) -> bool:
        """Hear that some process brought a call to this version; False if no waiter need know."""
        if version == 0:  # what its agent knows of it: news to those who look on, and not to it
            self._tell(call_id)
            return False
        known = self._latest.get(call_id)
        if known is not None and known.version >= version:
            return False  # most often our own change, come back
        self.wake(call_id, None)
        return True

    def wake(self, call_id: CallId, call: Call | None) -> None:
        """Tell everybody that this call has changed; `call` is how it is now, where known."""
        self._remember(call_id, call)
        for future in self._watchers.get(call_id, ()):
            if not future.done():
                future.set_result(call)
        self._tell(call_id)

    def _tell(self, call_id: CallId) -> None:
        for queue in self._subscribers:
            if not queue.full():
                queue.put_nowait(call_id)

    def _remember(self, call_id: CallId, call: Call | None) -> None:
        known = self._latest.pop(call_id, None)
        if call is None or len(call.asked.arguments) > SMALL:
            return
        # Two changes may be published in another order than they were made in.
        self._latest[call_id] = call if known is None or known.version < call.version else known
        if len(self._latest) > REMEMBERED:
            del self._latest[next(iter(self._latest))]

    @contextmanager
    def watching(self, call_id: CallId) -> Iterator[asyncio.Future[Call | None]]:
        """Watch one call: the future is done at its next change.

        Enter first and read the store second, or a change in between is missed.
        """
        future: asyncio.Future[Call | None] = asyncio.get_running_loop().create_future()
        watchers = self._watchers.setdefault(call_id, set())
        watchers.add(future)
        try:
            yield future
        finally:
            watchers.discard(future)
            if not watchers:
                self._watchers.pop(call_id, None)

    @contextmanager
    def subscribed(self) -> Iterator[asyncio.Queue[CallId]]:
        """Hear of every change; one that falls `BACKLOG` behind misses some and must re-read."""
        queue: asyncio.Queue[CallId] = asyncio.Queue(BACKLOG)
        self._subscribers.add(queue)
        try:
            yield queue
        finally:
            self._subscribers.discard(queue)
