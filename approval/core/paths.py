"""Paths of conditions: where a value stands among the facts of a call."""

from collections.abc import Mapping
from dataclasses import dataclass

from approval.errors import Unreadable

MISSING: object = object()

NAMESPACES: Mapping[str, frozenset[str] | None] = {
    "args": None,
    "agent": frozenset({"name", "owner", "groups"}),
    "tool": frozenset({"name"}),
    "server": frozenset({"name"}),
    "spend": frozenset({"amount"}),
}
"""What a dotted path may start with, and the members it has; `args` has those of the call."""

LATER_NAMESPACES = frozenset({"grant", "call", "time", "state"})

SPEND_AMOUNT = "spend.amount"
"""The one path at which money stands: what the call costs, as far as is known before it ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """Where a value stands among the facts of a call. Only pointers (`/a/0`) enter lists."""

    text: str
    steps: tuple[str, ...]
    enters_lists: bool

    def find(self, facts: Mapping[str, object]) -> object:
        value: object = facts
        for step in self.steps:
            if isinstance(value, dict):
                value = value.get(step, MISSING)
            elif self.enters_lists and isinstance(value, list):
                value = _element(value, step)
            else:
                return MISSING
        return value


def compile_path(text: str) -> Path:
    """Read a dotted path (`args.a.b`) or an RFC 6901 pointer into the arguments (`/items/0`).

    Raises:
        Unreadable: If it is neither, or reaches for what this version does not offer.
    """
    if text.startswith("/"):
        steps = tuple(_unescaped(token) for token in text[1:].split("/"))
        return Path(text=text, steps=("args", *steps), enters_lists=True)
    namespace, *members = text.split(".")
    _check_namespace(text, namespace, members)
    return Path(text=text, steps=(namespace, *members), enters_lists=False)


def _check_namespace(text: str, namespace: str, members: list[str]) -> None:
    if namespace in LATER_NAMESPACES:
        raise unfit(
            f"the namespace {namespace!r} is not built yet; judge by {', '.join(NAMESPACES)}"
        )
    if namespace not in NAMESPACES:
        raise unfit(
            f"the path {text!r} starts with none of {', '.join(NAMESPACES)}; write args.name, or"
            " a pointer such as /items/0/name"
        )
    if not members or not all(members):
        raise unfit(f"the path {text!r} has an empty part; for such a name write a pointer")
    known = NAMESPACES[namespace]
    if known is not None and (len(members) != 1 or members[0] not in known):
        offered = ", ".join(f"{namespace}.{name}" for name in sorted(known))
        raise unfit(f"there is no {text!r}; there is {offered}")


def _unescaped(token: str) -> str:
    if "~" in token.replace("~0", "").replace("~1", ""):
        raise unfit("in a pointer ~ is written ~0, and / within a name ~1")
    return token.replace("~1", "/").replace("~0", "~")


def _element(items: list[object], step: str) -> object:
    # RFC 6901 §4: digits without a leading zero. The length bound keeps int() cheap.
    if not (step.isascii() and step.isdecimal()) or len(step) > 9 or step != str(int(step)):
        return MISSING
    index = int(step)
    return items[index] if index < len(items) else MISSING


def unfit(text: str) -> Unreadable:
    """Say what is wrong with a condition."""
    return Unreadable("condition", text)
