"""Import Intercept's YAML, version 1, in which conditions say when a call is ALLOWED.

That is the opposite of a `deny_if`: a condition of an `evaluate` rule that fails denies, and so it
becomes a `require`. The conditions of a `require_approval` say when the rule fires, as here. Where
the original takes a value that is missing, or of another type, for false, ours is unknown: it
denies in a `require` as it did there, and holds for a person in a `require_approval`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from approval.catalogue.carrying import (
    MOST_IN_A_RING,
    WINDOWS,
    Block,
    Draft,
    Rate,
    conditions,
    entry,
    exact_name,
    judged,
    whole,
)
from approval.core.canonical import quoted
from approval.core.document import Place, kind, shown
from approval.core.spans import LONGEST

TOP = frozenset({"version", "description", "default", "hide", "tools", "approvals"})
RULE = frozenset(
    {"name", "action", "conditions", "on_deny", "rate_limit", "state", "approval_timeout", "spend"}
)
STATE = frozenset({"counter", "window", "increment", "increment_from"})
OPERATORS = frozenset(
    ("eq", "neq", "in", "not_in", "lt", "lte", "gt", "gte", "regex", "contains", "exists")
)

_RATE = re.compile(r"([1-9][0-9]{0,8})/(minute|hour|day)")
_PART = re.compile(r"([0-9]{1,9})(h|m|s)")
_SECONDS = {"h": 3600, "m": 60, "s": 1}
_IN_A_RING = (
    "never more calls than there, for the window slides and a call that fails still counts; one"
    " count for all agents, as there"
)
_BY_CALENDAR = "by the calendar in UTC and in one count for all agents, as there"


def carry(root: Place) -> Draft:
    """Import a document; what cannot be carried over is complained of at its place."""
    draft = Draft()
    _strays(root, TOP, "an Intercept policy")
    if root.at("version").value not in ("1", 1) or isinstance(root.at("version").value, bool):
        root.at("version").complain(f'this is {shown(root.at("version").value)}; only "1" is known')
    _default(root, draft)
    _hide(root, draft)
    for key, why in _DROPPED.items():
        if root.has(key):
            draft.note(root.at(key), "", why)
    if root.at("tools").value is not None:
        for name, place in root.at("tools").members():
            _tool(name, place, draft)
    return draft


_DROPPED: Mapping[str, str] = {
    "description": "left out: it judges nothing",
    "approvals": "left out: who is told is said by notify, and who approves by approvers",
}


def _strays(place: Place, keys: frozenset[str], what: str) -> None:
    for key, stray in place.strays(keys):
        stray.complain(
            f"{quoted(key)} is not known in {what}; Intercept ignores what it does not know, but a"
            " later one may not: remove it if it means nothing, or write what it means as a rule"
        )


def _default(root: Place, draft: Draft) -> None:
    default = root.at("default").value
    if default not in ("allow", "deny", None):
        root.at("default").complain(f"this is {shown(default)}; write allow or deny")
    draft.top["default"] = default or "allow"
    if default is None:
        draft.note(root.at("default"), "/default", "absent, which allows there: now said")


def _hide(root: Place, draft: Draft) -> None:
    place = root.at("hide")
    if place.value in (None, []):
        return
    if place.value == "*":
        draft.top["hide"] = "*"
        return
    if isinstance(place.value, str):
        place.complain('this is text; write a list of tools, or "*" for all of them')
        return
    draft.top["hide"] = place.value
    for each in place.names():
        if "*" in str(each.value) or "?" in str(each.value):
            what = "one tool's exact name there, a pattern here: it hides more"
            draft.note(each, each.pointer, what, stricter=True)


def _tool(name: str, place: Place, draft: Draft) -> None:
    if name != "*" and not exact_name(place, name):
        return
    if place.value is None:
        draft.tool(place, name)
        return
    _strays(place, frozenset({"rules"}), "a tool")
    rules = [] if place.at("rules").value is None else list(place.at("rules").elements())
    counting = [each for each in rules if each.has("rate_limit") or each.has("state")]
    block = draft.tool(place, name, many_rates=len(counting) > 1)
    seen: set[tuple[str, str]] = set()
    for each in rules:
        if not isinstance(each.value, dict):
            each.complain(f"this is {kind(each.value)}; write an object")
            continue
        _strays(each, RULE, "a rule")
        _rule(_Rule(place=each, tool=name, block=block, draft=draft, counters=seen))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A rule of the original, and where it goes. `counters` are those of its tool so far."""

    place: Place
    tool: str
    block: Block
    draft: Draft
    counters: set[tuple[str, str]]

    def at(self, key: str) -> Place:
        return self.place.at(key)

    def note(self, after: str, what: str, *, stricter: bool = False) -> None:
        name = quoted(str(self.at("name").value or "unnamed"))
        self.draft.note(self.place, after, f"rule {name}: {what}", stricter=stricter)

    def complain_of(self, *keys: str, why: str) -> None:
        for key in keys:
            if self.at(key).value not in (None, []):
                self.at(key).complain(why)


