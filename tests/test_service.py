"""The story in order, on a real SQLite file: who may decide, what runs, and what never does."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from approval.core.audit import Entry, Tag
from approval.core.call import (
    Call,
    Choice,
    Outcome,
    Run,
    Status,
)
from approval.errors import (
    AnswerLost,
    Conflict,
    Forbidden,
    NeverSent,
    NotFound,
    Refused,
    StoreUnavailable,
)
from approval.sending import Settings
from approval.service import Service
from approval.store.store import SqlStore
from tests.factories import (
    GATE_PURCHASES,
    Clock,
    make_asked,
    make_rulebook,
    make_service,
    make_verdict,
)
from tests.sending import OK, Upstream, approved, ballot, held, tags


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def service(tmp_path: Path, clock: Clock) -> AsyncIterator[Service]:
    async with make_service(tmp_path, clock=clock) as running:
        yield running


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


async def test_lines_that_ended_make_room_for_as_many_and_no_more(tmp_path: Path) -> None:
    async with make_service(tmp_path, settings=Settings(max_in_flight=1)) as service:
        call = await held(service)
        for _ in range(3):
            with service.attached(call):
                pass
        with service.attached(call), pytest.raises(Refused):
            await service.submit(make_asked({"phone_number": "+2"}), make_verdict())


async def test_only_a_gated_call_is_held(service: Service) -> None:
    with pytest.raises(ValueError, match="gated or spends"):
        await service.submit(make_asked(), make_verdict(Outcome.ALLOW))


async def test_an_allowed_call_is_on_disk_before_it_leaves_and_its_outcome_follows(
    service: Service,
) -> None:
    verdict = make_verdict(Outcome.ALLOW)
    call_id = await service.allow(make_asked(), verdict)
    (entry,) = await service.trail()
    assert b'"tag":"call:allow"' in entry.body
    assert call_id.encode() in entry.body
    assert b"+14155550100" not in entry.body
    service.answered(call_id, "shop", "executed")
    await service.note(Entry(tag=Tag.SERVICE_START, subject="s", actor="service"))
    assert sum(call_id.encode() in entry.body for entry in await service.trail()) == 2


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
    await service.settling.settle(
        call.id, executed=False, person="dora", evidence="not in the list"
    )
    upstream.go_on.set()
    (done,) = await sending
    assert (done.status, done.note) == (Status.FAILED, "not in the list")


async def test_settling_needs_the_right_and_a_minute_after_the_lease(
    service: Service, clock: Clock
) -> None:
    call = await approved(service)
    await service.execute(call.id, Upstream(AnswerLost("reset")).send)
    with pytest.raises(Forbidden):
        await service.settling.settle(call.id, executed=True, person="ann", evidence="x")
    with pytest.raises(Conflict):
        await service.settling.settle(call.id, executed=True, person="dora", evidence="x")
    clock.advance(minutes=3)
    settled = await service.settling.settle(call.id, executed=True, person="dora", evidence="seen")
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


# --- more calls than the store gives at once ---

MANY = 201


async def many(service: Service) -> list[Call]:
    """Hold that many calls, whose agent was told of each and has left."""

    async def hold(number: int) -> Call:
        call = (await service.submit(make_asked({"n": number}), make_verdict())).call
        await service.told(call)
        return call

    return await asyncio.gather(*map(hold, range(MANY)))


async def test_every_waiting_call_is_held_against_new_rules(service: Service) -> None:
    await many(service)
    await service.adopt(
        make_rulebook({**GATE_PURCHASES, "tools": {}}),
        Entry(tag=Tag.POLICY_LOAD, subject="policy", actor="service"),
    )
    assert (await service.find("dora", states={Status.PENDING}, limit=1)).calls == ()


async def test_every_approved_call_that_may_run_is_released(tmp_path: Path) -> None:
    upstream = Upstream()
    async with make_service(tmp_path) as service:
        calls = await many(service)
        await asyncio.gather(*(service.decide(call.id, ballot(call)) for call in calls))
        assert await service.release_due(upstream.send) == MANY
    assert len(set(upstream.received)) == len(upstream.received) == MANY


# --- more processes than one ---


async def test_a_line_that_is_held_by_a_living_process_is_left_to_it(
    tmp_path: Path, clock: Clock
) -> None:
    async with (
        make_service(tmp_path, clock=clock) as one,
        make_service(tmp_path, clock=clock) as other,
    ):
        call = await held(one, run=Run.ON_APPROVAL)
        with one.attached(call):
            await other.decide(call.id, ballot(call))
            clock.advance(minutes=1)
            # A process knows its own lines, however long ago it gave a sign of life.
            assert await one.release_due(Upstream().send) == 0
            await one.heartbeat()
            assert await other.release_due(Upstream().send) == 0


async def test_a_change_calls_for_a_look_at_what_may_run_and_the_look_takes_it_down(
    tmp_path: Path,
) -> None:
    async with make_service(tmp_path) as one, make_service(tmp_path) as other:
        call = await held(one)
        assert one.released.is_set()
        await one.release_due(Upstream().send)
        await one.poll()  # its own change, come back
        assert not one.released.is_set()
        await other.decide(call.id, ballot(call))
        await one.poll()
        assert one.released.is_set()


async def test_a_store_that_is_away_as_a_service_begins_is_said_plainly(tmp_path: Path) -> None:
    store = await SqlStore.open("sqlite:///approval.db", base=tmp_path)
    await store.close()
    with pytest.raises(StoreUnavailable):
        async with Service(store, make_rulebook()):
            raise AssertionError("it must not begin")
