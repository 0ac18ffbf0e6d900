"""Say what limits and grants make of a verdict while nothing is spent, counted or frozen. Pure.

The admission that decides real calls decides here too, with an empty store: what does not pass here
never passes, and what passes may still find a limit used up.
"""

from dataclasses import dataclass
from datetime import datetime

from approval.core import admission, canonical, grants
from approval.core.admission import Admitted
from approval.core.call import Outcome, ToolCall, Verdict
from approval.core.demand import Holdings
from approval.core.grants import Grant
from approval.core.refusals import Refusal
from approval.core.rulebook import Rulebook, subject_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """A grant of the configuration, and why it does not cover the call; None where it does."""

    grant: Grant
    why: Refusal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """What would become of a call that no policy denies. `grants` are those of its agent."""

    grants: tuple[Considered, ...]
    admitted: Admitted | Refusal

    @property
    def outcome(self) -> Outcome:
        if isinstance(self.admitted, Refusal):
            return Outcome.DENY
        return self.admitted.verdict.outcome


def foresee(rules: Rulebook, asked: ToolCall, verdict: Verdict, now: datetime) -> Foresight:
    """Fit a call in where nothing is taken yet.

    Raises:
        ValueError: If the verdict is a denial: such a call is not admitted.
    """
    if verdict.outcome is Outcome.DENY:
        raise ValueError("a denied call is not admitted")
    holdings = Holdings(offers=rules.offers(asked, verdict, ()))
    return Foresight(
        grants=_considered(rules, asked, verdict, now),
        admitted=admission.admit(verdict, holdings, now),
    )


def _considered(
    rules: Rulebook, asked: ToolCall, verdict: Verdict, now: datetime
) -> tuple[Considered, ...]:
    """Hold the agent's grants against the call, where there is a gate that one could pass."""
    asker = rules.directory.agents.get(asked.agent)
    if asker is None or verdict.outcome is not Outcome.GATE:
        return ()
    subject = subject_of(asker, asked.upstream, asked.tool, canonical.read(asked.arguments))
    demand = verdict.demand
    spends = demand is not None and demand.spends
    # What an approver types is not known where a grant stands in for them.
    amount = None if demand is None or demand.asks else demand.amount
    return tuple(
        Considered(grant=each, why=grants.covers(each, subject, amount, now, spends=spends))
        for each in rules.grants
        if each.agent == asked.agent
    )
