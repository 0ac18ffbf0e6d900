"""Judge a tool call under a policy: allow it, hold it for people, or deny it. Pure and total.

Denial beats a gate and a gate beats permission, in whatever order the rules stand, so adding a
rule never loosens. Rules are compiled by `dialects` when the document is read; what the names of
tools alone decide is worked out once per tool.

A new kind of rule is one frozen class with `path`, `covers` and `judge`, named in `Rule`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TypeAlias

from approval.core.call import Factor, OnDisconnect, Outcome, Reason, Requirement, Run, Verdict
from approval.core.conditions import Condition, compile_glob, holds
from approval.core.demand import Count, Demand, terms_of
from approval.core.demand import unite as unite_demands
from approval.core.grantable import meet
from approval.core.meters import Meter, all_draws
from approval.core.price import Origin, Quote, Spend
from approval.core.rates import Rate, rate_keys
from approval.core.subject import Subject, facts_of

MAX_PLANS = 4096
"""Tools remembered per policy. Agents choose the names they call, so it must have an end."""

COMBINED_DOMAIN = b"approval/policies/1\n"

_SEVERITY = {Outcome.ALLOW: 0, Outcome.GATE: 1, Outcome.DENY: 2}
_STRICTEST_RUN = (Run.WHEN_ASKED, Run.AUTO, Run.ON_APPROVAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPattern:
    """A tool's exact name or a glob, and the pointer to where the document says it."""

    text: str
    path: str
    matches: Callable[[str], bool] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A name that the document uses, and the pointer to where."""

    text: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one rule objects. `requirement` is given exactly when the outcome is *gate*."""

    outcome: Outcome
    reason: Reason
    requirement: Requirement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DenyIf:
    """Deny when the conditions hold, or when nobody can tell whether they hold."""

    tools: ToolPattern
    path: str
    conditions: tuple[Condition, ...]
    if_true: Finding
    if_unknown: Finding

    def covers(self, tool: str) -> bool:
        return self.tools.matches(tool)

    def judge(self, facts: Mapping[str, object]) -> Finding | None:
        match holds(self.conditions, facts):
            case True:
                return self.if_true
            case None:
                return self.if_unknown
            case False:
                return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Require:
    """Deny unless the conditions are known to hold."""

    tools: ToolPattern
    path: str
    conditions: tuple[Condition, ...]
    if_false: Finding
    if_unknown: Finding

    def covers(self, tool: str) -> bool:
        return self.tools.matches(tool)

    def judge(self, facts: Mapping[str, object]) -> Finding | None:
        match holds(self.conditions, facts):
            case True:
                return None
            case None:
                return self.if_unknown
            case False:
                return self.if_false


@dataclass(frozen=True, slots=True, kw_only=True)
class RequireApproval:
    """Hold for people when the conditions hold, or when nobody can tell whether they hold."""

    tools: ToolPattern
    path: str
    conditions: tuple[Condition, ...]
    if_true: Finding
    if_unknown: Finding

    def covers(self, tool: str) -> bool:
        return self.tools.matches(tool)

    def judge(self, facts: Mapping[str, object]) -> Finding | None:
        match holds(self.conditions, facts):
            case True:
                return self.if_true
            case None:
                return self.if_unknown
            case False:
                return None


