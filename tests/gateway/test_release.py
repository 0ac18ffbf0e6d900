"""Sending a claimed call: what proves that nothing happened, and what leaves a doubt."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from approval.core.call import Answer, Status
from approval.core.canonical import JSON
from approval.errors import AnswerLost, NeverSent
from approval.gateway import protocol, release
from approval.gateway.release import REFUSED_UNREAD, as_approved, send_detached
from approval.gateway.settings import GatewaySettings, UpstreamSettings
from approval.gateway.stdio import StdioUpstream
from approval.gateway.upstream import Sent
from approval.gateway.upstream_http import HttpUpstream
from tests.factories import make_asked, make_call
from tests.gateway.scripted import Handler, Scripted, scripted, stream, text
from tests.gateway.scripted import answer as scripted_answer
from tests.gateway.wire import DEADLINE_SECONDS, ERAS, LEGACY, MODERN

CALL = make_call()
WITHIN = timedelta(seconds=60)


def request(meta: JSON = None) -> protocol.Message:
    params: dict[str, JSON] = {"name": "x", "arguments": {}}
    if meta is not None:
        params["_meta"] = meta
    return protocol.message({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})


def test_what_runs_is_the_approved_call_under_the_agents_id() -> None:
    meta: JSON = {
        "progressToken": 1,
        "tracestate": "t",
        "io.modelcontextprotocol/logLevel": "info",
        "dev.approval/key": "k",
        "else": 1,
    }
    message = as_approved(CALL, request(meta), "mine")
    assert Sent(message=message, arguments=CALL.asked.arguments).write() == (
        b'{"jsonrpc":"2.0","id":"mine","method":"tools/call","params":'
        b'{"name":"create_incoming_phone_number","_meta":{"progressToken":1,"tracestate":"t",'
        b'"io.modelcontextprotocol/logLevel":"info"},'
        b'"arguments":{"phone_number":"+14155550100"}}}'
    )
    assert as_approved(CALL, request(), 1).params == {"name": CALL.asked.tool}


async def sent_to(handler: Handler, *, pass_on: release.PassOn | None = None) -> Answer:
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        scripted(handler) as upstream,
        HttpUpstream("shop", UpstreamSettings(url=upstream.url)) as far,
    ):
        sent = Sent(message=as_approved(CALL, request(), 1), version=LEGACY, careful=True)
        return await release.send(far.begin(), sent, pass_on, modern=False)


def answering(status: int, body: bytes = b"", kind: str | None = "application/json") -> Handler:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if "method" not in message:
            return None
        return web.Response(status=status, body=body, content_type=kind)

    return handler


@pytest.mark.parametrize("status", sorted(REFUSED_UNREAD | {307, 308}))
async def test_a_status_that_refuses_the_request_proves_that_nothing_happened(status: int) -> None:
    answer = await sent_to(answering(status))
    assert answer.status is Status.FAILED
    assert f"HTTP status {status}".encode() in answer.body
    assert answer.body.startswith(b'{"error":{"code":-32603,"message":"')


@pytest.mark.parametrize("status", [201, 202, 204, 302, 303, 408, 409, 500, 502, 503, 504])
async def test_any_other_status_leaves_a_doubt(status: int) -> None:
    with pytest.raises(AnswerLost, match=f"HTTP status {status}"):
        await sent_to(answering(status))


@pytest.mark.parametrize(
    ("code", "status"), [(-32602, Status.FAILED), (-32603, Status.ERRORED), (1, Status.ERRORED)]
)
async def test_an_error_of_the_protocol_counts_by_its_code_whatever_the_status(
    code: int, status: Status
) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"error":{"code":%d,"message":"no"}}' % code
    for http in (200, 400, 500):
        answer = await sent_to(answering(http, body))
        assert answer == Answer(status=status, body=b'{"error":{"code":%d,"message":"no"}}' % code)
    # An error about no request at all proves only what the status proves.
    other = body.replace(b'"id":1', b'"id":null')
    assert (await sent_to(answering(404, other))).status is Status.FAILED
    with pytest.raises(AnswerLost):
        await sent_to(answering(500, other))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"),
        (b"[]", "application/json"),
        (b"7", "application/json"),
        (b'{"jsonrpc":"2.0","id":1}', "application/json"),
        (b'{"jsonrpc":"2.0","id":2,"result":{}}', "application/json"),
        (b'{"jsonrpc":"2.0","id":true,"result":{}}', "application/json"),
        (b'{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}', "application/json"),
        (b"<html>", "text/html"),
        (b"", None),
    ],
)
async def test_what_is_no_readable_answer_to_this_request_leaves_a_doubt(
    body: bytes, kind: str | None
) -> None:
    with pytest.raises(AnswerLost):
        await sent_to(answering(200, body, kind))


async def test_numbers_in_an_answer_are_kept_as_they_came() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":{"price":1.10,"n":12345678901234567890123}}'
    answer = await sent_to(answering(200, body))
    assert answer == Answer(
        status=Status.EXECUTED,
        body=b'{"result":{"price":1.10,"n":12345678901234567890123}}',
    )


async def test_what_comes_before_the_answer_is_passed_on_and_the_first_answer_counts() -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {}}
    question = {"jsonrpc": "2.0", "id": "q", "method": "roots/list"}
    heard: list[object] = []
    declined: list[dict[str, Any]] = []

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if "method" not in message:
            declined.append({**message, "said": request.headers["MCP-Protocol-Version"]})
            return None
        answers = [{"jsonrpc": "2.0", "id": message["id"], "result": text(each)} for each in "ab"]
        junk = b"data: {\n\ndata: []\n\nid: 1\n\n"
        return await stream(request, note, question, junk, *answers)

    async def pass_on(data: bytes, message: dict[str, object]) -> bool:
        heard.append(message)
        return listening

    listening = True
    answer = await sent_to(handler, pass_on=pass_on)
    assert answer.body == b'{"result":{"content":[{"type":"text","text":"a"}]}}'
    assert (heard, declined) == ([note, question], [])
    listening = False
    await sent_to(handler, pass_on=pass_on)
    await sent_to(handler)
    assert [each["error"]["code"] for each in declined] == [-32601, -32601]
    assert [(each["id"], each["said"]) for each in declined] == [("q", LEGACY)] * 2


async def test_a_question_that_cannot_be_declined_does_not_matter() -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        if "method" not in message:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        odd = {"jsonrpc": "2.0", "id": True, "method": "roots/list"}
        question = {"jsonrpc": "2.0", "id": "q", "method": "roots/list"}
        result = {"jsonrpc": "2.0", "id": message["id"], "result": {}}
        return await stream(request, odd, question, result)

    assert (await sent_to(handler)).status is Status.EXECUTED


async def test_a_stream_that_is_unreadable_leaves_a_doubt() -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return await stream(request, *[b"x" * (1 << 20)] * 17)

    with pytest.raises(AnswerLost, match="unreadable"):
        await sent_to(handler)


async def detached(handler: Handler, version: str) -> tuple[Answer, Scripted]:
    call = make_call(asked=make_asked(protocol_version=version))
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        scripted(handler) as upstream,
        HttpUpstream("shop", UpstreamSettings(url=upstream.url)) as far,
    ):
        return await send_detached(far, call, within=WITHIN), upstream


@pytest.mark.parametrize("version", [*ERAS, ""])
async def test_a_detached_call_runs_in_a_session_without_any_capability(version: str) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> None:
        return None

    answer, upstream = await detached(handler, version)
    assert answer.status is Status.EXECUTED
    methods = [message.get("method") for _, _, message in upstream.requests]
    (call,) = upstream.messages("tools/call")
    if version == MODERN:
        assert methods == ["tools/list", "tools/call"]
        capabilities = call["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"]
    else:
        assert methods == ["initialize", "notifications/initialized", "tools/call", None]
        assert upstream.requests[-1][0] == "DELETE"
        capabilities = upstream.messages("initialize")[0]["params"]["capabilities"]
        assert "_meta" not in call["params"]
    assert capabilities == {}
    for shaken in upstream.messages("initialize"):
        assert shaken["params"]["clientInfo"] == {"name": "approval", "version": "1"}


@pytest.mark.parametrize(
    "handler",
    [
        answering(404),
        answering(500),
        answering(200, b"{}"),
        answering(200, b'{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"1999-01-01"}}'),
    ],
)
async def test_without_a_handshake_the_call_never_left(handler: Handler) -> None:
    with pytest.raises(NeverSent):
        await detached(handler, LEGACY)


def listing(*pages: JSON) -> Handler:
    """Serve a tool's list in these pages, each of which names the next."""

    async def handler(request: web.Request, message: dict[str, Any]) -> web.Response | None:
        if message.get("method") != "tools/list":
            return None
        number = int(message["params"].get("cursor", 0))
        more = {"nextCursor": str(number + 1)} if number + 1 < len(pages) else {}
        return scripted_answer(message, {"tools": pages[number], **more})

    return handler


