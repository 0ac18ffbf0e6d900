"""What a call demands, united from several rules and policies."""

from approval.core.demand import Demand, Terms, unite
from approval.core.money import Money
from approval.core.price import OnError, OnOverrun


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
