"""What is spent stays spent when a meter's days begin otherwise: at whichever row it stands."""

import asyncio
import sqlite3
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.dialects import sqlite

from approval.core import intake
from approval.core.call import Call, Choice, new_call_id
from approval.core.demand import Holdings
from approval.core.ledger import State
from approval.core.lifecycle import Change, Event
from approval.core.meters import Draw, Usage
from approval.core.rulebook import Rulebook
from approval.errors import Conflict
from approval.store import windows
from approval.store.store import SqlStore
from tests.factories import NOW, Clock, make_asked, make_lease
from tests.store.conftest import Database, opened
from tests.store.spending import BUY, answered, ask, buying, claim, end, lawful, vote

BERLIN = {"calendar": "day", "zone": "Europe/Berlin"}
SOFT = {"soft": {"override_by": "finance", "up_to": "15.00 USD"}, "over": "ask"}
FULL = 10
"""So many purchases fill the pot."""


def drawn(rules: Rulebook) -> Draw:
    demand = rules.judge("ops-agent", "shop", BUY, {}).demand
    assert demand is not None
    [draw] = demand.draws
    return draw


async def left(store: SqlStore, rules: Rulebook) -> Usage:
    """Read what people see of the pot."""
    draw = drawn(rules)
    return (await store.usage([draw]))[draw.meter_id]


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({"calendar": "day"}, BERLIN),
        (BERLIN, {"calendar": "day"}),
        (BERLIN, {"calendar": "day", "zone": "Pacific/Kiritimati"}),
        ({"calendar": "week"}, {"calendar": "week", "week_start": "sunday"}),
        ({"calendar": "week"}, {"calendar": "week", "week_start": "tuesday"}),
        ({"calendar": "month"}, {"calendar": "month", "zone": "Asia/Tokyo"}),
        ({"calendar": "year"}, {"calendar": "year", "zone": "America/New_York"}),
    ],
)
async def test_another_zone_or_start_of_the_week_forgives_nothing(
    store: SqlStore, database: Database, then: dict[str, object], now: dict[str, object]
) -> None:
    """36, 42: what was spent since the window of the new rules began counts under them."""
    before, after = buying(window=then), buying(window=now)
    begun = [await ask(store, number, before) for number in range(FULL)]
    assert {each.event for each in begun} == {Event.ALLOW}
    assert await left(store, after) == await left(store, before) == Usage(held=10000)

    refused = await ask(store, FULL, after)
    assert refused.refusal is not None
    assert "100.00 USD is used or held, 0.00 USD is left" in refused.refusal.text
    await end(store, begun[0].call, answered(300))
    assert (await ask(store, FULL + 1, after)).event is Event.DENY
    await end(store, begun[1].call, answered(700))
    assert await left(store, after) == Usage(held=8000, posted=1000)
    assert (await ask(store, FULL + 2, after)).event is Event.ALLOW
    assert await left(store, after) == Usage(held=9000, posted=1000)
    assert (await ask(store, FULL + 3, after)).event is Event.DENY
    # And back again: what was spent meanwhile is not forgotten either.
    assert (await ask(store, FULL + 4, before)).event is Event.DENY
    assert len(await lawful(database)) == 2
    assert (await store.verify()).problems == ()


async def test_only_what_falls_into_the_window_of_now_counts_in_it(
    store: SqlStore, clock: Clock
) -> None:
    """At midnight in Berlin the day of the UTC row is not over; what it holds is of yesterday."""
    clock.now = datetime(2026, 11, 25, 22, 59, 59, 999_999, tzinfo=UTC)
    for number in range(FULL - 1):
        await ask(store, number, buying())
    clock.advance(microseconds=1)
    assert await left(store, buying(window=BERLIN)) == Usage()
    assert (await ask(store, FULL, buying())).event is Event.ALLOW
    assert await left(store, buying(window=BERLIN)) == Usage(held=1000)
    begun = [await ask(store, 2 * FULL + each, buying(window=BERLIN)) for each in range(FULL)]
    assert Counter(each.event for each in begun) == {Event.ALLOW: FULL - 1, Event.DENY: 1}


async def test_windows_that_began_together_may_end_apart(store: SqlStore, clock: Clock) -> None:
    """In Lagos March is an hour longer than in Berlin, and began at the same instant."""
    clock.now = datetime(2026, 3, 31, 22, 30, tzinfo=UTC)
    lagos = buying(window={"calendar": "month", "zone": "Africa/Lagos"})
    april = buying(window={"calendar": "month", "zone": "Europe/Berlin"})
    for number in range(FULL):
        await ask(store, number, lagos)
    assert await left(store, april) == Usage(held=10000)
    assert (await ask(store, FULL, april)).event is Event.DENY


