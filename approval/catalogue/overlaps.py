"""What rules have to do with each other: which of them says nothing that another does not say.

Everything here errs to one side: rules are called idle, or conditions impossible, only where that
is certain for every call.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

import orjson

from approval.core.conditions import Condition, number
from approval.core.policy import (
    DenyIf,
    Require,
    RequireApproval,
    Rule,
    ToolPattern,
    unite,
)

PROBES = (
    *("", "a", "Z", "0", " ", "\n", "\0", "é", "delete_account", "https://a.example/?q=1#x"),
    *("".join(chr(code) for code in range(1, 0x180)), "x" * 5000),
)
"""Texts so unlike each other that a pattern which meets them all meets everything."""


def is_exact(tools: ToolPattern) -> bool:
    return "*" not in tools.text and "?" not in tools.text


def includes(wider: ToolPattern, narrower: ToolPattern) -> bool:
    """Say whether every tool that `narrower` means is certainly meant by `wider`."""
    if wider.text in ("*", narrower.text):
        return True
    if is_exact(narrower):
        return wider.matches(narrower.text)
    # A pattern read as a text: its wildcards can only fall on a `*`, which takes anything, as long
    # as there is no `?`, which takes one letter and would take a wildcard for it.
    return "?" not in wider.text and not is_exact(wider) and wider.matches(narrower.text)


def makes_idle(first: Rule, second: Rule) -> bool:
    """Say whether `first` objects at least as strongly whenever `second` objects."""
    if not includes(first.tools, second.tools):
        return False
    these, those = _said(first), _said(second)
    match first, second:
        case DenyIf(), DenyIf() | RequireApproval():
            return these <= those
        case DenyIf(), Require():
            return not these
        case Require(), Require():
            return these >= those
        case RequireApproval(), RequireApproval():
            return these <= those and _asks_enough(first, second)
        case _:
            return False


def _asks_enough(first: RequireApproval, second: RequireApproval) -> bool:
    asked, also = first.if_true.requirement, second.if_true.requirement
    return asked is not None and also is not None and unite(asked, also) == asked


def _said(rule: Rule) -> frozenset[bytes]:
    return frozenset(_written(condition) for condition in rule.conditions)


def _written(condition: Condition) -> bytes:
    # As text, for to Python 1 and true are equal.
    said = [condition.path.text, condition.operator, condition.literal]
    return orjson.dumps(said, default=str, option=orjson.OPT_SORT_KEYS)


# --- conditions that cannot all hold ---


def impossible(conditions: Iterable[Condition]) -> str:
    """Give the path whose conditions contradict each other, or nothing."""
    by_path: dict[str, list[Condition]] = {}
    for condition in conditions:
        by_path.setdefault(condition.path.text, []).append(condition)
    return next((path for path, group in by_path.items() if _contradict(group)), "")


def _contradict(group: list[Condition]) -> bool:
    absent = [each for each in group if each.operator == "exists" and each.literal is False]
    if absent and len(group) > len(absent):
        return True  # whatever else is asked of it, it would have to be there
    wanted = _wanted(group)
    if wanted is not None:
        return not any(all(each.test(value) is True for each in group) for value in wanted)
    return _out_of_bounds(group)


def _wanted(group: list[Condition]) -> list[object] | None:
    """Give the only values that could do, where a condition lists them."""
    for condition in group:
        if condition.operator == "eq":
            return [condition.literal]
        if condition.operator == "in" and isinstance(condition.literal, list):
            return condition.literal
    return None


def _out_of_bounds(group: list[Condition]) -> bool:
    lows = [(bound, strict) for op, strict in _LOW for bound in _bounds(group, op)]
    highs = [(bound, strict) for op, strict in _HIGH for bound in _bounds(group, op)]
    return any(
        low > high or (low == high and (above or below))
        for low, above in lows
        for high, below in highs
    )


_LOW = (("gt", True), ("gte", False))
_HIGH = (("lt", True), ("lte", False))


def _bounds(group: list[Condition], operator: str) -> list[int | Decimal]:
    found = [number(each.literal) for each in group if each.operator == operator]
    return [bound for bound in found if bound is not None]


# --- patterns that meet everything ---


def says_nothing(condition: Condition) -> bool:
    """Say whether any value of the right type meets this condition."""
    judge = _EMPTY_WORDS.get(condition.operator)
    return judge is not None and judge(condition)


def meets_everything(tools: ToolPattern) -> bool:
    return all(tools.matches(probe) for probe in PROBES if probe)


def _meets_all_texts(condition: Condition) -> bool:
    return all(condition.test(probe) is True for probe in PROBES)


def _meets_all_addresses(condition: Condition) -> bool:
    literal = condition.literal
    networks = literal if isinstance(literal, list) else [literal]
    return any(str(each).endswith("/0") for each in networks)


_EMPTY_WORDS: Mapping[str, Callable[[Condition], bool]] = {
    "regex": _meets_all_texts,
    "glob": _meets_all_texts,
    "contains": _meets_all_texts,
    "cidr": _meets_all_addresses,
}
