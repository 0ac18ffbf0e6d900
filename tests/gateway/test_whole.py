"""An answer in one piece, over real sockets, beside the same answer as aiohttp writes it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product

import pytest
from aiohttp import web

from approval.gateway.relay import plain
from approval.gateway.whole import HEADERS, SHORT, Whole

LENGTHS = (0, 1, 200, SHORT, SHORT + 1)
OURS, THEIRS = "/ours", "/theirs"


def body(length: int) -> bytes:
    return (b"0123456789" * (length // 10 + 1))[:length]


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    """Answer as the path says: how long, and in whose way."""
    await request.read()
    way, length = request.path.rsplit("/", 1)
    whole = body(int(length))
    return plain(whole) if way == OURS else web.Response(body=whole, headers=HEADERS)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A real server, and one connection to it."""
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    reader, writer = await asyncio.open_connection(host, port)
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()
        await runner.cleanup()


def request(way: str, length: int, *, version: str = "1.1", more: str = "") -> bytes:
    return (
        f"POST {way}/{length} HTTP/{version}\r\nHost: x\r\n{more}Content-Length: 2\r\n\r\n{{}}"
    ).encode()


async def read(reader: asyncio.StreamReader, length: int) -> tuple[list[bytes], bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    return sorted(head.removesuffix(b"\r\n\r\n").split(b"\r\n")), await reader.readexactly(length)


def undated(lines: list[bytes]) -> list[bytes]:
    """Leave out the time, after a look whether it is one."""
    dates = [line for line in lines if line.startswith(b"Date: ")]
    assert len(dates) == 1
    assert re.fullmatch(rb"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", dates[0])
    return [line for line in lines if line not in dates]


@pytest.mark.parametrize("length", LENGTHS)
async def test_both_ways_give_the_same_answer(length: int) -> None:
    async with serving() as (reader, writer):
        found = []
        for way in (OURS, THEIRS, OURS):
            writer.write(request(way, length))
            lines, whole = await read(reader, length)
            assert whole == body(length)
            found.append(undated(lines))
        assert found[0] == found[1] == found[2]
        assert f"Content-Length: {length}".encode() in found[0]
        assert {line.split(b":")[0].decode() for line in found[0]} >= HEADERS.keys()


@pytest.mark.parametrize(
    ("version", "more"),
    [("1.0", ""), ("1.0", "Connection: keep-alive\r\n"), ("1.1", "Connection: close\r\n")],
)
async def test_a_connection_that_ends_is_told_so_and_ends(version: str, more: str) -> None:
    found = []
    for way in (OURS, THEIRS):
        async with serving() as (reader, writer):
            writer.write(request(way, 5, version=version, more=more))
            lines, whole = await read(reader, 5)
            assert whole == body(5)
            kept = "keep-alive" in more
            found.append((undated(lines), kept or await reader.read() == b""))
    assert found[0] == found[1]
    assert found[0][1]


async def test_requests_that_come_together_are_answered_in_order() -> None:
    asked = [*product((OURS, THEIRS), (3, 0, SHORT + 1, 7)), (OURS, 1)]
    async with serving() as (reader, writer):
        writer.write(b"".join(request(way, length) for way, length in asked))
        for _, length in asked:
            assert (await read(reader, length))[1] == body(length)


async def test_an_agent_that_does_not_read_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each further answer would lie in memory until the agent reads, or for ever."""
    waited, prepare = list[bool](), Whole.prepare

    async def spied(self: Whole, request: web.BaseRequest) -> object:
        transport = request.transport
        waited.append(transport is not None and transport.get_write_buffer_size() > 0)
        return await prepare(self, request)

    monkeypatch.setattr(Whole, "prepare", spied)
    many = 400
    async with serving() as (reader, writer):
        writer.write(request(OURS, SHORT) * many)
        await asyncio.sleep(0.5)
        begun = len(waited)
        assert begun < many  # it has not been asked for all of them: the server waits
        assert waited[-1]
        for _ in range(many):
            assert (await read(reader, SHORT))[1] == body(SHORT)
        assert len(waited) == many


async def test_an_agent_that_has_gone_disturbs_nobody() -> None:
    async with serving() as (reader, writer):
        writer.write(request(OURS, 10))
        await read(reader, 10)
        writer.write(request(OURS, 10))
        writer.transport.abort()
        await asyncio.sleep(0.1)


async def test_head_answers_keep_their_bodies() -> None:
    async with serving() as (reader, writer):
        writer.write(f"HEAD {OURS}/5 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        lines, _ = await read(reader, 0)
        assert b"Content-Length: 5" in lines
        writer.write(request(OURS, 3))
        assert (await read(reader, 3))[1] == body(3)
