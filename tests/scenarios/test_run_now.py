"""An agent hangs up before it is told anything, and an approver has its call run all the same."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from approval.core.call import Call, Listener, Status
from approval.errors import Conflict
from tests.gateway.wire import ERAS, RawAgent, Wire
from tests.scenarios.test_wire_holds import noisy, ran
from tests.scenarios.town import (
    AGENT_TOKEN,
    ANN_TOKEN,
    Town,
    command,
    found,
    serving,
)


async def parked(wire: Wire, agent: RawAgent) -> Call:
    """Let an agent ask and hang up, and a person approve."""
    async with agent.opened(agent.call_message("effect", {"n": 1})):
        held = await wire.held()
    await wire.listener(held, Listener.GONE)
    return await wire.decide(held)


@pytest.mark.parametrize("era", ERAS)
async def test_it_runs_once_and_its_agent_collects_the_result(era: str, tmp_path: Path) -> None:
    async with noisy(tmp_path) as wire:
        agent = await RawAgent.connected(wire, era)
        call = await parked(wire, agent)
        assert await wire.service.release_due(wire.gateway.send_detached) == 0
        assert ran(tmp_path) == []
        await wire.service.releasing.release(call.id, wire.word(call))
        assert await wire.service.release_due(wire.gateway.send_detached) == 1
        assert (await wire.until(Status.EXECUTED)).released_by == "ann"
        assert (await agent.call("effect", {"n": 1})).text == '{"n": 1}'
    assert ran(tmp_path) == [{"n": 1}]


@pytest.mark.parametrize("era", ERAS)
async def test_the_agents_repeat_at_the_same_moment_gets_the_one_result(
    era: str, tmp_path: Path
) -> None:
    async with noisy(tmp_path) as wire, asyncio.TaskGroup() as tasks:
        agent = await RawAgent.connected(wire, era)
        call = await parked(wire, agent)
        repeat = tasks.create_task(agent.call("effect", {"n": 1}))
        for person in ("ann", "bob"):
            tasks.create_task(press(wire, call, person))
        assert (await repeat).text == '{"n": 1}'
    assert ran(tmp_path) == [{"n": 1}]


async def press(wire: Wire, call: Call, person: str) -> None:
    with suppress(Conflict):  # who comes too late is told so; what counts is what ran
        await wire.service.releasing.release(call.id, wire.word(call, person))
    await wire.service.release_due(wire.gateway.send_detached)


TOOL = "create_incoming_phone_number"


def purchase() -> dict[str, Any]:
    """A purchase at the shop, in the newer era."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": TOOL, "arguments": {"phone_number": "+14155550100"}, "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def headers() -> dict[str, str]:
    """What it is sent under."""
    return {
        "Authorization": f"Bearer {AGENT_TOKEN}",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": TOOL,
    }


async def ask_and_hang_up(url: str) -> None:
    """Ask for a number, and leave as soon as the call is held."""
    async with (
        aiohttp.ClientSession(headers=headers()) as session,
        session.post(f"{url}/mcp/shop", data=json.dumps(purchase())) as response,
    ):
        assert response.headers["Content-Type"] == "text/event-stream"


async def call_of(url: str, **wanted: str) -> Any:
    """Wait until the one call is as wanted, and read it over the API."""
    bearer = {"Authorization": f"Bearer {ANN_TOKEN}"}
    async with aiohttp.ClientSession(headers=bearer) as session, asyncio.timeout(10):
        while True:
            async with session.get(f"{url}/v1/calls") as response:
                for call in (await response.json())["calls"]:
                    if all(call[name] == value for name, value in wanted.items()):
                        return call
            await asyncio.sleep(0.02)


async def test_the_command_line_has_the_running_service_run_it(tmp_path: Path) -> None:
    town: Town = found(tmp_path)
    async with serving(town) as service:
        await ask_and_hang_up(service.url)
        held = await call_of(service.url, state="pending", listener="gone")
        code, told = await command(town, "approve", held["id"], "--yes")
        assert code == 0, told
        parked_call = await call_of(service.url, state="approved")
        assert (parked_call["released_by"], town.bought()) == (None, [])
        code, told = await command(town, "run", held["id"], "--yes")
        assert (code, "runs now" in told) == (0, True), told
        done = await call_of(service.url, state="executed")
        assert done["released_by"] == "ann"
        code, told = await command(town, "run", held["id"], "--yes")
        assert (code, "is executed" in told) == (0, True), told
        code, told = await command(town, "audit", "verify")
        assert code == 0, told
    assert town.bought() == ["+14155550100"]