def _rule(rule: _Rule) -> None:
    rule.complain_of(
        "spend",
        why="this bounds payment challenges, of which no tool call tells; remove it, and give the"
        " tool a spend of its own",
    )
    match rule.at("action").value:
        case None | "" | "evaluate":
            _evaluate(rule)
        case "deny":
            _deny(rule)
        case "require_approval":
            _require_approval(rule)
        case other:
            rule.at("action").complain(
                f"this is {shown(other)}; known are evaluate, deny and require_approval"
            )


def _deny(rule: _Rule) -> None:
    why = "a deny has none of these in Intercept, which refuses the file; remove them"
    rule.complain_of("conditions", "state", "rate_limit", "approval_timeout", why=why)
    after = rule.block.add("deny_if", entry([], rule.at("on_deny")))
    rule.note(after, "denies always, as there")


def _require_approval(rule: _Rule) -> None:
    why = "whether this counts before or after approval is not known; give it a rule of its own"
    rule.complain_of("state", "rate_limit", why=why)
    places = conditions(rule.at("conditions"))
    made = entry(_judged(places), rule.at("on_deny"))
    timeout = _timeout(rule.at("approval_timeout"))
    if timeout is not None:
        made["timeout"] = timeout
    after = rule.block.add("require_approval", made)
    if places:
        what = "holds for a person when its conditions hold, as there, and when nobody can tell"
        rule.note(after, what, stricter=True)
    else:
        rule.note(after, "holds every call for a person, as there")


def _evaluate(rule: _Rule) -> None:
    rule.complain_of("approval_timeout", why="this belongs to require_approval; remove it")
    if rule.at("rate_limit").value is not None:
        _rate_limit(rule)
        return
    if rule.at("conditions").value in (None, []):
        rule.place.complain("an evaluate rule without conditions judges nothing; add some")
        return
    places = conditions(rule.at("conditions"))
    counted = [place for place in places if _is_of_state(place)]
    plain = [place for place in places if not _is_of_state(place)]
    if plain:
        after = rule.block.add("require", entry(_judged(plain), rule.at("on_deny")))
        what = "its conditions say when a call is allowed, so they are required"
        if stricter := any(place.at("op").value in _LENIENT for place in plain):
            what += "; values are compared with values of their own type only, where they were"
            what += " compared as printed"
        rule.note(after, what, stricter=stricter)
    if rule.at("state").value is not None:
        _state(rule, counted)
    elif counted:
        counted[0].complain("the rule has no state block that counts this; add it, or remove this")


_LENIENT = frozenset({"eq", "neq", "in", "not_in", "contains"})


def _is_of_state(place: Place) -> bool:
    return str(place.at("path").value).startswith("state.")


def _judged(places: list[Place]) -> list[object]:
    """Copy conditions on arguments; others, and our own operators, mean nothing in Intercept."""
    for place in places:
        path, operator = place.at("path").value, place.at("op").value
        if isinstance(path, str) and not path.startswith("args."):
            place.at("path").complain(f"{quoted(path)} is no argument; write args. and its name")
        if isinstance(operator, str) and operator not in OPERATORS:
            place.at("op").complain(f"{quoted(operator)} is no operator of Intercept's")
    return judged(places)


