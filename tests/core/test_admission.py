"""What a call demands meets what the store holds."""

from dataclasses import replace
from datetime import timedelta

import pytest

from approval.core import admission
from approval.core.admission import Admitted
from approval.core.call import Outcome, Verdict
from approval.core.demand import Count, Demand, Holdings, Offer, Ring
from approval.core.meters import USES, Draw, Meter, Over, Soft, Usage
from approval.core.money import Money
from approval.core.rates import Rate, RateKey
from approval.core.refusals import Refusal
from approval.core.windows import AllTime
from tests.factories import NOW, make_verdict


def test_a_wait_is_told_in_whole_seconds_and_never_too_short() -> None:
    why = Refusal(code="rate", text="full", retry_after=timedelta(seconds=1, microseconds=1))
    refused = admission.no_room(why)
    assert (refused.code, refused.retry_after, refused.retryable) == ("rate", 2, True)
    assert admission.no_room(Refusal(code="limit", text="full")).retry_after is None


# --- under a grant ---

POT = Meter(name="pot", origin="o", limit=Money(1000, "USD"), window=AllTime())
SOFT = replace(
    POT, soft=Soft(override_by=("ann",), up_to=Money(1000, "USD")), over=Over.ASK, name="soft"
)
USES_LEFT = Meter(name="uses", origin="grant", limit=Money(3, USES), window=AllTime())


def draw(meter: Meter, minor: int) -> Draw:
    return Draw(meter_id=meter.name, key=(), meter=meter, amount=Money(minor, meter.limit.currency))


def priced(meter: Meter = POT, minor: int = 400) -> Verdict:
    demand = Demand(amount=Money(minor, "USD"), draws=(draw(meter, minor),))
    return make_verdict(demand=demand)


FIRST = Offer(grant="first", draws=(draw(USES_LEFT, 1),), path="/grants/0")
SECOND = Offer(grant="second", draws=())
LATER = replace(SECOND, grant="later", not_before=NOW + timedelta(microseconds=1))
OVER = replace(SECOND, grant="over", expires=NOW)


@pytest.mark.parametrize(
    ("verdict", "offers", "usage", "grant"),
    [
        (priced(), (), {}, None),
        (priced(), (FIRST, SECOND), {}, "first"),
        (priced(), (FIRST, SECOND), {"uses": Usage(held=3)}, "second"),
        (priced(), (FIRST,), {"uses": Usage(posted=3)}, None),
        (priced(), (FIRST,), {"uses": Usage(posted=2)}, "first"),
        (priced(), (LATER, OVER), {}, None),
        (priced(), (LATER, OVER, SECOND), {}, "second"),
        # Whoever may let a call pass a soft limit is asked, whatever stands in for others.
        (priced(SOFT), (SECOND,), {"soft": Usage(held=700)}, None),
        (priced(SOFT), (SECOND,), {"soft": Usage(held=600)}, "second"),
        (make_verdict(), (FIRST,), {}, "first"),
    ],
)
def test_the_first_grant_with_room_stands_in_for_an_approval(
    verdict: Verdict, offers: tuple[Offer, ...], usage: dict[str, Usage], grant: str | None
) -> None:
    admitted = admission.admit(verdict, Holdings(usage=usage, offers=offers), NOW)

    assert isinstance(admitted, Admitted)
    assert admitted.grant == grant
    if grant is None:
        assert admitted.verdict.outcome is Outcome.GATE
        assert admitted.verdict.requirement is not None
        assert "uses" not in {each.reservation.meter_id for each in admitted.bookings}
        assert admitted.verdict.reasons == verdict.reasons
        return
    assert admitted.verdict.outcome is Outcome.ALLOW
    assert admitted.verdict.requirement is None
    assert admitted.verdict.reasons[0].code == "grant"
    assert admitted.verdict.reasons[1:] == verdict.reasons
    assert ("uses" in {each.reservation.meter_id for each in admitted.bookings}) is (
        grant == "first"
    )


def test_no_grant_passes_a_hard_meter() -> None:
    held = Holdings(usage={"pot": Usage(held=601)}, offers=(SECOND,))
    refused = admission.admit(priced(), held, NOW)
    assert isinstance(refused, Refusal)
    assert refused.code == "limit"


def test_no_grant_passes_a_rate() -> None:
    rate = Rate(origin="o", name="r", path="/r", max=1, window=timedelta(minutes=1))
    key = RateKey(id="r", family="r")
    demand = Demand(counts=(Count(rate=rate, key=key),))
    held = Holdings(rings={"r": Ring(n=1, old=(NOW,))}, offers=(SECOND,))
    refused = admission.admit(make_verdict(demand=demand), held, NOW)
    assert isinstance(refused, Refusal)
    assert refused.code.startswith("rate")


def test_a_grant_helps_only_a_gate() -> None:
    allowed = make_verdict(Outcome.ALLOW, demand=priced().demand)
    admitted = admission.admit(allowed, Holdings(offers=(FIRST,)), NOW)
    assert isinstance(admitted, Admitted)
    assert (admitted.grant, len(admitted.bookings)) == (None, 1)
