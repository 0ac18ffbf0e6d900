"""Rules that are replaced at the worst moment: between what a claim locks and what it writes."""

import asyncio

import pytest

from approval.core import ledger as booking
from approval.core.audit import Entry, Tag
from approval.core.call import Answer, Call, CallId, Choice, Status
from approval.core.demand import Demand
from approval.core.lifecycle import Change, Event
from approval.core.meters import Usage
from approval.core.rulebook import Rulebook
from approval.ports import Claim, Claiming
from approval.service import Service
from approval.store import ledger
from approval.store.store import SqlStore
from tests.factories import make_rulebook
from tests.store.conftest import Database
from tests.store.spending import BUY, ask, lawful, vote

OTHER = "search_numbers"
FULL = 2000


def drawing_on(*meters: str) -> Rulebook:
    """Hold each purchase, and let it draw on these; another tool draws on the small one alone."""
    amount = {"fixed": "10.00 USD"}
    gate = [{"approvers": "finance", "run_within": "24h"}]
    day = {"calendar": "day"}
    return make_rulebook(
        {
            "dialect": "approval-1",
            "version": "1",
            "default": "deny",
            "tools": {
                BUY: {
                    "spend": {"amount": amount, "meters": list(meters)},
                    "require_approval": gate,
                },
                OTHER: {"spend": {"amount": amount, "meters": ["small"]}},
            },
            "meters": {
                "large": {"limit": "1000.00 USD", "window": day, "scope": []},
                "small": {"limit": "20.00 USD", "window": day, "scope": []},
            },
        }
    )


BEFORE, AFTER = drawing_on("large"), drawing_on("large", "small")


async def fill(store: SqlStore) -> None:
    """Take all that there is of the small meter."""
    for number in range(2):
        assert (await ask(store, number, BEFORE, tool=OTHER)).event is Event.ALLOW


async def approved(store: SqlStore, number: int) -> Call:
    held = await ask(store, number, BEFORE)
    return await vote(store, held.call, BEFORE, Choice.APPROVE)


async def held_of_small(database: Database) -> int:
    verdict = AFTER.judge("ops-agent", "shop", BUY, {})
    assert verdict.demand is not None
    [small] = (draw.meter_id for draw in verdict.demand.draws if draw.meter.name == "small")
    return sum(sum(sums[:2]) for row, sums in (await lawful(database)).items() if row[0] == small)


async def send(call: Call) -> Answer:
    return Answer(status=Status.EXECUTED, body=b'{"result":{}}')


async def test_a_claim_goes_by_the_rules_whose_meters_it_has_locked(
    store: SqlStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store)
    call = await approved(store, 10)
    async with Service(store, BEFORE) as service:
        claim = store.claim

        async def replaced_meanwhile(call_id: CallId, claiming: Claiming) -> Change:
            def judged(found: Call) -> tuple[Demand | None, Claim]:
                demand_and_step = claiming(found)
                service._rules = AFTER  # as `adopt` does, while the claim waits for its locks
                return demand_and_step

            return await claim(call_id, judged)

        monkeypatch.setattr(store, "claim", replaced_meanwhile)
        assert (await service.execute(call.id, send)).status is Status.EXECUTED
    assert await held_of_small(database) == FULL


async def test_claims_beside_a_reload_overrun_nothing(store: SqlStore, database: Database) -> None:
    await fill(store)
    calls = [await approved(store, number) for number in range(10, 30)]
    async with Service(store, BEFORE) as service:
        entry = Entry(tag=Tag.POLICY_LOAD, subject="shop", actor="service")
        await asyncio.gather(
            *(service.execute(call.id, send) for call in calls),
            service.adopt(AFTER, entry),
            return_exceptions=True,
        )
    assert await held_of_small(database) == FULL
    assert (await store.verify()).problems == ()


async def test_what_was_neither_locked_nor_read_is_not_drawn_on(
    store: SqlStore, database: Database
) -> None:
    call = await approved(store, 10)
    verdict = AFTER.judge("ops-agent", "shop", BUY, {})
    assert verdict.demand is not None
    now = await store.now()
    drawn = [booking.reserve(draw, Usage(), now) for draw in verdict.demand.draws]
    bookings = [each for each in drawn if each is not None]
    with pytest.raises(ValueError, match="neither locked nor read"):
        await store._engine.write(
            lambda work: ledger.book(work.connection, call.id, bookings, {}, work.now)
        )
    assert await held_of_small(database) == 0
