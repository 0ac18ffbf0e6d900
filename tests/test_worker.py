"""Duties, each done once; and that one's trouble is nobody else's."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from approval import worker
from approval.core.call import Answer, Call, Choice, Run, Status
from approval.core.steps import Ballot
from approval.errors import StoreUnavailable
from approval.service import Service
from approval.worker import DUTIES, Duty, Parts
from tests.factories import Clock, make_asked, make_service, make_verdict

SECOND = timedelta(seconds=1)


class Upstream:
    """Counts what was sent."""

    def __init__(self) -> None:
        self.sent: list[Call] = []

    async def send(self, call: Call) -> Answer:
        self.sent.append(call)
        return Answer(status=Status.EXECUTED, body=b'{"result":{}}')


def parts(service: Service, *, ours: bool = True, upstream: Upstream | None = None) -> Parts:
    send = (upstream or Upstream()).send

    async def take_duty() -> bool:
        return ours

    return Parts(service=service, send=send, take_duty=take_duty)


async def held(service: Service) -> Call:
    return (await service.submit(make_asked(), make_verdict())).call


async def approved(service: Service) -> Call:
    """Hold a call whose agent was told and has left, and have it approved."""
    call = await held(service)
    await service.told(call)
    ballot = Ballot(person="ann", choice=Choice.APPROVE, digest=call.digest, via="test")
    return await service.decide(call.id, ballot)


async def until(service: Service, call: Call, status: Status) -> Call:
    async with asyncio.timeout(5):
        while call.status is not status:
            call = await service.changed(call)
    return call


async def test_what_is_due_expires_and_what_is_not_stays(tmp_path: Path) -> None:
    clock = Clock()
    async with make_service(tmp_path, clock=clock) as service:
        call = await held(service)
        assert await worker.expire(parts(service)) == 0
        clock.advance(minutes=16)
        assert await worker.expire(parts(service)) == 1
        assert (await service.get(call.id)).status is Status.EXPIRED


async def test_an_approved_call_whose_agent_was_told_is_sent_once(tmp_path: Path) -> None:
    upstream = Upstream()
    async with make_service(tmp_path) as service:
        call = await approved(service)
        assert await worker.release(parts(service, upstream=upstream)) == 1
        await until(service, call, Status.EXECUTED)
        assert await worker.release(parts(service, upstream=upstream)) == 0
    assert [sent.id for sent in upstream.sent] == [call.id]


async def test_what_another_process_issued_is_known_after_a_poll(tmp_path: Path) -> None:
    async with make_service(tmp_path) as service, make_service(tmp_path) as other:
        token = await other.keyring.issue("agent", "ops-agent", actor="test")
        assert service.keyring.agent(token) is None
        await worker.poll(parts(service))
        found = service.keyring.agent(token)
        assert found is not None
        assert found.name == "ops-agent"
        await worker.heartbeat(parts(service))


async def test_a_duty_of_one_process_is_left_to_that_process(tmp_path: Path) -> None:
    clock = Clock()
    async with make_service(tmp_path, clock=clock) as service:
        call = await held(service)
        clock.advance(minutes=16)
        await worker.sweep(parts(service, ours=False))
        alone = [duty for duty in DUTIES if duty.alone]
        assert [await worker.attempt(duty, parts(service, ours=False)) for duty in alone] == [
            None,
            None,
        ]
        assert (await service.get(call.id)).status is Status.PENDING
        await worker.sweep(parts(service))
        assert (await service.get(call.id)).status is Status.EXPIRED


async def test_what_every_process_does_is_left_to_nobody(tmp_path: Path) -> None:
    async with make_service(tmp_path) as service:
        everybodys = [duty for duty in DUTIES if not duty.alone]
        assert [duty.name for duty in everybodys] == ["poll", "heartbeat"]
        for duty in everybodys:
            assert await worker.attempt(duty, parts(service, ours=False)) is True


def failing(error: Exception) -> Duty:
    async def run_once(given: Parts) -> None:
        raise error

    return Duty(name="broken", every=SECOND, run_once=run_once)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a fault")])
async def test_a_failure_is_logged_and_goes_no_further(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async with make_service(tmp_path) as service:
        assert await worker.attempt(failing(error), parts(service)) is False
    assert len(caplog.records) == 1
    assert vars(caplog.records[0])["duty"] == "broken"


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 1), (1, 2), (2, 4), (4, 16), (5, 30), (1000, 30)]
)
def test_failures_in_a_row_lengthen_the_pause_up_to_a_limit(failures: int, seconds: int) -> None:
    duty = failing(RuntimeError())
    assert worker.pause_after(duty, failures) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("troubles", "seconds"),
    [([False] * 12, 0.06), ([True] * 6, 0.63), ([True] * 6 + [False] * 16, 0.71)],
)
async def test_a_duty_is_repeated_at_its_pace_and_more_slowly_only_while_it_fails(
    tmp_path: Path, troubles: list[bool], seconds: float
) -> None:
    coming, done = iter(troubles), asyncio.Event()

    async def run_once(given: Parts) -> None:
        trouble = next(coming, None)
        if trouble is None:
            done.set()
        elif trouble:
            raise StoreUnavailable("away")

    duty = Duty(name="tried", every=timedelta(milliseconds=5), run_once=run_once)
    loop = asyncio.get_running_loop()
    async with make_service(tmp_path) as service, asyncio.TaskGroup() as tasks:
        began = loop.time()
        repeating = tasks.create_task(worker._repeat(duty, parts(service)))
        await done.wait()
        # A busy machine is late; failures counted wrong would double a pause again and again.
        assert 0.9 * seconds < loop.time() - began < seconds + 3
        repeating.cancel()


@pytest.mark.parametrize(
    ("error", "ours", "again"),
    [(None, True, True), (StoreUnavailable("away"), True, False), (None, False, False)],
)
async def test_a_hint_is_heeded_only_after_a_round_that_went_well(
    tmp_path: Path, error: Exception | None, *, ours: bool, again: bool
) -> None:
    hint, rounds = asyncio.Event(), 0
    hint.set()

    async def run_once(given: Parts) -> None:
        if error is not None:
            raise error

    async def take_duty() -> bool:
        nonlocal rounds
        rounds += 1
        return ours

    hour = timedelta(hours=1)
    duty = Duty(name="hinted", every=hour, run_once=run_once, alone=True, hint=lambda _: hint)
    async with make_service(tmp_path) as service, asyncio.TaskGroup() as tasks:
        given = Parts(service=service, send=Upstream().send, take_duty=take_duty)
        repeating = tasks.create_task(worker._repeat(duty, given))
        await asyncio.sleep(0.2)
        repeating.cancel()
    assert (rounds > 1) is again


async def test_a_hint_that_never_comes_leaves_a_duty_at_its_pace(tmp_path: Path) -> None:
    rounds = asyncio.Semaphore(0)

    async def run_once(given: Parts) -> None:
        rounds.release()

    never = asyncio.Event()
    pace = timedelta(milliseconds=5)
    duty = Duty(name="hinted", every=pace, run_once=run_once, hint=lambda _: never)
    async with make_service(tmp_path) as service, asyncio.TaskGroup() as tasks:
        repeating = tasks.create_task(worker._repeat(duty, parts(service)))
        async with asyncio.timeout(5):
            for _ in range(3):
                await rounds.acquire()
        repeating.cancel()


def test_a_sign_of_life_is_tried_again_as_often_as_ever() -> None:
    (heartbeat,) = [duty for duty in DUTIES if duty.name == "heartbeat"]
    assert {worker.pause_after(heartbeat, failures) for failures in (0, 1, 9)} == {5 * SECOND}


async def test_all_duties_go_on_beside_each_other_until_cancelled(tmp_path: Path) -> None:
    upstream = Upstream()
    async with make_service(tmp_path) as service, asyncio.TaskGroup() as tasks:
        work = tasks.create_task(worker.work(parts(service, upstream=upstream)))
        call = await approved(service)
        done = await until(service, call, Status.EXECUTED)
        assert done.requirement.run is Run.AUTO
        work.cancel()
    assert work.cancelled()
    assert len(upstream.sent) == 1
