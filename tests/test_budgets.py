"""What people see of budgets: the sums that are in the database, without what they ask about."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from approval.core import canonical
from approval.core.call import Answer, Call, Choice, Status
from approval.service import Service
from tests.factories import PRICE_PURCHASES, Clock, make_asked, make_rulebook, make_service
from tests.sending import OK, Upstream, ballot


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def service(tmp_path: Path, clock: Clock) -> AsyncIterator[Service]:
    rules = make_rulebook(PRICE_PURCHASES)
    async with make_service(tmp_path, clock=clock, rules=rules) as running:
        yield running


async def hold(service: Service, number: str, agent: str = "ops-agent") -> Call:
    asked = make_asked({"phone_number": number}, agent=agent)
    arguments = canonical.read(asked.arguments)
    verdict = service.rules.judge(agent, "shop", asked.tool, arguments)
    return (await service.submit(asked, verdict)).call


async def buy(service: Service, number: str, answer: Answer = OK, agent: str = "ops-agent") -> Call:
    call = await hold(service, number, agent)
    await service.decide(call.id, ballot(call))
    return await service.execute(call.id, Upstream(answer).send)


async def words(service: Service, call: Call) -> dict[str, str]:
    return {line.meter: line.words for line in await service.budgets.lines(call)}


async def test_a_waiting_call_tells_what_is_left_without_it_and_after_it(service: Service) -> None:
    await buy(service, "+1")
    first = await hold(service, "+2")
    assert first.price == "$1.15/month"
    assert await words(service, first) == {
        "numbers-month": "$48.85 of $50.00 left this month, $47.70 after this",
        "numbers-rolling": "$2.85 of $4.00 left in any 24 hours, $1.70 after this",
    }
    await hold(service, "+3", agent="other-agent")
    assert await words(service, first) == {
        "numbers-month": "$48.85 of $50.00 left this month, $47.70 after this",
        "numbers-rolling": "$1.70 of $4.00 left in any 24 hours, $0.55 after this",
    }


async def test_what_was_given_back_or_has_rolled_out_is_left_again(
    service: Service, clock: Clock
) -> None:
    rejected = await hold(service, "+1")
    await service.decide(rejected.id, ballot(rejected, choice=Choice.REJECT))
    await buy(service, "+2")
    await buy(service, "+3", Answer(status=Status.FAILED, body=b"{}"))
    clock.advance(hours=24)
    call = await hold(service, "+4")
    assert await words(service, call) == {
        "numbers-month": "$48.85 of $50.00 left this month, $47.70 after this",
        "numbers-rolling": "$4.00 of $4.00 left in any 24 hours, $2.85 after this",
    }


async def test_a_window_that_began_since_has_all_of_its_limit(
    service: Service, clock: Clock
) -> None:
    await buy(service, "+1")
    clock.advance(days=9, hours=11, minutes=50)
    call = await hold(service, "+2")
    assert (await words(service, call))["numbers-month"].startswith("$48.85 of $50.00")
    clock.advance(minutes=12)
    assert (await words(service, call))["numbers-month"] == (
        "$50.00 of $50.00 left this month, $48.85 after this"
    )


async def test_an_ended_call_has_left_what_it_did_not_take(service: Service) -> None:
    """Its own reservation is left out whatever became of it."""
    bought = await buy(service, "+1")
    assert (await words(service, bought))["numbers-month"].startswith("$50.00 of $50.00")


async def test_a_call_that_spends_nothing_has_no_budgets(tmp_path: Path) -> None:
    async with make_service(tmp_path) as service:
        call = await hold(service, "+1")
        assert (call.price, await service.budgets.lines(call)) == (None, ())
