"""Problems of a configuration file: every one of them, each with file, key and remedy."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from approval.core.canonical import quoted
from approval.errors import Misconfigured

Key = tuple[str | int, ...]
"""Where in the file: the names and list positions that lead there."""

M = TypeVar("M", bound=BaseModel)

_BARE = re.compile(r"[A-Za-z0-9_-]+")

_SENTENCES: Mapping[str, str] = {
    "missing": "is missing; add it",
    "string_type": "is not a text; put it in quotes",
    "bool_type": "is neither true nor false; write one of them, without quotes",
    "int_type": "is not a whole number; write one, without quotes",
    "list_type": "is not a list; put it in [ ]",
    "tuple_type": "is not a list; put it in [ ]",
    "dict_type": "is not a table; put it in { } or under a heading of its own",
    "model_type": "is not a table; put it in { } or under a heading of its own",
}


class Problems:
    """Collects what is wrong with one file, so that a reader is told everything at once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[str] = []

    def add(self, key: Key, text: str) -> None:
        """Note one problem; `text` says what is wrong and the remedy."""
        where = f"{dotted(key)}: " if key else ""
        self.take((f"{self.file}: {where}{text}",))

    def take(self, problems: Iterable[str]) -> None:
        """Note problems that somebody else found and worded, each once."""
        self._found += [problem for problem in problems if problem not in self._found]

    def found(self) -> tuple[str, ...]:
        return tuple(self._found)

    def raise_any(self) -> None:
        """End here if there is anything to say.

        Raises:
            Misconfigured: With every problem noted so far.
        """
        if self._found:
            raise Misconfigured(self.found())

    def read(self, model: type[M], table: object, key: Key) -> M | None:
        """Read a table into its settings, or note everything that is wrong with it."""
        if not isinstance(table, Mapping):
            self.add(key, _SENTENCES["dict_type"])
            return None
        try:
            return model.model_validate(dict(table))
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                at = tuple(part for part in detail["loc"] if part != "__root__")
                self.add((*key, *at), worded(detail, model))
            return None


def dotted(key: Key) -> str:
    """Write a place in a TOML file as a reader would look for it: `agents."my agent".tokens[0]`."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        name = part if _BARE.fullmatch(part) else f'"{quoted(part)}"'
        text += f".{name}" if text else name
    return text


def worded(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """Put pydantic's finding in words that name the remedy."""
    if detail["type"] == "extra_forbidden":
        return unknown(str(detail["loc"][-1]), _known_keys(model, detail["loc"][:-1]))
    reason = detail.get("ctx", {}).get("error")
    if isinstance(reason, ValueError):
        return str(reason)
    plain = detail["msg"][:1].lower() + detail["msg"][1:]
    return _SENTENCES.get(detail["type"], f"cannot be used: {plain}")


def unknown(name: str, known: Iterable[str], what: str = "a key of this section") -> str:
    """Say that there is no such name, and which one may have been meant."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"is not {what}; did you mean {near[0]}?"
    if not names:
        return f"is not {what}; there are none yet, so add it or remove this"
    listed = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"is not {what}; known: {listed}"


def _known_keys(model: type[BaseModel], loc: Sequence[str | int]) -> Iterable[str]:
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = _model_in(field.annotation) if field is not None else None
        if inner is None:
            return ()
        model = inner
    return model.model_fields


def _model_in(annotation: object) -> type[BaseModel] | None:
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
