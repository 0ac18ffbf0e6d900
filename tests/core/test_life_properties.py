"""The laws of a call's life, over the pure core: whatever happens in whatever order."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import settings
from typing_extensions import override

from approval.core.audit import Entry
from approval.core.call import Call, CallId, Listener, Status, ToolCall
from approval.core.demand import Holdings
from approval.core.intake import REDELIVER
from approval.core.lifecycle import Change
from approval.errors import Refused
from approval.ports import Admission, Step
from tests.core.life_machine import LifeMachine, replayed
from tests.factories import Clock


class Dictionary:
    """The simplest thing that keeps calls as the store promises to."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls: dict[CallId, Call] = {}
        self.trail: list[Entry] = []
        self.high_water = clock.now

    def now(self) -> datetime:
        return max(self.clock.now, self.high_water)

    def admit(self, asked: ToolCall, step: Admission, process: str) -> Change:
        mine = [c for c in self.calls.values() if c.asked.agent == asked.agent]
        fresh = [c for c in mine if c.created_at > self.now() - REDELIVER]
        if asked.key and any(c.asked != asked for c in fresh if c.asked.key == asked.key):
            raise Refused("key_reused", "")
        equal = [c for c in mine if c.asked == asked]
        live = [c for c in equal if not c.status.ended]
        latest = next(reversed(live or equal), None)
        return self.keep(step(latest, Holdings(), self.now()))

    def advance(self, call_id: CallId, step: Step, process: str) -> Change:
        return self.keep(step(self.calls[call_id], self.now()))

    def keep(self, change: Change) -> Change:
        if change.event is not None:
            self.calls[change.call.id] = change.call
            self.trail.append(change.entry())
            self.high_water = self.now()
        return change

    def deliver(self, call_id: CallId, process: str) -> None:
        call = self.calls[call_id]
        if call.status.ended and call.delivered_at is None:
            self.calls[call_id] = replace(call, delivered_at=self.now())

    def listen(self, call_id: CallId, listener: Listener, process: str) -> None:
        call = self.calls[call_id]
        if not call.status.ended:
            self.calls[call_id] = replace(call, listener=listener, listener_owner=process)

    def get(self, call_id: CallId, process: str) -> Call:
        return self.calls[call_id]

    def due(self, process: str) -> Sequence[CallId]:
        return [call.id for call in self.calls.values() if timer(call) < self.now()]

    def close(self) -> None:
        kept = {str(call.id): (call.status, call.version) for call in self.calls.values()}
        assert replayed(self.trail) == kept  # 13


def timer(call: Call) -> datetime:
    """Say when the clock next has a word in this call."""
    match call.status:
        case Status.PENDING:
            return call.decide_before
        case Status.APPROVED if call.run_before is not None:
            return call.run_before
        case Status.EXECUTING if call.attempt is not None:
            return call.attempt.lease_until
        case _:
            return call.created_at + timedelta(days=10_000)


class CoreMachine(LifeMachine):
    @override
    def make_shelf(self, clock: Clock) -> Dictionary:
        return Dictionary(clock)


TestLives = CoreMachine.TestCase
TestLives.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
