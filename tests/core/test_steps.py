"""Intake, joining and people's decisions, in tables: what happens, what is refused."""

from dataclasses import replace
from datetime import timedelta

import pytest

from approval.core import intake
from approval.core.call import (
    Choice,
    Factor,
    Listener,
    Status,
    Verdict,
)
from approval.core.identity import Agent
from approval.core.lifecycle import Change, Event, Funds
from approval.errors import Conflict, Forbidden
from tests.core.lives import (
    ALLOW,
    DEADLINE,
    DENY,
    ENDS,
    EVERYBODY,
    GATE,
    LATER,
    NO,
    TICK,
    TWO,
    YES,
    approved_call,
    claim,
    decide,
    executing_call,
    vote,
)
from tests.factories import (
    NOW,
    make_asked,
    make_call,
    make_directory,
    make_requirement,
    make_verdict,
)

# --- joining ---


@pytest.mark.parametrize("status", [s for s in Status if not s.ended])
def test_a_call_that_has_not_ended_is_joined_however_old_it_is(status: Status) -> None:
    call = make_call(status=status, delivered_at=NOW)
    assert intake.joins(call, make_asked(), NOW + timedelta(days=400))


@pytest.mark.parametrize("status", ENDS)
@pytest.mark.parametrize(
    ("age", "key", "delivered", "joined"),
    [
        (timedelta(0), "", False, True),
        (timedelta(hours=24), "", False, True),
        (timedelta(hours=24) + TICK, "", False, False),
        (timedelta(0), "", True, False),
        (timedelta(hours=24), "k", False, True),
        (timedelta(hours=24), "k", True, True),
        (timedelta(hours=24) + TICK, "k", True, False),
        (timedelta(hours=24) + TICK, "k", False, False),
    ],
)
def test_an_ended_call_answers_once_or_under_its_key_for_a_day(
    status: Status, age: timedelta, key: str, delivered: bool, joined: bool
) -> None:
    asked = make_asked(key=key)
    delivered_at = NOW if delivered else None
    call = make_call(status=status, asked=asked, ended_at=NOW, delivered_at=delivered_at)
    assert intake.joins(call, asked, NOW + age) is joined


def test_an_ended_call_without_a_time_answers_nobody() -> None:
    assert not intake.joins(make_call(status=Status.EXECUTED), make_asked(), NOW)


@pytest.mark.parametrize("status", [s for s in Status if not s.ended])
def test_whoever_joins_takes_over_the_line(status: Status) -> None:
    call = make_call(status=status, listener=Listener.GONE, listener_owner="other")
    joined = replace(call, listener=Listener.WAITING, listener_owner="me", version=2)
    assert intake.join(call, owner="me") == Change(
        call=joined,
        event=Event.JOIN,
        previous=status,
        funds=Funds.KEEP,
        actor="agent:ops-agent",
    )


@pytest.mark.parametrize("status", ENDS)
def test_joining_an_ended_call_only_reads_it(status: Status) -> None:
    call = make_call(status=status, ended_at=NOW)
    assert intake.join(call, owner="me") == Change(call=call)


# --- people decide ---


def test_an_approval_is_recorded_with_who_what_when_and_a_time_to_run() -> None:
    given = vote("ann", at=LATER, reason="because")
    assert decide(make_call()) == Change(
        call=make_call(
            status=Status.APPROVED,
            version=2,
            votes=(given,),
            decided_at=LATER,
            run_before=LATER + timedelta(minutes=10),
            ended_by="person:ann",
            note="because",
        ),
        event=Event.APPROVE,
        previous=Status.PENDING,
        funds=Funds.LOWER,
        actor="person:ann",
        facts={"digest": make_call().digest, "person": "ann", "reason": "because", "via": "web"},
    )


@pytest.mark.parametrize("digest", [None, "same"])
def test_a_rejection_ends_the_call_with_or_without_the_digest(digest: str | None) -> None:
    given = vote("bob", NO, at=LATER, reason="because")
    assert decide(make_call(), "bob", NO, digest=digest) == Change(
        call=make_call(
            status=Status.REJECTED,
            version=2,
            votes=(given,),
            decided_at=LATER,
            ended_at=LATER,
            ended_by="person:bob",
            note="because",
        ),
        event=Event.REJECT,
        previous=Status.PENDING,
        funds=Funds.VOID,
        actor="person:bob",
        facts={"digest": make_call().digest, "person": "bob", "reason": "because", "via": "web"},
    )