# --- limits on how often ---


def _rate_limit(rule: _Rule) -> None:
    why = "a rule with a rate_limit has none of these in Intercept; give them a rule of their own"
    rule.complain_of("conditions", "state", why=why)
    place = rule.at("rate_limit")
    found = _RATE.fullmatch(place.value) if isinstance(place.value, str) else None
    if found is None:
        place.complain(f'this is {shown(place.value)}; write "10/minute", "10/hour" or "10/day"')
        return
    window = found[2]
    _limit(rule, Rate(limit=int(found[1]), window=window, counter=f"_rate_{window}"), place)


def _limit(rule: _Rule, rate: Rate, place: Place) -> None:
    if (rate.counter, rate.window) in rule.counters:
        place.complain("the tool counts this in this window already; keep the lower limit")
    rule.counters.add((rate.counter, rate.window))
    after = rule.block.limit(rate)
    said = "; on_deny is left out, for a limit has words of its own"
    slides = rate.limit <= MOST_IN_A_RING
    what = f"{rate.limit} per {rate.window}{said if rule.at('on_deny').value else ''}"
    what += f"; {_IN_A_RING if slides else _BY_CALENDAR}"
    rule.note(after, what, stricter=slides)


def _state(rule: _Rule, counted: list[Place]) -> None:
    """Import a counter: what its rule demands of it is how many calls there may be."""
    place = rule.at("state")
    _strays(place, STATE, "a state block")
    if place.at("increment_from").value is not None:
        place.at("increment_from").complain(
            "this adds up an amount, of which neither the currency nor the unit is said; give the"
            " tool a spend with a meter instead, which also refuses the negative amounts that would"
            " lower this counter"
        )
        return
    window, counter = place.at("window"), place.at("counter").text()
    if window.value not in list(WINDOWS):
        window.complain(f"this is {shown(window.value)}; write minute, hour or day")
        return
    bounds = [_bound(rule, each, counter) for each in counted]
    step = _step(place.at("increment"))
    known = [bound for bound in bounds if bound is not None]
    if known and step is not None:
        limit = min(known) // step
        _at_most(rule, Rate(limit=limit, window=str(window.value), counter=counter))
    elif not counted:
        rule.note("", "its counter is left out: no condition bounds it, so it limits nothing")


def _at_most(rule: _Rule, rate: Rate) -> None:
    if rate.limit >= 1:
        _limit(rule, rate, rule.at("state"))
        return
    after = rule.block.add("deny_if", entry([], rule.at("on_deny")))
    rule.note(after, "its counter admits no call at all, so it denies always")


def _bound(rule: _Rule, place: Place, counter: str) -> int | None:
    """Give the highest count that a condition on the rule's own counter admits."""
    own = f"state.{'_global' if rule.tool == '*' else rule.tool}.{counter}"
    if place.at("path").value != own:
        what = f"only {quoted(own)}, the rule's own counter, can be carried over; count it here"
        place.at("path").complain(what)
        return None
    operator = place.at("op").value
    if operator not in ("lt", "lte"):
        place.at("op").complain(f"this is {shown(operator)}; a counter is bounded by lt or lte")
        return None
    bound = whole(place.at("value"), least=0)
    return bound - 1 if bound is not None and operator == "lt" else bound


def _step(place: Place) -> int | None:
    if place.value in (None, 0) and not isinstance(place.value, bool):
        return 1
    return whole(place, least=1)


def _timeout(place: Place) -> str | None:
    """Read Go's duration (`1h30m`) and write ours (`90m`)."""
    if place.value is None:
        return None
    text = place.value if isinstance(place.value, str) else ""
    parts = _PART.findall(text)
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in parts)
    whole_text = "".join(number + unit for number, unit in parts) == text
    if not whole_text or not 0 < seconds <= LONGEST.total_seconds():
        place.complain(f'this is {shown(place.value)}; write whole seconds or more, such as "15m"')
        return None
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"
