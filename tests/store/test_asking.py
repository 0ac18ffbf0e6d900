"""Amounts that approvers type, on real databases: the bound is set aside, and the rest freed."""

import asyncio
from datetime import timedelta
from itertools import cycle

import pytest

from approval.core import steps
from approval.core.call import Call, Choice, Status
from approval.core.ledger import State
from approval.core.lifecycle import Change, Event
from approval.core.money import Money
from approval.core.price import Asking
from approval.core.rulebook import Rulebook
from approval.errors import Conflict, Unreadable
from approval.store.store import SqlStore
from tests.factories import Clock, make_rulebook
from tests.store.conftest import Database
from tests.store.spending import BUY, answered, ask, claim, end, lawful, pot, vote

LIMIT = 10_000
TYPED = ("1.00 USD", "7.50 USD", "0.01 USD", "30.00 USD", "12.34 USD")


def typing(up_to: str = "30.00 USD", *, rolling: bool = False) -> Rulebook:
    """Let numbers be bought at what finance types, from one pot of 100.00 USD for all."""
    window = {"rolling": "24h"} if rolling else {"calendar": "day"}
    return make_rulebook(
        {
            "dialect": "approval-1",
            "version": "1",
            "default": "deny",
            "defaults": {"require_approval": {"approvers": "finance", "run_within": "48h"}},
            "tools": {
                BUY: {"spend": {"amount": {"ask": True, "up_to": up_to}, "meters": ["pot"]}},
            },
            "meters": {"pot": {"limit": "100.00 USD", "window": window, "scope": []}},
        }
    )


def cents(text: str) -> int:
    return Money.parse(text).minor


async def bought(store: SqlStore, number: int, typed: str, rules: Rulebook) -> int:
    """Ask, have an amount typed, run: answers what it took, or nothing where it had no room."""
    begun = await ask(store, number, rules)
    if begun.event is Event.DENY:
        return 0
    assert begun.event is Event.HOLD
    approved = await vote(store, begun.call, rules, Choice.APPROVE, typed)
    await claim(store, approved, rules)
    ended = await end(store, approved, answered(None))
    assert ended.call.status is Status.EXECUTED
    return cents(typed)


@pytest.mark.parametrize("rolling", [False, True])
async def test_however_many_ask_at_once_the_meter_holds_its_limit_and_ends_at_what_was_typed(
    store: SqlStore, other: SqlStore, database: Database, *, rolling: bool
) -> None:
    rules, highest = typing(rolling=rolling), 0
    over = asyncio.Event()

    async def watch() -> None:
        nonlocal highest
        while not over.is_set():
            [(sums,)] = await database.execute("SELECT max(held + posted) FROM meter_window")
            highest = max(highest, int(str(sums or 0)))
            await asyncio.sleep(0)

    stores, amounts = cycle((store, other)), cycle(TYPED)
    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        took = await asyncio.gather(
            *[bought(next(stores), number, next(amounts), rules) for number in range(30)]
        )
        over.set()
    assert 0 < highest <= LIMIT
    assert await pot(database) == (0, sum(took), 0)
    # Three bounds fit at once; what is typed makes room for those who ask later.
    assert sum(took) > 0
    assert sum(1 for each in took if each) >= 3


async def test_a_bound_is_held_until_an_amount_is_typed_and_the_rest_makes_room_at_once(
    store: SqlStore, database: Database
) -> None:
    rules = typing("60.00 USD")
    held = (await ask(store, 1, rules)).call
    assert await pot(database) == (6000, 0, 0)
    assert (await ask(store, 2, rules)).event is Event.DENY
    with pytest.raises(Unreadable, match="above"):
        await vote(store, held, rules, Choice.APPROVE, "60.01 USD")
    with pytest.raises(Unreadable, match="type what this call costs"):
        await vote(store, held, rules, Choice.APPROVE)
    assert await store.get(held.id) == held
    assert await pot(database) == (6000, 0, 0)

    approved = await vote(store, held, rules, Choice.APPROVE, "12.34 USD")
    assert await store.get(held.id) == approved
    assert (approved.cost, approved.votes[0].amount) == (Money(1234, "USD"),) * 2
    assert await pot(database) == (1234, 0, 0)
    entries = await database.execute("SELECT kind, amount FROM ledger_entry ORDER BY id")
    assert entries == [("reserve", 6000), ("void", 6000 - 1234)]
    assert (await ask(store, 3, rules)).event is Event.HOLD


