"""Read a configuration's policies for what loads and is judged, and is still not what was meant.

It stands here and not in the core, for it judges nothing: it is advice, and is to hold policies
against the catalogue of tools too. A new check is a function named in `_CHECKS`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import reduce

from approval.catalogue.overlaps import (
    impossible,
    includes,
    is_exact,
    makes_idle,
    meets_everything,
    says_nothing,
)
from approval.catalogue.scenes import Remark, Scene, Severity
from approval.catalogue.spends import idle_meters, unbounded, uncapped, unpayable
from approval.core.call import Outcome, Reason, Requirement
from approval.core.canonical import quoted
from approval.core.conditions import Condition
from approval.core.identity import Agent, Directory, attainable
from approval.core.paths import SPEND_AMOUNT
from approval.core.policy import (
    Charge,
    DenyIf,
    Finding,
    Policy,
    Require,
    RequireApproval,
    Rule,
    unite,
)
from approval.core.price import Ask
from approval.core.rulebook import Rulebook, subject_of
from approval.core.subject import facts_of


def lint(rules: Rulebook) -> tuple[Remark, ...]:
    """Give every remark once, the worst first."""
    found = [remark for scene in _scenes(rules) for check in _CHECKS for remark in check(scene)]
    found += idle_meters(rules)
    order = list(Severity)
    return tuple(sorted(dict.fromkeys(found), key=lambda remark: order.index(remark.severity)))


def _scenes(rules: Rulebook) -> Iterator[Scene]:
    agents = rules.directory.agents
    for upstream, policy in rules.policies.items():
        askers = tuple(each for each in agents.values() if upstream in each.upstreams)
        yield Scene(policy=policy, upstream=upstream, askers=askers, directory=rules.directory)
    for (name, upstream), policy in rules.narrowing.items():
        if name in agents:
            yield Scene(
                policy=policy,
                upstream=upstream,
                askers=(agents[name],),
                directory=rules.directory,
                above=rules.policies.get(upstream),
            )


# --- rules that say nothing ---


def _idle(scene: Scene) -> Iterator[Remark]:
    """Find rules beside which another always objects at least as strongly."""
    rules = scene.policy.rules
    for place, rule in enumerate(rules):
        for other_place, other in enumerate(rules):
            if other is rule or not makes_idle(other, rule):
                continue
            if makes_idle(rule, other) and place < other_place:
                continue  # they say the same, and the later one is told
            yield _idle_remark(scene, rule, other)
            break


def _idle_remark(scene: Scene, rule: Rule, other: Rule) -> Remark:
    if isinstance(rule, RequireApproval) and isinstance(other, DenyIf):
        what = f"nobody is ever asked: {other.path} denies every call that this would hold"
        remedy = "remove one of the two; a denial does not wait for approval"
        return scene.remark(Severity.ERROR, "never_asked", rule.path, what, remedy)
    if makes_idle(rule, other):
        what = f"says what {other.path} says"
        return scene.remark(Severity.WARNING, "duplicate", rule.path, what, "remove it")
    what = f"decides nothing: {other.path} objects to every call that this objects to"
    remedy = "remove it, or make the other one narrower"
    return scene.remark(Severity.WARNING, "shadowed", rule.path, what, remedy)


def _hidden(scene: Scene) -> Iterator[Remark]:
    for rule in scene.policy.rules:
        hiding = next((h for h in scene.policy.hidden if includes(h, rule.tools)), None)
        if hiding is not None:
            what = f"is never asked: {hiding.path} hides the tool, which denies it"
            remedy = "remove the rule, or do not hide the tool"
            yield scene.remark(Severity.WARNING, "hidden", rule.path, what, remedy)


def _contradictory(scene: Scene) -> Iterator[Remark]:
    """Find conditions that can never all hold: of a guard an error, of a `require` a denial."""
    for rule in scene.policy.rules:
        path = impossible(rule.conditions)
        why = f"its conditions on {quoted(path)} contradict each other" if path else ""
        why = why or _never_here(scene, rule)
        if why and isinstance(rule, Require):
            what = f"denies every call: {why}"
            remedy = "correct the conditions, or write a deny_if without any"
            yield scene.remark(Severity.WARNING, "always_denies", rule.path, what, remedy)
        elif why:
            what = f"never applies to a call that can be judged: {why}"
            remedy = "correct the conditions; entries of their own are alternatives"
            yield scene.remark(Severity.ERROR, "never_fires", rule.path, what, remedy)


def _never_here(scene: Scene, rule: Rule) -> str:
    """Say which condition is false for every agent that could ask for this tool."""
    false = [_false_for(scene, rule, agent) for agent in scene.askers]
    if not false or not all(false):
        return ""
    return f"{quoted(false[0])} is false for every agent and tool it could be about"


def _false_for(scene: Scene, rule: Rule, agent: Agent) -> str:
    facts = facts_of(subject_of(agent, scene.upstream, rule.tools.text, None))
    known = {"agent", "server", *(("tool",) if is_exact(rule.tools) else ())}
    return next(
        (
            condition.path.text
            for condition in rule.conditions
            if condition.path.steps[0] in known and condition.judge(facts) is False
        ),
        "",
    )


def _unknown_price(scene: Scene) -> Iterator[Remark]:
    """Find denials by a price that nobody knows before an approver has typed it."""
    asked = [gate.tools for gate in map(_typed, scene.policy.charges) if gate is not None]
    for rule in scene.policy.rules:
        meets = any(includes(rule.tools, tools) for tools in asked)
        by_price = [condition.path.text for condition in rule.conditions] == [SPEND_AMOUNT]
        if meets and by_price and not isinstance(rule, RequireApproval):
            what = f"denies every call: nobody knows {SPEND_AMOUNT} before an approver types it"
            remedy = "bound it by up_to, or look at it in require_approval"
            yield scene.remark(Severity.WARNING, "always_denies", rule.path, what, remedy)


def _empty_words(scene: Scene) -> Iterator[Remark]:
    for rule in scene.policy.rules:
        for condition in filter(says_nothing, rule.conditions):
            what = f"{_shown(condition)} is met by every value of its type"
            remedy = "say what is meant, or exists if it must merely be there"
            yield scene.remark(Severity.WARNING, "matches_everything", rule.path, what, remedy)


def _shown(condition: Condition) -> str:
    return quoted(f"{condition.path.text} {condition.operator} {condition.literal!r}")


# --- what is said of tools that no rule names ---


def _patterns(scene: Scene) -> Iterator[Remark]:
    policy = scene.policy
    for pattern in policy.listed:
        if not policy.allows_unlisted and meets_everything(pattern):
            what = "lists every tool, so that default = deny denies none"
            remedy = 'name the tools that are meant; for rules over all of them the entry is "*"'
            yield scene.remark(Severity.ERROR, "lists_everything", pattern.path, what, remedy)
    for pattern in policy.hidden:
        if meets_everything(pattern):
            what = "hides every tool: no call passes"
            remedy = "name the tools that are meant, if not all are"
            yield scene.remark(Severity.NOTE, "hides_everything", pattern.path, what, remedy)
    if not policy.allows_unlisted and not policy.listed:
        what = "denies every tool, for none is listed"
        remedy = "list the tools that may be used"
        yield scene.remark(Severity.WARNING, "lists_nothing", "/default", what, remedy)


def _open_default(scene: Scene) -> Iterator[Remark]:
    """Find gates by exact name where whatever is not named passes."""
    policy = scene.policy
    if not policy.allows_unlisted or scene.above is not None:
        return
    guards = [rule for rule in policy.rules if not isinstance(rule, Require)]
    if any(rule.tools.text == "*" and not rule.conditions for rule in guards):
        return
    gates = [rule for rule in guards if isinstance(rule, RequireApproval)]
    named = sorted({quoted(rule.tools.text) for rule in gates if is_exact(rule.tools)})
    if named:
        what = f"allows every tool that is not listed, and {', '.join(named)} is gated by its name"
        what += " alone: a sister tool, or the same one renamed, would pass"
        remedy = 'write default = "deny" and list what may pass, or gate a pattern'
        yield scene.remark(Severity.WARNING, "open_default", "/default", what, remedy)


def _closed_narrowing(scene: Scene) -> Iterator[Remark]:
    if scene.above is not None and not scene.policy.allows_unlisted:
        what = "narrows another policy, and denies each tool that it does not list itself"
        remedy = 'write default = "allow": what the upstream\'s policy denies stays denied'
        yield scene.remark(Severity.WARNING, "closed_narrowing", "/default", what, remedy)


# --- who approves ---


def _never_met(scene: Scene) -> Iterator[Remark]:
    """Find gates that can be met one by one, and together by nobody."""
    for rule in _gates(scene.policy):
        others = [*_gates(scene.policy), *_gates(scene.above)]
        meeting = [each for each in others if includes(each.tools, rule.tools)]
        always = [each for each in meeting if not each.conditions or each is rule]
        for asker in scene.askers or (None,):
            if not attainable(scene.directory, _united(always), asker):
                yield _unmet(scene, rule, asker, Severity.ERROR, "always")
            elif not attainable(scene.directory, _united(meeting), asker):
                yield _unmet(scene, rule, asker, Severity.WARNING, "where all of them apply")


def _unmet(scene: Scene, rule: Rule, asker: Agent | None, severity: Severity, when: str) -> Remark:
    whose = f"a call of {asker.name}" if asker is not None else "a call"
    what = f"nobody could approve {whose}: with the other gates of this tool ({when}) it needs more"
    what += " people than may decide"
    remedy = "name more approvers, or ask for fewer; an agent's owner and the agent do not count"
    return scene.remark(severity, "never_met", rule.path, what, remedy)


def _no_spare(scene: Scene) -> Iterator[Remark]:
    """Find gates that one person's absence closes."""
    for rule in _gates(scene.policy):
        demand = _united([rule])
        names = {name for factor in demand.factors for name in factor.approvers}
        for person in sorted(scene.directory.members(names)):
            askers = [
                asker
                for asker in scene.askers or (None,)
                if _needs(scene.directory, demand, asker, person)
            ]
            if askers:
                whose = ", ".join(asker.name for asker in askers if asker is not None) or "agents"
                what = f"calls of {whose} expire whenever {person} is away: nobody can stand in"
                remedy = "name another approver"
                yield scene.remark(Severity.NOTE, "no_spare", rule.path, what, remedy)