@pytest.mark.parametrize("choice", Choice)
@pytest.mark.parametrize("person", ["carl", "dora", "stranger", "ops-agent", "other-agent", ""])
@pytest.mark.parametrize("status", Status)
def test_whoever_is_not_a_decider_is_refused_whatever_the_call_is(
    person: str, choice: Choice, status: Status
) -> None:
    with pytest.raises(Forbidden, match="not among those who may decide"):
        decide(approved_call(status=status), person, choice)


def test_the_owner_is_barred_where_the_rule_says_and_only_there() -> None:
    strict, lenient = EVERYBODY, replace(EVERYBODY, not_owner=False)
    with pytest.raises(Forbidden):
        decide(make_call(requirement=strict), "carl", verdict=ALLOW)
    assert decide(make_call(requirement=lenient), "carl", verdict=ALLOW).event is Event.APPROVE


def test_an_agent_cannot_approve_itself_under_a_persons_name() -> None:
    directory = make_directory(agents={"ann": Agent(name="ann", upstreams=frozenset({"shop"}))})
    with pytest.raises(Forbidden):
        decide(make_call(asked=make_asked(agent="ann")), "ann", directory=directory)


def test_a_decider_who_was_removed_is_refused() -> None:
    with pytest.raises(Forbidden):
        decide(make_call(), directory=make_directory(groups={"finance": ("bob",)}))


@pytest.mark.parametrize("choice", Choice)
@pytest.mark.parametrize("status", [Status.PENDING, Status.APPROVED])
@pytest.mark.parametrize("digest", ["", "f" * 64, make_call(id="apr_2").digest])
def test_a_stale_card_decides_nothing(status: Status, choice: Choice, digest: str) -> None:
    call = make_call() if status is Status.PENDING else approved_call(votes=(vote("bob"),))
    with pytest.raises(Conflict, match="not the one that was shown"):
        decide(call, choice=choice, digest=digest)


def test_an_approval_that_names_no_digest_is_refused() -> None:
    with pytest.raises(Conflict, match="names the digest"):
        decide(make_call(), digest=None)


@pytest.mark.parametrize("choice", Choice)
@pytest.mark.parametrize(
    "status", [s for s in Status if s not in {Status.PENDING, Status.APPROVED}]
)
def test_a_late_decision_changes_nothing(status: Status, choice: Choice) -> None:
    with pytest.raises(Conflict, match=f"the call is {status} and takes no decision"):
        decide(make_call(status=status), "bob", choice)


def test_a_second_approval_of_an_approved_call_comes_too_late() -> None:
    with pytest.raises(Conflict, match="the call is approved"):
        decide(approved_call(), "bob")


@pytest.mark.parametrize("choice", Choice)
def test_the_deadline_itself_is_in_time_and_a_tick_later_is_not(choice: Choice) -> None:
    assert decide(make_call(), choice=choice, now=DEADLINE).event in {Event.APPROVE, Event.REJECT}
    late = decide(make_call(), choice=choice, now=DEADLINE + TICK)
    assert late.event is Event.EXPIRE
    assert late.call == make_call(
        status=Status.EXPIRED,
        version=2,
        ended_at=DEADLINE + TICK,
        ended_by="clock",
        note="nobody decided",
    )


APPROVED_ON = [
    Status.PENDING,
    Status.APPROVED,
    Status.EXECUTING,
    Status.EXECUTED,
    Status.ERRORED,
    Status.FAILED,
    Status.IN_DOUBT,
]


@pytest.mark.parametrize("digest", ["same", "another", None])
@pytest.mark.parametrize("status", APPROVED_ON)
def test_repeating_an_approval_that_stands_changes_nothing(
    status: Status, digest: str | None
) -> None:
    call = make_call(status=status, votes=(vote("ann"),), requirement=TWO)
    assert decide(call, digest=digest, now=DEADLINE + TICK) == Change(call=call)


@pytest.mark.parametrize("status", [s for s in Status if s not in APPROVED_ON])
def test_repeating_an_approval_that_no_longer_stands_is_answered_with_what_it_is_now(
    status: Status,
) -> None:
    with pytest.raises(Conflict, match=f"the call is {status}"):
        decide(make_call(status=status, votes=(vote("ann"),)))


def test_repeating_a_rejection_changes_nothing_and_does_not_hide_another_end() -> None:
    rejected = make_call(status=Status.REJECTED, votes=(vote("ann", NO),))
    assert decide(rejected, choice=NO, digest=None) == Change(call=rejected)
    with pytest.raises(Conflict):
        decide(replace(rejected, status=Status.EXPIRED), choice=NO)
    with pytest.raises(Conflict):
        decide(rejected, "bob", NO)


