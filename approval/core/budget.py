"""Read the budget of a policy: its meters and prices, and what each tool charges to them."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from approval.core.call import Requirement
from approval.core.canonical import quoted
from approval.core.document import Place
from approval.core.limits import read_limits, read_meters, read_rate
from approval.core.meters import Meter
from approval.core.policy import Charge, Limit, Mention, ToolPattern
from approval.core.price import Ask, OnError, OnUnknown, Spend
from approval.core.spending import PriceTable, read_spend, read_tables
from approval.core.terms import RequirementDefaults


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The meters and price tables that the tools of one document can name."""

    origin: str
    meters: Mapping[str, Meter]
    tables: Mapping[str, PriceTable]

    def charges(
        self, tool: ToolPattern, place: Place, terms: RequirementDefaults
    ) -> Iterator[Charge]:
        """Read a tool's `spend`, and `on_error` beside it.

        `terms` are those of a gate that says nothing of its own: who types what nobody else knows.
        """
        if place.has("on_error") and not place.has("spend"):
            place.at("on_error").complain("without spend there is no money to keep; remove it")
        if not place.has("spend"):
            return
        at = place.at("spend")
        on_error = place.at("on_error").word(OnError) if place.has("on_error") else OnError.KEEP
        spend = read_spend(at, tables=self.tables, on_error=on_error or OnError.KEEP)
        if spend is None:
            return
        asks = _typists(at, spend, terms)
        meters = tuple(self._named(name, at.at("meters")) for name in spend.meters)
        known = tuple(meter for meter in meters if meter is not None)
        yield Charge(tools=tool, path=at.pointer, spend=spend, meters=known, asks=asks)

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


def _typists(place: Place, spend: Spend, terms: RequirementDefaults) -> Requirement | None:
    """Say what is required of calls whose amount is typed; None where no such call can be."""
    asks = any(isinstance(source, Ask) for source in spend.sources)
    if not asks and spend.on_unknown is OnUnknown.DENY:
        return None
    required = terms.requirement()
    if required is None:
        place.at("amount" if asks else "on_unknown").complain(
            "an approver types this amount, and nobody is named who could approve; write approvers"
            " in the policy's defaults.require_approval, or in [approvals] of the configuration"
        )
    return required


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
