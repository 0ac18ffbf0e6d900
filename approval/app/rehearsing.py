"""Rehearse a policy: the real judge, the real service and a real store, with a clock of the case's.

Nothing is sent: an upstream that ends every call as its case says stands in for the real one. Each
case begins with nothing spent, in a database of its own.
"""

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson

from approval.app.covering import Coverage
from approval.app.pretending import NOTHING, ending, saying
from approval.config.suites import Case, Step, Suite
from approval.core import canonical
from approval.core.call import Call, Choice, Outcome, Status, ToolCall, Verdict
from approval.core.canonical import JSON
from approval.core.explaining import trace
from approval.core.money import Money
from approval.core.policy import Policy
from approval.core.rulebook import Rulebook
from approval.core.steps import Ballot
from approval.errors import Conflict, Forbidden, NoRoom, Refused, Unreadable
from approval.service import Service
from approval.store.store import SqlStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A step that went otherwise than its case says. `step` counts from 1."""

    case: str
    step: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a rehearsal found. `rules` counts rules and limits, and `unused` names those unmet."""

    cases: int
    steps: int
    failures: tuple[Failure, ...]
    rules: int
    unused: tuple[str, ...]
    codes: Mapping[str, int]

    @property
    def coverage(self) -> float:
        """The share of rules and limits that some case met, in percent."""
        return 100.0 if not self.rules else 100 * (self.rules - len(self.unused)) / self.rules


class Clock:
    """The store's clock, which only `advance` moves."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


async def rehearse(rules: Rulebook, suite: Suite) -> Report:
    """Play every case, and say what went otherwise, and which rules and limits nobody met."""
    failures: list[Failure] = []
    coverage = Coverage(rules)
    codes: dict[str, int] = {}
    for case in suite.case:
        clock = Clock(case.at)
        async with stage(rules, clock) as (store, service):
            play = _Play(
                rules=rules,
                case=case,
                clock=clock,
                store=store,
                service=service,
                coverage=coverage,
            )
            failures += await play.run()
        for code, times in play.codes.items():
            codes[code] = codes.get(code, 0) + times
    return Report(
        cases=len(suite.case),
        steps=sum(len(case.steps) for case in suite.case),
        failures=tuple(failures),
        rules=len(coverage),
        unused=coverage.unmet,
        codes=dict(sorted(codes.items())),
    )


@asynccontextmanager
async def stage(rules: Rulebook, clock: Clock) -> AsyncIterator[tuple[SqlStore, Service]]:
    """Give a service on a database of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="approval-test-") as folder:
        store = await SqlStore.open("sqlite:///rehearsal.db", base=Path(folder), clock=clock)
        try:
            async with Service(store, rules) as service:
                yield store, service
        finally:
            await store.close()


def _policies(rules: Rulebook) -> tuple[Policy, ...]:
    return (*rules.policies.values(), *rules.narrowing.values())


