"""The form that gives a grant: what was typed, and what is wrong with it, field by field."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from approval.core import canonical
from approval.core.grants import Grant, Origin
from approval.core.issued import read_issue
from approval.core.spans import read_duration
from approval.errors import Misconfigured, Unreadable
from approval.web.deciding import words
from approval.web.problems import Problem

FIELDS: Final = (
    *("agent", "upstream", "tools", "uses", "total", "max_per_call", "lasts", "conditions"),
    "reason",
)
SOURCE: Final = "form"
WHOLE: Final = "form"
"""Where what is wrong with no one field in particular stands."""

_PROBLEM = re.compile(r"form: /grant/0(?:/(\w+))?(?:/([^:]*))?: (.*)", re.DOTALL)
_NAMES: Final = {"expires": "lasts"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What stands in the fields, and what is wrong with it by field."""

    typed: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def value(self, name: str) -> str:
        return self.typed.get(name, "")

    def problems(self, name: str) -> tuple[str, ...]:
        return self.wrong.get(name, ())


class Mistaken(Exception):
    """The form cannot be read as a grant. `wrong` says why, by field."""

    def __init__(self, wrong: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__("the form holds no grant")
        self.wrong = wrong


def read_grant(fields: Mapping[str, str], now: datetime) -> Grant:
    """Read a grant from the form; one that lasts so long ends so long after `now`.

    Raises:
        Mistaken: With everything that is wrong with it.
    """
    reader = _Reader()
    said = {
        "agent": fields.get("agent", ""),
        "upstream": _said(fields, "upstream"),
        "tools": reader.lines("tools", fields),
        "uses": _number(_said(fields, "uses")),
        "total": _said(fields, "total"),
        "max_per_call": _said(fields, "max_per_call"),
        "expires": reader.end(_said(fields, "lasts"), now),
        "conditions": reader.conditions(fields) or None,
        "reason": reader.reason(fields.get("reason", "")) or None,
    }
    stated = {key: value for key, value in said.items() if value is not None}
    try:
        grant = read_issue(stated, source=SOURCE)
    except Misconfigured as error:
        raise reader.mistaken(error.problems) from error
    if reader.wrong:
        raise reader.mistaken()
    return replace(grant, origin=Origin.CONSOLE, path="")


class _Reader:
    """Collects what is wrong, so that a person hears of all of it at once."""

    def __init__(self) -> None:
        self.wrong: dict[str, tuple[str, ...]] = {}
        self._numbers: dict[str, list[int]] = {}
        """On which line each element of a field stands."""

    def complain(self, name: str, what: str) -> None:
        self.wrong[name] = (*self.wrong.get(name, ()), what)

    def end(self, lasts: str | None, now: datetime) -> str | None:
        span = None if lasts is None else read_duration(lasts)
        if lasts is not None and span is None:
            told = f'"{canonical.quoted(lasts)}" is no time; write "90m", "24h" or "30d"'
            self.complain("lasts", told)
            span = timedelta()  # somebody meant it to end, and need not hear that it would not
        return None if span is None else (now + span).isoformat(timespec="seconds")

    def lines(self, name: str, fields: Mapping[str, str]) -> list[str]:
        """Take what stands on the lines of a field, the blank ones left out."""
        lines = [line.strip() for line in fields.get(name, "").split("\n")]
        self._numbers[name] = [number for number, line in enumerate(lines, 1) if line]
        return [line for line in lines if line]

    def conditions(self, fields: Mapping[str, str]) -> list[object]:
        found: list[object] = []
        lines = self.lines("conditions", fields)
        numbers, self._numbers["conditions"] = self._numbers["conditions"], []
        for number, line in zip(numbers, lines, strict=True):
            try:
                found.append(canonical.read(line.encode()))
            except (Unreadable, UnicodeEncodeError) as error:
                self.complain("conditions", f"line {number}: {error}")
            else:
                self._numbers["conditions"].append(number)
        return found

    def reason(self, text: str) -> str:
        try:
            return words("reason", text)
        except Problem as problem:
            self.complain("reason", problem.detail)
            return ""

    def mistaken(self, problems: Iterable[str] = ()) -> Mistaken:
        """Sort what the reader of grants complains of by the fields that it stands in."""
        for problem in problems:
            found = _PROBLEM.fullmatch(problem)
            name, below, told = found.groups() if found else (None, None, problem)
            at = _NAMES.get(name or "", name or WHOLE)
            self.complain(at, self._line(at, below or "") + told)
        return Mistaken(self.wrong)

    def _line(self, name: str, below: str) -> str:
        """Say where in its field something stands: `line 2, op: `."""
        place, _, member = below.partition("/")
        if name not in self._numbers or not place.isdecimal():
            return ""
        return f"line {self._numbers[name][int(place)]}{', ' if member else ''}{member}: "


def _said(fields: Mapping[str, str], name: str) -> str | None:
    return fields.get(name, "").strip() or None


def _number(text: str | None) -> int | str | None:
    """Read a number as it is typed; what is none is left for the reader of grants to refuse."""
    plain = text is not None and text.isascii() and text.isdecimal() and len(text) < 16
    return int(text) if text is not None and plain else text
