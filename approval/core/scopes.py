"""By what limits count: one count for all, or one for each agent, tool, upstream, group or grant.

Nobody escapes a limit by lacking what it counts by: agents in no group share a count of their own,
and so do calls that no grant covers.
"""

import enum
import hashlib
import json
from collections.abc import Collection
from itertools import product
from typing import TypeAlias

from approval.core.subject import Subject


class Scope(enum.StrEnum):
    AGENT = "agent"
    GRANT = "grant"
    TOOL = "tool"
    UPSTREAM = "upstream"
    GROUP = "group"


Key: TypeAlias = tuple[tuple[Scope, str | None], ...]
"""Whose count it is, in the order of `Scope` however a document lists it; None is *without one*."""


def keys(scope: Collection[Scope], subject: Subject, grant: str | None = None) -> tuple[Key, ...]:
    """Give the keys that a call counts under: several where its agent is in several groups."""
    values: dict[Scope, tuple[str | None, ...]] = {
        Scope.AGENT: (subject.agent,),
        Scope.GRANT: (grant,),
        Scope.TOOL: (subject.tool,),
        Scope.UPSTREAM: (subject.upstream,),
        Scope.GROUP: tuple(dict.fromkeys(subject.groups)) or (None,),
    }
    counted = [[(each, value) for value in values[each]] for each in Scope if each in scope]
    return tuple(product(*counted))


def stable_id(domain: str, *parts: object) -> str:
    """Name something by what it is made of: JSON keeps the parts apart, whatever is in them."""
    text = json.dumps([domain, *parts], separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