MARKED: JSON = {
    "name": CALL.asked.tool,
    "inputSchema": {
        "type": "object",
        "properties": {"phone_number": {"type": "string", "x-mcp-header": "Number"}},
    },
}
OTHER: JSON = {"name": "other", "inputSchema": {}}


@pytest.mark.parametrize(
    ("pages", "lists"),
    [([[7, OTHER, MARKED]], 1), ([[OTHER], [MARKED], [OTHER]], 2), ([[MARKED], [OTHER]], 1)],
)
async def test_a_detached_call_carries_the_headers_that_its_tool_asks_for(
    pages: list[JSON], lists: int
) -> None:
    answer, upstream = await detached(listing(*pages), MODERN)
    assert answer.status is Status.EXECUTED
    *listed, (_, sent, message) = upstream.requests
    assert len(listed) == lists
    assert not any("Mcp-Param-Number" in headers for _, headers, _ in listed)
    assert message["method"] == "tools/call"
    assert sent["Mcp-Param-Number"] == "+14155550100"
    # Each on a connection of its own: one that the upstream had just closed would lose it.
    assert len(set(upstream.peers)) == len(upstream.peers)


@pytest.mark.parametrize(
    ("version", "arguments", "methods"),
    [
        (LEGACY, {"phone_number": "1"}, ["initialize", None, "tools/call", None]),
        (MODERN, {}, ["tools/call"]),
        (MODERN, {"phone_number": "1"}, ["tools/list", "tools/call"]),
    ],
)
async def test_only_where_headers_may_be_wanted_is_the_list_asked_for(
    version: str, arguments: JSON, methods: list[str | None]
) -> None:
    call = make_call(asked=make_asked(protocol_version=version, arguments=arguments))
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        scripted(listing([OTHER])) as upstream,
        HttpUpstream("shop", UpstreamSettings(url=upstream.url)) as far,
    ):
        assert (await send_detached(far, call, within=WITHIN)).status is Status.EXECUTED
    said = [message.get("method") for _, _, message in upstream.requests]
    assert [None if each == "notifications/initialized" else each for each in said] == methods
    assert not any("Mcp-Param" in name for _, sent, _ in upstream.requests for name in sent)


