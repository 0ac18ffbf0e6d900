"""Server-sent events, read piece by piece and written. Pure.

Data stays bytes: the strict reader of messages must see what came, not what a lenient decoder made
of it. An event without data is kept too: upstreams send an `id` or a `retry` alone to say where a
broken stream goes on.
"""

import re
from dataclasses import dataclass

from approval.errors import Unreadable

MAX_EVENT = 16 * 1024 * 1024

_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. `data` is None where the event had none, which is not the same as empty data."""

    data: bytes | None = None
    event: str = ""
    id: str | None = None
    retry: int | None = None


class Reader:
    """Turns chunks of a stream into events; a half event is kept until its rest comes."""

    def __init__(self, *, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._line = bytearray()
        self._size = 0
        self._fields: dict[str, bytes] = {}
        self._data: list[bytes] = []
        self._after_return = False
        self._first = True

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes and give the events they complete.

        Raises:
            Unreadable: If one event grows beyond the limit; the stream is of no use then.
        """
        if chunk and self._after_return:
            # The line ended with the chunk's last CR; this LF belongs to that ending.
            chunk, self._after_return = chunk.removeprefix(b"\n"), False
        events = []
        for piece in chunk.splitlines(keepends=True):
            self._grow(piece)
            if piece.endswith((b"\n", b"\r")) and (event := self._end_line()) is not None:
                events.append(event)
        self._after_return = self._after_return or chunk.endswith(b"\r")
        return events

    def _grow(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise Unreadable("event_too_large", f"one event exceeds {self._limit} bytes")
        self._line += piece

    def _end_line(self) -> Event | None:
        line = bytes(self._line).rstrip(b"\r\n")
        self._line.clear()
        if self._first:
            line, self._first = line.removeprefix(_MARK), False
        if not line:
            return self._end_event()
        name, _, value = line.partition(b":")
        self._take(name, value.removeprefix(b" "))
        return None

    def _take(self, name: bytes, value: bytes) -> None:
        match name:
            case b"data":
                self._data.append(value)
            case b"event":
                self._fields["event"] = value
            case b"id" if b"\0" not in value:
                self._fields["id"] = value
            case b"retry" if value.isdigit() and len(value) < 10:
                self._fields["retry"] = value
            case _:
                pass  # a comment, or a field of a later day

    def _end_event(self) -> Event | None:
        fields, data = self._fields, self._data
        self._fields, self._data, self._size = {}, [], 0
        if not fields and not data:
            return None
        return Event(
            data=b"\n".join(data) if data else None,
            event=fields.get("event", b"").decode(errors="replace"),
            id=fields["id"].decode(errors="replace") if "id" in fields else None,
            retry=int(fields["retry"]) if "retry" in fields else None,
        )


def write_event(event: Event) -> bytes:
    """Write one event.

    Raises:
        Unreadable: If its name or id would break out of its line.
    """
    lines = []
    if event.event:
        lines.append(b"event: " + _one_line(event.event))
    if event.id is not None:
        lines.append(b"id: " + _one_line(event.id))
    if event.retry is not None:
        lines.append(b"retry: %d" % event.retry)
    if event.data is not None:
        lines.extend(b"data: " + line for line in _LINE_END.split(event.data))
    return b"\n".join(lines) + b"\n\n"


def write_comment(text: str = "") -> bytes:
    """Write a comment, which keeps a silent stream open and is seen by no reader."""
    return b": " + _one_line(text) + b"\n\n"


def _one_line(text: str) -> bytes:
    if not {"\r", "\n", "\0"}.isdisjoint(text):
        raise Unreadable("event_field", "a field of an event must not hold a line break or a NUL")
    return text.encode()
