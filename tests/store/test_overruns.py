"""A meter beyond its limit, because an upstream took more than was allowed: who gets in then."""

from dataclasses import replace
from datetime import datetime

import pytest

from approval.core import intake, steps
from approval.core.call import Answer, Call, Outcome, Status, new_call_id
from approval.core.demand import Demand, Holdings, Terms
from approval.core.lifecycle import Change, Event
from approval.core.meters import Draw, Meter, Over, Soft, Usage
from approval.core.money import Money, Unit
from approval.core.pointers import Pointer
from approval.core.price import Actual, OnOverrun
from approval.core.windows import AllTime
from approval.errors import Conflict
from approval.store.store import SqlStore
from tests.factories import make_asked, make_lease, make_verdict

HARD = Meter(name="pot", origin="o", limit=Money(100, "USD"), window=AllTime())
SOFT = replace(HARD, soft=Soft(override_by=("bob",), up_to=Money(50, "USD")), over=Over.ASK)
TERMS = Terms(
    on_overrun=OnOverrun.ALERT,
    actual=Actual(at=Pointer(text="/took", steps=("took",)), unit=Unit.MINOR),
)


async def buy(
    store: SqlStore, meter: Meter, minor: int, number: int, terms: Terms = TERMS
) -> Change:
    price = Money(minor, "USD")
    draw = Draw(meter_id="pot", key=(), meter=meter, amount=price)
    demand = Demand(amount=price, draws=(draw,), terms=terms)
    verdict = make_verdict(Outcome.ALLOW, demand=demand)
    asked = make_asked({"number": number})

    def begin(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
        call_id = new_call_id(now, number.to_bytes(10))
        lease = make_lease()
        return intake.begin(asked, verdict, holdings, call_id=call_id, lease=lease, now=now)

    return await store.admit(asked, demand, begin)


async def overrun(store: SqlStore, meter: Meter) -> None:
    begun = await buy(store, meter, 90, 1)
    answer = Answer(status=Status.EXECUTED, body=b'{"result":{"took":150}}')
    done = await store.advance(
        begun.call.id, lambda call, now: steps.answer(call, answer, owner="me", now=now)
    )
    assert done.facts == {"overrun": "1.50 USD"}


async def test_a_hard_limit_that_was_overrun_admits_nobody(store: SqlStore) -> None:
    await overrun(store, HARD)
    refused = await buy(store, HARD, 1, 2)
    assert refused.event is Event.DENY
    assert refused.refusal is not None


async def test_a_soft_limit_that_was_overrun_asks_those_who_may_override(store: SqlStore) -> None:
    """The money that is gone anyway is not the next call's matter: all of that call is."""
    await overrun(store, SOFT)
    asked = await buy(store, SOFT, 20, 2)
    assert asked.event is Event.HOLD
    assert [factor.approvers for factor in asked.call.requirement.factors] == [("bob",)]
    [reservation] = asked.call.reservations
    assert (reservation.amount, reservation.override) == (Money(20, "USD"), 20)
    assert await store.sums(SOFT, await store.now()) == Usage(held=20, posted=150, overridden=20)

    assert (await buy(store, SOFT, 30, 3)).event is Event.HOLD
    assert (await buy(store, SOFT, 1, 4)).event is Event.DENY


async def test_a_step_that_overlooks_the_cap_of_overrides_is_refused_by_the_database(
    store: SqlStore,
) -> None:
    await overrun(store, SOFT)
    lax = replace(SOFT, soft=Soft(override_by=("bob",), up_to=Money(1000, "USD")))
    price = Money(60, "USD")
    demand = Demand(amount=price, draws=(Draw(meter_id="pot", key=(), meter=SOFT, amount=price),))
    taken = replace(demand, draws=(replace(demand.draws[0], meter=lax),))
    verdict = make_verdict(Outcome.ALLOW, demand=taken)

    def begin(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
        return intake.begin(
            make_asked(),
            verdict,
            holdings,
            call_id=new_call_id(now, bytes(10)),
            lease=make_lease(),
            now=now,
        )

    with pytest.raises(Conflict, match="budget"):
        await store.admit(make_asked(), demand, begin)


async def test_what_was_given_back_is_booked_beyond_the_limit_where_it_was_spent_after_all(
    store: SqlStore,
) -> None:
    """Others have taken the room meanwhile; the money is gone all the same."""
    first = await buy(store, HARD, 90, 1)
    failed = Answer(status=Status.FAILED, body=b"{}")
    await store.advance(
        first.call.id, lambda call, now: steps.answer(call, failed, owner="me", now=now)
    )
    assert (await buy(store, HARD, 100, 2)).event is Event.ALLOW
    actual = Money(120, "USD")
    await store.advance(
        first.call.id,
        lambda call, now: steps.correct(call, person="dora", evidence="", actual=actual, now=now),
    )
    assert await store.sums(HARD, await store.now()) == Usage(held=100, posted=120)
    assert (await buy(store, HARD, 1, 3)).event is Event.DENY
    assert (await store.verify()).problems == ()


@pytest.mark.parametrize(("allow_zero", "posted"), [(True, 0), (False, 90)])
async def test_that_a_call_took_nothing_is_believed_where_it_was_allowed_when_it_began(
    store: SqlStore, *, allow_zero: bool, posted: int
) -> None:
    begun = await buy(store, HARD, 90, 1, replace(TERMS, allow_zero=allow_zero))
    nothing = Answer(status=Status.EXECUTED, body=b'{"result":{"took":0}}')
    done = await store.advance(
        begun.call.id, lambda call, now: steps.answer(call, nothing, owner="me", now=now)
    )
    assert done.facts == ({} if allow_zero else {"actual_refused": "zero"})
    assert await store.sums(HARD, await store.now()) == Usage(posted=posted)
