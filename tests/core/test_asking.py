"""Amounts that approvers type: what is refused and why, what is freed, and what then may run."""

from dataclasses import replace
from datetime import timedelta

import pytest

from approval.core import asking, steps
from approval.core.call import Call, Choice, Requirement, Status, Verdict, Vote
from approval.core.demand import Demand, Holdings, Terms
from approval.core.ledger import Reservation, State
from approval.core.lifecycle import Change, Event
from approval.core.meters import Draw, Meter, Usage
from approval.core.money import Money
from approval.core.price import Asking
from approval.core.steps import Ballot
from approval.core.windows import AllTime
from approval.errors import Conflict, Forbidden, Unreadable
from tests.core.lives import LATER, NO, TWO, YES, vote
from tests.factories import (
    NOW,
    make_call,
    make_directory,
    make_lease,
    make_requirement,
    make_verdict,
)


def usd(cents: int) -> Money:
    return Money(cents, "USD")


BOUND = usd(50000)
POT = Meter(name="pot", origin="o", limit=usd(100_000), window=AllTime())
HELD = Reservation(
    meter_id="pot", window_start=POT.window.row(NOW), at=NOW, amount=BOUND, override=20000
)


def asks(
    up_to: Money = BOUND, *, allow_zero: bool = False, requirement: Requirement | None = None
) -> Verdict:
    """Give what a policy says that leaves the price to approvers."""
    terms = Terms(asking=Asking(up_to=up_to, allow_zero=allow_zero))
    draw = Draw(meter_id="pot", key=(), meter=POT, amount=up_to)
    demand = Demand(amount=up_to, terms=terms, draws=(draw,))
    return make_verdict(demand=demand, requirement=requirement or make_requirement())


def costs(price: Money) -> Verdict:
    draw = Draw(meter_id="pot", key=(), meter=POT, amount=price)
    return make_verdict(demand=Demand(amount=price, draws=(draw,)))


def waiting(*, allow_zero: bool = False, **changes: object) -> Call:
    terms = Terms(asking=Asking(up_to=BOUND, allow_zero=allow_zero))
    return make_call(amount=BOUND, terms=terms, reservations=(HELD,), **changes)


def decide(
    call: Call,
    amount: str | None,
    person: str = "ann",
    choice: Choice = YES,
    *,
    verdict: Verdict | None = None,
) -> Change:
    ballot = Ballot(person=person, choice=choice, digest=call.digest, via="web", amount=amount)
    return steps.decide(
        call, ballot, directory=make_directory(), verdict=verdict or asks(), now=LATER
    )


def approved(amount: str = "12.34 USD") -> Call:
    return decide(waiting(), amount).call


def claim(call: Call, verdict: Verdict, taken: int = 0) -> Change:
    return steps.claim(
        call,
        Holdings(usage={"pot": Usage(held=taken), "late": Usage(held=taken)}),
        lease=make_lease(),
        directory=make_directory(),
        verdict=verdict,
        now=LATER,
    )


# --- what is refused, and why ---

REFUSED: list[tuple[str | None, str]] = [
    (None, "missing"),
    ("-1.00 USD", "negative"),
    ("-0 USD", "negative"),
    ("0 USD", "zero"),
    ("0.00 USD", "zero"),
    ("NaN USD", "not_finite"),
    ("Infinity USD", "not_finite"),
    ("1e2 USD", "exponent_text"),
    ("1_000.00 USD", "text_form"),
    ("1,000.00 USD", "text_form"),
    ("01.00 USD", "text_form"),
    ("+1.00 USD", "text_form"),
    (" USD", "text_form"),
    ("\u0661\u0662.00 USD", "text_form"),
    ("$1.00", "currency"),
    ("1.00", "currency"),
    ("", "currency"),
    ("1.00 usd", "currency"),
    ("1.00  USD", "currency"),
    ("1.00 USD ", "currency"),
    ("1.00 XAU", "currency"),
    ("1.00 EUR", "currency"),
    ("100 JPY", "currency"),
    ("12.345 USD", "inexact"),
    ("12.5 USD", "decimals"),
    ("1.150 USD", "decimals"),
    ("99999999999999.00 USD", "above_cap"),
    ("500.01 USD", "above_bound"),
    ("50000 USD", "above_bound"),
]


