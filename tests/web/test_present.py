from dataclasses import replace
from datetime import timedelta

import pytest

from approval.core.call import Attempt, Call, Choice, Factor, Listener, Run, Status, Vote
from approval.core.identity import Right
from approval.web import present
from tests.factories import NOW, make_asked, make_call, make_directory, make_requirement

LATER = NOW + timedelta(seconds=12)


def vote(person: str = "bob", choice: Choice = Choice.APPROVE) -> Vote:
    return Vote(person=person, choice=choice, digest="d" * 64, at=NOW, via="web")


def approved(status: Status, **changes: object) -> Call:
    given: dict[str, object] = {
        "votes": (vote(),),
        "decided_at": NOW,
        "ended_by": "person:bob",
        **changes,
    }
    return make_call(status=status, **given)


UPSTREAM = {"ended_by": "upstream:shop", "ended_at": NOW}
SETTLED = {"ended_by": "person:dora", "ended_at": NOW}
STORIES = [
    (make_call(), "This is waiting for a decision."),
    (make_call(votes=(vote(),)), "Bob approved this 12 s ago; it needs more approvals."),
    (approved(Status.APPROVED), "Bob approved this 12 s ago. It is about to run."),
    (
        approved(Status.APPROVED, listener=Listener.GONE),
        "Bob approved this 12 s ago. It runs when the agent asks again.",
    ),
    (
        approved(
            Status.APPROVED,
            listener=Listener.TOLD,
            requirement=make_requirement(run=Run.WHEN_ASKED),
        ),
        "Bob approved this 12 s ago. It runs when the agent asks again.",
    ),
    (approved(Status.EXECUTING), "Bob approved this 12 s ago. It is running now."),
    (
        approved(Status.EXECUTED, **UPSTREAM),
        "Bob approved this 12 s ago. The upstream executed it 12 s ago.",
    ),
    (approved(Status.EXECUTED, **SETTLED), "Dora settled this 12 s ago: it was executed."),
    (
        approved(Status.ERRORED, **UPSTREAM),
        (
            "Bob approved this 12 s ago. The upstream answered with an error 12 s ago;"
            " it may have acted."
        ),
    ),
    (
        approved(Status.FAILED, **UPSTREAM),
        "Bob approved this 12 s ago. It never took effect at the upstream.",
    ),
    (approved(Status.FAILED, **SETTLED), "Dora settled this 12 s ago: nothing happened."),
    (
        approved(Status.IN_DOUBT),
        "Bob approved this 12 s ago. It was sent, and nobody knows what became of it.",
    ),
    (
        approved(Status.REJECTED, votes=(vote(choice=Choice.REJECT),), ended_at=NOW),
        "Bob rejected this 12 s ago.",
    ),
    (make_call(status=Status.DENIED, ended_at=NOW), "Policy denied this 12 s ago."),
    (
        make_call(status=Status.EXPIRED, ended_at=NOW, ended_by="clock"),
        "Nobody decided in time. It expired 12 s ago.",
    ),
    (
        approved(Status.EXPIRED, ended_at=NOW, ended_by="clock"),
        "Bob approved this 12 s ago, but nobody collected it in time. It expired 12 s ago.",
    ),
    (
        make_call(status=Status.CANCELLED, ended_at=NOW, ended_by="agent:ops-agent"),
        "The agent ops-agent cancelled this 12 s ago.",
    ),
    (
        make_call(status=Status.INVALIDATED, ended_at=NOW, ended_by="policy"),
        "The policy in force no longer permits this. It ended 12 s ago.",
    ),
]


@pytest.mark.parametrize(("call", "told"), STORIES)
def test_a_call_tells_what_it_is_now(call: Call, told: str) -> None:
    assert present.story(call, make_directory(), LATER) == told


def test_every_state_has_a_story_and_a_word() -> None:
    assert {call.status for call, _ in STORIES} == set(Status) == set(present.STATES)
    assert set(present.LISTENERS) == set(Listener)


def test_no_text_but_the_button_says_denied_for_a_person() -> None:
    told = [story for call, story in STORIES if call.status is not Status.DENIED]
    assert not any("denied" in story.lower() for story in told)


def test_the_reader_is_you() -> None:
    rejected = approved(Status.REJECTED, votes=(vote(choice=Choice.REJECT),), ended_at=NOW)
    assert present.story(rejected, make_directory(), NOW, "bob") == "You rejected this just now."


def test_names_with_braces_stay_names() -> None:
    call = make_call(status=Status.CANCELLED, ended_at=NOW, ended_by="agent:{who}{0}")
    assert "The agent {who}{0} cancelled" in present.story(call, make_directory(), NOW)


