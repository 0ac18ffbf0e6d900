"""The endpoints: sessions, streams, methods and what passes between agent and upstream."""

import asyncio
import json
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from approval.errors import AnswerLost, NeverSent, NotFound
from approval.gateway.settings import UpstreamSettings
from tests.factories import ALLOW_EVERYTHING, OTHER_AGENT_TOKEN
from tests.fakes.launch import fixture_command, noisy_command, shop_command
from tests.gateway.raw_bodies import in_both_eras
from tests.gateway.scripted import answer, nothing_special, scripted, stream, text
from tests.gateway.wire import ERAS, LEGACY, MODERN, RawAgent, Stream, command, serve, settings


async def test_bodies_that_two_readers_read_differently_go_nowhere(tmp_path: Path) -> None:
    async with (
        scripted(nothing_special) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url), ALLOW_EVERYTHING) as wire,
    ):
        agent = RawAgent(wire, LEGACY)
        for name, body, _ in in_both_eras():
            sent = BytesIO(body)
            async with wire.http.post(wire.url(), data=sent, headers=agent.headers({})) as response:
                expected = 413 if "over 4 MiB" in name else 400
                assert (name, response.status) == (name, expected)
                assert (await response.json())["error"]["code"] in {-32700, -32600, -32602}
        assert upstream.requests == []
        assert await wire.trail() == []


async def test_a_header_that_disagrees_with_the_body_goes_nowhere(tmp_path: Path) -> None:
    async with (
        scripted(nothing_special) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url), ALLOW_EVERYTHING) as wire,
    ):
        agent = RawAgent(wire, MODERN)
        message = agent.call_message("echo")
        for headers in ({"Mcp-Name": "effect"}, {"Mcp-Method": "tools/list"}):
            async with agent.opened(message, **headers) as response:
                assert response.status == 400
                assert (await response.json())["error"]["code"] == -32020
        assert upstream.requests == []


async def test_an_agents_session_id_is_not_the_upstreams(tmp_path: Path) -> None:
    async with (
        scripted(nothing_special) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url), ALLOW_EVERYTHING) as wire,
    ):
        agent = await RawAgent.connected(wire, LEGACY)
        assert len(agent.session) >= 43
        await agent.call("echo")
        assert upstream.requests[-1][1]["Mcp-Session-Id"] == "theirs"
        foreign = RawAgent(wire, LEGACY, token=OTHER_AGENT_TOKEN)
        foreign.session = agent.session
        unknown = RawAgent(wire, LEGACY)
        unknown.session = "guess"
        theirs = RawAgent(wire, LEGACY)
        theirs.session = "theirs"
        count = len(upstream.requests)
        answers = [await each.call("echo") for each in (foreign, unknown, theirs)]
        assert [each.status for each in answers] == [404, 404, 404]
        assert len({each.body for each in answers}) == 1
        assert [await each.delete() for each in (foreign, unknown)] == [404, 404]
        assert len(upstream.requests) == count
        assert await agent.delete() == 200
        assert upstream.requests[-1][0] == "DELETE"
        assert (await agent.call("echo")).status == 404


async def test_an_upstream_without_sessions_stays_without(tmp_path: Path) -> None:
    async with (
        scripted(nothing_special, session="") as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url), ALLOW_EVERYTHING) as wire,
    ):
        agent = await RawAgent.connected(wire, LEGACY)
        assert agent.session == ""
        assert (await agent.call("echo")).text == "done"
        assert await agent.delete() == 400
        assert "Mcp-Session-Id" not in upstream.requests[-1][1]


@pytest.mark.parametrize("era", ERAS)
async def test_only_the_eras_methods_pass_and_those_the_operator_names(
    era: str, tmp_path: Path
) -> None:
    async with scripted(nothing_special) as upstream:
        shop = UpstreamSettings(url=upstream.url, methods=("acme/do", "notifications/acme"))
        async with serve(tmp_path, shop, ALLOW_EVERYTHING) as wire:
            agent = await RawAgent.connected(wire, era)
            refused = await agent.ask("tools/execute", {"name": "pay"})
            assert refused.status == (200 if era == LEGACY else 404)
            assert refused.error["code"] == -32601
            assert (await agent.ask("acme/do")).result == {}
            assert (await agent.notify("notifications/other")).status == 202
            assert (await agent.notify("notifications/acme")).status == 202
        methods = [message.get("method") for _, _, message in upstream.requests]
        assert "acme/do" in methods
        assert "notifications/acme" in methods
        assert not {"tools/execute", "notifications/other"} & set(methods)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_the_newer_era_has_no_sessions(method: str, tmp_path: Path) -> None:
    async with (
        scripted(nothing_special) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url), ALLOW_EVERYTHING) as wire,
    ):
        headers = RawAgent(wire, MODERN).headers({})
        async with wire.http.request(method, wire.url(), headers=headers) as response:
            assert response.status == 405
        assert upstream.requests == []