@pytest.mark.parametrize(("written", "reason"), REFUSED)
def test_what_cannot_be_typed_is_refused_with_its_own_reason(
    written: str | None, reason: str
) -> None:
    with pytest.raises(Unreadable) as refusal:
        decide(waiting(), written)
    assert refusal.value.reason == reason
    assert str(refusal.value).isprintable()


def test_every_reason_is_told_apart() -> None:
    told: dict[str, str] = {}
    for written, reason in REFUSED:
        with pytest.raises(Unreadable) as refusal:
            decide(waiting(), written)
        told.setdefault(reason, str(refusal.value))
    assert len(set(told.values())) == len(told)


def test_a_known_price_is_typed_by_nobody_and_a_rejection_needs_none() -> None:
    for call, choice in ((make_call(amount=usd(100)), YES), (make_call(), YES), (waiting(), NO)):
        with pytest.raises(Unreadable) as refusal:
            decide(call, "1.00 USD", choice=choice, verdict=make_verdict())
        assert refusal.value.reason == "not_asked"
    rejected = decide(waiting(), None, choice=NO)
    assert (rejected.event, rejected.call.cost) == (Event.REJECT, None)
    assert [each.state for each in rejected.call.reservations] == [State.VOID]


def test_whoever_may_not_decide_is_told_nothing_of_the_amount() -> None:
    for written in ("1.00 USD", "-1.00 USD", None):
        with pytest.raises(Forbidden):
            decide(waiting(), written, "carl")


# --- what is typed ---


@pytest.mark.parametrize(
    ("written", "minor", "override"),
    [
        ("12.34 USD", 1234, 0),
        ("12 USD", 1200, 0),
        ("0.01 USD", 1, 0),
        ("400.00 USD", 40000, 10000),
        ("500.00 USD", 50000, 20000),
    ],
)
def test_the_rest_of_the_bound_is_freed_in_the_same_step(
    written: str, minor: int, override: int
) -> None:
    call = waiting()
    change = decide(call, written)
    typed, freed = usd(minor), BOUND.minor - minor
    assert (change.event, change.call.status) == (Event.APPROVE, Status.APPROVED)
    assert (change.call.amount, change.call.cost, change.call.typed) == (typed, typed, typed)
    assert change.call.reservations == (replace(HELD, amount=typed, override=override),)
    facts = change.entry().facts
    assert facts["amount"] == str(typed)
    start = HELD.window_start.isoformat()
    moved = [["void", "pot", start, freed, 20000 - override]] if freed else None
    assert facts.get("ledger") == moved
    # What was shown stays what was approved: the amount is the person's own word.
    assert change.call.digest == call.digest
    assert change.call.price == f"${minor / 100:.2f}"


def test_nothing_is_typed_where_the_policy_allows_nothing() -> None:
    call, verdict = waiting(allow_zero=True), asks(allow_zero=True)
    change = decide(call, "0.00 USD", verdict=verdict)
    assert (change.call.cost, change.call.reservations[0].amount) == (usd(0), usd(0))
    assert claim(change.call, verdict).event is Event.CLAIM


def test_until_it_is_typed_a_call_says_up_to_what() -> None:
    call = waiting()
    assert (call.cost, call.price) == (None, "up to $500.00")
    assert call.digest != make_call(amount=BOUND).digest


