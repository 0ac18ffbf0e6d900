"""Rules are called idle, and conditions impossible, only where that is certain."""

from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from approval.catalogue.overlaps import (
    impossible,
    includes,
    makes_idle,
    meets_everything,
    says_nothing,
)
from approval.core.call import Outcome
from approval.core.conditions import Condition, compile_test, holds
from approval.core.dialects import read_policy
from approval.core.paths import compile_path
from approval.core.policy import Finding, Rule, tool_pattern, unite
from approval.core.subject import Subject, facts_of
from approval.core.terms import RequirementDefaults
from tests.core.test_policy_properties import (
    EXISTS,
    OF_TWO_TYPES,
    OURS,
    TYPED,
    arguments_,
    conditions_of,
    rules_of,
)

patterns = st.text(alphabet="ab*?", min_size=1, max_size=4)
some_conditions = conditions_of({**TYPED, **OF_TWO_TYPES, **EXISTS, **OURS}, ["args.x", "args.y"])


def rules(*made: tuple[str, Any], tool: str = "buy") -> list[Rule]:
    tools = {f"{tool}{'*' * place}": {key: [entry]} for place, (key, entry) in enumerate(made)}
    document = {"dialect": "approval-1", "version": "1", "default": "deny", "tools": tools}
    defaults = RequirementDefaults(approvers=("finance",))
    found = read_policy(document, source="p", defaults=defaults).rules
    return sorted(found, key=lambda rule: len(rule.tools.text))


def condition(path: str, operator: str, literal: object) -> Condition:
    test = compile_test(operator, literal)
    return Condition(path=compile_path(path), test=test, operator=operator, literal=literal)


# --- which tools ---


@pytest.mark.parametrize(
    ("wider", "narrower", "does"),
    [
        ("*", "a", True),
        ("*", "a*", True),
        ("a", "a", True),
        ("a", "b", False),
        ("a*", "ab", True),
        ("a*", "ab*", True),
        ("a*", "a?b", True),
        ("ab*", "a*", False),
        ("a?", "ab", True),
        ("a?", "a*", False),
        ("a?", "a?", True),
        ("a", "*", False),
        ("*b", "a*b", True),
    ],
)
def test_one_pattern_includes_another(wider: str, narrower: str, does: bool) -> None:
    assert includes(tool_pattern(wider, ""), tool_pattern(narrower, "")) is does


@settings(max_examples=500)
@given(patterns, patterns, st.text(alphabet="abc", max_size=4))
def test_what_is_included_is_matched(wider: str, narrower: str, tool: str) -> None:
    one, other = tool_pattern(wider, ""), tool_pattern(narrower, "")
    if includes(one, other) and other.matches(tool):
        event("both match")
        assert one.matches(tool)


@pytest.mark.parametrize(
    ("pattern", "does"),
    [("*", True), ("**", True), ("?*", True), ("*?", True), ("??*", False), ("a*", False)],
)
def test_a_pattern_that_meets_every_name(pattern: str, does: bool) -> None:
    assert meets_everything(tool_pattern(pattern, "")) is does


# --- which rules ---

SEVERITY = [Outcome.ALLOW, Outcome.GATE, Outcome.DENY]


def is_at_least(first: Finding | None, second: Finding | None) -> bool:
    if second is None:
        return True
    if first is None:
        return False
    if first.requirement is not None and second.requirement is not None:
        return unite(first.requirement, second.requirement) == first.requirement
    return SEVERITY.index(first.outcome) >= SEVERITY.index(second.outcome)


@settings(max_examples=600, deadline=None)
@given(st.data(), arguments_)
def test_beside_what_makes_it_idle_a_rule_never_says_more(
    data: st.DataObject, arguments: object
) -> None:
    # The second is the first with a condition more or fewer, so that they often overlap.
    key, entry = data.draw(rules_of(some_conditions))
    more = data.draw(st.lists(some_conditions, max_size=1))
    fewer = entry["conditions"][: data.draw(st.integers(0, 2))]
    other = data.draw(st.sampled_from(["deny_if", key]))
    changed = {"conditions": [*fewer, *more]}
    assume(other != "require" or changed["conditions"])
    first, second = data.draw(st.permutations(rules((key, entry), (other, changed))))
    if makes_idle(first, second) and second.covers("buy"):
        event(f"{type(first).__name__} over {type(second).__name__}")
        facts = facts_of(Subject(agent="a", upstream="u", tool="buy", arguments=arguments))
        assert first.covers("buy")
        assert is_at_least(first.judge(facts), second.judge(facts))


X5 = {"path": "args.x", "op": "gt", "value": 5}
Y1 = {"path": "args.y", "op": "eq", "value": 1}
YTRUE = {"path": "args.y", "op": "eq", "value": True}


def of(*conditions: object, **terms: object) -> dict[str, object]:
    return {"conditions": list(conditions), **terms}


