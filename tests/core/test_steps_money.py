"""The money of a call on its way: what a claim moves, and what an answer and a person settle."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from approval.core import steps
from approval.core.call import Answer, Choice, Status, Verdict
from approval.core.demand import Demand, Holdings, Terms
from approval.core.ledger import Reservation, State
from approval.core.lifecycle import Change, Event
from approval.core.meters import Draw, Meter, Usage
from approval.core.money import Money, Unit
from approval.core.pointers import Pointer
from approval.core.price import Actual, OnError, OnOverrun
from approval.core.windows import AllTime, Calendar
from approval.core.windows import Unit as Period
from tests.core.lives import (
    GATE,
    LATER,
    SETTLE_FROM,
    approved_call,
    claim,
    doubtful_call,
    executing_call,
    vote,
)
from tests.factories import NOW, make_call, make_directory, make_lease, make_verdict

MIDNIGHT = NOW.replace(hour=0) + timedelta(days=1)
PRICE = Money(400, "USD")
DAILY = Meter(name="daily", origin="o", limit=Money(1000, "USD"), window=Calendar(unit=Period.DAY))
LATE = Meter(name="late", origin="o", limit=Money(1000, "USD"), window=AllTime())
HELD = Reservation(meter_id="daily", window_start=NOW.replace(hour=0), at=NOW, amount=PRICE)


def demanding(*meters: Meter, amount: Money = PRICE) -> Verdict:
    draws = tuple(Draw(meter_id=m.name, key=(), meter=m, amount=amount) for m in meters)
    return make_verdict(demand=Demand(amount=amount, draws=draws))


# --- the approval, with money ---


@pytest.mark.parametrize(
    ("override", "told"), [(0, None), (150, {"daily": "1.50 USD"}), (400, {"daily": "4.00 USD"})]
)
def test_an_approval_says_how_far_it_lets_the_call_pass_a_limit(
    override: int, told: dict[str, str] | None
) -> None:
    call = make_call(amount=PRICE, reservations=(replace(HELD, override=override),))
    ballot = steps.Ballot(person="ann", choice=Choice.APPROVE, digest=call.digest, via="web")
    verdict = demanding(DAILY)
    change = steps.decide(call, ballot, directory=make_directory(), verdict=verdict, now=LATER)
    assert change.event is Event.APPROVE
    assert change.entry().facts.get("override") == told


# --- the claim, with money ---


def claim_with(verdict: Verdict, now: datetime = LATER, **usage: int) -> Change:
    call = make_call(amount=PRICE, reservations=(HELD,))
    given = vote("ann", digest=call.digest)
    call = approved_call(
        amount=PRICE, reservations=(HELD,), votes=(given,), run_before=MIDNIGHT + timedelta(hours=1)
    )
    return steps.claim(
        call,
        Holdings(usage={name: Usage(held=held) for name, held in usage.items()}),
        lease=make_lease(),
        directory=make_directory(),
        verdict=verdict,
        now=now,
    )


def test_a_claim_in_the_same_window_moves_no_money() -> None:
    change = claim_with(demanding(DAILY), daily=600)
    assert (change.event, change.bookings) == (Event.CLAIM, ())
    assert change.call.reservations == (HELD,)


def test_a_claim_for_which_there_is_no_room_any_more_says_why_and_gives_the_money_back() -> None:
    change = claim_with(demanding(DAILY), daily=601)
    told = (
        "budget: The limit daily is 10.00 USD a day; 6.01 USD is used or held, 3.99 USD is left,"
        " this call needs 4.00 USD. It resets at 2026-11-22T00:00:00Z."
    )
    assert (change.event, change.call.note) == (Event.INVALIDATE, told)
    assert change.entry().facts["why"] == told
    assert [each.state for each in change.call.reservations] == [State.VOID]


@pytest.mark.parametrize(
    ("amount", "verdict", "by", "runs"),
    [
        (PRICE, demanding(DAILY), "apr_9", False),
        (PRICE, demanding(DAILY), "", True),
        # What the rules price no more was approved at its price all the same.
        (PRICE, GATE, "apr_9", False),
        (None, GATE, "apr_9", True),
    ],
)
def test_a_tool_that_was_frozen_meanwhile_spends_nothing(
    amount: Money | None, verdict: Verdict, by: str, *, runs: bool
) -> None:
    holds = () if amount is None else (HELD,)
    given = vote("ann", digest=make_call(amount=amount, reservations=holds).digest)
    change = steps.claim(
        approved_call(amount=amount, reservations=holds, votes=(given,)),
        Holdings(frozen=by),
        lease=make_lease(),
        directory=make_directory(),
        verdict=verdict,
        now=LATER,
    )
    if runs:
        assert change.event is Event.CLAIM
        return
    assert change.event is Event.INVALIDATE
    told = "frozen: This tool is frozen for this agent: call apr_9 took more than was approved."
    assert change.call.note.startswith(told)
    assert [each.state for each in change.call.reservations] == [State.VOID]


@pytest.mark.parametrize(("taken", "fits"), [(0, True), (600, True), (601, False)])
def test_a_claim_after_midnight_takes_from_the_new_day_or_has_no_budget(
    taken: int, *, fits: bool
) -> None:
    change = claim_with(demanding(DAILY), MIDNIGHT, daily=taken)
    [reservation] = change.call.reservations
    ledgers = change.entry().facts["ledger"]
    yesterday, today = HELD.window_start.isoformat(), MIDNIGHT.isoformat()
    if fits:
        assert change.event is Event.CLAIM
        assert reservation == replace(HELD, window_start=MIDNIGHT, at=MIDNIGHT)
        assert ledgers == [
            ["void", "daily", yesterday, 400, 0],
            ["reserve", "daily", today, 400, 0],
        ]
        return
    assert change.event is Event.INVALIDATE
    assert change.call.note.startswith("budget: ")
    assert reservation == replace(HELD, state=State.VOID)
    assert ledgers == [["void", "daily", yesterday, 400, 0]]


@pytest.mark.parametrize(("taken", "fits"), [(600, True), (601, False)])
def test_a_meter_that_a_reload_added_is_drawn_on(taken: int, *, fits: bool) -> None:
    change = claim_with(demanding(DAILY, LATE), late=taken)
    if fits:
        assert change.event is Event.CLAIM
        assert [each.meter_id for each in change.call.reservations] == ["daily", "late"]
        assert all(each.state is State.HELD for each in change.call.reservations)
        return
    assert change.event is Event.INVALIDATE
    assert change.call.note.startswith("budget: ")
    assert [each.state for each in change.call.reservations] == [State.VOID]


@pytest.mark.parametrize(
    "verdict",
    [GATE, make_verdict(demand=Demand()), make_verdict(demand=Demand(amount=PRICE))],
    ids=["no demand", "no price", "no meter"],
)
def test_a_meter_that_a_reload_took_away_keeps_what_it_holds(verdict: Verdict) -> None:
    change = claim_with(verdict)
    assert (change.event, change.call.reservations) == (Event.CLAIM, (HELD,))


@pytest.mark.parametrize("amount", [Money(399, "USD"), Money(401, "USD"), Money(400, "EUR")])
def test_a_call_whose_price_changed_since_does_not_run(amount: Money) -> None:
    change = claim_with(demanding(DAILY, amount=amount))
    assert (change.event, change.call.note) == (Event.INVALIDATE, "price_changed")
    assert [each.state for each in change.call.reservations] == [State.VOID]


def test_a_call_that_costs_since_it_was_approved_does_not_run() -> None:
    change = claim(approved_call(), verdict=demanding(DAILY))
    assert (change.event, change.call.note) == (Event.INVALIDATE, "price_changed")


# --- what an answer says it took ---

TOOK = Terms(
    actual=Actual(
        at=Pointer(text="/structuredContent/took", steps=("structuredContent", "took")),
        unit=Unit.MINOR,
    )
)


def refused(reason: str) -> dict[str, str]:
    return {"actual_refused": reason}


@pytest.mark.parametrize(
    ("body", "posted", "facts"),
    [
        (b'{"result":{"structuredContent":{"took":400}}}', 400, {}),
        (b'{"result":{"structuredContent":{"took":150}}}', 150, {}),
        (b'{"result":{"structuredContent":{"took":401}}}', 401, {"overrun": "4.01 USD"}),
        # What was not said, or cannot be relied on, frees nothing; the latter is told.
        (b'{"result":{"structuredContent":{}}}', 400, {}),
        (b'{"result":{}}', 400, {}),
        (b'{"error":{"code":-1,"message":"no"}}', 400, {}),
        (b"[]", 400, {}),
        (b'{"result":{"structuredContent":{"took":-1}}}', 400, refused("negative")),
        (b'{"result":{"structuredContent":{"took":0}}}', 400, refused("zero")),
        (b'{"result":{"structuredContent":{"took":10000000000000000}}}', 400, refused("above_cap")),
        (b'{"result":{"structuredContent":{"took":1.5}}}', 400, refused("inexact")),
        (b'{"result":{"structuredContent":{"took":"150"}}}', 400, refused("text_not_allowed")),
        (b'{"result":{"structuredContent":{"took":true}}}', 400, refused("boolean")),
        (b'{"result":{"structuredContent":{"took":null}}}', 400, refused("null")),
        (b'{"result":{"structuredContent":{"took":1,"took":2}}}', 400, refused("duplicate_member")),
        (b'{"result":{"structuredContent":{"took":1e400}}}', 400, refused("number_not_finite")),
        (b'{"result":[]}', 400, refused("not_an_object")),
        (b"\xff", 400, refused("encoding")),
        (b"", 400, refused("empty")),
    ],
)
def test_an_answer_settles_at_what_it_says_and_else_at_what_was_reserved(
    body: bytes, posted: int, facts: dict[str, str]
) -> None:
    call = executing_call(amount=PRICE, terms=TOOK, reservations=(HELD,))
    answer = Answer(status=Status.EXECUTED, body=body)
    change = steps.answer(call, answer, owner="me", now=LATER)
    [reservation] = change.call.reservations
    assert (reservation.state, reservation.posted) == (State.POSTED, posted)
    assert change.facts == facts


@pytest.mark.parametrize(
    ("status", "on_error", "posted"),
    [
        (Status.EXECUTED, OnError.KEEP, 0),
        (Status.ERRORED, OnError.POST, 0),
        (Status.ERRORED, OnError.KEEP, 400),
    ],
)
def test_an_answer_that_it_took_nothing_is_believed_where_the_policy_allows_zero(
    status: Status, on_error: OnError, posted: int
) -> None:
    terms = replace(TOOK, allow_zero=True, on_error=on_error)
    call = executing_call(amount=PRICE, terms=terms, reservations=(HELD,))
    body = b'{"result":{"structuredContent":{"took":0}}}'
    change = steps.answer(call, Answer(status=status, body=body), owner="me", now=LATER)
    [reservation] = change.call.reservations
    assert (reservation.state, reservation.posted) == (State.POSTED, posted)
    assert change.facts == {}


@pytest.mark.parametrize("metered", [True, False])
@pytest.mark.parametrize(
    ("status", "on_error", "took", "overran"),
    [
        (Status.EXECUTED, OnError.KEEP, 400, False),
        (Status.EXECUTED, OnError.KEEP, 401, True),
        (Status.ERRORED, OnError.KEEP, 401, True),
        (Status.ERRORED, OnError.POST, 401, True),
        # Nothing is booked then; that it is said to have taken more is told all the same.
        (Status.ERRORED, OnError.VOID, 401, True),
        (Status.ERRORED, OnError.VOID, 400, False),
        (Status.FAILED, OnError.KEEP, 401, False),
    ],
)
def test_what_is_beyond_the_approved_amount_is_told_and_freezes_whatever_counts_it(
    status: Status, on_error: OnError, took: int, *, overran: bool, metered: bool
) -> None:
    terms = replace(TOOK, on_error=on_error)
    call = executing_call(amount=PRICE, terms=terms, reservations=(HELD,) if metered else ())
    body = b'{"result":{"structuredContent":{"took":%d}}}' % took
    change = steps.answer(call, Answer(status=status, body=body), owner="me", now=LATER)
    assert (change.overran, change.freezes) == (overran, overran)
    assert change.entry().facts.get("overrun") == ("4.01 USD" if overran else None)
    lax = replace(call, terms=replace(terms, on_overrun=OnOverrun.ALERT))
    change = steps.answer(lax, Answer(status=status, body=body), owner="me", now=LATER)
    assert (change.overran, change.freezes) == (overran, False)


@pytest.mark.parametrize("metered", [True, False])
@pytest.mark.parametrize(("minor", "freezes"), [(400, False), (900, True)])
def test_a_doubt_that_took_more_than_was_approved_freezes_whatever_counts_it(
    minor: int, *, freezes: bool, metered: bool
) -> None:
    call = doubtful_call(amount=PRICE, reservations=(HELD,) if metered else ())
    change = steps.settle(
        call,
        executed=True,
        person="dora",
        evidence="",
        now=SETTLE_FROM,
        actual=Money(minor, "USD"),
    )
    assert change.freezes is freezes


@pytest.mark.parametrize(
    ("actual", "executed"),
    [(None, True), (None, False), (Money(150, "USD"), True), (Money(900, "USD"), True)],
)
def test_a_person_settles_the_money_with_the_doubt(actual: Money | None, *, executed: bool) -> None:
    call = doubtful_call(amount=PRICE, terms=TOOK, reservations=(HELD,))
    change = steps.settle(
        call, executed=executed, person="dora", evidence="", now=SETTLE_FROM, actual=actual
    )
    [reservation] = change.call.reservations
    known = PRICE if actual is None else actual
    assert reservation.state is (State.POSTED if executed else State.VOID)
    assert reservation.posted == (known.minor if executed else 0)


def test_a_doubt_keeps_the_money() -> None:
    call = executing_call(amount=PRICE, reservations=(HELD,))
    lost = steps.lose(call, why="", actor="clock")
    lapsed = steps.lapse(call, now=LATER + timedelta(hours=1))
    for change in (lost, lapsed):
        assert (change.call.status, change.call.reservations) == (Status.IN_DOUBT, (HELD,))