def test_all_approvers_type_the_same() -> None:
    verdict = asks(requirement=TWO)
    first = decide(waiting(requirement=TWO), "12.34 USD", verdict=verdict)
    assert (first.event, first.bookings) == (Event.ENDORSE, ())
    assert (first.call.amount, first.call.cost, first.call.typed) == (BOUND, None, usd(1234))
    assert first.entry().facts["amount"] == "12.34 USD"
    with pytest.raises(Conflict, match=r"ann typed 12\.34 USD for this call, and not 12\.00 USD"):
        decide(first.call, "12 USD", "bob", verdict=verdict)
    second = decide(first.call, "12.34 USD", "bob", verdict=verdict)
    assert (second.event, second.call.cost) == (Event.APPROVE, usd(1234))


def test_repeating_what_was_typed_changes_nothing_and_another_amount_is_told() -> None:
    call = approved("12.00 USD")
    assert decide(call, "12 USD") == Change(call=call)
    for other in ("12.01 USD", "x", None):
        with pytest.raises(Conflict, match="the call is approved"):
            decide(call, other)
    endorsed = decide(waiting(requirement=TWO), "12.00 USD", verdict=asks(requirement=TWO)).call
    with pytest.raises(Conflict, match="ann typed"):
        decide(endorsed, "13.00 USD", verdict=asks(requirement=TWO))
    plain = make_call(votes=(vote("ann"),), requirement=TWO)
    assert decide(plain, None, verdict=make_verdict(requirement=TWO)) == Change(call=plain)


@pytest.mark.parametrize(
    ("said", "written", "same"),
    [
        (None, None, True),
        (None, "1.00 USD", False),
        (usd(100), None, False),
        (usd(100), "1.00 USD", True),
        (usd(100), "1 USD", True),
        (usd(100), "1.01 USD", False),
        (usd(100), "1.0 USD", False),
        (usd(100), "1.00 EUR", False),
    ],
)
def test_a_vote_says_one_amount(said: Money | None, written: str | None, *, same: bool) -> None:
    given: Vote = vote("ann", amount=said)
    assert asking.says(given, written) is same


# --- the claim ---


def test_a_claim_takes_what_was_typed_also_from_a_meter_that_came_later() -> None:
    call, late = approved(), replace(POT, name="late", limit=usd(2000))
    demand = asks().demand
    assert demand is not None
    draws = tuple(Draw(meter_id=m.name, key=(), meter=m, amount=BOUND) for m in (late, POT))
    verdict = make_verdict(demand=replace(demand, draws=draws))
    change = claim(call, verdict, taken=2000 - 1234)
    assert change.event is Event.CLAIM
    assert {each.meter_id: each.amount for each in change.call.reservations} == {
        "late": usd(1234),
        "pot": usd(1234),
    }
    note = claim(call, verdict, taken=2000 - 1233).call.note
    assert note.startswith("budget: The limit late is 20.00 USD")


@pytest.mark.parametrize(
    ("verdict", "runs"),
    [
        (asks(), True),
        (asks(usd(1234)), True),
        (asks(usd(1233)), False),
        (asks(Money(5000, "JPY")), False),
        (costs(usd(1234)), True),
        (costs(BOUND), False),
        (make_verdict(), True),  # it asks for no money any more: that loosens
    ],
)
def test_a_call_runs_at_what_the_policy_in_force_still_lets_anybody_type(
    verdict: Verdict, *, runs: bool
) -> None:
    change = claim(approved(), verdict)
    if runs:
        assert (change.event, change.call.amount) == (Event.CLAIM, usd(1234))
        return
    assert (change.event, change.call.note) == (Event.INVALIDATE, "price_changed")
    assert [each.state for each in change.call.reservations] == [State.VOID]


@pytest.mark.parametrize("verdict", [asks(), costs(BOUND), make_verdict()])
def test_nothing_runs_at_a_bound_that_nobody_typed(verdict: Verdict) -> None:
    call = waiting(status=Status.APPROVED, run_before=LATER + timedelta(minutes=1))
    call = replace(call, votes=(vote("ann", digest=call.digest),))
    assert claim(call, verdict).call.note == "price_changed"
    typed = replace(call, votes=(vote("ann", digest=call.digest, amount=usd(1)),))
    assert claim(typed, verdict).call.note == "price_changed"


