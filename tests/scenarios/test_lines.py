"""Who holds the line, who hung up, and what becomes of waiting calls when the rules change."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from approval.core.audit import Entry, Tag
from approval.core.call import (
    Call,
    Listener,
    OnDisconnect,
    Run,
    Status,
)
from approval.errors import Conflict
from approval.service import Service
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
from tests.sending import Upstream, approved, ballot, held


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def service(tmp_path: Path, clock: Clock) -> AsyncIterator[Service]:
    async with make_service(tmp_path, clock=clock) as running:
        yield running


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
