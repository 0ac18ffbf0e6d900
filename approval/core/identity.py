"""Who is who, and who may decide what: agents, people, groups, tokens, four eyes, quorum."""

import enum
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from approval.core.call import Call, Factor, Requirement, Vote


class Right(enum.StrEnum):
    """What a person may do besides deciding where a rule names them."""

    ADMIN = "admin"
    SETTLE = "settle"
    READ_ALL = "read_all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Somebody who asks. `owner` is the person who answers for it, and never decides for it."""

    name: str
    upstreams: frozenset[str]
    owner: str | None = None
    groups: tuple[str, ...] = ()
    token_digests: frozenset[str] = frozenset()
    max_pending: int | None = None
    """How many of its calls may wait for people at once; None where any number may."""

    @property
    def actor(self) -> str:
        return f"agent:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who decides. `name` is the key in the configuration, `title` what others read."""

    name: str
    title: str
    email: str | None = None
    slack: str | None = None
    token_digests: frozenset[str] = frozenset()

    @property
    def actor(self) -> str:
        return f"person:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Everybody the configuration names. A name is a person or a group, never both."""

    agents: Mapping[str, Agent] = field(default_factory=dict)
    people: Mapping[str, Person] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rights: Mapping[Right, frozenset[str]] = field(default_factory=dict)

    def members(self, names: Iterable[str]) -> frozenset[str]:
        """Expand people and groups into people; a name nobody bears adds nobody."""
        expanded: set[str] = set()
        for name in names:
            expanded.update(self.groups.get(name, (name,)))
        return frozenset(expanded & self.people.keys())

    def has_right(self, person: str, right: Right) -> bool:
        """Say whether the configuration gives `person` this right; an admin has every right."""
        holders = self.rights.get(right, frozenset()) | self.rights.get(Right.ADMIN, frozenset())
        return person in holders

    def max_pending(self, agent: str) -> int | None:
        """Say how many calls of this agent may wait for people at once; None for any number."""
        known = self.agents.get(agent)
        return known.max_pending if known is not None else None

    def agents_by_digest(self) -> dict[str, Agent]:
        """Index the agents by the digests of their tokens."""
        return {digest: agent for agent in self.agents.values() for digest in agent.token_digests}

    def people_by_digest(self) -> dict[str, Person]:
        """Index the people by the digests of their tokens."""
        return {digest: one for one in self.people.values() for digest in one.token_digests}


def token_digest(token: str) -> str:
    """Hash a token for keeping: it has full entropy, so a fast hash loses nothing."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def same_digest(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())


def deciders(directory: Directory, call: Call) -> frozenset[str]:
    """Everybody who may decide this call now: named by a factor, and not barred by four eyes."""
    named: set[str] = set()
    for factor in call.requirement.factors:
        named |= directory.members(factor.approvers)
    return frozenset(named) - barred(directory, call)


def barred(directory: Directory, call: Call) -> frozenset[str]:
    """Those who may never decide this call: the asker itself, and its owner where the rule says."""
    agent = directory.agents.get(call.asked.agent)
    return barred_from(agent, call.requirement) | {call.asked.agent}


def barred_from(asker: Agent | None, requirement: Requirement) -> frozenset[str]:
    """Those who may never decide what this agent asks under this requirement."""
    if asker is None:
        return frozenset()
    own = {asker.name}
    if requirement.not_owner and asker.owner is not None:
        own.add(asker.owner)
    return frozenset(own)


def satisfied(
    directory: Directory, call: Call, requirement: Requirement, approvals: Iterable[Vote]
) -> bool:
    """Say whether these approvals meet every factor, counting only who is eligible *now*.

    One person in two factors counts for both, unless the requirement is `distinct`
    (HashiCorp Vault's control groups; there the first is the only rule).
    """
    # Four eyes by the requirement that counts now: it may be stricter than the call's own.
    asked = replace(call, requirement=requirement)
    voters = {vote.person for vote in approvals} - barred(directory, asked)
    pools = [directory.members(factor.approvers) & voters for factor in requirement.factors]
    return _enough(requirement, pools)


def attainable(directory: Directory, requirement: Requirement, asker: Agent | None) -> bool:
    """Say whether all who may decide could together meet this, were they to approve."""
    never = barred_from(asker, requirement)
    pools = [directory.members(each.approvers) - never for each in requirement.factors]
    return _enough(requirement, pools)


def _enough(requirement: Requirement, pools: list[frozenset[str]]) -> bool:
    """Say whether these people, one pool for each factor, meet the requirement."""
    if requirement.distinct:
        return _distinct(requirement.factors, pools)
    return bool(pools) and all(
        len(pool) >= factor.approvals
        for factor, pool in zip(requirement.factors, pools, strict=True)
    )


def _distinct(factors: tuple[Factor, ...], pools: list[frozenset[str]]) -> bool:
    """Match every needed approval to a person of its own (augmenting paths; Kuhn 1955)."""
    seats = [
        pool for factor, pool in zip(factors, pools, strict=True) for _ in range(factor.approvals)
    ]
    holder: dict[str, int] = {}

    def seat(number: int, tried: set[str]) -> bool:
        for person in sorted(seats[number] - tried):
            tried.add(person)
            if person not in holder or seat(holder[person], tried):
                holder[person] = number
                return True
        return False

    return bool(seats) and all(seat(number, set()) for number in range(len(seats)))
