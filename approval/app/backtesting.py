"""Replay recorded calls under other rules: what would have been allowed, held or denied instead.

The real judge and the real limits decide, in a database of their own whose clock follows the
records; each call ends as it ended then, so that money that came back then comes back here. Only
calls that were kept can be replayed: those that people were asked about, and those that spent.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from approval.app.pretending import ending
from approval.app.rehearsing import Clock, stage
from approval.config.suites import Ending
from approval.core import canonical, identity
from approval.core.call import Call, Choice, Outcome, Status
from approval.core.rulebook import Rulebook
from approval.core.steps import Ballot
from approval.errors import Conflict, Forbidden, Refused, Unreadable
from approval.service import Service, Submission
from approval.store.store import SqlStore

PAGE: Final = 200

ENDINGS: Final[Mapping[Status, Ending]] = {
    Status.EXECUTED: Ending.EXECUTED,
    Status.ERRORED: Ending.ERRORED,
    Status.FAILED: Ending.FAILED,
    Status.IN_DOUBT: Ending.LOST,
    Status.EXECUTING: Ending.LOST,
}
"""How a call that ran is made to end; one that never ran is withdrawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A call that other rules would have treated otherwise, and the first reason they give."""

    call: Call
    then: Outcome
    now: Outcome
    code: str
    text: str


@dataclass(slots=True, kw_only=True)
class Backtest:
    """What a replay found: how often each verdict became which, and the calls that changed."""

    since: datetime
    matrix: Counter[tuple[Outcome, Outcome]] = field(default_factory=Counter)
    changed: list[Changed] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return self.matrix.total()


async def backtest(
    rules: Rulebook,
    store: SqlStore,
    *,
    since: datetime,
    upstream: str,
    told: Callable[[int], None],
) -> Backtest:
    """Replay an upstream's calls since then; `told` hears how many are done."""
    recorded = [call async for call in _recorded(store, since, upstream)]
    found = Backtest(since=since)
    if not recorded:
        return found
    clock = Clock(recorded[-1].created_at)
    async with stage(rules, clock) as (_, service):
        for number, call in enumerate(reversed(recorded), 1):
            clock.now = max(clock.now, call.created_at)
            await service.expire_due()
            outcome, code, text = await _replayed(service, call)
            then = Outcome.GATE if call.requirement.factors else Outcome.ALLOW
            found.matrix[then, outcome] += 1
            if outcome is not then:
                found.changed.append(
                    Changed(call=call, then=then, now=outcome, code=code, text=text)
                )
            told(number)
    return found


async def _recorded(store: SqlStore, since: datetime, upstream: str) -> AsyncIterator[Call]:
    """Give the upstream's calls, newest first."""
    after: str | None = None
    while True:
        page = await store.find(after=after, limit=PAGE)
        for call in page.calls:
            if call.created_at < since:
                return
            if call.asked.upstream == upstream:
                yield call
        after = page.next
        if after is None:
            return


async def _replayed(service: Service, call: Call) -> tuple[Outcome, str, str]:
    asked, arguments = call.asked, canonical.read(call.asked.arguments)
    verdict = service.rules.judge(asked.agent, asked.upstream, asked.tool, arguments)
    reason = verdict.reasons[0]
    if verdict.outcome is Outcome.DENY:
        return Outcome.DENY, reason.code, reason.text
    try:
        if verdict.outcome is Outcome.ALLOW and (
            verdict.demand is None or not verdict.demand.spends
        ):
            await service.allow(asked, verdict)
            return Outcome.ALLOW, reason.code, reason.text
        submission = await service.submit(asked, verdict)
    except Refused as refused:
        return Outcome.DENY, refused.code, str(refused)
    except Unreadable as error:
        return Outcome.DENY, error.reason, str(error)
    await _ended(service, submission, call)
    outcome = Outcome.GATE if submission.claimed_at is None else Outcome.ALLOW
    return outcome, reason.code, reason.text


async def _ended(service: Service, submission: Submission, recorded: Call) -> None:
    """Bring the replayed call to the end that the recorded one had."""
    call, ends = submission.call, ENDINGS.get(recorded.status)
    if submission.claimed_at is not None:
        service.carry_out(submission, ending(ends or Ending.FAILED))
        await service.changed(call)
        return
    if ends is None:
        await _withdrawn(service, call)
        return
    for person in sorted(identity.deciders(service.rules.directory, call)):
        ballot = Ballot(
            person=person,
            choice=Choice.APPROVE,
            digest=call.digest,
            via="backtest",
            amount=_typed(call, recorded),
        )
        try:
            call = await service.decide(call.id, ballot)
        except (Conflict, Forbidden):
            continue
        if call.status is Status.APPROVED:
            await service.execute(call.id, ending(ends))
            return
    await _withdrawn(service, call)


def _typed(call: Call, recorded: Call) -> str | None:
    """Type what the call cost then, if that may be typed; else the most that may."""
    if call.asking is None:
        return None
    cost = recorded.cost
    return str(cost if cost is not None and call.asking.admits(cost) else call.asking.up_to)


async def _withdrawn(service: Service, call: Call) -> None:
    if call.status in {Status.PENDING, Status.APPROVED}:
        await service.cancel(call.id, actor="backtest", reason="it never ran")
