"""What people see of budgets: the sums that are in the database, without what they ask about."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from approval.budgets import document, known, limits_of, visible
from approval.core import canonical, grants, meters
from approval.core.call import Answer, Call, Choice, Status
from approval.core.grants import Grant
from approval.core.money import Money
from approval.core.scopes import Scope
from approval.ports import Kept
from approval.service import Service
from tests.factories import PRICE_PURCHASES, Clock, make_asked, make_rulebook, make_service
from tests.sending import OK, Upstream, ballot

BUY = "create_incoming_phone_number"


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


async def test_every_pot_is_told_with_what_is_spent_held_and_left(
    service: Service, clock: Clock
) -> None:
    await buy(service, "+1")
    clock.advance(days=1)
    await buy(service, "+2")
    await hold(service, "+3")
    pots = {(pot.meter.name, pot.whose): pot for pot in await service.budgets.pots()}
    # An agent that has not spent anything is there too, and nobody twice.
    assert list(pots) == [
        ("numbers-month", "agent ops-agent"),
        ("numbers-month", "agent other-agent"),
        ("numbers-rolling", "all together"),
    ]
    told = [(str(pot.spent), str(pot.held), pot.words) for pot in pots.values()]
    assert told == [
        ("2.30 USD", "1.15 USD", "$46.55 of $50.00 left this month"),
        ("0.00 USD", "0.00 USD", "$50.00 of $50.00 left this month"),
        # What was bought exactly a day ago has rolled out.
        ("1.15 USD", "1.15 USD", "$1.70 of $4.00 left in any 24 hours"),
    ]
    spent = pots["numbers-month", "agent ops-agent"]
    assert len(spent.days) == 30
    assert [(str(day), minor) for day, minor in spent.days if minor] == [
        ("2026-11-21", 115),
        ("2026-11-22", 115),
    ]
    assert document(spent) == {
        "meter": "numbers-month",
        "origin": spent.meter.origin,
        "scope": {"agent": "ops-agent"},
        "window": "month",
        "window_seconds": None,
        "zone": "UTC",
        "limit": {"amount": "50.00", "currency": "USD"},
        "spent": {"amount": "2.30", "currency": "USD"},
        "held": {"amount": "1.15", "currency": "USD"},
        "left": {"amount": "46.55", "currency": "USD"},
        "until": "2026-12-01T00:00:00Z",
        "days": [
            {"day": "2026-11-21", "spent": {"amount": "1.15", "currency": "USD"}},
            {"day": "2026-11-22", "spent": {"amount": "1.15", "currency": "USD"}},
        ],
    }


async def test_days_beyond_the_last_thirty_are_not_told(service: Service, clock: Clock) -> None:
    await buy(service, "+1")
    clock.advance(days=29)
    assert sum(minor for _, minor in (await service.budgets.pots())[0].days) == 115
    clock.advance(days=1)
    assert sum(minor for _, minor in (await service.budgets.pots())[0].days) == 0


@pytest.mark.parametrize(
    ("zone", "bought", "told"),
    [
        # Clocks go back an hour on 25 October: the day has 25 hours, and midnight is an hour later.
        (
            "Europe/Berlin",
            ["2026-10-24T21:59", "2026-10-24T22:00", "2026-10-25T22:59", "2026-10-25T23:00"],
            {"2026-10-24": 115, "2026-10-25": 230, "2026-10-26": 115},
        ),
        # Midnight comes twice on 1 November; the second still belongs to the day that has begun.
        (
            "America/Havana",
            ["2026-11-01T03:59", "2026-11-01T04:00", "2026-11-01T05:30", "2026-11-02T05:00"],
            {"2026-10-31": 115, "2026-11-01": 230, "2026-11-02": 115},
        ),
        (
            "UTC",
            ["2026-10-24T21:59", "2026-10-24T23:59", "2026-10-25T00:00", "2026-10-25T23:00"],
            {"2026-10-24": 230, "2026-10-25": 230},
        ),
    ],
)
async def test_days_are_those_of_the_meters_zone_however_long_they_are(
    tmp_path: Path, zone: str, bought: list[str], told: dict[str, int]
) -> None:
    price = {"amount": {"fixed": "1.15 USD"}, "meters": ["there", "rolling"]}
    window = {"calendar": "month", "zone": zone}
    rules = make_rulebook(
        {
            "dialect": "approval-1",
            "version": "1",
            "default": "deny",
            "tools": {BUY: {"spend": price, "require_approval": [{"approvers": "finance"}]}},
            "meters": {
                "there": {"limit": "50.00 USD", "window": window, "scope": []},
                "rolling": {"limit": "50.00 USD", "window": {"rolling": "30d"}, "scope": []},
            },
        }
    )
    clock = Clock()
    async with make_service(tmp_path, clock=clock, rules=rules) as service:
        for number, at in enumerate(bought):
            clock.now = datetime.fromisoformat(f"{at}:00+00:00")
            await buy(service, f"+{number}")
        rolling, there = await service.budgets.pots()
    assert {str(day): minor for day, minor in there.days if minor} == told
    assert [day for day, _ in there.days] == sorted({day for day, _ in there.days})
    assert len(there.days) == 30
    assert [document(pot)["zone"] for pot in (rolling, there)] == ["UTC", zone]
    by_utc = Counter(datetime.fromisoformat(at).date() for at in bought)
    assert {day: minor for day, minor in rolling.days if minor} == {
        day: 115 * times for day, times in by_utc.items()
    }


async def test_sums_of_a_meter_that_means_something_else_now_are_not_shown(
    service: Service,
) -> None:
    await buy(service, "+1")
    [row, *_] = [each for each in await service._store.kept() if each.name == "numbers-month"]
    assert len(known(service.rules, [row])) == 3
    assert len(known(service.rules, [replace(row, meter_id="another")])) == 3
    stranger = replace(row, name="gone")
    assert known(service.rules, [stranger]) == known(service.rules, [])


async def test_without_the_right_people_see_their_agents_and_what_their_calls_draw_on(
    service: Service,
) -> None:
    call = await hold(service, "+1", agent="other-agent")
    pots = await service.budgets.pots()
    directory = service.rules.directory

    def seen(person: str, *calls: Call) -> list[str]:
        found = visible(pots, person, directory, calls)
        return [f"{pot.meter.name} {pot.whose}" for pot in found]

    assert seen("bob") == []
    assert seen("carl") == ["numbers-month agent ops-agent"]  # carl owns it
    assert seen("bob", call) == ["numbers-month agent other-agent", "numbers-rolling all together"]


async def test_a_call_that_spends_nothing_has_no_budgets(tmp_path: Path) -> None:
    async with make_service(tmp_path) as service:
        call = await hold(service, "+1")
        assert (call.price, await service.budgets.lines(call)) == (None, ())


async def test_the_limits_of_sums_are_those_of_policies_and_of_configured_grants(
    service: Service,
) -> None:
    await buy(service, "+1")
    kept = await service._store.kept()
    grant = Grant(id="file", agent="ops-agent", tools=(), total=Money(500, "USD"))
    rules = replace(service.rules, grants=(grant,))
    [total] = grants.meters(grant)
    key = ((Scope.GRANT, "file"),)
    of_grant = Kept(
        meter_id=meters.meter_id(total, key), origin="grant", name="total of the grant", key=key
    )
    found = {draw.meter_id: draw.meter for draw in limits_of(rules, (*kept, of_grant))}
    assert found.keys() == {each.meter_id for each in (*kept, of_grant)}
    assert found[of_grant.meter_id].limit == Money(500, "USD")
    # No other is named: not what nobody asked about, nor what means something else now.
    assert limits_of(rules, ()) == ()
    assert [draw.meter_id for draw in limits_of(rules, (of_grant,))] == [of_grant.meter_id]
    assert limits_of(rules, (replace(kept[0], meter_id="other"),)) == ()
