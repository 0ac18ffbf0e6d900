"""A server that says exactly the bytes a test wants, and both event loops to meet it on."""

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import uvloop

DEADLINE_SECONDS = 20

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

LOOPS = (asyncio.new_event_loop, uvloop.new_event_loop)


def on_each_loop(story: Callable[[], Awaitable[None]]) -> Callable[..., None]:
    """Run a test on asyncio's own loop and on the one that serves in earnest; nothing may leak."""

    @pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
    def test(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(_in_time(story))
        gc.collect()  # what was left open complains now

    return test


async def _in_time(story: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        await story()


@dataclass(kw_only=True)
class Peer:
    """One connection as the server sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[bytes] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def request(self) -> bytes:
        """Wait for a whole request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        size = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length: "):
                size = int(line.partition(b": ")[2])
        self.requests.append(head + await self.reader.readexactly(size))
        return self.requests[-1]

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ended(self) -> bytes:
        """Wait for the client to end the connection, and give what it said before."""
        with suppress(ConnectionError):
            return await self.reader.read()
        return b""


Story = Callable[[Peer], Awaitable[None]]


@dataclass(kw_only=True)
class RawServer:
    """A running server and whoever came; `came` is set with the first."""

    url: str
    port: int
    peers: list[Peer] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def requests(self) -> list[bytes]:
        return [request for peer in self.peers for request in peer.requests]


def answering(*answers: bytes) -> Story:
    """Answer the requests of a connection in turn, then wait for its end."""

    async def story(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            peer.send(answer)
        await peer.ended()

    return story


async def always_ok(peer: Peer) -> None:
    while True:
        await peer.request()
        peer.send(OK)


@asynccontextmanager
async def serving(
    story: Story, *, tls: ssl.SSLContext | None = None, name: str = "127.0.0.1"
) -> AsyncIterator[RawServer]:
    """Serve every connection with the story; it is closed when the story is over."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader=reader, writer=writer)
        server.peers.append(peer)
        server.came.set()
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await story(peer)
        finally:
            writer.close()
            peer.gone.set()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    port: int = listener.sockets[0].getsockname()[1]
    scheme = "http" if tls is None else "https"
    server = RawServer(url=f"{scheme}://{name}:{port}/mcp", port=port)
    try:
        yield server
    finally:
        listener.close()
        for peer in server.peers:
            peer.writer.transport.abort()
            with suppress(ConnectionError, ssl.SSLError):
                await peer.writer.wait_closed()
