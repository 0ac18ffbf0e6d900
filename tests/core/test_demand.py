"""What a call demands, united from several rules and policies."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.core.demand import (
    Count,
    Demand,
    Holdings,
    Offer,
    Terms,
    besides,
    passing,
    terms_of,
    under,
    unite,
)
from approval.core.meters import Draw, Meter, Usage, meter_id
from approval.core.money import Money, Unit
from approval.core.pointers import Pointer
from approval.core.price import Actual, Asking, OnError, OnOverrun, Quote, Spend, Unknown
from approval.core.rates import Rate, RateKey
from approval.core.scopes import Scope
from approval.core.windows import AllTime
from tests.factories import NOW

TICK = timedelta(microseconds=1)


def test_nothing_united_demands_nothing() -> None:
    assert unite([]) == Demand()


def test_two_prices_do_not_unite() -> None:
    dear, cheap = (Demand(amount=Money(minor, "USD")) for minor in (200, 100))
    assert unite([dear, cheap]) is None
    assert unite([dear, dear]) == dear


def test_the_strictest_terms_of_those_that_spend_stand() -> None:
    price = Money(100, "USD")
    lax = Terms(on_error=OnError.VOID, on_overrun=OnOverrun.ALERT)
    strict = Terms(on_error=OnError.POST, on_overrun=OnOverrun.FREEZE)
    demands = [Demand(amount=price, terms=lax), Demand(amount=price, terms=strict), Demand()]
    assert unite(demands) == Demand(amount=price, terms=strict)
    assert unite([Demand(amount=price, terms=lax), Demand()]) == Demand(amount=price, terms=lax)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_that_a_call_took_nothing_is_believed_where_every_policy_allows_it(
    *, first: bool, second: bool
) -> None:
    price = Money(100, "USD")
    united = unite(
        Demand(amount=price, terms=Terms(allow_zero=allowed)) for allowed in (first, second)
    )
    assert united is not None
    assert united.terms.allow_zero is (first and second)


@pytest.mark.parametrize("allow_zero", [True, False])
def test_the_terms_of_a_call_keep_whether_it_may_take_nothing(*, allow_zero: bool) -> None:
    said = Actual(at=Pointer(text="/took", steps=("took",)), unit=Unit.MINOR)
    spend = Spend(sources=(), actual=said, allow_zero=allow_zero)
    terms = terms_of(spend, Quote(reserve=Money(100, "USD")))
    found = terms.took({"took": 0}, "USD")
    assert found == Money(0, "USD") if allow_zero else isinstance(found, Unknown)
    assert terms.took({"took": 7}, "USD") == Money(7, "USD")


def asked(up_to: int, currency: str = "USD", *, allow_zero: bool = False) -> Demand:
    bound = Money(up_to, currency)
    terms = Terms(asking=Asking(up_to=bound, allow_zero=allow_zero))
    draws = (Draw(meter_id="pot", key=(), meter=POT, amount=bound),)
    return Demand(amount=bound, terms=terms, draws=draws)


def test_of_two_bounds_for_what_is_typed_the_lower_one_is_set_aside() -> None:
    assert unite([asked(500), asked(200)]) == unite([asked(200), asked(500)]) == asked(200)
    assert unite([asked(500, allow_zero=True), asked(500)]) == asked(500)
    assert unite([asked(500, allow_zero=True), Demand()]) == asked(500, allow_zero=True)


def test_a_price_that_is_known_is_not_one_that_is_typed() -> None:
    for known in (500, 100, 900):
        assert unite([asked(500), Demand(amount=Money(known, "USD"))]) is None
    assert unite([asked(500), asked(500, "JPY")]) is None


# --- whose meters and counts ---

POT = Meter(name="pot", origin="o", limit=Money(1000, "USD"), window=AllTime())
RATE = Rate(origin="o", name="r", path="/r", max=1, window=timedelta(minutes=1))


def drawn(*names: str, amount: int = 100) -> tuple[Draw, ...]:
    return tuple(
        Draw(meter_id=name, key=(), meter=POT, amount=Money(amount, "USD")) for name in names
    )


def counted(*names: str) -> tuple[Count, ...]:
    return tuple(Count(rate=RATE, key=RateKey(id=name, family=name)) for name in names)


def test_meters_and_counts_unite_each_once_in_the_order_of_locks() -> None:
    united = unite(
        [
            Demand(amount=Money(100, "USD"), draws=drawn("c", "a"), counts=counted("z")),
            Demand(amount=Money(100, "USD"), draws=drawn("b", "a"), counts=counted("y", "z")),
            Demand(counts=counted("x")),
        ]
    )
    assert united is not None
    assert united.draws == drawn("a", "b", "c")
    assert united.counts == counted("x", "y", "z")


@given(st.permutations([("b",), ("a", "c"), ("c", "b"), ()]))
def test_the_order_of_rules_changes_nothing(groups: list[tuple[str, ...]]) -> None:
    demands = [Demand(amount=Money(1, "USD"), draws=drawn(*names)) for names in groups]
    assert unite(demands) == Demand(amount=Money(1, "USD"), draws=drawn("a", "b", "c"))


@pytest.mark.parametrize("other", [Money(101, "USD"), Money(100, "EUR"), Money(0, "USD")])
def test_a_price_is_one_amount_in_one_currency(other: Money) -> None:
    mine = Demand(amount=Money(100, "USD"))
    assert unite([mine, Demand(amount=other)]) is None
    assert unite([mine, Demand(), mine]) == mine


@pytest.mark.parametrize("first", OnError)
@pytest.mark.parametrize("second", OnError)
def test_of_two_rules_the_one_that_gives_back_less_stands(first: OnError, second: OnError) -> None:
    united = unite(
        Demand(amount=Money(1, "USD"), terms=Terms(on_error=each)) for each in (first, second)
    )
    strictness = [OnError.KEEP, OnError.POST, OnError.VOID]
    assert united is not None
    assert united.terms.on_error is min(first, second, key=strictness.index)


def test_what_grants_have_taken_is_added_to_what_is_taken_anyway() -> None:
    offers = [Offer(grant="g", draws=drawn("u")), Offer(grant="h", draws=drawn("a", "t"))]
    priced = Demand(amount=Money(100, "USD"), draws=drawn("p"), counts=counted("r"))
    assert under(priced, []) == priced
    assert besides(priced, drawn("a")).draws == drawn("a", "p")
    assert besides(None, drawn("a")) == Demand(draws=drawn("a"))
    assert under(None, []) is None
    assert under(None, [Offer(grant="g", draws=())]) == Demand()
    assert under(None, offers) == Demand(draws=drawn("a", "t", "u"))
    assert under(priced, offers) == replace(priced, draws=drawn("a", "p", "t", "u"))


def test_what_counts_by_grant_is_another_pot_under_each() -> None:
    scoped = replace(POT, scope=(Scope.GRANT, Scope.TOOL))
    none, g, h = (
        Draw(meter_id=meter_id(scoped, key), key=key, meter=scoped, amount=Money(100, "USD"))
        for grant in (None, "g", "h")
        for key in [((Scope.GRANT, grant), (Scope.TOOL, "buy"))]
    )
    [common] = drawn("p")
    priced = Demand(amount=Money(100, "USD"), draws=(none, common), counts=counted("r"))
    offers = [Offer(grant="g", draws=drawn("u")), Offer(grant="h", draws=())]
    assert {*passing(priced, offers[0]).draws} == {g, common, *drawn("u")}
    assert {*passing(priced, offers[1]).draws} == {h, common}
    assert passing(priced, offers[0]).counts == priced.counts
    assert passing(passing(priced, offers[0]), offers[0]) == passing(priced, offers[0])
    assert under(priced, []) == priced
    met = under(priced, offers)
    assert met is not None
    assert {*met.draws} == {none, g, h, common, *drawn("u")}
    assert [draw.meter_id for draw in met.draws] == sorted(draw.meter_id for draw in met.draws)
    assert passing(None, offers[1]) == Demand()


@pytest.mark.parametrize(
    ("not_before", "expires", "stands"),
    [
        (None, None, True),
        (NOW, None, True),
        (NOW + TICK, None, False),
        (None, NOW + TICK, True),
        (None, NOW, False),
        (NOW, NOW, False),
    ],
)
def test_a_grant_is_in_force_from_its_first_instant_to_before_its_last(
    not_before: datetime | None, expires: datetime | None, *, stands: bool
) -> None:
    offer = Offer(grant="g", draws=(), not_before=not_before, expires=expires)
    assert offer.is_in_force(NOW) is stands


def test_a_meter_that_nobody_has_drawn_on_is_empty() -> None:
    [draw] = drawn("a")
    assert Holdings().used(draw) == Usage()
    assert Holdings(usage={"a": Usage(held=1)}).used(draw) == Usage(held=1)
