"""The story in order, on a real SQLite file: who may decide, what runs, and what never does."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from approval.core.audit import Entry, Tag
from approval.core.call import (
    Answer,
    Call,
    Choice,
    Listener,
    OnDisconnect,
    Outcome,
    Run,
    Status,
)
from approval.core.steps import Ballot
from approval.errors import AnswerLost, Conflict, Forbidden, NeverSent, NotFound, Refused
from approval.service import Service, Settings
from tests.factories import (
    GATE_PURCHASES,
    Clock,
    make_asked,
    make_directory,
    make_requirement,
    make_rulebook,
    make_service,
    make_verdict,
)

OK = Answer(status=Status.EXECUTED, body=b'{"result":{"content":[]}}')


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def service(tmp_path: Path, clock: Clock) -> AsyncIterator[Service]:
    async with make_service(tmp_path, clock=clock) as running:
        yield running


class Upstream:
    """Counts what reaches it, and answers as told."""

    def __init__(self, answer: Answer | Exception = OK) -> None:
        self.answer = answer
        self.received: list[bytes] = []
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def send(self, call: Call) -> Answer:
        if not isinstance(self.answer, NeverSent):
            self.received.append(call.asked.arguments)
        self.reached.set()
        await self.go_on.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def held(service: Service, **changes: object) -> Call:
    verdict = make_verdict(requirement=make_requirement(**changes))
    return (await service.submit(make_asked(), verdict)).call


async def approved(service: Service, **changes: object) -> Call:
    call = await held(service, **changes)
    return await service.decide(call.id, ballot(call))


def ballot(call: Call, person: str = "ann", choice: Choice = Choice.APPROVE) -> Ballot:
    return Ballot(person=person, choice=choice, digest=call.digest, via="test", reason="because")


async def tags(service: Service, call: Call) -> list[str]:
    written = await service.trail(subject=call.id)
    return [entry.body.split(b'"tag":"')[1].split(b'"')[0].decode() for entry in written]


# --- asking ---


async def test_an_equal_call_joins_instead_of_asking_people_twice(service: Service) -> None:
    first = await service.submit(make_asked(), make_verdict())
    second = await service.submit(make_asked(), make_verdict())
    assert (first.joined, second.joined) == (False, True)
    assert second.call.id == first.call.id
    assert await tags(service, first.call) == ["call:hold", "call:join"]


async def test_another_argument_agent_or_key_is_another_call(service: Service) -> None:
    asked = make_asked()
    others = [
        make_asked({"phone_number": "+2"}),
        replace(asked, agent="other-agent"),
        replace(asked, key="k1"),
    ]
    first = await service.submit(asked, make_verdict())
    ids = {first.call.id}
    for other in others:
        submission = await service.submit(other, make_verdict())
        assert not submission.joined
        ids.add(submission.call.id)
    assert len(ids) == 4


async def test_a_key_that_stands_for_another_call_is_refused(service: Service) -> None:
    await service.submit(make_asked(key="k1"), make_verdict())
    with pytest.raises(Refused) as refusal:
        await service.submit(make_asked({"phone_number": "+2"}, key="k1"), make_verdict())
    assert (refusal.value.code, refusal.value.retryable) == ("key_reused", False)


async def test_an_agent_holds_no_more_calls_than_its_cap(tmp_path: Path) -> None:
    async with make_service(tmp_path, settings=Settings(max_in_flight=1)) as service:
        call = await held(service)
        with service.attached(call), pytest.raises(Refused) as refusal:
            await service.submit(make_asked({"phone_number": "+2"}), make_verdict())
        assert (refusal.value.code, refusal.value.retryable) == ("too_many_in_flight", True)
        again = await service.submit(make_asked({"phone_number": "+2"}), make_verdict())
        assert again.call.status is Status.PENDING


async def test_only_a_gated_call_is_held(service: Service) -> None:
    with pytest.raises(ValueError, match="gated"):
        await service.submit(make_asked(), make_verdict(Outcome.ALLOW))


async def test_an_allowed_call_is_on_disk_before_it_leaves_and_its_outcome_follows(
    service: Service,
) -> None:
    verdict = make_verdict(Outcome.ALLOW)
    call_id = await service.allow(make_asked(), verdict)
    (entry,) = await service.trail(subject=call_id)
    assert b'"tag":"call:allow"' in entry.body
    assert b"+14155550100" not in entry.body
    service.answered(call_id, "shop", "executed")
    await service.note(Entry(tag=Tag.SERVICE_START, subject="s", actor="service"))
    assert len(await service.trail(subject=call_id)) == 2


async def test_a_denied_call_is_in_the_trail_with_its_reasons(service: Service) -> None:
    await service.deny(make_asked(), make_verdict(Outcome.DENY))
    (entry,) = await service.trail()
    assert b'"codes":["require_approval:true"]' in entry.body
    assert b'"tag":"call:deny"' in entry.body


# --- deciding ---


async def test_an_approved_call_runs_once_with_exactly_what_was_approved(service: Service) -> None:
    upstream = Upstream()
    call = await approved(service)
    done = await service.execute(call.id, upstream.send)
    assert done.status is Status.EXECUTED
    assert upstream.received == [make_asked().arguments]
    assert await service.answer(done) == OK
    with pytest.raises(Conflict):
        await service.execute(call.id, upstream.send)
    assert len(upstream.received) == 1
    assert await tags(service, call) == [
        "call:hold", "call:approve", "call:claim", "call:succeed",
    ]  # fmt: skip


async def test_of_many_claims_at_once_one_sends(service: Service) -> None:
    upstream = Upstream()
    call = await approved(service)
    found = await asyncio.gather(
        *[service.execute(call.id, upstream.send) for _ in range(20)], return_exceptions=True
    )
    assert len(upstream.received) == 1
    assert sum(isinstance(each, Conflict) for each in found) == 19


async def test_of_two_answers_at_once_only_the_first_stands(service: Service) -> None:
    call = await held(service)
    found = await asyncio.gather(
        service.decide(call.id, ballot(call)),
        service.decide(call.id, ballot(call, "bob", Choice.REJECT)),
        return_exceptions=True,
    )
    now = await service.get(call.id)
    # A rejection may follow an approval (it revokes), never the other way round.
    assert now.status is Status.REJECTED
    assert not isinstance(found[1], Exception)


@pytest.mark.parametrize("status", ["pending", "rejected", "expired", "cancelled"])
async def test_what_is_not_approved_is_never_sent(
    service: Service, clock: Clock, status: str
) -> None:
    upstream = Upstream()
    call = await held(service)
    match status:
        case "rejected":
            await service.decide(call.id, ballot(call, choice=Choice.REJECT))
        case "expired":
            clock.advance(minutes=16)
            assert await service.expire_due() == 1
        case "cancelled":
            await service.cancel(call.id, actor="agent:ops-agent", reason="no need")
        case _:
            pass  # left pending
    assert (await service.get(call.id)).status == status
    with pytest.raises(Conflict):
        await service.execute(call.id, upstream.send)
    assert upstream.received == []


async def test_somebody_who_may_not_decide_is_refused_and_recorded(service: Service) -> None:
    call = await held(service)
    for person in ("carl", "dora", "ops-agent", "nobody"):
        with pytest.raises(Forbidden):
            await service.decide(call.id, ballot(call, person))
    assert (await service.get(call.id)).version == 1
    assert (await tags(service, call)).count("decision:refuse") == 4


async def test_a_decision_on_another_card_changes_nothing(service: Service) -> None:
    call = await held(service)
    stale = replace(ballot(call), digest="0" * 64)
    with pytest.raises(Conflict):
        await service.decide(call.id, stale)
    assert (await service.get(call.id)).status is Status.PENDING


async def test_repeating_a_decision_changes_nothing(service: Service) -> None:
    call = await approved(service)
    assert await service.decide(call.id, ballot(call)) == call
    assert await tags(service, call) == ["call:hold", "call:approve"]


async def test_a_decision_after_the_deadline_finds_the_call_expired(
    service: Service, clock: Clock
) -> None:
    call = await held(service)
    clock.advance(minutes=15, seconds=1)
    with pytest.raises(Conflict, match="expired"):
        await service.decide(call.id, ballot(call))
    assert await tags(service, call) == ["call:hold", "call:expire", "decision:refuse"]


async def test_an_approval_is_taken_back_until_the_claim_and_not_after(service: Service) -> None:
    upstream = Upstream()
    call = await approved(service)
    revoked = await service.decide(call.id, ballot(call, "bob", Choice.REJECT))
    assert revoked.status is Status.REJECTED
    other = (await service.submit(make_asked({"phone_number": "+2"}), make_verdict())).call
    await service.decide(other.id, ballot(other))
    await service.execute(other.id, upstream.send)
    with pytest.raises(Conflict):
        await service.decide(other.id, ballot(other, "bob", Choice.REJECT))


async def test_a_call_nobody_knows_is_not_found(service: Service) -> None:
    call = await held(service)
    with pytest.raises(NotFound):
        await service.decide(type(call.id)("apr_nothing"), ballot(call))


# --- sending ---


async def test_a_call_that_never_left_has_failed(service: Service) -> None:
    call = await approved(service)
    done = await service.execute(call.id, Upstream(NeverSent("connection refused")).send)
    assert done.status is Status.FAILED
    answer = await service.answer(done)
    assert answer is not None
    assert b"connection refused" in answer.body


@pytest.mark.parametrize("trouble", [AnswerLost("reset"), RuntimeError("bug"), OSError("pipe")])
async def test_a_call_whose_answer_is_lost_is_in_doubt_not_failed(
    service: Service, trouble: Exception
) -> None:
    call = await approved(service)
    done = await service.execute(call.id, Upstream(trouble).send)
    assert done.status is Status.IN_DOUBT
    with pytest.raises(Conflict):
        await service.execute(call.id, Upstream().send)


async def test_an_upstream_that_does_not_answer_in_time_leaves_the_call_in_doubt(
    tmp_path: Path,
) -> None:
    settings = Settings(upstream_timeout=timedelta(milliseconds=20))
    async with make_service(tmp_path, settings=settings) as service:
        upstream = Upstream()
        upstream.go_on.clear()
        call = await approved(service)
        done = await service.execute(call.id, upstream.send)
        assert (done.status, done.note) == (
            Status.IN_DOUBT,
            "the upstream did not answer in time",
        )


async def test_a_repeat_while_in_doubt_joins_and_runs_nothing(service: Service) -> None:
    upstream = Upstream(AnswerLost("reset"))
    call = await approved(service)
    await service.execute(call.id, upstream.send)
    again = await service.submit(make_asked(), make_verdict())
    assert (again.joined, again.call.status) == (True, Status.IN_DOUBT)
    assert await service.release_due(upstream.send) == 0
    assert len(upstream.received) == 1


async def test_a_passed_lease_puts_the_call_in_doubt_and_a_late_answer_mends_it(
    service: Service, clock: Clock
) -> None:
    upstream = Upstream()
    upstream.go_on.clear()
    call = await approved(service)
    sending = asyncio.gather(service.execute(call.id, upstream.send))
    await upstream.reached.wait()
    clock.advance(minutes=2)
    assert await service.expire_due() == 1
    assert (await service.get(call.id)).status is Status.IN_DOUBT
    upstream.go_on.set()
    (done,) = await sending
    assert done.status is Status.EXECUTED
    assert (await tags(service, call))[-2:] == ["call:lose", "call:succeed_late"]


async def test_a_late_answer_does_not_undo_what_a_person_settled(
    service: Service, clock: Clock
) -> None:
    upstream = Upstream()
    upstream.go_on.clear()
    call = await approved(service)
    sending = asyncio.gather(service.execute(call.id, upstream.send))
    await upstream.reached.wait()
    clock.advance(minutes=2)
    await service.expire_due()
    clock.advance(minutes=2)
    await service.settle(call.id, executed=False, person="dora", evidence="not in the list")
    upstream.go_on.set()
    (done,) = await sending
    assert (done.status, done.note) == (Status.FAILED, "not in the list")


async def test_settling_needs_the_right_and_a_minute_after_the_lease(
    service: Service, clock: Clock
) -> None:
    call = await approved(service)
    await service.execute(call.id, Upstream(AnswerLost("reset")).send)
    with pytest.raises(Forbidden):
        await service.settle(call.id, executed=True, person="ann", evidence="x")
    with pytest.raises(Conflict):
        await service.settle(call.id, executed=True, person="dora", evidence="x")
    clock.advance(minutes=3)
    settled = await service.settle(call.id, executed=True, person="dora", evidence="seen")
    assert (settled.status, settled.ended_by) == (Status.EXECUTED, "person:dora")


async def test_leaving_the_service_waits_for_what_was_sent(tmp_path: Path) -> None:
    upstream = Upstream()
    upstream.go_on.clear()
    async with make_service(tmp_path) as service:
        call = await approved(service)
        service.start(call.id, upstream.send)
        await upstream.reached.wait()
        asyncio.get_running_loop().call_soon(upstream.go_on.set)
    async with make_service(tmp_path) as service:
        assert (await service.get(call.id)).status is Status.EXECUTED


# --- who waits ---


async def test_a_waiter_wakes_with_the_call_as_it_is(service: Service) -> None:
    call = await held(service)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(service.changed(call))
        await asyncio.sleep(0)
        await service.decide(call.id, ballot(call))
    assert waiting.result().status is Status.APPROVED
    async with asyncio.timeout(5):
        assert (await service.changed(call)).status is Status.APPROVED


async def test_a_waiter_hears_of_what_another_process_did(tmp_path: Path) -> None:
    async with make_service(tmp_path) as here, make_service(tmp_path) as there:
        call = await held(here)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            waiting = group.create_task(here.changed(call))
            await there.decide(call.id, ballot(call))
            while not waiting.done():
                await here.poll()
        assert waiting.result().status is Status.APPROVED


async def test_an_agent_that_hangs_up_before_it_was_told_parks_its_call(service: Service) -> None:
    upstream = Upstream()
    call = await held(service)
    with service.attached(call):
        pass
    await _until(service, call, Listener.GONE)
    await service.decide(call.id, ballot(call))
    assert await service.release_due(upstream.send) == 0
    again = await service.submit(make_asked(), make_verdict())
    assert again.joined
    done = await service.execute(call.id, upstream.send)
    assert done.status is Status.EXECUTED


async def test_an_agent_that_was_told_has_its_call_run_on_approval(service: Service) -> None:
    upstream = Upstream()
    call = await held(service)
    with service.attached(call):
        await service.told(call)
    await service.decide(call.id, ballot(call))
    assert await service.release_due(upstream.send) == 1
    async with asyncio.timeout(5):
        while (await service.get(call.id)).status is not Status.EXECUTED:
            await upstream.reached.wait()
    again = await service.submit(make_asked(), make_verdict())
    assert (again.joined, again.call.status) == (True, Status.EXECUTED)
    await service.delivered(again.call)
    fresh = await service.submit(make_asked(), make_verdict())
    assert (fresh.joined, fresh.call.status) == (False, Status.PENDING)


@pytest.mark.parametrize(
    ("run", "told", "runs"),
    [
        (Run.ON_APPROVAL, False, 1),
        (Run.ON_APPROVAL, True, 1),
        (Run.WHEN_ASKED, True, 0),
        (Run.WHEN_ASKED, False, 0),
        (Run.AUTO, False, 0),
    ],
)
async def test_the_rule_says_whether_a_call_runs_with_nobody_on_the_line(
    service: Service, run: Run, *, told: bool, runs: int
) -> None:
    upstream = Upstream()
    rules = {
        **GATE_PURCHASES,
        "tools": {
            "create_incoming_phone_number": {
                "require_approval": [{"approvers": "finance", "run": str(run)}]
            }
        },
    }
    await service.adopt(make_rulebook(rules), Entry(tag=Tag.POLICY_LOAD, subject="p", actor="t"))
    call = await held(service, run=run)
    with service.attached(call):
        if told:
            await service.told(call)
    if not told:
        await _until(service, call, Listener.GONE)
    await service.decide(call.id, ballot(call))
    assert await service.release_due(upstream.send) == runs


async def test_a_rule_may_take_hanging_up_for_a_cancel(service: Service) -> None:
    call = await held(service, on_disconnect=OnDisconnect.CANCEL)
    async with asyncio.timeout(5):
        with service.wakeups.watching(call.id) as changed:
            with service.attached(call):
                pass
            await changed
    assert (await service.get(call.id)).status is Status.CANCELLED


@pytest.mark.parametrize(("run", "started"), [(Run.ON_APPROVAL, 1), (Run.AUTO, 0)])
async def test_a_call_whose_process_died_is_not_taken_for_waiting(
    tmp_path: Path, clock: Clock, run: Run, started: int
) -> None:
    async with make_service(tmp_path, clock=clock) as dead:
        call = await held(dead, run=run)
    clock.advance(minutes=1)
    async with make_service(tmp_path, clock=clock) as service:
        await service.heartbeat()
        await service.decide(call.id, ballot(call))
        assert await service.release_due(Upstream().send) == started


# --- rules that change ---


def rules_with(**purchase: object) -> dict[str, object]:
    return {**GATE_PURCHASES, "tools": {"create_incoming_phone_number": purchase}}


async def test_a_policy_that_now_denies_ends_waiting_calls(service: Service) -> None:
    pending = await held(service)
    entry = Entry(tag=Tag.POLICY_LOAD, subject="policy", actor="service")
    await service.adopt(make_rulebook(rules_with(deny_if=[{"conditions": []}])), entry)
    assert (await service.get(pending.id)).status is Status.INVALIDATED


async def test_a_policy_that_now_allows_keeps_what_was_asked(service: Service) -> None:
    pending = await held(service)
    entry = Entry(tag=Tag.POLICY_LOAD, subject="policy", actor="service")
    await service.adopt(make_rulebook(rules_with()), entry)
    assert await service.get(pending.id) == pending


async def test_a_policy_that_now_wants_more_is_met_before_the_call_runs(service: Service) -> None:
    pending = await held(service)
    stricter = rules_with(require_approval=[{"approvers": "finance", "quorum": 2}])
    entry = Entry(tag=Tag.POLICY_LOAD, subject="policy", actor="service")
    await service.adopt(make_rulebook(stricter), entry)
    tightened = await service.get(pending.id)
    assert tightened.digest != pending.digest
    with pytest.raises(Conflict):
        await service.decide(pending.id, ballot(pending))
    endorsed = await service.decide(pending.id, ballot(tightened))
    assert endorsed.status is Status.PENDING
    done = await service.decide(pending.id, ballot(tightened, "bob"))
    assert done.status is Status.APPROVED


async def test_an_approver_who_lost_the_standing_does_not_release_a_call(
    service: Service,
) -> None:
    upstream = Upstream()
    call = await approved(service)
    directory = replace(make_directory(), groups={"finance": ("bob",)})
    entry = Entry(tag=Tag.POLICY_LOAD, subject="policy", actor="service")
    await service.adopt(make_rulebook(directory=directory), entry)
    done = await service.execute(call.id, upstream.send)
    assert done.status is Status.INVALIDATED
    assert upstream.received == []


async def test_people_see_their_own_calls_and_no_others(service: Service) -> None:
    call = await held(service)
    seen = {
        person: [found.id for found in (await service.find(person)).calls]
        for person in ("ann", "bob", "carl", "dora", "nobody")
    }
    assert seen == {
        "ann": [call.id],
        "bob": [call.id],
        "carl": [call.id],  # owns the agent: looks, never decides
        "dora": [call.id],  # may read all
        "nobody": [],
    }


async def test_pages_are_filled_past_calls_that_may_not_be_seen(
    service: Service, clock: Clock
) -> None:
    for number in range(6):
        clock.advance(milliseconds=1)
        factors = make_requirement().factors if number % 2 else ()
        asked = make_asked({"n": number}, agent="other-agent")
        verdict = make_verdict(requirement=make_requirement(factors=factors))
        await service.submit(asked, verdict)
    first = await service.find("ann", limit=2)
    second = await service.find("ann", limit=2, after=first.next)
    numbers = [call.asked.arguments for call in (*first.calls, *second.calls)]
    assert numbers == [b'{"n":5}', b'{"n":3}', b'{"n":1}']


async def _until(service: Service, call: Call, listener: Listener) -> None:
    async with asyncio.timeout(5):
        while (await service.get(call.id)).listener is not listener:
            await service.poll()
