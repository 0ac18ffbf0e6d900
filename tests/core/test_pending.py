"""A bound on an agent's calls that wait for people: what it refuses, and what it leaves alone."""

from dataclasses import replace
from datetime import timedelta

import pytest

from approval.core import admission, intake, pending
from approval.core.admission import Admitted
from approval.core.call import CallId, Outcome, Status, Verdict
from approval.core.demand import Count, Demand, Holdings, Offer, Ring
from approval.core.lifecycle import Event, Funds
from approval.core.meters import USES, Draw, Meter, Over, Soft, Usage
from approval.core.money import Money
from approval.core.pending import Pending
from approval.core.rates import Rate, RateKey
from approval.core.refusals import Refusal
from approval.core.windows import AllTime
from tests.factories import NOW, make_asked, make_lease, make_verdict

FULL = Pending(count=5, most=5)
PRICE = Money(115, "USD")
POT = Meter(name="pot", origin="o", limit=Money(1000, "USD"), window=AllTime())
ASKING = replace(
    POT, soft=Soft(override_by=("ann",), up_to=Money(1000, "USD")), over=Over.ASK, name="asking"
)
RATE = Rate(origin="o", name="r", path="/r", max=1, window=timedelta(minutes=1))
COUNT = Count(rate=RATE, key=RateKey(id="r", family="r"))
USES_LEFT = Meter(name="uses", origin="grant", limit=Money(1, USES), window=AllTime())
GATE = make_verdict()
ALLOWED = make_verdict(Outcome.ALLOW)


def draw(meter: Meter, amount: Money = PRICE) -> Draw:
    return Draw(meter=meter, meter_id=meter.name, key=(), amount=amount)


def spending(meter: Meter = POT, *counts: Count) -> Demand:
    return Demand(amount=PRICE, draws=(draw(meter),), counts=counts)


GRANT = Offer(grant="grt_1", draws=(draw(USES_LEFT, Money(1, USES)),))


@pytest.mark.parametrize(
    ("count", "most", "fits"),
    [(0, 1, True), (1, 1, False), (4, 5, True), (5, 5, False), (6, 5, False), (99, 100, True)],
)
def test_a_call_is_held_while_fewer_wait_than_may(count: int, most: int, *, fits: bool) -> None:
    holdings = Holdings(pending=Pending(count=count, most=most))
    found = admission.admit(GATE, holdings, NOW)
    assert isinstance(found, Admitted) is fits


def test_where_nothing_bounds_them_any_number_waits() -> None:
    assert isinstance(admission.admit(GATE, Holdings(), NOW), Admitted)


@pytest.mark.parametrize(
    ("verdict", "holdings", "found"),
    [
        pytest.param(GATE, Holdings(), "too_many_pending", id="a gate"),
        pytest.param(
            replace(GATE, demand=spending()),
            Holdings(),
            "too_many_pending",
            id="a gate with room in its meter",
        ),
        pytest.param(
            replace(ALLOWED, demand=spending()),
            Holdings(),
            Outcome.ALLOW,
            id="policy allows it",
        ),
        pytest.param(
            replace(ALLOWED, demand=spending(ASKING)),
            Holdings(usage={"asking": Usage(held=1000)}),
            "too_many_pending",
            id="policy allows it, and a soft limit asks people",
        ),
        pytest.param(GATE, Holdings(offers=(GRANT,)), Outcome.ALLOW, id="a grant passes it"),
        pytest.param(
            GATE,
            Holdings(offers=(GRANT,), usage={"uses": Usage(held=1)}),
            "too_many_pending",
            id="its grant is used up",
        ),
        pytest.param(
            replace(GATE, demand=spending()),
            Holdings(usage={"pot": Usage(held=1000)}),
            "limit",
            id="a limit that stays is told first",
        ),
        pytest.param(
            replace(GATE, demand=Demand(counts=(COUNT,))),
            Holdings(rings={"r": Ring(n=1, old=(NOW,))}),
            "rate",
            id="a rate is told first",
        ),
        pytest.param(
            replace(GATE, demand=spending()),
            Holdings(frozen="apr_9"),
            "frozen",
            id="a freeze is told first",
        ),
    ],
)
def test_only_what_would_be_held_is_refused_for_those_that_wait(
    verdict: Verdict, holdings: Holdings, found: object
) -> None:
    admitted = admission.admit(verdict, replace(holdings, pending=FULL), NOW)
    told = admitted.code if isinstance(admitted, Refusal) else admitted.verdict.outcome
    assert told == found


def test_a_refused_call_is_a_denial_that_takes_nothing() -> None:
    verdict = replace(GATE, demand=spending(POT, COUNT))
    holdings = Holdings(pending=FULL, rings={"r": Ring(n=0, old=(None,))})
    change = intake.begin(
        make_asked(), verdict, holdings, call_id=CallId("apr_1"), lease=make_lease(), now=NOW
    )
    assert (change.event, change.call.status) == (Event.DENY, Status.DENIED)
    assert (change.funds, change.bookings, change.taken) == (Funds.NONE, (), ())
    assert change.facts["codes"] == ["too_many_pending"]
    assert change.refusal == pending.refusal(FULL)


@pytest.mark.parametrize(
    ("counted", "told"),
    [
        (FULL, "At most 5 calls of this agent may wait for people at once (now: 5). Wait until"),
        (Pending(count=1, most=1), "At most 1 call of this agent may wait for people at once (n"),
        # A bound that was lowered ends nothing.
        (Pending(count=7, most=2), "At most 2 calls of this agent may wait for people at once (n"),
    ],
)
def test_the_refusal_names_the_bound_and_what_to_do_but_no_time(
    counted: Pending, told: str
) -> None:
    why = pending.refusal(counted)
    assert why.text.startswith(told)
    assert f"(now: {counted.count})" in why.text
    # How an agent could withdraw one is its own surface's to say.
    assert why.text.endswith(" Wait until one of them is decided.")
    refused = admission.no_room(why)
    assert (refused.code, refused.retryable, refused.retry_after) == (
        "too_many_pending",
        True,
        None,
    )
