"""The story in order: submit, decide, claim, send, settle, deliver; and what the clock ends.

Every change is one transaction of the store (state, audit entry, notice) around a pure step. This
module adds what a transaction cannot hold: who in this process is waiting, and when to send.
"""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Collection, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Self

from approval import alarms
from approval.budgets import Budgets, limits_of
from approval.core import admission, identity, intake, parking, steps
from approval.core.audit import Entry, Tag, Written
from approval.core.call import (
    Answer,
    Call,
    CallId,
    CallPage,
    Listener,
    OnDisconnect,
    Status,
    ToolCall,
    Verdict,
    new_call_id,
)
from approval.core.demand import Count, Demand, Holdings
from approval.core.identity import Right
from approval.core.intake import Lease
from approval.core.lifecycle import Change, Event
from approval.core.refusals import Refusal
from approval.core.rulebook import Rulebook
from approval.core.steps import Ballot
from approval.errors import Conflict, Forbidden, NotFound, Refused, StoreUnavailable, Unreadable
from approval.freezing import Freezing
from approval.granting import Granting
from approval.keyring import Keyring, Randomness
from approval.ports import Claim, Send, Step, Store
from approval.releasing import Releasing
from approval.sending import Sender, Settings
from approval.settling import Settling
from approval.wakeups import Wakeups

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A call that is kept, as the gateway gets it back, and whether it was there before."""

    call: Call
    joined: bool
    claimed_at: float | None = None
    """When it was claimed as it began, by the monotonic clock; None if it was not."""


class Service:
    """One service on one store. Leaving it waits for sends: each ends by its upstream's time limit.

    Whoever holds a line or sends must enter it: that writes that it lives.
    """

    def __init__(self, store: Store, rules: Rulebook, settings: Settings | None = None) -> None:
        self.keyring = Keyring(store, rules.directory)
        self.settings = settings = settings or Settings()
        self.instance = secrets.token_hex(8)
        self._store = store
        self._rules = rules
        self.budgets = Budgets(store, lambda: self.rules)
        self.freezing = Freezing(store, lambda: self.rules)
        self.granting = Granting(store, lambda: self.rules)
        self.releasing = Releasing(self._advance, store, lambda: self.rules)
        self.settling = Settling(self._advance, lambda: self.rules)
        self.wakeups = Wakeups()
        self._sender = Sender(self._advance, store, owner=self.instance, timeout=settings.timeout)
        self._attached: Counter[CallId] = Counter()
        self._lines: Counter[str] = Counter()
        self._mark = -1
        self._randomness = Randomness(10)
        self.released = asyncio.Event()
        """Set when a call may be waiting for the worker to send it."""

    @property
    def rules(self) -> Rulebook:
        """The rules in force."""
        return self._rules

    async def __aenter__(self) -> Self:
        # What may fail comes first: a task group would wrap it, and nobody would know it again.
        await self.poll()
        await self.keyring.refresh()
        await self._store.heartbeat(self.instance)
        self._exit = AsyncExitStack()
        self._tasks = await self._exit.enter_async_context(asyncio.TaskGroup())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._exit.aclose()

    # --- agents ask ---

    async def allow(self, asked: ToolCall, verdict: Verdict) -> CallId:
        """Put a plainly allowed call on disk, and count it. When this returns the call may leave.

        Raises:
            NoRoom: If a rate is reached; nothing but the denial is written then.
            ValueError: If the call spends: money needs a record (`submit`).
        """
        if verdict.demand is not None and verdict.demand.spends:
            raise ValueError("a call that spends is submitted")
        call_id = new_call_id(await self._store.now(), self._randomness())
        facts = {
            "agent": asked.agent,
            "arguments": asked.arguments_digest,
            "policy": verdict.policy_digest,
            "tool": asked.tool,
            "upstream": asked.upstream,
        }
        entry = Entry(
            tag=Tag.CALL_ALLOW, subject=call_id, actor=f"agent:{asked.agent}", facts=facts
        )
        if verdict.demand is None:
            await self._store.journal(entry)
        else:
            await self._count(asked, verdict, verdict.demand.counts, entry)
        return call_id

    async def _count(
        self, asked: ToolCall, verdict: Verdict, counts: tuple[Count, ...], entry: Entry
    ) -> None:
        def denial(why: Refusal) -> Entry:
            return intake.denial(asked, admission.denied(verdict, why), entry.subject)

        counted = await self._store.count(
            counts, lambda held, now: admission.counted(entry, counts, held, now, denial)
        )
        if counted.refusal is not None:
            raise admission.no_room(counted.refusal)

    def answered(self, call_id: CallId, upstream: str, outcome: str) -> None:
        """Note what became of a plainly allowed call; it rides the next commit."""
        self._store.journal_later(
            Entry(
                tag=Tag.CALL_ANSWER,
                subject=call_id,
                actor=f"upstream:{upstream}",
                facts={"outcome": outcome},
            )
        )

    async def deny(self, asked: ToolCall, verdict: Verdict) -> None:
        """Put a denied call in the trail. It does not run whether or not this succeeds."""
        call_id = new_call_id(await self._store.now(), self._randomness())
        await self._store.journal(intake.denial(asked, verdict, call_id))

    async def submit(self, asked: ToolCall, verdict: Verdict) -> Submission:
        """Begin a call that is held or spends, or join the equal one that is there already.

        When this returns the call is on disk. Leave a matching `attached` context around whatever
        waits for it. One that comes back `claimed` is this caller's to `carry_out`.

        Raises:
            Refused: If the agent holds too many calls, or gave a key that stands for another call.
            NoRoom: If a limit has no room for it, or too many of the agent's calls wait for people;
                nothing but the denial is written then.
            StoreUnavailable: If nothing was written; nothing is held then.
        """
        if self._lines[asked.agent] >= self.settings.max_in_flight:
            text = f"{self.settings.max_in_flight} calls of this agent are already held."
            raise Refused("too_many_in_flight", text, retryable=True)
        asked_at = time.monotonic()
        step = partial(self._admission, asked, verdict)
        change = await self._store.admit(
            asked,
            verdict.demand,
            step,
            lambda issued: self.rules.offers(asked, verdict, issued),
            self.rules.directory.max_pending(asked.agent),
        )
        if change.refusal is not None:
            raise admission.no_room(change.refusal)
        self._publish(change)
        return Submission(
            call=change.call,
            joined=change.event not in _BEGINNINGS,
            claimed_at=asked_at if change.event is Event.ALLOW else None,
        )

    def _admission(
        self,
        asked: ToolCall,
        verdict: Verdict,
        existing: Call | None,
        holdings: Holdings,
        now: datetime,
    ) -> Change:
        if existing is not None and intake.joins(existing, asked, now):
            return intake.join(existing, owner=self.instance)
        call_id = new_call_id(now, self._randomness())
        lease = self._lease(asked.upstream)
        return intake.begin(asked, verdict, holdings, call_id=call_id, lease=lease, now=now)

    def _lease(self, upstream: str) -> Lease:
        span = self.settings.timeout(upstream) + self.settings.lease_margin
        return Lease(owner=self.instance, span=span)

    @contextmanager
    def attached(self, call: Call) -> Iterator[None]:
        """Hold the line for a call: while inside, this process runs it when it is approved.

        Say `told` before leaving if the agent was told that the call is pending; leaving without
        that means that it hung up before it knew.
        """
        self._attached[call.id] += 1
        self._lines[call.asked.agent] += 1
        try:
            yield
        finally:
            self._lines[call.asked.agent] -= 1
            self._attached[call.id] -= 1
            if not self._attached[call.id]:
                del self._attached[call.id]
                self._spawn(self._left(call))

    async def told(self, call: Call) -> None:
        """Note that the agent is being told that its call is pending, and how to collect it."""
        await self._store.listen(call.id, Listener.TOLD, self.instance)

    async def _left(self, call: Call) -> None:
        if self._attached[call.id]:
            return  # a repeat took over the line meanwhile
        if call.requirement.on_disconnect is OnDisconnect.CANCEL:
            now = await self._store.get(call.id)
            if now.listener is Listener.WAITING and now.listener_owner == self.instance:
                await self.cancel(call.id, actor=f"agent:{call.asked.agent}", reason="it hung up")
            return
        known = self.wakeups.latest(call.id)
        if known is None or not known.status.ended:
            # No reading first: thousands may hang up at once, and writes share a commit.
            await self._store.listen(call.id, Listener.GONE, self.instance)

    async def changed(self, call: Call) -> Call:
        """Wait until the call is no longer as it is here, and answer it as it is then."""
        with self.wakeups.watching(call.id) as future:
            found = self.wakeups.latest(call.id)
            if found is None or found.version < call.version:
                found = await self._store.get(call.id)
            if found.version != call.version:
                return found
            return await future or await self._store.get(call.id)

    async def get(self, call_id: CallId) -> Call:
        """Read one call; `NotFound` if there is none. Who may see it is the asker's edge to say."""
        return await self._store.get(call_id)

    async def answer(self, call: Call) -> Answer | None:
        """Read what the upstream answered to this call, while that is kept.

        A call that was never claimed has no answer, and nothing is read then: whoever has just
        decided would make the claim wait for it.
        """
        return await self._store.answer(call.id) if call.attempt is not None else None

    async def delivered(self, call: Call) -> None:
        """Note that the agent was handed the call's outcome."""
        await self._store.deliver(call.id)

    # --- people decide ---

    async def decide(self, call_id: CallId, ballot: Ballot) -> Call:
        """Apply a person's decision. Every way to decide, whatever its surface, ends here.

        Raises:
            NotFound: If there is no such call, or none this person may see.
            Forbidden: If this person may not decide it.
            Conflict: If it is decided already, is another one than was shown, or has ended.
            Unreadable: If the amount is not what may be typed for it.
        """

        def step(call: Call, now: datetime) -> Change:
            return steps.decide(
                call, ballot, directory=self.rules.directory, verdict=self._judge(call), now=now
            )

        try:
            change = await self._advance(call_id, step)
        except (Conflict, Forbidden, Unreadable) as refusal:
            await self._refused(call_id, ballot, str(refusal))
            raise
        if change.event in _STANDING or change.event is None:
            return change.call
        await self._refused(call_id, ballot, f"the call is {change.call.status}")
        raise Conflict(f"too late: the call is {change.call.status}")

    async def _refused(self, call_id: CallId, ballot: Ballot, why: str) -> None:
        facts = {"choice": ballot.choice, "via": ballot.via, "why": why}
        actor = f"person:{ballot.person}"
        await self._store.journal(
            Entry(tag=Tag.DECISION_REFUSE, subject=call_id, actor=actor, facts=facts)
        )

    async def cancel(self, call_id: CallId, *, actor: str, reason: str) -> Call:
        """Withdraw a call that has not been claimed.

        Raises:
            Conflict: If it has been claimed or has ended.
        """
        step = partial(steps.cancel, actor=actor, reason=reason)
        return (await self._advance(call_id, lambda call, now: step(call, now=now))).call

    def may_see(self, person: str, call: Call) -> bool:
        """Say whether this person may look at this call."""
        directory = self.rules.directory
        agent = directory.agents.get(call.asked.agent)
        return (
            directory.has_right(person, Right.READ_ALL)
            or person in identity.deciders(directory, call)
            or any(vote.person == person for vote in call.votes)
            or (agent is not None and agent.owner == person)
        )

    async def find(
        self,
        person: str,
        *,
        states: Collection[Status] = (),
        after: str | None = None,
        limit: int = 50,
    ) -> CallPage:
        """Read a page of the calls this person may see, newest first."""
        found: list[Call] = []
        while True:
            page = await self._store.find(states=states, after=after, limit=limit - len(found))
            found += [call for call in page.calls if self.may_see(person, call)]
            after = page.next
            if after is None or len(found) >= limit:
                return CallPage(calls=tuple(found), next=after)

    async def trail(
        self, *, after: int = 0, limit: int = 100, subject: str | None = None
    ) -> tuple[Written, ...]:
        return await self._store.trail(after=after, limit=limit, subject=subject)

    # --- release ---

    def start(self, call_id: CallId, send: Send) -> None:
        """Run an approved call in the background. Of several starts one has the claim."""
        self._spawn(self.execute(call_id, send))

    async def execute(self, call_id: CallId, send: Send) -> Call:
        """Claim, send, settle: in this order, whatever happens.

        Raises:
            Conflict: If the call is not approved, or somebody else has claimed it.
        """
        asked_at = time.monotonic()
        change = await self._store.claim(call_id, self._claiming)
        self._publish(change)
        if change.event is not Event.CLAIM:
            return change.call
        return await self._sender.run(change.call, send, asked_at)

    def carry_out(self, submission: Submission, send: Send) -> None:
        """Send, in the background, a call that was claimed as it began."""
        if submission.claimed_at is not None:
            self._spawn(self._sender.run(submission.call, send, submission.claimed_at))

    def _claiming(self, call: Call) -> tuple[Demand | None, Claim]:
        rules = self.rules
        verdict = rules.judge_waiting(call)

        def step(locked: Call, holdings: Holdings, now: datetime) -> Change:
            return steps.claim(
                locked,
                holdings,
                lease=self._lease(call.asked.upstream),
                directory=rules.directory,
                verdict=verdict,
                now=now,
            )

        return verdict.demand, step

    # --- the clock ---

    async def expire_due(self) -> int:
        """End what is past its deadline or lease. Returns how many calls changed."""
        changed = 0
        for call_id in await self._store.due():
            try:
                changed += (await self._tick(call_id)).event is not None
            except StoreUnavailable:
                raise
            except Exception:  # one call's trouble must not keep the others past their deadline
                log.exception("a due call could not be ended", extra={"call": call_id})
        return changed

    async def _tick(self, call_id: CallId) -> Change:
        def step(call: Call, now: datetime) -> Change:
            if call.status is Status.EXECUTING:
                return steps.lapse(call, now=now)
            return steps.expire(call, now=now)

        return await self._advance(call_id, step)

    async def release_due(self, send: Send) -> int:
        """Start approved calls that nobody waits for and that may run all the same."""
        self.released.clear()
        started, after = 0, None
        while True:
            page = await self._store.find(states={Status.APPROVED}, after=after, limit=200)
            living = await self._store.living() if page.calls else frozenset()
            for call in page.calls:
                if self._is_ours_to_release(call, living):
                    self.start(call.id, send)
                    started += 1
            after = page.next
            if after is None:
                return started

    def _is_ours_to_release(self, call: Call, living: frozenset[str]) -> bool:
        waiting = call.listener is Listener.WAITING and call.listener_owner in living
        return not self._attached[call.id] and not waiting and parking.releasable(call)

    async def poll(self) -> None:
        """Learn what other processes on the same store have changed."""
        changed, self._mark = await self._store.changes(self._mark)
        for subject, version in changed:
            if subject == "credentials":
                await self.keyring.refresh()
            elif self.wakeups.hint(CallId(subject), version):
                self.released.set()

    async def heartbeat(self) -> None:
        await self._store.heartbeat(self.instance)

    async def adopt(self, rules: Rulebook, entry: Entry) -> None:
        """Put new rules in force, and hold every waiting call against them."""
        await self._store.journal(entry)
        self._rules = rules
        self.keyring.adopt(rules.directory)
        waiting = {Status.PENDING, Status.APPROVED}
        after: str | None = None
        while True:
            page = await self._store.find(states=waiting, after=after, limit=200)
            for call in page.calls:
                await self._advance(call.id, self._review)
            after = page.next
            if after is None:
                return

    def _review(self, call: Call, now: datetime) -> Change:
        return steps.review(call, self._judge(call), now=now)

    async def note(self, entry: Entry) -> None:
        """Write something about the service itself into the trail."""
        await self._store.journal(entry)

    # --- inside ---

    def _judge(self, call: Call) -> Verdict:
        return self.rules.judge_waiting(call)

    async def _advance(self, call_id: CallId, step: Step) -> Change:
        change = await self._store.advance(call_id, step, partial(limits_of, self.rules))
        self._publish(change)
        return change

    def _publish(self, change: Change) -> None:
        alarms.sound(change)
        if change.event is not None:
            self.released.set()
            self.wakeups.wake(change.call.id, change.call)

    def _spawn(self, work: Coroutine[object, object, object]) -> None:
        self._tasks.create_task(_quietly(work))


_BEGINNINGS: Final = frozenset({Event.HOLD, Event.ALLOW})
_STANDING: Final = frozenset({Event.ENDORSE, Event.APPROVE, Event.REJECT, Event.REVOKE})


async def _quietly(work: Coroutine[object, object, object]) -> None:
    """Keep one call's trouble from ending the others: a task group falls with its first error."""
    try:
        await work
    except (Conflict, NotFound):
        log.debug("somebody else was first")
    except StoreUnavailable as error:  # thousands may meet it at once
        log.warning("work in the background failed: %s", error)
    except Exception:
        log.exception("work in the background failed")