@dataclass(slots=True, kw_only=True)
class _Play:
    """One case on its stage."""

    rules: Rulebook
    case: Case
    clock: Clock
    store: SqlStore
    service: Service
    coverage: Coverage
    codes: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    last: Call | None = None
    ran: Call | None = None

    async def run(self) -> list[Failure]:
        """Play the case to its end, whatever goes otherwise on the way."""
        return [
            Failure(case=self.case.name, step=number, text=told)
            for number, step in enumerate(self.case.steps, 1)
            for told in await self._step(step)
        ]

    async def _step(self, step: Step) -> list[str]:
        if step.advance is not None:
            self.clock.now += step.advance
            await self.service.expire_due()
            return []
        if step.decide is not None:
            return await self._decide(step, step.decide)
        if step.meter is not None:
            return await self._meter(step, step.meter)
        return [told for _ in range(step.repeat) for told in await self._call(step)]

    # --- agents ---

    async def _call(self, step: Step) -> list[str]:
        tool, upstream = step.call or "", self._upstream()
        arguments = canonical.read(orjson.dumps(dict(step.args)))
        self.coverage.judged(trace(self.rules, self.case.agent, upstream, tool, arguments))
        verdict = self.rules.judge(self.case.agent, upstream, tool, arguments)
        outcome, code, found = await self._admitted(step, verdict, upstream, tool, arguments)
        self.codes[code] = self.codes.get(code, 0) + 1
        told = f"{tool} is {_WAS[outcome]} ({code}: {found})"
        if outcome is not step.expect:
            return [f"{told}; expected {step.expect}"]
        if step.reason is not None and code != step.reason:
            return [f"{told}; expected the reason {step.reason}"]
        asked = self._approvers()
        if step.approvers is not None and asked != frozenset(step.approvers):
            wanted = ", ".join(step.approvers)
            return [f"{tool} asks {', '.join(sorted(asked)) or 'nobody'}; expected {wanted}"]
        return _unsaid(step, self.ran)

    async def _admitted(
        self, step: Step, verdict: Verdict, upstream: str, tool: str, arguments: JSON
    ) -> tuple[Outcome, str, str]:
        self.ran, reason = None, verdict.reasons[0]
        if verdict.outcome is Outcome.DENY:
            return Outcome.DENY, reason.code, reason.text
        asked = self._tool_call(upstream, tool, arguments)
        spends = verdict.demand is not None and verdict.demand.spends
        try:
            if verdict.outcome is Outcome.ALLOW and not spends:
                await self.service.allow(asked, verdict)
                return Outcome.ALLOW, reason.code, reason.text
            submission = await self.service.submit(asked, verdict)
        except Refused as refused:
            if isinstance(refused, NoRoom):
                self.coverage.refused(refused.limit)
            return Outcome.DENY, refused.code, str(refused)
        except Unreadable as error:
            return Outcome.DENY, error.reason, str(error)
        self.last = submission.call
        self.coverage.held(self.last, verdict.demand)
        if submission.claimed_at is None:
            return Outcome.GATE, reason.code, reason.text
        self.ran = self.last
        self.service.carry_out(submission, ending(step.ends, _answer(step, self.ran)))
        self.last = await self.service.changed(submission.call)
        return Outcome.ALLOW, reason.code, reason.text

    def _tool_call(self, upstream: str, tool: str, arguments: JSON) -> ToolCall:
        # A key of its own for each: that equal calls join is not the policy's doing.
        self.asked += 1
        return ToolCall(
            agent=self.case.agent,
            upstream=upstream,
            tool=tool,
            arguments=canonical.canonical_arguments(arguments),
            key=f"rehearsal-{self.asked}",
        )

    def _upstream(self) -> str:
        if self.case.upstream is not None:
            return self.case.upstream
        agent = self.rules.directory.agents.get(self.case.agent)
        return next(iter(sorted(agent.upstreams)), "") if agent is not None else ""

    def _approvers(self) -> frozenset[str]:
        if self.last is None:
            return frozenset()
        return frozenset(
            name for factor in self.last.requirement.factors for name in factor.approvers
        )

    # --- people ---

    async def _decide(self, step: Step, choice: Choice) -> list[str]:
        if self.last is None:
            return ["no call is held that could be decided"]
        person, call = step.by or "", await self.store.get(self.last.id)
        typed = None if step.amount is None else str(step.amount)
        ballot = Ballot(person=person, choice=choice, digest=call.digest, via="test", amount=typed)
        try:
            decided = await self.service.decide(call.id, ballot)
        except (Conflict, Forbidden, Unreadable) as refusal:
            return [f"{person} cannot {choice} it: {refusal}"]
        if decided.status is not Status.APPROVED:
            return ["the call does not run yet, so it took nothing"] if step.took else []
        await self.service.execute(decided.id, ending(step.ends, _answer(step, decided)))
        return _unsaid(step, decided)

    # --- meters ---

    async def _meter(self, step: Step, name: str) -> list[str]:
        meter = next((p.meters[name] for p in _policies(self.rules) if name in p.meters), None)
        if meter is None:
            return [f"no policy has a meter {name}"]
        self.coverage.looked(meter)
        usage = await self.store.sums(meter, self.clock.now)
        looked = (("held", step.held, usage.held), ("posted", step.posted, usage.posted))
        return [
            f"meter {name} has {Money(minor, wanted.currency)} {what}; expected {wanted}"
            for what, wanted, minor in looked
            if wanted is not None and wanted.minor != minor
        ]


_WAS: Final = {Outcome.ALLOW: "allowed", Outcome.GATE: "held", Outcome.DENY: "denied"}


def _answer(step: Step, call: Call) -> bytes:
    """Make the upstream's answer, in which it says what the call took where the step does."""
    return (saying(call, step.took) if step.took is not None else None) or NOTHING


def _unsaid(step: Step, ran: Call | None) -> list[str]:
    """Say why the upstream cannot say what the step says that the call took."""
    if step.took is None or (ran is not None and saying(ran, step.took) is not None):
        return []
    if ran is None or ran.amount is None:
        why = "it spends nothing"
    elif ran.terms.actual is None:
        why = "its price has no spend.actual"
    else:
        why = "spend.actual does not read that there"
    return [f"nothing can say that the call took {step.took}: {why}"]
