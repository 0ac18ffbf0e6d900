"""Conditions are read from where they stand, and every mistake is told there."""

import pytest

from approval.core.clauses import read_conditions
from approval.core.conditions import holds
from approval.core.document import Place
from approval.core.money import Money


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


# --- what a call costs ---


def priced(op: str, value: object = "5.00 USD") -> Place:
    return entry({"path": "spend.amount", "op": op, "value": value})


@pytest.mark.parametrize(
    ("op", "below", "equal", "above"),
    [
        ("eq", False, True, False),
        ("neq", True, False, True),
        ("gt", False, False, True),
        ("gte", False, True, True),
        ("lt", True, False, False),
        ("lte", True, True, False),
    ],
)
def test_money_is_compared_in_its_currency_and_else_nobody_knows(
    op: str, below: bool, equal: bool, above: bool
) -> None:
    read = read_conditions(priced(op))
    for minor, truth in [(499, below), (500, equal), (501, above)]:
        assert holds(read, {"spend": {"amount": Money(minor, "USD")}}) is truth
    unknowns: list[dict[str, object]] = [
        {"spend": {"amount": Money(500, "EUR")}},
        {"spend": {"amount": 500}},
        {"spend": {"amount": "5.00 USD"}},
        {"spend": {"amount": None}},
        {"spend": {}},
        {"args": {"spend": {"amount": Money(500, "USD")}}},
        {},
    ]
    for unknown in unknowns:
        assert holds(read, unknown) is None


def test_whether_there_is_a_price_can_be_asked() -> None:
    read = read_conditions(priced("exists", value=True))
    assert holds(read, {"spend": {"amount": Money(0, "USD")}}) is True
    assert holds(read, {}) is False


@pytest.mark.parametrize(
    ("op", "value"),
    [
        ("gt", 5),
        ("gt", "5"),
        ("gt", "5.001 USD"),
        ("gt", "-5.00 USD"),
        ("gt", "5.00 usd"),
        ("gt", None),
        ("gt", ["5.00 USD"]),
        ("in", ["5.00 USD"]),
        ("contains", "5.00 USD"),
    ],
)
def test_money_is_compared_with_nothing_but_money(op: str, value: object) -> None:
    at = priced(op, value)
    assert read_conditions(at) == ()
    [problem] = at.problems
    assert f"/conditions/0/value: {op}: money is compared with" in problem
