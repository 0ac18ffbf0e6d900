"""A person with the right to settle says what a call really took, and the meters follow."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from approval.core.call import Answer, Call, Status
from approval.core.money import Money
from approval.errors import AnswerLost, Conflict, Forbidden
from approval.service import Service
from tests.factories import Clock, make_asked, make_rulebook, make_service

TOOL = "create_incoming_phone_number"
FREE = "search_phone_numbers"
"""Whose errors are taken to cost nothing."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def service(tmp_path: Path, clock: Clock) -> AsyncIterator[Service]:
    spend = {
        "amount": {"fixed": "1.15 USD"},
        "meters": ["pot"],
        "actual": {"result": "/took", "unit": "minor"},
    }
    rules = make_rulebook(
        {
            "dialect": "approval-1",
            "version": "1",
            "default": "deny",
            "tools": {TOOL: {"spend": spend}, FREE: {"spend": spend, "on_error": "void"}},
            "meters": {"pot": {"limit": "50.00 USD", "window": {"calendar": "day"}}},
        }
    )
    async with make_service(tmp_path, rules=rules, clock=clock) as running:
        yield running


async def ran(
    service: Service, status: Status | None, tool: str = TOOL, body: bytes = b"{}"
) -> Call:
    """Let a call run that ends like this; in doubt with None."""
    asked = make_asked({"number": 1}, tool=tool)
    verdict = service.rules.judge(asked.agent, asked.upstream, asked.tool, {"number": 1})
    submission = await service.submit(asked, verdict)

    async def send(call: Call) -> Answer:
        if status is None:
            raise AnswerLost("reset")
        return Answer(status=status, body=body)

    service.carry_out(submission, send)
    return await service.changed(submission.call)


async def spent(service: Service) -> int:
    [pot] = await service.budgets.pots()
    return pot.spent.minor


async def test_a_doubt_is_settled_at_what_it_took(service: Service, clock: Clock) -> None:
    call = await ran(service, None)
    clock.advance(minutes=10)
    said = {"person": "dora", "evidence": "invoice 7", "actual": Money(100, "USD")}
    with pytest.raises(Conflict, match="took nothing"):
        await service.settling.settle(call.id, executed=False, **said)  # type: ignore[arg-type]
    settled = await service.settling.settle(call.id, executed=True, **said)  # type: ignore[arg-type]
    assert (settled.status, [each.posted for each in settled.reservations]) == (
        Status.EXECUTED,
        [100],
    )
    assert await spent(service) == 100


@pytest.mark.parametrize("status", [Status.EXECUTED, Status.ERRORED])
async def test_what_was_booked_is_corrected_and_nothing_is_frozen(
    service: Service, status: Status
) -> None:
    call = await ran(service, status)
    assert (call.status, await spent(service)) == (status, 115)
    with pytest.raises(Forbidden, match="no right to settle"):
        await service.settling.correct(call.id, person="ann", evidence="x", actual=Money(0, "USD"))
    for minor in (500, 0, 0, 90):
        corrected = await service.settling.correct(
            call.id, person="dora", evidence="invoice 7", actual=Money(minor, "USD")
        )
        assert (corrected.status, corrected.ended_at) == (status, call.ended_at)
        assert await spent(service) == minor
    assert await service.freezing.listed() == ()
    told = [entry.body for entry in await service.trail(subject=call.id)]
    assert sum(b'"call:correct"' in body for body in told) == 3
    assert (await service._store.verify()).problems == ()


@pytest.mark.parametrize("ending", ["free error", "failed", "settled as failed"])
async def test_what_was_given_back_and_did_spend_is_booked_on_evidence(
    service: Service, clock: Clock, ending: str
) -> None:
    match ending:
        case "free error":
            call = await ran(service, Status.ERRORED, FREE)
        case "failed":
            call = await ran(service, Status.FAILED)
        case _:
            call = await ran(service, None)
            clock.advance(minutes=10)
            call = await service.settling.settle(
                call.id, executed=False, person="dora", evidence="not in the list"
            )
    assert await spent(service) == 0
    with pytest.raises(Forbidden, match="no right to settle"):
        await service.settling.correct(call.id, person="ann", evidence="x", actual=Money(1, "USD"))
    for minor in (300, 300, 90):
        booked = await service.settling.correct(
            call.id, person="dora", evidence="invoice 7", actual=Money(minor, "USD")
        )
        assert (booked.status, booked.ended_by) == (call.status, call.ended_by)
        assert await spent(service) == minor
    assert await service.freezing.listed() == ()
    assert (await service._store.verify()).problems == ()


async def test_a_correction_leaves_a_freeze_to_whoever_lifts_it(service: Service) -> None:
    call = await ran(service, Status.ERRORED, FREE, b'{"result":{"took":500}}')
    assert await spent(service) == 0
    for minor in (500, 0):
        await service.settling.correct(
            call.id, person="dora", evidence="invoice 7", actual=Money(minor, "USD")
        )
        assert await spent(service) == minor
        assert [each.call_id for each in await service.freezing.listed()] == [call.id]
