"""Read the budget of a policy: its meters and prices, and what each tool charges to them."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from approval.core.canonical import quoted
from approval.core.document import Place
from approval.core.limits import read_limits, read_meters, read_rate
from approval.core.meters import Meter
from approval.core.policy import Charge, Limit, Mention, ToolPattern
from approval.core.price import Ask, OnError, OnUnknown, Spend
from approval.core.spending import PriceTable, read_spend, read_tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The meters and price tables that the tools of one document can name."""

    origin: str
    meters: Mapping[str, Meter]
    tables: Mapping[str, PriceTable]

    def charges(self, tool: ToolPattern, place: Place) -> Iterator[Charge]:
        """Read a tool's `spend`, and `on_error` beside it."""
        if place.has("on_error") and not place.has("spend"):
            place.at("on_error").complain("without spend there is no money to keep; remove it")
        if not place.has("spend"):
            return
        at = place.at("spend")
        on_error = place.at("on_error").word(OnError) if place.has("on_error") else OnError.KEEP
        spend = read_spend(at, tables=self.tables, on_error=on_error or OnError.KEEP)
        if spend is None:
            return
        _refuse_typed(at, spend)
        meters = tuple(self._named(name, at.at("meters")) for name in spend.meters)
        known = tuple(meter for meter in meters if meter is not None)
        yield Charge(tools=tool, path=at.pointer, spend=spend, meters=known)

    def limits(self, tool: ToolPattern, place: Place, *, ours: bool) -> Iterator[Limit]:
        """Read a tool's `rate_limit` and PolicyLayer's `limits`."""
        if place.has("rate_limit"):
            rate = read_rate(place.at("rate_limit"), origin=self.origin, ours=ours)
            if rate is not None:
                yield Limit(tools=tool, rate=rate)
        if place.has("limits"):
            for rate in read_limits(place.at("limits"), origin=self.origin, ours=ours):
                yield Limit(tools=tool, rate=rate)

    def _named(self, name: str, place: Place) -> Meter | None:
        meter = self.meters.get(name)
        if meter is None:
            near = difflib.get_close_matches(name, self.meters, 1)
            known = f"; did you mean {near[0]}?" if near else "; write it under [meters]"
            place.complain(f'there is no meter "{quoted(name)}"{known}')
        return meter


def _refuse_typed(place: Place, spend: Spend) -> None:
    """Refuse prices that an approver has yet to type: they would run at their upper bound."""
    built = 'is not built yet; give a price, a table, an argument or at_most, and on_unknown "deny"'
    if any(isinstance(source, Ask) for source in spend.sources):
        place.at("amount").complain(f"an amount that an approver types {built}")
    if spend.on_unknown is OnUnknown.GATE:
        place.at("on_unknown").complain(f"asking an approver for an unknown amount {built}")


def read_budget(
    root: Place, origin: str, shared: Mapping[str, Meter], people: list[Mention]
) -> Budget:
    """Read a document's `meters` and `prices`; `shared` are the configuration's meters.

    Who may override a meter is added to `people`.
    """
    own: Mapping[str, Meter] = {}
    if root.has("meters"):
        own = read_meters(root.at("meters"), origin=origin, people=people)
        for name in sorted(own.keys() & shared.keys()):
            root.at("meters").at(name).complain(
                "the configuration has a meter of this name, which all upstreams share; rename one"
            )
    tables = read_tables(root.at("prices")) if root.has("prices") else {}
    return Budget(origin=origin, meters={**shared, **own}, tables=tables)
