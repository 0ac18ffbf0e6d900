"""A purchase, from the agent's request to the shop's ledger, through the whole service."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from approval.app.opening import opened
from approval.app.running import Running, running
from approval.config import load
from approval.core.call import Call, Choice, Listener, Status
from approval.core.steps import Ballot
from approval.demo.agent import Agent, Result, agent
from tests.scenarios.town import AGENT_TOKEN, Town, command, decided, found, serving

BUY = "create_incoming_phone_number"
NUMBER = "+14155550100"
PURCHASE: dict[str, object] = {"phone_number": NUMBER}


async def waiting(service: Running) -> Call:
    """Wait until exactly one call is held, and answer it."""
    async with asyncio.timeout(10):
        while True:
            page = await service.store.find(states={Status.PENDING})
            if page.calls:
                (call,) = page.calls
                return call
            with service.service.wakeups.subscribed() as changes:
                if not (await service.store.find(states={Status.PENDING})).calls:
                    await changes.get()


async def purchase(service: Running, choice: Choice, reason: str = "") -> Result:
    """Have the agent ask, and Ann answer through the API."""
    async with (
        agent(f"{service.url}/mcp/shop", AGENT_TOKEN) as client,
        asyncio.TaskGroup() as tasks,
    ):
        buying = tasks.create_task(client.call(BUY, PURCHASE))
        call = await waiting(service)
        await decide(service.url, call, choice, reason)
        return await buying


async def decide(url: str, call: Call, choice: Choice, reason: str) -> None:
    status, told = await decided(url, call, choice, reason=reason)
    assert status == 200, told


async def test_an_approved_purchase_is_made_exactly_once(tmp_path: Path) -> None:
    town = found(tmp_path)
    async with running(load(town.config)) as service:
        result = await purchase(service, Choice.APPROVE)
        report = await service.store.verify()
    assert not result.is_error
    assert result.structured["phone_number"] == NUMBER
    assert town.bought() == [NUMBER]
    assert report.problems == ()


async def test_a_rejected_purchase_is_never_made_and_the_agent_is_told_why(tmp_path: Path) -> None:
    town = found(tmp_path)
    async with running(load(town.config)) as service:
        result = await purchase(service, Choice.REJECT, "not this month")
    assert (result.is_error, result.state) == (True, "rejected")
    assert "not this month" in result.text
    assert town.bought() == []


async def test_what_needs_nobody_passes_and_what_is_not_listed_does_not(tmp_path: Path) -> None:
    town = found(tmp_path)
    async with (
        running(load(town.config)) as service,
        agent(f"{service.url}/mcp/shop", AGENT_TOKEN) as client,
    ):
        searched = await client.call("search_available_numbers", {})
        denied = await client.call("release_phone_number", PURCHASE)
    assert not searched.is_error
    assert denied.state == "denied"
    assert town.bought() == []


async def test_the_command_line_decides_beside_the_running_service(tmp_path: Path) -> None:
    town = found(tmp_path)
    async with (
        running(load(town.config)) as service,
        agent(f"{service.url}/mcp/shop", AGENT_TOKEN) as client,
        asyncio.TaskGroup() as tasks,
    ):
        buying = tasks.create_task(client.call(BUY, PURCHASE))
        call = await waiting(service)
        code, told = await command(town, "approve", call.id, "--json")
        assert code == 0, told
        assert json.loads(told)["state"] == "approved"
        result = await buying
    assert not result.is_error
    assert town.bought() == [NUMBER]


async def test_a_restart_in_the_middle_keeps_the_call_for_its_agent(tmp_path: Path) -> None:
    town = found(tmp_path, wait="1s")
    async with (
        running(load(town.config)) as service,
        agent(f"{service.url}/mcp/shop", AGENT_TOKEN) as client,
    ):
        first = await client.call(BUY, PURCHASE)
    assert first.state == "pending"
    assert town.bought() == []

    code, told = await command(town, "approve", first.call_id)
    assert code == 0, told
    async with (
        running(load(town.config)) as service,
        agent(f"{service.url}/mcp/shop", AGENT_TOKEN) as client,
    ):
        result = await client.call("approval_wait", {"id": first.call_id})
        again = await service.store.get((await service.store.find()).calls[0].id)
    assert not result.is_error, result.text
    assert result.structured["phone_number"] == NUMBER
    assert again.status is Status.EXECUTED
    assert town.bought() == [NUMBER]


async def test_a_call_that_fell_due_while_nobody_ran_is_expired_before_anybody_is_let_in(
    tmp_path: Path,
) -> None:
    town = found(tmp_path, wait="1s")
    policy = json.loads(town.policy.read_text())
    policy["tools"][BUY]["require_approval"][0]["timeout"] = "2s"
    town.policy.write_text(json.dumps(policy))
    async with (
        running(load(town.config)) as service,
        agent(f"{service.url}/mcp/shop", AGENT_TOKEN) as client,
    ):
        held = await client.call(BUY, PURCHASE)
    async with opened(load(town.config)) as (store, _), asyncio.timeout(10):
        call = (await store.find()).calls[0]
        while await store.now() <= call.decide_before:  # noqa: ASYNC110 - clocks have no events
            await asyncio.sleep(0.05)
    async with running(load(town.config)) as service:
        call = (await service.store.find()).calls[0]
        assert (call.id, call.status) == (held.call_id, Status.EXPIRED)
        ballot = Ballot(person="ann", choice=Choice.APPROVE, digest=call.digest, via="test")
        with pytest.raises(Exception, match="expired"):
            await service.service.decide(call.id, ballot)
    assert town.bought() == []


async def test_sigterm_tells_who_waits_that_the_call_is_kept(tmp_path: Path) -> None:
    town = found(tmp_path)
    async with serving(town) as program:
        async with (
            agent(f"{program.url}/mcp/shop", AGENT_TOKEN) as client,
            asyncio.TaskGroup() as tasks,
        ):
            buying = tasks.create_task(client.call(BUY, PURCHASE))
            await _held(town)
            program.signal(signal.SIGTERM)
            result = await buying
        assert await program.ended() == 0
    assert result.state == "pending"
    async with opened(load(town.config)) as (store, _):
        call = (await store.find()).calls[0]
        tags = [json.loads(entry.body)["tag"] for entry in await store.trail()]
        report = await store.verify()
    assert (call.status, call.listener) == (Status.PENDING, Listener.TOLD)
    assert tags[0] == "service:start"
    assert tags[-1] == "service:stop"
    assert report.problems == ()
    assert town.bought() == []


async def test_sigterm_waits_for_what_has_been_sent(tmp_path: Path) -> None:
    town = found(tmp_path, delay="1.5")
    async with serving(town) as program:
        async with (
            agent(f"{program.url}/mcp/shop", AGENT_TOKEN) as client,
            asyncio.TaskGroup() as tasks,
        ):
            buying = tasks.create_task(_bought_or_cut(client))
            call_id = await _held(town)
            assert (await command(town, "approve", call_id))[0] == 0
            async with asyncio.timeout(10):
                while not town.bought():  # noqa: ASYNC110 - another process's file
                    await asyncio.sleep(0.02)
            program.signal(signal.SIGTERM)
            await buying
        assert await program.ended() == 0
    async with opened(load(town.config)) as (store, _):
        call = (await store.find()).calls[0]
    assert call.status is Status.EXECUTED
    assert town.bought() == [NUMBER]


async def _bought_or_cut(client: Agent) -> None:
    try:
        await client.call(BUY, PURCHASE)
    except Exception:  # noqa: BLE001 - the line may end before the answer; the record may not
        return


async def _held(town: Town) -> str:
    """Wait until another process shows a pending call; answer its id."""
    async with asyncio.timeout(15), opened(load(town.config)) as (store, _):
        while True:
            page = await store.find(states={Status.PENDING})
            if page.calls:
                return page.calls[0].id
            await asyncio.sleep(0.02)


async def test_new_rules_are_in_force_after_sighup_and_bad_ones_never(tmp_path: Path) -> None:
    town = found(tmp_path)
    async with (
        serving(town) as program,
        agent(f"{program.url}/mcp/shop", AGENT_TOKEN) as client,
    ):
        town.policy.write_text("{ this is no policy")
        program.signal(signal.SIGHUP)
        assert "the old rules stay in force" in await program.logged("not read again")
        assert not (await client.call("search_available_numbers", {})).is_error

        policy = json.loads(json.dumps({"version": "1", "default": "deny"}))
        town.policy.write_text(json.dumps(policy))
        program.signal(signal.SIGHUP)
        await program.logged("is in force")
        assert (await client.call("search_available_numbers", {})).state == "denied"
    async with opened(load(town.config)) as (store, _):
        tags = [json.loads(entry.body)["tag"] for entry in await store.trail()]
    assert tags.count("policy:refuse") == 1
    assert tags.count("policy:load") == 2
