"""One connection to an upstream: a request written in one piece, and its answer, read strictly.

llhttp finds the parts of an answer. What it leaves to its user is decided here: an answer that two
readers could frame differently is none, and bytes nobody asked for end the connection, so that one
request's answer is never taken for that of another.
"""

import asyncio
import select
from collections.abc import AsyncIterator
from typing import Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from multidict import CIMultiDict
from typing_extensions import override

from approval.core.canonical import quoted
from approval.errors import AnswerLost, NeverSent

MAX_HEAD = 64 * 1024
"""The most bytes of an answer's headers, its interim answers' and trailers included."""

MAX_UNREAD = 256 * 1024
"""How many bytes of a body may wait for their reader before the upstream has to wait."""

MAX_INTERIM = 16
_BODILESS = frozenset({204, 304})
_FIRST_BYTE = b"H"


class Owner(Protocol):
    """Whoever keeps the connections of one origin."""

    def keep(self, connection: "Connection") -> None:
        """Take one whose answer is whole, and which can carry another request."""
        ...

    def forget(self, connection: "Connection") -> None:
        """Know that one is no more."""
        ...


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time; `once` lets it carry no second."""

    def __init__(self, owner: Owner, *, once: bool) -> None:
        self._owner = owner
        self._once = once
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._kernel = select.poll()
        self._response: Response | None = None
        self._parser = HttpResponseParser(self)
        self._headers: CIMultiDict[str] = CIMultiDict()
        self._method = ""
        self._spoiled = False
        self._paused = False
        self._until_end = False
        self._ended = False
        self._interim = 0
        self._head_bytes = 0
        self._bytes_since_body = 0

    def opened(self, transport: asyncio.Transport) -> None:
        """Take the transport. Its type is known to who made it; `connection_made` is told less."""
        self._transport = transport
        self._kernel.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def is_usable(self) -> bool:
        """Say whether it can carry a request, as far as the event loop knows."""
        closing = self._transport is None or self._transport.is_closing()
        return not (self._spoiled or closing)

    def is_quiet(self) -> bool:
        """Say whether nothing has come that nobody asked for, its end included.

        The kernel is asked, because it knows before the event loop does.
        """
        return self.is_usable() and not self._kernel.poll(0)

    async def ask(self, method: str, request: bytes) -> "Response":
        """Write a request and wait for the head of its answer.

        Raises:
            NeverSent: If the connection was gone before.
            AnswerLost: If it was not, and no answer came.
        """
        transport = self._transport
        if transport is None or not self.is_usable():
            raise NeverSent("the connection was closed before anything could be sent")
        self._method = method
        self._interim = self._head_bytes = self._bytes_since_body = 0
        self._response = response = Response(self, self._loop)
        transport.write(request)
        await response.begun()
        return response

    def drop(self) -> None:
        """End the connection at once: nothing more is read from it, nothing more is sent."""
        self._spoiled = True
        if self._transport is not None:
            self._transport.abort()

    def lose(self, why: str) -> None:
        """Give up the answer that is under way, and the connection with it."""
        response, self._response = self._response, None
        self.drop()
        if response is not None:
            response.fail(why)

    def pause(self, *, paused: bool) -> None:
        """Let the upstream wait until its reader has caught up, or go on."""
        if paused is self._paused or self._transport is None or self._transport.is_closing():
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    @override
    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            self.drop()
            return
        try:
            self._feed(response, data)
        except (HttpParserError, HttpParserUpgrade) as error:
            # After a whole answer it is about bytes that came too many: they end the connection.
            self._spoiled = True
            if not self._ended:
                self.lose(str(error.__context__ or error))
        if self._ended:
            self._part(response)
        response.wake()

    @override
    def eof_received(self) -> None:
        self._spoiled = True
        if self._until_end and self._response is not None and self._response.status:
            self._ended = True
            self._part(self._response)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._spoiled = True
        self.lose("the connection ended" if exc is None else type(exc).__name__)
        self._owner.forget(self)

    def on_message_begin(self) -> None:
        if self._ended:
            raise _Misread("bytes after the whole answer")
        self._headers = CIMultiDict()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + len(": \r\n")
        if self._head_bytes > MAX_HEAD:
            raise _Misread(f"its headers exceed {MAX_HEAD} bytes")
        if self._response is not None and not self._response.status:  # else it is a trailer
            self._headers.add(name.decode("ascii"), value.decode("latin-1").strip(" \t"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise _Misread(f"more than {MAX_INTERIM} interim answers")
        elif self._response is not None:
            framed = _check(status, self._parser.get_http_version(), self._headers)
            self._until_end = not framed and status not in _BODILESS
            self._spoiled = self._spoiled or not self._parser.should_keep_alive()
            self._response.begin(status, self._headers)
            if self._method == "HEAD":
                self._ended = True
                raise _Misread("the parser would wait for the body that a HEAD does not get")

    def on_body(self, body: bytes) -> None:
        self._bytes_since_body = 0
        if self._response is not None:
            self._response.add(body)

    def on_message_complete(self) -> None:
        self._ended = self._response is not None and self._response.status > 0

    def _feed(self, response: "Response", data: bytes) -> None:
        if not response.status and not self._bytes_since_body and not data.startswith(_FIRST_BYTE):
            # llhttp would skip empty lines here, and speak RTSP as well.
            self.lose("it is no HTTP")
            return
        self._bytes_since_body += len(data)
        self._parser.feed_data(data)
        if self._bytes_since_body > MAX_HEAD and not self._ended:
            self.lose(f"more than {MAX_HEAD} bytes of headers, or around its body")
        elif response.unread > MAX_UNREAD and not self._ended:
            self.pause(paused=True)

    def _part(self, response: "Response") -> None:
        """Part with a whole answer; the connection is free for another request, or ends."""
        self._response = None
        self._ended = self._until_end = False
        response.end()
        self.pause(paused=False)
        waits = self._transport is not None and self._transport.get_write_buffer_size() > 0
        if self._once or waits or not self.is_usable():
            self.drop()
        else:
            self._owner.keep(self)


class Response:
    """An upstream's answer: its head, and its body as it comes.

    Read it to its end or close it; its connection is nobody else's until then.
    """

    __slots__ = (
        *("_connection", "_ended", "_loop", "_lost", "_parts", "_waiter"),
        *("headers", "status", "unread"),
    )

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._parts: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._lost = ""
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.unread = 0

    async def read(self, limit: int) -> bytes:
        """Read the whole body.

        Raises:
            AnswerLost: If it breaks off, or is longer than `limit` bytes.
        """
        parts, size = [], 0
        while part := await self._next():
            parts.append(part)
            size += len(part)
            if size > limit:
                self.close()
                raise AnswerLost(f"the answer is longer than {limit} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read the body piece by piece, as it comes; raises `AnswerLost` if it breaks off."""
        while part := await self._next():
            yield part

    def close(self) -> None:
        """Be done with the answer. One that was not read to its end takes its connection along."""
        if not self._ended and not self._lost:
            self._connection.lose("it was closed before its end")

    async def begun(self) -> None:
        """Wait for the head."""
        while not self.status:
            if self._lost:
                raise self._error()
            await self._wait()

    def begin(self, status: int, headers: CIMultiDict[str]) -> None:
        self.status = status
        self.headers = headers

    def add(self, part: bytes) -> None:
        self._parts.append(part)
        self.unread += len(part)

    def end(self) -> None:
        self._ended = True
        self.wake()

    def fail(self, why: str) -> None:
        self._lost = why
        self.wake()

    def wake(self) -> None:
        """Let the reader look again, once there is a head to look at or no hope of one."""
        waiter = self._waiter
        if waiter is not None and not waiter.done() and (self.status or self._lost):
            waiter.set_result(None)

    async def _next(self) -> bytes:
        """Wait for the next bytes of the body; none mean its end."""
        while not self._parts:
            if self._ended:
                return b""
            if self._lost:
                raise self._error()
            await self._wait()
        part = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self.unread = 0
        if not self._ended:
            self._connection.pause(paused=False)
        return part

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            # Its bytes may still come; on this connection they would be somebody else's answer.
            self.close()
            raise
        finally:
            self._waiter = None

    def _error(self) -> AnswerLost:
        return AnswerLost(f"no whole answer came: {self._lost}")


class _Misread(Exception):
    """Stops the parser."""


def _check(status: int, version: str, headers: CIMultiDict[str]) -> bool:
    """Check a head that llhttp let pass, and say whether it tells where the body ends.

    Raises:
        _Misread: If it leaves two readings, or a body that we do not read.
    """
    if not 200 <= status < 600:
        raise _Misread(f"{status} is the status of no answer")
    codings = headers.getall("Transfer-Encoding", ())
    if version not in {"1.0", "1.1"} or (codings and version == "1.0"):
        raise _Misread(f"HTTP {version} and its headers do not go together")
    if codings and (len(codings) > 1 or codings[0].lower() != "chunked"):
        raise _Misread(f'the transfer coding "{quoted(codings[0])}" has two readings')
    for coding in headers.getall("Content-Encoding", ()):
        if coding.lower() != "identity":
            raise _Misread(f'its body is coded as "{quoted(coding)}", which it was asked not to')
    return bool(codings) or "Content-Length" in headers
