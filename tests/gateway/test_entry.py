"""What a request must pass before it is read: over a real socket, so that nothing is made nicer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from approval.gateway.settings import GatewaySettings, UpstreamSettings
from tests.factories import AGENT_TOKEN, ALLOW_EVERYTHING, ANN_TOKEN
from tests.gateway.scripted import Scripted, nothing_special, scripted
from tests.gateway.wire import Wire, serve, settings

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
GOOD = {
    "Host": "127.0.0.1",
    "Authorization": f"Bearer {AGENT_TOKEN}",
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
}


@asynccontextmanager
async def entering(
    folder: Path, gateway_settings: GatewaySettings
) -> AsyncIterator[tuple[Wire, Scripted]]:
    async with (
        scripted(nothing_special) as upstream,
        serve(
            folder,
            UpstreamSettings(url=upstream.url),
            ALLOW_EVERYTHING,
            gateway_settings=gateway_settings,
        ) as wire,
    ):
        yield wire, upstream


async def send(
    wire: Wire,
    headers: list[tuple[str, str]],
    body: bytes = PING,
    *,
    line: str = "POST /mcp/shop",
) -> tuple[int, dict[str, str], bytes]:
    """Send exactly these headers, and read the whole answer."""
    given = [*headers, ("Content-Length", str(len(body))), ("Connection", "close")]
    head = f"{line} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in given)
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(head.encode("latin-1") + b"\r\n" + body)
    answered = await reader.read()
    writer.close()
    await writer.wait_closed()
    start, _, rest = answered.partition(b"\r\n\r\n")
    first, *lines = start.decode().split("\r\n")
    return int(first.split()[1]), dict(each.split(": ", 1) for each in lines), rest


def changed(**headers: str | None) -> list[tuple[str, str]]:
    given: dict[str, Any] = GOOD | {key.replace("_", "-"): headers[key] for key in headers}
    return [(key, value) for key, value in given.items() if value is not None]


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        (changed(Host="evil.example"), 421, b"allowed_hosts"),
        (changed(Host="evil.example:80"), 421, b"allowed_hosts"),
        (changed(Host="127.0.0.1.evil.example"), 421, b"allowed_hosts"),
        (changed(Host="gateway.example:81"), 421, b"allowed_hosts"),
        (changed(Host="localhost:evil"), 421, b"allowed_hosts"),
        (changed(Origin="http://evil.example"), 403, b"allowed_origins"),
        (changed(Origin="null"), 403, b"allowed_origins"),
        (changed(Origin="http://localhost@evil.example"), 403, b"allowed_origins"),
        (changed(Origin="chrome-extension://localhost"), 403, b"allowed_origins"),
        (changed(Authorization=None), 401, b"an agent's token is needed"),
        (changed(Authorization=f"Basic {AGENT_TOKEN}"), 401, b"an agent's token is needed"),
        (changed(Authorization=f"Bearer {AGENT_TOKEN}, x"), 401, b"an agent's token is needed"),
        (changed(Authorization="Bearer guess"), 401, b"no agent's"),
        (changed(Authorization=f"Bearer {ANN_TOKEN}"), 401, b"no agent's"),
        ([*changed(), ("Authorization", GOOD["Authorization"])], 400, b"repeated"),
        ([*changed(), ("Host", "localhost")], 400, b""),
        ([*changed(), ("X_Forwarded_For", "1")], 400, b"underscore"),
        (changed(Content_Type="text/plain"), 415, b"application/json"),
        (changed(Content_Encoding="gzip"), 415, b"compressed"),
        (changed(Accept="application/json"), 406, b"text/event-stream"),
        (changed(Mcp_Session_Id="guess"), 404, b"no such session"),
    ],
)
async def test_a_request_that_must_not_enter_is_refused_and_told_why(
    headers: list[tuple[str, str]], status: int, said: bytes, tmp_path: Path
) -> None:
    strict = settings(allowed_hosts=("127.0.0.1", "localhost", "gateway.example:80"))
    async with entering(tmp_path, strict) as (wire, upstream):
        answered, _, body = await send(wire, headers)
        assert answered == status
        assert said in body
        assert upstream.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        changed(),
        changed(Host="LOCALHOST:1234"),
        changed(Host="[::1]:80"),
        changed(Host="gateway.example:80"),
        changed(Origin="http://localhost:6274"),
        changed(Origin="https://Inspector.example"),
        changed(Authorization=f"bEaReR  {AGENT_TOKEN}"),
        changed(Content_Type="Application/JSON; charset=utf-8"),
        changed(Accept="*/*"),
    ],
)
async def test_a_request_that_may_enter_enters(
    headers: list[tuple[str, str]], tmp_path: Path
) -> None:
    strict = settings(
        allowed_hosts=("127.0.0.1", "localhost", "[::1]", "gateway.example:80"),
        allowed_origins=("https://inspector.example",),
    )
    async with entering(tmp_path, strict) as (wire, upstream):
        assert (await send(wire, headers))[0] == 200
        assert len(upstream.messages("ping")) == 1


async def test_a_refusal_brings_the_header_that_belongs_to_it(tmp_path: Path) -> None:
    async with entering(tmp_path, settings()) as (wire, _):
        _, headers, _ = await send(wire, changed(Authorization=None))
        assert headers["WWW-Authenticate"] == "Bearer"
        for method in ("PUT", "OPTIONS", "HEAD", "PATCH"):
            status, headers, _ = await send(wire, changed(), line=f"{method} /mcp/shop")
            assert (status, headers["Allow"]) == (405, "POST, GET, DELETE")


async def test_a_token_in_the_address_is_no_token(tmp_path: Path) -> None:
    async with entering(tmp_path, settings()) as (wire, _):
        line = f"POST /mcp/shop?access_token={AGENT_TOKEN}"
        assert (await send(wire, changed(Authorization=None), line=line))[0] == 401


async def test_an_upstream_of_others_is_not_told_from_none(tmp_path: Path) -> None:
    async with scripted(nothing_special) as upstream:
        shop = UpstreamSettings(url=upstream.url)
        async with serve(tmp_path, {"shop": shop, "secret": shop}, ALLOW_EVERYTHING) as wire:
            hidden = await send(wire, changed(), line="POST /mcp/secret")
            absent = await send(wire, changed(), line="POST /mcp/absent")
            assert (hidden[0], hidden[2]) == (absent[0], absent[2])
            assert hidden[0] == 404
            assert upstream.requests == []


async def test_a_body_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    async with entering(tmp_path, settings(max_body=100)) as (wire, upstream):
        assert (await send(wire, changed(), b" " * 101))[0] == 413
        assert (await send(wire, changed(), PING.ljust(100)))[0] == 200
        # Without a length said, the limit holds as well.
        chunked = [*changed(), ("Transfer-Encoding", "chunked"), ("Connection", "close")]
        head = "POST /mcp/shop HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in chunked)
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(head.encode() + b"\r\n40\r\n" + b" " * 64 + b"\r\n")
        await writer.drain()
        writer.write(b"40\r\n" + b" " * 64 + b"\r\n")
        assert b" 413 " in await reader.readline()
        writer.close()
        assert len(upstream.requests) == 1


async def test_a_body_that_comes_too_slowly_is_refused(tmp_path: Path) -> None:
    hasty = settings(body_timeout=timedelta(milliseconds=50))
    async with entering(tmp_path, hasty) as (wire, upstream):
        head = "POST /mcp/shop HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in changed())
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(head.encode() + b"Content-Length: 50\r\n\r\n{")
        assert b" 408 " in await reader.readline()
        writer.close()
        assert upstream.requests == []
