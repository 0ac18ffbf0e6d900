"""Which approved calls wait for their agent, and who may have one run without it."""

from datetime import timedelta

import pytest

from approval.core import parking
from approval.core.call import Call, Factor, Listener, Run, Status, Verdict
from approval.core.identity import Directory
from approval.core.lifecycle import Change, Event, Funds
from approval.core.parking import Word
from approval.errors import Conflict, Forbidden
from tests.core.lives import DENY, GATE, LATER, approved_call, claim, executing_call
from tests.factories import NOW, make_call, make_directory, make_requirement, make_verdict

RUN_BEFORE = NOW + timedelta(minutes=10)
NEVER_ALONE = make_requirement(run=Run.WHEN_ASKED)


def parked_call(**changes: object) -> Call:
    return approved_call(**{"listener": Listener.GONE, **changes})


def release(
    call: Call,
    person: str = "ann",
    *,
    digest: str | None = None,
    verdict: Verdict = GATE,
    directory: Directory | None = None,
    late: timedelta = timedelta(0),
) -> Change:
    word = Word(person=person, digest=digest or call.digest, via="web")
    people = directory or make_directory()
    return parking.release(call, word, directory=people, verdict=verdict, now=LATER + late)


@pytest.mark.parametrize(
    ("run", "listener", "may"),
    [
        (Run.ON_APPROVAL, Listener.WAITING, True),
        (Run.ON_APPROVAL, Listener.TOLD, True),
        (Run.ON_APPROVAL, Listener.GONE, True),
        (Run.WHEN_ASKED, Listener.WAITING, False),
        (Run.WHEN_ASKED, Listener.TOLD, False),
        (Run.WHEN_ASKED, Listener.GONE, False),
        (Run.AUTO, Listener.WAITING, False),
        (Run.AUTO, Listener.TOLD, True),
        (Run.AUTO, Listener.GONE, False),
    ],
)
def test_what_may_run_with_nobody_on_the_line(run: Run, listener: Listener, may: bool) -> None:
    call = approved_call(requirement=make_requirement(run=run), listener=listener)
    assert parking.releasable(call) is may
    assert parking.parked(call) is (run is Run.AUTO and not may)


@pytest.mark.parametrize("run", Run)
def test_a_persons_word_counts_unless_the_call_runs_for_its_agent_alone(run: Run) -> None:
    call = parked_call(requirement=make_requirement(run=run), released_by="ann")
    assert parking.releasable(call) is (run is not Run.WHEN_ASKED)
    assert not parking.parked(call)


@pytest.mark.parametrize("status", set(Status) - {Status.APPROVED})
def test_only_an_approved_call_is_parked(status: Status) -> None:
    assert not parking.parked(parked_call(status=status))


@pytest.mark.parametrize("listener", [Listener.GONE, Listener.WAITING])
@pytest.mark.parametrize("person", ["ann", "bob"])
def test_whoever_may_decide_lets_a_parked_call_run(person: str, listener: Listener) -> None:
    call = parked_call(listener=listener)
    change = release(call, person)
    assert change == Change(
        call=parked_call(listener=listener, version=3, released_by=person),
        event=Event.RELEASE,
        previous=Status.APPROVED,
        funds=Funds.KEEP,
        actor=f"person:{person}",
        facts={"digest": call.digest, "via": "web"},
    )
    # The digest stays what was approved, so it is still that which is claimed.
    assert change.call.digest == call.digest
    assert claim(change.call).event is Event.CLAIM


@pytest.mark.parametrize("person", ["carl", "dora", "ops-agent", "nobody", ""])
def test_nobody_else_does_whatever_the_call_is(person: str) -> None:
    for call in (parked_call(), make_call(), executing_call(released_by=person)):
        with pytest.raises(Forbidden, match="not among those who may decide"):
            release(call, person)


def test_four_eyes_hold_for_it_too() -> None:
    everybody = make_requirement(factors=(Factor(approvers=("everybody",)),))
    with pytest.raises(Forbidden):
        release(parked_call(requirement=everybody), "carl")  # who answers for the agent
    assert release(parked_call(requirement=everybody), "ann").event is Event.RELEASE


def test_what_was_shown_must_be_what_runs() -> None:
    for digest in ("0" * 64, make_call(version=9, policy_digest="q" * 64).digest, "é"):
        with pytest.raises(Conflict, match="not the one that was shown"):
            release(parked_call(), digest=digest)


@pytest.mark.parametrize("status", set(Status) - {Status.APPROVED})
def test_only_an_approved_call_is_let_run(status: Status) -> None:
    with pytest.raises(Conflict, match=f"the call is {status}; only an approved call"):
        release(parked_call(status=status))


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (parked_call(requirement=NEVER_ALONE), "only when its agent asks"),
        (parked_call(requirement=NEVER_ALONE, listener=Listener.TOLD), "only when its agent asks"),
        (parked_call(listener=Listener.TOLD), "about to run without that"),
        (parked_call(requirement=make_requirement(run=Run.ON_APPROVAL)), "about to run"),
    ],
)
def test_what_is_not_parked_needs_no_word(call: Call, why: str) -> None:
    with pytest.raises(Conflict, match=why):
        release(call)


def test_the_policy_in_force_has_the_last_word() -> None:
    stricter = make_verdict(requirement=NEVER_ALONE)
    with pytest.raises(Conflict, match="only when its agent asks"):
        release(parked_call(), verdict=stricter)
    ended = release(parked_call(), verdict=DENY)
    assert (ended.event, ended.call.status) == (Event.INVALIDATE, Status.INVALIDATED)
    assert ended.call.released_by is None


def test_after_the_deadline_it_has_expired() -> None:
    call = parked_call(run_before=LATER)
    assert release(call).event is Event.RELEASE
    late = release(call, late=timedelta(microseconds=1))
    assert (late.event, late.call.status) == (Event.EXPIRE, Status.EXPIRED)
    assert late.call.released_by is None
    assert parked_call().run_before == RUN_BEFORE


def test_saying_so_again_changes_nothing() -> None:
    released = release(parked_call()).call
    for person in ("ann", "bob"):
        assert release(released, person) == Change(call=released)


@pytest.mark.parametrize(
    ("status", "stands"),
    [
        (Status.EXECUTING, True),
        (Status.EXECUTED, True),
        (Status.ERRORED, True),
        (Status.FAILED, True),
        (Status.IN_DOUBT, True),
        (Status.REJECTED, False),
        (Status.EXPIRED, False),
        (Status.CANCELLED, False),
        (Status.INVALIDATED, False),
    ],
)
def test_once_it_has_run_only_whoever_said_so_repeats_it(status: Status, stands: bool) -> None:
    call = parked_call(status=status, released_by="ann")
    if stands:
        assert release(call, "ann") == Change(call=call)
    else:
        with pytest.raises(Conflict):
            release(call, "ann")
    with pytest.raises(Conflict):
        release(call, "bob")