def refusing(status: int, body: bytes) -> Handler:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "tools/list":
            return None
        return web.Response(status=status, body=body, content_type="application/json")

    return handler


async def hang(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
    await asyncio.sleep(DEADLINE_SECONDS)
    return None


async def drop(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
    assert request.transport is not None
    request.transport.abort()
    return None


@pytest.mark.parametrize(
    "handler",
    [
        refusing(500, b""),
        refusing(404, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}'),
        refusing(200, b'{"jsonrpc":"2.0","id":1,"result":{}}'),
        refusing(200, b'{"jsonrpc":"2.0","id":1,"result":{"tools":[],"tools":[]}}'),
        refusing(200, b'{"jsonrpc":"2.0","id":1,"result":{"tools":[],"nextCursor":"again"}}'),
        drop,
        hang,
    ],
)
async def test_without_the_list_the_call_never_left(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "LIST_SECONDS", 0.3)
    call = make_call(asked=make_asked(protocol_version=MODERN))
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        scripted(handler) as upstream,
        HttpUpstream("shop", UpstreamSettings(url=upstream.url)) as far,
    ):
        with pytest.raises(NeverSent):
            await send_detached(far, call, within=WITHIN)
    assert upstream.messages("tools/list")
    assert upstream.messages("tools/call") == []


async def test_a_program_on_standard_streams_is_not_asked_what_headers_it_wants() -> None:
    call = make_call(asked=make_asked(protocol_version=MODERN))
    settings = UpstreamSettings(command=("/there/is/no/such/program",))
    async with StdioUpstream("shop", settings, GatewaySettings()) as far:
        for conversation in (far.shared(), far.begin()):
            # Asking would start the program, which cannot be.
            assert await release.repeated(conversation, call, MODERN, within=WITHIN) is None


async def test_a_list_that_never_comes_leaves_no_doubt_however_short_the_calls_time_is() -> None:
    call = make_call(asked=make_asked(protocol_version=MODERN))
    async with (
        scripted(hang) as upstream,
        HttpUpstream("shop", UpstreamSettings(url=upstream.url)) as far,
    ):
        with pytest.raises(NeverSent, match="did not answer in time"):
            async with asyncio.timeout(1):
                await send_detached(far, call, within=timedelta(seconds=1))


# --- which tools there are ---


async def listed(handler: Handler) -> tuple[list[object], Scripted]:
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        scripted(handler) as upstream,
        HttpUpstream("shop", UpstreamSettings(url=upstream.url)) as far,
    ):
        tools = await release.list_tools(far)
        return [tool["name"] for tool in tools], upstream


PAGES = {None: (["a", "b"], "2"), "2": (["c"], "3"), "3": ([], None)}


@pytest.mark.parametrize("era", ERAS)
async def test_tools_are_listed_page_by_page_in_either_era(era: str) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") == "initialize" and era == MODERN:
            error = {"code": -32601, "message": "no such method"}
            return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": error})
        if message.get("method") != "tools/list":
            return None
        names, following = PAGES[message["params"].get("cursor")]
        result = {"tools": [*({"name": name} for name in names), "junk"], "nextCursor": following}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    tools, upstream = await listed(handler)
    assert tools == ["a", "b", "c"]
    asked = upstream.messages("tools/list")
    assert [each["params"].get("cursor") for each in asked] == list(PAGES)
    assert len({each["id"] for each in asked}) == len(PAGES)
    assert [("_meta" in each["params"]) for each in asked] == [era == MODERN] * len(PAGES)


@pytest.mark.parametrize("result", [{}, {"tools": {}}, {"tools": [], "nextCursor": "more"}])
async def test_a_list_of_tools_that_is_none_or_never_ends_is_refused(result: JSON) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "tools/list":
            return None
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    with pytest.raises(AnswerLost, match=r"no list of tools|more than 100 pages"):
        await listed(handler)
