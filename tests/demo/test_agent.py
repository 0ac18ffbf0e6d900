"""The demo's agent: what it makes of answers, good and bad."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from aiohttp import web

from approval.demo.agent import AgentFailed, Result, agent


@asynccontextmanager
async def server(answer: object, *, status: int = 200, stream: bytes = b"") -> AsyncIterator[str]:
    """Answer every call in one way, after a real handshake."""

    async def handler(request: web.Request) -> web.StreamResponse:
        message = orjson.loads(await request.read())
        if "id" not in message:
            return web.Response(status=202)
        if message["method"] == "initialize":
            body = {"jsonrpc": "2.0", "id": message["id"], "result": {}}
            return web.json_response(body, headers={"Mcp-Session-Id": "s1"})
        assert request.headers["Mcp-Session-Id"] == "s1"
        assert request.headers["MCP-Protocol-Version"] == "2025-11-25"
        if stream:
            return web.Response(body=stream, content_type="text/event-stream")
        return web.json_response(answer, status=status)

    app = web.Application()
    app.router.add_post("/mcp", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site.port}/mcp"
    finally:
        await runner.cleanup()


async def test_a_result_is_read_with_the_gateways_own_word() -> None:
    result = {
        "content": [{"type": "text", "text": "PENDING"}, "odd"],
        "isError": True,
        "structuredContent": {"a": 1},
        "_meta": {"dev.approval/call": {"state": "pending", "id": "apr_1"}},
    }
    async with server({"id": 2, "result": result}) as url, agent(url, "t") as client:
        assert await client.call("buy", {}) == Result(
            text="PENDING", is_error=True, structured={"a": 1}, state="pending", call_id="apr_1"
        )


async def test_a_stream_may_be_silent_and_speak_of_other_things_first() -> None:
    stream = (
        b": waiting\n\n"
        b'data: {"jsonrpc":"2.0","method":"notifications/progress"}\n\n'
        b'data: {"id":2,"result":{"tools":[{"name":"buy"}]}}\n\n'
    )
    async with server({}, stream=stream) as url, agent(url, "t") as client:
        assert await client.tools() == ("buy",)


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        ({"id": 2, "error": {"code": -32601}}, 200, "tools/call was refused: {'code': -32601}"),
        ({"id": 9, "result": {}}, 200, "tools/call was not answered"),
        ({"text": "no"}, 403, "HTTP 403"),
    ],
)
async def test_a_fault_is_not_taken_for_an_answer(answer: object, status: int, told: str) -> None:
    async with server(answer, status=status) as url, agent(url, "t") as client:
        with pytest.raises(AgentFailed, match=told):
            await client.call("buy", {})


async def test_a_list_that_is_none_is_empty() -> None:
    async with server({"id": 2, "result": {"tools": 5}}) as url, agent(url, "t") as client:
        assert await client.tools() == ()