@pytest.mark.parametrize(
    ("first", "second", "does"),
    [
        (("deny_if", of()), ("deny_if", of(X5)), True),
        (("deny_if", of(X5)), ("deny_if", of()), False),
        (("deny_if", of(X5)), ("deny_if", of(Y1, X5)), True),
        (("deny_if", of(Y1)), ("deny_if", of(YTRUE)), False),
        (("deny_if", of()), ("require", of(X5)), True),
        (("deny_if", of(X5)), ("require", of(X5)), False),
        (("deny_if", of()), ("require_approval", of()), True),
        (("deny_if", of(X5)), ("require_approval", of(X5)), True),
        (("deny_if", of(X5)), ("require_approval", of(Y1)), False),
        (("require", of(X5, Y1)), ("require", of(X5)), True),
        (("require", of(X5)), ("require", of(X5, Y1)), False),
        (("require", of(X5)), ("deny_if", of(X5)), False),
        (("require_approval", of()), ("require_approval", of(X5)), True),
        (("require_approval", of()), ("require_approval", of(X5, quorum=2)), False),
        (("require_approval", of(quorum=2)), ("require_approval", of(X5)), True),
        (("require_approval", of()), ("require_approval", of(X5, timeout="1m")), False),
        (("require_approval", of()), ("deny_if", of()), False),
    ],
)
def test_one_rule_makes_another_idle(first: Any, second: Any, does: bool) -> None:
    narrower, wider = rules(second, first)
    assert makes_idle(wider, narrower) is does


def test_a_rule_over_fewer_tools_makes_none_idle() -> None:
    narrower, wider = rules(("deny_if", of()), ("deny_if", of()))
    assert makes_idle(wider, narrower)
    assert not makes_idle(narrower, wider)


# --- conditions ---


@pytest.mark.parametrize(
    ("conditions", "path"),
    [
        ([("x", "gt", 5), ("x", "lt", 5)], "args.x"),
        ([("x", "gt", 5), ("x", "lte", 5)], "args.x"),
        ([("x", "gte", 5), ("x", "lt", 5)], "args.x"),
        ([("x", "gte", 5), ("x", "lte", 5)], ""),
        ([("x", "gt", 5), ("y", "lt", 5)], ""),
        ([("x", "gt", 5), ("x", "lt", 6)], ""),
        ([("x", "eq", 1), ("x", "eq", 2)], "args.x"),
        ([("x", "eq", 1), ("x", "eq", 1.0)], ""),
        ([("x", "eq", 1), ("x", "eq", True)], "args.x"),
        ([("x", "eq", "a"), ("x", "gt", 1)], "args.x"),
        ([("x", "eq", 3), ("x", "gt", 1)], ""),
        ([("x", "in", ["a", "b"]), ("x", "in", ["b"])], ""),
        ([("x", "in", ["a", "b"]), ("x", "not_in", ["b", "a"])], "args.x"),
        ([("x", "in", ["a"]), ("x", "regex", "^b")], "args.x"),
        ([("x", "exists", True), ("x", "exists", False)], "args.x"),
        ([("x", "exists", False), ("x", "eq", 1)], "args.x"),
        ([("x", "exists", False)], ""),
        ([("x", "exists", True), ("x", "eq", 1)], ""),
        ([("x", "regex", "^a"), ("x", "regex", "^b")], ""),
        ([], ""),
    ],
)
def test_conditions_contradict_each_other(
    conditions: list[tuple[str, str, object]], path: str
) -> None:
    made = [condition(f"args.{name}", operator, value) for name, operator, value in conditions]
    assert impossible(made) == path


@settings(max_examples=600, deadline=None)
@given(st.lists(some_conditions, min_size=2, max_size=3), arguments_)
def test_what_is_impossible_never_holds(written: list[dict[str, Any]], arguments: object) -> None:
    made = [condition(each["path"], each["op"], each["value"]) for each in written]
    if impossible(made):
        event("impossible")
        assert holds(made, {"args": arguments}) is not True


@pytest.mark.parametrize(
    ("operator", "literal", "does"),
    [
        ("regex", "", True),
        ("regex", ".*", True),
        ("regex", "a*", True),
        ("regex", "^", True),
        ("regex", "(?s)^.*$", True),
        ("regex", "^.*$", False),
        ("regex", "a", False),
        ("regex", "^[^q]*$", False),
        ("regex", ".", False),
        ("glob", "*", True),
        ("glob", "**", True),
        ("glob", "?*", False),
        ("contains", "", True),
        ("contains", 1, False),
        ("cidr", "0.0.0.0/0", True),
        ("cidr", ["10.0.0.0/8", "::/0"], True),
        ("cidr", "10.0.0.0/8", False),
        ("eq", "*", False),
        ("exists", True, False),
    ],
)
def test_a_condition_that_every_value_of_its_type_meets(
    operator: str, literal: object, does: bool
) -> None:
    assert says_nothing(condition("args.x", operator, literal)) is does
