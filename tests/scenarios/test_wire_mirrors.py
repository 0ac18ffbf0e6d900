"""A call that runs without its agent carries the headers that its tool wants arguments repeated in.

The upstream is the official SDK's server, which refuses such a call without them.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from approval.core.call import Listener, Status
from approval.gateway.settings import GatewaySettings, UpstreamSettings
from tests.fakes.launch import effects, fixture_over_http
from tests.gateway.wire import BRIEF, MODERN, RawAgent, Wire, serve, settings

NO_WAIT = settings(wait=timedelta(milliseconds=1), wait_with_progress=timedelta(milliseconds=1))
GATED: Mapping[str, object] = {
    "dialect": "approval-1",
    "version": "1",
    "default": "allow",
    "tools": {"ship": {"require_approval": [{"approvers": "finance", "run": "on_approval"}]}},
}
PARCEL = {"region": "Århus", "parcel": {"grams": 250}, "fragile": True}
HEADERS = {
    "Mcp_Param_Region": "=?base64?w4VyaHVz?=",
    "Mcp_Param_Grams": "250",
    "Mcp_Param_Fragile": "true",
}


@asynccontextmanager
async def shipping(folder: Path, gateway: GatewaySettings = BRIEF) -> AsyncIterator[Wire]:
    async with (
        fixture_over_http("--log", str(folder / "effects")) as url,
        serve(folder, UpstreamSettings(url=url), GATED, gateway_settings=gateway) as wire,
    ):
        yield wire


def ran(folder: Path) -> list[Any]:
    return [each["arguments"] for each in effects(folder / "effects")]


async def test_the_server_refuses_a_call_that_leaves_them_out(tmp_path: Path) -> None:
    async with shipping(tmp_path) as wire, asyncio.TaskGroup() as tasks:
        agent = await RawAgent.connected(wire, MODERN)
        asking = tasks.create_task(agent.call("ship", PARCEL))
        await wire.approve()
        assert (await asking).told["state"] == "failed"
    assert ran(tmp_path) == []


async def test_a_call_that_is_approved_after_its_agent_hung_up_carries_them(tmp_path: Path) -> None:
    async with shipping(tmp_path) as wire:
        agent = await RawAgent.connected(wire, MODERN)
        async with agent.opened(agent.call_message("ship", PARCEL), **HEADERS):
            held = await wire.held()
        await wire.listener(held, Listener.GONE)
        await wire.decide(held)
        assert await wire.service.release_due(wire.gateway.send_detached) == 1
        done = await wire.until(Status.EXECUTED, Status.FAILED, Status.ERRORED, Status.IN_DOUBT)
        assert done.status is Status.EXECUTED
        repeat = agent.call_message("ship", PARCEL)
        assert (await agent.post(repeat, **HEADERS)).text == "to Århus"
    assert ran(tmp_path) == [PARCEL]


async def test_a_call_that_is_collected_through_approval_wait_carries_them(tmp_path: Path) -> None:
    async with shipping(tmp_path, NO_WAIT) as wire, asyncio.TaskGroup() as tasks:
        agent = await RawAgent.connected(wire, MODERN)
        told = (await agent.post(agent.call_message("ship", PARCEL), **HEADERS)).told
        wire.gateway.settings = BRIEF
        waiting = tasks.create_task(agent.call("approval_wait", {"id": told["id"]}))
        await wire.approve()
        assert (await waiting).text == "to Århus"
        # No argument, no header: the server wants none of them either.
        wire.gateway.settings = NO_WAIT
        told = (await agent.call("ship", {"parcel": {}})).told
        wire.gateway.settings = BRIEF
        waiting = tasks.create_task(agent.call("approval_wait", {"id": told["id"]}))
        await wire.approve()
        assert (await waiting).text == "to None"
    assert ran(tmp_path) == [PARCEL, {"parcel": {}}]
