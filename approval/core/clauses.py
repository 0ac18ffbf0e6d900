"""Read the conditions of a rule or a grant from a document into tests that are ready to judge."""

import operator
from collections.abc import Callable, Mapping

from approval.core.conditions import Condition, Test, Truth, compile_test
from approval.core.document import Place, kind
from approval.core.money import REMEDY, Money, read_money
from approval.core.paths import SPEND_AMOUNT, Path, compile_path
from approval.core.vocabulary import CONDITION, check_keys
from approval.errors import Unreadable


def read_conditions(entry: Place) -> tuple[Condition, ...]:
    """Read what stands under `conditions`; an entry without them has none, which hold always."""
    if not entry.has("conditions"):
        return ()
    return tuple(
        condition
        for place in entry.at("conditions").elements()
        if (condition := _condition(place)) is not None
    )


def _condition(place: Place) -> Condition | None:
    if not isinstance(place.value, dict):
        place.complain(f"this is {kind(place.value)}; write {{path, op, value}}")
        return None
    check_keys(place, CONDITION, "a condition")
    if not place.has("value"):
        place.complain("the value is missing; for exists write true or false")
        return None
    path = _compiled_path(place.at("path"))
    test = _compiled_test(place, path)
    if path is None or test is None:
        return None
    name, literal = str(place.at("op").value), place.at("value").value
    return Condition(path=path, test=test, operator=name, literal=literal)


def _compiled_path(place: Place) -> Path | None:
    text = place.text()
    try:
        return compile_path(text) if text else None
    except Unreadable as error:
        place.complain(str(error))
        return None


def _compiled_test(place: Place, path: Path | None) -> Test | None:
    name, literal = place.at("op").text(), place.at("value").value
    is_money = path is not None and path.text == SPEND_AMOUNT
    compiled = compile_money_test if is_money else compile_test
    try:
        return compiled(name, literal) if name else None
    except Unreadable as error:
        place.at("value").complain(f"{name}: {error}")
        return None


def compile_money_test(name: str, literal: object) -> Test:
    """Make an operator and an amount such as "100.00 USD" into a test of what the call costs.

    An amount that is not known, or is in another currency, makes it unknown: nothing is converted.

    Raises:
        Unreadable: If there is no such operator on money, or the literal is no amount.
    """
    if name == "exists":
        return compile_test(name, literal)
    compare = _MONEY_OPERATORS.get(name)
    if compare is None:
        known = ", ".join([*_MONEY_OPERATORS, "exists"])
        raise Unreadable("condition", f"money is compared with one of {known}")
    bound = read_money(literal) if isinstance(literal, str) else None
    if bound is None:
        raise Unreadable("condition", f"money is compared with an amount; {REMEDY}")

    def judge(value: object) -> Truth:
        if not isinstance(value, Money) or value.currency != bound.currency:
            return None
        return compare(value.minor, bound.minor)

    return judge


_MONEY_OPERATORS: Mapping[str, Callable[[int, int], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
