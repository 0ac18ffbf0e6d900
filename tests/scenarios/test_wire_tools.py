"""Our three tools on the wire: offered wherever something can be held, and named only there."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from approval.core.audit import Entry, Tag
from approval.core.rulebook import Rulebook
from approval.gateway.settings import UpstreamSettings
from tests.factories import (
    ALLOW_EVERYTHING,
    OTHER_AGENT_TOKEN,
    make_directory,
    make_policy,
    make_rulebook,
)
from tests.gateway.scripted import Scripted, answer, nothing_special, scripted
from tests.gateway.wire import (
    BRIEF,
    ERAS,
    GATE_EFFECTS,
    RawAgent,
    Wire,
    serve,
    settings,
    store_away,
)

NAMES = ["approval_wait", "approval_status", "approval_cancel"]
NO_WAIT = settings(wait=timedelta(milliseconds=1), wait_with_progress=timedelta(milliseconds=1))
RELOADED = Entry(tag=Tag.POLICY_LOAD, subject="policy", actor="test")


def spending(limits: Mapping[str, object] | None = None, /, **spend: object) -> dict[str, object]:
    return {
        "dialect": "approval-1",
        "version": "1",
        "default": "allow",
        "defaults": {"require_approval": {"approvers": "finance"}},
        "meters": limits or {},
        "tools": {"effect": {"spend": spend}},
    }


POT: Mapping[str, object] = {
    "limit": "1.00 USD",
    "window": {"all_time": True},
    "scope": [],
    "soft": {"override_by": "finance", "up_to": "10.00 USD"},
    "over": "ask",
}
HOLDING: Mapping[str, Mapping[str, object]] = {
    "a gate": GATE_EFFECTS,
    "a price that is typed": spending(amount={"ask": True, "up_to": "5.00 USD"}),
    "a price that is missing": spending(
        amount={"argument": "/amount", "unit": "minor", "currency": "USD"},
        on_unknown="gate",
        per_call="5.00 USD",
    ),
    "a meter that asks": spending({"pot": POT}, amount={"fixed": "2.00 USD"}, meters=["pot"]),
}


@asynccontextmanager
async def offering(
    folder: Path, document: Mapping[str, object] = GATE_EFFECTS, **shop: Any
) -> AsyncIterator[tuple[Wire, Scripted]]:
    """Serve an upstream whose every tool says "done", to agents who do not wait."""
    async with (
        scripted(nothing_special) as upstream,
        serve(
            folder, UpstreamSettings(url=upstream.url, **shop), document, gateway_settings=NO_WAIT
        ) as wire,
    ):
        yield wire, upstream


async def listed(agent: RawAgent) -> list[str]:
    return [tool["name"] for tool in (await agent.ask("tools/list")).result["tools"]]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("document", HOLDING.values(), ids=HOLDING)
async def test_whatever_holds_a_call_offers_the_tools_to_collect_and_withdraw_it(
    document: Mapping[str, object], era: str, tmp_path: Path
) -> None:
    async with offering(tmp_path, document) as (wire, upstream):
        agent = await RawAgent.connected(wire, era)
        assert await listed(agent) == ["echo", *NAMES]
        pending = await agent.call("effect")
        assert "Call approval_wait with this id" in pending.text
        asked = {"id": pending.told["id"]}
        for tool, state in zip(NAMES, ("pending", "pending", "cancelled"), strict=True):
            assert (await agent.call(tool, asked)).told["state"] == state
        assert upstream.messages("tools/call") == []


@pytest.mark.parametrize("era", ERAS)
async def test_a_policy_of_one_agent_offers_them_to_that_agent_alone(
    era: str, tmp_path: Path
) -> None:
    async with offering(tmp_path, ALLOW_EVERYTHING) as (wire, _):
        gate = make_policy(HOLDING["a price that is typed"])
        narrowing = {("ops-agent", "shop"): gate}
        await wire.service.adopt(replace(wire.service.rules, narrowing=narrowing), RELOADED)
        agent = await RawAgent.connected(wire, era)
        other = await RawAgent.connected(wire, era, token=OTHER_AGENT_TOKEN)
        assert await listed(agent) == ["echo", *NAMES]
        assert await listed(other) == ["echo"]


# --- the gate goes while a call waits ---


def without_gate() -> Rulebook:
    return make_rulebook(ALLOW_EVERYTHING)


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_was_held_is_answered_for_after_its_gate_has_gone(
    era: str, tmp_path: Path
) -> None:
    async with offering(tmp_path) as (wire, upstream):
        agent = await RawAgent.connected(wire, era)
        kept, dropped = [(await agent.call("effect", {"n": n})).told["id"] for n in (1, 2)]
        await wire.service.adopt(without_gate(), RELOADED)
        assert (await agent.call("approval_wait", {"id": kept})).told["state"] == "pending"
        assert (await agent.call("approval_status", {"id": kept})).told["state"] == "pending"
        cancelled = await agent.call("approval_cancel", {"id": dropped})
        assert cancelled.told["state"] == "cancelled"
        assert upstream.messages("tools/call") == []

        await wire.decide(await wire.service.get(kept))
        wire.gateway.settings = BRIEF
        assert (await agent.call("approval_wait", {"id": kept})).text == "done"
        (ran,) = upstream.messages("tools/call")
        assert (ran["params"]["name"], ran["params"]["arguments"]) == ("effect", {"n": 1})


@pytest.mark.parametrize("era", ERAS)
async def test_where_nothing_can_be_held_only_ones_own_calls_are_ours_to_answer_for(
    era: str, tmp_path: Path
) -> None:
    async with offering(tmp_path) as (wire, upstream):
        agent = await RawAgent.connected(wire, era)
        other = await RawAgent.connected(wire, era, token=OTHER_AGENT_TOKEN)
        theirs = (await other.call("effect")).told["id"]
        # While something can be held, every such call is ours.
        assert (await agent.call("approval_wait", {"id": theirs})).told["state"] == "unknown"
        await wire.service.adopt(without_gate(), RELOADED)
        strange: list[dict[str, object]] = [
            {"id": theirs},
            {"id": "apr_" + "0" * 26},
            {"id": "x"},
            {"id": 7},
            {},
        ]
        for tool in NAMES:
            for asked in strange:
                assert (await agent.call(tool, asked)).text == "done"
        assert len(upstream.messages("tools/call")) == len(NAMES) * len(strange)
        # "As any other" is: judged.
        denying = make_policy({**ALLOW_EVERYTHING, "default": "deny"})
        rules = Rulebook(directory=make_directory(), policies={"shop": denying})
        await wire.service.adopt(rules, RELOADED)
        assert (await agent.call("approval_cancel", {"id": "x"})).told["state"] == "denied"


@pytest.mark.parametrize("era", ERAS)
async def test_an_id_that_cannot_be_looked_up_never_goes_to_the_upstream(
    era: str, tmp_path: Path
) -> None:
    async with offering(tmp_path) as (wire, upstream):
        agent = await RawAgent.connected(wire, era)
        asked = {"id": (await agent.call("effect")).told["id"]}
        await wire.service.adopt(without_gate(), RELOADED)
        with store_away(tmp_path):
            told = (await agent.call("approval_cancel", asked)).told
        assert told["reason_code"] == "store_unavailable"
        assert upstream.messages("tools/call") == []


# --- they are not offered ---


@pytest.mark.parametrize("era", ERAS)
async def test_without_our_tools_an_agent_is_told_what_works_and_it_works(
    era: str, tmp_path: Path
) -> None:
    async with offering(tmp_path, approval_tools=False) as (wire, upstream):
        agent = await RawAgent.connected(wire, era)
        rules = wire.service.rules
        bounded = replace(rules.directory.agents["ops-agent"], max_pending=1)
        agents = {**rules.directory.agents, "ops-agent": bounded}
        directory = replace(rules.directory, agents=agents)
        await wire.service.adopt(replace(rules, directory=directory), RELOADED)

        pending = await agent.call("effect")
        assert "approval_" not in pending.text
        assert "Repeat exactly this call later" in pending.text
        refused = await agent.call("effect", {"n": 2})
        assert refused.told["reason_code"] == "too_many_pending"
        assert refused.text.endswith(
            " Wait until one of them is decided. Nobody was asked about this one. You may repeat"
            " it then."
        )
        assert "approval_" not in str(refused.result)

        await wire.approve()
        wire.gateway.settings = BRIEF
        assert (await agent.call("effect")).text == "done"
        assert len(upstream.messages("tools/call")) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_without_our_tools_an_outcome_that_nobody_knows_is_told_without_them(
    era: str, tmp_path: Path
) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        return web.Response(status=500) if message.get("method") == "tools/call" else None

    async with scripted(handler) as upstream, asyncio.TaskGroup() as tasks:
        shop = UpstreamSettings(url=upstream.url, approval_tools=False)
        async with serve(tmp_path, shop) as wire:
            agent = await RawAgent.connected(wire, era)
            asking = tasks.create_task(agent.call("effect"))
            call = await wire.approve()
            for told in (await asking, await agent.call("effect")):
                assert told.told["state"] == "in_doubt"
                assert f"A person is asked to find out, as call {call.id}." in told.text
                assert "approval_" not in told.text
            assert len(upstream.messages("tools/call")) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_nobody_is_sent_to_an_upstreams_own_tool_of_our_name(
    era: str, tmp_path: Path
) -> None:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse | None:
        if message.get("method") != "tools/list":
            return None
        return answer(message, {"tools": [{"name": "approval_wait", "inputSchema": {}}]})

    async with scripted(handler) as upstream:
        shop = UpstreamSettings(url=upstream.url)
        async with serve(tmp_path, shop, gateway_settings=NO_WAIT) as wire:
            agent = await RawAgent.connected(wire, era)
            # As long as its tools have not been listed, nobody knows.
            assert "approval_wait" in (await agent.call("effect")).text
            assert await listed(agent) == ["approval_wait"]
            pending = await agent.call("effect")
            assert "approval_" not in pending.text
            status = await agent.call("approval_status", {"id": pending.told["id"]})
            assert (status.told["state"], "approval_" in status.text) == ("pending", False)
            # Then even a call of the agent's own is the upstream's to find.
            assert (await agent.call("approval_wait", {"id": pending.told["id"]})).text == "done"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, 'The argument "id" is missing. Give the id, starting with "apr_", that'),
        ({"ID": "apr_1"}, 'The argument "id" is missing. Give the id'),
        ({"id": 7}, 'The argument "id" is not a text. Give the id'),
        ({"id": "apr_1"}, 'No call of yours has the id "apr_1". Give the id'),
    ],
)
async def test_an_id_that_is_not_there_is_told_from_one_that_is_unknown(
    era: str, asked: dict[str, object], said: str, tmp_path: Path
) -> None:
    async with offering(tmp_path) as (wire, _):
        agent = await RawAgent.connected(wire, era)
        for tool in NAMES:
            told = await agent.call(tool, asked)
            assert told.text.startswith(said)
            assert told.told["state"] == "unknown"
