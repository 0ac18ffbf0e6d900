"""Replay recorded calls under other rules: what would have been allowed, held or denied instead.

The real judge and the real limits decide, in a database of their own whose clock follows the
records. Each call ends as it ended then and takes what it took then, so that money that came back
or was overrun then does so here, and a freeze that somebody lifted is lifted. One call ends before
the next begins. Calls that were denied, or allowed at no price, were not kept, and grants that
people issued are not given again.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from approval.app.pretending import again, ending
from approval.app.rehearsing import Clock, stage
from approval.config.suites import Ending
from approval.core import canonical, identity
from approval.core.audit import Entry, Tag
from approval.core.call import Answer, Call, CallId, Choice, Outcome, Status
from approval.core.price import OnOverrun
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
    granted: int = 0
    """How many ran under grants that the rules do not hold: people issued those."""

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
    async with stage(rules, clock) as (own, service):
        replay = _Replay(store=own, service=service)
        for number, call in enumerate(reversed(recorded), 1):
            clock.now = max(clock.now, call.created_at)
            await service.expire_due()
            outcome, code, text = await replay.play(call, await store.answer(call.id))
            found.granted += _is_under_another_grant(call, rules)
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


def _is_under_another_grant(call: Call, rules: Rulebook) -> bool:
    return call.grant is not None and call.grant not in {each.id for each in rules.grants}


@dataclass(slots=True, kw_only=True)
class _Replay:
    """The stage, and which recorded call stands behind each that was begun on it."""

    store: SqlStore
    service: Service
    behind: dict[CallId, Call] = field(default_factory=dict)

    async def play(self, call: Call, kept: Answer | None) -> tuple[Outcome, str, str]:
        """Ask again for a recorded call, and end it as it ended; `kept` is its answer."""
        asked, arguments = call.asked, canonical.read(call.asked.arguments)
        verdict = self.service.rules.judge(asked.agent, asked.upstream, asked.tool, arguments)
        reason = verdict.reasons[0]
        if verdict.outcome is Outcome.DENY:
            return Outcome.DENY, reason.code, reason.text
        await self._lift(call)
        spends = verdict.demand is not None and verdict.demand.spends
        try:
            if verdict.outcome is Outcome.ALLOW and not spends:
                await self.service.allow(asked, verdict)
                return Outcome.ALLOW, reason.code, reason.text
            submission = await self.service.submit(asked, verdict)
        except Refused as refused:
            return Outcome.DENY, refused.code, str(refused)
        except Unreadable as error:
            return Outcome.DENY, error.reason, str(error)
        self.behind[submission.call.id] = call
        await self._end(submission, call, kept)
        outcome = Outcome.GATE if submission.claimed_at is None else Outcome.ALLOW
        return outcome, reason.code, reason.text

    async def _lift(self, recorded: Call) -> None:
        """Lift what was frozen then too: this call was admitted, so somebody had lifted it."""
        asked = recorded.asked
        for freeze in await self.store.freezes() if recorded.amount is not None else ():
            same = (freeze.agent, freeze.upstream, freeze.tool)
            if same == (asked.agent, asked.upstream, asked.tool) and _froze(
                self.behind[freeze.call_id]
            ):
                entry = Entry(
                    tag=Tag.FREEZE_LIFT, subject=freeze.call_id, actor="backtest", facts={}
                )
                await self.store.lift(freeze.call_id, entry)

    async def _end(self, submission: Submission, recorded: Call, kept: Answer | None) -> None:
        """Bring the replayed call to the end that the recorded one had."""
        call, ends = submission.call, ENDINGS.get(recorded.status)
        if submission.claimed_at is not None:
            send = ending(ends or Ending.FAILED, again(call, recorded, kept))
            self.service.carry_out(submission, send)
            await self.service.changed(call)
            return
        if ends is None:
            await self._withdraw(call)
            return
        for person in sorted(identity.deciders(self.service.rules.directory, call)):
            ballot = Ballot(
                person=person,
                choice=Choice.APPROVE,
                digest=call.digest,
                via="backtest",
                amount=_typed(call, recorded),
            )
            try:
                call = await self.service.decide(call.id, ballot)
            except (Conflict, Forbidden):
                continue
            if call.status is Status.APPROVED:
                await self.service.execute(call.id, ending(ends, again(call, recorded, kept)))
                return
        await self._withdraw(call)

    async def _withdraw(self, call: Call) -> None:
        if call.status in {Status.PENDING, Status.APPROVED}:
            await self.service.cancel(call.id, actor="backtest", reason="it never ran")


def _froze(recorded: Call) -> bool:
    freezes = recorded.terms.on_overrun is OnOverrun.FREEZE
    return freezes and any(each.overran for each in recorded.reservations)


def _typed(call: Call, recorded: Call) -> str | None:
    """Type what the call cost then, if that may be typed; else the most that may."""
    if call.asking is None:
        return None
    cost = recorded.cost
    return str(cost if cost is not None and call.asking.admits(cost) else call.asking.up_to)