def _needs(directory: Directory, demand: Requirement, asker: Agent | None, person: str) -> bool:
    people = {name: each for name, each in directory.people.items() if name != person}
    without = replace(directory, people=people)
    return attainable(directory, demand, asker) and not attainable(without, demand, asker)


def _gates(policy: Policy | None) -> list[RequireApproval]:
    if policy is None:
        return []
    typed = [gate for gate in map(_typed, policy.charges) if gate is not None]
    return [*(rule for rule in policy.rules if isinstance(rule, RequireApproval)), *typed]


def _typed(charge: Charge) -> RequireApproval | None:
    """Give the gate that a price amounts to which an approver types for every call."""
    if not all(isinstance(source, Ask) for source in charge.spend.sources):
        return None
    reason = Reason(code=f"amount:{Ask.origin}", path=charge.path, text="")
    asks = Finding(outcome=Outcome.GATE, reason=reason, requirement=charge.asks)
    return RequireApproval(
        tools=charge.tools, path=charge.path, conditions=(), if_true=asks, if_unknown=asks
    )


def _united(rules: Iterable[RequireApproval]) -> Requirement:
    demands = [rule.if_true.requirement for rule in rules]
    return reduce(unite, [demand for demand in demands if demand is not None])


_CHECKS: tuple[Callable[[Scene], Iterator[Remark]], ...] = (
    _idle,
    _hidden,
    _contradictory,
    _unknown_price,
    _empty_words,
    _patterns,
    _open_default,
    _closed_narrowing,
    _never_met,
    _no_spare,
    unpayable,
    unbounded,
    uncapped,
)
