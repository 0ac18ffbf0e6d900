"""Upstreams that misbehave: nothing runs twice, nothing is made up, nobody else is hurt."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from approval.core.call import Status
from approval.gateway.settings import UpstreamSettings
from approval.sending import Settings as ServiceSettings
from tests.fakes.http_upstream import Misbehaviour, closed_port, http_upstream
from tests.fakes.launch import effects, noisy_command
from tests.gateway.wire import ERAS, LEGACY, MODERN, RawAgent, Wire, command, serve, settings

HASTY = ServiceSettings(upstream_timeout=timedelta(milliseconds=300))

ENDS = {
    Misbehaviour.NONE: Status.EXECUTED,
    Misbehaviour.CLOSE_AFTER_BODY: Status.IN_DOUBT,
    Misbehaviour.ERROR_500_HTML: Status.IN_DOUBT,
    Misbehaviour.SESSION_404: Status.FAILED,
    Misbehaviour.NEVER_ANSWER: Status.IN_DOUBT,
    Misbehaviour.HALF_JSON: Status.IN_DOUBT,
    Misbehaviour.CUT_STREAM: Status.IN_DOUBT,
    Misbehaviour.ENDLESS_SSE: Status.IN_DOUBT,
    Misbehaviour.REDIRECT: Status.FAILED,
    Misbehaviour.WRONG_ID: Status.IN_DOUBT,
    Misbehaviour.TWO_RESULTS: Status.EXECUTED,
    Misbehaviour.HUGE_BODY: Status.IN_DOUBT,
}


def test_every_misbehaviour_has_its_end() -> None:
    assert {*ENDS, Misbehaviour.CLOSE_ON_ACCEPT} == set(Misbehaviour)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("misbehaviour", ENDS, ids=str)
async def test_a_gated_call_is_sent_once_and_its_outcome_is_never_made_up(
    misbehaviour: Misbehaviour, era: str, tmp_path: Path
) -> None:
    async with (
        http_upstream(misbehaviour) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url), service_settings=HASTY) as wire,
        asyncio.TaskGroup() as tasks,
    ):
        agent = await RawAgent.connected(wire, era)
        asking = tasks.create_task(agent.call("effect", {"n": 1}))
        held = await wire.approve()
        answered = await asking
        ended = await wire.service.get(held.id)
        assert ended.status is ENDS[misbehaviour]
        if ended.status is Status.EXECUTED:
            assert answered.text in {"done", "first"}
        else:
            assert answered.told["state"] == str(ended.status)
            assert answered.told["retryable"] is (ended.status is Status.FAILED)
        assert len(upstream.trapped) == 1
        if ended.status is Status.IN_DOUBT:
            # A repeat joins the doubt; it is not sent again.
            repeated = await agent.call("effect", {"n": 1})
            assert (repeated.told["state"], repeated.told["id"]) == ("in_doubt", held.id)
            assert len(upstream.trapped) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_gated_call_that_reaches_nobody_has_failed(era: str, tmp_path: Path) -> None:
    with closed_port() as url:
        async with serve(tmp_path, UpstreamSettings(url=url)) as wire, asyncio.TaskGroup() as tasks:
            agent = RawAgent(wire, era)
            asking = tasks.create_task(agent.call("effect"))
            await wire.approve()
            assert (await asking).told["state"] == "failed"


async def test_a_detached_call_whose_upstream_accepts_nothing_has_failed(tmp_path: Path) -> None:
    no_wait = settings(wait=timedelta(milliseconds=1))
    async with (
        http_upstream(Misbehaviour.CLOSE_ON_ACCEPT) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url), gateway_settings=no_wait) as wire,
    ):
        await RawAgent(wire, LEGACY).call("effect")
        await wire.approve()
        await wire.service.release_due(wire.gateway.send_detached)
        # The handshake failed, so the call itself never left.
        await wire.until(Status.FAILED)
        assert upstream.trapped == []


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("misbehaviour", "status"),
    [
        (Misbehaviour.CLOSE_AFTER_BODY, 502),
        (Misbehaviour.ERROR_500_HTML, 502),
        (Misbehaviour.SESSION_404, 404),
        (Misbehaviour.HALF_JSON, 502),
        (Misbehaviour.REDIRECT, 502),
        (Misbehaviour.WRONG_ID, 502),
        (Misbehaviour.HUGE_BODY, 502),
    ],
    ids=str,
)
async def test_an_allowed_call_that_got_no_answer_says_so(
    misbehaviour: Misbehaviour, status: int, era: str, tmp_path: Path
) -> None:
    async with (
        http_upstream(misbehaviour) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url)) as wire,
    ):
        agent = await RawAgent.connected(wire, era)
        answered = await agent.call("echo")
        assert answered.status == status
        assert answered.headers["Content-Type"] == "application/json"
        assert len(upstream.trapped) == 1
        assert (await agent.ask("tools/list")).status == (
            404 if misbehaviour is Misbehaviour.SESSION_404 and era == LEGACY else 200
        )


@pytest.mark.parametrize("era", ERAS)
async def test_a_stream_that_breaks_off_ends_with_an_error(era: str, tmp_path: Path) -> None:
    async with (
        http_upstream(Misbehaviour.CUT_STREAM) as upstream,
        serve(tmp_path, UpstreamSettings(url=upstream.url)) as wire,
    ):
        agent = await RawAgent.connected(wire, era)
        answered = await agent.call("echo")
        assert answered.status == 200
        assert answered.error["message"].endswith("what it did is not known.")
        assert await wire.outcomes() == ["lost"]


@asynccontextmanager
async def noisy(folder: Path, *flags: str) -> AsyncIterator[Wire]:
    upstream = command(noisy_command("--log", str(folder / "effects"), *flags))
    async with serve(folder, upstream, service_settings=HASTY) as wire:
        yield wire


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "flags",
    [
        ["--log-before-initialize"],
        ["--tools", "400"],
        ["--long-line", "70000"],
        ["--long-line", "2000000"],
        ["--garbage"],
        ["--duplicate-answer"],
        ["--stderr", "1000000"],
        ["--linger"],
    ],
    ids=" ".join,
)
async def test_noise_of_a_program_does_not_reach_its_agent(
    flags: list[str], era: str, tmp_path: Path
) -> None:
    async with noisy(tmp_path, *flags) as wire:
        agent = await RawAgent.connected(wire, era)
        listed = (await agent.ask("tools/list")).result["tools"]
        assert len(listed) == 5 + (400 if "--tools" in flags else 0)
        answered = await agent.call("echo", {"n": 1})
        assert len(answered.messages) == 1
        wanted = int(flags[1]) if "--long-line" in flags else len('{"n": 1}')
        assert len(answered.text) == wanted
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(agent.call("effect", {"n": 2}))
            await wire.approve()
            assert len((await asking).text) == wanted
    assert [each["tool"] for each in effects(tmp_path / "effects")] == ["echo", "effect"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("flags", "count"),
    [
        (["--crash-on", "effect"], 0),
        (["--execute-and-crash"], 1),
        (["--hang-on", "effect"], 0),
        (["--wrong-id"], 1),
    ],
    ids=str,
)
async def test_a_gated_call_to_a_program_that_does_not_answer_is_in_doubt(
    flags: list[str], count: int, era: str, tmp_path: Path
) -> None:
    async with noisy(tmp_path, *flags) as wire, asyncio.TaskGroup() as tasks:
        agent = await RawAgent.connected(wire, era)
        asking = tasks.create_task(agent.call("effect"))
        await wire.approve()
        assert (await asking).told["state"] == "in_doubt"
    assert len(effects(tmp_path / "effects")) == count


@pytest.mark.parametrize("era", ERAS)
async def test_a_program_that_dies_at_its_start_is_said_to_be_away(
    era: str, tmp_path: Path
) -> None:
    async with noisy(tmp_path, "--crash-before-initialize") as wire:
        agent = RawAgent(wire, era)
        answered = await (agent.initialize() if era == LEGACY else agent.ask("tools/list"))
        assert answered.status == 502
        assert "ended" in answered.error["message"]


async def test_a_crash_ends_one_session_and_no_other(tmp_path: Path) -> None:
    async with noisy(tmp_path, "--crash-on", "echo") as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        other = await RawAgent.connected(wire, LEGACY)
        crashed = await agent.call("echo")
        assert crashed.status == 502
        assert (await agent.ask("tools/list")).status == 404  # so that it initialises anew
        assert len((await other.ask("tools/list")).result["tools"]) == 5
        agent.session = ""
        await agent.initialize()
        assert (await agent.ask("tools/list")).status == 200


async def test_a_crash_of_the_shared_program_is_followed_by_a_new_one(tmp_path: Path) -> None:
    async with noisy(tmp_path, "--crash-on", "echo") as wire:
        agent = RawAgent(wire, MODERN)
        assert (await agent.call("echo")).status == 502
        assert len((await agent.ask("tools/list")).result["tools"]) == 5


@pytest.mark.parametrize("era", ERAS)
async def test_a_program_that_cannot_be_started_is_said_to_be_away(
    era: str, tmp_path: Path
) -> None:
    async with serve(tmp_path, command(["no-such-program-here"])) as wire:
        agent = RawAgent(wire, era)
        answered = await (agent.initialize() if era == LEGACY else agent.ask("tools/list"))
        assert answered.status == 502
        assert "cannot be started" in answered.error["message"]
