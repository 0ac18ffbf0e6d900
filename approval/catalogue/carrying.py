"""What importers share: the document that grows, and the account of what became of every rule.

Importing never loosens. What has no exact counterpart is carried over more strictly, which the
account says, or it is a problem, and then nothing is imported at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from approval.core.conditions import compile_test
from approval.core.document import Place, kind, shown
from approval.core.paths import compile_path
from approval.core.vocabulary import CONDITION
from approval.errors import Unreadable

Tree: TypeAlias = dict[str, object]

WINDOWS = {"minute": 60, "hour": 3600, "day": 86400}
MOST_IN_A_RING = 10_000
"""More calls than this are counted by the calendar, as the originals count all of them."""
MOST_CALLS = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of one thing. `after` is empty where nothing stands for it any more."""

    before: str
    after: str
    what: str
    stricter: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `limit` calls in a `window`; `counter` tells it from others of the same tool."""

    limit: int
    window: str
    counter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The rules of one tool, or of all of them, as they are written out.

    `many_rates`: it has more than the one limit on how often that a `rate_limit` can hold.
    """

    pointer: str
    many_rates: bool = False
    rules: Tree = field(default_factory=dict)

    def add(self, key: str, entry: Tree) -> str:
        """Add a rule; give the pointer to it."""
        entries = self.rules.setdefault(key, [])
        if not isinstance(entries, list):
            raise TypeError(key)
        entries.append(entry)
        return f"{self.pointer}/{key}/{len(entries) - 1}"

    def limit(self, rate: Rate) -> str:
        """Add a limit on how often; give the pointer to it."""
        if self.many_rates:
            return self.add("limits", as_limit(rate))
        self.rules["rate_limit"] = as_rate_limit(rate)
        return f"{self.pointer}/rate_limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A document of ours in the making, and the account of it."""

    top: Tree = field(default_factory=dict)
    tools: dict[str, Block] = field(default_factory=dict)
    all_tools: list[Block] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def tool(self, place: Place, name: str, *, many_rates: bool = False) -> Block:
        """Begin the entry of a tool, which lists it."""
        block = Block(pointer=place.pointer, many_rates=many_rates)
        self.tools[name] = block
        return block

    def note(self, before: Place, after: str, what: str, *, stricter: bool = False) -> None:
        change = Change(before=before.pointer, after=after, what=what, stricter=stricter)
        self.changes.append(change)

    def tree(self) -> Tree:
        """Write the document out."""
        tree: Tree = {"dialect": "approval-1", "version": "1", **self.top}
        if self.tools:
            tree["tools"] = {name: block.rules for name, block in self.tools.items()}
        for block in self.all_tools:
            tree["all_tools"] = block.rules
        return tree


# --- how limits on how often are spelt in `approval-1`; nothing else knows it ---


def as_rate_limit(rate: Rate) -> Tree:
    """Spell the only limit of its tool: one count for all agents."""
    return {"max": rate.limit, "window": WINDOWS[rate.window], "scope": [], **algorithm(rate.limit)}


def as_limit(rate: Rate) -> Tree:
    """Spell one limit of several: one count for all agents."""
    said = {"counter": rate.counter, "window": rate.window, "max": rate.limit, "scope": []}
    return {**said, **algorithm(rate.limit)}


def algorithm(limit: int) -> Tree:
    """Say how so many calls are counted, where a window that slides would be too large."""
    return {"algorithm": "calendar"} if limit > MOST_IN_A_RING else {}


# --- what stands in a rule ---


def conditions(place: Place) -> list[Place]:
    """Give the places of a rule's conditions; complain of what is none."""
    if place.value is None:
        return []
    found = list(place.elements())
    for each in found:
        if not isinstance(each.value, dict):
            each.complain(f"this is {kind(each.value)}; write {{path, op, value}}")
    return [each for each in found if isinstance(each.value, dict)]


def judged(places: Sequence[Place]) -> list[object]:
    """Copy conditions that our operators can judge; complain of every other."""
    for place in places:
        _check_condition(place)
    return [place.value for place in places]


def _check_condition(place: Place) -> None:
    for key, stray in place.strays(CONDITION):
        stray.complain(f"{key} has no place in a condition; write path, op and value")
    if not place.has("value"):
        place.complain("the value is missing; for exists write true or false")
        return
    path, operator = place.at("path").text(), place.at("op").text()
    try:
        if path:
            compile_path(path)
    except Unreadable as error:
        place.at("path").complain(str(error))
    try:
        if operator:
            compile_test(operator, place.at("value").value)
    except Unreadable as error:
        place.at("value").complain(f"{operator}: {error}")


def whole(place: Place, *, least: int, most: int = MOST_CALLS) -> int | None:
    """Read a whole number; complain of anything else."""
    value = place.value
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    place.complain(f"this is {shown(value)}; write a whole number from {least} to {most}")
    return None


def entry(rules: list[object], on_deny: Place) -> Tree:
    """Make a rule's entry, with what the agent is told if that is said."""
    made: Tree = {"conditions": rules}
    said = on_deny.value
    if isinstance(said, str) and said:
        made["on_deny"] = said
    elif said is not None and not isinstance(said, str):
        on_deny.complain(f"this is {kind(said)}; write text for the agent")
    return made


def exact_name(place: Place, name: str) -> bool:
    """Say whether a tool's name means one tool here too; complain if it does not."""
    if not name.strip():
        place.complain("the tool has no name; write its exact name")
        return False
    if "*" in name or "?" in name:
        place.complain(
            "the original takes this for one tool's exact name, and here it would be a pattern for"
            " many; write out the names that are meant"
        )
        return False
    return True
