"""A credential on the wire leaves no trace: in no log, no answer, no trail and no file."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from approval.app.connections import maker
from approval.app.running import Running, running
from tests.config.files import VALID, read

CANARY = b"CANARY-token-0123456789"
BEARER = b"Authorization: Bearer " + CANARY
FREE = '[server]\nlisten = "127.0.0.1:0"\n'
FORM = (
    b"POST /login HTTP/1.1\r\nHost: HOST\r\nOrigin: http://HOST\r\nSec-Fetch-Site: same-origin\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n"
)
GET = b"GET /v1/calls HTTP/1.1\r\nHost: HOST\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

UNREAD = {
    "a control character": GET + BEARER + b"\x01\r\n\r\n",
    "a space before the colon": GET + b"Authorization : Bearer " + CANARY + b"\r\n\r\n",
    "a token that is too long": GET + BEARER + b"x" * 8190 + b"\r\n\r\n",
    "a line that is too long": b"GET /login?token=" + CANARY + b"x" * 8190 + b" HTTP/1.1\r\n\r\n",
    "another protocol": b"GET /login?token=" + CANARY + b" HTTP/9.9\r\n\r\n",
    "no method": b"{" + CANARY + b" / HTTP/1.1\r\n\r\n",
    "no address": b"GET http://[" + CANARY + b"/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "no length": GET + b"Content-Length: " + CANARY + b"\r\n\r\n",
    "no chunk": FORM + CHUNKED + CANARY + b"\r\n\r\n",
    "an agent's broken chunk": b"POST /mcp/shop HTTP/1.1\r\nHost: HOST\r\n"
    + (BEARER + b"\r\n" + CHUNKED + b"3\r\nabc" + CANARY + b"\r\n0\r\n\r\n"),
    "a second request": b"GET /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n"
    + GET
    + BEARER
    + b"\x01\r\n\r\n",
}
REFUSED = {
    "nobody's token": (401, GET + BEARER + b"\r\n\r\n"),
    "nobody's token, twice": (401, GET + BEARER + b"\r\n" + BEARER + b"\r\n\r\n"),
    "no scheme": (401, GET + b"Authorization: " + CANARY + b"\r\n\r\n"),
    "nobody's session": (401, GET + b"Cookie: approval_session=" + CANARY + b"\r\n\r\n"),
    "an agent that is none": (
        401,
        b"POST /mcp/shop HTTP/1.1\r\nHost: HOST\r\n" + BEARER + b"\r\nContent-Length: 2\r\n\r\n{}",
    ),
    "no login": (403, FORM + b"Content-Length: 29\r\n\r\ntoken=" + CANARY),
    "no path": (404, b"GET /" + CANARY + b" HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    "another host": (421, b"GET / HTTP/1.1\r\nHost: " + CANARY + b"\r\n\r\n"),
}


@pytest_asyncio.fixture
async def service(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[tuple[Running, Path]]:
    caplog.set_level(logging.DEBUG, "approval")
    async with running(read(tmp_path, FREE + VALID)) as begun:
        yield begun, tmp_path


async def ask(service: Running, raw: bytes) -> bytes:
    """Send exactly these bytes, and read what comes back until the line is quiet."""
    name = service.url.removeprefix("http://")
    host, port = name.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(raw.replace(b"HOST", name.encode()))
    answer = b""
    try:
        async with asyncio.timeout(5):
            while b"\r\n\r\n" not in answer or raw.startswith(b"GET /healthz"):
                if not (more := await reader.read(65536)):
                    break
                answer += more
    finally:
        writer.close()
    return answer


async def traces(running_service: tuple[Running, Path], log: str) -> list[str]:
    """Name every place where the token stands now."""
    begun, folder = running_service
    trail = b"".join(entry.body for entry in await begun.store.trail())
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    places = {"log": log.encode(), "trail": trail, **files}
    return [name for name, held in places.items() if CANARY in held]


@pytest.mark.parametrize("raw", UNREAD.values(), ids=UNREAD.keys())
async def test_what_is_no_request_is_refused_without_a_trace(
    service: tuple[Running, Path], caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    answer = await ask(service[0], raw)
    refusal = answer[answer.rfind(b"HTTP/1.") :]
    assert refusal.split(b" ")[1] == b"400"
    assert refusal.count(b"\r\nServer: approval\r\n") == refusal.count(b"\r\nServer: ") == 1
    assert refusal.endswith(b"This is no HTTP request.\n")
    assert CANARY not in answer
    assert await traces(service, caplog.text) == []
    # A stranger writes nothing into the log, however often.
    assert [each.message for each in caplog.records if each.levelno > logging.DEBUG] == []


@pytest.mark.parametrize(("status", "raw"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_refusal_leaves_no_trace_either(
    service: tuple[Running, Path], caplog: pytest.LogCaptureFixture, status: int, raw: bytes
) -> None:
    answer = await ask(service[0], raw)
    assert answer.split(b" ")[1] == str(status).encode()
    assert b"\r\nServer: approval\r\n" in answer
    assert CANARY not in answer
    assert await traces(service, caplog.text) == []


async def test_a_fault_of_ours_is_still_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def faulty(request: web.BaseRequest) -> web.StreamResponse:
        raise RuntimeError("a fault")

    server = web.Server(faulty)
    handler = maker(server)()
    loop = asyncio.get_running_loop()
    accepting = await loop.create_server(lambda: handler, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*accepting.sockets[0].getsockname())
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await reader.read()
    writer.close()
    accepting.close()
    await server.shutdown(0.1)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"\r\nServer: approval\r\n" in answer
    assert b"a fault" not in answer
    assert "a fault" in caplog.text
