"""A purchase at a price that its approver types, from the held call to the shop's ledger."""

import asyncio
import json
from itertools import repeat
from pathlib import Path

from approval.app.running import Running, running
from approval.config import load
from approval.core.audit import Tag
from approval.core.call import Call, Choice, Status
from approval.demo.agent import Agent, agent
from tests.scenarios.test_purchase import BUY, NUMBER, PURCHASE, waiting
from tests.scenarios.town import AGENT_TOKEN, Town, command, decided, found

POLICY = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {
        BUY: {"spend": {"amount": {"ask": True, "up_to": "5.00 USD"}, "meters": ["pot"]}},
    },
    "meters": {"pot": {"limit": "8.00 USD", "window": {"calendar": "day"}}},
}


def priced(folder: Path) -> Town:
    town = found(folder)
    town.policy.write_text(json.dumps(POLICY))
    return town


async def typed(service: Running, call: Call, amount: str | None) -> tuple[int, str]:
    """Have Ann approve through the API; answers the status and what the call costs, or why not."""
    body = {} if amount is None else {"amount": amount}
    status, told = await decided(service.url, call, Choice.APPROVE, **body)
    return status, str(told["amount"] if status == 200 else told["type"])


async def refused(client: Agent, service: Running) -> None:
    """The bound of the first is held: there is no room for a second."""
    second = await client.call(BUY, {"phone_number": "+14155550101"})
    assert second.state == "denied"
    assert "5.00 USD is used or held" in second.text
    assert len((await service.store.find(states={Status.PENDING})).calls) == 1


async def handed_over(service: Running, call: Call) -> None:
    """Wait until it is noted that the agent has its answer: that comes after the answer itself."""
    async with asyncio.timeout(10):
        for _ in repeat(None):
            if (await service.store.get(call.id)).delivered_at is not None:
                return
            await asyncio.sleep(0.01)


async def test_a_call_runs_at_what_was_typed_and_never_before(tmp_path: Path) -> None:
    town = priced(tmp_path)
    async with (
        running(load(town.config)) as service,
        agent(f"{service.url}/mcp/shop", AGENT_TOKEN) as client,
        asyncio.TaskGroup() as tasks,
    ):
        buying = tasks.create_task(client.call(BUY, PURCHASE))
        call = await waiting(service)
        await refused(client, service)
        assert await typed(service, call, None) == (422, "/problems/amount:missing")
        assert await typed(service, call, "5.01 USD") == (422, "/problems/amount:above_bound")
        assert town.bought() == []
        assert (await typed(service, call, "1.15 USD"))[0] == 200
        result = await buying
        await handed_over(service, call)
        [pot] = await service.service.budgets.pots()
        entries = await service.service.trail(subject=call.id)
        report = await service.store.verify()
    assert not result.is_error
    assert town.bought() == [NUMBER]
    assert (pot.held.minor, pot.spent.minor) == (0, 115)
    told = [json.loads(entry.body) for entry in entries]
    assert [each["tag"] for each in told if each["tag"] != Tag.METER_ALERT] == [
        Tag.CALL_HOLD,
        Tag.DECISION_REFUSE,
        Tag.DECISION_REFUSE,
        Tag.CALL_APPROVE,
        Tag.CALL_CLAIM,
        Tag.CALL_SUCCEED,
        Tag.CALL_DELIVER,
    ]
    [approved] = [each["facts"] for each in told if each["tag"] == Tag.CALL_APPROVE]
    assert (approved["person"], approved["amount"]) == ("ann", "1.15 USD")
    assert report.problems == ()


async def test_the_command_line_types_beside_the_running_service(tmp_path: Path) -> None:
    town = priced(tmp_path)
    async with (
        running(load(town.config)) as service,
        agent(f"{service.url}/mcp/shop", AGENT_TOKEN) as client,
        asyncio.TaskGroup() as tasks,
    ):
        buying = tasks.create_task(client.call(BUY, PURCHASE))
        call = await waiting(service)
        code, told = await command(town, "approve", call.id, "--yes")
        assert (code, "up to 5.00 USD" in told) == (1, True), told
        code, told = await command(town, "approve", call.id, "--amount", "1.15 USD", "--yes")
        assert code == 0, told
        assert not (await buying).is_error
    assert town.bought() == [NUMBER]