async def test_what_the_upstream_says_unasked_is_heard_on_the_stream(tmp_path: Path) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if request.method != "GET":
            return None
        assert request.headers["Mcp-Session-Id"] == "theirs"
        return await stream(request, b"id: 7\ndata: \n\n", {"jsonrpc": "2.0", "method": "x"})

    async with (
        scripted(handler) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url), ALLOW_EVERYTHING) as wire,
    ):
        agent = await RawAgent.connected(wire, LEGACY)
        async with agent.listening() as heard:
            assert await heard.next() == {"jsonrpc": "2.0", "method": "x"}
            assert b"id: 7" in heard.raw
        headers = agent.headers({}) | {"Last-Event-ID": "7"}
        async with wire.http.get(wire.url(), headers=headers) as response:
            await response.read()
        assert upstream.requests[-1][1]["Last-Event-ID"] == "7"


async def test_an_agent_listens_to_so_many_streams_and_no_more(tmp_path: Path) -> None:
    async with serve(
        tmp_path,
        command(fixture_command("--stdio")),
        gateway_settings=settings(max_streams=1),
    ) as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        modern = RawAgent(wire, MODERN)
        async with agent.listening() as heard:
            await heard.until(bool)
            headers = agent.headers({})
            async with wire.http.get(wire.url(), headers=headers) as response:
                assert (response.status, response.headers["Retry-After"]) == (429, "5")
            refused = await modern.ask("subscriptions/listen", {"notifications": {}})
            assert (refused.status, refused.message["id"]) == (429, 1)


async def test_an_agent_has_so_many_sessions_and_no_more(tmp_path: Path) -> None:
    async with (
        scripted(nothing_special) as upstream,
        serve(
            tmp_path,
            UpstreamSettings(url=upstream.url),
            gateway_settings=settings(max_sessions=2),
        ) as wire,
    ):
        agent = await RawAgent.connected(wire, LEGACY)
        await RawAgent.connected(wire, LEGACY)
        late = await RawAgent(wire, LEGACY).initialize()
        assert late.status == 429
        assert late.error["message"].startswith("this agent has 2 sessions open")
        await RawAgent.connected(wire, LEGACY, token=OTHER_AGENT_TOKEN)
        await agent.delete()
        assert (await RawAgent(wire, LEGACY).initialize()).status == 200


async def test_idle_sessions_end_and_their_programs_with_them(tmp_path: Path) -> None:
    async with serve(tmp_path, command(noisy_command())) as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        listening = await RawAgent.connected(wire, LEGACY)
        now = asyncio.get_running_loop().time()
        async with listening.listening() as heard:
            await heard.until(bool)
            assert await wire.gateway.end_idle(now + 60) == 0
            assert await wire.gateway.end_idle(now + 3600) == 1
        assert (await agent.ask("ping")).status == 404
        assert (await listening.ask("ping")).result == {}


async def test_the_sweeper_ends_them_by_itself(tmp_path: Path) -> None:
    hasty = settings(session_idle=timedelta(milliseconds=20))
    async with serve(tmp_path, command(noisy_command()), gateway_settings=hasty) as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        while list(wire.gateway._sessions):  # noqa: ASYNC110  # nothing tells when it has swept
            await asyncio.sleep(0.01)
        assert (await agent.ask("ping")).status == 404


async def test_draining_ends_listening_streams(tmp_path: Path) -> None:
    async with serve(tmp_path, command(noisy_command())) as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        async with agent.listening() as heard:
            await heard.until(bool)
            await wire.gateway.drain()
            with pytest.raises(Exception, match=r"payload|closed|Disconnected"):
                await heard.until(lambda raw: False)


async def test_a_client_that_hangs_up_closes_the_upstreams_stream(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "tools/call":
            return None
        try:
            await stream(request, b": open\n\n")
            await asyncio.Event().wait()
        finally:
            gone.set()
        return None

    async with (
        scripted(handler) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url), ALLOW_EVERYTHING) as wire,
    ):
        agent = RawAgent(wire, MODERN)
        async with agent.opened(agent.call_message("echo")) as response:
            await Stream(response).until(bool)
        await gone.wait()
        assert (await agent.ask("tools/list")).status == 200
        assert await wire.outcomes() == ["left"]


@pytest.mark.parametrize(
    ("upstream", "names"),
    [
        (command(shop_command()), {"search_available_numbers", "release_phone_number"}),
        (command(fixture_command("--stdio")), {"echo", "measure"}),
        (command(noisy_command("--tools", "400", "--log-before-initialize")), {"tool_399"}),
    ],
    ids=["shop", "fixture", "noisy"],
)
async def test_all_tools_of_an_upstream_are_listed(
    upstream: UpstreamSettings, names: set[str], tmp_path: Path
) -> None:
    async with serve(tmp_path, upstream) as wire:
        listed = {str(tool["name"]) for tool in await wire.gateway.list_tools("shop")}
        assert names <= listed
        assert "approval_wait" not in listed
        with pytest.raises(NotFound, match='no upstream "absent"'):
            await wire.gateway.list_tools("absent")


