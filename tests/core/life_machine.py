"""A machine that lives many calls at random, and watches that every one of them lives lawfully.

Agents ask and repeat, people decide, two processes claim, send and crash, the clock sweeps, the
policy and the people change underneath. What keeps the calls is a `Shelf`: a dictionary in the
core's own test, the real store in the store's. The numbers name the properties of the design.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from typing_extensions import override

from approval.core import intake, parking, steps
from approval.core.audit import Entry
from approval.core.call import (
    Answer,
    Call,
    CallId,
    Choice,
    Factor,
    Listener,
    Outcome,
    Requirement,
    Status,
    ToolCall,
    new_call_id,
)
from approval.core.demand import Holdings
from approval.core.identity import Directory
from approval.core.intake import Lease
from approval.core.lifecycle import TRANSITIONS, Change, Event
from approval.core.parking import Word
from approval.core.steps import Ballot
from approval.errors import Conflict, Forbidden, Refused
from approval.ports import Admission, Step
from tests.factories import (
    NOTHING,
    Clock,
    make_asked,
    make_directory,
    make_requirement,
    make_verdict,
)

BOTH = make_requirement(factors=(Factor(approvers=("finance",), approvals=2),))
NOT_OWNER = make_requirement(factors=(Factor(approvers=("everybody",)),))
ANYBODY = make_requirement(factors=(Factor(approvers=("everybody",)),), not_owner=False)
SHORT = make_requirement(timeout=timedelta(minutes=2), run_within=timedelta(minutes=1))
VERDICTS = {
    "one": make_verdict(),
    "both": make_verdict(requirement=BOTH, policy_digest="b" * 64),
    "anybody": make_verdict(requirement=ANYBODY, policy_digest="a" * 64),
    "not owner": make_verdict(requirement=NOT_OWNER, policy_digest="n" * 64),
    "short": make_verdict(requirement=SHORT, policy_digest="s" * 64),
    "allow": make_verdict(Outcome.ALLOW),
    "deny": make_verdict(Outcome.DENY),
}
DIRECTORIES = {
    "all": make_directory(),
    "no ann": make_directory(groups={"finance": ("bob",), "everybody": ("bob", "carl")}),
    "nobody": Directory(),
}
PEOPLE = ("ann", "ann", "bob", "bob", "carl", "dora", "ops-agent")
PROCESSES = ("first", "second")
LEASE = timedelta(seconds=75)
# What is named more often happens more often: too much ruin, and no call would ever get far.
SPANS = ("1s", "1s", "1s", "1m", "1m", "5m", "14m", "20m", "3h", "25h", "-1h")
POLICIES = (
    *("one", "one", "one", "both", "both"),
    *("anybody", "anybody", "not owner", "short", "allow", "deny"),
)
CHANGES_OF_PEOPLE = ("all", "all", "all", "all", "all", "no ann", "nobody")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}

Standing = tuple[Status, int]


class Shelf(Protocol):
    """What keeps the calls. `process` says through whose eyes; all must see the same."""

    def admit(self, asked: ToolCall, step: Admission, process: str) -> Change: ...

    def advance(self, call_id: CallId, step: Step, process: str) -> Change: ...

    def deliver(self, call_id: CallId, process: str) -> None: ...

    def listen(self, call_id: CallId, listener: Listener, process: str) -> None: ...

    def get(self, call_id: CallId, process: str) -> Call: ...

    def due(self, process: str) -> Sequence[CallId]: ...

    def now(self) -> datetime: ...

    def close(self) -> None: ...


class LifeMachine(RuleBasedStateMachine):
    """Subclass it with a `shelf`."""

    def make_shelf(self, clock: Clock) -> Shelf:
        raise AssertionError("a subclass gives the shelf")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.shelf = self.make_shelf(self.clock)
        self.verdict = VERDICTS["one"]
        self.directory = DIRECTORIES["all"]
        self.known: dict[CallId, Call] = {}
        self.story: dict[CallId, list[Event]] = {}
        self.sending: dict[CallId, str] = {}
        self.sent: Counter[CallId] = Counter()
        self.approved_digest: dict[CallId, object] = {}
        self.number = 0

    # --- agents ---

    @rule(
        agent=st.sampled_from(["ops-agent", "other-agent"]),
        number=st.sampled_from([1, 2]),
        key=st.sampled_from(["", "k"]),
        process=st.sampled_from(PROCESSES),
    )
    def ask(self, agent: str, number: int, key: str, process: str) -> None:
        if self.verdict.outcome is not Outcome.GATE:
            return
        asked = make_asked({"number": number}, agent=agent, key=key)
        with refusals():
            self.saw(self.shelf.admit(asked, self.admission(asked, process), process))

    def admission(self, asked: ToolCall, process: str) -> Admission:
        verdict = self.verdict

        def admit(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
            if existing is not None and intake.joins(existing, asked, now):
                return intake.join(existing, owner=process)
            self.number += 1
            # While the clock stands still, ids do not tell which call is the latest.
            chance = self.number if self.number % 2 else 2**79 - self.number
            call_id = new_call_id(now, chance.to_bytes(10))
            lease = Lease(owner=process, span=LEASE)
            return intake.begin(asked, verdict, holdings, call_id=call_id, lease=lease, now=now)

        return admit

    @precondition(lambda self: self.known)
    @rule(
        data=st.data(),
        word=st.sampled_from([*Listener, "collect", "collect", "cancel"]),
        process=st.sampled_from(PROCESSES),
    )
    def say(self, data: st.DataObject, word: str, process: str) -> None:
        """Wait, hear that it is pending, hang up, collect the outcome, cancel."""
        call_id = self.pick(data)
        if word == "cancel":
            self.cancel(call_id, process)
            return
        if word == "collect":
            self.shelf.deliver(call_id, process)
        else:
            self.shelf.listen(call_id, Listener(word), process)
        self.known[call_id] = self.shelf.get(call_id, process)

    def cancel(self, call_id: CallId, process: str) -> None:
        with refusals():
            self.advance(
                call_id,
                lambda call, now: steps.cancel(call, actor="agent:x", reason="", now=now),
                process,
            )

    # --- people ---

    @precondition(lambda self: self.any_is(Status.PENDING) or len(self.known) > 2)
    @rule(
        data=st.data(),
        person=st.sampled_from(PEOPLE),
        choice=st.sampled_from([Choice.APPROVE, Choice.APPROVE, Choice.APPROVE, Choice.REJECT]),
        card=st.sampled_from(["fresh", "fresh", "fresh", "stale", "none"]),
        process=st.sampled_from(PROCESSES),
    )
    def decide(
        self, data: st.DataObject, person: str, choice: Choice, card: str, process: str
    ) -> None:
        self.decide_with(data, person, choice, card, process)

    def decide_with(
        self, data: st.DataObject, person: str, choice: Choice, card: str, process: str
    ) -> None:
        call = self.known[self.pick(data, Status.PENDING)]
        digest = {"fresh": call.digest, "stale": "0" * 64, "none": None}[card]
        ballot = Ballot(person=person, choice=choice, digest=digest, via="web")
        with refusals():
            first = self.vote(call.id, ballot, process)
            # 24: a card of another call never has an effect.
            assert card != "stale" or first.event is None
            if first.event is not None and first.event is not Event.EXPIRE:
                self.votes_again(call.id, ballot)

    @precondition(lambda self: self.any_is(Status.PENDING))
    @rule(
        data=st.data(),
        person=st.sampled_from(["ann", "bob", "carl"]),
        process=st.sampled_from(PROCESSES),
    )
    def approve(self, data: st.DataObject, person: str, process: str) -> None:
        """Do what most people do: look at the card and say yes."""
        with refusals():
            self.decide_with(data, person, Choice.APPROVE, "fresh", process)

    def votes_again(self, call_id: CallId, ballot: Ballot) -> None:
        """23: the same click, delivered again to whichever process, changes nothing."""
        if self.known[call_id].status is Status.INVALIDATED:
            return
        for process in PROCESSES:
            assert self.vote(call_id, ballot, process).event is None

    def vote(self, call_id: CallId, ballot: Ballot, process: str) -> Change:
        directory, verdict = self.directory, self.verdict
        return self.advance(
            call_id,
            lambda call, now: steps.decide(
                call, ballot, directory=directory, verdict=verdict, now=now
            ),
            process,
        )

    @precondition(lambda self: self.any_is(Status.APPROVED))
    @rule(data=st.data(), person=st.sampled_from(PEOPLE), process=st.sampled_from(PROCESSES))
    def run_now(self, data: st.DataObject, person: str, process: str) -> None:
        call = self.known[self.pick(data, Status.APPROVED)]
        word = Word(person=person, digest=call.digest, via="web")
        people, verdict = self.directory, self.verdict
        with refusals():
            self.advance(
                call.id,
                lambda call, now: parking.release(
                    call, word, directory=people, verdict=verdict, now=now
                ),
                process,
            )

    @precondition(lambda self: self.any_is(Status.IN_DOUBT))
    @rule(
        data=st.data(),
        executed=st.booleans(),
        patient=st.booleans(),
        process=st.sampled_from(PROCESSES),
    )
    def settle(self, data: st.DataObject, executed: bool, patient: bool, process: str) -> None:
        call_id = self.pick(data, Status.IN_DOUBT)
        self.clock.advance(minutes=3 if patient else 0)
        with refusals():
            self.advance(
                call_id,
                lambda call, now: steps.settle(
                    call, executed=executed, person="dora", evidence="", now=now
                ),
                process,
            )

    # --- processes ---

    @precondition(lambda self: self.any_is(Status.APPROVED) or self.any_is(Status.EXECUTING))
    @rule(
        data=st.data(),
        prefer=st.sampled_from([Status.APPROVED, Status.APPROVED, Status.EXECUTING]),
        process=st.sampled_from(PROCESSES),
    )
    def claim(self, data: st.DataObject, prefer: Status, process: str) -> None:
        directory, verdict = self.directory, self.verdict
        with refusals():
            self.advance(
                self.pick(data, prefer),
                lambda call, now: steps.claim(
                    call,
                    NOTHING,
                    lease=Lease(owner=process, span=LEASE),
                    directory=directory,
                    verdict=verdict,
                    now=now,
                ),
                process,
            )

    @precondition(lambda self: self.sending)
    @rule(
        data=st.data(),
        found=st.sampled_from([Status.EXECUTED, Status.ERRORED, Status.FAILED, None]),
        impostor=st.sampled_from([False, False, False, True]),
    )
    def answer(self, data: st.DataObject, found: Status | None, impostor: bool) -> None:
        """The upstream answers or the line breaks: in time, late, or after a person settled."""
        open_ones = [call_id for call_id in self.sending if not self.known[call_id].status.ended]
        call_id = data.draw(st.sampled_from(open_ones or sorted(self.sending)))
        owner = self.sending[call_id]
        with refusals():
            if found is None:
                self.advance(
                    call_id, lambda call, now: steps.lose(call, why="", actor="service"), owner
                )
                return
            answer = Answer(status=found, body=b'{"result":{}}')
            claimed = "impostor" if impostor else owner
            self.advance(
                call_id,
                lambda call, now: steps.answer(call, answer, owner=claimed, now=now),
                owner,
            )
            assert not impostor

    @rule(process=st.sampled_from(PROCESSES))
    def sweep(self, process: str) -> None:
        for call_id in self.shelf.due(process):
            self.tick(call_id, process)
        # 20: whatever was due has fired; nothing is due to the other process.
        assert [list(self.shelf.due(each)) for each in PROCESSES] == [[], []]

    def tick(self, call_id: CallId, process: str) -> None:
        def step(call: Call, now: datetime) -> Change:
            if call.status is Status.EXECUTING:
                return steps.lapse(call, now=now)
            return steps.expire(call, now=now)

        change = self.advance(call_id, step, process)
        assert change.event in {Event.EXPIRE, Event.LOSE}

    # --- the world ---

    @rule(span=st.sampled_from(SPANS))
    def pass_time(self, span: str) -> None:
        self.clock.advance(**{UNITS[span[-1]]: int(span[:-1])})

    @rule(
        policy=st.sampled_from(POLICIES),
        people=st.sampled_from(CHANGES_OF_PEOPLE),
        review=st.booleans(),
    )
    def reload(self, policy: str, people: str, review: bool) -> None:
        self.verdict, self.directory = VERDICTS[policy], DIRECTORIES[people]
        verdict = self.verdict
        for call_id in list(self.known) if review else ():
            self.advance(
                call_id, lambda call, now: steps.review(call, verdict, now=now), PROCESSES[0]
            )

    # --- what must hold ---

    def advance(self, call_id: CallId, step: Step, process: str) -> Change:
        change = self.shelf.advance(call_id, step, process)
        self.saw(change)
        return change

    def saw(self, change: Change) -> None:
        call, event = change.call, change.event
        if event is None:
            assert plain(change.call) == plain(self.known[call.id])
            return
        before = self.known.get(call.id)
        self.check_move(before, change)
        self.known[call.id] = call
        self.story.setdefault(call.id, []).append(event)
        match event:
            case Event.APPROVE:
                self.check_approval(change)
            case Event.REJECT:
                assert self.shelf.now() <= call.decide_before
            case Event.CLAIM:
                self.check_claim(change)
                self.sending[call.id] = (call.attempt and call.attempt.owner) or ""
                self.sent[call.id] += 1
            case _:
                pass

    def check_move(self, before: Call | None, change: Change) -> None:
        event, call = change.event, change.call
        assert event is not None
        assert change.previous == (before and before.status)
        assert TRANSITIONS[change.previous, event].target is call.status  # 11
        assert call.version == (before.version + 1 if before else 1)  # 11
        assert before is None or not before.status.ended  # 12
        assert (call.ended_at is not None) is call.status.ended
        if event in {Event.SUCCEED_LATE, Event.ERR_LATE}:
            assert change.previous is Status.IN_DOUBT  # 18

    def check_approval(self, change: Change) -> None:
        call, now = change.call, self.shelf.now()
        self.check_votes(call)
        for demand in self.demands(call):
            assert now <= call.created_at + demand.timeout
        assert now <= call.decide_before
        assert self.verdict.outcome is not Outcome.DENY
        self.approved_digest[call.id] = change.facts["digest"]

    def demands(self, call: Call) -> list[Requirement]:
        now = self.verdict.requirement
        return [call.requirement] if now is None else [call.requirement, now]

    def check_votes(self, call: Call) -> None:
        """21, 22: enough of those who are eligible now, counted here in another way."""
        agent = self.directory.agents.get(call.asked.agent)
        lenient = all(not demand.not_owner for demand in self.demands(call))
        owner = agent.owner if agent is not None and not lenient else None
        for demand in self.demands(call):
            never = {call.asked.agent, owner}
            for factor in demand.factors:
                members = {m for name in factor.approvers for m in self.directory.groups[name]}
                assert len(members & {v.person for v in call.approvals} - never) >= factor.approvals

    def check_claim(self, change: Change) -> None:
        call = change.call
        assert self.sent[call.id] == 0  # 19, and at most once
        assert Event.APPROVE in self.story[call.id]
        assert not {Event.REJECT, Event.REVOKE} & set(self.story[call.id])  # 15
        assert change.facts["digest"] == self.approved_digest[call.id] == call.digest  # 6
        assert call.run_before is not None
        assert self.shelf.now() <= call.run_before
        assert self.verdict.outcome is not Outcome.DENY  # 48
        self.check_votes(call)

    @invariant()
    def every_process_sees_the_same_calls(self) -> None:
        for call_id, call in self.known.items():
            for process in PROCESSES:
                assert plain(self.shelf.get(call_id, process)) == plain(call)

    @invariant()
    def one_transition_leaves_pending(self) -> None:  # 14
        leaving = {Event.APPROVE, Event.REJECT} | {Event.EXPIRE, Event.CANCEL, Event.INVALIDATE}
        for story in self.story.values():
            first = [event for event in story if event in leaving][:1]
            rest = story[story.index(first[0]) + 1 :] if first else []
            staying = {Event.ENDORSE, Event.TIGHTEN, Event.APPROVE, Event.REJECT}
            assert not staying & set(rest)

    @invariant()
    def equal_requests_are_one_live_call(self) -> None:  # 9, and joining
        live = [(c.asked, c.asked.key) for c in self.known.values() if not c.status.ended]
        assert len(live) == len(set(live))

    @override
    def teardown(self) -> None:
        self.clock.advance(days=3)
        self.sweep(PROCESSES[0])
        left = {call.status for call in self.known.values() if not call.status.ended}
        assert left <= {Status.IN_DOUBT}  # 16, 17
        assert all(self.sent[call.id] <= 1 for call in self.known.values())
        ran = {Status.EXECUTED, Status.ERRORED, Status.IN_DOUBT, Status.FAILED}
        assert all((self.sent[c.id] == 1) is (c.status in ran) for c in self.known.values())
        self.shelf.close()

    def any_is(self, status: Status) -> bool:
        return any(call.status is status for call in self.known.values())

    def pick(self, data: st.DataObject, prefer: Status | None = None) -> CallId:
        wanted = [call_id for call_id, call in self.known.items() if call.status is prefer]
        return data.draw(st.sampled_from(wanted or sorted(self.known)))


def plain(call: Call) -> Call:
    """Order what has no order: votes of one moment."""
    return replace(call, votes=tuple(sorted(call.votes, key=lambda v: (v.at, v.person, v.choice))))


def replayed(entries: Sequence[Entry]) -> dict[str, Standing]:
    """13: the calls that a trail tells of."""
    standing: dict[str, Standing] = {}
    for entry in entries:
        source = standing.get(entry.subject)
        event = Event(entry.tag.removeprefix("call:"))
        to = TRANSITIONS[source[0] if source else None, event].target
        standing[entry.subject] = (to, (source[1] if source else 0) + 1)
    return standing


@contextmanager
def refusals() -> Iterator[None]:
    """Take a refusal for what it is; the invariants see that nothing was changed by it."""
    try:
        yield
    except (Conflict, Forbidden, Refused):
        return
