"""What a call really took, said over the API."""

from pathlib import Path

from approval.core.call import Choice
from approval.core.identity import Right
from tests.factories import Clock, make_directory, make_rulebook
from tests.web.scripting import Script, script
from tests.web.serving import Site, serve

TOOL = "create_incoming_phone_number"
SPENDING = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {
        TOOL: {
            "spend": {"amount": {"fixed": "1.15 USD"}, "meters": ["pot"]},
            "require_approval": [{"approvers": ["ann"]}],
        }
    },
    "meters": {"pot": {"limit": "50.00 USD", "window": {"calendar": "day"}}},
}


async def test_a_doubt_is_settled_at_an_amount_and_that_is_corrected(tmp_path: Path) -> None:
    rights = {Right.SETTLE: frozenset({"dora"}), Right.READ_ALL: frozenset({"dora"})}
    rules = make_rulebook(SPENDING, directory=make_directory(rights=rights))
    clock = Clock()
    async with serve(tmp_path, rules=rules, clock=clock) as site:
        call = await site.hold()
        await site.decide(call, "ann", Choice.APPROVE)
        await site.lose(call)
        token = await site.service.keyring.issue("person", "dora", actor="operator")
        clock.advance(minutes=10)
        async with script(site, token) as dora:
            await settle(dora, f"/v1/calls/{call.id}/settle")
            assert await booked(site) == 100
            await correct(dora, f"/v1/calls/{call.id}/correct")
            assert await booked(site) == 500


async def settle(dora: Script, path: str) -> None:
    body = {"outcome": "executed", "evidence": "line 7", "amount": "1.00 USD"}
    assert (await dora.post(path, {**body, "amount": 1})).code == "amount"
    failed = await dora.post(path, {**body, "outcome": "failed"})
    assert (failed.code, "took nothing" in failed.json["detail"]) == ("conflict", True)
    reply = await dora.post(path, body)
    assert (reply.status, reply.json["state"]) == (200, "executed")


async def correct(dora: Script, path: str) -> None:
    body = {"evidence": "line 8", "amount": {"amount": "5.00", "currency": "USD"}}
    assert (await dora.post(path, {"evidence": "x"})).code == "amount"
    assert (await dora.post(path, {**body, "evidence": " "})).code == "evidence"
    other = await dora.post(path, {**body, "amount": "5.00 EUR"})
    assert (other.code, "counted in USD" in other.json["detail"]) == ("conflict", True)
    reply = await dora.post(path, body)
    assert (reply.status, reply.json["state"], reply.json["reason"]) == (200, "executed", "line 7")


async def booked(site: Site) -> int:
    [pot] = await site.service.budgets.pots()
    return pot.spent.minor
