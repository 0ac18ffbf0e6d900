"""Connections that say nothing, or too little, lose their socket; nobody else does."""

import asyncio
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from approval.app.newcomers import Newcomers

SECONDS = 0.4
LONGER = 3 * SECONDS
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A server with its newcomers."""

    port: int
    newcomers: Newcomers

    async def connect(self, tls: ssl.SSLContext | None = None) -> Line:
        name = "localhost" if tls is not None else None
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=tls, server_hostname=name)


@asynccontextmanager
async def house(tls: ssl.SSLContext | None = None) -> AsyncIterator[House]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        newcomers.waiting.pop(request.protocol, None)
        if request.path == "/stream":
            response = web.StreamResponse()
            await response.prepare(request)
            await asyncio.sleep(LONGER)
            await response.write(b"at last")
            return response
        return web.Response(body=b"heard " + await request.read())

    server = web.Server(handle, access_log=None)
    newcomers = Newcomers(server, SECONDS)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        accepting = await newcomers.accept(bound, tls)
        try:
            async with asyncio.timeout(10):
                yield House(port=bound.getsockname()[1], newcomers=newcomers)
        finally:
            accepting.close()
            newcomers.close()
            await server.shutdown(0.1)


async def lasts(connecting: Awaitable[Line], *, drip: bytes = b"") -> float:
    """Wait until the other side closes, sending a byte now and then, and say how long it took."""
    begun = time.monotonic()
    reader, writer = await connecting
    async with asyncio.TaskGroup() as tasks:
        closed = tasks.create_task(_closed(reader))
        for byte in drip:
            writer.write(bytes([byte]))
            if closed in (await asyncio.wait([closed], timeout=0.05))[0]:
                break
    writer.close()
    return time.monotonic() - begun


async def _closed(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        assert await reader.read() == b""


DRIP = b"GET / HTTP/1.1\r\nX: " + b"x" * 100


@pytest.mark.parametrize("drip", [b"", b"G", DRIP], ids=["nothing", "a byte", "byte by byte"])
async def test_who_does_not_ask_in_time_is_cut_off(drip: bytes) -> None:
    async with house() as here:
        assert await lasts(here.connect(), drip=drip) >= SECONDS
        assert here.newcomers.waiting == {}


async def test_who_has_asked_may_take_its_time() -> None:
    async with house() as here:
        reader, writer = await here.connect()
        # The head is whole in time; the body is another matter.
        writer.write(POST + b"a")
        await asyncio.sleep(LONGER)
        writer.write(b"bc")
        assert b"heard abc" in await reader.readuntil(b"abc")
        # So is the pause until the next request.
        await asyncio.sleep(LONGER)
        writer.write(REQUEST)
        assert b"heard " in await reader.readuntil(b"heard ")
        writer.write(REQUEST.replace(b"/ ", b"/stream ", 1))
        assert b"at last" in await reader.readuntil(b"at last")
        writer.close()
        assert here.newcomers.waiting == {}


async def test_a_slow_head_that_is_whole_in_time_is_answered() -> None:
    async with house() as here:
        reader, writer = await here.connect()
        for byte in REQUEST:
            writer.write(bytes([byte]))
            await asyncio.sleep(SECONDS / 4 / len(REQUEST))
        assert b"heard " in await reader.readuntil(b"heard ")
        writer.close()


async def test_each_keeps_its_own_time_and_none_is_left() -> None:
    async with house() as here, asyncio.TaskGroup() as tasks:
        newcomers = here.newcomers
        assert (newcomers.waiting, newcomers._timer) == ({}, None)
        lines = []
        for _ in range(20):
            lines.append(tasks.create_task(lasts(here.connect())))
            await asyncio.sleep(SECONDS / 20)
        assert min([await line for line in lines]) >= SECONDS
        await asyncio.sleep(SECONDS)
        assert (newcomers.waiting, newcomers._timer) == ({}, None)


async def test_who_leaves_by_itself_is_forgotten() -> None:
    async with house() as here:
        for junk in (b"", b"\x00\x01\r\n\r\n"):
            _, writer = await here.connect()
            writer.write(junk)
            writer.close()
        await asyncio.sleep(LONGER)
        assert (here.newcomers.waiting, here.newcomers._timer) == ({}, None)


async def test_a_request_that_came_while_the_loop_was_away_is_heard() -> None:
    async with house() as here:
        reader, writer = await here.connect()
        await asyncio.sleep(SECONDS / 2)
        writer.write(REQUEST)
        time.sleep(LONGER)  # noqa: ASYNC251  # nothing else runs: the bytes wait in the socket
        assert b"heard " in await reader.readuntil(b"heard ")
        writer.close()


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make the two sides of an encrypted line."""
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
        " -addext subjectAltName=DNS:localhost -days 2 -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return ours, ssl.create_default_context(cafile=str(folder / "cert.pem"))


async def test_a_handshake_counts_as_well(tmp_path: Path) -> None:
    ours, theirs = await asyncio.to_thread(certificate, tmp_path)
    async with house(ours) as here:
        # Whoever never begins the handshake, and whoever says nothing after it.
        for line in (here.connect(), here.connect(theirs)):
            assert await lasts(line) >= SECONDS
        reader, writer = await here.connect(theirs)
        writer.write(REQUEST)
        assert b"heard " in await reader.readuntil(b"heard ")
        await asyncio.sleep(LONGER)
        writer.write(REQUEST)
        assert b"heard " in await reader.readuntil(b"heard ")
        writer.close()
        assert here.newcomers.waiting == {}
