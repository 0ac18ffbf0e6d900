"""Connections whose first request does not come: who opens one and says nothing loses it soon.

aiohttp gives such a connection as long as one that idles between two requests, which for the sake
of agents is more than a minute. A stranger could hold every socket we have in that time.

One timer serves all of them, and only while there are any. A connection is entered where it is made
and struck off by its first request: a call that is held, and a stream, are never looked at.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from itertools import takewhile
from typing import Final

from aiohttp import web

TICKS: Final = 10
"""How often newcomers are looked at within the time that they have."""

BACKLOG: Final = 1024

Make = Callable[[], web.RequestHandler]
"""Makes the server's end of a connection; a `web.Server` is one that does."""


class Newcomers:
    """Has connections made, and ends those that are `seconds` old without a request."""

    def __init__(self, make: Make, seconds: float) -> None:
        self.waiting: dict[web.RequestHandler, float] = {}
        """When each connection was taken, the oldest first. Whoever sees a request of one strikes
        it off."""
        self._make = make
        self._seconds = seconds
        self._looked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def accept(self, bound: socket.socket, tls: ssl.SSLContext | None) -> asyncio.Server:
        """Take connections on this socket.

        Raises:
            OSError: If it cannot be listened on.
        """
        return await asyncio.get_running_loop().create_server(
            self._made,
            sock=bound,
            ssl=tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=self._seconds if tls is not None else None,
        )

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        self.waiting.clear()

    def _made(self) -> web.RequestHandler:
        handler = self._make()
        self.waiting[handler] = asyncio.get_running_loop().time()
        if self._timer is None:
            self._set()
        return handler

    def _set(self) -> None:
        loop = asyncio.get_running_loop()
        self._looked_at = loop.time()
        self._timer = loop.call_later(self._seconds / TICKS, self._look)

    def _look(self) -> None:
        # Late by a tick: what had arrived at the last one has been read since, however long the
        # loop was away, and its connection has been struck off.
        until = self._looked_at - self._seconds
        overdue = list(takewhile(lambda each: each[1] <= until, self.waiting.items()))
        for handler, _ in overdue:
            del self.waiting[handler]
            # None: it is closed already, or its TLS handshake has run into the same time limit.
            if handler.transport is not None:
                handler.transport.abort()
        self._timer = None
        if self.waiting:
            self._set()
