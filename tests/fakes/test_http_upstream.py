import json
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.fakes.http_upstream import HUGE, Misbehaviour, closed_port, http_upstream

CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "effect"}}
DONE = {"content": [{"type": "text", "text": "done"}], "resultType": "complete"}


async def test_a_closed_port_refuses_connections() -> None:
    with closed_port() as url:
        async with aiohttp.ClientSession() as client:
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.post(url, json=CALL)


async def test_without_a_trap_it_serves_and_witnesses_what_it_was_sent() -> None:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(http_upstream())
        client = await stack.enter_async_context(aiohttp.ClientSession())
        async with client.post(upstream.url, json=CALL, headers={"X-Odd": "Yes"}) as answer:
            assert await answer.json() == {"jsonrpc": "2.0", "id": 7, "result": DONE}
    assert [request.message for request in upstream.received] == [CALL]
    assert upstream.received[0].header("x-odd") == ["Yes"]
    assert upstream.trapped == upstream.received


async def test_other_methods_are_served_well_on_the_same_connection() -> None:
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
    params = {"protocolVersion": "2025-11-25"}
    async with http_upstream(Misbehaviour.NEVER_ANSWER) as upstream:
        async with aiohttp.ClientSession() as client:
            async with client.post(upstream.url, json=hello | {"params": params}) as answer:
                assert answer.headers["Mcp-Session-Id"] == "fake-session"
                assert (await answer.json())["result"]["protocolVersion"] == "2025-11-25"
            note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            async with client.post(upstream.url, json=note) as answer:
                assert answer.status == 202
            async with client.get(upstream.url) as answer:
                assert answer.status == 405
        assert upstream.connections == 1
        assert upstream.trapped == []


@pytest.mark.parametrize(
    "misbehaviour", [Misbehaviour.CLOSE_ON_ACCEPT, Misbehaviour.CLOSE_AFTER_BODY]
)
async def test_a_closing_upstream_answers_nothing(misbehaviour: Misbehaviour) -> None:
    async with http_upstream(misbehaviour) as upstream, aiohttp.ClientSession() as client:
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await client.post(upstream.url, json=CALL)
    read = misbehaviour is Misbehaviour.CLOSE_AFTER_BODY
    assert bool(upstream.trapped) is read


@pytest.mark.parametrize(
    ("misbehaviour", "status"),
    [
        (Misbehaviour.ERROR_500_HTML, 500),
        (Misbehaviour.SESSION_404, 404),
        (Misbehaviour.REDIRECT, 307),
    ],
)
async def test_an_upstream_answers_a_call_with_a_status_of_its_own(
    misbehaviour: Misbehaviour, status: int
) -> None:
    async with http_upstream(misbehaviour) as upstream, aiohttp.ClientSession() as client:
        answer = await client.post(upstream.url, json=CALL, allow_redirects=False)
        assert answer.status == status
    assert [request.path for request in upstream.received] == ["/mcp"]


async def test_a_client_that_follows_the_redirect_is_seen_elsewhere() -> None:
    async with http_upstream(Misbehaviour.REDIRECT) as upstream, aiohttp.ClientSession() as client:
        await client.post(upstream.url, json=CALL)
    assert [request.path for request in upstream.received] == ["/mcp", "/elsewhere"]
    assert len(upstream.trapped) == 1


async def test_half_a_body_ends_before_its_length() -> None:
    async with http_upstream(Misbehaviour.HALF_JSON) as upstream, aiohttp.ClientSession() as client:
        answer = await client.post(upstream.url, json=CALL)
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_cut_stream_ends_without_the_answer() -> None:
    async with (
        http_upstream(Misbehaviour.CUT_STREAM) as upstream,
        aiohttp.ClientSession() as client,
        client.post(upstream.url, json=CALL) as answer,
    ):
        assert answer.content_type == "text/event-stream"
        assert await answer.read() == b": hello\n\n"


@pytest.mark.parametrize("misbehaviour", [Misbehaviour.NEVER_ANSWER, Misbehaviour.ENDLESS_SSE])
async def test_an_upstream_that_never_answers_still_ends_with_its_test(
    misbehaviour: Misbehaviour,
) -> None:
    timeout = aiohttp.ClientTimeout(total=0.2)
    async with http_upstream(misbehaviour) as upstream, aiohttp.ClientSession() as client:
        with pytest.raises(TimeoutError):
            async with client.post(upstream.url, json=CALL, timeout=timeout) as answer:
                await answer.read()
        assert upstream.arrived.is_set()


async def test_a_wrong_id_and_two_results_are_answered_as_such() -> None:
    async with http_upstream(Misbehaviour.WRONG_ID) as upstream, aiohttp.ClientSession() as client:
        async with client.post(upstream.url, json=CALL) as answer:
            assert (await answer.json())["id"] == "nobody asked"
        upstream.misbehaviour = Misbehaviour.TWO_RESULTS
        async with client.post(upstream.url, json=CALL) as answer:
            events = [line[6:] for line in (await answer.read()).splitlines() if b"data" in line]
    texts = [json.loads(event)["result"]["content"][0]["text"] for event in events]
    assert texts == ["first", "second"]


async def test_a_huge_answer_is_whole() -> None:
    async with http_upstream(Misbehaviour.HUGE_BODY) as upstream, aiohttp.ClientSession() as client:
        answer = await client.post(upstream.url, json=CALL)
        length = 0
        async for chunk in answer.content.iter_chunked(1 << 20):
            length += len(chunk)
    assert length == answer.content_length
    assert length > HUGE
