"""Which rules and limits of the policies some case met: those without which it would go otherwise.

A rule is met where it objected, and so are a rate and a cap for one call where they refused one. A
meter is met where it refused a call, where a call is held because it is beyond it, and where a step
looked at its sums.
"""

from collections.abc import Iterator, Mapping

from approval.core.call import Call
from approval.core.demand import Demand
from approval.core.explaining import Trace
from approval.core.meters import SHARED, Meter
from approval.core.policy import Policy
from approval.core.rulebook import Rulebook

PER_CALL = "per_call"


class Coverage:
    """What can be met, and what was, by policy and pointer."""

    def __init__(self, rules: Rulebook) -> None:
        policies = (*rules.policies.values(), *rules.narrowing.values())
        # A limit says by its document and name that it has no room; a rule does so by its pointer.
        self._limits: Mapping[tuple[str, str], str] = {
            limit: place for policy in policies for limit, place in _limits(policy)
        }
        ruled = [place for policy in policies for place in _ruled(policy)]
        self._known = tuple(dict.fromkeys([*ruled, *self._limits.values()]))
        self._met: set[str] = set()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def unmet(self) -> tuple[str, ...]:
        return tuple(place for place in self._known if place not in self._met)

    def judged(self, trace: Trace) -> None:
        """Note the rules that object to a call, and the caps that it is above."""
        for opinion in trace.opinions:
            objecting = [rule.path for rule in opinion.rules if rule.finding is not None]
            above = [
                f"{priced.path}/{PER_CALL}"
                for priced in opinion.prices
                if priced.quote.why is not None and priced.quote.why.reason == PER_CALL
            ]
            self._met |= {f"{opinion.source}: {path}" for path in (*objecting, *above)}

    def refused(self, limit: tuple[str, str] | None) -> None:
        """Note the limit that had no room for a call."""
        if limit is not None and limit in self._limits:
            self._met.add(self._limits[limit])

    def held(self, call: Call, demand: Demand | None) -> None:
        """Note the soft limits that a call is beyond, and for which it is held."""
        beyond = {each.meter_id for each in call.reservations if each.override}
        for draw in demand.draws if demand is not None else ():
            if draw.meter_id in beyond:
                self.looked(draw.meter)

    def looked(self, meter: Meter) -> None:
        """Note a meter whose sums a step looks at."""
        self.refused((meter.origin, meter.name))


def _ruled(policy: Policy) -> Iterator[str]:
    for rule in policy.rules:
        yield f"{policy.source}: {rule.path}"
    for charge in policy.charges:
        if charge.spend.per_call is not None:
            yield f"{policy.source}: {charge.path}/{PER_CALL}"


def _limits(policy: Policy) -> Iterator[tuple[tuple[str, str], str]]:
    for limit in policy.limits:
        yield (limit.rate.origin, limit.rate.name), f"{policy.source}: {limit.rate.path}"
    for charge in policy.charges:
        for meter in charge.meters:
            source = SHARED if meter.origin == SHARED else policy.source
            yield (meter.origin, meter.name), f"{source}: /meters/{meter.name}"
