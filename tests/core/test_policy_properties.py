"""Properties of judgement on generated policies and arguments (semantics: 43 to 46)."""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from approval.core.call import OnDisconnect, Outcome, Requirement, Run, Verdict
from approval.core.canonical import Number
from approval.core.dialects import read_policy
from approval.core.policy import Policy, evaluate
from approval.core.subject import Subject
from approval.core.terms import RequirementDefaults

Document = dict[str, Any]
"""Raw JSON, as a person would write it."""

SEVERITY = {Outcome.ALLOW: 0, Outcome.GATE: 1, Outcome.DENY: 2}
NAMES = ["x", "y"]
TOOLS = ["buy", "sell"]
PATHS = ["args.x", "args.y", "/x", "args.x.z", "/y/0"]

thorough = settings(max_examples=200, deadline=None)


# --- arguments ---

texts = st.sampled_from(["", "a", "ab", "b", "5", "true", "a.org", "10.0.0.1", "https://a.org/"])
numbers = st.one_of(
    st.integers(-2, 6), st.sampled_from([Number("0.5"), Number("5.0"), Number("1e400")])
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=2),
    st.dictionaries(st.just("z"), scalars, max_size=1),
)
arguments_ = st.dictionaries(st.sampled_from(NAMES), values, max_size=2)
anything = st.recursive(
    st.one_of(scalars, st.text(max_size=3), st.floats(), st.integers()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)

# --- policies ---

literals = st.one_of(st.booleans(), st.integers(-1, 5), st.sampled_from(["a", "5", "true"]))
pieces = st.sampled_from(["a", "b", "5", "^a$"])
counts = st.integers(0, 5)

TYPED = {
    "eq": literals,
    "neq": literals,
    "in": st.lists(literals, min_size=1, max_size=3),
    "not_in": st.lists(literals, min_size=1, max_size=3),
    "lt": counts,
    "lte": counts,
    "gt": counts,
    "gte": counts,
    "regex": pieces,
}
OF_TWO_TYPES = {"contains": literals}
EXISTS = {"exists": st.booleans()}
OURS = {
    "glob": st.sampled_from(["a*", "?", "*b"]),
    "cidr": st.sampled_from(["10.0.0.0/8", ["::/0", "10.0.0.1"]]),
    "host_in": st.sampled_from(["a.org", ["*.org"]]),
}
LENGTHS = {"len_lte": counts}


def conditions_of(
    operators: Mapping[str, st.SearchStrategy[Any]], paths: list[str] | None = None
) -> st.SearchStrategy[Document]:
    return st.sampled_from(sorted(operators)).flatmap(
        lambda op: st.fixed_dictionaries(
            {"path": st.sampled_from(paths or PATHS), "op": st.just(op), "value": operators[op]}
        )
    )


def entries_of(condition: st.SearchStrategy[Document], fewest: int) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries({"conditions": st.lists(condition, min_size=fewest, max_size=2)})


terms = st.fixed_dictionaries(
    {},
    optional={
        "approvers": st.sampled_from(["finance", "cfo", ["ann", "bob"], ["bob", "ann"]]),
        "quorum": st.integers(1, 3),
        "timeout": st.sampled_from(["1m", "1h"]),
        "run_within": st.sampled_from(["1m", "1h"]),
        "distinct": st.booleans(),
        "not_owner": st.booleans(),
        "run": st.sampled_from([str(each) for each in Run]),
        "on_disconnect": st.sampled_from([str(each) for each in OnDisconnect]),
        "notify": st.sampled_from([[], ["web"], ["slack:#a", "web"]]),
    },
)


def rules_of(condition: st.SearchStrategy[Document]) -> st.SearchStrategy[tuple[str, Document]]:
    """Make one rule: the key it stands under, and the entry."""
    gate = st.tuples(entries_of(condition, 0), terms).map(lambda two: two[0] | two[1])
    return st.one_of(
        st.tuples(st.just("deny_if"), entries_of(condition, 0)),
        st.tuples(st.just("require"), entries_of(condition, 1)),
        st.tuples(st.just("require_approval"), gate),
    )


def blocks_of(condition: st.SearchStrategy[Document]) -> st.SearchStrategy[Document]:
    return st.lists(rules_of(condition), max_size=2).map(gathered)


def gathered(rules: list[tuple[str, Document]]) -> Document:
    block: Document = {}
    for key, entry in rules:
        block.setdefault(key, []).append(entry)
    return block


def documents_of(condition: st.SearchStrategy[Document]) -> st.SearchStrategy[Document]:
    blocks = blocks_of(condition)
    return st.fixed_dictionaries(
        {
            "dialect": st.just("approval-1"),
            "version": st.just("1"),
            "default": st.sampled_from(["allow", "allow", "deny"]),
            "hide": st.sampled_from([[], [], ["sell"], ["s*"]]),
            "tools": st.dictionaries(st.sampled_from([*TOOLS, "b*", "*"]), blocks, max_size=3),
            "all_tools": blocks,
        }
    )


every_condition = conditions_of({**TYPED, **OF_TWO_TYPES, **EXISTS, **OURS, **LENGTHS})
documents = documents_of(every_condition)


def load(document: Document) -> Policy:
    defaults = RequirementDefaults(approvers=("default",))
    return read_policy(document, source="generated", defaults=defaults)


def judge(policy: Policy, arguments: object, tool: str = "buy") -> Verdict:
    return evaluate(policy, Subject(agent="a", upstream="u", tool=tool, arguments=arguments))


def demands(requirement: Requirement | None) -> object:
    """Give what a requirement asks, whatever the order in which it names things."""
    if requirement is None:
        return None
    factors = {frozenset(each.approvers): each.approvals for each in requirement.factors}
    rest = (requirement.timeout, requirement.run_within, requirement.distinct)
    more = (requirement.not_owner, requirement.run, requirement.on_disconnect)
    return factors, rest, more, frozenset(requirement.notify)


def told(verdict: Verdict) -> frozenset[tuple[str, str]]:
    return frozenset((reason.code, reason.text) for reason in verdict.reasons)


def asks_at_least(stricter: Requirement, milder: Requirement) -> bool:
    runs = [Run.ON_APPROVAL, Run.AUTO, Run.WHEN_ASKED]
    offered = {frozenset(each.approvers): each.approvals for each in stricter.factors}
    return (
        all(offered.get(frozenset(f.approvers), 0) >= f.approvals for f in milder.factors)
        and stricter.timeout <= milder.timeout
        and stricter.run_within <= milder.run_within
        and stricter.distinct >= milder.distinct
        and stricter.not_owner >= milder.not_owner
        and runs.index(stricter.run) >= runs.index(milder.run)
        and (stricter.on_disconnect is OnDisconnect.CANCEL or milder.on_disconnect == "detach")
        and set(stricter.notify) >= set(milder.notify)
    )


def is_as_strict(stricter: Verdict, milder: Verdict) -> bool:
    if stricter.requirement is not None and milder.requirement is not None:
        return asks_at_least(stricter.requirement, milder.requirement)
    return SEVERITY[stricter.outcome] >= SEVERITY[milder.outcome]


# --- 43: total and deterministic ---


@thorough
@given(documents, anything, st.one_of(st.sampled_from(TOOLS), st.text(max_size=4)))
def test_judging_ends_in_one_verdict_for_any_json(
    document: Document, arguments: object, tool: str
) -> None:
    policy = load(document)
    verdict = judge(policy, arguments, tool)
    event(verdict.outcome)
    assert judge(policy, arguments, tool) == verdict
    assert judge(load(copy.deepcopy(document)), copy.deepcopy(arguments), tool) == verdict
    assert (verdict.requirement is not None) is (verdict.outcome is Outcome.GATE)
    assert verdict.reasons
    assert "rule_error" not in {reason.code for reason in verdict.reasons}


# --- 44: monotone, free of order, idempotent ---


def with_rule(document: Document, place: str, rule: tuple[str, Document]) -> Document:
    grown = copy.deepcopy(document)
    block = grown["all_tools"] if place == "all_tools" else grown["tools"].setdefault(place, {})
    block.setdefault(rule[0], []).append(rule[1])
    return grown


@thorough
@given(documents, st.data(), arguments_)
def test_adding_a_rule_never_loosens(
    document: Document, data: st.DataObject, arguments: object
) -> None:
    # A new entry of a tool lists it; only `*` and what stands already are rules and no more.
    places = sorted({*document["tools"], "*", "all_tools"})
    rule = data.draw(rules_of(every_condition))
    grown = with_rule(document, data.draw(st.sampled_from(places)), rule)
    for tool in TOOLS:
        before, after = judge(load(document), arguments, tool), judge(load(grown), arguments, tool)
        event(f"{before.outcome} to {after.outcome}")
        assert is_as_strict(after, before)


ASKED: Document = {"amount": {"ask": True, "up_to": "5.00 USD"}}
UNSTATED: Document = {
    "amount": {"argument": "/x", "unit": "minor", "currency": "USD"},
    "per_call": "5.00 USD",
    "on_unknown": "gate",
}


@thorough
@given(documents, arguments_, st.sampled_from([ASKED, UNSTATED]))
def test_a_price_that_an_approver_types_never_loosens_nor_passes_by_itself(
    document: Document, arguments: object, price: Document
) -> None:
    grown = copy.deepcopy(document)
    for block in grown["tools"].values():
        block["spend"] = price
    for tool in TOOLS:
        before, after = judge(load(document), arguments, tool), judge(load(grown), arguments, tool)
        event(f"{before.outcome} to {after.outcome}")
        assert is_as_strict(after, before)
        asks = after.demand is not None and after.demand.asks
        assert after.outcome is Outcome.GATE or not asks


@thorough
@given(documents, st.sampled_from([*TOOLS, "b*", "*"]), arguments_)
def test_hiding_never_loosens(document: Document, name: str, arguments: object) -> None:
    grown = {**document, "hide": sorted({*document["hide"], name})}
    for tool in TOOLS:
        before, after = judge(load(document), arguments, tool), judge(load(grown), arguments, tool)
        assert is_as_strict(after, before)


@thorough
@given(documents, arguments_, st.data())
def test_the_order_of_rules_changes_nothing(
    document: Document, arguments: object, data: st.DataObject
) -> None:
    def permuted(block: Document) -> Document:
        return {key: data.draw(st.permutations(block[key])) for key in reversed(list(block))}

    names = data.draw(st.permutations(list(document["tools"])))
    other = {key: document[key] for key in reversed(list(document))}
    other["tools"] = {name: permuted(document["tools"][name]) for name in names}
    other["all_tools"] = permuted(document["all_tools"])
    for tool in TOOLS:
        here, there = judge(load(document), arguments, tool), judge(load(other), arguments, tool)
        assert there.outcome is here.outcome
        assert demands(there.requirement) == demands(here.requirement)
        assert told(there) == told(here)


@thorough
@given(documents, arguments_)
def test_a_rule_that_stands_twice_counts_once(document: Document, arguments: object) -> None:
    twice = copy.deepcopy(document)
    for block in (*twice["tools"].values(), twice["all_tools"]):
        for key in block:
            block[key] = block[key] * 2
    for tool in TOOLS:
        here, there = judge(load(document), arguments, tool), judge(load(twice), arguments, tool)
        assert (there.outcome, there.requirement) == (here.outcome, here.requirement)
        assert told(there) == told(here)


# --- 45: unknown never allows ---

KINDS: Mapping[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "bool": st.booleans(),
    "number": numbers,
    "text": texts,
    "list": st.lists(scalars, max_size=2),
    "object": st.dictionaries(st.just("z"), scalars, max_size=1),
}


def kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case str():
            return "text"
        case list():
            return "list"
        case dict():
            return "object"
        case _:
            return "number"


def buying(block: Document) -> Document:
    return {"dialect": "approval-1", "version": "1", "default": "deny", "tools": {"buy": block}}


@settings(max_examples=600, deadline=None)
@given(
    st.lists(rules_of(conditions_of({**TYPED, **OURS})), min_size=1, max_size=2),
    st.fixed_dictionaries({"x": values, "y": values}),
    st.sampled_from(NAMES),
    st.data(),
)
def test_an_argument_of_another_type_never_loosens_what_was_known(
    rules: list[tuple[str, Document]], arguments: Document, name: str, data: st.DataObject
) -> None:
    # Of another type than the rule could judge, that is: a call that was denied because a number
    # came as text may well be allowed with the number. `exists` asks for no type, and `contains`
    # and `len_lte` judge two.
    policy = load(buying(gathered(rules)))
    before = judge(policy, arguments)
    event(before.outcome)
    if any(reason.code.endswith(":unknown") for reason in before.reasons):
        return
    for other in [each for each in KINDS if each != kind(arguments[name])]:
        after = judge(policy, {**arguments, name: data.draw(KINDS[other])})
        event(f"known {before.outcome} to {after.outcome}")
        assert SEVERITY[after.outcome] >= SEVERITY[before.outcome]


def unreadable(value: str) -> object:
    """Make a value that no operator can judge, without and with something there."""
    return None if value == "null" else {"z": {}}


@thorough
@given(
    documents_of(conditions_of({**TYPED, **OF_TWO_TYPES, **OURS, **LENGTHS})),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["null", "object"]).map(unreadable)),
)
def test_what_no_rule_can_judge_is_never_allowed_past_a_rule(
    document: Document, arguments: Document
) -> None:
    applying = [document["all_tools"]]
    applying += [
        document["tools"][name] for name in ("buy", "b*", "*") if name in document["tools"]
    ]
    verdict = judge(load(document), arguments)
    event(verdict.outcome)
    if any(block.get("deny_if") or block.get("require") for block in applying):
        assert verdict.outcome is Outcome.DENY
    elif any(block.get("require_approval") for block in applying):
        assert verdict.outcome is not Outcome.ALLOW


