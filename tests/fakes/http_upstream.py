"""HTTP upstreams that misbehave in one way each, on raw sockets, and witness what they were sent.

Methods other than the one they misbehave on are served like a plain server of either era would, so
that a client gets as far as the trap.
"""

import asyncio
import enum
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

MODERN = "2026-07-28"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
SESSION = "fake-session"
HUGE = 64 << 20
CHUNK = b"x" * (1 << 16)
STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: hello\n\n"
)
NOTICE = {
    "jsonrpc": "2.0",
    "method": "notifications/message",
    "params": {"level": "info", "data": "still here"},
}


class Misbehaviour(enum.StrEnum):
    NONE = "none"
    CLOSE_ON_ACCEPT = "close on accept"
    CLOSE_AFTER_BODY = "close after reading the body"
    ERROR_500_HTML = "500 with a page"
    SESSION_404 = "404: no such session"
    NEVER_ANSWER = "never answer"
    HALF_JSON = "half a JSON body"
    CUT_STREAM = "a stream that ends without the answer"
    ENDLESS_SSE = "a stream that never answers and never ends"
    REDIRECT = "307 to elsewhere"
    WRONG_ID = "an answer to another id"
    TWO_RESULTS = "two different answers to one id"
    HUGE_BODY = "an answer of 64 MiB"


KEEP_ALIVE = frozenset(
    {
        Misbehaviour.NONE,
        Misbehaviour.ERROR_500_HTML,
        Misbehaviour.SESSION_404,
        Misbehaviour.REDIRECT,
        Misbehaviour.WRONG_ID,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it came: header names and values untouched and in order."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass(kw_only=True)
class Upstream:
    """A running misbehaving upstream. `misbehaviour` may be changed while it runs."""

    port: int
    misbehaviour: Misbehaviour
    on: str
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request of the method it misbehaves on has been read whole."""
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    handlers: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def trapped(self) -> list[Received]:
        """The requests of the method it misbehaves on: how often a call really came here."""
        posts = [request for request in self.received if request.path == "/mcp" and request.body]
        return [request for request in posts if request.message.get("method") == self.on]


@contextmanager
def closed_port() -> Iterator[str]:
    """Give an address that refuses connections, and keep its port from others meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{holder.getsockname()[1]}/mcp"


@asynccontextmanager
async def http_upstream(
    misbehaviour: Misbehaviour = Misbehaviour.NONE, *, on: str = "tools/call"
) -> AsyncIterator[Upstream]:
    """Run an upstream that serves every method well but `on`."""
    upstream = Upstream(port=0, misbehaviour=misbehaviour, on=on)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        upstream.handlers[task] = writer
        upstream.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await converse(upstream, reader, writer)
        finally:
            # What is buffered still leaves; a peer that never reads it is cut off at the end.
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        upstream.ending.set()
        server.close()
        for writer in upstream.handlers.values():
            writer.transport.abort()
        if upstream.handlers:
            await asyncio.wait(upstream.handlers)
        await server.wait_closed()


async def converse(
    upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve one connection's requests until it ends or a trap closes it."""
    if upstream.misbehaviour is Misbehaviour.CLOSE_ON_ACCEPT:
        return
    while True:
        request = await receive(reader)
        upstream.received.append(request)
        if request not in upstream.trapped:
            writer.write(behave(request))
            await writer.drain()
            continue
        upstream.arrived.set()
        await misbehave(upstream, request, writer)
        if upstream.misbehaviour not in KEEP_ALIVE:
            return


async def receive(reader: asyncio.StreamReader) -> Received:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    headers = tuple((name, value.strip()) for name, _, value in pairs)
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    body = await reader.readexactly(length)
    return Received(method=method, path=path, headers=headers, body=body)


def behave(request: Received) -> bytes:
    """Answer as a plain server would."""
    if request.method == "GET":
        return response("405 Method Not Allowed", b"")
    if request.method == "DELETE":
        return response("200 OK", b"")
    message = request.message
    if "id" not in message or "method" not in message:
        return response("202 Accepted", b"")
    answer = {"jsonrpc": "2.0", "id": message["id"], **served(message)}
    session = f"Mcp-Session-Id: {SESSION}" if message["method"] == "initialize" else ""
    return response("200 OK", json.dumps(answer).encode(), session)


def served(message: dict[str, Any]) -> dict[str, Any]:
    params = message.get("params", {})
    modern = VERSION_KEY in params.get("_meta", {})
    late = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} if modern else {}
    facts = {"capabilities": {"tools": {}}, "serverInfo": {"name": "fake", "version": "1"}}
    match message["method"]:
        case "initialize":
            return {"result": {"protocolVersion": params["protocolVersion"], **facts}}
        case "server/discover":
            return {
                "result": {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, **late}
            }
        case "tools/list":
            tool = {"name": "effect", "inputSchema": {"type": "object"}}
            return {"result": {"tools": [tool], **late}}
        case "tools/call":
            return result("done")
        case "ping":
            return {"result": {}}
        case method:
            return {"error": {"code": -32601, "message": f"No method {method}"}}


def result(text: str) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    return {"result": {"content": content, "resultType": "complete"}}


def answer_to(identity: object, text: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": identity, **result(text)}).encode()


def response(status: str, body: bytes, extra: str = "", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    head += f"{extra}\r\n" if extra else ""
    return head.encode() + b"\r\n" + body


async def misbehave(upstream: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
    """Answer the call in the trap's manner."""
    identity = request.message.get("id")
    match upstream.misbehaviour:
        case Misbehaviour.NEVER_ANSWER:
            await upstream.ending.wait()
        case Misbehaviour.HUGE_BODY:
            await send_huge(writer, identity)
        case Misbehaviour.ENDLESS_SSE:
            await stream_for_ever(upstream, writer)
        case Misbehaviour.NONE:
            writer.write(behave(request))
        case other:
            writer.write(broken_answer(other, identity))
    await writer.drain()


def broken_answer(misbehaviour: Misbehaviour, identity: object) -> bytes:
    """Make the bytes of the traps that say it all at once."""
    whole = answer_to(identity, "done")
    both = (answer_to(identity, text) for text in ("first", "second"))
    page = b"<html><h1>Internal Server Error</h1></html>"
    answers = {
        Misbehaviour.CLOSE_AFTER_BODY: b"",
        Misbehaviour.ERROR_500_HTML: response("500 Sorry", page, kind="text/html"),
        Misbehaviour.SESSION_404: response("404 Not Found", b'{"error": "session not found"}'),
        Misbehaviour.HALF_JSON: response("200 OK", whole)[: -len(whole) // 2],
        Misbehaviour.CUT_STREAM: STREAM,
        Misbehaviour.REDIRECT: response("307 Temporary Redirect", b"", "Location: /elsewhere"),
        Misbehaviour.WRONG_ID: response("200 OK", answer_to("nobody asked", "done")),
        Misbehaviour.TWO_RESULTS: STREAM + b"".join(b"data: %b\n\n" % answer for answer in both),
    }
    return answers[misbehaviour]


async def stream_for_ever(upstream: Upstream, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM)
    while not upstream.ending.is_set():
        writer.write(b"data: " + json.dumps(NOTICE).encode() + b"\n\n: still here\n\n")
        await writer.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await upstream.ending.wait()


async def send_huge(writer: asyncio.StreamWriter, identity: object) -> None:
    head, tail = answer_to(identity, "|").split(b"|")
    size = len(head) + HUGE + len(tail)
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (size, head)
    )
    for _ in range(HUGE // len(CHUNK)):
        writer.write(CHUNK)
        await writer.drain()
    writer.write(tail)
