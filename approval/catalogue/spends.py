"""Find prices that nothing bounds or no meter ever lets pass, and meters that count nothing."""

from collections.abc import Iterator

from approval.catalogue.overlaps import includes
from approval.catalogue.scenes import Remark, Scene, Severity
from approval.core import meters
from approval.core.canonical import quoted
from approval.core.meters import SHARED, Draw, Meter, Usage
from approval.core.money import Money
from approval.core.paths import SPEND_AMOUNT
from approval.core.policy import Charge, DenyIf, Policy, Require, RequireApproval, Rule
from approval.core.price import Argument, Ask, AtMost, Fixed, Source, Sum, Table
from approval.core.rulebook import Rulebook
from approval.core.spending import codes
from approval.core.windows import Calendar


def unpayable(scene: Scene) -> Iterator[Remark]:
    """Find prices for which a meter never has room, however little is spent."""
    for charge in scene.policy.charges:
        for meter in charge.meters:
            for source in charge.spend.sources:
                yield from _unpayable(scene, charge, source, meter)


def _unpayable(scene: Scene, charge: Charge, source: Source, meter: Meter) -> Iterator[Remark]:
    limit, told = meter.limit, quoted(meter.name)
    strange = sorted(codes(source) - {limit.currency})
    if strange:
        what = f"costs {', '.join(strange)}, which the meter {told} cannot count: it is in"
        what += f" {limit.currency}, and such a call is always denied"
        remedy = "draw on a meter in the currency of the price"
        yield scene.remark(Severity.WARNING, "other_currency", charge.path, what, remedy)
    for price in _prices(source):
        draw = Draw(meter_id="", key=(), meter=meter, amount=price)
        if price.currency == limit.currency and not _has_room(draw):
            what = f"never passes: {price} is more than all that the meter {told} allows, {limit}"
            remedy = "raise the limit, or lower the price"
            yield scene.remark(Severity.WARNING, "above_limit", charge.path, what, remedy)


def _has_room(draw: Draw) -> bool:
    return meters.admits(draw, Usage(), override=draw.meter.soft is not None)


def _prices(source: Source) -> tuple[Money, ...]:
    """Give what is set aside by this source, as far as the document itself says it."""
    match source:
        case Fixed(price=price) | Ask(up_to=price) | AtMost(bound=price):
            return (price,)
        case Table(rows=rows):
            return tuple(dict.fromkeys(rows.values()))
        case Argument() | Sum():
            return ()


def unbounded(scene: Scene) -> Iterator[Remark]:
    """Find prices that are read, and then neither counted nor held against anything."""
    for charge in scene.policy.charges:
        covering = _covering(scene, charge)
        counted = any(each.meters or each.spend.per_call is not None for each in covering)
        if counted or any(_looks_at_price(rule) for rule in _rules(scene, charge)):
            continue
        if _is_stated(charge):
            what = "bounds nothing: a call may cost whatever the agent states"
            severity = Severity.WARNING
        else:
            what = "is counted nowhere: nothing bounds what such calls spend together"
            severity = Severity.NOTE
        remedy = "name a meter in spend.meters, or write per_call"
        yield scene.remark(severity, "unbounded", charge.path, what, remedy)


def uncapped(scene: Scene) -> Iterator[Remark]:
    """Find calendar meters that one call may use up, just before and just after midnight.

    A price that the operator wrote is a cap of its own; what an agent states has none.
    """
    for charge in scene.policy.charges:
        covering = _covering(scene, charge)
        drawn = [meter for each in covering for meter in each.meters]
        calendar = [meter for meter in charge.meters if isinstance(meter.window, Calendar)]
        capped = any(each.spend.per_call is not None for each in covering)
        denied = any(_denies_by_price(rule) for rule in _rules(scene, charge))
        only_calendar = all(isinstance(meter.window, Calendar) for meter in drawn)
        if calendar and only_calendar and _is_stated(charge) and not (capped or denied):
            names = ", ".join(quoted(meter.name) for meter in calendar)
            what = f"one call may use up {names}, and a calendar window lets twice its limit pass"
            what += " around its end"
            remedy = "write per_call, or draw on a rolling meter as well"
            yield scene.remark(Severity.NOTE, "uncapped", charge.path, what, remedy)


def idle_meters(rules: Rulebook) -> Iterator[Remark]:
    """Find meters that no price draws on, in any policy that could."""
    policies = (*rules.policies.values(), *rules.narrowing.values())
    drawn = {
        (meter.origin, meter.name)
        for policy in policies
        for charge in policy.charges
        for meter in charge.meters
    }
    for policy in policies:
        for meter in policy.meters.values():
            if (meter.origin, meter.name) not in drawn:
                yield _idle(policy, meter)


def _idle(policy: Policy, meter: Meter) -> Remark:
    step = meter.name.replace("~", "~0").replace("/", "~1")
    return Remark(
        severity=Severity.WARNING,
        code="idle_meter",
        source=meter.origin if meter.origin == SHARED else policy.source,
        path=f"/meters/{step}",
        what="counts nothing: no price names it, so its limit limits nothing",
        remedy="name it in the spend.meters of a tool, or remove it",
    )


def _covering(scene: Scene, charge: Charge) -> list[Charge]:
    """Give every charge that calls of this one certainly meet, itself among them."""
    above = () if scene.above is None else scene.above.charges
    return [e for e in (*scene.policy.charges, *above) if includes(e.tools, charge.tools)]


def _rules(scene: Scene, charge: Charge) -> list[Rule]:
    above = () if scene.above is None else scene.above.rules
    return [e for e in (*scene.policy.rules, *above) if includes(e.tools, charge.tools)]


def _looks_at_price(rule: Rule) -> bool:
    """Say whether the rule bounds what a call may cost, or people see every one."""
    if isinstance(rule, RequireApproval) and not rule.conditions:
        return True
    return any(condition.path.text == SPEND_AMOUNT for condition in rule.conditions)


def _denies_by_price(rule: Rule) -> bool:
    return isinstance(rule, DenyIf | Require) and _looks_at_price(rule)


def _is_stated(charge: Charge) -> bool:
    return any(isinstance(source, Argument | Sum) for source in charge.spend.sources)
