"""A held call on the wire: what its agent hears while it waits, and how it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest

from approval.core.call import Choice, Listener, Status
from approval.gateway.settings import GatewaySettings, UpstreamSettings
from tests.factories import OTHER_AGENT_TOKEN
from tests.fakes.http_upstream import Upstream, http_upstream
from tests.fakes.launch import effects, fixture_command, fixture_over_http, noisy_command
from tests.gateway.wire import (
    BRIEF,
    ERAS,
    LEGACY,
    MODERN,
    Answered,
    RawAgent,
    Stream,
    Wire,
    command,
    serve,
    settings,
)

NO_WAIT = settings(wait=timedelta(milliseconds=1), wait_with_progress=timedelta(milliseconds=1))

pytestmark = pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")


@asynccontextmanager
async def noisy(
    folder: Path, gateway_settings: GatewaySettings = BRIEF, *flags: str
) -> AsyncIterator[Wire]:
    """Serve the standard-library server, whose effects are in `effects`."""
    upstream = command(noisy_command("--log", str(folder / "effects"), *flags))
    async with serve(folder, upstream, gateway_settings=gateway_settings) as wire:
        yield wire


def over(upstream: Upstream, folder: Path) -> AbstractAsyncContextManager[Wire]:
    return serve(folder, UpstreamSettings(url=upstream.url))


def ran(folder: Path) -> list[object]:
    return [each["arguments"] for each in effects(folder / "effects")]


@pytest.mark.parametrize("era", ERAS)
async def test_an_approved_call_runs_once_and_answers_as_if_nothing_had_been(
    era: str, tmp_path: Path
) -> None:
    async with noisy(tmp_path) as wire, asyncio.TaskGroup() as tasks:
        agent = await RawAgent.connected(wire, era)
        asking = tasks.create_task(agent.call("effect", {"b": 1, "a": "é"}))
        held = await wire.held()
        assert ran(tmp_path) == []
        await wire.decide(held)
        answered = await asking
        assert answered.streamed
        assert answered.headers["Cache-Control"] == "no-cache, no-transform"
        assert answered.headers["X-Accel-Buffering"] == "no"
        assert answered.text == '{"a": "\\u00e9", "b": 1}'
        assert "isError" not in answered.result
        call = await wire.settled(held)
        assert (call.status, call.delivered_at is not None) == (Status.EXECUTED, True)
    assert ran(tmp_path) == [{"a": "é", "b": 1}]


@pytest.mark.parametrize("era", ERAS)
async def test_a_rejected_call_never_runs_and_says_who_and_why(era: str, tmp_path: Path) -> None:
    async with noisy(tmp_path) as wire, asyncio.TaskGroup() as tasks:
        agent = await RawAgent.connected(wire, era)
        asking = tasks.create_task(agent.call("effect"))
        await wire.decide(await wire.held(), Choice.REJECT, reason="too dear")
        answered = await asking
        assert answered.result["isError"] is True
        assert answered.text.startswith("REJECTED by ann, NOT EXECUTED")
        assert answered.told["state"] == "rejected"
        assert answered.told["reason"] == "too dear"
        assert ("resultType" in answered.result) == (era == MODERN)
    assert ran(tmp_path) == []


@pytest.mark.parametrize("era", ERAS)
async def test_silence_expires_a_call_and_says_that_nobody_answered(
    era: str, tmp_path: Path
) -> None:
    async with noisy(tmp_path) as wire, asyncio.TaskGroup() as tasks:
        agent = await RawAgent.connected(wire, era)
        asking = tasks.create_task(agent.call("effect"))
        await wire.held()
        wire.clock.advance(minutes=16)
        assert await wire.service.expire_due() == 1
        answered = await asking
        assert answered.told["state"] == "expired"
        assert answered.told["reason_code"] == "nobody_answered"
    assert ran(tmp_path) == []


@pytest.mark.parametrize("era", ERAS)
async def test_a_budget_that_ends_tells_the_agent_that_its_call_is_pending(
    era: str, tmp_path: Path
) -> None:
    async with noisy(tmp_path, NO_WAIT) as wire:
        agent = await RawAgent.connected(wire, era)
        answered = await agent.call("effect")
        assert answered.result["isError"] is True
        assert answered.text.startswith("NOT EXECUTED. This call waits for a person's approval")
        held = await wire.held()
        assert answered.told == {
            "state": "pending",
            "id": held.id,
            "retryable": True,
            "reason_code": "approval_required",
            "retry_after": 15,
            "decide_before": "2026-11-21T12:15:00Z",
        }
        assert held.listener is Listener.TOLD
        # It was told, so it runs without anybody on the line, and is collected later.
        await wire.decide(held)
        assert await wire.service.release_due(wire.gateway.send_detached) == 1
        await wire.until(Status.EXECUTED)
        repeated = await agent.call("effect")
        assert repeated.text == "{}"
        assert not repeated.streamed
        # Delivered once: the next identical call is a new one.
        again = await agent.call("effect")
        assert again.told["state"] == "pending"
        assert again.told["id"] != held.id
    assert ran(tmp_path) == [{}]


async def test_the_name_a_client_gives_itself_sets_its_budget(tmp_path: Path) -> None:
    patient = settings(wait_budgets={"hasty": timedelta(milliseconds=1)})
    async with noisy(tmp_path, patient) as wire:
        for era in ERAS:
            agent = await RawAgent.connected(wire, era, name="hasty")
            assert (await agent.call("effect", {"era": era})).told["state"] == "pending"


@pytest.mark.parametrize("era", ERAS)
async def test_a_waiting_agent_hears_progress_that_only_grows(era: str, tmp_path: Path) -> None:
    async with fixture_over_http() as url, serve(tmp_path, UpstreamSettings(url=url)) as wire:
        agent = await RawAgent.connected(wire, era)
        message = agent.call_message("progress", meta={"progressToken": "mine"})
        async with agent.opened(message) as response:
            stream = Stream(response)
            waiting = [(await stream.next())["params"] for _ in range(3)]
            assert [each["progressToken"] for each in waiting] == ["mine"] * 3
            deadline = "2026-11-21T12:15:00Z"
            assert waiting[0]["message"] == f"waiting for approval by finance until {deadline}"
            await wire.approve()
            rest = []
            while "result" not in (said := await stream.next()):
                rest.append(said["params"])
        steps = [each["progress"] for each in waiting + rest]
        assert steps == sorted(set(steps))
        assert [each["message"] for each in rest][-3:] == ["step 1", "step 2", "step 3"]
        assert [each["progress"] for each in rest][-3:] == [1, 2, 3]


@pytest.mark.parametrize("era", ERAS)
async def test_without_a_token_the_line_is_kept_open_by_comments(era: str, tmp_path: Path) -> None:
    async with noisy(tmp_path) as wire:
        agent = await RawAgent.connected(wire, era)
        async with agent.opened(agent.call_message("effect")) as response:
            stream = Stream(response)
            await stream.until(lambda raw: raw.count(b": \n\n") >= 3)
            await wire.approve()
            assert (await stream.next())["result"]["content"][0]["text"] == "{}"


@pytest.mark.parametrize("era", ERAS)
async def test_an_equal_call_joins_and_a_key_makes_a_second_one(era: str, tmp_path: Path) -> None:
    async with noisy(tmp_path, settings(wait=timedelta(milliseconds=1))) as wire:
        agent = await RawAgent.connected(wire, era)
        first = await agent.call("effect", {"n": 1})
        joined = await agent.call("effect", {"n": 1})
        assert joined.told["id"] == first.told["id"]
        assert (first.told.get("joined"), joined.told.get("joined")) == (None, True)
        second = await agent.call("effect", {"n": 1}, meta={"dev.approval/key": "another"})
        assert second.told["id"] != first.told["id"]
        assert len(await wire.calls()) == 2


@pytest.mark.parametrize("era", ERAS)
async def test_of_two_who_wait_for_one_call_both_get_its_one_result(
    era: str, tmp_path: Path
) -> None:
    async with noisy(tmp_path) as wire, asyncio.TaskGroup() as tasks:
        agent = await RawAgent.connected(wire, era)
        other = await RawAgent.connected(wire, era)
        asking = [tasks.create_task(each.call("effect")) for each in (agent, other)]
        while (await wire.held()).version < 2:  # the second has joined
            await wire.changes.get()
        await wire.approve()
        answers = [await each for each in asking]
        assert [each.text for each in answers] == ["{}", "{}"]
    assert ran(tmp_path) == [{}]


@pytest.mark.parametrize("era", ERAS)
async def test_an_agent_that_hangs_up_detaches_and_collects_later(era: str, tmp_path: Path) -> None:
    async with noisy(tmp_path) as wire:
        agent = await RawAgent.connected(wire, era)
        async with agent.opened(agent.call_message("effect")) as response:
            await Stream(response).until(bool)
            held = await wire.held()
        await wire.listener(held, Listener.GONE)
        await wire.decide(held)
        # It left before it was told anything: nothing runs until it asks.
        assert await wire.service.release_due(wire.gateway.send_detached) == 0
        assert ran(tmp_path) == []
        assert (await agent.call("effect")).text == "{}"
    assert ran(tmp_path) == [{}]


async def test_a_call_goes_on_when_its_agent_leaves_in_the_middle(tmp_path: Path) -> None:
    log = tmp_path / "effects"
    fixture = command(fixture_command("--stdio", "--log", str(log)))
    async with serve(tmp_path, fixture) as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        async with agent.opened(agent.call_message("slow", {"seconds": 0.2})) as response:
            await Stream(response).until(bool)
            await wire.approve()
            await wire.until(Status.EXECUTING)
        executed = await wire.until(Status.EXECUTED)
        assert executed.delivered_at is None
        assert (await agent.call("slow", {"seconds": 0.2})).text == "slow, but here"
    assert len(effects(log)) == 1


async def test_a_cancelled_request_withdraws_its_call_but_a_time_out_does_not(
    tmp_path: Path,
) -> None:
    async with noisy(tmp_path) as wire, asyncio.TaskGroup() as tasks:
        agent = await RawAgent.connected(wire, LEGACY)
        message = agent.call_message("effect", {"n": 1}, request_id="mine")
        asking = tasks.create_task(agent.post(message))
        held = await wire.held()
        gave_up = {"requestId": "mine", "reason": "McpError: Request timed out"}
        assert (await agent.notify("notifications/cancelled", gave_up)).status == 202
        assert (await asking).messages == []
        assert (await wire.service.get(held.id)).status is Status.PENDING

        asking = tasks.create_task(agent.post(message))
        while (await wire.held()).version < 2:
            await wire.changes.get()
        changed_mind = {"requestId": "mine", "reason": "not needed"}
        assert (await agent.notify("notifications/cancelled", changed_mind)).status == 202
        await asking
        cancelled = await wire.service.get(held.id)
        assert cancelled.status is Status.CANCELLED
        assert (cancelled.ended_by, cancelled.note) == ("agent:ops-agent", "not needed")
    assert ran(tmp_path) == []


@pytest.mark.parametrize("era", ERAS)
async def test_the_gateways_own_tools_wait_tell_and_withdraw(era: str, tmp_path: Path) -> None:
    async with noisy(tmp_path, NO_WAIT) as wire, asyncio.TaskGroup() as tasks:
        agent = await RawAgent.connected(wire, era)
        listed = (await agent.ask("tools/list")).result
        names = [tool["name"] for tool in listed["tools"]]
        assert names == ["echo", "effect", "approval_wait", "approval_status", "approval_cancel"]
        pending = await agent.call("effect", {"n": 1})
        call_id = pending.told["id"]
        status = await agent.call("approval_status", {"id": call_id})
        assert (status.told["state"], status.result["isError"]) == ("pending", False)

        wire.gateway.settings = BRIEF
        waiting = tasks.create_task(agent.call("approval_wait", {"id": call_id}))
        await wire.approve()
        assert (await waiting).text == '{"n": 1}'
        assert (await agent.call("approval_wait", {"id": call_id})).text == '{"n": 1}'
        too_late = await agent.call("approval_cancel", {"id": call_id})
        assert too_late.told["state"] == "executed"

        wire.gateway.settings = NO_WAIT
        other = await agent.call("effect", {"n": 2})
        withdrawn = await agent.call("approval_cancel", {"id": other.told["id"]})
        assert withdrawn.told["state"] == "cancelled"
    assert ran(tmp_path) == [{"n": 1}]


@pytest.mark.parametrize("era", ERAS)
async def test_another_agents_call_does_not_exist(era: str, tmp_path: Path) -> None:
    async with noisy(tmp_path, NO_WAIT) as wire:
        agent = await RawAgent.connected(wire, era)
        other = await RawAgent.connected(wire, era, token=OTHER_AGENT_TOKEN)
        call_id = (await agent.call("effect")).told["id"]
        for tool in ("approval_wait", "approval_status", "approval_cancel"):
            foreign = await other.call(tool, {"id": call_id})
            unknown = await other.call(tool, {"id": "apr_" + "0" * 26})
            nonsense = await other.call(tool, {"id": 7})
            assert foreign.told == unknown.told == nonsense.told
            assert foreign.told["state"] == "unknown"
            assert foreign.text.replace(call_id, "") == unknown.text.replace("apr_" + "0" * 26, "")
        assert (await wire.held()).status is Status.PENDING
        # Equal calls of two agents are two calls.
        assert (await other.call("effect")).told["id"] != call_id


@pytest.mark.parametrize("carrier", ["http", "stdio"])
async def test_an_approved_call_may_ask_the_agent_that_holds_its_line(
    carrier: str, tmp_path: Path
) -> None:
    async def accept(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"name": "Ann"})

    async with (
        fixture_over_http() as url,
        serve(
            tmp_path,
            UpstreamSettings(url=url) if carrier == "http" else command(fixture_command("--stdio")),
        ) as wire,
        wire.sdk(LEGACY, elicitation_callback=accept) as client,
        asyncio.TaskGroup() as tasks,
    ):
        asking = tasks.create_task(client.call_tool("elicit", {}))
        await wire.approve()
        answer = (await asking).content[0]
        assert isinstance(answer, types.TextContent)
        assert answer.text == "accept Ann"


async def test_a_detached_call_finds_nobody_to_ask(tmp_path: Path) -> None:
    for carrier in ("http", "stdio"):
        folder = tmp_path / carrier
        folder.mkdir()
        async with (
            fixture_over_http() as url,
            serve(
                folder,
                UpstreamSettings(url=url)
                if carrier == "http"
                else command(fixture_command("--stdio")),
                gateway_settings=NO_WAIT,
            ) as wire,
        ):
            agent = await RawAgent.connected(wire, LEGACY)
            await agent.call("sample")
            await wire.approve()
            await wire.service.release_due(wire.gateway.send_detached)
            await wire.until(Status.ERRORED, Status.FAILED)


@pytest.mark.parametrize("era", ERAS)
async def test_draining_tells_every_waiting_agent_that_its_call_is_pending(
    era: str, tmp_path: Path
) -> None:
    async with noisy(tmp_path) as wire, asyncio.TaskGroup() as tasks:
        agent = await RawAgent.connected(wire, era)
        asking = tasks.create_task(agent.call("effect"))
        held = await wire.held()
        await wire.gateway.drain()
        assert (await asking).told["state"] == "pending"
        assert (await wire.service.get(held.id)).listener is Listener.TOLD


@pytest.mark.parametrize("era", ERAS)
async def test_a_denied_call_says_why_and_a_hidden_tool_is_not_listed(
    era: str, tmp_path: Path
) -> None:
    async with noisy(tmp_path) as wire:
        agent = await RawAgent.connected(wire, era)
        denied = await agent.call("forbidden")
        assert denied.text.startswith("DENIED by policy, NOT EXECUTED: Never.")
        assert (await agent.call("hidden_tool")).told["state"] == "denied"
        assert await wire.trail() == ["call:deny", "call:deny"]
    assert ran(tmp_path) == []


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"name": "effect", "task": {"ttl": 1}}, "params_not_shown"),
        ({"name": "effect", "inputResponses": {}}, "params_not_shown"),
        ({"name": "effect", "arguments": {"n": 2**53}}, "integer_not_safe"),
        ({"name": "effect", "arguments": {"n": "x" * 300_000}}, "arguments_too_large"),
    ],
)
async def test_what_could_change_a_gated_call_unseen_is_refused(
    era: str, params: dict[str, Any], code: str, tmp_path: Path
) -> None:
    async with noisy(tmp_path) as wire:
        agent = await RawAgent.connected(wire, era)
        refused = await agent.ask("tools/call", params)
        assert refused.told["state"] == "refused"
        assert refused.told["reason_code"] == code
        assert await wire.calls() == []
    assert ran(tmp_path) == []


async def test_a_header_that_repeats_no_argument_is_refused_with_a_gated_call(
    tmp_path: Path,
) -> None:
    async with http_upstream() as upstream, over(upstream, tmp_path) as wire:
        agent = RawAgent(wire, MODERN)
        message = agent.call_message("effect", {"region": "eu", "list": [1, True, None, 1.5]})
        async with agent.opened(message, Mcp_Param_Region="us") as response:
            assert b"header_not_shown" in await response.read()
        assert upstream.trapped == []
        for shown in ("eu", "1", "true", "null", "1.5"):
            async with (
                asyncio.TaskGroup() as tasks,
                agent.opened(message, Mcp_Param_Region=shown) as response,
            ):
                reading = tasks.create_task(response.read())
                await wire.approve()
                assert b"done" in await reading
            assert upstream.trapped[-1].header("Mcp-Param-Region") == [shown]


async def test_only_what_the_protocol_needs_is_kept_of_a_gated_calls_meta(tmp_path: Path) -> None:
    async with http_upstream() as upstream, over(upstream, tmp_path) as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        meta = {"progressToken": 1, "traceparent": "t", "secret.example/act": "differently"}
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(agent.call("effect", {"b": 1, "a": 2}, meta=meta))
            await wire.approve()
            answered: Answered = await asking
        assert answered.text == "done"
    sent = upstream.trapped[0]
    assert sent.message["params"] == {
        "name": "effect",
        "arguments": {"a": 2, "b": 1},
        "_meta": {"progressToken": 1, "traceparent": "t"},
    }
    assert b'"arguments":{"a":2,"b":1}' in sent.body
    assert sent.header("Authorization") == []