# --- 46: PolicyLayer's documents allow nothing that the original would not ---


def printed(value: object) -> str:
    """Print a value as Go's %v does, for values of this test."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case list():
            return "[" + " ".join(printed(each) for each in value) + "]"
        case dict():
            return "map[" + " ".join(f"{key}:{printed(value[key])}" for key in value) + "]"
        case _:
            return str(value)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def alike(a: Any, b: Any) -> bool:
    return bool(a == b) if is_number(a) and is_number(b) else printed(a) == printed(b)


THERE: Mapping[str, Callable[[Any, Any], bool]] = {
    "exists": lambda found, wanted: (found is not None) is wanted,
    "eq": alike,
    "neq": lambda found, other: not alike(found, other),
    "in": lambda found, those: any(alike(found, each) for each in those),
    "not_in": lambda found, those: not any(alike(found, each) for each in those),
    "lt": lambda found, bound: is_number(found) and found < bound,
    "lte": lambda found, bound: is_number(found) and found <= bound,
    "gt": lambda found, bound: is_number(found) and found > bound,
    "gte": lambda found, bound: is_number(found) and found >= bound,
    "regex": lambda found, text: isinstance(found, str) and bool(re.search(text, found)),
    "contains": lambda found, piece: (
        any(alike(each, piece) for each in found)
        if isinstance(found, list)
        else isinstance(found, str) and printed(piece) in found
    ),
}


def holds_there(condition: Document, arguments: Document) -> bool:
    """Judge one condition as the original does: whatever cannot be judged is false."""
    found: Any = arguments
    for part in condition["path"].split(".")[1:]:
        if not isinstance(found, dict) or part not in found:
            return condition["op"] == "exists" and not condition["value"]
        found = found[part]
    return THERE[condition["op"]](found, condition["value"])


def allows_there(document: Document, tool: str, arguments: Document) -> bool:
    """Judge a call as the original does, in a few lines that share nothing with ours."""
    if document["hide"] == "*" or tool in document["hide"]:
        return False
    if document["default"] == "deny" and tool not in document["tools"]:
        return False
    for name in (tool, "*"):
        block = document["tools"].get(name, {})
        for entry in block.get("deny_if", []):
            if all(holds_there(each, arguments) for each in entry["conditions"]):
                return False
        for entry in block.get("require", []):
            if not all(holds_there(each, arguments) for each in entry["conditions"]):
                return False
    return True


their_condition = conditions_of(
    {**TYPED, **OF_TWO_TYPES, **EXISTS}, paths=["args.x", "args.y", "args.x.z"]
)
their_blocks = st.fixed_dictionaries(
    {},
    optional={
        "deny_if": st.lists(entries_of(their_condition, 0), max_size=2),
        "require": st.lists(entries_of(their_condition, 1), max_size=2),
    },
)
their_documents = st.fixed_dictionaries(
    {
        "version": st.just("1"),
        "default": st.sampled_from(["allow", "deny"]),
        "hide": st.one_of(st.just([]), st.just(["sell"]), st.just("*")),
        "tools": st.dictionaries(st.sampled_from([*TOOLS, "*"]), their_blocks, max_size=3),
    }
)
their_scalars = st.one_of(st.none(), st.booleans(), st.integers(-2, 6), texts)
their_values = st.one_of(
    their_scalars,
    st.lists(their_scalars, max_size=2),
    st.dictionaries(st.just("z"), their_scalars, max_size=1),
)


@settings(max_examples=600, deadline=None)
@given(
    their_documents,
    st.dictionaries(st.sampled_from(NAMES), their_values, max_size=2),
    st.sampled_from(TOOLS),
)
def test_policylayers_documents_allow_only_what_the_original_would(
    document: Document, arguments: Document, tool: str
) -> None:
    ours = judge(load(document), arguments, tool).outcome
    theirs = allows_there(document, tool, arguments)
    event(f"{ours}, there {'allow' if theirs else 'deny'}")
    assert ours is not Outcome.GATE
    assert theirs or ours is Outcome.DENY
