"""How a call begins: held, run at once, denied, or joined to an equal one."""

from dataclasses import replace

import pytest

from approval.core import intake
from approval.core.audit import Entry, Tag
from approval.core.call import (
    CallId,
    Outcome,
    Reason,
    Status,
    Verdict,
)
from approval.core.demand import Demand, Holdings, Offer, Terms
from approval.core.ledger import State
from approval.core.lifecycle import Change, Event, Funds
from approval.core.meters import Draw, Meter, Over, Soft, Usage
from approval.core.money import Money
from approval.core.price import Asking, OnError, Per
from approval.core.windows import AllTime
from tests.core.lives import (
    ALLOW,
    DENY,
    GATE,
)
from tests.factories import (
    NOTHING,
    NOW,
    make_asked,
    make_call,
    make_lease,
    make_verdict,
)


def test_a_gated_call_is_held_with_everything_its_verdict_said() -> None:
    asked = make_asked(key="k")
    change = intake.begin(
        asked, GATE, NOTHING, call_id=CallId("apr_1"), lease=make_lease(), now=NOW
    )
    call = make_call(id="apr_1", asked=asked, listener_owner="me")
    assert change == Change(
        call=call,
        event=Event.HOLD,
        funds=Funds.RESERVE,
        actor="agent:ops-agent",
        facts={
            "agent": "ops-agent",
            "arguments": asked.arguments_digest,
            "digest": call.digest,
            "policy": "p" * 64,
            "tool": "create_incoming_phone_number",
            "upstream": "shop",
        },
    )


@pytest.mark.parametrize("verdict", [ALLOW, DENY, replace(GATE, requirement=None)])
def test_nothing_begins_but_a_gate_that_requires_something(verdict: Verdict) -> None:
    with pytest.raises(ValueError, match=r"says what it requires|gated or spends"):
        intake.begin(
            make_asked(), verdict, NOTHING, call_id=CallId("apr_1"), lease=make_lease(), now=NOW
        )


def test_a_denial_is_a_line_in_the_trail_with_digests_and_codes_alone() -> None:
    verdict = make_verdict(
        Outcome.DENY, reasons=(Reason(code="deny_if:true", path="/x", text="secret-text"),)
    )
    assert intake.denial(make_asked(), verdict, "apr_1") == Entry(
        tag=Tag.CALL_DENY,
        subject="apr_1",
        actor="policy",
        facts={
            "agent": "ops-agent",
            "arguments": make_asked().arguments_digest,
            "codes": ["deny_if:true"],
            "policy": "p" * 64,
            "to": "denied",
            "tool": "create_incoming_phone_number",
            "upstream": "shop",
        },
    )


# --- with money ---

POT = Meter(name="pot", origin="o", limit=Money(1000, "USD"), window=AllTime())
SOFT = replace(
    POT, name="soft", soft=Soft(override_by=("bob",), up_to=Money(500, "USD")), over=Over.ASK
)
PRICE = Money(400, "USD")
TERMS = Terms(on_error=OnError.POST)


def priced(meter: Meter, outcome: Outcome = Outcome.GATE) -> Verdict:
    draw = Draw(meter_id=meter.name, key=(), meter=meter, amount=PRICE)
    demand = Demand(amount=PRICE, per=Per.MONTH, terms=TERMS, draws=(draw,))
    return make_verdict(outcome, demand=demand)


def begin(verdict: Verdict, holdings: Holdings = NOTHING) -> Change:
    return intake.begin(
        make_asked(), verdict, holdings, call_id=CallId("apr_1"), lease=make_lease(), now=NOW
    )


