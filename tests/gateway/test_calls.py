"""What becomes of a tool call by its verdict; how it waits is told in the scenarios."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from approval.core.audit import Entry, Tag
from approval.core.call import Choice, Listener, Status
from approval.core.steps import Ballot
from approval.gateway.settings import UpstreamSettings
from approval.sending import Settings as ServiceSettings
from tests.factories import make_rulebook, make_service
from tests.fakes.http_upstream import closed_port
from tests.gateway.scripted import Scripted, answer, nothing_special, scripted, text
from tests.gateway.wire import (
    ERAS,
    GATE_EFFECTS,
    LEGACY,
    MODERN,
    RawAgent,
    Stream,
    serve,
    settings,
    store_away,
)

RELOADED = Entry(tag=Tag.POLICY_LOAD, subject="policy", actor="test")


def of(upstream: Scripted) -> UpstreamSettings:
    return UpstreamSettings(url=upstream.url)


@pytest.mark.parametrize("era", ERAS)
async def test_while_nothing_can_be_recorded_calls_are_refused_as_retryable(
    era: str, tmp_path: Path
) -> None:
    async with scripted(nothing_special) as upstream, serve(tmp_path, of(upstream)) as wire:
        agent = await RawAgent.connected(wire, era)
        with store_away(tmp_path):
            for tool in ("echo", "effect"):
                refused = await agent.call(tool)
                assert refused.result["isError"] is True
                assert (refused.told["state"], refused.told["retryable"]) == ("refused", True)
                assert refused.told["reason_code"] == "store_unavailable"
            # A denial needs no record to stand, and everything else passes.
            assert (await agent.call("forbidden")).told["state"] == "denied"
            assert (await agent.ask("ping" if era == LEGACY else "tools/list")).status == 200
        assert upstream.messages("tools/call") == []
        assert (await agent.call("echo")).text == "done"


async def test_the_operator_can_let_allowed_calls_go_on_unrecorded(tmp_path: Path) -> None:
    async with (
        scripted(nothing_special) as upstream,
        serve(
            tmp_path, of(upstream), gateway_settings=settings(audit_on_store_down="allow")
        ) as wire,
    ):
        agent = RawAgent(wire, MODERN)
        with store_away(tmp_path):
            assert (await agent.call("echo")).text == "done"
            assert (await agent.call("effect")).told["reason_code"] == "store_unavailable"
        assert len(upstream.messages("tools/call")) == 1


async def test_a_held_call_outlives_a_store_that_goes_away(tmp_path: Path) -> None:
    async with (
        scripted(nothing_special) as upstream,
        serve(tmp_path, of(upstream)) as wire,
        asyncio.TaskGroup() as tasks,
    ):
        agent = RawAgent(wire, MODERN)
        asking = tasks.create_task(agent.call("effect"))
        held = await wire.held()
        with store_away(tmp_path):
            await wire.gateway.drain()
            assert (await asking).told["state"] == "pending"
            again = await agent.call("approval_cancel", {"id": held.id})
            assert again.told["reason_code"] == "store_unavailable"
        assert (await wire.service.get(held.id)).status is Status.PENDING


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        ({"result": text("x")}, "executed"),
        ({"result": {**text("x"), "isError": True}}, "errored"),
        ({"error": {"code": -32603, "message": "x"}}, "error"),
    ],
)
async def test_the_outcome_of_an_allowed_call_is_in_the_trail(
    result: dict[str, Any], outcome: str, tmp_path: Path
) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "tools/call":
            return None
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], **result})

    async with scripted(handler) as upstream, serve(tmp_path, of(upstream)) as wire:
        await RawAgent(wire, MODERN).call("echo")
        assert await wire.outcomes() == [outcome]


async def test_the_outcome_of_an_allowed_call_is_told_of_that_call_by_its_upstream(
    tmp_path: Path,
) -> None:
    async with scripted(nothing_special) as upstream, serve(tmp_path, of(upstream)) as wire:
        await RawAgent(wire, MODERN).call("echo")
        assert await wire.outcomes() == ["executed"]
        lines = [json.loads(each.body) for each in await wire.service.trail()]
        allowed, answered = lines[-2:]
        assert (allowed["tag"], answered["tag"]) == (Tag.CALL_ALLOW, Tag.CALL_ANSWER)
        assert allowed["subject"] == answered["subject"] != ""
        assert (allowed["actor"], answered["actor"]) == ("agent:ops-agent", "upstream:shop")


async def test_an_allowed_call_that_the_upstream_refuses_is_in_the_trail(tmp_path: Path) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        return web.Response(status=404) if message.get("method") == "tools/call" else None

    async with scripted(handler) as upstream, serve(tmp_path, of(upstream)) as wire:
        assert (await RawAgent(wire, MODERN).call("echo")).status == 404
        assert await wire.outcomes() == ["http 404"]


async def test_an_allowed_call_that_reaches_nobody_is_in_the_trail(tmp_path: Path) -> None:
    with closed_port() as url:
        async with serve(tmp_path, UpstreamSettings(url=url)) as wire:
            refused = await RawAgent(wire, MODERN).call("echo")
            assert (refused.status, refused.error["code"]) == (502, -32603)
            assert "cannot be reached" in refused.error["message"]
            assert await wire.outcomes() == ["unsent"]


async def test_an_agent_holds_so_many_calls_and_no_more(tmp_path: Path) -> None:
    few = ServiceSettings(max_in_flight=1)
    async with (
        scripted(nothing_special) as upstream,
        serve(tmp_path, of(upstream), service_settings=few) as wire,
        asyncio.TaskGroup() as tasks,
    ):
        agent = RawAgent(wire, MODERN)
        asking = tasks.create_task(agent.call("effect", {"n": 1}))
        await wire.held()
        refused = await agent.call("effect", {"n": 2})
        assert (refused.told["state"], refused.told["retryable"]) == ("refused", True)
        assert refused.told["reason_code"] == "too_many_in_flight"
        await wire.approve()
        await asking


@pytest.mark.parametrize("era", ERAS)
async def test_an_agent_with_too_many_pending_calls_is_told_what_to_do_about_it(
    tmp_path: Path, era: str
) -> None:
    impatient = settings(wait=timedelta(milliseconds=50))
    async with (
        scripted(nothing_special) as upstream,
        serve(tmp_path, of(upstream), gateway_settings=impatient) as wire,
    ):
        rules = wire.service.rules
        bounded = replace(rules.directory.agents["ops-agent"], max_pending=1)
        agents = {**rules.directory.agents, "ops-agent": bounded}
        directory = replace(rules.directory, agents=agents)
        await wire.service.adopt(replace(rules, directory=directory), RELOADED)

        agent = await RawAgent.connected(wire, era)
        first = await agent.call("effect", {"n": 1})
        assert first.told["state"] == "pending"
        refused = await agent.call("effect", {"n": 2})
        assert refused.result["isError"] is True
        assert refused.text.startswith(
            "DENIED, NOT EXECUTED: At most 1 call of this agent may wait for people at once (now:"
            " 1). Wait until one of them is decided. You can also withdraw one with"
            " approval_cancel. Nobody was asked about this one. You may repeat it then."
        )
        assert refused.told == {
            "state": "denied",
            "retryable": True,
            "reason_code": "too_many_pending",
            "decided_by": "policy",
            "reason": refused.told["reason"],
        }
        # The same call again is the one that waits, and what it says to do helps.
        assert (await agent.call("effect", {"n": 1})).told["id"] == first.told["id"]
        await agent.call("approval_cancel", {"id": first.told["id"]})
        assert (await agent.call("effect", {"n": 2})).told["state"] == "pending"
        assert (await wire.trail()).count("call:deny") == 1
        assert upstream.messages("tools/call") == []


async def test_an_approved_call_runs_in_its_agents_session_or_in_a_fresh_one(
    tmp_path: Path,
) -> None:
    names = iter(["first", "second", "third"])

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "initialize":
            return None
        return answer(
            message,
            {"protocolVersion": LEGACY, "capabilities": {}, "serverInfo": {}},
            Mcp_Session_Id=next(names),
        )

    async with scripted(handler) as upstream, serve(tmp_path, of(upstream)) as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(agent.call("effect", {"n": 1}))
            await wire.approve()
            assert (await asking).text == "done"
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(agent.call("effect", {"n": 2}))
            held = await wire.held()
            await agent.delete()
            await wire.decide(held)
            assert (await asking).text == "done"
        calls = [
            (headers["Mcp-Session-Id"], message["params"]["arguments"])
            for _, headers, message in upstream.requests
            if message.get("method") == "tools/call"
        ]
        assert calls == [("first", {"n": 1}), ("second", {"n": 2})]
        fresh = [m for _, h, m in upstream.requests if h.get("Mcp-Session-Id") == "second"]
        assert [each.get("method") for each in fresh] == [
            "notifications/initialized",
            "tools/call",
            None,
        ]
        shaken = upstream.messages("initialize")[1]["params"]
        assert (shaken["capabilities"], shaken["protocolVersion"]) == ({}, LEGACY)


async def test_what_is_cancelled_is_only_the_sessions_own(tmp_path: Path) -> None:
    async with (
        scripted(nothing_special) as upstream,
        serve(tmp_path, of(upstream)) as wire,
        asyncio.TaskGroup() as tasks,
    ):
        agent = await RawAgent.connected(wire, LEGACY)
        other = await RawAgent.connected(wire, LEGACY)
        message = agent.call_message("effect", request_id=5)
        asking = tasks.create_task(agent.post(message))
        held = await wire.held()
        for params in ({"requestId": 5}, {"requestId": [5]}, {}):
            assert (await other.notify("notifications/cancelled", params)).status == 202
        assert (await agent.notify("notifications/cancelled", {"requestId": 6})).status == 202
        # What is about no held call of the session is the upstream's to hear.
        assert len(upstream.messages("notifications/cancelled")) == 4
        assert (await wire.service.get(held.id)).status is Status.PENDING
        await wire.decide(held)
        assert (await asking).text == "done"


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("Request timed out", Status.PENDING),
        ("client time-out", Status.PENDING),
        ("TimeoutError", Status.PENDING),
        ("TIMED-OUT", Status.PENDING),
        (None, Status.CANCELLED),
        ("changed my mind this time", Status.CANCELLED),
    ],
)
async def test_giving_up_the_wait_is_no_change_of_mind(
    tmp_path: Path, reason: str | None, status: Status
) -> None:
    async with (
        scripted(nothing_special) as upstream,
        serve(tmp_path, of(upstream)) as wire,
        asyncio.TaskGroup() as tasks,
    ):
        agent = await RawAgent.connected(wire, LEGACY)
        asking = tasks.create_task(agent.post(agent.call_message("effect", request_id=5)))
        held = await wire.held()
        await agent.notify("notifications/cancelled", {"requestId": 5, "reason": reason})
        await asking
        assert (await wire.service.get(held.id)).status is status


async def test_a_cancellation_that_comes_too_late_lets_the_call_go_on(tmp_path: Path) -> None:
    running, finish = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") == "tools/call":
            running.set()
            await finish.wait()
        return None

    async with (
        scripted(handler) as upstream,
        serve(tmp_path, of(upstream)) as wire,
        asyncio.TaskGroup() as tasks,
    ):
        agent = await RawAgent.connected(wire, LEGACY)
        asking = tasks.create_task(agent.post(agent.call_message("effect", request_id=5)))
        await wire.approve()
        await running.wait()
        await agent.notify("notifications/cancelled", {"requestId": 5})
        assert (await asking).messages == []
        finish.set()
        executed = await wire.until(Status.EXECUTED)
        assert (await agent.call("approval_wait", {"id": executed.id})).text == "done"
        assert len(upstream.messages("tools/call")) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_asking_for_a_parked_call_runs_it(era: str, tmp_path: Path) -> None:
    async with scripted(nothing_special) as upstream, serve(tmp_path, of(upstream)) as wire:
        agent = await RawAgent.connected(wire, era)
        async with agent.opened(agent.call_message("effect", {"n": 1})) as response:
            await Stream(response).until(bool)
            held = await wire.held()
        await wire.listener(held, Listener.GONE)
        await wire.decide(held)
        waited = await agent.call("approval_wait", {"id": held.id}, meta={"progressToken": 1})
        assert waited.text == "done"
        (sent,) = upstream.messages("tools/call")
        assert (sent["params"]["name"], sent["params"]["arguments"]) == ("effect", {"n": 1})
        assert sent["params"]["_meta"]["progressToken"] == 1


async def test_an_approval_is_started_again_until_it_can_be_claimed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        scripted(nothing_special) as upstream,
        serve(tmp_path, of(upstream)) as wire,
        make_service(tmp_path, rules=make_rulebook(GATE_EFFECTS), clock=wire.clock) as elsewhere,
        asyncio.TaskGroup() as tasks,
    ):
        agent = RawAgent(wire, MODERN)
        asking = tasks.create_task(agent.call("effect"))
        held = await wire.held()
        ballot = Ballot(person="ann", choice=Choice.APPROVE, digest=held.digest, via="test")
        await elsewhere.decide(held.id, ballot)
        with store_away(tmp_path):
            await wire.service.poll()  # hears of it, and cannot claim it
            while "work in the background failed" not in caplog.text:
                assert (await wire.service.get(held.id)).status is Status.APPROVED
        assert (await asking).text == "done"
        assert len(upstream.messages("tools/call")) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_an_error_of_the_upstream_is_handed_over_as_it_came(era: str, tmp_path: Path) -> None:
    error = {"code": -32050, "message": "No.", "data": {"n": 1.50}}

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "tools/call":
            return None
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": error})

    async with (
        scripted(handler) as upstream,
        serve(tmp_path, of(upstream)) as wire,
        asyncio.TaskGroup() as tasks,
    ):
        agent = await RawAgent.connected(wire, era)
        asking = tasks.create_task(agent.call("effect"))
        held = await wire.approve()
        assert (await asking).error == error
        assert (await wire.service.get(held.id)).status is Status.ERRORED