def test_one_person_twice_is_not_two_people() -> None:
    first = decide(make_call(requirement=TWO), verdict=ALLOW)
    assert (first.event, first.call.status) == (Event.ENDORSE, Status.PENDING)
    assert decide(first.call, verdict=ALLOW) == Change(call=first.call)
    second = decide(first.call, "bob", verdict=ALLOW)
    assert (second.event, len(second.call.votes)) == (Event.APPROVE, 2)


def test_a_voter_who_left_meanwhile_does_not_make_up_the_quorum() -> None:
    first = decide(
        make_call(
            requirement=replace(TWO, factors=(Factor(approvers=("everybody",), approvals=2),))
        ),
        verdict=ALLOW,
    )
    left = make_directory(groups={"everybody": ("bob", "carl")})
    second = decide(first.call, "bob", directory=left, verdict=ALLOW)
    assert (second.event, second.call.status) == (Event.ENDORSE, Status.PENDING)


def test_a_rejection_beats_the_approvals_before_it() -> None:
    endorsed = decide(make_call(requirement=TWO), verdict=ALLOW).call
    rejected = decide(endorsed, "bob", NO, verdict=ALLOW)
    assert (rejected.event, rejected.call.status) == (Event.REJECT, Status.REJECTED)
    with pytest.raises(Conflict):
        decide(rejected.call, "bob", YES, verdict=ALLOW)


@pytest.mark.parametrize("person", ["ann", "bob"])
def test_until_the_claim_anybody_eligible_may_revoke(person: str) -> None:
    change = decide(approved_call(), person, NO, digest=None)
    assert (change.event, change.previous) == (Event.REVOKE, Status.APPROVED)
    assert (change.call.status, change.call.ended_at) == (Status.REJECTED, LATER)
    assert [(v.person, v.choice) for v in change.call.votes] == [("ann", YES), (person, NO)]
    with pytest.raises(Conflict):
        claim(change.call)


def test_after_the_claim_nobody_revokes() -> None:
    with pytest.raises(Conflict, match="the call is executing"):
        decide(executing_call(), "bob", NO)


@pytest.mark.parametrize("verdict", [DENY, replace(GATE, requirement=None)])
def test_an_approval_under_a_policy_that_denies_now_invalidates(verdict: Verdict) -> None:
    change = decide(make_call(), verdict=verdict)
    assert (change.event, change.actor, change.facts) == (
        Event.INVALIDATE,
        "policy",
        {"why": "policy_denies"},
    )
    assert change.call == make_call(
        status=Status.INVALIDATED,
        version=2,
        ended_at=LATER,
        ended_by="policy",
        note="policy_denies",
    )


def test_a_person_may_reject_even_what_policy_denies_now() -> None:
    assert decide(make_call(), choice=NO, verdict=DENY).event is Event.REJECT


def test_an_approval_meets_the_quorum_of_the_policy_in_force() -> None:
    stricter = make_verdict(requirement=TWO)
    assert decide(make_call(), verdict=stricter).event is Event.ENDORSE


def test_a_milder_policy_does_not_lower_what_was_asked() -> None:
    assert decide(make_call(requirement=TWO), verdict=ALLOW).event is Event.ENDORSE
    assert decide(make_call(requirement=TWO), verdict=GATE).event is Event.ENDORSE


def test_the_owner_does_not_count_once_the_policy_in_force_bars_the_owner() -> None:
    call = make_call(requirement=replace(EVERYBODY, not_owner=False))
    change = decide(call, "carl", verdict=make_verdict(requirement=EVERYBODY))
    assert (change.event, change.call.status) == (Event.ENDORSE, Status.PENDING)


def test_the_shorter_deadline_of_the_policy_in_force_counts() -> None:
    shorter = make_verdict(requirement=make_requirement(timeout=timedelta(minutes=5)))
    limit = NOW + timedelta(minutes=5)
    assert decide(make_call(), verdict=shorter, now=limit).event is Event.APPROVE
    late = decide(make_call(), verdict=shorter, now=limit + TICK)
    assert (late.event, late.call.status) == (Event.EXPIRE, Status.EXPIRED)
    assert late.call.votes == ()


def test_the_time_to_run_is_the_shortest_that_is_asked() -> None:
    shorter = make_verdict(requirement=make_requirement(run_within=timedelta(minutes=2)))
    assert decide(make_call(), verdict=shorter).call.run_before == LATER + timedelta(minutes=2)
