"""A lean HTTP/1.1 client of one server: what a relay needs, and nothing that could surprise it.

No redirects, cookies, proxies, retries or decoding, and no task or timer for a request. A client
of everything costs more CPU than all other work on a plainly allowed call together.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from aiohappyeyeballs import start_connection
from yarl import URL

from approval.core.canonical import quoted
from approval.errors import NeverSent
from approval.gateway.connection import Connection, Response

IDLE_SECONDS = 4.0
"""How long an unused connection is kept: less than the five seconds after which common servers
(Node, uvicorn) end one, because a request that crosses the end leaves a doubt."""

MAX_IDLE = 100
NEXT_ADDRESS_SECONDS = 0.25

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_FRAMING = frozenset(
    {
        *("connection", "content-length", "expect", "host", "keep-alive", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    host: str
    port: int
    secure: bool
    first_line: str
    """What follows the method: the path, the version, and the `Host` line."""


class HttpClient:
    """The client of one address. Enter it before use; leaving it ends every connection of it.

    `headers` go with every request and stand above any other of the same name. Requests and
    answers without a limit of their own may take for ever: whoever waits ends the waiting.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout: float,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        idle: float = IDLE_SECONDS,
    ) -> None:
        self._url = url
        self._connect_timeout = connect_timeout
        self._headers = dict(headers or {})
        self._own = {name.lower() for name in self._headers} | _FRAMING
        self._tls = tls
        self._idle_seconds = idle
        self._target: _Target | None = None
        self._starts: dict[tuple[str, bool], bytes] = {}
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, float] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None
        self._open = False

    async def __aenter__(self) -> Self:
        if self._tls is None and self._url.lower().startswith("https:"):
            self._tls = ssl.create_default_context()
        self._loop = asyncio.get_running_loop()
        self._open = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._open = False
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._connections:
            self._emptied = self._loop.create_future()
            for connection in tuple(self._connections):
                connection.drop()
            await self._emptied

    async def request(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        fresh: bool = False,
    ) -> Response:
        """Make a request; `fresh` gives it a connection of its own, which ends with the answer.

        Raises:
            NeverSent: If no connection came about, or the request cannot be written as HTTP.
            AnswerLost: If one did, and then no answer that can be read.
        """
        written = self._written(method, headers, body, fresh=fresh)
        connection = None if fresh else self._reused()
        if connection is None:
            connection = await self._connected(once=fresh)
        return await connection.ask(method, written)

    def keep(self, connection: Connection) -> None:
        """Take a connection back for the next request."""
        if not self._open or len(self._idle) >= MAX_IDLE:
            connection.drop()
            return
        self._idle[connection] = self._loop.time()
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._idle_seconds, self._sweep)

    def forget(self, connection: Connection) -> None:
        """Know that a connection is no more."""
        self._connections.discard(connection)
        self._idle.pop(connection, None)
        if not self._connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _reused(self) -> Connection | None:
        oldest = self._loop.time() - self._idle_seconds
        while self._idle:
            connection, since = self._idle.popitem()
            if since > oldest and connection.is_quiet():
                return connection
            connection.drop()
        return None

    def _sweep(self) -> None:
        """End the connections that nobody has used; one timer serves all."""
        self._sweeper = None
        oldest = self._loop.time() - self._idle_seconds
        for connection, since in list(self._idle.items()):
            if since > oldest:
                self._sweeper = self._loop.call_at(since + self._idle_seconds, self._sweep)
                return
            del self._idle[connection]
            connection.drop()

    async def _connected(self, *, once: bool) -> Connection:
        target = self._read_target()
        connection = Connection(self, once=once)
        try:
            async with asyncio.timeout(self._connect_timeout):
                connection.opened(await self._transport(connection, target))
        except TimeoutError as error:
            text = f"{target.host} did not answer within {self._connect_timeout:g} seconds"
            raise NeverSent(text) from error
        except (OSError, UnicodeError) as error:
            raise NeverSent(f"no connection to {target.host}: {error}") from error
        if not (self._open and connection.is_usable()):
            connection.drop()
            raise NeverSent(f"the connection to {target.host} ended before anything was sent")
        # Not earlier: of a connection that is given up half made, uvloop never tells the end.
        self._connections.add(connection)
        return connection

    async def _transport(self, connection: Connection, target: _Target) -> asyncio.Transport:
        addresses = await self._loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        # uvloop's own connecting tries one address after the other, each to its end.
        sock = await start_connection(
            addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, loop=self._loop
        )
        # A stream lasts for days: without it the end of a lost machine would never be known.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        transport, _ = await self._loop.create_connection(
            lambda: connection,
            sock=sock,
            ssl=self._tls if target.secure else None,
            server_hostname=target.host if target.secure else None,
        )
        return transport

    def _written(
        self, method: str, headers: Mapping[str, str], body: bytes | None, *, fresh: bool
    ) -> bytes:
        """Write a request whole; it leaves in one piece where it fits."""
        lines = []
        for name, value in headers.items():
            if name.lower() in self._own:
                if name.lower() in _FRAMING:
                    raise NeverSent(f"the header {name} is not the caller's to write")
                continue
            if not (_is_token(name) and value.isascii() and value.isprintable()):
                raise NeverSent(f'the header "{quoted(name)}" holds what no header may hold')
            lines.append(f"{name}: {value}\r\n")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}\r\n")
        lines.append("\r\n")
        return self._start(method, fresh=fresh) + "".join(lines).encode("ascii") + (body or b"")

    def _start(self, method: str, *, fresh: bool) -> bytes:
        """Give the lines that are the same in every request."""
        start = self._starts.get((method, fresh))
        if start is not None:
            return start
        if not _is_token(method):
            raise NeverSent(f'"{quoted(method)}" is no HTTP method')
        lines = [f"{method} {self._read_target().first_line}"]
        for name, value in self._headers.items():
            if not _is_token(name) or name.lower() in _FRAMING or not value.isprintable():
                raise NeverSent(f'the configured header "{quoted(name)}" cannot be sent')
            lines.append(f"{name}: {value}\r\n")
        if fresh:
            lines.append("Connection: close\r\n")
        start = self._starts[method, fresh] = "".join(lines).encode()
        return start

    def _read_target(self) -> _Target:
        if self._target is None:
            try:
                self._target = _target(self._url)
            except ValueError as error:
                raise NeverSent(f'"{quoted(self._url)}" is no address: {error}') from error
        return self._target


@lru_cache(maxsize=512)
def _is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None


def _target(text: str) -> _Target:
    url = URL(text)
    if url.scheme not in {"http", "https"} or not url.raw_host or not url.port or "@" in text:
        raise ValueError("write http:// or https://, a host, and a path")
    path, host = url.raw_path_qs, url.host_port_subcomponent
    return _Target(
        host=url.raw_host,
        port=url.port,
        secure=url.scheme == "https",
        first_line=f"{path} HTTP/1.1\r\nHost: {host}\r\n",
    )
