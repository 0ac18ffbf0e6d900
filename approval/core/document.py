"""A document that people wrote, as places: a value, where it stands, and what is wrong there.

Reading collects problems instead of raising them, so that a person hears of all of them at once,
each with the file, a pointer (RFC 6901) and the remedy.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Self, TypeAlias, TypeVar

import rfc8785

from approval.core.canonical import MAX_DEPTH, MAX_SAFE_INTEGER, quoted
from approval.core.conditions import number
from approval.core.spans import read_duration
from approval.errors import Misconfigured

KINDS: Mapping[type, str] = {
    type(None): "nothing",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}

Plain: TypeAlias = "bool | int | float | str | Sequence[Plain] | Mapping[str, Plain] | None"

Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A value of the document, its pointer, and the problems of the whole document."""

    source: str
    pointer: str
    value: object
    problems: list[str] = field(default_factory=list)

    def complain(self, what: str) -> None:
        self.problems.append(f"{self.source}: {quoted(self.pointer or '/', 400)}: {what}")

    def settle(self) -> None:
        """End the reading.

        Raises:
            Misconfigured: If anything was complained of.
        """
        if self.problems:
            raise Misconfigured(tuple(self.problems))

    def has(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def at(self, key: str) -> Self:
        """Go to a member; one that is missing is None, as null is."""
        return self.below(key, self.value.get(key) if isinstance(self.value, dict) else None)

    def members(self) -> Iterator[tuple[str, Self]]:
        if not isinstance(self.value, dict):
            self.complain(f"this is {kind(self.value)}; write an object (in TOML a table)")
            return
        for key, value in self.value.items():
            yield key, self.below(key, value)

    def elements(self) -> Iterator[Self]:
        if not isinstance(self.value, list):
            self.complain(f"this is {kind(self.value)}; write a list")
            return
        for index, value in enumerate(self.value):
            yield self.below(str(index), value)

    def text(self) -> str:
        """Give a text that is not blank; the empty one stands for a problem that was told."""
        if isinstance(self.value, str) and self.value.strip():
            return self.value
        blank = "blank" if isinstance(self.value, str) else kind(self.value)
        self.complain(f"this is {blank}; write text")
        return ""

    def flag(self) -> bool | None:
        if isinstance(self.value, bool):
            return self.value
        self.complain(f"this is {shown(self.value)}; write true or false")
        return None

    def count(self) -> int | None:
        value = self.value
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100:
            return value
        self.complain(f"this is {shown(value)}; write a whole number from 1 to 100")
        return None

    def word(self, words: type[Word]) -> Word | None:
        if isinstance(self.value, str) and self.value in list(words):
            return words(self.value)
        self.complain(f"this is {shown(self.value)}; write one of {', '.join(words)}")
        return None

    def duration(self) -> timedelta | None:
        found = read_duration(self.value) if isinstance(self.value, str) else None
        if found is None:
            self.complain(f'this is {shown(self.value)}; write "90s", "15m", "2h" or "1d"')
        return found

    def names(self) -> tuple[Self, ...]:
        """Give the place of the one name, or of each in a list of different ones."""
        if isinstance(self.value, str):
            return (self,) if self.text() else ()
        places = tuple(place for place in self.elements() if place.text())
        if len({place.value for place in places}) < len(places):
            self.complain("a name stands here twice, and counts once; remove one")
        return places

    def strays(self, keys: Collection[str]) -> Iterator[tuple[str, Self]]:
        """Find the members that do not belong here."""
        return ((key, member) for key, member in self.members() if key not in keys)

    def below(self, key: str, value: object) -> Self:
        """Make the place of a value that stands under `key`."""
        token = key.replace("~", "~0").replace("/", "~1")
        return replace(self, pointer=f"{self.pointer}/{token}", value=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A whole document: the root of its places, and its RFC 8785 bytes."""

    root: Place
    canonical: bytes


def open_document(document: Mapping[str, object], *, source: str, pointer: str = "") -> Document:
    """Copy a document as plain JSON. `pointer` is where it stands in a larger one.

    Raises:
        Misconfigured: If it holds what JSON has no canonical form for.
    """
    given = Place(source=source, pointer=pointer, value=document)
    tree = _plain(given, 0)
    given.settle()
    return Document(root=replace(given, value=tree), canonical=rfc8785.dumps(tree))


def shown(value: object) -> str:
    """Show a value on one line: hostile text cannot break out of a message."""
    return quoted(repr(value), 60)


def kind(value: object) -> str:
    return KINDS.get(type(value), f"a {type(value).__name__}")


def _plain(place: Place, depth: int) -> Plain:
    value = place.value
    if depth > MAX_DEPTH:
        place.complain(f"this is nested deeper than {MAX_DEPTH} levels; flatten it")
        return None
    match value:
        case None | bool():
            return value
        case str():
            return _plain_text(place, value)
        case list():
            return [_plain(place.below(str(i), item), depth + 1) for i, item in enumerate(value)]
        case Mapping():
            return _plain_object(place, value, depth)
        case _:
            return _plain_number(place, value)


def _plain_object(place: Place, value: Mapping[object, object], depth: int) -> dict[str, Plain]:
    plain: dict[str, Plain] = {}
    for key, item in value.items():
        member = place.below(str(key), item)
        if isinstance(key, str) and _plain_text(member, key) == key:
            plain[key] = _plain(member, depth + 1)
        elif not isinstance(key, str):
            member.complain(f"the key is {kind(key)}; write text")
    return plain


def _plain_text(place: Place, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        place.complain("the text holds half a surrogate pair; write whole characters")
        return ""
    return text


def _plain_number(place: Place, value: object) -> int | float:
    """Keep a number that a double holds exactly, as RFC 8785 wants; no other can be hashed."""
    exact = number(value)
    if exact is None:
        place.complain(f"{shown(value)} is no JSON value; write text or a number")
        return 0
    if isinstance(exact, int) and abs(exact) <= MAX_SAFE_INTEGER:
        return exact
    try:
        rounded = float(exact)
    except OverflowError:
        rounded = math.inf
    if not math.isfinite(rounded) or Decimal(repr(rounded)) != exact:
        place.complain(
            f"{shown(value)} cannot be kept exactly; write at most 15 significant digits"
        )
    return rounded
