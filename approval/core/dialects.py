"""Read policy documents: our own dialect, `approval-1`, and PolicyLayer's hosted JSON verbatim.

A document is read whole or not at all, and everything wrong with it is said at once, each problem
with the file, a pointer and the remedy. A key that is not understood, or not built yet, is an
error: a rule that is silently ignored would open what its author closed.
"""

import hashlib
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TypeVar

from approval.core import canonical
from approval.core.budget import Budget, read_budget
from approval.core.call import Factor, OnDisconnect, Outcome, Reason, Requirement, Run
from approval.core.canonical import quoted
from approval.core.clauses import read_conditions
from approval.core.conditions import Condition
from approval.core.document import Place, kind, open_document, shown
from approval.core.limits import read_grantable
from approval.core.meters import Meter
from approval.core.policy import (
    DenyIf,
    Finding,
    Mention,
    Policy,
    Require,
    RequireApproval,
    Rule,
    ToolPattern,
    tool_pattern,
)
from approval.core.terms import RequirementDefaults
from approval.core.vocabulary import (
    APPROVAL_1,
    ENTRY,
    FACTOR,
    GATE,
    POLICYLAYER,
    TERMS,
    Dialect,
    check_keys,
)
from approval.errors import Misconfigured, Unreadable

POLICY_DOMAIN = b"approval/policy/1\n"
MAX_TEXT = 1024 * 1024

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What a document shares with its configuration: meters, and a name that outlives its path.

    `origin` is part of what names the document's own meters and rates: as long as it stays, so do
    their sums. Two upstreams that name one file share its meters.
    """

    origin: str = ""
    meters: Mapping[str, Meter] = field(default_factory=dict)


def read_policy(
    document: Mapping[str, object],
    *,
    source: str,
    defaults: RequirementDefaults,
    shared: Shared | None = None,
) -> Policy:
    """Compile a document; `defaults` are the configuration's terms for gates that say too little.

    Raises:
        Misconfigured: With everything that is wrong with the document.
    """
    opened = open_document(document, source=source)
    digest = hashlib.sha256(POLICY_DOMAIN + opened.canonical).hexdigest()
    policy = _policy(opened.root, digest, defaults, shared or Shared(origin=source))
    opened.root.settle()
    return policy


def load_text(
    text: bytes,
    *,
    suffix: str,
    source: str,
    defaults: RequirementDefaults,
    shared: Shared | None = None,
) -> Policy:
    """Read a policy file; `suffix` says whether it is JSON or TOML.

    Raises:
        Misconfigured: If it cannot be read, or with everything that is wrong with it.
    """
    if len(text) > MAX_TEXT:
        raise Misconfigured((f"{source}: the file exceeds {MAX_TEXT} bytes; split the policy",))
    try:
        document = _parse(text, suffix.lower().removeprefix("."))
    except (Unreadable, ValueError, RecursionError) as error:
        # What tomllib and decoding raise are ValueErrors.
        raise Misconfigured((f"{source}: cannot be read: {error}; correct the file",)) from error
    if not isinstance(document, dict):
        raise Misconfigured((f"{source}: a policy is one object; write {{…}} around it",))
    return read_policy(document, source=source, defaults=defaults, shared=shared)


def read_defaults(table: Mapping[str, object], *, source: str, path: str) -> RequirementDefaults:
    """Read the terms of a gate from a table of the configuration that stands at `path`.

    Raises:
        Misconfigured: With everything that is wrong with the table.
    """
    place = open_document(table, source=source, pointer=path).root
    terms = _terms(place, TERMS, Named())
    place.settle()
    return terms


# --- the document ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Who is asked and what is told, collected while the gates are read."""

    people: list[Mention] = field(default_factory=list)
    notices: list[Mention] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the rules of one document share while they are read."""

    dialect: Dialect
    terms: RequirementDefaults
    named: Named
    budget: Budget


def _policy(root: Place, digest: str, configured: RequirementDefaults, shared: Shared) -> Policy:
    dialect, named = _dialect(root), Named()
    check_keys(root, dialect.top, f"a policy of dialect {dialect.name}")
    if root.at("version").value != "1":
        root.at("version").complain('this must be the text "1"; write "version": "1"')
    terms = _policy_defaults(root, configured, named)
    budget = read_budget(root, shared.origin, shared.meters, named.people)
    reading = Reading(dialect=dialect, terms=terms, named=named, budget=budget)
    tools = _tools(root, dialect)
    entries = [*tools, *_all_tools(root, dialect)]
    return Policy(
        source=root.source,
        digest=digest,
        allows_unlisted=_default(root) is Outcome.ALLOW,
        hidden=_hidden(root, dialect),
        # A `*` entry rules over every tool but lists none, as PolicyLayer has it.
        listed=tuple(tool for tool, _ in tools if tool.text != "*"),
        titles=tuple((tool, at.at("title").text()) for tool, at in tools if at.has("title")),
        rules=tuple(rule for tool, at in entries for rule in _rules(tool, at, reading)),
        charges=tuple(charge for tool, at in entries for charge in budget.charges(tool, at, terms)),
        limits=tuple(
            limit
            for tool, at in entries
            for limit in budget.limits(tool, at, ours=dialect is APPROVAL_1)
        ),
        meters=budget.meters,
        terms=terms.asking(()),
        names=tuple(named.people),
        notices=tuple(named.notices),
    )


def _dialect(root: Place) -> Dialect:
    if not root.has("dialect"):
        return POLICYLAYER
    place = root.at("dialect")
    if place.value != APPROVAL_1.name:
        place.complain(
            f'there is no dialect {shown(place.value)}; write "approval-1", or remove the key to'
            " have the file read as PolicyLayer's"
        )
    return APPROVAL_1


def _default(root: Place) -> Outcome:
    place = root.at("default")
    match place.value:
        case "allow":
            return Outcome.ALLOW
        case "deny":
            return Outcome.DENY
        case other:
            told = f"is {shown(other)}" if root.has("default") else "is missing"
            place.complain(f'this {told}; write "deny" (or "allow")')
            return Outcome.DENY


def _policy_defaults(
    root: Place, configured: RequirementDefaults, named: Named
) -> RequirementDefaults:
    if not root.has("defaults"):
        return configured
    place = root.at("defaults")
    check_keys(place, {"require_approval"}, "the defaults")
    if not place.has("require_approval"):
        return configured
    gate = place.at("require_approval")
    return _layered(gate, _terms(gate, TERMS, named), configured)


def _hidden(root: Place, dialect: Dialect) -> tuple[ToolPattern, ...]:
    if not root.has("hide"):
        return ()
    place = root.at("hide")
    if place.value == "*":
        return (tool_pattern("*", place.pointer),)
    if isinstance(place.value, str):
        place.complain('this is text; write a list of tools, or "*" for all of them')
        return ()
    return tuple(_tool(element, str(element.value), dialect) for element in place.names())


def _tools(root: Place, dialect: Dialect) -> list[tuple[ToolPattern, Place]]:
    """Read the entries of tools, the most exact first, whatever their order in the file."""
    if not root.has("tools"):
        return []
    tools: list[tuple[ToolPattern, Place]] = []
    for name, place in root.at("tools").members():
        keys = dialect.tool - {"title"} if name == "*" else dialect.tool
        check_keys(place, keys, f"a tool of dialect {dialect.name}")
        everything = tool_pattern("*", place.pointer)
        tools.append((everything if name == "*" else _tool(place, name, dialect), place))
    return sorted(tools, key=lambda entry: _exactness(entry[0].text))


def _all_tools(root: Place, dialect: Dialect) -> list[tuple[ToolPattern, Place]]:
    if not root.has("all_tools"):
        return []
    place = root.at("all_tools")
    check_keys(place, dialect.all_tools, f"all_tools of dialect {dialect.name}")
    return [(tool_pattern("*", place.pointer), place)]


def _tool(place: Place, name: str, dialect: Dialect) -> ToolPattern:
    if not name.strip():
        place.complain("the tool has no name; write its exact name")
    if not dialect.globs and ("*" in name or "?" in name):
        place.complain(
            'PolicyLayer\'s files name tools exactly; for patterns add "dialect": "approval-1"'
        )
    return tool_pattern(name, place.pointer)


def _exactness(name: str) -> tuple[int, str]:
    if name == "*":
        return (2, name)
    return (1 if "*" in name or "?" in name else 0, name)


# --- rules ---


def _rules(tool: ToolPattern, place: Place, reading: Reading) -> Iterator[Rule]:
    if place.has("deny_if"):
        for entry in place.at("deny_if").elements():
            yield _deny_if(tool, entry)
    if place.has("require"):
        for entry in place.at("require").elements():
            yield _require(tool, entry)
    if place.has("require_approval"):
        for entry in _gates(place.at("require_approval")):
            yield _require_approval(tool, entry, reading)


def _deny_if(tool: ToolPattern, entry: Place) -> Rule:
    check_keys(entry, ENTRY, "a rule of deny_if")
    conditions = read_conditions(entry)
    said = _on_deny(entry)
    return DenyIf(
        tools=tool,
        path=entry.pointer,
        conditions=conditions,
        if_true=_denial(entry, "deny_if:true", said or "The policy denies this call."),
        if_unknown=_denial(entry, "deny_if:unknown", said or _unjudged(conditions, "denied")),
    )


def _require(tool: ToolPattern, entry: Place) -> Rule:
    check_keys(entry, ENTRY, "a rule of require")
    conditions = read_conditions(entry)
    if not entry.at("conditions").value:
        entry.complain("without conditions this requires nothing; say what must hold")
    said = _on_deny(entry)
    unmet = f"The policy requires something of {_paths(conditions)} that does not hold."
    return Require(
        tools=tool,
        path=entry.pointer,
        conditions=conditions,
        if_false=_denial(entry, "require:false", said or unmet),
        if_unknown=_denial(entry, "require:unknown", said or _unjudged(conditions, "denied")),
    )


def _require_approval(tool: ToolPattern, entry: Place, reading: Reading) -> Rule:
    conditions = read_conditions(entry)
    requirement = _requirement(entry, reading)
    said = _on_deny(entry)
    asked = said or "The policy requires that a person approves this call."
    unjudged = said or _unjudged(conditions, "held for a person")
    return RequireApproval(
        tools=tool,
        path=entry.pointer,
        conditions=conditions,
        if_true=_gate(entry, "require_approval:true", asked, requirement),
        if_unknown=_gate(entry, "require_approval:unknown", unjudged, requirement),
    )


def _gates(place: Place) -> Iterator[Place]:
    """Go through the gates of a tool: a list of them, or the one."""
    if isinstance(place.value, dict):
        yield place
        return
    if place.value == []:
        place.complain("an empty list asks nobody; write [{}] for the defaults, or remove the key")
    yield from place.elements()


def _denial(entry: Place, code: str, text: str) -> Finding:
    return Finding(outcome=Outcome.DENY, reason=Reason(code=code, path=entry.pointer, text=text))


def _gate(entry: Place, code: str, text: str, requirement: Requirement) -> Finding:
    reason = Reason(code=code, path=entry.pointer, text=text)
    return Finding(outcome=Outcome.GATE, reason=reason, requirement=requirement)


def _on_deny(entry: Place) -> str:
    said = entry.at("on_deny").value
    if said is None or isinstance(said, str):
        return said or ""
    entry.at("on_deny").complain(f"this is {kind(said)}; write text for the agent")
    return ""


def _unjudged(conditions: tuple[Condition, ...], fate: str) -> str:
    return (
        f"The policy cannot judge {_paths(conditions)}: a value is missing, or of another type"
        f" than the rule compares with. What cannot be judged is {fate}."
    )


def _paths(conditions: tuple[Condition, ...]) -> str:
    return ", ".join(dict.fromkeys(condition.path.text for condition in conditions))


# --- the terms of a gate ---


def _requirement(entry: Place, reading: Reading) -> Requirement:
    known = len(entry.problems)
    terms = _layered(entry, _terms(entry, GATE, reading.named), reading.terms)
    requirement = terms.requirement()
    if requirement is None and len(entry.problems) == known:
        entry.complain(
            "nobody is named who could approve; write approvers here, in the policy's"
            " defaults.require_approval, or in [approvals] of the configuration"
        )
    # What stands in for a missing one is never served: the problem is raised.
    grantable = _if_said(entry, "grantable", read_grantable)
    return replace(requirement or Requirement(factors=()), grantable=grantable)


def _layered(
    place: Place, above: RequirementDefaults, below: RequirementDefaults
) -> RequirementDefaults:
    terms = above.over(below)
    if above.quorum is not None and terms.factors is not None:
        place.at("quorum").complain(
            "the approvers come from factors, which say how many approvals each needs; write"
            " approvers here, or approvals in each factor"
        )
    return terms


def _terms(place: Place, keys: Collection[str], named: Named) -> RequirementDefaults:
    check_keys(place, keys, "a rule of require_approval")
    _check_on_timeout(place)
    if place.has("approvers") and place.has("factors"):
        place.complain("approvers and factors say the same thing twice; keep one of them")
    return RequirementDefaults(
        approvers=_if_said(place, "approvers", lambda at: _approvers(at, named)),
        factors=_if_said(place, "factors", lambda at: _factors(at, named)),
        quorum=_if_said(place, "quorum", Place.count),
        timeout=_if_said(place, "timeout", Place.duration),
        run_within=_if_said(place, "run_within", Place.duration),
        distinct=_if_said(place, "distinct", Place.flag),
        not_owner=_if_said(place, "not_owner", Place.flag),
        run=_if_said(place, "run", lambda at: at.word(Run)),
        on_disconnect=_if_said(place, "on_disconnect", lambda at: at.word(OnDisconnect)),
        notify=_if_said(place, "notify", lambda at: _mentioned(at, named.notices)),
    )


def _if_said(place: Place, key: str, read: Callable[[Place], Value]) -> Value | None:
    return read(place.at(key)) if place.has(key) else None


def _check_on_timeout(place: Place) -> None:
    silence = place.at("on_timeout")
    if not place.has("on_timeout") or silence.value == "deny":
        return
    why = f"this is {shown(silence.value)}"
    if silence.value == "allow":
        why = "silence is never consent"
    if silence.value == "escalate":
        why = "escalation is not built yet"
    silence.complain(f'{why}; write "deny"')


def _approvers(place: Place, named: Named) -> tuple[str, ...]:
    if place.value == []:
        place.complain("this list is empty, so nobody could ever approve; name somebody")
    return _mentioned(place, named.people)


def _factors(place: Place, named: Named) -> tuple[Factor, ...]:
    factors = tuple(_factor(element, named) for element in place.elements())
    if place.value == []:
        place.complain("this list is empty, so nobody could ever approve; name somebody")
    if len({frozenset(factor.approvers) for factor in factors}) < len(factors):
        # Where rules unite, equal factors become one: two of them would ask for less than they say.
        place.complain("the same approvers stand in two factors; write one with more approvals")
    return factors


def _factor(place: Place, named: Named) -> Factor:
    check_keys(place, FACTOR, "a factor")
    if place.has("group") == place.has("approvers"):
        place.complain("a factor names either a group or approvers; write one of the two")
    approvals = _if_said(place, "approvals", Place.count)
    who = _if_said(place, "group", lambda at: _group(at, named))
    who = who or _if_said(place, "approvers", lambda at: _approvers(at, named))
    return Factor(approvers=who or (), approvals=approvals or 1)


def _group(place: Place, named: Named) -> tuple[str, ...]:
    return _mentioned(place, named.people) if place.text() else ()


def _mentioned(place: Place, mentions: list[Mention]) -> tuple[str, ...]:
    """Read one name or several, and keep where each stands."""
    found = tuple(Mention(text=str(at.value), path=at.pointer) for at in place.names())
    mentions.extend(found)
    return tuple(mention.text for mention in found)


# --- files ---


def _parse(text: bytes, suffix: str) -> object:
    match suffix:
        case "json":
            return canonical.read(text)
        case "toml":
            return tomllib.loads(text.decode(), parse_float=Decimal)
        case _:
            raise Unreadable("suffix", f"{quoted(suffix)!r} is neither json nor toml")
