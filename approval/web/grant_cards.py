"""Grants as people see them in a browser: each in words, with a bar of what is left of it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from approval.budgets import Pot
from approval.core import issued, meters
from approval.core.conditions import Condition
from approval.core.grants import Grant
from approval.core.identity import Directory
from approval.core.issued import Issued
from approval.service import Service
from approval.web import present
from approval.web.budgets import Gauge, gauge

STATES: Final[Mapping[str, tuple[str, str]]] = {
    "in force": ("in force", "executed"),
    "used up": ("used up", "pending"),
    "not yet": ("not in force yet", "pending"),
    "ended": ("expired", "ended"),
    "revoked": ("revoked", "rejected"),
}
"""The word of each state, and the class that gives its colour."""

TESTS: Final[Mapping[str, str]] = {
    "eq": "is",
    "neq": "is there and not",
    "in": "is one of",
    "not_in": "is there and none of",
    "lt": "is below",
    "lte": "is at most",
    "gt": "is above",
    "gte": "is at least",
    "regex": "matches, somewhere in it,",
    "contains": "contains",
    "glob": "matches the pattern",
    "cidr": "is an address within",
    "host_in": "has a host among",
    "len_lte": "has a length of at most",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a grant may be used for over its whole life, drawn and in words."""

    gauge: Gauge
    left: str
    taken: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """A condition in words: where, how, and against what (JSON; None where the words say all)."""

    path: str
    words: str
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantCard:
    """One grant as one person sees it at one moment."""

    issued: Issued
    state: str
    bounds: tuple[Bound, ...]
    clauses: tuple[Clause, ...]
    givers: tuple[str, ...]
    revoked_by: str
    may_revoke: bool

    @property
    def grant(self) -> Grant:
        return self.issued.grant

    @property
    def word(self) -> str:
        return STATES[self.state][0]

    @property
    def colour(self) -> str:
        return STATES[self.state][1]

    @property
    def in_file(self) -> bool:
        # Not by its origin: that of one which this release does not understand is not known.
        return self.issued.issued_at is None

    @property
    def may_end(self) -> bool:
        """Say whether a call could still pass under it: also when a use comes back."""
        return self.state not in {"ended", "revoked"}


async def cards(service: Service, person: str, found: Iterable[Issued]) -> list[GrantCard]:
    """Draw grants for a person who may see them."""
    given = tuple(found)
    pots = await service.budgets.of_grants(each.grant for each in given)
    now = await service.granting.now()
    directory = service.rules.directory
    drawn = []
    for each in given:
        bounds = tuple(_bound(pot) for pot in pots[each.grant.id])
        state = issued.state(each, now)
        used_up = any(pot.left.minor == 0 for pot in pots[each.grant.id])
        drawn.append(
            GrantCard(
                issued=each,
                state="used up" if used_up and state == "in force" else state,
                bounds=bounds,
                clauses=tuple(map(_clause, each.grant.conditions)),
                givers=_givers(each.grant, directory, person),
                revoked_by=present.actor(each.revoked_by, directory, person),
                may_revoke=service.granting.may_revoke(person, each.grant),
            )
        )
    return drawn


def _bound(pot: Pot) -> Bound:
    limit = meters.shown(pot.meter.limit)
    if pot.meter.limit.currency == meters.USES:
        left, taken = f"{pot.left.minor} of {limit} left", f"{pot.spent.minor} used"
        held = f", {pot.held.minor} by calls under way" if pot.held.minor else ""
    else:
        left = f"{meters.shown(pot.left)} of {limit} left in all"
        taken = f"{meters.shown(pot.spent)} spent"
        held = f", {meters.shown(pot.held)} held for calls under way" if pot.held.minor else ""
    return Bound(gauge=gauge(pot), left=left, taken=taken + held)


def _clause(condition: Condition) -> Clause:
    path, literal = condition.path.text, condition.literal
    if condition.operator == "exists":
        return Clause(path=path, words="is there" if literal else "is not there", value=None)
    value = json.dumps(literal, ensure_ascii=False)
    return Clause(path=path, words=TESTS[condition.operator], value=value)


def _givers(grant: Grant, directory: Directory, person: str) -> tuple[str, ...]:
    """Name all who approved the call that it came of, or who gave it; nobody for a file's."""
    if grant.decided is not None:
        return tuple(
            present.actor(f"person:{each}", directory, person) for each in grant.decided.people
        )
    return (present.actor(grant.granted_by, directory, person),) if grant.granted_by else ()
