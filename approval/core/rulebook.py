"""Everything a configuration says about who may do what: one immutable value, swapped whole."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from approval.core import canonical, grants, policy
from approval.core.call import Call, Outcome, Reason, ToolCall, Verdict
from approval.core.canonical import JSON
from approval.core.demand import Offer, besides
from approval.core.grants import Grant
from approval.core.identity import Agent, Directory
from approval.core.meters import all_draws
from approval.core.policy import Policy
from approval.core.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulebook:
    """The people and the policies in force. `narrowing` holds policies of one agent by upstream.

    `grants` are those of the configuration; the store has those that were issued.
    """

    directory: Directory
    policies: Mapping[str, Policy]
    narrowing: Mapping[tuple[str, str], Policy] = field(default_factory=dict)
    grants: tuple[Grant, ...] = ()

    def judge(self, agent: str, upstream: str, tool: str, arguments: JSON) -> Verdict:
        """Judge one call under every policy that covers it; the strictest stands.

        Total: an agent or upstream that the configuration does not name (any more) is denied.
        """
        asker = self.directory.agents.get(agent)
        rules = self.policies.get(upstream)
        if asker is None or rules is None or upstream not in asker.upstreams:
            return NO_ACCESS
        subject = subject_of(asker, upstream, tool, arguments)
        verdict = policy.evaluate(rules, subject)
        narrower = self.narrowing.get((agent, upstream))
        if narrower is None:
            return verdict
        return policy.combine(verdict, policy.evaluate(narrower, subject))

    def judge_waiting(self, call: Call) -> Verdict:
        """Judge a call that waits, under rules that may have come into force since it was admitted.

        What it holds of a meter that is still there it draws on, even if no rule says so any more:
        a rule that charges less has loosened, which releases nothing that waits.
        """
        asked, arguments = call.asked, canonical.read(call.asked.arguments)
        verdict = self.judge(asked.agent, asked.upstream, asked.tool, arguments)
        drawn = verdict.demand.draws if verdict.demand is not None else ()
        left = {each.meter_id for each in call.reservations} - {draw.meter_id for draw in drawn}
        asker = self.directory.agents.get(asked.agent)
        if not left or call.amount is None or asker is None or verdict.outcome is Outcome.DENY:
            return verdict
        subject = subject_of(asker, asked.upstream, asked.tool, arguments)
        covering = self._covering(asked.agent, asked.upstream)
        known = [meter for rules in covering for meter in rules.meters.values()]
        held = [d for d in all_draws(known, subject, call.amount) if d.meter_id in left]
        return replace(verdict, demand=besides(verdict.demand, held)) if held else verdict

    def offers(
        self, asked: ToolCall, verdict: Verdict, issued: Iterable[Grant]
    ) -> tuple[Offer, ...]:
        """Name the grants that stand in for the people whom a gate would ask of this call.

        `issued` are those that the store has for this agent; the rulebook adds its own.
        """
        asker = self.directory.agents.get(asked.agent)
        given = [*(each for each in self.grants if each.agent == asked.agent), *issued]
        required = verdict.requirement
        if asker is None or not given or required is None or verdict.outcome is not Outcome.GATE:
            return ()
        subject = subject_of(asker, asked.upstream, asked.tool, canonical.read(asked.arguments))
        standing = [each for each in given if grants.stands_in(each, required)]
        return grants.offers(standing, subject, verdict.demand)

    def hides(self, agent: Agent, upstream: str, tool: str) -> bool:
        """Say whether a policy keeps this tool out of the agent's listing."""
        return any(policy.is_hidden(each, tool) for each in self._covering(agent.name, upstream))

    def _covering(self, agent: str, upstream: str) -> tuple[Policy, ...]:
        found = (self.policies.get(upstream), self.narrowing.get((agent, upstream)))
        return tuple(each for each in found if each is not None)


def subject_of(asker: Agent, upstream: str, tool: str, arguments: JSON) -> Subject:
    """Say of whom and of what a policy is asked."""
    return Subject(
        agent=asker.name,
        owner=asker.owner,
        groups=asker.groups,
        upstream=upstream,
        tool=tool,
        arguments=arguments,
    )


NO_ACCESS = Verdict(
    outcome=Outcome.DENY,
    reasons=(
        Reason(
            code="no_access",
            path="",
            text="This agent has no access to this upstream. Ask the operator to grant it.",
        ),
    ),
    policy_digest="",
)
