"""A machine that spends at random, and watches that no money is lost, made, or spent twice.

Agents buy at prices that they state, soundly or not; people approve and reject; two processes claim
and send; upstreams answer with what they took, with errors, or not at all; days end meanwhile and
policies change. What keeps the money is a `Till`: a dictionary in the core's own test, the real
store in the store's. What it should hold is told here from the reservations alone, added up in
another way. The numbers name the properties of the design.
"""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import orjson
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from typing_extensions import override

from approval.core import canonical, intake, steps
from approval.core.call import (
    Answer,
    Call,
    CallId,
    Choice,
    Outcome,
    Status,
    ToolCall,
    Verdict,
    new_call_id,
)
from approval.core.demand import Demand, Holdings, Offer, under
from approval.core.intake import Lease
from approval.core.ledger import Kind, LedgerEntry, Reservation, State
from approval.core.lifecycle import Change, Event
from approval.core.meters import USES, Draw, Over, Usage
from approval.core.money import Money
from approval.core.price import OnError
from approval.core.refusals import Refusal
from approval.core.steps import Ballot
from approval.core.windows import Rolling
from approval.errors import Conflict, Forbidden, Unreadable
from approval.ports import Admission, Step
from tests.core.purchases import AGENTS, AMOUNTS, GRANT, RULES, TOOK, TYPED, USES_LEFT, as_typed
from tests.core.till import Row, Till
from tests.core.waiting import AllTaken, check_wait
from tests.factories import Clock, make_asked, make_directory

PROCESSES = ("first", "second")
LEASE = timedelta(seconds=75)
SPANS = ("1m", "1m", "6m", "3h", "11h", "25h", "midnight", "midnight")
UNITS = {"m": "minutes", "h": "hours"}


