"""Checks across a configuration: names that nobody bears, and gates that nobody could ever open."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from approval.config.problems import Key, Problems, unknown
from approval.core.call import Requirement
from approval.core.canonical import quoted
from approval.core.identity import Agent, Directory
from approval.core.policy import Policy, RequireApproval
from approval.core.rulebook import Rulebook


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Everybody and everything the file names, whether or not the rest of it could be read."""

    upstreams: Collection[str]
    agents: Collection[str]
    people: Collection[str]
    groups: Collection[str]

    @property
    def approvers(self) -> tuple[str, ...]:
        return (*self.people, *self.groups)


def check_names(
    problems: Problems, key: Key, names: Iterable[str], known: Collection[str], what: str
) -> None:
    """Note every name in a list that nobody bears."""
    for place, name in enumerate(names):
        if name not in known:
            problems.add((*key, place), f"{quoted(name)} {unknown(name, known, what)}")


def check_policy_names(problems: Problems, policy: Policy, names: Names) -> None:
    """Note approvers whom nobody bears, and places that cannot be told yet."""
    for mention in policy.names_used():
        if mention.text not in names.approvers:
            found = unknown(mention.text, names.approvers, "a person or group")
            problems.take((f"{policy.source}: {mention.path}: {quoted(mention.text)} {found}",))
    for mention in policy.notify_used():
        text = "no channel can be told yet; Slack and email come with a later release. Remove it"
        problems.take((f"{policy.source}: {mention.path}: {text}",))


def check_deciders(problems: Problems, rules: Rulebook) -> None:
    """Note gates that nobody could open: such a call would only ever wait and expire."""
    directory = rules.directory
    for upstream, policy in rules.policies.items():
        askers = [agent for agent in directory.agents.values() if upstream in agent.upstreams]
        for asker in askers:
            problems.take(_closed_gates(policy, asker, directory))
        if not askers:
            problems.take(_closed_gates(policy, None, directory))
    for (name, _), policy in rules.narrowing.items():
        problems.take(_closed_gates(policy, directory.agents.get(name), directory))


def _closed_gates(policy: Policy, asker: Agent | None, directory: Directory) -> Iterator[str]:
    for path, demand in _gates(policy):
        lacking = demand and _lacking(demand, asker, directory)
        if lacking:
            yield f"{policy.source}: {path}: {lacking}"


def _gates(policy: Policy) -> Iterator[tuple[str, Requirement | None]]:
    """Give what holds calls for people, and where: rules, and prices that an approver types."""
    for rule in policy.rules:
        if isinstance(rule, RequireApproval):
            yield rule.path, rule.if_true.requirement
    for charge in policy.charges:
        yield charge.path, charge.asks


def _lacking(demand: Requirement, asker: Agent | None, directory: Directory) -> str | None:
    """Say why this demand can never be met, if it cannot."""
    owner = asker.owner if asker is not None and demand.not_owner else None
    barred = {owner, asker.name if asker is not None else None}
    pools = [directory.members(factor.approvers) - barred for factor in demand.factors]
    needed = [factor.approvals for factor in demand.factors]
    if demand.distinct:
        pools.append(frozenset().union(*pools))
        needed.append(sum(needed))
    for pool, count in zip(pools, needed, strict=True):
        if len(pool) < count:
            return _worded(len(pool), count, asker, owner)
    return None


def _worded(able: int, needed: int, asker: Agent | None, owner: str | None) -> str:
    who = f"a call of {asker.name}" if asker is not None else "a call"
    why = f" ({owner} owns that agent, and not_owner bars the owner)" if owner else ""
    return (
        f"nobody could ever approve {who}: it needs {needed} and only {able} may{why}; name more"
        " approvers, or add people to the group"
    )


def shared_tokens(bearers: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Name those who bear a token that somebody else bears too."""
    first: dict[str, str] = {}
    for bearer, digests in bearers.items():
        for digest in digests:
            other = first.setdefault(digest, bearer)
            if other != bearer:
                yield f"{bearer} bears the same token as {other}; issue one for each"
