"""The arguments of a call as labelled fields: exact, safe to draw, credentials covered.

A credential is known by its argument's name alone. That is a guess, so covering is only ever a
matter of display: what is judged, hashed and sent is the whole, and whoever may decide may reveal.
"""

import re
from dataclasses import dataclass
from typing import Final

from approval.core import canonical
from approval.core.canonical import JSON, Number
from approval.web.text import Piece, is_suspicious, pieces

CARD_VALUE: Final = 600
"""Characters of one value that a card shows; a longer one sends the reader to the call's page."""

CARD_FIELDS: Final = 12
FOLD: Final = 2000
"""Characters from which even the call's page folds a value until it is opened."""

SECRET: Final = re.compile(
    r"pass(word|wd|phrase|code)|secret|api_?key|private_?key|access_?key|credential|authorization"
    r"|^auth$|bearer|cookie|(^|_)pin$|token$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One argument: its name, and its value as text that is safe to draw."""

    name: tuple[Piece, ...]
    value: tuple[Piece, ...]
    size: int
    kind: str = "text"
    masked: bool = False
    folded: bool = False

    @property
    def suspicious(self) -> bool:
        return is_suspicious(self.name) or is_suspicious(self.value)


def fields_of(arguments: JSON, *, reveal: bool = False) -> tuple[Field, ...]:
    """Label each argument; what is nested is one field of indented JSON."""
    if not isinstance(arguments, dict):
        return (_field("(arguments)", arguments, reveal=reveal),)
    return tuple(_field(name, value, reveal=reveal) for name, value in arguments.items())


def _field(name: str, value: JSON, *, reveal: bool) -> Field:
    if is_secret(name) and not reveal:
        size = len(value) if isinstance(value, str) else len(canonical.write(value))
        return Field(name=pieces(name), value=(), size=size, kind=_kind(value), masked=True)
    whole = not isinstance(value, str)
    text = value if isinstance(value, str) else indented(value if reveal else mask(value))
    return Field(
        name=pieces(name),
        value=pieces(text, lines=whole),
        size=len(text),
        kind=_kind(value),
        folded=len(text) > FOLD,
    )


def is_complete(fields: tuple[Field, ...]) -> bool:
    """Say whether a card can show all of it. What it cannot is not approved from the card."""
    return len(fields) <= CARD_FIELDS and all(field.size <= CARD_VALUE for field in fields)


def is_secret(name: str) -> bool:
    """Say whether an argument's name looks like that of a credential."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return SECRET.search(re.sub(r"[-. ]", "_", snake).lower()) is not None


def has_secret(value: JSON) -> bool:
    match value:
        case dict():
            return any(is_secret(name) or has_secret(each) for name, each in value.items())
        case list():
            return any(map(has_secret, value))
        case _:
            return False


def mask(value: JSON) -> JSON:
    """Cover every value whose name looks like that of a credential."""
    match value:
        case dict():
            return {
                name: "••••••" if is_secret(name) else mask(each) for name, each in value.items()
            }
        case list():
            return [mask(each) for each in value]
        case _:
            return value


def indented(value: JSON, depth: int = 0) -> str:
    """Write JSON for reading: one member a line, nothing escaped that JSON lets stand."""
    pad, inner = "  " * depth, "  " * (depth + 1)
    match value:
        case dict() if value:
            lines = [
                f"{inner}{_scalar(name)}: {indented(each, depth + 1)}"
                for name, each in value.items()
            ]
            return "{\n" + ",\n".join(lines) + f"\n{pad}}}"
        case list() if value:
            lines = [f"{inner}{indented(each, depth + 1)}" for each in value]
            return "[\n" + ",\n".join(lines) + f"\n{pad}]"
        case _:
            return _scalar(value)


def _scalar(value: JSON) -> str:
    return canonical.write(value).decode()


def _kind(value: JSON) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | Number():
            return "number"
        case str():
            return "text"
        case None:
            return "null"
        case list():
            return "list"
        case dict():
            return "object"
