"""The configuration file as it was written: its tables, and what its readers share."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel

from approval.config.credentials import Sources
from approval.config.problems import Key, Problems, unknown
from approval.config.sections import NAME, UNBUILT
from approval.errors import Misconfigured

Table = Mapping[str, object]
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

MAX_FILE_BYTES: Final = 1024 * 1024
SECTIONS: Final = (
    *("server", "database", "upstreams", "agents", "people", "groups", "approvals", "rights"),
    *("audit", "gateway", "meters"),
)
LISTS: Final = ("grants",)
"""The sections that are lists of tables, each under a heading in double brackets."""


class Document:
    """A file's tables. Readers take a section each, so that one's mistake hides no other's."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self.path = path
        self.folder = path.parent
        self.sources = Sources(self.folder, environment)
        self.problems = Problems(str(path))
        self.files = {path}
        self._lists: dict[str, list[object]] = {}
        self._tables = self._built(_parsed(path))

    def table(self, name: str) -> Table:
        """Give a section; one that is not there is an empty one."""
        return self._tables.get(name, {})

    def listed(self, name: str) -> list[object]:
        """Give a section that is a list of tables; one that is not there is an empty one."""
        return self._lists.get(name, [])

    def section(self, model: type[M], name: str) -> M | None:
        """Read a whole section into its settings."""
        return self.problems.read(model, self.table(name), (name,))

    def entries(self, section: str) -> Iterator[tuple[str, dict[str, object]]]:
        """Go through a section's named tables."""
        for name, entry in self.table(section).items():
            if isinstance(entry, dict):
                yield name, dict(entry)
            else:
                self.problems.add((section, name), f"is not a table; write [{section}.{name}]")

    def texts(self, key: Key, value: object) -> tuple[str, ...]:
        """Read a list of names."""
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.problems.add(key, 'is not a list of names; write ["ann", "bob"]')
            return ()
        return tuple(value)

    def attempt(self, key: Key, read: Callable[[], T]) -> T | None:
        """Run a reader that says in a ValueError what is wrong."""
        try:
            return read()
        except ValueError as error:
            self.problems.add(key, str(error))
            return None

    def content(self, key: Key, path: Path) -> bytes | None:
        """Read a file that the configuration names, and remember that its change matters."""
        self.files.add(path)
        try:
            with path.open("rb") as file:
                return file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            reason = (error.strerror or "unreadable").lower()
            self.problems.add(key, f"names {path}, which cannot be read: {reason}")
            return None

    def _built(self, tables: Table) -> dict[str, dict[str, object]]:
        """Refuse what will mean something one day, and what never will; keep the rest."""
        kept: dict[str, dict[str, object]] = {}
        for name, table in tables.items():
            if (name,) in UNBUILT:
                self.problems.add((name,), UNBUILT[(name,)])
            elif name in LISTS:
                self._keep_list(name, table)
            elif name not in SECTIONS:
                known = (*SECTIONS, *LISTS)
                self.problems.add((name,), unknown(name, known, "a section"))
            elif not isinstance(table, dict):
                self.problems.add((name,), f"is not a section; write [{name}]")
            else:
                kept[name] = self._without_unbuilt(name, table)
        return kept

    def _keep_list(self, name: str, value: object) -> None:
        if isinstance(value, list):
            self._lists[name] = value
        else:
            self.problems.add((name,), f"is not a list of tables; write [[{name}]]")

    def _without_unbuilt(self, name: str, table: Table) -> dict[str, object]:
        unbuilt = [key for key in table if (name, key) in UNBUILT]
        for key in unbuilt:
            self.problems.add((name, key), UNBUILT[name, key])
        return {key: value for key, value in table.items() if key not in unbuilt}

    def check_names(self) -> None:
        """Note names that could not stand in an address or in the trail, and doubtful ones."""
        for section in ("upstreams", "agents", "people", "groups"):
            for name in self.table(section):
                if not NAME.fullmatch(name):
                    text = "is no name; use letters, digits and . _ - (at most 63, no . _ - first)"
                    self.problems.add((section, name), text)
        for name in sorted(self.table("people").keys() & self.table("groups").keys()):
            self.problems.add(("groups", name), "is a person's name too; rename one of them")


def _parsed(path: Path) -> Table:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        told = f"cannot be read: {reason}; copy config.example.toml, or name yours with --config"
        raise Misconfigured((f"{path}: {told}",)) from error
    if len(text) > MAX_FILE_BYTES:
        raise Misconfigured((f"{path}: is larger than {MAX_FILE_BYTES} bytes; split the policies",))
    try:
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise Misconfigured((f"{path}: {_broken(error)}",)) from error


def _broken(error: Exception) -> str:
    """Put tomllib's words the other way round, so that the place comes first."""
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8 text; save it as UTF-8"
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|(end of document))\)", str(error))
    if found is None:
        return f"is not TOML: {error}; correct it"
    what, line, column, end = found.groups()
    where = end or f"line {line}, column {column}"
    return f"{where}: is not TOML: {what[:1].lower()}{what[1:]}; correct it"