Rule: TypeAlias = DenyIf | Require | RequireApproval


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What calls of these tools cost, and the meters they draw on.

    `asks` is what is required of a call whose amount an approver types; None where none may.
    """

    tools: ToolPattern
    path: str
    spend: Spend
    meters: tuple[Meter, ...] = ()
    asks: Requirement | None = None

    def covers(self, tool: str) -> bool:
        return self.tools.matches(tool)

    def judge(self, quote: Quote) -> Finding | None:
        """Deny what nobody knows the price of, or hold it for those who may type that.

        An unknown amount is never zero.
        """
        why = quote.why
        if quote.must_type and self.asks is not None:
            code, told = (why.reason, f"{why.text} ") if why else (Origin.ASK, "")
            text = f"{told}Whoever approves this call types what it costs, up to {quote.reserve}."
            reason = Reason(code=f"amount:{code}", path=self.path, text=text)
            return Finding(outcome=Outcome.GATE, reason=reason, requirement=self.asks)
        if quote.amount is not None:
            return None
        code, text = (why.reason, why.text) if why else ("unknown", "Nobody knows the price.")
        told = f"{text} What a call costs must be known before it runs, so it is denied."
        return _denial(f"amount:{code}", self.path, told)

    def demand(self, quote: Quote, subject: Subject) -> Demand:
        """Give what a call takes at this price, while it passes under no grant."""
        amount = quote.reserve
        if amount is None:
            return Demand()
        return Demand(
            amount=amount,
            per=quote.per,
            terms=terms_of(self.spend, quote),
            draws=all_draws(self.meters, subject, amount),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How many calls of these tools are admitted in an interval."""

    tools: ToolPattern
    rate: Rate

    def covers(self, tool: str) -> bool:
        return self.tools.matches(tool)

    def demand(self, subject: Subject) -> Demand:
        """Give the counts that a call raises."""
        counts = (Count(rate=self.rate, key=key) for key in rate_keys(self.rate, subject))
        return Demand(counts=tuple(counts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a policy says of a tool before it has seen arguments, and the rules still to ask."""

    verdict: Verdict
    rules: tuple[Rule, ...] = ()
    charges: tuple[Charge, ...] = ()
    limits: tuple[Limit, ...] = ()
    hidden: bool = False

    @property
    def is_settled(self) -> bool:
        """Say whether the arguments change nothing."""
        return not (self.rules or self.charges or self.limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy document, compiled. `digest` names the document it came from.

    `terms` are those of a gate that says nothing of its own, and name nobody.
    """

    source: str
    digest: str
    allows_unlisted: bool
    hidden: tuple[ToolPattern, ...] = ()
    listed: tuple[ToolPattern, ...] = ()
    titles: tuple[tuple[ToolPattern, str], ...] = ()
    rules: tuple[Rule, ...] = ()
    charges: tuple[Charge, ...] = ()
    limits: tuple[Limit, ...] = ()
    meters: Mapping[str, Meter] = field(default_factory=dict)
    terms: Requirement | None = None
    names: tuple[Mention, ...] = ()
    notices: tuple[Mention, ...] = ()
    plans: dict[str, Plan] = field(default_factory=dict, init=False, compare=False, repr=False)

    def names_used(self) -> tuple[Mention, ...]:
        """Give every person or group that the document asks to approve."""
        return self.names

    def notify_used(self) -> tuple[Mention, ...]:
        """Give every place that the document wants told."""
        return self.notices

    def tool_patterns(self) -> tuple[Mention, ...]:
        """Give every tool name and glob, so that one which meets no tool can be pointed out."""
        patterns = (*self.listed, *self.hidden)
        return tuple(Mention(text=p.text, path=p.path) for p in patterns if p.text != "*")


def evaluate(policy: Policy, subject: Subject) -> Verdict:
    """Judge one call. Never raises: what cannot be judged is denied, and says so."""
    path = ""
    try:
        plan = plan_for(policy, subject.tool)
        if plan.is_settled:
            return plan.verdict
        quotes = quoted_by(plan, subject)
        facts = facts_for(subject, quotes)
        findings: list[Finding] = []
        for rule in plan.rules:
            path = rule.path
            finding = rule.judge(facts)
            if finding is not None:
                findings.append(finding)
        return conclude(plan, findings, quotes, subject)
    except Exception as error:  # noqa: BLE001  # whatever fails inside a rule must end in a denial
        return failed(policy, error, path)


def quoted_by(plan: Plan, subject: Subject) -> tuple[Quote, ...]:
    """Say what the call costs by each of the plan's charges."""
    return tuple(charge.spend.quote(subject.arguments) for charge in plan.charges)


def facts_for(subject: Subject, quotes: Iterable[Quote]) -> dict[str, object]:
    """Lay out what conditions may look at: the subject, and the price where there is one."""
    known = next((quote.amount for quote in quotes if quote.amount is not None), None)
    priced = {} if known is None else {"spend": {"amount": known}}
    return facts_of(subject) | priced


def conclude(
    plan: Plan, findings: Iterable[Finding], quotes: tuple[Quote, ...], subject: Subject
) -> Verdict:
    """Put together what the rules object to, what has no price, and what the call takes."""
    verdict = _concluded(plan.verdict, [*findings, *_unpriced(plan, quotes)])
    return _demanding(verdict, _demands(plan, quotes, subject))


def combine(first: Verdict, *others: Verdict) -> Verdict:
    """Join the verdicts of several policies on one call: the strictest stands.

    The reasons of the strictest come first, for the first one is what the agent is told.
    """
    verdicts = (first, *others)
    if not others:
        return first
    ordered = sorted(verdicts, key=lambda verdict: _SEVERITY[verdict.outcome], reverse=True)
    outcome = ordered[0].outcome
    combined = Verdict(
        outcome=outcome,
        reasons=tuple(reason for verdict in ordered for reason in verdict.reasons),
        policy_digest=_combined_digest(verdicts),
        requirement=_united(each.requirement for each in verdicts if each.outcome is outcome),
        terms=_united(each.terms for each in verdicts),
        title=next((verdict.title for verdict in verdicts if verdict.title), None),
    )
    return _demanding(combined, [each.demand for each in verdicts if each.demand is not None])


def is_hidden(policy: Policy, tool: str) -> bool:
    """Say whether the policy keeps this tool out of every listing."""
    try:
        return plan_for(policy, tool).hidden
    except UnicodeEncodeError:
        # Half a surrogate pair in a name: no glob can judge it, so nobody is shown it.
        return True


def unite(a: Requirement, b: Requirement) -> Requirement:
    """Join two requirements into the mildest that meets both; equal ones stay as they are."""
    return Requirement(
        factors=_united_factors((*a.factors, *b.factors)),
        timeout=min(a.timeout, b.timeout),
        run_within=min(a.run_within, b.run_within),
        distinct=a.distinct or b.distinct,
        not_owner=a.not_owner or b.not_owner,
        run=min(a.run, b.run, key=_STRICTEST_RUN.index),
        on_disconnect=_strictest_disconnect(a.on_disconnect, b.on_disconnect),
        notify=tuple(dict.fromkeys((*a.notify, *b.notify))),
        grantable=meet(a.grantable, b.grantable),
    )


def tighten(then: Requirement, now: Verdict) -> Requirement | None:
    """Hold a waiting call's requirement against a policy loaded since: the strictest of both.

    None when the call is denied now. What a person was asked to judge stays asked, even where the
    policy now allows it.
    """
    match now.outcome:
        case Outcome.ALLOW:
            return then
        case Outcome.GATE:
            return None if now.requirement is None else unite(then, now.requirement)
        case Outcome.DENY:
            return None


def tool_pattern(text: str, path: str) -> ToolPattern:
    """Make a pattern of a tool's name; `*` and `?` in it make it a glob."""
    if text == "*":
        return ToolPattern(text=text, path=path, matches=lambda _: True)
    if "*" in text or "?" in text:
        return ToolPattern(text=text, path=path, matches=compile_glob(text))
    return ToolPattern(text=text, path=path, matches=lambda tool: tool == text)


# --- what the tool's name decides ---


def plan_for(policy: Policy, tool: str) -> Plan:
    """Give what the tool's name alone decides, worked out once."""
    plan = policy.plans.get(tool)
    if plan is None:
        plan = _plan(policy, tool)
        if len(policy.plans) < MAX_PLANS:
            policy.plans[tool] = plan
    return plan


def _plan(policy: Policy, tool: str) -> Plan:
    hiding = _first(policy.hidden, tool)
    if hiding is not None:
        return Plan(verdict=_denied(policy, _reason("hide", hiding.path)), hidden=True)
    listing = _first(policy.listed, tool)
    if listing is None and not policy.allows_unlisted:
        return Plan(verdict=_denied(policy, _reason("unlisted", "/default")))
    reason = _reason("default", "/default") if listing is None else _reason("listed", listing.path)
    charges = tuple(charge for charge in policy.charges if charge.covers(tool))
    verdict = Verdict(
        outcome=Outcome.ALLOW,
        reasons=(reason,),
        policy_digest=policy.digest,
        title=next((title for tools, title in policy.titles if tools.matches(tool)), None),
        terms=policy.terms if charges else None,
    )
    return Plan(
        verdict=verdict,
        rules=tuple(rule for rule in policy.rules if rule.covers(tool)),
        charges=charges,
        limits=tuple(limit for limit in policy.limits if limit.covers(tool)),
    )


def _first(patterns: Iterable[ToolPattern], tool: str) -> ToolPattern | None:
    return next((pattern for pattern in patterns if pattern.matches(tool)), None)


# --- what a call takes ---


def _unpriced(plan: Plan, quotes: tuple[Quote, ...]) -> Iterator[Finding]:
    for charge, quote in zip(plan.charges, quotes, strict=True):
        if (finding := charge.judge(quote)) is not None:
            yield finding


def _demands(plan: Plan, quotes: tuple[Quote, ...], subject: Subject) -> Iterator[Demand]:
    for charge, quote in zip(plan.charges, quotes, strict=True):
        yield charge.demand(quote, subject)
    for limit in plan.limits:
        yield limit.demand(subject)


def _demanding(verdict: Verdict, demands: Iterable[Demand]) -> Verdict:
    """Put in what the call takes, unless it is denied and takes nothing."""
    demands = tuple(demands)
    if verdict.outcome is Outcome.DENY or not demands:
        return verdict
    demand = unite_demands(demands)
    if demand is None:
        text = "Two rules of the policy name different prices for this call. Tell the operator."
        reason = Reason(code="amount:two_prices", path="", text=text)
        return replace(verdict, outcome=Outcome.DENY, reasons=(reason,), requirement=None)
    return replace(verdict, demand=demand)


# --- verdicts ---


def _concluded(allowed: Verdict, findings: list[Finding]) -> Verdict:
    """Let the strictest findings stand, all of them."""
    if not findings:
        return allowed
    outcome = max((finding.outcome for finding in findings), key=lambda each: _SEVERITY[each])
    standing = [finding for finding in findings if finding.outcome is outcome]
    return replace(
        allowed,
        outcome=outcome,
        reasons=tuple(finding.reason for finding in standing),
        requirement=_united(finding.requirement for finding in standing),
    )


def _united(requirements: Iterable[Requirement | None]) -> Requirement | None:
    known = [each for each in requirements if each is not None]
    return reduce(unite, known) if known else None


def _united_factors(factors: Iterable[Factor]) -> tuple[Factor, ...]:
    """Name the same approvers once, with the higher number of approvals; keep the first's place."""
    united: dict[frozenset[str], Factor] = {}
    for factor in factors:
        known = united.setdefault(frozenset(factor.approvers), factor)
        if factor.approvals > known.approvals:
            united[frozenset(factor.approvers)] = replace(known, approvals=factor.approvals)
    return tuple(united.values())


def _strictest_disconnect(a: OnDisconnect, b: OnDisconnect) -> OnDisconnect:
    return OnDisconnect.CANCEL if OnDisconnect.CANCEL in {a, b} else OnDisconnect.DETACH


def _combined_digest(verdicts: Iterable[Verdict]) -> str:
    digests = "\n".join(verdict.policy_digest for verdict in verdicts)
    return hashlib.sha256(COMBINED_DOMAIN + digests.encode()).hexdigest()


def _denial(code: str, path: str, text: str) -> Finding:
    return Finding(outcome=Outcome.DENY, reason=Reason(code=code, path=path, text=text))


def _denied(policy: Policy, reason: Reason) -> Verdict:
    return Verdict(outcome=Outcome.DENY, reasons=(reason,), policy_digest=policy.digest)


_SENTENCES: Mapping[str, str] = {
    "hide": "The policy does not offer this tool.",
    "unlisted": "The policy does not list this tool, and denies what it does not list.",
    "default": "The policy allows what it does not list.",
    "listed": "The policy lists this tool, and no rule objects.",
}


def _reason(code: str, path: str) -> Reason:
    return Reason(code=code, path=path, text=_SENTENCES[code])


def failed(policy: Policy, error: Exception, path: str) -> Verdict:
    """Deny because the rule at `path` failed."""
    # The kind of error only: its message may quote arguments.
    text = (
        f"A rule of the policy failed ({type(error).__name__}), so the call is denied. Tell the"
        " operator; do not retry."
    )
    return _denied(policy, Reason(code="rule_error", path=path, text=text))
