"""Settling, cancelling, the clock, the policy, the release: what happens, what is refused."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from approval.core import intake, steps
from approval.core.call import (
    Answer,
    Attempt,
    Call,
    Requirement,
    Status,
    Verdict,
)
from approval.core.identity import Directory
from approval.core.lifecycle import Change, Event, Funds
from approval.errors import Conflict
from tests.core.lives import (
    ALLOW,
    DEADLINE,
    DENY,
    ENDS,
    EVERYBODY,
    GATE,
    LATER,
    NO,
    SETTLE_FROM,
    TICK,
    TWO,
    approved_call,
    claim,
    decide,
    doubtful_call,
    executing_call,
    vote,
)
from tests.factories import (
    NOW,
    make_asked,
    make_call,
    make_directory,
    make_verdict,
)

# --- settling a doubt ---


@pytest.mark.parametrize(
    ("executed", "event", "status", "funds"),
    [
        (True, Event.SETTLE_EXECUTED, Status.EXECUTED, Funds.POST),
        (False, Event.SETTLE_FAILED, Status.FAILED, Funds.VOID),
    ],
)
def test_a_person_settles_a_doubt_with_evidence(
    executed: bool, event: Event, status: Status, funds: Funds
) -> None:
    change = steps.settle(
        doubtful_call(), executed=executed, person="dora", evidence="invoice 7", now=SETTLE_FROM
    )
    assert change == Change(
        call=doubtful_call(
            status=status,
            version=5,
            ended_at=SETTLE_FROM,
            ended_by="person:dora",
            note="invoice 7",
        ),
        event=event,
        previous=Status.IN_DOUBT,
        funds=funds,
        actor="person:dora",
        facts={"evidence": "invoice 7"},
    )


def test_nobody_settles_while_the_sender_may_still_be_at_work() -> None:
    with pytest.raises(Conflict, match="a minute after its lease ended"):
        steps.settle(
            doubtful_call(), executed=False, person="dora", evidence="", now=SETTLE_FROM - TICK
        )


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.IN_DOUBT])
def test_only_a_doubt_is_settled(status: Status) -> None:
    with pytest.raises(Conflict, match=f"the call is {status}"):
        steps.settle(
            doubtful_call(status=status), executed=True, person="dora", evidence="", now=SETTLE_FROM
        )


def test_a_doubt_without_an_attempt_is_not_settled() -> None:
    with pytest.raises(Conflict):
        steps.settle(
            doubtful_call(attempt=None), executed=True, person="d", evidence="", now=SETTLE_FROM
        )


# --- the agent, the clock, the policy ---


@pytest.mark.parametrize("call", [make_call(), approved_call()])
def test_a_call_that_is_not_claimed_is_cancelled_on_its_askers_word(call: Call) -> None:
    change = steps.cancel(call, actor="agent:ops-agent", reason="not needed", now=LATER)
    assert change.event is Event.CANCEL
    assert change.call == replace(
        call,
        status=Status.CANCELLED,
        version=call.version + 1,
        ended_at=LATER,
        ended_by="agent:ops-agent",
        note="not needed",
    )


@pytest.mark.parametrize(
    "status", [s for s in Status if s not in {Status.PENDING, Status.APPROVED}]
)
def test_what_has_been_claimed_or_has_ended_is_not_cancelled(status: Status) -> None:
    with pytest.raises(Conflict):
        steps.cancel(executing_call(status=status), actor="agent:x", reason="", now=LATER)


@pytest.mark.parametrize(
    ("call", "due", "note"),
    [
        (make_call(), DEADLINE, "nobody decided"),
        (approved_call(), NOW + timedelta(minutes=10), "nobody collected it"),
    ],
)
def test_a_waiting_call_expires_after_its_deadline_and_not_at_it(
    call: Call, due: datetime, note: str
) -> None:
    assert steps.expire(call, now=due) == Change(call=call)
    change = steps.expire(call, now=due + TICK)
    assert (change.event, change.actor, change.funds) == (Event.EXPIRE, "clock", Funds.VOID)
    assert change.call == replace(
        call,
        status=Status.EXPIRED,
        version=call.version + 1,
        ended_at=due + TICK,
        ended_by="clock",
        note=note,
    )


@pytest.mark.parametrize(
    "status", [s for s in Status if s not in {Status.PENDING, Status.APPROVED}]
)
def test_nothing_else_expires(status: Status) -> None:
    call = executing_call(status=status)
    assert steps.expire(call, now=NOW + timedelta(days=9)) == Change(call=call)


def test_an_approved_call_without_a_time_to_run_is_left_alone_by_expiry() -> None:
    call = approved_call(run_before=None)
    assert steps.expire(call, now=NOW + timedelta(days=9)) == Change(call=call)


@pytest.mark.parametrize("call", [make_call(), approved_call()])
@pytest.mark.parametrize("verdict", [DENY, replace(GATE, requirement=None)])
def test_a_policy_that_denies_now_ends_what_waits(call: Call, verdict: Verdict) -> None:
    change = steps.review(call, verdict, now=LATER)
    assert (change.event, change.call.status, change.call.note, change.call.ended_at) == (
        Event.INVALIDATE,
        Status.INVALIDATED,
        "policy_denies",
        LATER,
    )


@pytest.mark.parametrize(
    "status", [s for s in Status if s not in {Status.PENDING, Status.APPROVED}]
)
def test_a_policy_does_not_reach_what_no_longer_waits(status: Status) -> None:
    call = executing_call(status=status)
    assert steps.review(call, DENY, now=LATER) == Change(call=call)


@pytest.mark.parametrize("verdict", [ALLOW, GATE])
def test_a_policy_that_asks_no_more_changes_nothing(verdict: Verdict) -> None:
    assert steps.review(make_call(), verdict, now=LATER) == Change(call=make_call())
    assert steps.review(approved_call(), verdict, now=LATER) == Change(call=approved_call())


def test_a_stricter_policy_tightens_what_waits_and_makes_old_cards_stale() -> None:
    stricter: Requirement = replace(TWO, timeout=timedelta(minutes=5))
    verdict = make_verdict(requirement=stricter, policy_digest="q" * 64)
    endorsed = make_call(votes=(vote("ann"),))
    change = steps.review(endorsed, verdict, now=LATER)
    tightened = make_call(
        version=2,
        votes=(vote("ann"),),
        requirement=stricter,
        policy_digest="q" * 64,
        decide_before=NOW + timedelta(minutes=5),
    )
    assert change == Change(
        call=tightened,
        event=Event.TIGHTEN,
        previous=Status.PENDING,
        funds=Funds.LOWER,
        actor="policy",
        facts={"digest": tightened.digest, "policy": "q" * 64},
    )
    with pytest.raises(Conflict, match="not the one that was shown"):
        decide(tightened, "bob", digest=endorsed.digest, verdict=verdict)
    assert decide(tightened, "bob", verdict=verdict).event is Event.APPROVE


def test_a_stricter_policy_does_not_touch_an_approved_call_before_its_claim() -> None:
    verdict = make_verdict(requirement=TWO)
    assert steps.review(approved_call(), verdict, now=LATER) == Change(call=approved_call())


def test_invalidating_says_why() -> None:
    change = steps.invalidate(approved_call(), "tool_changed", now=LATER)
    assert (change.facts, change.call.note) == ({"why": "tool_changed"}, "tool_changed")
    with pytest.raises(Conflict):
        steps.invalidate(executing_call(), "tool_changed", now=LATER)


# --- release ---


def test_a_claim_takes_the_one_right_to_send() -> None:
    lease_until = LATER + timedelta(seconds=75)
    attempt = Attempt(number=1, owner="me", claimed_at=LATER, lease_until=lease_until)
    assert claim(approved_call()) == Change(
        call=approved_call(status=Status.EXECUTING, version=3, attempt=attempt),
        event=Event.CLAIM,
        previous=Status.APPROVED,
        funds=Funds.KEEP,
        actor="service:me",
        facts={
            "attempt": 1,
            "digest": approved_call().digest,
            "lease_until": "2026-11-21T12:02:15+00:00",
        },
    )


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.APPROVED])
def test_only_an_approved_call_is_claimed(status: Status) -> None:
    with pytest.raises(Conflict, match=f"the call is {status}"):
        claim(approved_call(status=status))


def test_the_last_moment_to_run_is_in_time_and_a_tick_later_is_not() -> None:
    last = NOW + timedelta(minutes=10)
    assert claim(approved_call(), now=last).event is Event.CLAIM
    late = claim(approved_call(), now=last + TICK)
    assert (late.event, late.call.status) == (Event.EXPIRE, Status.EXPIRED)


def test_an_approved_call_without_a_time_to_run_is_not_claimed() -> None:
    call = approved_call(run_before=None)
    assert claim(call) == Change(call=call)


LEFT = make_directory(groups={"finance": ("bob",), "everybody": ("bob",)})
LENIENT = replace(EVERYBODY, not_owner=False)
BY_OWNER = approved_call(requirement=LENIENT)
BY_OWNER = replace(BY_OWNER, votes=(vote("carl", digest=BY_OWNER.digest),))


@pytest.mark.parametrize(
    ("call", "verdict", "directory", "why"),
    [
        (approved_call(), DENY, make_directory(), "policy_denies"),
        (approved_call(), replace(GATE, requirement=None), make_directory(), "policy_denies"),
        (approved_call(), make_verdict(requirement=TWO), make_directory(), "quorum"),
        (approved_call(), GATE, LEFT, "voter left"),
        (approved_call(), GATE, Directory(), "nobody is left"),
        (approved_call(votes=()), GATE, make_directory(), "no vote"),
        (approved_call(votes=(vote("ann", NO),)), GATE, make_directory(), "no approval"),
        (BY_OWNER, make_verdict(requirement=EVERYBODY), make_directory(), "owner barred now"),
    ],
)
def test_an_approval_that_would_not_be_given_today_does_not_run_today(
    call: Call, verdict: Verdict, directory: Directory, why: str
) -> None:
    change = claim(call, verdict=verdict, directory=directory)
    assert (change.event, change.call.status) == (Event.INVALIDATE, Status.INVALIDATED)
    reason = why if why == "policy_denies" else "approval_no_longer_enough"
    assert (change.call.note, change.call.attempt) == (reason, None)


@pytest.mark.parametrize(
    "changed",
    [
        approved_call(asked=make_asked({"phone_number": "+14155550199"})),
        approved_call(asked=make_asked(tool="delete_account")),
        approved_call(decide_before=DEADLINE + TICK),
    ],
)
def test_what_nobody_approved_does_not_run(changed: Call) -> None:
    change = claim(changed)
    assert (change.event, change.call.note) == (Event.INVALIDATE, "not_what_was_approved")


def test_endorsements_of_an_older_card_count_beside_the_decisive_approval() -> None:
    call = approved_call(requirement=TWO)
    votes = (vote("ann", digest="older"), vote("bob", digest=call.digest))
    assert claim(replace(call, votes=votes), verdict=ALLOW).event is Event.CLAIM


FOUND = {status: Answer(status=status, body=b"{}") for status in Status}


@pytest.mark.parametrize(
    ("call", "found", "event", "status"),
    [
        (executing_call(), Status.EXECUTED, Event.SUCCEED, Status.EXECUTED),
        (executing_call(), Status.ERRORED, Event.ERR, Status.ERRORED),
        (executing_call(), Status.FAILED, Event.FAIL, Status.FAILED),
        (doubtful_call(), Status.EXECUTED, Event.SUCCEED_LATE, Status.EXECUTED),
        (doubtful_call(), Status.ERRORED, Event.ERR_LATE, Status.ERRORED),
        (doubtful_call(), Status.FAILED, Event.ERR_LATE, Status.ERRORED),
    ],
)
def test_an_answer_ends_the_call_and_a_late_one_only_adds_knowledge(
    call: Call, found: Status, event: Event, status: Status
) -> None:
    change = steps.answer(call, FOUND[found], owner="me", now=LATER + TICK)
    assert call.attempt is not None
    assert change.call == replace(
        call,
        status=status,
        version=call.version + 1,
        ended_at=LATER + TICK,
        ended_by="upstream:shop",
        attempt=replace(call.attempt, outcome=str(event)),
    )
    assert (change.event, change.actor, change.answer) == (event, "service:me", FOUND[found])


@pytest.mark.parametrize("found", [Status.EXECUTED, Status.ERRORED, Status.FAILED])
@pytest.mark.parametrize("status", [*ENDS, Status.PENDING, Status.APPROVED])
def test_an_answer_never_changes_what_is_settled_or_was_not_sent(
    status: Status, found: Status
) -> None:
    with pytest.raises(Conflict):
        steps.answer(doubtful_call(status=status), FOUND[found], owner="me", now=LATER)


@pytest.mark.parametrize("call", [executing_call(), doubtful_call(), executing_call(attempt=None)])
def test_an_answer_to_another_attempt_is_refused(call: Call) -> None:
    with pytest.raises(Conflict, match="another attempt"):
        steps.answer(call, FOUND[Status.EXECUTED], owner="somebody else", now=LATER)


def test_a_lost_call_is_in_doubt_and_has_not_ended() -> None:
    attempt = Attempt(number=1, owner="me", claimed_at=NOW, lease_until=LATER, outcome="lost")
    assert steps.lose(executing_call(), why="timed out", actor="service:me") == Change(
        call=executing_call(status=Status.IN_DOUBT, version=4, attempt=attempt, note="timed out"),
        event=Event.LOSE,
        previous=Status.EXECUTING,
        funds=Funds.KEEP,
        actor="service:me",
        facts={"why": "timed out"},
    )


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.EXECUTING])
def test_only_what_is_executing_is_lost(status: Status) -> None:
    with pytest.raises(Conflict):
        steps.lose(make_call(status=status), why="", actor="clock")


def test_a_lease_lapses_after_its_end_and_not_at_it() -> None:
    assert steps.lapse(executing_call(), now=LATER) == Change(call=executing_call())
    change = steps.lapse(executing_call(), now=LATER + TICK)
    assert (change.event, change.actor, change.call.status) == (
        Event.LOSE,
        "clock",
        Status.IN_DOUBT,
    )
    assert change.call.note == "its sender stopped before an answer was recorded"


@pytest.mark.parametrize(
    "call",
    [
        executing_call(attempt=None),
        *(executing_call(status=s) for s in Status if s is not Status.EXECUTING),
    ],
)
def test_nothing_else_lapses(call: Call) -> None:
    assert steps.lapse(call, now=NOW + timedelta(days=9)) == Change(call=call)


ENDING: list[Callable[[], Change]] = [
    lambda: decide(make_call(), choice=NO),
    lambda: decide(approved_call(), choice=NO),
    lambda: decide(make_call(), now=DEADLINE + TICK),
    lambda: steps.cancel(make_call(), actor="agent:x", reason="", now=LATER),
    lambda: steps.expire(make_call(), now=DEADLINE + TICK),
    lambda: steps.invalidate(make_call(), "x", now=LATER),
    lambda: steps.answer(executing_call(), FOUND[Status.EXECUTED], owner="me", now=LATER),
    lambda: steps.settle(
        doubtful_call(), executed=True, person="dora", evidence="", now=SETTLE_FROM
    ),
]


@pytest.mark.parametrize("end", ENDING)
def test_every_end_has_its_time_or_its_answer_could_not_be_collected(
    end: Callable[[], Change],
) -> None:
    ended = end().call
    assert ended.status.ended
    assert ended.ended_at is not None
    assert intake.joins(ended, ended.asked, ended.ended_at)
