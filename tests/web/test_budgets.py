"""The page of budgets and its address in the API: who sees which, and what is drawn."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import pytest

from approval.budgets import Pot
from approval.core.call import Choice
from approval.core.meters import Meter, Usage
from approval.core.money import Money
from approval.core.windows import AllTime
from approval.web.budgets import HEIGHT, gauge
from tests.factories import BOB_TOKEN, CARL_TOKEN, PRICE_PURCHASES, Clock, make_rulebook
from tests.web.scripting import script
from tests.web.serving import Site, serve


@pytest.fixture
async def site(tmp_path: Path, clock: Clock) -> AsyncIterator[Site]:
    async with serve(tmp_path, clock=clock, rules=make_rulebook(PRICE_PURCHASES)) as served:
        yield served


def make_pot(usage: Usage, *spent: int) -> Pot:
    meter = Meter(name="pot", origin="p", limit=Money(1000, "USD"), window=AllTime())
    days = tuple((date(2026, 11, 1 + at), minor) for at, minor in enumerate(spent))
    return Pot(meter=meter, meter_id="m", key=(), usage=usage, until=None, days=days)


@pytest.mark.parametrize(
    ("usage", "drawn"),
    [
        (Usage(), (0, 0, 1000, "")),
        (Usage(held=250, posted=500), (500, 250, 1000, "")),
        (Usage(posted=800), (800, 0, 1000, "high")),
        (Usage(posted=1000), (1000, 0, 1000, "full")),
        (Usage(posted=2000, overridden=1000), (1000, 0, 500, "full")),
        (Usage(held=1, posted=2), (2, 1, 1000, "")),
    ],
)
def test_a_bar_is_as_long_as_what_is_taken(usage: Usage, drawn: tuple[int, int, int, str]) -> None:
    found = gauge(make_pot(usage))
    assert (found.spent, found.held, found.limit, found.level) == drawn


def test_a_day_is_as_high_as_it_was_dear_and_never_invisible() -> None:
    found = gauge(make_pot(Usage(posted=801), 0, 800, 1, 400, -5))
    assert [column.height for column in found.columns] == [0, HEIGHT, 2, HEIGHT // 2, 0]
    assert found.columns[1].words == "2026-11-02: $8.00"
    assert found.story == "$12.01 in the last 30 days, most on 2026-11-02: $8.00."
    assert gauge(make_pot(Usage(), 0, 0)).story == "Nothing was spent in the last 30 days."


async def test_the_page_shows_each_pot_with_its_bar_and_its_days(site: Site) -> None:
    bought = await site.hold()
    await site.decide(bought, "ann", Choice.APPROVE)
    await site.run(bought)
    await site.hold({"phone_number": "+2"})
    async with site.browser("dora") as dora:
        page = await dora.get("/budgets")
    assert page.status == 200
    assert "numbers-month agent ops-agent until 2026-12-01 00:00 UTC" in page.words
    assert "$47.70 of $50.00 left this month" in page.words
    assert "spent $1.15 held for calls under way $1.15" in page.words
    assert '<a href="/budgets" aria-current="page">' in page.text
    assert page.text.count('<svg class="days"') == 3
    assert " style=" not in page.text  # the policy of the page would not let it count


async def test_who_may_see_no_call_sees_no_budget(site: Site) -> None:
    async with site.browser("ann") as ann:
        assert "No budget for you to see." in (await ann.get("/budgets")).words
        await site.hold()
        assert "numbers-month agent ops-agent" in (await ann.get("/budgets")).words
        assert "other-agent" not in (await ann.get("/budgets")).words


async def test_the_api_answers_what_the_person_may_see(site: Site) -> None:
    async with script(site, CARL_TOKEN) as carl, script(site, BOB_TOKEN) as bob:
        [budget] = (await carl.get("/v1/budgets")).json["budgets"]
        assert budget["scope"] == {"agent": "ops-agent"}
        assert budget["left"] == {"amount": "50.00", "currency": "USD"}
        assert (await bob.get("/v1/budgets")).json == {"budgets": []}
        assert (await bob.get("/v1/budgets?limit=1")).status == 400
