"""Budgets for people to look at: what a call would leave in its meters, and what each has left.

Nothing here is locked and nothing promised. What admits a call is `core/admission.py`, under the
store's lock.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from approval.core import grants, meters
from approval.core.call import Call
from approval.core.demand import Demand
from approval.core.grants import Grant
from approval.core.identity import Directory
from approval.core.meters import Draw, Meter, Usage
from approval.core.money import CAP, Money
from approval.core.policy import Policy
from approval.core.rulebook import Rulebook
from approval.core.scopes import Key, Scope
from approval.core.windows import Calendar, Rolling, Window, last_days
from approval.ports import Kept, Store

DAYS: Final = 30
"""How far back people see what was spent."""


Days: TypeAlias = tuple[tuple[date, int], ...]
"""What was spent on each day, in minor units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One meter that a call draws on: its name, and what is left before the call and after it."""

    meter: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pot:
    """One meter of somebody's, as it is now; `days` are the last thirty, the oldest first.

    A day is one of the zone in which the meter's windows begin; of UTC, where none is named.
    """

    meter: Meter
    meter_id: str
    key: Key
    usage: Usage
    until: datetime | None
    days: Days = ()

    @property
    def whose(self) -> str:
        """Say whose it is: `agent ops-agent`."""
        named = (
            f"{scope} {value}" if value is not None else f"no {scope}" for scope, value in self.key
        )
        return ", ".join(named) or "all together"

    @property
    def spent(self) -> Money:
        return self.money(self.usage.posted)

    @property
    def held(self) -> Money:
        return self.money(self.usage.held)

    @property
    def left(self) -> Money:
        return self.money(max(0, self.meter.limit.minor - self.usage.counted))

    @property
    def words(self) -> str:
        """Say what is left: `$41.95 of $50.00 left this month`."""
        left, limit = meters.shown(self.left), meters.shown(self.meter.limit)
        return f"{left} of {limit} left {meters.current(self.meter.window)}"

    def money(self, minor: int) -> Money:
        """Make money of a sum, which may be less or more than any one amount can be."""
        return Money(max(0, min(minor, CAP)), self.meter.limit.currency)


class Budgets:
    """Reads budgets under the rules in force, which `rules` gives."""

    def __init__(self, store: Store, rules: Callable[[], Rulebook]) -> None:
        self._store = store
        self._rules = rules

    async def lines(self, call: Call) -> tuple[Line, ...]:
        """Word what a waiting call would leave in its meters, as the rules in force have them.

        What it has itself set aside is left out of what is used.
        """
        draws = self._demand(call).draws if call.amount is not None else ()
        if not draws:
            return ()
        usage = await self._store.usage(draws, without=call.id)
        return tuple(
            Line(
                meter=draw.meter.name,
                words=meters.words(draw, usage[draw.meter_id], at_most=call.cost is None),
            )
            for draw in draws
        )

    async def pots(self) -> tuple[Pot, ...]:
        """Read every meter of the rules in force, for everybody who has drawn on it.

        One that counts by agent, or for all together, is there before anybody has.
        """
        now = await self._store.now()
        draws = known(self._rules(), await self._store.kept())
        usage = await self._store.usage(draws)
        days = await self._days(draws, now)
        return tuple(
            Pot(
                meter=draw.meter,
                meter_id=draw.meter_id,
                key=draw.key,
                usage=usage[draw.meter_id],
                until=_until(draw.meter.window, now),
                days=days[draw.meter_id],
            )
            for draw in draws
        )

    async def of_grants(self, given: Iterable[Grant]) -> Mapping[str, tuple[Pot, ...]]:
        """Read what bounds each grant over its whole life, by the grant's id."""
        draws = {
            grant.id: tuple(
                _nothing(meter, ((Scope.GRANT, grant.id),)) for meter in grants.meters(grant)
            )
            for grant in given
        }
        usage = await self._store.usage([draw for each in draws.values() for draw in each])
        return {
            grant_id: tuple(
                Pot(
                    meter=draw.meter,
                    meter_id=draw.meter_id,
                    key=draw.key,
                    usage=usage[draw.meter_id],
                    until=None,
                )
                for draw in each
            )
            for grant_id, each in draws.items()
        }

    async def _days(self, draws: Iterable[Draw], now: datetime) -> dict[str, Days]:
        """Read what was spent on each of the last days, as the clocks of each meter have them."""
        by_zone: dict[str, list[str]] = {}
        for draw in draws:
            by_zone.setdefault(zone_of(draw.meter.window), []).append(draw.meter_id)
        found: dict[str, Days] = {}
        for zone, meter_ids in by_zone.items():
            bounds = last_days(zone, now, DAYS)
            dates = [start.astimezone(ZoneInfo(zone)).date() for start in bounds[:-1]]
            spent = await self._store.spent(meter_ids, bounds)
            for meter_id in meter_ids:
                sums = spent.get(meter_id, (0,) * DAYS)
                found[meter_id] = tuple(zip(dates, sums, strict=True))
        return found

    def _demand(self, call: Call) -> Demand:
        return self._rules().judge_waiting(call).demand or Demand()