@pytest.mark.parametrize(
    ("named", "worded"),
    [
        ("person:ann", "Ann"),
        ("person:nobody\u202e", "nobody[U+202E]"),
        ("agent:x", "The agent x"),
        ("upstream:shop", "The upstream shop"),
        ("clock", "The clock"),
        ("policy", "The policy"),
        ("web", "A browser"),
        ("service:0123", "The service"),
        ("", "The service"),
    ],
)
def test_actors_are_worded_as_people_know_them(named: str, worded: str) -> None:
    assert present.actor(named, make_directory()) == worded


@pytest.mark.parametrize(
    ("seconds", "worded"),
    [
        (-5, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (86400, "1 d"),
        (90000, "1 d 1 h"),
    ],
)
def test_spans_are_worded_in_their_largest_units(seconds: int, worded: str) -> None:
    assert present.span(timedelta(seconds=seconds)) == worded


def test_a_moment_that_is_still_to_come_was_just_now() -> None:
    assert present.ago(NOW + timedelta(hours=1), NOW) == "just now"


def test_a_story_keeps_its_moments() -> None:
    rejected = approved(Status.REJECTED, votes=(vote(choice=Choice.REJECT),), ended_at=NOW)
    assert present.tell(rejected, make_directory(), LATER) == ("Bob", " rejected this ", NOW, ".")


def test_the_headline_is_the_policys_words_and_never_the_upstreams() -> None:
    assert present.headline(make_call()) == "ops-agent wants to buy a phone number"
    untitled = make_call(title=None, asked=make_asked(tool="x\u202ey"))
    assert present.headline(untitled) == "ops-agent wants to run x\u202ey"
    view = present.view(untitled, "ann", make_directory(), NOW)
    assert view.headline_text == "ops-agent wants to run x[U+202E]y"
    assert view.suspicious


def test_a_view_of_a_waiting_call_says_who_may_do_what() -> None:
    view = present.view(make_call(), "ann", make_directory(), NOW)
    assert (view.may_approve, view.may_reject, view.may_cancel, view.may_settle) == (
        True,
        True,
        False,
        False,
    )
    assert view.waits_for == NOW + timedelta(minutes=15)
    assert view.state == "waiting"
    assert view.raw[0].text == '{"phone_number":"+14155550100"}'
    assert not view.suspicious
    assert not view.masked
    assert view.barred == ()


def test_who_has_voted_may_only_take_it_back() -> None:
    half = make_call(votes=(vote("ann"),))
    view = present.view(half, "ann", make_directory(), NOW)
    assert (view.may_approve, view.may_reject) == (False, True)
    run_before = NOW + timedelta(minutes=10)
    whole = approved(Status.APPROVED, run_before=run_before)
    view = present.view(whole, "ann", make_directory(), NOW)
    assert (view.may_approve, view.may_reject, view.waits_for) == (False, True, run_before)


def test_the_agents_owner_may_cancel_and_not_decide() -> None:
    requirement = make_requirement(factors=(Factor(approvers=("everybody",), approvals=2),))
    call = make_call(requirement=requirement, votes=(vote(),))
    view = present.view(call, "carl", make_directory(), NOW)
    assert (view.may_approve, view.may_reject, view.may_cancel) == (False, False, True)
    assert view.barred == ("Carl",)
    assert view.seats == (
        present.Seat(approvals=2, named=("everybody",), people=("Ann", "Bob"), given=("Bob",)),
    )
    ended = replace(call, status=Status.EXECUTED)
    assert not present.view(ended, "carl", make_directory(), NOW).may_cancel


def test_an_admin_may_cancel_and_settle() -> None:
    directory = make_directory(rights={Right.ADMIN: frozenset({"dora"})})
    assert present.view(make_call(), "dora", directory, NOW).may_cancel
    attempt = Attempt(number=1, owner="x", claimed_at=NOW, lease_until=NOW)
    doubtful = approved(Status.IN_DOUBT, attempt=attempt)
    view = present.view(doubtful, "dora", directory, NOW)
    assert (view.may_settle, view.may_cancel, view.waits_for) == (True, False, None)
    assert not present.view(doubtful, "ann", directory, NOW).may_settle


def test_credentials_are_covered_in_the_exact_bytes_too_until_revealed() -> None:
    call = make_call(asked=make_asked({"api_key": "sk-live"}))
    covered = present.view(call, "ann", make_directory(), NOW)
    assert covered.raw[0].text == '{"api_key":"••••••"}'
    assert (covered.masked, covered.revealed) == (True, False)
    shown = present.view(call, "ann", make_directory(), NOW, reveal=True)
    assert shown.raw[0].text == '{"api_key":"sk-live"}'
    assert (shown.masked, shown.revealed) == (True, True)


def test_times_are_written_in_utc_with_a_z() -> None:
    assert present.stamp(NOW) == "2026-11-21T12:00:00.000Z"
    assert present.stamp(None) is None
