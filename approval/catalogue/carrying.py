"""What importers share: the document that grows, and the account of what became of every rule.

Importing never loosens. What has no exact counterpart is carried over more strictly, which the
account says, or it is a problem, and then nothing is imported at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from approval.core.conditions import compile_path, compile_test
from approval.core.document import Place, kind
from approval.core.vocabulary import CONDITION
from approval.errors import Unreadable

Tree: TypeAlias = dict[str, object]

WINDOWS = {"minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of one thing. `after` is empty where nothing stands for it any more."""

    before: str
    after: str
    what: str
    stricter: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `limit` calls in every `window` seconds; `scope` names who is counted apart."""

    limit: int
    window: int
    scope: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The rules of one tool, or of all of them, as they are written out."""

    pointer: str
    rules: Tree = field(default_factory=dict)
    rates: list[Rate] = field(default_factory=list)

    def add(self, key: str, entry: Tree) -> str:
        """Add a rule; give the pointer to it."""
        entries = self.rules.setdefault(key, [])
        if not isinstance(entries, list):
            raise TypeError(key)
        entries.append(entry)
        return f"{self.pointer}/{key}/{len(entries) - 1}"

    def limit(self, rate: Rate) -> str:
        """Add a limit on how often; give the pointer to it."""
        self.rates.append(rate)
        return f"{self.pointer}/rate_limit"

    def tree(self) -> Tree:
        return {**self.rules, "rate_limit": spelled(self.rates)} if self.rates else self.rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A document of ours in the making, and the account of it."""

    top: Tree = field(default_factory=dict)
    tools: dict[str, Block] = field(default_factory=dict)
    all_tools: list[Block] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def tool(self, place: Place, name: str) -> Block:
        """Begin the entry of a tool, which lists it."""
        block = Block(pointer=place.pointer)
        self.tools[name] = block
        return block

    def note(self, before: Place, after: str, what: str, *, stricter: bool = False) -> None:
        change = Change(before=before.pointer, after=after, what=what, stricter=stricter)
        self.changes.append(change)

    def tree(self) -> Tree:
        """Write the document out."""
        tree: Tree = {"dialect": "approval-1", "version": "1", **self.top}
        if self.tools:
            tree["tools"] = {name: block.tree() for name, block in self.tools.items()}
        for block in self.all_tools:
            tree["all_tools"] = block.tree()
        return tree


def spelled(rates: Sequence[Rate]) -> object:
    """Spell limits on how often as `approval-1` does. Nothing else knows that spelling."""
    tables = [
        {
            "max": rate.limit,
            "window": rate.window,
            "scope": rate.scope[0] if len(rate.scope) == 1 else list(rate.scope),
        }
        for rate in rates
    ]
    return tables[0] if len(tables) == 1 else tables


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


def whole(place: Place, *, least: int) -> int | None:
    """Read a whole number; complain of anything else."""
    value = place.value
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    place.complain(f"this is {kind(value)}; write a whole number from {least}")
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
