"""Conditions are read from where they stand, and every mistake is told there."""

import pytest

from approval.core.clauses import read_conditions
from approval.core.conditions import holds
from approval.core.document import Place


def entry(*conditions: object) -> Place:
    return Place(source="p", pointer="/rule", value={"conditions": list(conditions)})


def test_conditions_are_joined_and_none_hold_always() -> None:
    low = {"path": "args.x", "op": "lt", "value": 5}
    high = {"path": "/x", "op": "gt", "value": 1}
    for at, x, truth in [
        (entry(low, high), 3, True),
        (entry(low, high), 7, False),
        (entry(low, high), "3", None),
        (entry(), 7, True),
        (Place(source="p", pointer="", value={}), 7, True),
    ]:
        assert holds(read_conditions(at), {"args": {"x": x}}) is truth
        assert at.problems == []


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("x", "p: /rule/conditions/0: this is text; write {path, op, value}"),
        (
            {"path": "args.x", "op": "exists"},
            "the value is missing; for exists write true or false",
        ),
        ({"path": "args.x", "op": "eq", "value": 1, "when": 1}, "/conditions/0/when: when is not"),
        ({"path": "x", "op": "eq", "value": 1}, "/conditions/0/path: the path 'x' starts with"),
        ({"path": "", "op": "eq", "value": 1}, "/conditions/0/path: this is blank; write text"),
        ({"path": "args.x", "op": "is", "value": 1}, "/value: is: there is no operator 'is'"),
        ({"path": "args.x", "op": 5, "value": 1}, "/op: this is a number; write text"),
        ({"path": "args.x", "op": "lt", "value": "5"}, "lt: the value must be a number"),
    ],
)
def test_a_mistake_is_told_with_its_place(condition: object, told: str) -> None:
    at = entry(condition)
    read_conditions(at)
    [problem] = at.problems
    assert told in problem


def test_what_is_no_list_is_told() -> None:
    at = Place(source="p", pointer="/rule", value={"conditions": {}})
    assert read_conditions(at) == ()
    assert at.problems == ["p: /rule/conditions: this is an object; write a list"]
