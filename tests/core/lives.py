"""Calls at every stage of their life, and two steps with what they mostly need."""

from dataclasses import replace
from datetime import datetime, timedelta

from approval.core import steps
from approval.core.call import (
    Attempt,
    Call,
    Choice,
    Factor,
    Outcome,
    Status,
    Verdict,
    Vote,
)
from approval.core.identity import Directory
from approval.core.lifecycle import Change
from approval.core.steps import Ballot
from tests.factories import (
    NOTHING,
    NOW,
    make_call,
    make_directory,
    make_lease,
    make_requirement,
    make_verdict,
)

TICK = timedelta(microseconds=1)
DEADLINE = NOW + timedelta(minutes=15)
LATER = NOW + timedelta(minutes=1)
GATE, ALLOW, DENY = make_verdict(), make_verdict(Outcome.ALLOW), make_verdict(Outcome.DENY)
TWO = make_requirement(factors=(Factor(approvers=("finance",), approvals=2),))
EVERYBODY = make_requirement(factors=(Factor(approvers=("everybody",)),))
ENDS = [status for status in Status if status.ended]
YES, NO = Choice.APPROVE, Choice.REJECT


def vote(person: str, choice: Choice = YES, **changes: object) -> Vote:
    given = Vote(person=person, choice=choice, digest=make_call().digest, at=NOW, via="web")
    return replace(given, **changes)  # type: ignore[arg-type]


def approved_call(**changes: object) -> Call:
    call = make_call(
        status=Status.APPROVED,
        version=2,
        votes=(vote("ann"),),
        decided_at=NOW,
        run_before=NOW + timedelta(minutes=10),
        ended_by="person:ann",
    )
    return replace(call, **changes)  # type: ignore[arg-type]


def executing_call(**changes: object) -> Call:
    attempt = Attempt(number=1, owner="me", claimed_at=NOW, lease_until=LATER)
    call = approved_call(status=Status.EXECUTING, version=3, attempt=attempt)
    return replace(call, **changes)  # type: ignore[arg-type]


def doubtful_call(**changes: object) -> Call:
    attempt = Attempt(number=1, owner="me", claimed_at=NOW, lease_until=LATER, outcome="lost")
    call = executing_call(status=Status.IN_DOUBT, version=4, attempt=attempt)
    return replace(call, **changes)  # type: ignore[arg-type]


def decide(
    call: Call,
    person: str = "ann",
    choice: Choice = YES,
    *,
    digest: str | None = "same",
    verdict: Verdict = GATE,
    directory: Directory | None = None,
    now: datetime = LATER,
) -> Change:
    ballot = Ballot(
        person=person,
        choice=choice,
        digest=call.digest if digest == "same" else digest,
        via="web",
        reason="because",
    )
    directory = directory or make_directory()
    return steps.decide(call, ballot, directory=directory, verdict=verdict, now=now)


def claim(
    call: Call,
    *,
    verdict: Verdict = GATE,
    directory: Directory | None = None,
    now: datetime = LATER,
) -> Change:
    return steps.claim(
        call,
        NOTHING,
        lease=make_lease(),
        directory=directory or make_directory(),
        verdict=verdict,
        now=now,
    )


SETTLE_FROM = LATER + timedelta(seconds=60)
"""The first moment at which a person may settle `doubtful_call`."""