def known(rules: Rulebook, kept: Iterable[Kept]) -> tuple[Draw, ...]:
    """Name the sums of every meter that the rules know, with nothing drawn, sorted by name."""
    meters_known = {
        (meter.origin, meter.name): meter
        for policy, _ in _policies(rules)
        for meter in policy.meters.values()
    }
    found: dict[str, Draw] = {}
    for each in kept:
        meter = meters_known.get((each.origin, each.name))
        # Its currency or its kind of window may have changed: then those sums count no more.
        if meter is not None and meters.meter_id(meter, each.key) == each.meter_id:
            found[each.meter_id] = _nothing(meter, each.key)
    for policy, agents in _policies(rules):
        for meter in policy.meters.values():
            for key in _expected(meter, agents):
                draw = _nothing(meter, key)
                found.setdefault(draw.meter_id, draw)
    return tuple(sorted(found.values(), key=_by_name))


def limits_of(rules: Rulebook, kept: Sequence[Kept]) -> tuple[Draw, ...]:
    """Name those of these sums that count under the rules, with nothing drawn.

    Unlike `known` it gives what the grants of the configuration count as well, and nothing else.
    """
    of_grants = [
        _nothing(meter, ((Scope.GRANT, grant.id),))
        for grant in rules.grants
        for meter in grants.meters(grant)
    ]
    asked = {each.meter_id for each in kept}
    return tuple(draw for draw in (*known(rules, kept), *of_grants) if draw.meter_id in asked)


def visible(
    pots: Iterable[Pot], person: str, directory: Directory, calls: Iterable[Call]
) -> tuple[Pot, ...]:
    """Keep those of the person's own agents, and those on which calls that they may see draw."""
    owned = {agent.name for agent in directory.agents.values() if agent.owner == person}
    drawn = {each.meter_id for call in calls for each in call.reservations}
    return tuple(
        pot
        for pot in pots
        if pot.meter_id in drawn
        or any(scope is Scope.AGENT and value in owned for scope, value in pot.key)
    )


def document(pot: Pot) -> dict[str, object]:
    """Write a budget for scripts: the same for the API and the command line."""
    window = pot.meter.window
    seconds = round(window.span.total_seconds()) if isinstance(window, Rolling) else None
    return {
        "meter": pot.meter.name,
        "origin": pot.meter.origin,
        "scope": {str(scope): value for scope, value in pot.key},
        "window": window.kind,
        "window_seconds": seconds,
        "zone": zone_of(window),
        "limit": dict(pot.meter.limit.plain()),
        "spent": dict(pot.spent.plain()),
        "held": dict(pot.held.plain()),
        "left": dict(pot.left.plain()),
        "until": pot.until.strftime("%Y-%m-%dT%H:%M:%SZ") if pot.until else None,
        "days": [
            {"day": day.isoformat(), "spent": dict(pot.money(minor).plain())}
            for day, minor in pot.days
            if minor
        ],
    }


def _policies(rules: Rulebook) -> Iterator[tuple[Policy, tuple[str, ...]]]:
    """Give each policy with the agents whose calls it judges."""
    agents = rules.directory.agents.values()
    for upstream, policy in rules.policies.items():
        yield policy, tuple(agent.name for agent in agents if upstream in agent.upstreams)
    for (agent, _), policy in rules.narrowing.items():
        yield policy, (agent,)


def _expected(meter: Meter, agents: Iterable[str]) -> Iterator[Key]:
    """Give the keys that are known before anybody has drawn."""
    match meter.scope:
        case ():
            yield ()
        case (Scope.AGENT,):
            for agent in agents:
                yield ((Scope.AGENT, agent),)
        case _:
            return


def _nothing(meter: Meter, key: Key) -> Draw:
    amount = Money(0, meter.limit.currency)
    return Draw(meter_id=meters.meter_id(meter, key), key=key, meter=meter, amount=amount)


def _by_name(draw: Draw) -> tuple[str, str, str]:
    return draw.meter.name, str([value or "" for _, value in draw.key]), draw.meter_id


def zone_of(window: Window) -> str:
    """Name the zone whose days a meter is told by."""
    return window.zone if isinstance(window, Calendar) else "UTC"


def _until(window: Window, now: datetime) -> datetime | None:
    return window.end(now) if isinstance(window, Calendar) else None
