"""The check of the money: whatever is done to a sum behind the trail's back is found and named."""

import pytest

from approval.core.audit import Entry, Tag
from approval.core.call import Choice, Status
from approval.core.lifecycle import Event
from approval.store.store import SqlStore
from approval.store.sums import Sums
from tests.factories import Clock
from tests.store.conftest import Database, hold
from tests.store.spending import NOTHING_DONE, answered, ask, buying, claim, end, lawful, vote

SOFT = {"soft": {"override_by": "finance", "up_to": "10.00 USD"}, "over": "ask"}


async def everything(store: SqlStore, clock: Clock) -> None:
    """Move money in every way: held, posted, freed, overrun, let pass, given back, re-homed."""
    rules = buying("65.00 USD", meter=SOFT)
    for number, answer in enumerate((answered(700), answered(1300), NOTHING_DONE, None)):
        begun = await ask(store, number, rules)
        assert begun.event is Event.ALLOW
        if answer is not None:
            await end(store, begun.call, answer)
    asking = buying("65.00 USD", meter=SOFT, asking=True)
    waiting = [(await ask(store, 10 + n, asking)).call for n in range(4)]
    assert waiting[-1].reservations[0].override == 500
    await vote(store, waiting[1], asking, Choice.REJECT)
    beyond = await vote(store, waiting[3], asking, Choice.APPROVE)
    await end(store, (await claim(store, beyond, asking)).call, answered(900, Status.ERRORED))
    late = await vote(store, waiting[2], asking, Choice.APPROVE)
    clock.advance(hours=12)
    assert (await claim(store, late, asking)).event is Event.CLAIM


async def test_money_that_moved_in_every_way_adds_up(
    store: SqlStore, database: Database, clock: Clock
) -> None:
    await everything(store, clock)
    assert len(await lawful(database)) == 2
    assert (await store.verify()).problems == ()


async def test_a_call_that_costs_nothing_has_nothing_to_add_up(store: SqlStore) -> None:
    await hold(store)
    assert (await store.verify()).problems == ()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE meter_window SET held = held + 1", "meter pot, window"),
        ("UPDATE meter_window SET posted = 0", "0 posted"),
        ("UPDATE meter_window SET overridden = overridden + 1", "1 beyond the limit"),
        ("UPDATE meter_window SET window_start = window_start + 1", "meter pot, window"),
        ("DELETE FROM meter_window", "0 held, 0 posted, 0 beyond the limit"),
        ("UPDATE reservation SET amount = 1 WHERE state = 'held'", "1 held"),
        ("UPDATE reservation SET posted = posted - 1 WHERE state = 'posted'", "reservation"),
        ("UPDATE reservation SET state = 'void', posted = 0 WHERE state = 'held'", "reservation"),
        ("UPDATE reservation SET state = 'held' WHERE state = 'void'", "1000 held"),
        ("UPDATE reservation SET window_start = window_start + 1", "reservation"),
        ("UPDATE reservation SET override = override + 1", "reservation"),
        ("DELETE FROM reservation WHERE state = 'held'", "reservation"),
        ("DELETE FROM ledger_entry WHERE kind = 'reserve'", "by the ledger"),
        ("UPDATE ledger_entry SET amount = amount + 1 WHERE kind = 'overrun'", "1301 posted"),
        ("UPDATE ledger_entry SET kind = 'void' WHERE kind = 'post'", "by the ledger"),
        ("UPDATE ledger_entry SET kind = 'gift'", "by the ledger"),
        ("UPDATE ledger_entry SET call_id = 'apr_x'", "apr_x: of meter pot"),
    ],
)
async def test_a_sum_that_was_changed_behind_the_trails_back_is_found(
    store: SqlStore, database: Database, clock: Clock, damage: str, found: str
) -> None:
    await everything(store, clock)
    await database.execute(damage)
    problems = (await store.verify()).problems
    assert problems != ()
    assert any(found in problem for problem in problems), problems


async def test_one_changed_sum_is_one_problem_and_says_what_it_should_be(
    store: SqlStore, database: Database
) -> None:
    begun = await ask(store, 1, buying())
    await end(store, begun.call, answered(None))
    await database.execute("UPDATE meter_window SET posted = 400")
    [(start,)] = await database.execute("SELECT window_start FROM meter_window")
    told = "the trail adds up to 0 held, 1000 posted, 0 beyond the limit"
    kept = "the database says 0 held, 400 posted, 0 beyond the limit"
    problem = f"meter pot, window {start}: {told}; {kept}"
    assert (await store.verify()).problems == (problem,)


@pytest.mark.parametrize(
    "told",
    [
        "reserve",
        ["reserve"],
        [["reserve", "m", "2026-11-21T00:00:00+00:00", 1]],
        [["gift", "m", "2026-11-21T00:00:00+00:00", 1, 0]],
        [["reserve", "m", "today", 1, 0]],
        [["reserve", "m", "2026-11-21T00:00:00+00:00", "1", 0]],
        [["reserve", "m", "2026-11-21T00:00:00+00:00", 1, True]],
        [["reserve", "m", 7, 1, 0]],
    ],
)
async def test_movements_that_cannot_be_read_are_a_problem_of_their_entry(
    store: SqlStore, told: object
) -> None:
    with pytest.raises((ValueError, TypeError)):
        Sums().add("apr_x", told)
    held = await hold(store)
    facts = {"version": 2, "to": "cancelled", "ledger": told}
    await store.journal(Entry(tag=Tag.CALL_CANCEL, subject=held.id, actor="x", facts=facts))
    assert "entry 2 cannot be read" in (await store.verify()).problems