def test_a_price_that_was_known_is_not_what_is_asked_now() -> None:
    call = make_call(amount=BOUND, reservations=(HELD,), status=Status.APPROVED)
    call = replace(
        call, votes=(vote("ann", digest=call.digest),), run_before=LATER + timedelta(minutes=1)
    )
    assert claim(call, asks()).call.note == "price_changed"
    assert claim(call, costs(BOUND)).event is Event.CLAIM


# --- the policy changes meanwhile ---


def test_a_lower_bound_frees_the_rest_and_makes_old_cards_stale() -> None:
    call, verdict = waiting(), asks(usd(20000))
    change = steps.review(call, verdict, now=LATER)
    assert (change.event, change.call.cost) == (Event.TIGHTEN, None)
    assert (change.call.asking, change.call.amount) == (Asking(up_to=usd(20000)), usd(20000))
    assert change.call.reservations == (replace(HELD, amount=usd(20000), override=0),)
    assert change.entry().facts["up_to"] == "200.00 USD"
    assert change.call.digest != call.digest
    with pytest.raises(Unreadable, match=r"above 200\.00 USD"):
        decide(change.call, "300.00 USD", verdict=verdict)


def test_a_higher_bound_changes_nothing_that_waits() -> None:
    call = waiting()
    assert steps.review(call, asks(usd(90000)), now=LATER) == Change(call=call)
    with pytest.raises(Unreadable, match=r"above 500\.00 USD"):
        decide(call, "600.00 USD", verdict=asks(usd(90000)))


def test_a_bound_that_no_process_has_looked_at_yet_holds_all_the_same() -> None:
    with pytest.raises(Unreadable, match=r"above 200\.00 USD"):
        decide(waiting(), "300.00 USD", verdict=asks(usd(20000)))
    assert decide(waiting(), "200.00 USD", verdict=asks(usd(20000))).event is Event.APPROVE


@pytest.mark.parametrize("now", [costs(usd(100)), costs(BOUND), asks(Money(500, "JPY"))])
def test_where_nobody_may_type_any_more_the_call_ends_and_is_asked_anew(now: Verdict) -> None:
    for change in (
        steps.review(waiting(), now, now=LATER),
        decide(waiting(), "1 USD", verdict=now),
    ):
        assert (change.event, change.call.note) == (Event.INVALIDATE, "price_changed")
        assert [each.state for each in change.call.reservations] == [State.VOID]


def test_a_policy_that_counts_no_money_any_more_leaves_what_waits_as_it_is() -> None:
    counted = make_verdict(demand=Demand())
    for verdict in (make_verdict(), counted):
        assert steps.review(waiting(), verdict, now=LATER) == Change(call=waiting())
        assert decide(waiting(), "1.00 USD", verdict=verdict).call.cost == usd(100)


def test_what_one_has_typed_ends_with_the_bound_it_was_typed_under() -> None:
    endorsed = decide(waiting(requirement=TWO), "300.00 USD", verdict=asks(requirement=TWO)).call
    change = steps.review(endorsed, asks(usd(20000), requirement=TWO), now=LATER)
    assert (change.event, change.call.note) == (Event.INVALIDATE, "price_changed")
    kept = steps.review(endorsed, asks(usd(30000), requirement=TWO), now=LATER)
    assert kept.call.amount == usd(30000)
    done = decide(kept.call, "300.00 USD", "bob", verdict=asks(usd(30000), requirement=TWO))
    assert (done.event, done.call.cost) == (Event.APPROVE, usd(30000))


def test_a_stricter_requirement_and_bound_come_together() -> None:
    verdict = asks(usd(100), requirement=make_requirement(timeout=timedelta(minutes=5)))
    change = steps.review(waiting(), verdict, now=LATER)
    assert change.call.requirement.timeout == timedelta(minutes=5)
    assert (change.call.amount, change.call.version) == (usd(100), 2)
