"""Read YAML that every reader reads the same way: the JSON in YAML's clothes, and nothing else.

The parser's events are read, and nothing is ever constructed from a tag. Aliases, tags, merge keys
and the spellings that YAML 1.1 and 1.2 understand differently (`010`, `0x1f`, `1_000`) are refused,
each with its line; `yes`, `no`, `on` and `off` are text, as in YAML 1.2. Keys are always text.
"""

import re
from collections.abc import Iterator

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from approval.core.canonical import JSON, MAX_DEPTH, Number, quoted, read
from approval.errors import Unreadable

MAX_VALUES = 20_000
"""The parser takes some 40 µs for each; a thousand tools with rules are a third of this."""

_WORDS: dict[str, JSON] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_NUMBER_TO_SOMEBODY = re.compile(
    # Signs, other bases, separators, bare dots, sexagesimals, infinities, and dates.
    r"[-+]?(\.?[0-9][0-9_.,]*([eE][-+]?[0-9_]+)?|0[xobXOB][0-9a-fA-F_]+|[0-9][0-9_]*(:[0-9_.]+)+)"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?"
)


def read_yaml(text: bytes) -> JSON:
    """Read one YAML document.

    Raises:
        Unreadable: If it is not YAML, or holds what two readers could read differently.
    """
    try:
        events = YAML(typ="safe", pure=True).parse(text.decode())
        return _Reader(iter(events)).document()
    except UnicodeDecodeError as error:
        raise Unreadable("encoding", f"the file is not UTF-8: byte {error.start}") from error
    except YAMLError as error:
        raise Unreadable("syntax", f"the file is not YAML: {_told(error)}") from error


class _Reader:
    """Builds values from the parser's events."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._values = 0

    def document(self) -> JSON:
        self._next()  # the stream's start
        start = self._next()
        if isinstance(start, StreamEndEvent):
            raise Unreadable("empty", "the file is empty; one document is expected")
        if isinstance(start, DocumentStartEvent) and (start.version or start.tags):
            raise _refused(start, "a directive; remove the line that starts with %")
        value = self._value(self._next(), 0)
        self._next()  # the document's end
        after = self._next()
        if not isinstance(after, StreamEndEvent):
            raise _refused(after, "a second document; keep one in each file")
        return value

    def _next(self) -> Event:
        return next(self._events)

    def _value(self, event: Event, depth: int) -> JSON:
        self._check(event, depth)
        match event:
            case ScalarEvent():
                return _scalar(event)
            case MappingStartEvent():
                return self._mapping(depth)
            case SequenceStartEvent():
                return self._sequence(depth)
            case _:
                raise _refused(event, "something that is no value; write plain YAML")

    def _check(self, event: Event, depth: int) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise Unreadable("too_many_values", f"the file holds more than {MAX_VALUES} values")
        if depth > MAX_DEPTH:
            raise _refused(event, f"something nested deeper than {MAX_DEPTH} levels; flatten it")
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
            raise _refused(event, "an anchor or alias; write the value out where it is meant")
        if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag:
            raise _refused(event, "a tag; put text in quotes, and write everything else plainly")

    def _sequence(self, depth: int) -> JSON:
        items: list[JSON] = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> JSON:
        members: dict[str, JSON] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            name = self._key(event, depth)
            if name in members:
                raise _refused(event, f'the key "{quoted(name)}" for the second time; keep one')
            members[name] = self._value(self._next(), depth + 1)
        return members

    def _key(self, event: Event, depth: int) -> str:
        self._check(event, depth)
        if not isinstance(event, ScalarEvent):
            raise _refused(event, "a key that is no text; write text")
        name = _text(event)
        if name == "<<" and not event.style:
            raise _refused(event, "a merge key; write the members out where they are meant")
        return name


def _scalar(event: ScalarEvent) -> JSON:
    text = _text(event)
    if event.style:  # quoted, or a block
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text):
        return _number(event, text)
    if _NUMBER_TO_SOMEBODY.fullmatch(text):
        raise _refused(
            event,
            f"{quoted(text)}, which readers take for different things; put it in quotes if it is"
            " text, or write the number as JSON does",
        )
    return text


def _text(event: ScalarEvent) -> str:
    text = str(event.value)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        # JSON joins two such escapes into one character, and YAML keeps them apart.
        raise _refused(event, "half a surrogate pair; write the character itself")
    return text


def _number(event: ScalarEvent, text: str) -> int | Number:
    try:
        value = read(text.encode())
    except Unreadable as error:
        raise _refused(event, f"a number that cannot be kept: {error}") from error
    if isinstance(value, int | Number):
        return value
    raise _refused(event, f"{quoted(text)}, which is no number")


def _refused(event: Event, what: str) -> Unreadable:
    line = event.start_mark.line + 1 if event.start_mark is not None else 0
    return Unreadable("yaml", f"line {line} holds {what}")


def _told(error: YAMLError) -> str:
    return quoted(" ".join(str(error).split()), 300)
