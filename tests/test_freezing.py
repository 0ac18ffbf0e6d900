"""After an overrun a tool spends nothing for its agent, until somebody who may settle lifts it."""

from pathlib import Path

import pytest

from approval.core.call import Answer, Call, Status
from approval.core.money import Money
from approval.core.rulebook import Rulebook
from approval.errors import Conflict, Forbidden, NoRoom, NotFound
from approval.service import Service
from tests.factories import make_asked, make_rulebook, make_service
from tests.sending import Upstream, ballot

TOOL = "create_incoming_phone_number"


def rules(
    on_overrun: str = "freeze", *, meters: tuple[str, ...] = ("pot",), gated: bool = False
) -> Rulebook:
    spend: dict[str, object] = {
        "amount": {"fixed": "1.15 USD"},
        "actual": {"result": "/structuredContent/amount", "unit": "minor"},
        "on_overrun": on_overrun,
    }
    if meters:
        spend["meters"] = list(meters)
    gate = {"require_approval": [{"approvers": "finance"}]} if gated else {}
    return make_rulebook(
        {
            "dialect": "approval-1",
            "version": "1",
            "default": "deny",
            "tools": {TOOL: {"spend": spend, **gate}, "other": {"spend": spend}},
            "meters": {"pot": {"limit": "50.00 USD", "window": {"calendar": "day"}}},
        }
    )


async def spent(service: Service, number: int, minor: int, **changes: object) -> Call:
    """Let a call run, of which the upstream says that it took so much."""
    asked = make_asked({"number": number}, **changes)
    verdict = service.rules.judge(asked.agent, asked.upstream, asked.tool, {"number": number})
    submission = await service.submit(asked, verdict)

    async def send(call: Call) -> Answer:
        body = b'{"result":{"structuredContent":{"amount":%d}}}' % minor
        return Answer(status=Status.EXECUTED, body=body)

    service.carry_out(submission, send)
    return await service.changed(submission.call)


async def test_an_overrun_is_booked_and_freezes_the_tool_for_that_agent_alone(
    tmp_path: Path,
) -> None:
    async with make_service(tmp_path, rules=rules()) as service:
        overran = await spent(service, 1, 500)
        [reservation] = overran.reservations
        assert (reservation.amount, reservation.posted) == (Money(115, "USD"), 500)
        with pytest.raises(NoRoom) as refusal:
            await spent(service, 2, 115)
        assert (refusal.value.code, refusal.value.retryable) == ("frozen", False)
        assert overran.id in str(refusal.value)
        assert (await spent(service, 3, 115, tool="other")).status is Status.EXECUTED
        assert (await spent(service, 4, 115, agent="other-agent")).status is Status.EXECUTED
        [freeze] = await service.freezing.listed()
        assert (freeze.call_id, freeze.agent, freeze.tool) == (overran.id, "ops-agent", TOOL)
        assert (await service._store.verify()).problems == ()


async def test_whoever_may_settle_lifts_a_freeze_once(tmp_path: Path) -> None:
    async with make_service(tmp_path, rules=rules()) as service:
        overran = await spent(service, 1, 500)
        with pytest.raises(Forbidden, match="no right to settle"):
            await service.freezing.lift(overran.id, person="ann", via="test", evidence="")
        await service.freezing.lift(overran.id, person="dora", via="test", evidence="refunded")
        assert await service.freezing.listed() == ()
        assert (await spent(service, 2, 115)).status is Status.EXECUTED
        with pytest.raises(NotFound):
            await service.freezing.lift(overran.id, person="dora", via="test", evidence="")
        tags = [entry.body for entry in await service.trail()]
        assert sum(b'"freeze:lift"' in body for body in tags) == 1


async def test_what_took_no_more_than_was_approved_freezes_nothing(tmp_path: Path) -> None:
    async with make_service(tmp_path, rules=rules()) as service:
        less = await spent(service, 1, 100)
        assert [each.posted for each in less.reservations] == [100]
        assert await service.freezing.listed() == ()


async def test_where_the_policy_only_wants_to_know_nothing_is_frozen(tmp_path: Path) -> None:
    async with make_service(tmp_path, rules=rules("alert")) as service:
        await spent(service, 1, 500)
        assert await service.freezing.listed() == ()
        assert any(b'"overrun":"5.00 USD"' in entry.body for entry in await service.trail())


@pytest.mark.parametrize("on_overrun", ["freeze", "alert"])
async def test_an_overrun_needs_no_meter_to_be_told_and_to_freeze(
    tmp_path: Path, on_overrun: str
) -> None:
    async with make_service(tmp_path, rules=rules(on_overrun, meters=())) as service:
        overran = await spent(service, 1, 500)
        assert (overran.status, overran.reservations) == (Status.EXECUTED, ())
        [told] = [entry.body for entry in await service.trail() if b'"overrun"' in entry.body]
        assert b'"overrun":"5.00 USD"' in told
        assert (b'"frozen":true' in told) is (on_overrun == "freeze")
        with pytest.raises(Conflict, match="draws on no meter"):
            await service.settling.correct(
                overran.id, person="dora", evidence="x", actual=Money(500, "USD")
            )
        frozen = [each.call_id for each in await service.freezing.listed()]
        if on_overrun == "alert":
            assert frozen == []
            assert (await spent(service, 2, 115)).status is Status.EXECUTED
            return
        assert frozen == [overran.id]
        with pytest.raises(NoRoom):
            await spent(service, 2, 115)
        assert (await service._store.verify()).problems == ()


async def test_a_call_that_was_approved_before_the_freeze_does_not_run(tmp_path: Path) -> None:
    """Its agent is told why, and nothing is sent."""
    async with make_service(tmp_path, rules=rules(gated=True)) as service:
        first, second = [await held(service, number) for number in (1, 2)]
        for call in (first, second):
            await service.decide(call.id, ballot(call))
        overran = Answer(
            status=Status.EXECUTED, body=b'{"result":{"structuredContent":{"amount":500}}}'
        )
        await service.execute(first.id, Upstream(overran).send)
        untouched = Upstream(overran)
        ended = await service.execute(second.id, untouched.send)
        assert ended.status is Status.INVALIDATED
        assert ended.note.startswith(
            f"frozen: This tool is frozen for this agent: call {first.id} "
        )
        assert untouched.received == []


async def held(service: Service, number: int) -> Call:
    asked = make_asked({"number": number})
    verdict = service.rules.judge(asked.agent, asked.upstream, asked.tool, {"number": number})
    return (await service.submit(asked, verdict)).call
