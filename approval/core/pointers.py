"""Pointers (RFC 6901) into what agents and upstreams wrote, followed without guessing.

A price hangs on what is found, so what is not there is told apart from what is there in another
form, and a member whose name differs only in case is refused: some readers (Go's among them) take
either for the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from approval.core import canonical
from approval.core.canonical import quoted
from approval.core.paths import compile_path
from approval.errors import Unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """Where a value stands: in a document, or in the JSON that a text of it holds (`inside`)."""

    text: str
    steps: tuple[str, ...]
    inside: Self | None = None

    def find(self, document: object, *, above: str = "") -> object:
        """Give what stands here; `above` is where the document itself stands, for the message.

        Raises:
            Unreadable: If it is `absent` (its first step leads nowhere) or `missing` (a later one
                does); if the way leads through what is no object or list (`not_an_object`), past a
                member written in two cases (`twin`), or into text that is no strict JSON
                (`not_text`, `embedded`).
        """
        if self.inside is not None:
            return self._find_embedded(self.inside, document)
        value = document
        for depth, step in enumerate(self.steps):
            where = quoted(above + "".join(f"/{each}" for each in self.steps[: depth + 1]))
            value = _step(value, step, where, "missing" if depth else "absent")
        return value

    def _find_embedded(self, inside: Self, document: object) -> object:
        text = inside.find(document)
        if not isinstance(text, str):
            raise Unreadable(
                "not_text", f'at "{quoted(inside.text)}" there is no text to look into'
            )
        try:
            embedded = canonical.read(text.encode(), limit=canonical.MAX_ARGUMENTS)
            return Pointer(text=self.text, steps=self.steps).find(embedded, above=inside.text)
        except UnicodeEncodeError:
            raise _embedded(inside, "it holds half a surrogate pair") from None
        except Unreadable as error:
            if error.reason == "absent":
                # The text is there: whoever wrote it chose what to leave out.
                raise Unreadable("missing", str(error)) from None
            if error.reason in OWN_REASONS:
                raise
            raise _embedded(inside, str(error)) from error


OWN_REASONS = frozenset({"absent", "missing", "not_an_object", "twin"})


def read_pointer(text: str, *, inside: Pointer | None = None) -> Pointer:
    """Read a pointer from a policy.

    Raises:
        Unreadable: If it is none; the text names the remedy.
    """
    if not text.startswith("/"):
        raise Unreadable("pointer", f'"{quoted(text)}" is no pointer; write it like "/amount"')
    return Pointer(text=text, steps=compile_path(text).steps[1:], inside=inside)


def _step(value: object, step: str, where: str, reason: str) -> object:
    if isinstance(value, dict):
        return _member(value, step, where, reason)
    if isinstance(value, list):
        return _element(value, step, where, reason)
    raise Unreadable("not_an_object", f'above "{where}" there is no object or list to look into')


def _member(value: Mapping[str, object], step: str, where: str, reason: str) -> object:
    folded = step.casefold()
    if any(name.casefold() == folded and name != step for name in value):
        raise Unreadable(
            "twin",
            f'at "{where}" the name is written in other case, which some readers take for it',
        )
    if step not in value:
        raise Unreadable(reason, f'at "{where}" there is nothing')
    return value[step]


def _element(value: Sequence[object], step: str, where: str, reason: str) -> object:
    # RFC 6901 §4: digits without a leading zero. The length bound keeps int() cheap.
    if not (step.isascii() and step.isdecimal()) or len(step) > 9 or step != str(int(step)):
        raise Unreadable("not_an_object", f'above "{where}" there is a list, and no object')
    if int(step) >= len(value):
        raise Unreadable(reason, f'at "{where}" there is nothing')
    return value[int(step)]


def _embedded(inside: Pointer, told: str) -> Unreadable:
    return Unreadable("embedded", f'at "{quoted(inside.text)}" there is no strict JSON: {told}')