async def test_of_two_who_type_at_once_one_is_told_that_it_is_decided(
    store: SqlStore, other: SqlStore, database: Database
) -> None:
    rules = typing()
    held = (await ask(store, 1, rules)).call
    answers = await asyncio.gather(
        vote(store, held, rules, Choice.APPROVE, "1.00 USD"),
        vote(other, held, rules, Choice.APPROVE, "2.00 USD"),
        return_exceptions=True,
    )
    [stands] = [each for each in answers if isinstance(each, Call)]
    assert [type(each) for each in answers if each is not stands] == [Conflict]
    assert stands.cost is not None
    assert await pot(database) == (stands.cost.minor, 0, 0)


@pytest.mark.parametrize(("took", "posted"), [(None, 1234), (1000, 1000), (2000, 2000)])
async def test_what_was_typed_is_booked_or_what_the_upstream_took(
    store: SqlStore, database: Database, took: int | None, posted: int
) -> None:
    rules = typing()
    document = rules.policies["shop"].charges[0].spend
    assert document.actual is None
    call = await vote(store, (await ask(store, 1, rules)).call, rules, Choice.APPROVE, "12.34 USD")
    await claim(store, call, rules)
    call = await store.get(call.id)
    actual = None if took is None else Money(took, "USD")

    def lose(call: Call, now: object) -> Change:
        return steps.lose(call, why="gone", actor="clock")

    await store.advance(call.id, lose)
    assert await pot(database) == (1234, 0, 0)
    call = await store.get(call.id)
    assert call.attempt is not None
    later = call.attempt.lease_until + steps.SETTLE_PAUSE
    settled = await store.advance(
        call.id,
        lambda call, now: steps.settle(
            call, executed=True, person="dora", evidence="", now=later, actual=actual
        ),
    )
    assert await pot(database) == (0, posted, 0)
    assert settled.freezes is (posted > 1234)


async def test_after_midnight_what_was_typed_counts_on_the_new_day(
    store: SqlStore, database: Database, clock: Clock
) -> None:
    rules = typing()
    call = await vote(store, (await ask(store, 1, rules)).call, rules, Choice.APPROVE, "9.00 USD")
    clock.advance(hours=24)
    change = await claim(store, call, rules)
    assert change.event is Event.CLAIM
    [reservation] = change.call.reservations
    assert (reservation.amount, reservation.at) == (Money(900, "USD"), clock.now)
    assert await pot(database) == (900, 0, 0)


async def test_a_lower_bound_is_in_force_for_what_waits_and_for_what_was_typed(
    store: SqlStore, database: Database, clock: Clock
) -> None:
    wide, narrow = typing("30.00 USD"), typing("10.00 USD")
    waits = (await ask(store, 1, wide)).call
    typed = await vote(store, (await ask(store, 2, wide)).call, wide, Choice.APPROVE, "20.00 USD")
    assert await pot(database) == (5000, 0, 0)
    verdict = narrow.judge("ops-agent", "shop", BUY, {"number": 1})
    change = await store.advance(waits.id, lambda call, now: steps.review(call, verdict, now=now))
    assert (change.event, change.call.asking) == (
        Event.TIGHTEN,
        Asking(up_to=Money(1000, "USD")),
    )
    assert await store.get(waits.id) == change.call
    assert await pot(database) == (3000, 0, 0)
    ended = await claim(store, typed, narrow)
    assert (ended.event, ended.call.note) == (Event.INVALIDATE, "price_changed")
    assert await pot(database) == (1000, 0, 0)
    clock.now += timedelta(days=1)
    await store.advance(waits.id, lambda call, now: steps.expire(call, now=now))
    assert await lawful(database) == {}
    assert {each.state for each in (await store.get(typed.id)).reservations} == {State.VOID}