async def test_tools_are_listed_page_by_page_in_either_era(tmp_path: Path) -> None:
    def page(message: dict[str, Any]) -> web.Response:
        cursor = message["params"].get("cursor")
        if cursor is None:
            return answer(message, {"tools": [{"name": "a"}], "nextCursor": "2"})
        return answer(message, {"tools": [{"name": "b"}, 7]})

    async def modern_only(
        request: web.Request, message: dict[str, Any]
    ) -> web.StreamResponse | None:
        if message.get("method") == "initialize":
            return web.Response(status=400)
        return page(message) if message.get("method") == "tools/list" else None

    async with (
        scripted(modern_only) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url)) as wire,
    ):
        assert await wire.gateway.list_tools("shop") == [{"name": "a"}, {"name": "b"}]
    _, headers, asked = upstream.requests[-1]
    assert headers["Mcp-Method"] == "tools/list"
    assert asked["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ({"tools": "none"}, AnswerLost),
        ({"tools": [], "nextCursor": "again"}, AnswerLost),
    ],
)
async def test_a_list_that_is_none_is_told_to_the_operator(
    result: dict[str, Any], error: type[Exception], tmp_path: Path
) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        return answer(message, result) if message.get("method") == "tools/list" else None

    async with (
        scripted(handler) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url)) as wire,
    ):
        with pytest.raises(error, match="tools"):
            await wire.gateway.list_tools("shop")


async def test_an_upstream_that_shakes_no_hands_is_named(tmp_path: Path) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        return web.json_response(
            {"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": 1, "message": "No.\n"}}
        )

    async with (
        scripted(handler) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url)) as wire,
    ):
        with pytest.raises(NeverSent, match=r"refused tools/list: .*No\."):
            await wire.gateway.list_tools("shop")


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_list_that_agents_see_is_edited_wherever_it_comes_from(
    streamed: bool, tmp_path: Path
) -> None:
    tools = {"tools": [{"name": "hidden_1"}, {"name": "echo", "x": 1.50}], "cacheScope": "public"}

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "tools/list":
            return None
        if not streamed:
            return answer(message, tools)
        note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"result": 1}}
        body = {"jsonrpc": "2.0", "id": message["id"], "result": tools}
        return await stream(request, note, b"id: 1\n\n", body)

    async with (
        scripted(handler) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url)) as wire,
    ):
        listed = await RawAgent(wire, MODERN).ask("tools/list")
        assert listed.streamed is streamed
        assert len(listed.messages) == (2 if streamed else 1)
        assert [each["name"] for each in listed.result["tools"]][:2] == ["echo", "approval_wait"]
        assert listed.result["cacheScope"] == "private"


async def test_the_operator_can_leave_our_tools_out(tmp_path: Path) -> None:
    async with scripted(nothing_special) as upstream:
        shop = UpstreamSettings(url=upstream.url, approval_tools=False)
        async with serve(tmp_path, shop) as wire:
            agent = RawAgent(wire, MODERN)
            listed = (await agent.ask("tools/list")).result["tools"]
            assert [each["name"] for each in listed] == ["echo"]
            # Then the name is the upstream's, and judged like any other.
            assert (await agent.call("approval_wait", {"id": "x"})).text == "done"


async def test_an_upstreams_own_tool_of_our_name_is_its_own(tmp_path: Path) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "tools/list":
            return None
        return answer(message, {"tools": [{"name": "approval_wait", "inputSchema": {}}]})

    async with (
        scripted(handler) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url)) as wire,
    ):
        agent = RawAgent(wire, MODERN)
        listed = (await agent.ask("tools/list")).result["tools"]
        assert [each["name"] for each in listed] == ["approval_wait"]
        assert (await agent.call("approval_wait", {"id": "x"})).text == "done"


async def test_numbers_of_an_allowed_call_arrive_as_they_were_written(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        seen.append(await request.read())
        return None

    arguments = b'{"a":1.10,"b":12345678901234567890123,"c":1e2,"d":-0}'
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":%b}}'
    async with (
        scripted(handler) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url), ALLOW_EVERYTHING) as wire,
    ):
        headers = RawAgent(wire, LEGACY).headers({})
        async with wire.http.post(wire.url(), data=body % arguments, headers=headers) as response:
            assert (await response.json())["result"] == text("done")
    assert arguments in seen[0]
    assert json.loads(seen[0])["params"]["name"] == "echo"


async def test_an_agent_that_hangs_up_while_it_is_answered_makes_no_noise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "tools/call":
            return None
        response = await stream(request)
        for _ in range(200):
            await response.write(b"data: {}\n\n" * 1000)
        return response

    async with (
        scripted(handler) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url), ALLOW_EVERYTHING) as wire,
    ):
        agent = RawAgent(wire, MODERN)
        for _ in range(5):
            async with agent.opened(agent.call_message("echo")) as response:
                await response.content.readany()
                response.close()
        assert (await agent.ask("tools/list")).status == 200
    assert "Error handling request" not in caplog.text
