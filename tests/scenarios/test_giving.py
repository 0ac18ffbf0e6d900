"""An approval that lets the next ones like it run: from the held call to the shop's ledger."""

import asyncio
import json
from pathlib import Path

from approval.app.running import running
from approval.config import load
from approval.core.call import Choice
from approval.demo.agent import agent
from tests.scenarios.test_purchase import BUY, PURCHASE, waiting
from tests.scenarios.town import AGENT_TOKEN, command, decided, found

POLICY = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {
        BUY: {
            "require_approval": [
                {"grantable": {"uses": 10, "within": "24h", "vary": ["phone_number"]}}
            ]
        }
    },
}


async def test_one_yes_lets_the_next_two_be_bought_and_the_third_is_held(tmp_path: Path) -> None:
    town = found(tmp_path)
    town.policy.write_text(json.dumps(POLICY))
    async with (
        running(load(town.config)) as service,
        agent(f"{service.url}/mcp/shop", AGENT_TOKEN) as client,
        asyncio.TaskGroup() as tasks,
    ):
        first = tasks.create_task(client.call(BUY, PURCHASE))
        wish = {"uses": 2, "within": "1h"}
        call = await waiting(service)
        status, told = await decided(service.url, call, Choice.APPROVE, grant=wish)
        assert (status, told["votes"][0]["grant"]) == (200, wish)
        assert not (await first).is_error
        for number in ("+14155550101", "+14155550102"):
            assert not (await client.call(BUY, {"phone_number": number})).is_error
        third = tasks.create_task(client.call(BUY, {"phone_number": "+14155550103"}))
        held = await waiting(service)
        assert town.bought() == ["+14155550100", "+14155550101", "+14155550102"]
        code, listed = await command(town, "grants", "--json")
        assert (code, json.loads(listed)["grants"][0]["uses"]) == (0, 2), listed
        assert (await decided(service.url, held, Choice.REJECT))[0] == 200
        assert (await third).state == "rejected"
    assert len(town.bought()) == 3
