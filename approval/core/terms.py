"""The terms of a gate, layer by layer: rule, policy, configuration, and what is built in."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Self, TypeVar

from approval.core.call import Factor, OnDisconnect, Requirement, Run

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementDefaults:
    """The terms of a gate as far as one layer says them; None is left to the layer below.

    The layers are a rule, the policy's defaults, the configuration's `[approvals]`, and what is
    built into `Requirement`. `approvers` with `quorum` is the short form of `factors`, which carry
    their own numbers: a quorum means nothing to them.
    """

    approvers: tuple[str, ...] | None = None
    factors: tuple[Factor, ...] | None = None
    quorum: int | None = None
    timeout: timedelta | None = None
    run_within: timedelta | None = None
    distinct: bool | None = None
    not_owner: bool | None = None
    run: Run | None = None
    on_disconnect: OnDisconnect | None = None
    notify: tuple[str, ...] | None = None

    def over(self, below: Self) -> Self:
        """Lay this layer over another: what it leaves unsaid is said by the one below."""
        who = below if self.approvers is None and self.factors is None else self
        return replace(
            self,
            approvers=who.approvers,
            factors=who.factors,
            quorum=_said(self.quorum, below.quorum),
            timeout=_said(self.timeout, below.timeout),
            run_within=_said(self.run_within, below.run_within),
            distinct=_said(self.distinct, below.distinct),
            not_owner=_said(self.not_owner, below.not_owner),
            run=_said(self.run, below.run),
            on_disconnect=_said(self.on_disconnect, below.on_disconnect),
            notify=_said(self.notify, below.notify),
        )

    def requirement(self) -> Requirement | None:
        """Fill up with what is built in; None when no layer says who approves."""
        factors = self.factors or ()
        if self.approvers:
            factors = (Factor(approvers=self.approvers, approvals=_or(self.quorum, 1)),)
        return self.asking(factors) if factors else None

    def asking(self, factors: tuple[Factor, ...]) -> Requirement:
        """Ask these, whom no layer names, under the terms that the layers say."""
        built_in = Requirement(factors=factors)
        return Requirement(
            factors=factors,
            timeout=_or(self.timeout, built_in.timeout),
            run_within=_or(self.run_within, built_in.run_within),
            distinct=_or(self.distinct, built_in.distinct),
            not_owner=_or(self.not_owner, built_in.not_owner),
            run=_or(self.run, built_in.run),
            on_disconnect=_or(self.on_disconnect, built_in.on_disconnect),
            notify=_or(self.notify, built_in.notify),
        )


def _said(above: T | None, below: T | None) -> T | None:
    return below if above is None else above


def _or(said: T | None, built_in: T) -> T:
    return built_in if said is None else said
