"""Requests that wait for something to happen, and how they are all made to end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from approval.web.problems import Problem

MOST: Final = 8
"""More tabs of one session than that fall back to asking every ten seconds."""


class Waiting:
    """Holds open requests by a key (a session, a person), each bounded in time.

    The HTTP server waits for open requests when it stops, and would wait for a stream for ever: so
    each ends when it is told to, at shutdown or when its session ends.
    """

    def __init__(self) -> None:
        self._open: dict[asyncio.Timeout, str] = {}
        self.closed = False

    @asynccontextmanager
    async def held(
        self, key: str, seconds: float | None = None, *, most: int = MOST
    ) -> AsyncIterator[None]:
        """Stay inside until the block ends, the time is over, or somebody ends this key.

        Raises:
            Problem: If this key holds too many already, or the service is stopping.
        """
        if self.closed:
            raise Problem(503, "stopping", "The service is stopping.", headers={"Retry-After": "2"})
        if sum(held == key for held in self._open.values()) >= most:
            detail = f"{most} requests of yours wait already; close some."
            raise Problem(429, "too_many_waiting", detail, headers={"Retry-After": "10"})
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds) as limit:
                self._open[limit] = key
                try:
                    yield
                finally:
                    del self._open[limit]

    def end(self, key: str) -> None:
        """End whatever waits under this key."""
        for limit, held in self._open.items():
            if held == key:
                limit.reschedule(asyncio.get_running_loop().time())

    def close(self) -> None:
        """End everything that waits, and let nothing wait any more."""
        self.closed = True
        for key in set(self._open.values()):
            self.end(key)
