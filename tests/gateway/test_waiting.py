"""Lines that are kept open: signs of life, progress that grows, and one timer for all of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from approval.core.call import Listener, Status
from approval.gateway.settings import GatewaySettings, UpstreamSettings
from approval.gateway.waiting import Line
from tests.factories import AGENT_TOKEN, make_call
from tests.gateway.scripted import Handler, nothing_special, scripted, stream, text
from tests.gateway.wire import (
    BRIEF,
    LEGACY,
    MODERN,
    RawAgent,
    Stream,
    Wire,
    serve,
    settings,
    store_away,
)


@asynccontextmanager
async def waiting(
    folder: Path, handler: Handler = nothing_special, gateway_settings: GatewaySettings = BRIEF
) -> AsyncIterator[Wire]:
    async with (
        scripted(handler) as upstream,
        serve(
            folder, UpstreamSettings(url=upstream.url), gateway_settings=gateway_settings
        ) as wire,
    ):
        yield wire


async def test_many_lines_get_their_signs_of_life_from_one_timer(tmp_path: Path) -> None:
    async with waiting(tmp_path) as wire, asyncio.TaskGroup() as tasks:
        agent = RawAgent(wire, MODERN)
        lively = [asyncio.Event() for _ in range(40)]

        async def hold(number: int) -> str:
            message = agent.call_message("effect", {"n": number})
            async with agent.opened(message) as response:
                heard = Stream(response)
                await heard.until(lambda raw: raw.count(b": \n\n") >= 4)
                lively[number].set()
                text: str = (await heard.next())["result"]["content"][0]["text"]
                return text

        before = len(asyncio.all_tasks())
        holding = [tasks.create_task(hold(number)) for number in range(40)]
        for each in lively:
            await each.wait()
        # Ours, and the server's two for any request: no further task for a line that waits.
        assert len(asyncio.all_tasks()) <= before + 3 * 40 + 5
        for call in await wire.calls():
            await wire.decide(call)
        assert {await each for each in holding} == {"done"}


async def test_the_headers_come_at_once_whatever_the_pace(tmp_path: Path) -> None:
    slow = settings(keep_alive=timedelta(hours=1))
    async with waiting(tmp_path, gateway_settings=slow) as wire:
        agent = RawAgent(wire, MODERN)
        async with agent.opened(agent.call_message("effect")) as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            await Stream(response).until(lambda raw: raw == b": \n\n")
            # A line that began later and ends earlier moves the timer.
            wire.gateway.settings = settings(wait=timedelta(milliseconds=30))
            assert (await agent.call("effect", {"n": 2})).told["state"] == "pending"


async def test_an_agent_on_an_old_connection_gets_a_plain_stream(tmp_path: Path) -> None:
    async with waiting(tmp_path, gateway_settings=settings(wait=timedelta(seconds=0.2))) as wire:
        agent = RawAgent(wire, LEGACY)
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"effect"}}'
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        headers = agent.headers({}) | {"Host": "localhost", "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(b"POST /mcp/shop HTTP/1.0\r\n" + head.encode() + b"\r\n" + body)
        answered = await reader.read()
        writer.close()
        start, _, rest = answered.partition(b"\r\n\r\n")
        assert b"200" in start
        assert b"chunked" not in start.lower()
        assert rest.startswith(b": \n\n: \n\n")
        assert rest.endswith(b"\n\n")
        assert b'"state":"pending"' in rest


async def test_progress_of_the_upstream_is_passed_on_only_when_it_is_ahead(tmp_path: Path) -> None:
    steps: list[Any] = [0, 1e-9, 3, 2, 3, "4", None, 5]

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "tools/call":
            return None
        notes = [
            {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": "t", "progress": step},
            }
            for step in steps
        ]
        odd = {"jsonrpc": "2.0", "method": "notifications/progress", "params": []}
        result = {"jsonrpc": "2.0", "id": message["id"], "result": text("done")}
        return await stream(request, *notes, odd, result)

    async with waiting(tmp_path, handler) as wire, asyncio.TaskGroup() as tasks:
        agent = RawAgent(wire, MODERN)
        asking = tasks.create_task(agent.call("effect", meta={"progressToken": "t"}))
        await wire.approve()
        answered = await asking
        progress = [each["params"]["progress"] for each in answered.messages[:-1]]
        assert [each for each in progress if each >= 1] == [3, 5]
        assert progress == sorted(progress)
        assert answered.text == "done"


async def test_while_an_upstream_is_ahead_the_line_is_kept_by_comments(tmp_path: Path) -> None:
    finish = asyncio.Event()

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "tools/call":
            return None
        params = {"progressToken": "t", "progress": 1}
        note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        response = await stream(request, note)
        await finish.wait()
        body = b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'
        await response.write(body)
        return response

    async with waiting(tmp_path, handler) as wire:
        agent = RawAgent(wire, MODERN)
        message = agent.call_message("effect", meta={"progressToken": "t"}, request_id=1)
        async with agent.opened(message) as response:
            heard = Stream(response)
            await heard.until(bool)
            await wire.approve()
            await heard.until(lambda raw: raw.count(b": \n\n") >= 2)
            finish.set()
            while "result" not in await heard.next():
                pass


async def test_a_budget_that_ends_while_the_call_runs_says_that_it_runs(tmp_path: Path) -> None:
    finish = asyncio.Event()

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") == "tools/call":
            await finish.wait()
        return None

    async with (
        waiting(tmp_path, handler, settings(wait=timedelta(milliseconds=300))) as wire,
        asyncio.TaskGroup() as tasks,
    ):
        agent = RawAgent(wire, MODERN)
        asking = tasks.create_task(agent.call("effect"))
        await wire.approve()
        told = (await asking).told
        assert (told["state"], told["retryable"]) == ("executing", False)
        wire.gateway.settings = BRIEF
        collecting = tasks.create_task(agent.call("approval_wait", {"id": told["id"]}))
        finish.set()
        assert (await collecting).text == "done"


async def test_an_answer_that_cannot_be_read_now_can_be_asked_for_later(tmp_path: Path) -> None:
    async with waiting(tmp_path) as wire, asyncio.TaskGroup() as tasks:
        agent = RawAgent(wire, MODERN)
        asking = tasks.create_task(agent.call("effect"))
        await wire.approve()
        executed = await wire.until(Status.EXECUTED)
        await asking
        with store_away(tmp_path):
            # It was handed over, which could not be noted: better twice than never.
            assert (await agent.call("approval_wait", {"id": executed.id})).text == "done"


async def test_a_slow_reader_holds_nobody_up(tmp_path: Path) -> None:
    async with waiting(tmp_path) as wire:
        agent = RawAgent(wire, MODERN)
        _, writer = await asyncio.open_connection("127.0.0.1", wire.port, limit=1)
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"effect"}}'
        head = (
            "POST /mcp/shop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {AGENT_TOKEN}\r\nAccept: */*\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        held = await wire.held()
        assert (await agent.call("echo")).text == "done"
        writer.close()
        await wire.decide(held)


@pytest.mark.parametrize("times", [1, 3])
async def test_draining_with_nobody_waiting_is_done_at_once(times: int, tmp_path: Path) -> None:
    async with waiting(tmp_path) as wire:
        for _ in range(times):
            await wire.gateway.drain()


async def test_what_is_said_to_an_agent_that_has_left_reaches_nobody(tmp_path: Path) -> None:
    left = asyncio.Event()
    declined: list[dict[str, Any]] = []

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if "error" in message:
            declined.append(message)
        if message.get("method") != "tools/call":
            return None
        response = await stream(request, b": running\n\n")
        await left.wait()
        note = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'
        await response.write(note)
        await response.write(b'data: {"jsonrpc":"2.0","id":"q","method":"roots/list"}\n\n')
        await response.write(b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n')
        return response

    async with waiting(tmp_path, handler) as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        message = agent.call_message("effect", request_id=1)
        async with agent.opened(message) as response:
            await Stream(response).until(bool)
            await wire.approve()
            executing = await wire.until(Status.EXECUTING)
        await wire.listener(executing, Listener.GONE)
        left.set()
        await wire.until(Status.EXECUTED)
        assert [each["id"] for each in declined] == ["q"]


async def test_nothing_is_passed_on_to_a_line_that_is_left_or_has_its_answer(
    tmp_path: Path,
) -> None:
    passed: list[bool] = []

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        note: dict[str, object] = {"jsonrpc": "2.0", "method": "notifications/message"}
        answered, left = (
            Line(request, request_id=1, token=None, modern=True, lasts=60) for _ in "ab"
        )
        left.leave("cancelled")
        await answered.open(make_call())
        passed.append(await answered.pass_on(b"{}", note))
        await answered.finish(None)
        passed.extend([await each.pass_on(b"{}", note) for each in (answered, left)])
        return answered.response

    async with waiting(tmp_path, handler) as wire:
        await RawAgent(wire, MODERN).ask("tools/list")
    assert passed == [True, False, False]


async def test_a_line_that_rests_can_be_left(tmp_path: Path) -> None:
    rested: list[str] = []

    async def handler(request: web.Request, message: dict[str, Any]) -> None:
        line = Line(request, request_id=1, token=None, modern=True, lasts=60)
        await line.rest(0.001)
        async with asyncio.TaskGroup() as tasks:
            resting = tasks.create_task(line.rest(3600))
            await asyncio.sleep(0)
            line.leave("drain")
            line.leave("budget")  # the first reason stands
            await resting
        await line.rest(3600)
        rested.append(line.left)

    async with waiting(tmp_path, handler) as wire:
        await RawAgent(wire, MODERN).ask("tools/list")
    assert rested == ["drain"]
