"""Handing answers on: what passes as it is, what is kept from agents, and what is missing."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from approval.gateway import protocol
from approval.gateway.relay import fit
from approval.gateway.settings import UpstreamSettings
from approval.gateway.upstream import Reply
from tests.factories import ALLOW_EVERYTHING
from tests.gateway.scripted import Handler, scripted, stream, text
from tests.gateway.wire import ERAS, LEGACY, MODERN, Answered, RawAgent, serve

REQUEST = protocol.message({"jsonrpc": "2.0", "id": 1, "method": "ping"})
NOTE = protocol.message({"jsonrpc": "2.0", "method": "notifications/initialized"})


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "application/json", b"{}"),
        (202, "", b""),
        (400, "application/json", b"{}"),
        (404, "text/plain", b"no session"),
        (405, "", b""),
        (500, "application/json", b"{}"),
    ],
)
def test_what_an_agent_may_have_is_left_alone(status: int, kind: str, body: bytes) -> None:
    reply = Reply(status=status, content_type=kind, body=body)
    assert fit(reply, REQUEST) is reply


@pytest.mark.parametrize(
    ("status", "kind", "body", "expected"),
    [
        (401, "application/json", b"{}", 502),
        (403, "", b"", 502),
        (302, "", b"", 502),
        (304, "", b"", 502),
        (200, "text/html", b"<script>", 502),
        (404, "text/html", b"<script>", 404),
        (500, "text/html", b"<script>", 502),
        (200, "text/plain", b"hi", 502),
        (500, "text/plain", b"hi", 502),
        (400, "", b"?", 400),
    ],
)
def test_what_an_agent_must_not_be_given_is_replaced(
    status: int, kind: str, body: bytes, expected: int
) -> None:
    fitted = fit(Reply(status=status, content_type=kind, body=body), REQUEST)
    assert (fitted.status, fitted.content_type) == (expected, "application/json")
    assert b'"id":1' in fitted.body
    assert b"script" not in fitted.body
    assert b'"id":null' in fit(Reply(status=401), NOTE).body


async def relayed(folder: Path, era: str, handler: Handler) -> Answered:
    """Let an upstream answer an allowed call by `handler`, and give what the agent gets."""

    async def handle(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        calls = message.get("method") == "tools/call"
        return await handler(request, message) if calls else None

    async with (
        scripted(handle) as upstream,
        serve(folder, UpstreamSettings(url=upstream.url), ALLOW_EVERYTHING) as wire,
    ):
        agent = await RawAgent.connected(wire, era)
        return await agent.call("echo")


def result(message: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message["id"], "result": text("done")}


@pytest.mark.parametrize("era", ERAS)
async def test_a_stream_passes_byte_by_byte(era: str, tmp_path: Path) -> None:
    parts = [b": hello\r\n\r\n", b"id: 1\r\nretry: 5\r\ndata: \r\n\r\n", b"event: message\r\n"]

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return await stream(request, *parts, result(message), b": bye\n\n")

    answered = await relayed(tmp_path, era, handler)
    assert answered.body.startswith(b"".join(parts))
    assert answered.body.endswith(b": bye\n\n")
    assert answered.text == "done"
    assert answered.headers["X-Accel-Buffering"] == "no"


async def test_a_stream_that_can_be_resumed_ends_without_a_word(tmp_path: Path) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return await stream(request, b"id: 1\ndata: \n\n")

    assert (await relayed(tmp_path, LEGACY, handler)).messages == []
    # In the newer era nothing can be resumed.
    (tmp_path / "modern").mkdir()
    lost = await relayed(tmp_path / "modern", MODERN, handler)
    assert "lost" in lost.error["message"]


@pytest.mark.parametrize("era", ERAS)
async def test_an_endless_event_ends_the_stream_with_an_error(era: str, tmp_path: Path) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return await stream(request, *[b"x" * (1 << 20)] * 17)

    assert "lost" in (await relayed(tmp_path, era, handler)).error["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"id":2,"result":{}}', b'{"id":"1","result":{}}', b'{"id":true}'],
)
async def test_an_answer_to_something_else_is_none(body: bytes, tmp_path: Path) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    answered = await relayed(tmp_path, MODERN, handler)
    assert answered.status == 502
    assert "something else" in answered.error["message"]


async def test_a_stream_with_another_requests_answer_has_none(tmp_path: Path) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return await stream(request, {"id": "x", "result": {}}, b"data: 7\n\n", b"data: []\n\n")

    answered = await relayed(tmp_path, MODERN, handler)
    assert "lost" in answered.error["message"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "listed", [b'{"tools":[],"tools":[]}', b"7", b'{"tools":[{"name":"a"}]}'], ids=repr
)
async def test_a_list_with_two_readings_is_not_edited_but_refused(
    listed: bytes, streamed: bool, tmp_path: Path
) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "tools/list":
            return None
        body = b'{"jsonrpc":"2.0","id":1,"result":%b}' % listed
        if streamed:
            error = {"jsonrpc": "2.0", "id": 9, "method": "x", "params": {"result": 1}}
            return await stream(request, error, b'data: {"result"\n\n', b"data: %b\n\n" % body)
        return web.Response(body=body, content_type="application/json")

    async with (
        scripted(handler) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url)) as wire,
    ):
        agent = RawAgent(wire, MODERN)
        async with agent.opened(agent.message("tools/list", request_id=1)) as response:
            raw = await response.read()
        match listed[:10]:
            case b'{"tools":[':
                twice = listed.count(b"tools") == 2
                assert (b"error" in raw) is twice
                assert (b"approval_wait" in raw) is not twice
            case _:
                assert b'"result":7' in raw
