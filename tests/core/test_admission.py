"""What a call demands meets what the store holds."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from approval.core import admission
from approval.core.admission import Admitted
from approval.core.audit import Entry, Tag
from approval.core.call import (
    Factor,
    OnDisconnect,
    Outcome,
    Reason,
    Requirement,
    Run,
    Verdict,
)
from approval.core.demand import Count, Demand, Holdings, Offer, Ring
from approval.core.grantable import Bounds
from approval.core.ledger import Kind, Reservation
from approval.core.meters import USES, Draw, Meter, Over, Soft, Usage
from approval.core.money import Money
from approval.core.rates import Algorithm, Rate, RateKey
from approval.core.refusals import Refusal
from approval.core.windows import AllTime, Calendar, Rolling, Unit
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
RATE = Rate(origin="o", name="r", path="/r", max=1, window=timedelta(minutes=1))
KEY = RateKey(id="r", family="r")
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
    demand = Demand(counts=(Count(rate=RATE, key=KEY),))
    held = Holdings(rings={"r": Ring(n=1, old=(NOW,))}, offers=(SECOND,))
    refused = admission.admit(make_verdict(demand=demand), held, NOW)
    assert isinstance(refused, Refusal)
    assert refused.code.startswith("rate")


def test_a_grant_helps_only_a_gate() -> None:
    allowed = make_verdict(Outcome.ALLOW, demand=priced().demand)
    admitted = admission.admit(allowed, Holdings(offers=(FIRST,)), NOW)
    assert isinstance(admitted, Admitted)
    assert (admitted.grant, len(admitted.bookings)) == (None, 1)


# --- what fits, and what becomes of what does not ---

ASKING = replace(SOFT, soft=Soft(override_by=("ann",), up_to=Money(300, "USD")), name="asking")
REFUSING = replace(
    ASKING,
    soft=Soft(override_by=("bob",), up_to=Money(300, "USD")),
    over=Over.DENY,
    name="refusing",
)
DAILY = replace(POT, name="daily", window=Calendar(unit=Unit.DAY))
MONTHLY = replace(POT, name="monthly", window=Calendar(unit=Unit.MONTH))
ROLLING = replace(POT, name="rolling", window=Rolling(span=timedelta(hours=24)))
ALLOWED = make_verdict(Outcome.ALLOW)


def demanding(*meters: Meter, minor: int = 400) -> Demand:
    draws = tuple(draw(meter, minor) for meter in meters)
    return Demand(amount=Money(minor, "USD"), draws=draws)


@pytest.mark.parametrize(
    ("verdict", "meters", "usage", "outcome", "asked"),
    [
        (ALLOWED, (POT,), {}, Outcome.ALLOW, ()),
        (ALLOWED, (POT,), {"pot": Usage(held=300, posted=300)}, Outcome.ALLOW, ()),
        (ALLOWED, (POT,), {"pot": Usage(held=300, posted=301)}, None, ()),
        (make_verdict(), (POT,), {"pot": Usage(posted=601)}, None, ()),
        (ALLOWED, (ASKING,), {"asking": Usage(held=600)}, Outcome.ALLOW, ()),
        (ALLOWED, (ASKING,), {"asking": Usage(held=601)}, Outcome.GATE, ("ann",)),
        (ALLOWED, (ASKING,), {"asking": Usage(held=900)}, Outcome.GATE, ("ann",)),
        (ALLOWED, (ASKING,), {"asking": Usage(held=901)}, None, ()),
        # What was let pass before counts towards what may be let pass in all.
        (ALLOWED, (ASKING,), {"asking": Usage(held=1001, overridden=1)}, None, ()),
        (ALLOWED, (REFUSING,), {"refusing": Usage(held=601)}, None, ()),
        # One that is held anyway is asked of those who may override as well.
        (make_verdict(), (REFUSING,), {"refusing": Usage(held=600)}, Outcome.GATE, ("finance",)),
        (
            make_verdict(),
            (REFUSING,),
            {"refusing": Usage(held=601)},
            Outcome.GATE,
            ("finance", "bob"),
        ),
        (
            make_verdict(),
            (ASKING, REFUSING),
            {"asking": Usage(held=700), "refusing": Usage(held=700)},
            Outcome.GATE,
            ("finance", "ann", "bob"),
        ),
        # A limit that denies denies, although another one asks.
        (
            ALLOWED,
            (ASKING, REFUSING),
            {"asking": Usage(held=700), "refusing": Usage(held=700)},
            None,
            (),
        ),
        (ALLOWED, (ASKING, POT), {"asking": Usage(held=700), "pot": Usage(held=700)}, None, ()),
        (ALLOWED, (ASKING, POT), {"asking": Usage(held=700)}, Outcome.GATE, ("ann",)),
    ],
)
def test_what_fits_is_taken_whole_and_soft_limits_are_asked_about(
    verdict: Verdict,
    meters: tuple[Meter, ...],
    usage: dict[str, Usage],
    outcome: Outcome | None,
    asked: tuple[str, ...],
) -> None:
    demand = demanding(*meters)
    found = admission.admit(replace(verdict, demand=demand), Holdings(usage=usage), NOW)

    if outcome is None:
        assert isinstance(found, Refusal)
        assert found.code == "limit"
        return
    assert isinstance(found, Admitted)
    assert found.verdict.outcome is outcome
    requirement = found.verdict.requirement
    factors = requirement.factors if requirement is not None else ()
    assert tuple(name for factor in factors for name in factor.approvers) == asked
    assert [each.reservation.amount for each in found.bookings] == [Money(400, "USD")] * len(meters)
    for booking in found.bookings:
        over = usage.get(booking.reservation.meter_id, Usage()).counted + 400 - 1000
        assert booking.reservation.override == max(0, over)


def test_nothing_is_taken_of_what_is_refused() -> None:
    counts = (Count(rate=RATE, key=KEY),)
    demand = replace(demanding(POT), counts=counts)
    full = Holdings(
        usage={"pot": Usage(held=1000)}, rings={"r": Ring(n=1, old=(NOW - timedelta(seconds=59),))}
    )
    refused = admission.admit(replace(ALLOWED, demand=demand), full, NOW)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.retry_after) == ("limit", None)

    too_often = admission.admit(replace(ALLOWED, demand=demand), replace(full, usage={}), NOW)
    assert isinstance(too_often, Refusal)
    assert (too_often.code, too_often.retry_after) == ("rate", timedelta(seconds=1))

    no_money = admission.admit(replace(ALLOWED, demand=demand), replace(full, rings={}), NOW)
    assert isinstance(no_money, Refusal)
    assert no_money.code == "limit"

    fits = admission.admit(replace(ALLOWED, demand=demand), replace(full, usage={}, rings={}), NOW)
    assert isinstance(fits, Admitted)
    assert [(each.count, each.n, each.slots) for each in fits.taken] == [(counts[0], 1, (0,))]


def test_every_count_is_raised_or_none() -> None:
    calendar = replace(RATE, name="c", max=2, algorithm=Algorithm.CALENDAR)
    counts = (Count(rate=RATE, key=KEY), Count(rate=calendar, key=RateKey(id="c", family="c")))
    one_left = Holdings(rings={"c": Ring(n=1)})
    taken = admission.count(counts, one_left, NOW)
    assert not isinstance(taken, Refusal)
    assert [(each.n, each.slots) for each in taken] == [(1, (0,)), (2, ())]

    full = admission.count(counts, Holdings(rings={"c": Ring(n=2)}), NOW + timedelta(seconds=20))
    assert isinstance(full, Refusal)
    assert full.retry_after == timedelta(seconds=40)


@pytest.mark.parametrize(
    ("meter", "room_at", "wait"),
    [
        (DAILY, {}, timedelta(hours=12)),
        (ROLLING, {"rolling": NOW + timedelta(hours=3)}, timedelta(hours=3)),
        (ROLLING, {}, None),
        (POT, {}, None),
    ],
)
def test_a_refusal_says_until_when(
    meter: Meter, room_at: dict[str, datetime], wait: timedelta | None
) -> None:
    holdings = Holdings(usage={meter.name: Usage(held=601)}, room_at=room_at)
    refused = admission.admit(replace(ALLOWED, demand=demanding(meter)), holdings, NOW)
    assert isinstance(refused, Refusal)
    assert refused.retry_after == wait
    assert meter.name in refused.text


LONG = Requirement(
    factors=(),
    timeout=timedelta(hours=6),
    run_within=timedelta(hours=24),
    distinct=True,
    not_owner=False,
    run=Run.ON_APPROVAL,
    on_disconnect=OnDisconnect.CANCEL,
    notify=("web",),
)
SHORT = replace(LONG, timeout=timedelta(minutes=1), notify=("elsewhere",))
ANN, FINANCE = Factor(approvers=("ann",)), Factor(approvers=("finance",), approvals=2)
BOUNDS = Bounds(uses=1, within=timedelta(hours=1), total=None, vary=())


@pytest.mark.parametrize(
    ("verdict", "requirement"),
    [
        (ALLOWED, Requirement(factors=(ANN,))),
        (replace(ALLOWED, terms=LONG), replace(LONG, factors=(ANN,))),
        # The rule that holds it has the word, and what would hold others has none.
        (
            make_verdict(requirement=replace(LONG, factors=(FINANCE,)), terms=SHORT),
            replace(LONG, factors=(FINANCE, ANN)),
        ),
        (
            make_verdict(requirement=replace(LONG, factors=(FINANCE,), grantable=BOUNDS)),
            replace(LONG, factors=(FINANCE, ANN)),
        ),
    ],
)
def test_whoever_may_override_is_asked_under_the_terms_of_what_holds_the_call_or_would(
    verdict: Verdict, requirement: Requirement
) -> None:
    over = Holdings(usage={"asking": Usage(held=700)})
    found = admission.admit(replace(verdict, demand=demanding(ASKING)), over, NOW)
    assert isinstance(found, Admitted)
    assert (found.verdict.outcome, found.verdict.requirement) == (Outcome.GATE, requirement)


MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def rated(name: str, window: timedelta) -> Count:
    """Give a count that is full, for as long as `window` from now."""
    rate = replace(RATE, name=name, window=window)
    return Count(rate=rate, key=RateKey(id=name, family=name))


@pytest.mark.parametrize(
    ("counts", "meters", "code", "wait"),
    [
        ((rated("a", MINUTE), rated("b", HOUR)), (), "rate", HOUR),
        ((rated("a", HOUR), rated("b", MINUTE)), (), "rate", HOUR),
        ((rated("a", MINUTE),), (DAILY,), "limit", timedelta(hours=12)),
        ((rated("a", timedelta(hours=13)),), (DAILY,), "rate", timedelta(hours=13)),
        ((), (DAILY, MONTHLY), "limit", timedelta(days=9, hours=12)),
        ((), (MONTHLY, DAILY), "limit", timedelta(days=9, hours=12)),
        ((), (DAILY, ROLLING), "limit", timedelta(hours=20)),
        # What no waiting helps is said before what some would.
        ((rated("a", HOUR),), (DAILY, POT), "limit", None),
        ((), (POT, MONTHLY), "limit", None),
    ],
)
def test_of_all_that_is_full_the_longest_wait_is_told(
    counts: tuple[Count, ...], meters: tuple[Meter, ...], code: str, wait: timedelta | None
) -> None:
    holdings = Holdings(
        usage={meter.name: Usage(held=1000) for meter in meters},
        rings={each.key.id: Ring(n=1, old=(NOW,)) for each in counts},
        room_at={"rolling": NOW + timedelta(hours=20)},
    )
    demand = replace(demanding(*meters), counts=counts)
    refused = admission.admit(replace(ALLOWED, demand=demand), holdings, NOW)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.retry_after) == (code, wait)


def test_another_currency_never_fits() -> None:
    euros = replace(draw(POT, 1), amount=Money(1, "EUR"))
    demand = Demand(amount=Money(1, "EUR"), draws=(euros,))
    for verdict in (ALLOWED, make_verdict()):
        refused = admission.admit(replace(verdict, demand=demand), Holdings(), NOW)
        assert isinstance(refused, Refusal)
        assert refused.code == "currency"


def test_what_there_is_no_room_for_is_a_denial_that_takes_nothing() -> None:
    denied = admission.denied(priced(), Refusal(code="limit", text="full"))
    assert (denied.outcome, denied.requirement, denied.demand) == (Outcome.DENY, None, None)
    assert denied.reasons == (Reason(code="limit", path="", text="full"),)


@pytest.mark.parametrize(("old", "is_full"), [((), False), ((NOW,), True)])
def test_a_call_that_is_merely_counted_leaves_its_entry_or_its_denial(
    old: tuple[datetime, ...], *, is_full: bool
) -> None:
    def entry(tag: Tag) -> Entry:
        return Entry(tag=tag, subject="apr_1", actor="policy")

    found = admission.counted(
        entry(Tag.CALL_ALLOW),
        (Count(rate=RATE, key=KEY),),
        Holdings(rings={"r": Ring(n=len(old), old=old)}),
        NOW,
        lambda why: entry(Tag.CALL_DENY),
    )
    assert found.entry.tag is (Tag.CALL_DENY if is_full else Tag.CALL_ALLOW)
    assert (found.refusal is not None) is is_full
    assert bool(found.taken) is not is_full


# --- moving along with time ---

TOMORROW = NOW + timedelta(hours=12)
"""The midnight after `NOW`."""


def held_in(meter: Meter, override: int = 0) -> dict[str, Reservation]:
    reservation = Reservation(
        meter_id=meter.name,
        window_start=meter.window.row(NOW),
        at=NOW,
        amount=Money(400, "USD"),
        override=override,
    )
    return {meter.name: reservation}


@pytest.mark.parametrize(
    ("meter", "override", "now", "usage", "moved"),
    [
        (DAILY, 0, NOW, Usage(), ()),
        (DAILY, 0, TOMORROW - timedelta(microseconds=1), Usage(), ()),
        # It is where it counts already, and moves nowhere; but it fits there as anywhere.
        (DAILY, 0, NOW, Usage(held=600), ()),
        (DAILY, 0, NOW, Usage(held=601), None),
        (replace(ASKING, window=DAILY.window), 100, NOW, Usage(held=700), ()),
        (replace(ASKING, window=DAILY.window), 100, NOW, Usage(held=701), None),
        (replace(DAILY, limit=Money(999, "USD")), 100, NOW, Usage(held=600), None),
        (DAILY, 0, TOMORROW, Usage(), (0,)),
        (DAILY, 0, TOMORROW, Usage(held=600), (0,)),
        (DAILY, 0, TOMORROW, Usage(held=601), None),
        # What people let pass moves along, as far as it is needed, and no further.
        (replace(ASKING, window=DAILY.window), 100, TOMORROW, Usage(held=600), (0,)),
        (replace(ASKING, window=DAILY.window), 100, TOMORROW, Usage(held=650), (50,)),
        (replace(ASKING, window=DAILY.window), 100, TOMORROW, Usage(held=701), None),
        (replace(ASKING, window=DAILY.window), 0, TOMORROW, Usage(held=601), None),
        (ROLLING, 0, NOW, Usage(held=600), (0,)),
        (ROLLING, 0, NOW, Usage(held=601), None),
        (POT, 0, TOMORROW, Usage(held=600), ()),
        (POT, 0, TOMORROW, Usage(held=601), None),
    ],
)
def test_what_a_call_holds_moves_to_the_window_in_which_it_runs(
    meter: Meter,
    override: int,
    now: datetime,
    usage: Usage,
    moved: tuple[int, ...] | None,
) -> None:
    holdings = Holdings(usage={meter.name: usage})
    found = admission.rehome(demanding(meter), held_in(meter, override), holdings, now)

    if moved is None:
        assert isinstance(found, Refusal)
        return
    assert not isinstance(found, Refusal)
    assert tuple(each.reservation.override for each in found) == moved
    for booking in found:
        old, new = booking.entries
        assert (old.kind, old.window_start) == (Kind.VOID, meter.window.row(NOW))
        assert (new.kind, new.window_start) == (Kind.RESERVE, meter.window.row(now))
        assert (booking.reservation.at, booking.reservation.taken) == (now, 400)


@pytest.mark.parametrize(("usage", "fits"), [(Usage(held=600), True), (Usage(held=601), False)])
def test_a_meter_that_came_since_is_drawn_on_and_nobody_let_it_pass(
    usage: Usage, *, fits: bool
) -> None:
    demand = demanding(POT, ASKING)
    holdings = Holdings(usage={"asking": usage, "pot": Usage(held=600)})
    found = admission.rehome(demand, held_in(POT), holdings, NOW)
    assert isinstance(found, Refusal) is not fits
    if not isinstance(found, Refusal):
        [added] = found
        assert added.reservation.meter_id == "asking"
        assert [each.kind for each in added.entries] == [Kind.RESERVE]