class MoneyMachine(RuleBasedStateMachine):
    """Subclass it with a `till`."""

    def make_till(self, clock: Clock) -> Till:
        raise AssertionError("a subclass gives the till")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.till = self.make_till(self.clock)
        self.rulebook = RULES["plain"]
        self.granted = False
        self.known: dict[CallId, Call] = {}
        self.sending: dict[CallId, str] = {}
        self.draws: dict[str, Draw] = {}
        self.moved: Counter[tuple[str, LedgerEntry]] = Counter()
        self.lowest: dict[tuple[CallId, str], int] = {}
        """What meters had room for: the least that each reservation took since it was made."""
        self.admitted: dict[str, list[datetime]] = {}
        """When calls were admitted, by the count that they raised."""
        self.number = 0

    # --- agents ---

    @rule(
        agent=st.sampled_from(sorted(AGENTS)),
        tool=st.sampled_from(OnError),
        amount=AMOUNTS,
        ask=st.booleans(),
        number=st.sampled_from([1, 2]),
        process=st.sampled_from(PROCESSES),
    )
    def buy(
        self, agent: str, tool: OnError, amount: object, ask: bool, number: int, process: str
    ) -> None:
        arguments = orjson.dumps({"amount": amount, "ask": ask, "number": number})
        asked = replace(
            make_asked(agent=agent, tool=tool.value),
            arguments=canonical.canonical(canonical.read(arguments, limit=1000)),
        )
        verdict = self.judge(asked)
        if verdict.outcome is Outcome.DENY:
            # 32, 33: whatever has no sound amount is never begun.
            assert not isinstance(amount, int) or isinstance(amount, bool) or not 1 <= amount <= 7
            return
        if verdict.outcome is Outcome.ALLOW and (not verdict.demand or not verdict.demand.spends):
            return  # it is counted, and kept nowhere
        offers = self.offers()
        change = self.till.admit(
            asked, verdict.demand, self.admission(asked, verdict, process), offers, process
        )
        if change.event in {Event.HOLD, Event.ALLOW}:
            self.check_begun(change, verdict, offers)
        if change.refusal is not None:
            self.check_refused(change, verdict, change.refusal)
        else:
            self.saw(change, process)

    def admission(self, asked: ToolCall, verdict: Verdict, process: str) -> Admission:
        def admit(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
            if existing is not None and intake.joins(existing, asked, now):
                return intake.join(existing, owner=process)
            self.number += 1
            call_id = new_call_id(now, self.number.to_bytes(10))
            lease = Lease(owner=process, span=LEASE)
            return intake.begin(asked, verdict, holdings, call_id=call_id, lease=lease, now=now)

        return admit

    def judge(self, asked: ToolCall) -> Verdict:
        arguments = canonical.read(asked.arguments, limit=1000)
        return self.rulebook.judge(asked.agent, asked.upstream, asked.tool, arguments)

    def offers(self) -> tuple[Offer, ...]:
        use = Draw(meter_id="uses", key=(), meter=USES_LEFT, amount=Money(1, USES))
        return (Offer(grant=GRANT, draws=(use,)),) if self.granted else ()

    # --- people and the clock ---

    @precondition(lambda self: self.any_is(Status.PENDING))
    @rule(
        data=st.data(),
        person=st.sampled_from(["ann", "bob", "bob"]),
        choice=st.sampled_from([Choice.APPROVE, Choice.APPROVE, Choice.APPROVE, Choice.REJECT]),
        typed=TYPED,
        process=st.sampled_from(PROCESSES),
    )
    def decide(
        self, data: st.DataObject, person: str, choice: Choice, typed: str, process: str
    ) -> None:
        self.vote(self.pick(data, Status.PENDING), person, choice, typed, process)

    def vote(self, call: Call, person: str, choice: Choice, typed: str, process: str) -> None:
        verdict = self.judge(call.asked)
        amount = typed if call.asking is not None and choice is Choice.APPROVE else None
        ballot = Ballot(person=person, choice=choice, digest=call.digest, via="web", amount=amount)
        with suppress(Forbidden, Unreadable, Conflict):
            self.advance(
                call,
                lambda call, now: steps.decide(
                    call, ballot, directory=make_directory(), verdict=verdict, now=now
                ),
                process,
            )

    @precondition(lambda self: self.any_is(Status.PENDING))
    @rule(
        data=st.data(),
        typed=TYPED,
        rules=st.sampled_from(["", *RULES]),
        process=st.sampled_from(PROCESSES),
    )
    def approve(self, data: st.DataObject, typed: str, rules: str, process: str) -> None:
        """Do what most people do: say yes. It may then run at once, under other rules."""
        call = self.pick(data, Status.PENDING)
        for person in ("ann", "bob"):
            if self.known[call.id].status is Status.PENDING:
                self.vote(self.known[call.id], person, Choice.APPROVE, typed, process)
        if rules and self.known[call.id].status is Status.APPROVED:
            self.rulebook = RULES[rules]
            self.run(self.known[call.id], process)

    @precondition(lambda self: self.any_is(Status.PENDING, Status.APPROVED))
    @rule(data=st.data(), process=st.sampled_from(PROCESSES))
    def cancel(self, data: st.DataObject, process: str) -> None:
        self.advance(
            self.pick(data, Status.PENDING, Status.APPROVED),
            lambda call, now: steps.cancel(call, actor="agent:x", reason="", now=now),
            process,
        )

    @rule(span=st.sampled_from(SPANS))
    def pass_time(self, span: str) -> None:
        if span == "midnight":
            tomorrow = self.clock.now + timedelta(days=1)
            self.clock.now = tomorrow.replace(hour=0, minute=0, second=0, microsecond=0)
        else:
            self.clock.advance(**{UNITS[span[-1]]: int(span[:-1])})

    @rule(process=st.sampled_from(PROCESSES))
    def sweep(self, process: str) -> None:
        for call in list(self.known.values()):
            if call.status is Status.EXECUTING:
                self.advance(call, lambda call, now: steps.lapse(call, now=now), process)
            elif not call.status.ended:
                self.advance(call, lambda call, now: steps.expire(call, now=now), process)

    @rule(
        policy=st.sampled_from(["plain", "plain", *RULES]),
        granted=st.booleans(),
        process=st.none() | st.sampled_from(PROCESSES),
    )
    def reload(self, policy: str, process: str | None, *, granted: bool) -> None:
        """Put rules in force; some process may not have come to look at what waits."""
        self.rulebook, self.granted = RULES[policy], granted
        if process is not None:
            for call in list(self.known.values()):
                self.review(call, process)

    def review(self, call: Call, process: str) -> None:
        verdict = self.rulebook.judge_waiting(call)
        self.advance(call, lambda call, now: steps.review(call, verdict, now=now), process)

    # --- processes and upstreams ---

    @precondition(lambda self: self.any_is(Status.APPROVED))
    @rule(data=st.data(), process=st.sampled_from(PROCESSES))
    def claim(self, data: st.DataObject, process: str) -> None:
        self.run(self.pick(data, Status.APPROVED), process)

    def run(self, call: Call, process: str) -> None:
        verdict = self.rulebook.judge_waiting(call)

        def step(call: Call, holdings: Holdings, now: datetime) -> Change:
            lease = Lease(owner=process, span=LEASE)
            return steps.claim(
                call, holdings, lease=lease, directory=make_directory(), verdict=verdict, now=now
            )

        change = self.till.claim(call.id, verdict.demand, step, process)
        self.check_claimed(call, change, verdict)
        self.saw(change, process)

    @precondition(lambda self: self.any_is(Status.EXECUTING, Status.IN_DOUBT))
    @rule(
        data=st.data(),
        found=st.sampled_from([Status.EXECUTED, Status.EXECUTED, Status.ERRORED, Status.FAILED]),
        took=TOOK,
    )
    def answer(self, data: st.DataObject, found: Status, took: object) -> None:
        call = self.pick(data, Status.EXECUTING, Status.IN_DOUBT)
        owner = call.attempt.owner if call.attempt else ""
        body = orjson.dumps({"result": {"structuredContent": {"took": took}}})
        answer = Answer(status=found, body=body)
        change = self.advance(
            call, lambda call, now: steps.answer(call, answer, owner=owner, now=now), owner
        )
        sound = isinstance(took, int) and not isinstance(took, bool) and 0 < took < 10**15
        self.check_settled(change, took if sound and isinstance(took, int) else None)

    @precondition(lambda self: self.any_is(Status.EXECUTING))
    @rule(data=st.data(), process=st.sampled_from(PROCESSES))
    def lose(self, data: st.DataObject, process: str) -> None:
        call = self.pick(data, Status.EXECUTING)
        self.advance(call, lambda call, now: steps.lose(call, why="", actor="service"), process)

    @precondition(lambda self: self.any_is(Status.IN_DOUBT))
    @rule(
        data=st.data(),
        executed=st.booleans(),
        took=st.one_of(st.none(), st.integers(0, 9)),
        process=st.sampled_from(PROCESSES),
    )
    def settle(self, data: st.DataObject, executed: bool, took: int | None, process: str) -> None:
        self.clock.advance(minutes=3)
        call = self.pick(data, Status.IN_DOUBT)
        # What failed, or never had a price, is settled without an amount.
        took = took if executed and call.amount is not None else None
        actual = None if took is None else Money(took, "USD")
        change = self.advance(
            call,
            lambda call, now: steps.settle(
                call, executed=executed, person="dora", evidence="", now=now, actual=actual
            ),
            process,
        )
        self.check_settled(change, took)

    # --- what must hold of each step ---

    def check_begun(self, change: Change, verdict: Verdict, offers: tuple[Offer, ...]) -> None:
        call, now = change.call, self.till.now()
        used = [offer for offer in offers if offer.grant == call.grant]
        assert (call.grant is None) or used  # 39: a revoked grant admits nothing
        if call.asking is not None:  # 33: it waits for somebody who types
            assert (change.event, call.grant, call.cost) == (Event.HOLD, None, None)
            assert call.amount == call.asking.up_to
        demand = under(verdict.demand, used) or Demand()
        made = {each.meter_id: each for each in call.reservations}
        assert made.keys() == {draw.meter_id for draw in demand.draws}  # 38
        for draw in demand.draws:
            over = self.overshoot(draw, now)
            reservation = made[draw.meter_id]
            assert reservation.override == over  # 27, and 37: an overrun blocks what follows
            if over:
                assert draw.meter.soft is not None
                assert change.event is Event.HOLD
                assert verdict.outcome is Outcome.GATE or draw.meter.over is Over.ASK
                approvers = [f.approvers for f in call.requirement.factors]
                assert draw.meter.soft.override_by in approvers
            self.draw(draw)
        for count in demand.counts:
            log = self.admitted.setdefault(count.key.id, [])
            log.append(now)
            assert len([at for at in log if at > now - count.rate.window]) <= count.rate.max  # 40

    def check_refused(self, change: Change, verdict: Verdict, why: Refusal) -> None:
        """31, 41: nobody is refused while there is room, and waiting as told is enough."""
        assert (change.event, change.bookings, change.taken) == (Event.DENY, (), ())
        check_wait(why, verdict, self.taken(), self.till.now())

    def check_claimed(self, before: Call, change: Change, verdict: Verdict) -> None:
        """36: what runs now counts in the window of now, once; and there is room for it there."""
        call, now, demand = change.call, self.till.now(), as_typed(verdict.demand, before)
        fit = all(self.fits(draw, before, now) for draw in demand.draws)
        if change.event is not Event.CLAIM:
            assert not fit or not call.note.startswith("budget")
            assert demand.asks or demand.amount != call.amount or call.note != "price_changed"
            return
        assert fit
        assert demand.amount in {None, call.amount}
        made = {each.meter_id: each for each in call.reservations}
        assert made.keys() >= {each.meter_id for each in before.reservations}
        for draw in demand.draws:
            self.draw(draw)
            window = draw.meter.window
            assert made[draw.meter_id].window_start == window.row(now)
            assert not isinstance(window, Rolling) or made[draw.meter_id].at == now

    def check_settled(self, change: Change, took: int | None) -> None:
        """37: what is known to have been taken is booked, and else what was reserved."""
        call = change.call
        for each in call.reservations:
            reserved = each.amount.minor
            known = reserved if took is None or each.amount.currency == USES else took
            if call.status is Status.ERRORED and call.terms.on_error is OnError.KEEP:
                known = max(known, reserved)
            is_void = call.status is Status.FAILED or (
                call.status is Status.ERRORED and call.terms.on_error is OnError.VOID
            )
            assert each.state is (State.VOID if is_void else State.POSTED)
            assert each.posted == (0 if is_void else known)
            assert each.overran is (not is_void and known > reserved)

    def advance(self, call: Call, step: Step, process: str) -> Change:
        change = self.till.advance(call.id, step, process)
        self.saw(change, process)
        return change

    def saw(self, change: Change, process: str) -> None:
        call = change.call
        self.known[call.id] = call
        for booking in change.bookings:
            reservation = booking.reservation
            key, taken = (call.id, reservation.meter_id), reservation.taken
            anew = any(entry.kind is Kind.RESERVE for entry in booking.entries)
            self.lowest[key] = taken if anew else min(taken, self.lowest[key])
            self.moved.update((call.id, entry) for entry in booking.entries)
        other = PROCESSES[process == PROCESSES[0]]
        assert self.till.get(call.id, other).reservations == call.reservations

    # --- what always holds ---

    @invariant()
    def no_window_is_beyond_its_limit(self) -> None:
        # 27, 39, and 35 for every instant: between two reservations the sum only falls.
        for draw in self.draws.values():
            meter, rows = draw.meter, self.rows(draw.meter_id)
            for _, last in rows:
                span = meter.window.span if isinstance(meter.window, Rolling) else None
                within = [
                    (call_id, each)
                    for call_id, each in rows
                    if (span is None and each.window_start == last.window_start)
                    or (span is not None and last.at - span < each.at <= last.at)
                ]
                overridden = sum(each.override for _, each in within)
                allowed = sum(self.lowest[call_id, each.meter_id] for call_id, each in within)
                assert allowed - overridden <= meter.limit.minor
                assert overridden <= (meter.soft.up_to.minor if meter.soft else 0)

    @invariant()
    def sums_are_those_of_the_reservations(self) -> None:
        # 28, in every process's eyes, and nothing else is anywhere.
        counted: dict[Row, Counter[str]] = {}
        for call in self.known.values():
            for each in call.reservations:
                row = counted.setdefault((each.meter_id, each.window_start), Counter())
                row["held" if each.state is State.HELD else "posted"] += each.taken
                row["overridden"] += each.override
        wanted = {row: Usage(**sums) for row, sums in counted.items()}
        for process in PROCESSES:
            kept = {row: usage for row, usage in self.till.sums(process).items() if usage.taken}
            assert kept == {row: usage for row, usage in wanted.items() if usage.taken}

    @invariant()
    def only_live_calls_hold_money_and_all_of_it(self) -> None:
        # 29
        for call in self.known.values():
            held = [each.state is State.HELD for each in call.reservations]
            assert not any(held) if call.status.ended else all(held)
            for each in call.reservations:
                assert each.amount == call.amount or each.amount.currency == USES

    @invariant()
    def what_runs_at_an_open_price_has_the_one_that_was_typed(self) -> None:
        # 33
        for call in self.known.values():
            if call.asking is None or call.status in {Status.PENDING, Status.REJECTED}:
                continue
            if call.attempt is not None or call.status is Status.APPROVED:
                assert {vote.amount for vote in call.approvals} == {call.amount}
                assert call.amount is not None
                assert 0 < call.amount.minor <= call.asking.up_to.minor

    @invariant()
    def every_trail_adds_up(self) -> None:
        # 30
        came: Counter[tuple[str, str]] = Counter()
        for (call_id, entry), times in self.moved.items():
            assert entry.amount > 0
            sign = {Kind.RESERVE: 1, Kind.OVERRUN: 1, Kind.POST: 0}.get(entry.kind, -1)
            came[call_id, entry.meter_id] += sign * entry.amount * times
        for call in self.known.values():
            for each in call.reservations:
                assert came[call.id, each.meter_id] == each.taken

    @override
    def teardown(self) -> None:
        for process in PROCESSES:
            assert self.till.entries(process) == self.moved
            for call in self.known.values():
                assert self.till.get(call.id, process).reservations == call.reservations
        self.till.close()

    # --- what is counted here in another way ---

    def draw(self, draw: Draw) -> None:
        """Remember the highest limit under which anything was reserved: a reload may lower it."""
        known = self.draws.setdefault(draw.meter_id, draw)
        if known.meter.limit < draw.meter.limit:
            self.draws[draw.meter_id] = draw

    def overshoot(self, draw: Draw, now: datetime) -> int:
        return self.taken().overshoot(draw, now)

    def fits(self, draw: Draw, call: Call, now: datetime) -> bool:
        """Say whether a call that waits fits in, with no more beyond than it was let pass."""
        passed = sum(e.override for e in call.reservations if e.meter_id == draw.meter_id)
        return self.taken(without=call).fits(draw, now, let_pass=passed)

    def taken(self, without: Call | None = None) -> AllTaken:
        """Give all that calls have taken, leaving out one."""
        others = [each for each in self.known.values() if without is None or each.id != without.id]
        return AllTaken(calls=others, admitted=self.admitted)

    def rows(self, meter_id: str) -> list[tuple[CallId, Reservation]]:
        return self.taken().rows(meter_id)

    def any_is(self, *states: Status) -> bool:
        return any(call.status in states for call in self.known.values())

    def pick(self, data: st.DataObject, *states: Status) -> Call:
        return data.draw(
            st.sampled_from([each for each in self.known.values() if each.status in states])
        )
