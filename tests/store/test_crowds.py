"""The laws of money where many act at once through two services, and either may die meanwhile."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import ClassVar

import orjson
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from approval.core import canonical
from approval.core.audit import Entry, Tag
from approval.core.call import Call, Choice, Outcome, Status, ToolCall, Verdict
from approval.core.ledger import Reservation, State
from approval.core.meters import Draw
from approval.core.money import Money
from approval.core.price import OnError
from approval.core.steps import Ballot
from approval.core.windows import Rolling
from approval.errors import Conflict, Forbidden, NoRoom, Unreadable
from approval.service import Service
from tests.core.money_machine import PROCESSES
from tests.core.purchases import AGENTS, RULES
from tests.factories import Clock, make_asked
from tests.postgres import Server
from tests.store.crowd import Doing, World

ANSWERS = ("ok", "ok", "ok", "error", "error", "refused", "silent", "unsent")
LIVE = frozenset({Status.PENDING, Status.APPROVED, Status.EXECUTING})
UNDONE = frozenset({Status.REJECTED, Status.EXPIRED, Status.CANCELLED, Status.INVALIDATED})
METERS = RULES["plain"].policies["shop"].meters
"""Every meter with the highest limit that any rules give it."""
ALWAYS_DRAWN = {"day", "rolling"}
"""The meters that all rules draw on which have a price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    agent: str
    tool: OnError
    amount: int
    ask: bool
    number: int
    answer: str
    took: int | None

    @property
    def asked(self) -> ToolCall:
        arguments = {
            "amount": self.amount,
            "answer": self.answer,
            "ask": self.ask,
            "number": self.number,
            "took": self.took,
        }
        return replace(
            make_asked(agent=self.agent, tool=self.tool.value),
            arguments=canonical.canonical(canonical.read(orjson.dumps(arguments))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    which: int
    person: str
    choice: Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    which: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    which: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    which: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The clock ends what is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    rules: str


Treatment = Decide | Run | Cancel | Settle
Action = Ask | Treatment | Tick | Reload
OPEN_TO: Mapping[type[Treatment], frozenset[Status]] = {
    Decide: frozenset({Status.PENDING}),
    Run: frozenset({Status.APPROVED}),
    Cancel: frozenset({Status.PENDING, Status.APPROVED}),
    Settle: frozenset({Status.IN_DOUBT}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Which process dies, at which of its writes, and whether that is still committed."""

    process: str
    write: int
    commits: bool


WHICH = st.integers(0, 5)
ASKS = st.builds(
    Ask,
    agent=st.sampled_from(sorted(AGENTS)),
    tool=st.sampled_from(OnError),
    amount=st.integers(1, 7),
    ask=st.booleans(),
    number=st.integers(1, 2),
    answer=st.sampled_from(ANSWERS),
    took=st.sampled_from([None, None, *range(1, 10)]),
)
AT_ONCE = ASKS.map(lambda ask: replace(ask, ask=False))
PEOPLE = st.sampled_from(["ann", "bob"])
CHOICES = st.sampled_from([Choice.APPROVE, Choice.APPROVE, Choice.APPROVE, Choice.REJECT])
DECISIONS = st.builds(Decide, which=WHICH, person=PEOPLE, choice=CHOICES)
RUNS = st.builds(Run, which=WHICH)
ACTIONS = st.one_of(
    ASKS,
    ASKS,
    DECISIONS,
    DECISIONS,
    RUNS,
    RUNS,
    st.builds(Cancel, which=WHICH),
    st.builds(Settle, which=WHICH),
    st.builds(Tick),
    st.builds(Reload, rules=st.sampled_from(["plain", "plain", *RULES])),
)
PROCESS = st.sampled_from(PROCESSES)
DEATHS = st.one_of(
    st.none(),
    st.builds(Death, process=PROCESS, write=st.integers(1, 3), commits=st.booleans()),
)
SPANS = ("1m", "3m", "3m", "11m", "3h", "midnight")


class CrowdMachine(RuleBasedStateMachine):
    """What is drawn depends on nothing that happened: who wins a race, nobody can repeat.

    `which` therefore names a call by its place among those in the state that an action needs.
    """

    def make_world(self, clock: Clock) -> World:
        raise AssertionError("a subclass gives the world")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.world = self.make_world(self.clock)
        self.refused: list[tuple[Ask, Verdict]] = []

    # --- what happens ---

    @rule(works=st.lists(st.tuples(PROCESS, ACTIONS), min_size=1, max_size=8), death=DEATHS)
    def all_at_once(self, works: list[tuple[str, Action]], death: Death | None) -> None:
        self.play(works, death)

    @rule(
        ask=ASKS,
        amounts=st.lists(st.tuples(PROCESS, st.integers(1, 4)), min_size=3, max_size=9),
        death=DEATHS,
    )
    def rush(self, ask: Ask, amounts: list[tuple[str, int]], death: Death | None) -> None:
        """31: nobody is refused while there is room, however many come at once."""
        self.clock.advance(minutes=11)  # the rates have forgotten those before
        crowd = [
            (process, replace(ask, ask=True, number=100 + number, amount=amount, tool=tool))
            for (number, (process, amount)), tool in zip(
                enumerate(amounts), [*OnError] * 3, strict=False
            )
        ]
        self.play(crowd, death)
        held = self.world.calls()
        for each, verdict in self.refused:
            draws = verdict.demand.draws if verdict.demand is not None else ()
            assert not all(self.fits(draw, held) for draw in draws), each

    @rule(asks=st.lists(st.tuples(PROCESS, AT_ONCE), min_size=3, max_size=6), death=DEATHS)
    def buy(self, asks: list[tuple[str, Ask]], death: Death | None) -> None:
        """Nobody is asked: what fits runs at once, and its process may die with it under way."""
        self.clock.advance(minutes=11)
        crowd = [(process, replace(ask, number=n)) for n, (process, ask) in enumerate(asks)]
        self.play(crowd, death)

    @rule(calls=st.integers(1, 6), death=DEATHS)
    def approve_and_run(self, calls: int, death: Death | None) -> None:
        """All who are asked say yes at once, and both processes run what they said it to."""
        people = list(zip(("ann", "bob"), PROCESSES, strict=True))
        yes = [
            (process, Decide(which=which, person=person, choice=Choice.APPROVE))
            for which in range(calls)
            for person, process in people
        ]
        self.play(yes, None)
        runs = [(process, Run(which=which)) for which in range(calls) for process in PROCESSES]
        self.play(runs, death)

    @rule(span=st.sampled_from(SPANS))
    def pass_time(self, span: str) -> None:
        if span == "midnight":
            tomorrow = self.clock.now + timedelta(days=1)
            self.clock.now = tomorrow.replace(hour=0, minute=0, second=0, microsecond=0)
        else:
            units = {"s": "seconds", "m": "minutes", "h": "hours"}
            self.clock.advance(**{units[span[-1]]: int(span[:-1])})
        self.play([(process, Tick()) for process in PROCESSES], None)

    def play(self, works: Sequence[tuple[str, Action]], death: Death | None) -> None:
        if death is not None:
            engine = self.world.processes[death.process].engine
            engine.dies_at(death.write, commits=death.commits)
        self.refused = []
        calls = self.world.calls()
        self.world.at_once([(process, self.doing(act, calls)) for process, act in works])
        for process in self.world.processes.values():
            process.engine.dies_at(0, commits=False)  # who has not died by now lives on

    def doing(self, action: Action, calls: list[Call]) -> Doing:
        async def do(service: Service) -> None:
            with suppress(Conflict, Forbidden, Unreadable):
                await self.act(action, service, calls)

        return do

    async def act(self, action: Action, service: Service, calls: list[Call]) -> None:
        match action:
            case Ask():
                await self.ask(action, service)
            case Tick():
                await service.expire_due()
            case Reload(rules=rules):
                entry = Entry(tag=Tag.POLICY_LOAD, subject="shop", actor="service")
                await service.adopt(RULES[rules], entry)
            case _:
                open_to = OPEN_TO[type(action)]
                found = [call for call in calls if call.status in open_to]
                if found:
                    await self.treat(action, service, found[action.which % len(found)])

    async def treat(self, action: Treatment, service: Service, call: Call) -> None:
        match action:
            case Decide(person=person, choice=choice):
                typed = "0.02 USD" if call.asking is not None and choice is Choice.APPROVE else None
                ballot = Ballot(
                    person=person, choice=choice, digest=call.digest, via="web", amount=typed
                )
                await service.decide(call.id, ballot)
            case Run():
                await service.execute(call.id, self.world.upstream.send)
            case Cancel():
                await service.cancel(call.id, actor=f"agent:{call.asked.agent}", reason="")
            case Settle():
                await self.settle(call, service)

    async def ask(self, ask: Ask, service: Service) -> None:
        asked = ask.asked
        arguments = canonical.read(asked.arguments)
        verdict = service.rules.judge(asked.agent, asked.upstream, asked.tool, arguments)
        spends = verdict.demand is not None and verdict.demand.spends
        if verdict.outcome is Outcome.ALLOW and not spends:
            return  # it is counted, and kept nowhere
        try:
            submission = await service.submit(asked, verdict)
        except NoRoom as full:
            if full.code == "limit":
                self.refused.append((ask, verdict))
            return
        service.carry_out(submission, self.world.upstream.send)

    async def settle(self, call: Call, service: Service) -> None:
        """Say what is true: people ask the upstream."""
        took = self.world.upstream.took.get(call.id)
        actual = Money(took, "USD") if took is not None and call.amount is not None else None
        await service.settling.settle(
            call.id, executed=took is not None, person="dora", evidence="looked", actual=actual
        )

    # --- what always holds ---

    @invariant()
    def everything_adds_up(self) -> None:
        calls = self.world.calls()
        names = self.world.names()
        assert self.world.problems() == []  # 28, 30, 38, 51
        for call in calls:
            self.check_sent(call)
            self.check_money(call)
            drawn = {names[each.meter_id] for each in call.reservations}
            assert call.amount is None or drawn >= ALWAYS_DRAWN  # 38
        self.check_limits(calls, names)
        self.check_rates(calls)

    def check_sent(self, call: Call) -> None:
        """11: what is sent is sent once, and only what was sent has an end of its own."""
        reached = self.world.upstream.reached[call.id]
        assert reached <= 1
        if call.status in {Status.EXECUTED, Status.ERRORED}:
            assert reached == 1
        assert not reached or call.status not in UNDONE | {Status.PENDING, Status.APPROVED}
        assert call.id not in self.world.upstream.took or call.status is not Status.FAILED

    def check_money(self, call: Call) -> None:
        """29, 34, 37: what lives holds all of it, and what has ended has booked what it took."""
        took = self.world.upstream.took.get(call.id, 0)
        for each in call.reservations:
            reserved = each.amount.minor
            assert call.amount == each.amount
            if not call.status.ended:
                assert each.state is State.HELD
            elif call.status is Status.EXECUTED:
                assert (each.state, each.posted) == (State.POSTED, took)
            elif call.status is Status.ERRORED and call.terms.on_error is not OnError.VOID:
                kept = call.terms.on_error is OnError.KEEP
                booked = max(took, reserved) if kept else took
                assert (each.state, each.posted) == (State.POSTED, booked)
            else:
                assert (each.state, each.posted) == (State.VOID, 0)

    def check_limits(self, calls: list[Call], names: Mapping[str, str]) -> None:
        """27, 35: what was let in is within the limit; only what an upstream overran is beyond."""
        by_meter: dict[str, list[Reservation]] = {}
        for each in (each for call in calls for each in call.reservations):
            by_meter.setdefault(each.meter_id, []).append(each)
        for meter_id, rows in by_meter.items():
            meter = METERS[names[meter_id]]
            for last in rows:
                within = [
                    each
                    for each in rows
                    if (
                        last.at - meter.window.span < each.at <= last.at
                        if isinstance(meter.window, Rolling)
                        else each.window_start == last.window_start
                    )
                ]
                overridden = sum(each.override for each in within)
                let_in = sum(min(each.taken, each.amount.minor) for each in within)
                assert let_in - overridden <= meter.limit.minor
                assert overridden <= (meter.soft.up_to.minor if meter.soft else 0)

    def check_rates(self, calls: list[Call]) -> None:
        """40: over all that was ever admitted, through whichever process, reloads or not (42)."""
        counted: dict[tuple[str, str], list[datetime]] = {}
        for call in calls:
            counted.setdefault((call.asked.agent, call.asked.tool), []).append(call.created_at)
        for log in counted.values():
            for last in log:
                within = [at for at in log if last - timedelta(minutes=10) < at <= last]
                assert len(within) <= 2

    def fits(self, draw: Draw, calls: list[Call]) -> bool:
        """Say whether a call that people are asked about would be let in, by reservations alone."""
        window, soft = draw.meter.window, draw.meter.soft
        within = [
            each
            for call in calls
            for each in call.reservations
            if each.meter_id == draw.meter_id
            and (
                each.at > self.clock.now - window.span
                if isinstance(window, Rolling)
                else each.window_start == window.row(self.clock.now)
            )
        ]
        overridden = sum(each.override for each in within)
        counted = sum(each.taken for each in within) - overridden
        excess = max(
            0, min(draw.amount.minor, counted + draw.amount.minor - draw.meter.limit.minor)
        )
        return excess == 0 or (soft is not None and overridden + excess <= soft.up_to.minor)

    @override
    def teardown(self) -> None:
        """16, 17, 29: whoever died, the other ends what was left, and no money stays held."""
        try:
            self.clock.advance(days=3)
            self.play([(process, Tick()) for process in PROCESSES], None)
            self.everything_adds_up()
            left = self.world.calls()
            assert not [call.status for call in left if call.status in LIVE]
            self.clock.advance(minutes=3)
            doubts = sum(call.status is Status.IN_DOUBT for call in left)
            self.play([(PROCESSES[0], Settle(which=n)) for n in range(doubts)], None)
            self.everything_adds_up()
            ended = self.world.calls()
            assert all(call.status.ended for call in ended)
        finally:
            self.world.close()


class SqliteCrowds(CrowdMachine):
    @override
    def make_world(self, clock: Clock) -> World:
        return World.on_sqlite(clock, RULES["plain"])


class PostgresCrowds(CrowdMachine):
    server: ClassVar[Server]

    @override
    def make_world(self, clock: Clock) -> World:
        return World.on_postgres(clock, RULES["plain"], self.server)


# Who wins a race cannot be repeated, so an example that failed is told as it is, and not shrunk.
AS_IT_IS = settings(
    deadline=None, phases=(Phase.explicit, Phase.generate), database=None, print_blob=False
)
TestCrowds = SqliteCrowds.TestCase
TestCrowds.settings = settings(AS_IT_IS, max_examples=20, stateful_step_count=20)


@pytest.mark.postgres
def test_crowds_in_postgres(postgres_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    PostgresCrowds.server = postgres_server
    limits = settings(AS_IT_IS, max_examples=10, stateful_step_count=15)
    run_state_machine_as_test(PostgresCrowds, settings=limits)
    circles = [each for each in caplog.records if "40P01" in str(vars(each).get("error"))]
    assert circles == []