async def test_a_call_that_waited_moves_to_the_window_of_now_and_is_counted_once(
    store: SqlStore, database: Database
) -> None:
    rules, after = buying(asking=True), buying(asking=True, window=BERLIN)
    calls = [(await ask(store, number, rules)).call for number in range(FULL)]
    approved = [await vote(store, call, after, Choice.APPROVE) for call in calls]
    draw = drawn(after)
    seen = await store.usage([draw], without=approved[0].id)
    assert seen == {draw.meter_id: Usage(held=9000)}
    for call in approved:
        change = await claim(store, call, after)
        assert change.event is Event.CLAIM
        [reserved] = change.call.reservations
        assert reserved.window_start == draw.meter.window.row(NOW)
        assert await left(store, after) == Usage(held=10000)
    assert len(await lawful(database)) == 1
    assert (await store.verify()).problems == ()


async def test_a_call_finds_no_room_at_its_claim_that_others_took_elsewhere(
    store: SqlStore, database: Database
) -> None:
    rules, after = buying(asking=True), buying("99.99 USD", asking=True, window=BERLIN)
    calls = [(await ask(store, number, rules)).call for number in range(FULL)]
    change = await claim(store, await vote(store, calls[0], after, Choice.APPROVE), after)
    assert change.event is Event.INVALIDATE
    assert change.call.note.startswith("budget: ")
    assert {each.state for each in change.call.reservations} == {State.VOID}
    assert await left(store, after) == Usage(held=9000)
    assert list((await lawful(database)).values()) == [(9000, 0, 0)]


async def test_what_people_let_pass_elsewhere_is_within_what_they_may_let_pass(
    store: SqlStore,
) -> None:
    before, after = buying(meter=SOFT), buying(meter=SOFT, window=BERLIN)
    for number in range(FULL):
        await ask(store, number, before)
    assert (await ask(store, FULL, before)).event is Event.HOLD
    assert await left(store, after) == Usage(held=11000, overridden=1000)
    assert (await ask(store, FULL + 1, after)).event is Event.DENY
    cheaper = buying(meter=SOFT, window=BERLIN, price="5.00 USD")
    assert (await ask(store, FULL + 2, cheaper)).event is Event.HOLD
    assert (await ask(store, FULL + 3, cheaper)).event is Event.DENY


@pytest.mark.parametrize(("limit", "meter"), [("30.00 USD", {}), ("20.00 USD", SOFT)])
async def test_what_stands_elsewhere_is_guarded_where_a_row_is_written(
    store: SqlStore, limit: str, meter: dict[str, object]
) -> None:
    """A step that overlooks it is refused by the UPDATE itself, at the last cent."""
    before, after = buying(limit, meter=meter), buying(limit, meter=meter, window=BERLIN)
    for number in range(3):
        await ask(store, number, before)
    verdict = after.judge("ops-agent", "shop", BUY, {"number": 4})
    asked = make_asked({"number": 4})

    def blind(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
        call_id, lease = new_call_id(now, (4).to_bytes(10)), make_lease()
        met = Holdings(usage={drawn(after).meter_id: Usage(held=2000)} if meter else {})
        return intake.begin(asked, verdict, met, call_id=call_id, lease=lease, now=now)

    with pytest.raises(Conflict, match="taken at the same moment"):
        await store.admit(asked, verdict.demand, blind)


async def test_processes_whose_days_begin_apart_admit_no_more_together(
    store: SqlStore, other: SqlStore, database: Database
) -> None:
    """As while a change is rolled out, or where two have other zone data."""
    utc, berlin = buying(), buying(window=BERLIN)
    begun = await asyncio.gather(
        *(
            ask(*((store, number, utc) if number % 2 else (other, number, berlin)))
            for number in range(3 * FULL)
        )
    )
    assert Counter(each.event for each in begun) == {Event.ALLOW: FULL, Event.DENY: 2 * FULL}
    assert await left(store, utc) == await left(other, berlin) == Usage(held=10000)
    await lawful(database)


def test_what_stands_elsewhere_is_found_by_indexes(file: Path) -> None:
    """Not by going through all that was reserved in this window, or in the one before."""
    for statement in (windows._LOCKED, windows._SEEN):
        query = str(statement.compile(dialect=sqlite.dialect()))
        with opened(file) as database:
            plan = explained(database, query)
        assert "reservation USING INDEX reservation_counted" in plan
        assert "(meter_id=? AND window_start=? AND at>? AND at<?)" in plan
        assert "SCAN reservation" not in plan
        assert "SCAN other" not in plan


def explained(database: sqlite3.Connection, query: str) -> str:
    values = [0] * query.count("?")
    return "\n".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {query}", values))