@pytest.mark.parametrize(
    ("verdict", "held", "event", "status", "override", "approvers"),
    [
        (priced(POT), 600, Event.HOLD, Status.PENDING, 0, [("finance",)]),
        (priced(POT, Outcome.ALLOW), 600, Event.ALLOW, Status.EXECUTING, 0, []),
        (priced(SOFT), 600, Event.HOLD, Status.PENDING, 0, [("finance",)]),
        (priced(SOFT), 700, Event.HOLD, Status.PENDING, 100, [("finance",), ("bob",)]),
        (priced(SOFT, Outcome.ALLOW), 600, Event.ALLOW, Status.EXECUTING, 0, []),
        (priced(SOFT, Outcome.ALLOW), 700, Event.HOLD, Status.PENDING, 100, [("bob",)]),
    ],
)
def test_a_call_that_costs_begins_with_what_it_takes(
    verdict: Verdict,
    held: int,
    event: Event,
    status: Status,
    override: int,
    approvers: list[tuple[str, ...]],
) -> None:
    meter_id = verdict.demand.draws[0].meter_id if verdict.demand else ""
    change = begin(verdict, Holdings(usage={meter_id: Usage(held=held)}))

    call = change.call
    assert (change.event, call.status, change.funds) == (event, status, Funds.RESERVE)
    assert (call.amount, call.per, call.terms) == (PRICE, Per.MONTH, TERMS)
    assert [factor.approvers for factor in call.requirement.factors] == approvers
    [reservation] = call.reservations
    assert (reservation.state, reservation.amount) == (State.HELD, PRICE)
    assert (reservation.override, reservation.at) == (override, NOW)
    # One that runs at once is claimed as it begins, and one that is held by nobody.
    assert (call.attempt is not None) is (event is Event.ALLOW)
    entry = change.entry().facts
    assert entry["ledger"] == [
        ["reserve", meter_id, reservation.window_start.isoformat(), 400, override]
    ]
    assert (entry["amount"], entry["digest"]) == ("4.00 USD", call.digest)
    assert ("attempt" in entry) is (event is Event.ALLOW)


@pytest.mark.parametrize("outcome", [Outcome.GATE, Outcome.ALLOW])
@pytest.mark.parametrize(
    ("meter", "usage"), [(POT, Usage(held=601)), (SOFT, Usage(held=1101, overridden=101))]
)
def test_a_call_without_room_is_denied_and_leaves_its_entry_alone(
    outcome: Outcome, meter: Meter, usage: Usage
) -> None:
    change = begin(priced(meter, outcome), Holdings(usage={meter.name: usage}))
    assert (change.event, change.call.status) == (Event.DENY, Status.DENIED)
    assert (change.bookings, change.taken, change.call.reservations) == ((), (), ())
    assert change.refusal is not None
    assert change.entry() == Entry(
        tag=Tag.CALL_DENY,
        subject="apr_1",
        actor="policy",
        facts={
            "agent": "ops-agent",
            "arguments": make_asked().arguments_digest,
            "codes": ["limit"],
            "policy": "p" * 64,
            "to": "denied",
            "tool": "create_incoming_phone_number",
            "upstream": "shop",
        },
    )


def test_the_amount_is_part_of_what_is_approved() -> None:
    dear, cheap = (make_call(amount=amount).digest for amount in (PRICE, Money(399, "USD")))
    euros = make_call(amount=Money(400, "EUR")).digest
    assert len({dear, cheap, euros, make_call().digest}) == 4


def test_a_call_under_a_grant_says_so_and_runs_at_once() -> None:
    offer = Offer(grant="numbers", draws=())
    change = begin(priced(POT), Holdings(offers=(offer,)))
    assert (change.event, change.call.grant) == (Event.ALLOW, "numbers")
    assert change.entry().facts["grant"] == "numbers"
    assert change.call.requirement == intake.NOBODY


def asked_price(outcome: Outcome = Outcome.GATE) -> Verdict:
    verdict = priced(POT, outcome)
    assert verdict.demand is not None
    terms = Terms(asking=Asking(up_to=PRICE))
    return replace(verdict, demand=replace(verdict.demand, terms=terms))


def test_a_call_whose_price_is_typed_is_held_at_its_bound() -> None:
    change = begin(asked_price(), Holdings())
    assert (change.event, change.call.amount, change.call.cost) == (Event.HOLD, PRICE, None)
    assert [each.amount for each in change.call.reservations] == [PRICE]
    facts = change.entry().facts
    assert (facts["up_to"], "amount" in facts) == ("4.00 USD", False)


def test_no_grant_and_no_permission_stands_in_for_whoever_types() -> None:
    held = begin(asked_price(), Holdings(offers=(Offer(grant="numbers", draws=()),)))
    assert (held.event, held.call.grant) == (Event.HOLD, None)
    with pytest.raises(ValueError, match="held for one"):
        begin(asked_price(Outcome.ALLOW), Holdings())
