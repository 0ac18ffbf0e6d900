"""What a call demands: the money that must be set aside for it, and the counts that it raises.

A verdict carries the demand, the store brings the sums it meets (`Holdings`), and `admission` puts
the two together under the store's lock. Several rules, and several policies, unite into one demand:
all of their meters and rates, and the strictest of their terms. A call has one price, so rules that
name two different ones do not unite, and it is denied.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce

from approval.core.meters import Draw, Usage, under_grant
from approval.core.money import Money
from approval.core.pending import Pending
from approval.core.price import (
    Actual,
    Asking,
    OnError,
    OnOverrun,
    Per,
    Quote,
    Spend,
    Unknown,
    actual,
)
from approval.core.rates import Rate, RateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the money of a call is settled. It is kept with the call: policies change meanwhile."""

    on_error: OnError = OnError.KEEP
    on_overrun: OnOverrun = OnOverrun.FREEZE
    actual: Actual | None = None
    allow_zero: bool = False
    """Whether an upstream is believed that says that a call took nothing."""
    asking: Asking | None = None
    """That an approver types what it costs; None where that is known."""

    def took(self, result: object, currency: str) -> Money | Unknown:
        """Read what the upstream says a call took, or say why that does not count."""
        spend = Spend(sources=(), actual=self.actual, allow_zero=self.allow_zero)
        return actual(spend, result, currency=currency)


def terms_of(spend: Spend, quote: Quote) -> Terms:
    """Say how the money of a call is settled that a policy quotes this price."""
    up_to = quote.reserve if quote.must_type else None
    return Terms(
        on_error=spend.on_error,
        on_overrun=spend.on_overrun,
        actual=spend.actual,
        allow_zero=spend.allow_zero,
        asking=None if up_to is None else Asking(up_to=up_to, allow_zero=spend.allow_zero),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One count that a call raises, and the rate that bounds it."""

    rate: Rate
    key: RateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one call takes. `draws` and `counts` stand in the order in which they are locked."""

    amount: Money | None = None
    per: Per | None = None
    terms: Terms = field(default_factory=Terms)
    draws: tuple[Draw, ...] = ()
    counts: tuple[Count, ...] = ()

    @property
    def spends(self) -> bool:
        """Say whether money moves; what is merely counted needs no record of its own."""
        return self.amount is not None

    @property
    def asks(self) -> bool:
        """Say whether an approver types what it costs; `amount` is then the most they may type."""
        return self.terms.asking is not None

    def at(self, amount: Money) -> "Demand":
        """Give what the same call takes at another price in the same currency."""
        draws = tuple(
            replace(draw, amount=amount) if draw.amount.currency == amount.currency else draw
            for draw in self.draws
        )
        return replace(self, amount=amount, draws=draws)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A grant that covers a call while it is in force and its own meters have room for `draws`."""

    grant: str
    draws: tuple[Draw, ...]
    not_before: datetime | None = None
    expires: datetime | None = None
    path: str = ""

    def is_in_force(self, now: datetime) -> bool:
        return (self.not_before is None or self.not_before <= now) and (
            self.expires is None or now < self.expires
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """What a count holds: how many were admitted, and the instants in the slots to be taken next.

    A calendar counter has no slots: `n` is then what was counted since `rates.count_start`.
    """

    n: int = 0
    old: tuple[datetime | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A count as an admitted call leaves it: `slots` take the instant, `n` is the new number."""

    count: Count
    n: int
    slots: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """The sums and counts that a demand meets, read under the lock.

    `usage` is by meter, in the window that counts now and without the call's own reservation.
    `elsewhere` is what of it stands in other rows than the one that is written now.
    `room_at` says when enough will have rolled out of a rolling window, where that was asked.
    `offers` are the grants that may stand in for people, in the order to try them.
    """

    usage: Mapping[str, Usage] = field(default_factory=dict)
    elsewhere: Mapping[str, Usage] = field(default_factory=dict)
    rings: Mapping[str, Ring] = field(default_factory=dict)
    room_at: Mapping[str, datetime] = field(default_factory=dict)
    offers: tuple[Offer, ...] = ()
    frozen: str = ""
    """The call whose overrun froze this tool for this agent, until somebody lifts it; or empty."""
    pending: Pending | None = None
    """How many of the agent's calls wait for people; None where any number may."""

    def used(self, draw: Draw) -> Usage:
        return self.usage.get(draw.meter_id, Usage())


def unite(demands: Iterable[Demand]) -> Demand | None:
    """Join demands into one that takes all they take; None when their prices differ.

    A price that is to be typed differs from one that is known, even where the bound equals it.
    """
    found = _at_one_bound(tuple(demands))
    prices = {(demand.amount, demand.asks) for demand in found if demand.amount is not None}
    if len(prices) > 1:
        return None
    terms = [demand.terms for demand in found if demand.spends]
    return Demand(
        amount=next((amount for amount, _ in prices), None),
        per=next((demand.per for demand in found if demand.per is not None), None),
        terms=_strictest(terms) if terms else Terms(),
        draws=_each_once(found),
        counts=_counted(found),
    )


def under(demand: Demand | None, offers: Iterable[Offer]) -> Demand | None:
    """Add what a call would take under each of these grants to what it takes under none."""
    given = tuple(offers)
    if not given:
        return demand
    return besides(demand, [draw for each in given for draw in passing(demand, each).draws])


def passing(demand: Demand | None, offer: Offer) -> Demand:
    """Give what a call takes that passes under this grant: of what counts by grant, its own pot."""
    demand = demand or Demand()
    counted = tuple(under_grant(draw, offer.grant) for draw in demand.draws)
    return besides(replace(demand, draws=counted), offer.draws)


def besides(demand: Demand | None, draws: Iterable[Draw]) -> Demand:
    """Add further draws to what a call takes anyway."""
    demand = demand or Demand()
    return replace(demand, draws=_each_once((demand, Demand(draws=tuple(draws)))))


def _at_one_bound(found: tuple[Demand, ...]) -> tuple[Demand, ...]:
    """Lower what several rules let an approver type to the least of it, in one currency."""
    asking = [each.terms.asking for each in found if each.terms.asking is not None]
    if len({each.up_to.currency for each in asking}) != 1:
        return found
    least = min(each.up_to for each in asking)
    return tuple(each.at(least) if each.asks else each for each in found)


def _strictest(terms: list[Terms]) -> Terms:
    order = (OnError.KEEP, OnError.POST, OnError.VOID)
    frozen = any(each.on_overrun is OnOverrun.FREEZE for each in terms)
    asking = [each.asking for each in terms if each.asking is not None]
    return Terms(
        on_error=min((each.on_error for each in terms), key=order.index),
        on_overrun=OnOverrun.FREEZE if frozen else OnOverrun.ALERT,
        actual=next((each.actual for each in terms if each.actual is not None), None),
        allow_zero=all(each.allow_zero for each in terms),
        asking=reduce(Asking.and_also, asking) if asking else None,
    )


def _each_once(demands: Iterable[Demand]) -> tuple[Draw, ...]:
    """One meter named by two rules is drawn on once: it is one call."""
    found = {draw.meter_id: draw for demand in demands for draw in demand.draws}
    return tuple(found[meter_id] for meter_id in sorted(found))


def _counted(demands: Iterable[Demand]) -> tuple[Count, ...]:
    found = {count.key.id: count for demand in demands for count in demand.counts}
    return tuple(found[key] for key in sorted(found))
