"""Judge a call and keep every step: what each policy saw, asked and concluded. Pure.

The verdict is put together from the steps that are shown, by the same rules that judge real calls;
a property holds it equal to `Rulebook.judge`. A kind of rule that is added shows up here by itself
once `_KINDS` has a word for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from approval.core.call import Verdict
from approval.core.canonical import JSON
from approval.core.conditions import Condition, Truth
from approval.core.demand import Count
from approval.core.meters import Draw
from approval.core.policy import (
    DenyIf,
    Finding,
    Plan,
    Policy,
    Require,
    RequireApproval,
    Rule,
    ToolPattern,
    combine,
    conclude,
    facts_for,
    failed,
    plan_for,
    quoted_by,
)
from approval.core.price import Quote
from approval.core.rulebook import NO_ACCESS, Rulebook, subject_of
from approval.core.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One condition: what stood at its path (or `conditions.MISSING`), and what it came to."""

    path: str
    operator: str
    literal: object
    found: object
    truth: Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One rule that covers the tool, its conditions, and what it objects, if anything."""

    kind: str
    path: str
    conditions: tuple[Looked, ...]
    truth: Truth
    finding: Finding | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """What one `spend` makes of the call: its price, what it objects, what it would draw on."""

    path: str
    quote: Quote
    finding: Finding | None
    draws: tuple[Draw, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What one policy makes of the call. `rules` is empty where the tool's name settles it.

    `prices` and `counts` are shown of a call that is denied too, though it then takes nothing.
    """

    source: str
    default: str
    hiding: ToolPattern | None
    listing: ToolPattern | None
    rules: tuple[Asked, ...]
    prices: tuple[Priced, ...]
    counts: tuple[Count, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The whole way to a verdict. `no_access` says why no policy was asked at all, or is empty."""

    no_access: str
    opinions: tuple[Opinion, ...]
    verdict: Verdict


def trace(rules: Rulebook, agent: str, upstream: str, tool: str, arguments: JSON) -> Trace:
    """Judge one call as `Rulebook.judge` does, and give every step with its verdict."""
    asker, policy = rules.directory.agents.get(agent), rules.policies.get(upstream)
    if asker is None:
        return _turned_away("the configuration names no such agent")
    if policy is None:
        return _turned_away("the configuration names no such upstream")
    if upstream not in asker.upstreams:
        return _turned_away("the agent's upstreams do not include this one")
    subject = subject_of(asker, upstream, tool, arguments)
    narrower = rules.narrowing.get((agent, upstream))
    covering = (policy,) if narrower is None else (policy, narrower)
    opinions = tuple(_opinion(each, subject) for each in covering)
    return Trace(
        no_access="",
        opinions=opinions,
        verdict=combine(*(opinion.verdict for opinion in opinions)),
    )


def _turned_away(why: str) -> Trace:
    return Trace(no_access=why, opinions=(), verdict=NO_ACCESS)


def _opinion(policy: Policy, subject: Subject) -> Opinion:
    asked: list[Asked] = []
    prices: tuple[Priced, ...] = ()
    counts: tuple[Count, ...] = ()
    hiding = listing = None
    path = ""
    try:
        plan = plan_for(policy, subject.tool)
        hiding, listing = _meeting(policy.hidden, subject), _meeting(policy.listed, subject)
        quotes = quoted_by(plan, subject)
        prices = tuple(_prices(plan, quotes, subject))
        counts = tuple(each for limit in plan.limits for each in limit.demand(subject).counts)
        facts = facts_for(subject, quotes)
        for rule in plan.rules:
            path = rule.path
            asked.append(_ask(rule, facts))
        findings = [each.finding for each in asked if each.finding is not None]
        verdict = conclude(plan, findings, quotes, subject)
    except Exception as error:  # noqa: BLE001  # as in `policy.evaluate`: it ends in a denial
        verdict = failed(policy, error, path)
    return Opinion(
        source=policy.source,
        default="allow" if policy.allows_unlisted else "deny",
        hiding=hiding,
        listing=listing,
        rules=tuple(asked),
        prices=prices,
        counts=counts,
        verdict=verdict,
    )


def _meeting(patterns: Iterable[ToolPattern], subject: Subject) -> ToolPattern | None:
    return next((pattern for pattern in patterns if pattern.matches(subject.tool)), None)


def _prices(plan: Plan, quotes: Iterable[Quote], subject: Subject) -> Iterator[Priced]:
    for charge, quote in zip(plan.charges, quotes, strict=True):
        yield Priced(
            path=charge.path,
            quote=quote,
            finding=charge.judge(quote),
            draws=charge.demand(quote, subject).draws,
        )


def _ask(rule: Rule, facts: Mapping[str, object]) -> Asked:
    finding = rule.judge(facts)
    conditions = tuple(_look(condition, facts) for condition in rule.conditions)
    return Asked(
        kind=_KINDS[type(rule)],
        path=rule.path,
        conditions=conditions,
        truth=_all_of(each.truth for each in conditions),
        finding=finding,
    )


def _look(condition: Condition, facts: Mapping[str, object]) -> Looked:
    return Looked(
        path=condition.path.text,
        operator=condition.operator,
        literal=condition.literal,
        found=condition.path.find(facts),
        truth=_truth(condition, facts),
    )


def _truth(condition: Condition, facts: Mapping[str, object]) -> Truth:
    try:
        return condition.judge(facts)
    except Exception:  # noqa: BLE001
        # The rule has been judged and did not fail, so it never came to this condition.
        return None


def _all_of(truths: Iterable[Truth]) -> Truth:
    """Join by Kleene's *and*, as `conditions.holds` does."""
    found = set(truths)
    if False in found:
        return False
    return None if None in found else True


_KINDS: Mapping[type[Rule], str] = {
    DenyIf: "deny_if",
    Require: "require",
    RequireApproval: "require_approval",
}
