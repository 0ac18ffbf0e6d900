"""Write a policy document the way a person would: TOML with one rule a line, or indented JSON."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from approval.core.document import Plain

WIDTH = 100
TABLES = ("tools", "all_tools", "defaults", "meters")
"""Members of a document that stand under headings of their own."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def to_json(document: Mapping[str, Plain]) -> str:
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    # A line break in a text is escaped already; whatever else cannot be seen is spelt out.
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def to_toml(document: Mapping[str, Plain]) -> str:
    """Write a document whose values TOML has: a null is left out, and none is in a list."""
    top = {key: value for key, value in document.items() if key not in TABLES}
    parts = ["".join(_members(top))]
    for key in TABLES:
        value = document.get(key)
        if isinstance(value, Mapping):
            parts += _tables(key, value)
    return "\n".join(part for part in parts if part)


def _tables(key: str, value: Mapping[str, Plain]) -> Iterator[str]:
    """Give a table for each entry, or one for `all_tools`, whose members are rules."""
    if key == "all_tools":
        yield f"[{key}]\n" + "".join(_members(value))
        return
    for name, entry in value.items():
        members = entry if isinstance(entry, Mapping) else {}
        yield f"[{key}.{_key(name)}]\n" + "".join(_members(members))
    if not value:
        yield f"[{key}]\n"


def _members(table: Mapping[str, Plain]) -> Iterator[str]:
    for name, value in table.items():
        if value is not None:
            yield from _member(name, value)


def _member(name: str, value: Plain) -> Iterator[str]:
    line = f"{_key(name)} = {_value(value)}"
    if len(line) <= WIDTH or not isinstance(value, list):
        yield line + "\n"
        return
    yield f"{_key(name)} = [\n"
    for item in value:
        yield f"    {_value(item)},\n"
    yield "]\n"


def _value(value: Plain) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case Mapping():
            return _inline(value)
        case Sequence():
            return f"[{', '.join(_value(item) for item in value)}]"
        case _:
            return repr(value)


def _inline(table: Mapping[str, Plain]) -> str:
    members = [f"{_key(name)} = {_value(each)}" for name, each in _said(table.items())]
    return f"{{ {', '.join(members)} }}" if members else "{}"


def _said(members: Iterable[tuple[str, Plain]]) -> Iterator[tuple[str, Plain]]:
    return ((name, value) for name, value in members if value is not None)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    return '"' + "".join(_escaped(letter) for letter in text) + '"'


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04X}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08X}"
