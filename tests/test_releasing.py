"""A parked call runs once on a person's word, whoever else speaks at the same moment."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from approval.core.audit import Entry, Tag
from approval.core.call import Answer, Call, Choice, Listener, Status
from approval.core.parking import Word
from approval.core.steps import Ballot
from approval.errors import Conflict, Forbidden, NotFound
from approval.service import Service
from tests.factories import GATE_PURCHASES, Clock, make_asked, make_rulebook, make_service

ARGUMENTS = {"phone_number": "+14155550100"}


@dataclass(kw_only=True)
class Upstream:
    """Takes every call that is sent, and counts."""

    sent: list[str] = field(default_factory=list)

    async def send(self, call: Call) -> Answer:
        self.sent.append(call.id)
        await asyncio.sleep(0)
        return Answer(status=Status.EXECUTED, body=b'{"result":{"content":[]}}')


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def service(tmp_path: Path, clock: Clock) -> AsyncIterator[Service]:
    async with make_service(tmp_path, clock=clock) as running:
        yield running


@asynccontextmanager
async def other(folder: Path, clock: Clock) -> AsyncIterator[Service]:
    """Run another service on the same store, as another process would."""
    async with make_service(folder, clock=clock) as running:
        yield running


async def hold(service: Service) -> Call:
    asked = make_asked()
    verdict = service.rules.judge(asked.agent, asked.upstream, asked.tool, dict(ARGUMENTS))
    return (await service.submit(asked, verdict)).call


async def park(service: Service) -> Call:
    """Let an agent ask and hang up, and ann approve."""
    call = await hold(service)
    with service.attached(call):
        pass
    while (await service.get(call.id)).listener is not Listener.GONE:
        await service.heartbeat()
    ballot = Ballot(person="ann", choice=Choice.APPROVE, digest=call.digest, via="test")
    return await service.decide(call.id, ballot)


def word(call: Call, person: str = "ann") -> Word:
    return Word(person=person, digest=call.digest, via="test")


async def ended(service: Service, call: Call) -> Call:
    async with asyncio.timeout(5):
        while not call.status.ended:
            call = await service.changed(call)
    return call


async def facts(service: Service, call: Call, tag: Tag) -> list[tuple[str, object]]:
    entries = [json.loads(each.body) for each in await service.trail(subject=call.id, limit=100)]
    return [(each["actor"], each["facts"]) for each in entries if each["tag"] == tag]


async def test_a_parked_call_runs_when_a_person_says_so_and_not_before(
    service: Service, upstream: Upstream
) -> None:
    call = await park(service)
    assert await service.release_due(upstream.send) == 0
    service.released.clear()
    released = await service.releasing.release(call.id, word(call, "bob"))
    assert (released.status, released.released_by) == (Status.APPROVED, "bob")
    assert service.released.is_set()  # the worker is told at once
    assert upstream.sent == []
    assert await service.release_due(upstream.send) == 1
    done = await ended(service, released)
    assert (done.status, done.released_by, done.ended_by) == (
        Status.EXECUTED,
        "bob",
        "upstream:shop",
    )
    assert upstream.sent == [call.id]
    assert await facts(service, call, Tag.CALL_RELEASE) == [
        (
            "person:bob",
            {
                "digest": call.digest,
                "via": "test",
                "from": "approved",
                "to": "approved",
                "version": 3,
            },
        )
    ]
    report = await service._store.verify()
    assert report.problems == ()


async def test_of_many_words_and_the_agents_repeat_at_once_one_sends(
    service: Service, upstream: Upstream, tmp_path: Path, clock: Clock
) -> None:
    call = await park(service)
    async with other(tmp_path, clock) as second:

        async def press(at: Service, person: str) -> None:
            await at.releasing.release(call.id, word(call, person))
            await at.release_due(upstream.send)

        async def repeat(at: Service) -> None:
            joined = await hold(at)
            assert joined.id == call.id
            with at.attached(joined):
                at.start(joined.id, upstream.send)
                await ended(at, joined)

        results = await asyncio.gather(
            *(press(at, person) for at in (service, second) for person in ("ann", "bob")),
            repeat(service),
            return_exceptions=True,
        )
        assert {type(each) for each in results} <= {type(None), Conflict}
        done = await ended(second, await second.get(call.id))
    assert done.status is Status.EXECUTED
    assert upstream.sent == [call.id]
    assert len(await facts(service, call, Tag.CALL_CLAIM)) == 1
    assert len(await facts(service, call, Tag.CALL_RELEASE)) <= 1


async def test_another_process_learns_of_the_word_and_sends(
    service: Service, upstream: Upstream, tmp_path: Path, clock: Clock
) -> None:
    call = await park(service)
    async with other(tmp_path, clock) as desk:  # such as a command line
        await service.poll()
        service.released.clear()
        await desk.releasing.release(call.id, word(call))
        await service.poll()
        assert service.released.is_set()
        assert await service.release_due(upstream.send) == 1
        await ended(service, await service.get(call.id))
    assert upstream.sent == [call.id]


async def test_an_agent_that_comes_back_and_goes_again_does_not_take_the_word_back(
    service: Service, upstream: Upstream
) -> None:
    call = await park(service)
    await service.releasing.release(call.id, word(call))
    joined = await hold(service)
    with service.attached(joined):
        assert await service.release_due(upstream.send) == 0  # it holds the line itself
    await service.heartbeat()
    assert await service.release_due(upstream.send) == 1
    await ended(service, joined)
    assert upstream.sent == [call.id]


@pytest.mark.parametrize(
    ("person", "digest", "error", "why"),
    [
        ("carl", None, Forbidden, "carl is not among those who may decide this call"),
        ("ann", "0" * 64, Conflict, "the call is not the one that was shown: look at it again"),
    ],
)
async def test_who_may_not_is_refused_and_the_trail_says_so(
    service: Service,
    upstream: Upstream,
    person: str,
    digest: str | None,
    error: type[Exception],
    why: str,
) -> None:
    call = await park(service)
    said = Word(person=person, digest=digest or call.digest, via="test")
    with pytest.raises(error, match=why):
        await service.releasing.release(call.id, said)
    assert await service.release_due(upstream.send) == 0
    assert (await service.get(call.id)).released_by is None
    assert await facts(service, call, Tag.DECISION_REFUSE) == [
        (f"person:{person}", {"choice": "run", "via": "test", "why": why})
    ]
    with pytest.raises(NotFound):
        await service.releasing.release(make_asked().tool, said)  # type: ignore[arg-type]


async def test_a_word_that_comes_too_late_is_a_conflict(
    service: Service, upstream: Upstream, clock: Clock
) -> None:
    call = await park(service)
    clock.advance(minutes=11)
    with pytest.raises(Conflict, match="too late: the call is expired"):
        await service.releasing.release(call.id, word(call))
    assert (await service.get(call.id)).status is Status.EXPIRED
    assert [each for _, each in await facts(service, call, Tag.DECISION_REFUSE)] == [
        {"choice": "run", "via": "test", "why": "the call is expired"}
    ]
    assert await service.release_due(upstream.send) == 0


async def test_rules_that_changed_meanwhile_are_heeded(service: Service) -> None:
    call = await park(service)
    gate = {"approvers": "finance", "run": "when_asked"}
    document = {**GATE_PURCHASES, "tools": {call.asked.tool: {"require_approval": [gate]}}}
    entry = Entry(tag=Tag.POLICY_LOAD, subject="policy", actor="operator")
    await service.adopt(make_rulebook(document), entry)
    with pytest.raises(Conflict, match="only when its agent asks"):
        await service.releasing.release(call.id, word(call))


async def test_it_is_offered_to_those_who_may_while_the_call_waits_in_vain(
    service: Service, tmp_path: Path, clock: Clock
) -> None:
    open_to = service.releasing.is_open_to
    held = await hold(service)
    assert not await open_to("ann", held)  # nobody has approved it
    call = await park(service)
    assert [await open_to(person, call) for person in ("ann", "bob", "carl")] == [
        True,
        True,
        False,
    ]
    released = await service.releasing.release(call.id, word(call))
    assert not await open_to("bob", released)


async def test_a_line_that_lives_is_left_to_run_its_call(service: Service, clock: Clock) -> None:
    call = await hold(service)
    ballot = Ballot(person="ann", choice=Choice.APPROVE, digest=call.digest, via="test")
    approved = await service.decide(call.id, ballot)
    assert approved.listener is Listener.WAITING
    assert not await service.releasing.is_open_to("ann", approved)
    clock.advance(seconds=20)  # its process gave no sign of life since
    assert await service.releasing.is_open_to("ann", approved)
