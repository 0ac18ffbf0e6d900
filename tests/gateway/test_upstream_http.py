"""Towards an upstream over HTTP: whose credentials go, what comes back, and on which connection."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from approval.core.canonical import JSON
from approval.errors import AnswerLost, NeverSent
from approval.gateway import protocol
from approval.gateway.settings import UpstreamSettings
from approval.gateway.upstream import MAX_ANSWER, Sent
from approval.gateway.upstream_http import HttpUpstream
from tests.factories import AGENT_TOKEN, ALLOW_EVERYTHING
from tests.fakes.http_upstream import Misbehaviour, closed_port, http_upstream
from tests.gateway.scripted import answer, nothing_special, scripted, stream
from tests.gateway.wire import ERAS, LEGACY, MODERN, RawAgent, serve

PING = Sent(message=protocol.message({"jsonrpc": "2.0", "id": 1, "method": "ping"}))

HANDSHAKE: JSON = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {}}
HELLO = Sent(
    message=protocol.message(
        {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HANDSHAKE}
    )
)


@pytest.mark.parametrize("era", ERAS)
async def test_the_upstream_gets_its_own_credentials_and_nothing_of_the_agents(
    era: str, tmp_path: Path
) -> None:
    async with scripted(nothing_special) as upstream:
        secret = {"Authorization": SecretStr("Bearer upstream-secret")}
        shop = UpstreamSettings(url=upstream.url, headers=secret)
        async with serve(tmp_path, shop, ALLOW_EVERYTHING) as wire:
            agent = await RawAgent.connected(wire, era)
            more = {"Cookie": "a=b", "Forwarded": "for=1", "Mcp-Param-Region": "eu", "X-Any": "1"}
            async with agent.opened(agent.call_message("echo"), **more) as response:
                assert response.status == 200
                assert b"upstream-secret" not in await response.read()
        _, headers, _ = upstream.requests[-1]
        assert headers.keys() <= {
            *("Host", "Accept", "Accept-Encoding", "Authorization", "Content-Length"),
            *("Content-Type", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Session-Id"),
            *("User-Agent", "Mcp-Param-Region"),
        }
        assert headers["Authorization"] == "Bearer upstream-secret"
        assert AGENT_TOKEN not in str(upstream.requests)
        assert headers["Accept-Encoding"] == "identity"
        assert headers.get("Mcp-Param-Region") == ("eu" if era == MODERN else None)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_quarrel_about_the_gateways_credentials_is_the_operators(
    status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "tools/call":
            return None
        challenge = {"WWW-Authenticate": "Bearer resource_metadata=x", "Set-Cookie": "a=b"}
        return web.Response(status=status, headers=challenge)

    async with (
        scripted(handler) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url)) as wire,
        asyncio.TaskGroup() as tasks,
    ):
        agent = RawAgent(wire, MODERN)
        refused = await agent.call("echo")
        assert refused.status == 502
        assert "the gateway's own credentials" in refused.error["message"]
        assert not {"WWW-Authenticate", "Set-Cookie"} & refused.headers.keys()
        asking = tasks.create_task(agent.call("effect"))
        await wire.approve()
        assert (await asking).told["state"] == "failed"
    assert caplog.text.count("an upstream refuses its credentials") == 2


async def test_cookies_are_neither_kept_nor_handed_on(tmp_path: Path) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        return answer(message, {}, Set_Cookie="a=b", X_Any="1", Server="x")

    async with (
        scripted(handler) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url), ALLOW_EVERYTHING) as wire,
    ):
        agent = RawAgent(wire, MODERN)
        for _ in range(2):
            answered = await agent.ask("tools/list")
            assert not {"Set-Cookie", "X-Any"} & answered.headers.keys()
        assert "Cookie" not in upstream.requests[-1][1]


async def test_allowed_calls_share_connections_and_gated_ones_have_their_own(
    tmp_path: Path,
) -> None:
    async with (
        scripted(nothing_special) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url)) as wire,
        asyncio.TaskGroup() as tasks,
    ):
        agent = RawAgent(wire, MODERN)
        for _ in range(3):
            await agent.call("echo")
        for number in range(2):
            asking = tasks.create_task(agent.call("effect", {"n": number}))
            await wire.approve()
            await asking
        *allowed, first, second = upstream.peers
        assert len(set(allowed)) == 1
        assert len({allowed[0], first, second}) == 3


async def test_an_answer_may_be_so_long_and_no_longer() -> None:
    sizes = iter([MAX_ANSWER - 1, MAX_ANSWER + 1])

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b"x" * next(sizes))
        return response

    async with (
        scripted(handler) as upstream,
        HttpUpstream("shop", UpstreamSettings(url=upstream.url)) as far,
    ):
        assert len((await far.begin().post(PING)).body) == MAX_ANSWER - 1
        with pytest.raises(AnswerLost, match=f"longer than {MAX_ANSWER} bytes"):
            await far.begin().post(PING)


async def test_what_never_left_is_told_from_what_was_lost() -> None:
    with closed_port() as url:
        async with HttpUpstream("shop", UpstreamSettings(url=url)) as far:
            with pytest.raises(NeverSent, match='"shop" cannot be reached'):
                await far.begin().post(PING)
    for misbehaviour in (Misbehaviour.CLOSE_ON_ACCEPT, Misbehaviour.CLOSE_AFTER_BODY):
        async with (
            http_upstream(misbehaviour, on="ping") as upstream,
            HttpUpstream("shop", UpstreamSettings(url=upstream.url)) as far,
        ):
            with pytest.raises(AnswerLost, match="broke before its answer was whole"):
                await far.begin().post(PING)


async def test_a_session_that_the_upstream_does_not_know_any_more_is_over() -> None:
    known = True

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        return None if known else web.Response(status=404)

    async with (
        scripted(handler) as upstream,
        HttpUpstream("shop", UpstreamSettings(url=upstream.url)) as far,
    ):
        conversation = far.begin()
        await conversation.post(HELLO)
        assert (conversation.established, conversation.over) == (True, False)
        await conversation.post(PING)
        known = False
        assert (await conversation.post(PING)).status == 404
        assert conversation.over
        count = len(upstream.requests)
        assert await conversation.end() == 200
        assert len(upstream.requests) == count


@pytest.mark.parametrize(("given", "said"), [(405, 405), (204, 204), (500, 200)])
async def test_how_an_upstream_ends_a_session_is_told(given: int, said: int) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        return web.Response(status=given) if request.method == "DELETE" else None

    async with (
        scripted(handler) as upstream,
        HttpUpstream("shop", UpstreamSettings(url=upstream.url)) as far,
    ):
        conversation = far.begin()
        assert await conversation.end() == 200
        await conversation.post(HELLO)
        assert await conversation.end() == said


async def test_an_upstream_that_is_gone_ends_no_session_and_hurts_nobody() -> None:
    async with scripted(nothing_special) as upstream:
        far = HttpUpstream("shop", UpstreamSettings(url=upstream.url))
        await far.__aenter__()
        conversation = far.begin()
        await conversation.post(HELLO)
    assert await conversation.end() == 200
    await far.__aexit__()


async def test_a_stream_that_breaks_off_is_lost() -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        response = await stream(request, b"data: {}\n\n")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with (
        scripted(handler) as upstream,
        HttpUpstream("shop", UpstreamSettings(url=upstream.url)) as far,
        await far.begin().post(PING) as reply,
    ):
        assert reply.chunks is not None
        with pytest.raises(AnswerLost, match="broke before"):
            _ = [chunk async for chunk in reply.chunks]
