"""The steps of a call's life: guards first, then one event of the table.

Each takes a call and the store's time **after the lock was taken**, and answers the `Change` to be
written, or one without an event when there is nothing to write. A step is pure, so the store may
run it again. Deadlines are compared here, under the lock, never by a timer alone: whichever
transaction commits first has happened.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from approval.core import admission, asking, canonical, giving, identity
from approval.core.call import (
    Answer,
    Attempt,
    Call,
    Choice,
    Status,
    Verdict,
    Vote,
)
from approval.core.demand import Holdings
from approval.core.grantable import Wish, narrowest
from approval.core.identity import Directory
from approval.core.intake import Lease, attempt_facts
from approval.core.issued import Issue
from approval.core.lifecycle import TRANSITIONS, Change, Event, booked, correctable, move
from approval.core.money import Money
from approval.core.policy import tighten
from approval.core.price import UNSAID, Unknown
from approval.core.refusals import Refusal
from approval.errors import Conflict, Forbidden, Unreadable

MAX_ANSWER: Final = 16 * 1024 * 1024
"""How much of an upstream's answer is read for what it took, in bytes."""

SETTLE_PAUSE: Final = timedelta(seconds=60)
"""A person settles a doubt only this long after the lease: the sender may merely be slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """A decision as it arrived. `digest` is what the person saw; a rejection may leave it out.

    `amount` is what they typed that the call costs, as they wrote it; None if they typed nothing.
    `grant` is what they would let the agent do besides without asking; a rejection gives none.
    """

    person: str
    choice: Choice
    digest: str | None
    via: str
    reason: str = ""
    amount: str | None = None
    grant: Wish | None = None


# --- people ---


def decide(
    call: Call, ballot: Ballot, *, directory: Directory, verdict: Verdict, now: datetime
) -> Change:
    """Apply one person's decision (T5 to T8), under the policy in force.

    Repeating one's own decision changes nothing. A decision after the deadline finds the call
    expired, whatever the sweeper has seen of it.

    Raises:
        Forbidden: If this person may not decide this call.
        Conflict: If the call is no longer open to this decision, or the card was another one, or
            somebody else has typed another amount.
        Unreadable: If the amount is not what this person may type, or is missing, or not asked for.
    """
    if ballot.person not in identity.deciders(directory, call):
        raise Forbidden(f"{ballot.person} is not among those who may decide this call")
    if _repeats(call, ballot):
        return Change(call=call)
    if ballot.digest is not None and not identity.same_digest(ballot.digest, call.digest):
        raise Conflict("the call is not the one that was shown: look at it again and decide anew")
    if call.status is Status.APPROVED and ballot.choice is Choice.REJECT:
        return _rejected(call, ballot, Event.REVOKE, now)
    if call.status is not Status.PENDING:
        raise Conflict(f"the call is {call.status} and takes no decision")
    if now > call.decide_before:
        return expire(call, now=now)
    if ballot.choice is Choice.REJECT:
        return _rejected(call, ballot, Event.REJECT, now)
    return _approve(call, ballot, directory, verdict, now)


def _repeats(call: Call, ballot: Ballot) -> bool:
    """Say whether this person said so before, and it stands: a click may arrive many times."""
    stands = call.status not in _UNDONE
    if ballot.choice is Choice.REJECT:
        stands = call.status is Status.REJECTED
    return stands and any(
        (vote.person, vote.choice, vote.grant) == (ballot.person, ballot.choice, ballot.grant)
        and asking.says(vote, ballot.amount)
        for vote in call.votes
    )


_UNDONE: Final = frozenset(
    {Status.REJECTED, Status.EXPIRED, Status.CANCELLED, Status.INVALIDATED, Status.DENIED}
)
"""Where an approval given earlier no longer counts: whoever repeats it must be told."""


def _rejected(call: Call, ballot: Ballot, event: Event, now: datetime) -> Change:
    if ballot.amount is not None:
        raise Unreadable("not_asked", "a rejection takes no amount; leave it out")
    vote = _vote(call, ballot, now)
    ended = replace(
        call,
        votes=(*call.votes, vote),
        decided_at=now,
        ended_by=f"person:{ballot.person}",
        note=ballot.reason,
    )
    return move(ended, event, ended.ended_by, now=now, facts=_vote_facts(vote))


def _approve(
    call: Call, ballot: Ballot, directory: Directory, verdict: Verdict, now: datetime
) -> Change:
    requirement = tighten(call.requirement, verdict)
    if requirement is None:
        return invalidate(call, "policy_denies", now=now)
    if ballot.digest is None:
        raise Conflict("an approval names the digest of what was shown")
    if now > call.created_at + requirement.timeout:
        # The policy in force gives less time than the one the call was held under.
        return _expired(call, now)
    if not asking.stands(call, verdict.demand):
        return invalidate(call, "price_changed", now=now)
    typed = asking.typed(call, ballot.amount, verdict.demand)
    if any(vote.person == ballot.person for vote in call.approvals):
        raise Conflict("you approved the call with other words about a grant, and those stand")
    if ballot.grant is not None:
        giving.check(
            call,
            ballot.grant,
            requirement=requirement,
            directory=directory,
            person=ballot.person,
            now=now,
        )
    vote = replace(_vote(call, ballot, now), amount=typed)
    voted = replace(call, votes=(*call.votes, vote))
    actor = f"person:{ballot.person}"
    if not identity.satisfied(directory, voted, requirement, voted.approvals):
        return move(voted, Event.ENDORSE, actor, facts=_vote_facts(vote))
    approved = replace(
        voted,
        decided_at=now,
        run_before=now + requirement.run_within,
        ended_by=actor,
        note=ballot.reason,
        amount=call.amount if typed is None else typed,
    )
    issue = giving.given(approved, requirement, via=ballot.via, now=now)
    facts = _vote_facts(vote) | _given_facts(approved, issue)
    moved = move(approved, Event.APPROVE, actor, facts=facts, actual=typed)
    return replace(moved, issue=issue, facts={**moved.facts, **_override_facts(moved.call)})


def _vote(call: Call, ballot: Ballot, now: datetime) -> Vote:
    return Vote(
        person=ballot.person,
        choice=ballot.choice,
        digest=ballot.digest or call.digest,
        at=now,
        via=ballot.via,
        reason=ballot.reason,
        grant=ballot.grant if ballot.choice is Choice.APPROVE else None,
    )


def _vote_facts(vote: Vote) -> dict[str, object]:
    facts: dict[str, object] = {
        "digest": vote.digest,
        "person": vote.person,
        "reason": vote.reason,
        "via": vote.via,
    }
    if vote.amount is not None:
        facts["amount"] = str(vote.amount)
    if vote.grant is not None:
        facts["wish"] = str(vote.grant)
    return facts


def _given_facts(call: Call, issue: Issue | None) -> dict[str, object]:
    """Say which grant came of an approval, or that one was asked for and none came of it."""
    if issue is not None:
        wish = narrowest(vote.grant for vote in call.approvals)
        return {"granted": issue.grant.id, "grant": str(wish)}
    asked = any(vote.grant is not None for vote in call.approvals)
    return {"granted": None} if asked else {}


def _override_facts(call: Call) -> dict[str, object]:
    """Say how far an approval lets a call pass the limits of which its approvers may."""
    beyond = {
        each.meter_id: str(Money(each.override, each.amount.currency))
        for each in call.reservations
        if each.override
    }
    return {"override": beyond} if beyond else {}


def settle(
    call: Call,
    *,
    executed: bool,
    person: str,
    evidence: str,
    now: datetime,
    actual: Money | None = None,
) -> Change:
    """Let a person say what became of a call in doubt (T19), and what it took if they know.

    Raises:
        Conflict: If the call is not in doubt, its sender may still be at work, or `actual` is not
            what such a call can have taken.
    """
    if call.status is not Status.IN_DOUBT or call.attempt is None:
        raise Conflict(f"the call is {call.status}; only a call in doubt is settled")
    if now < call.attempt.lease_until + SETTLE_PAUSE:
        raise Conflict("its sender may still be at work: settle it a minute after its lease ended")
    facts = {"evidence": evidence}
    if actual is not None:
        if not executed:
            raise Conflict("a call that failed took nothing: settle it as failed without an amount")
        _check_amount(call, actual)
        facts["actual"] = str(actual)
    event = Event.SETTLE_EXECUTED if executed else Event.SETTLE_FAILED
    actor = f"person:{person}"
    settled = replace(call, ended_by=actor, note=evidence)
    return move(settled, event, actor, now=now, facts=facts, actual=actual)


def correct(call: Call, *, person: str, evidence: str, actual: Money, now: datetime) -> Change:
    """Correct what was booked for an ended call to what a person knows that it took.

    What was given back is booked as well: an error that was free by rule, or a failure, may turn
    out to have spent. How the call ended stays as it is, and so do what its agent was told and a
    freeze. Saying what is booked already changes nothing.

    Raises:
        Conflict: If the call was never sent, or draws on no meter, or `actual` is in another
            currency.
    """
    if (call.status, Event.CORRECT) not in TRANSITIONS:
        raise Conflict(f"the call is {call.status}; only what a call took that ran is corrected")
    _check_amount(call, actual)
    before = correctable(call, actual)
    if not before:
        raise Conflict(
            "nothing was booked for the call, which draws on no meter in"
            f" {actual.currency}; nothing to correct"
        )
    if all(each.posted == actual.minor for each in before):
        return Change(call=call)
    facts = {"actual": str(actual), "evidence": evidence}
    return move(call, Event.CORRECT, f"person:{person}", now=now, facts=facts, actual=actual)


def _check_amount(call: Call, actual: Money) -> None:
    if call.amount is None:
        raise Conflict("the call has no amount: its policy gives it no price; leave the amount out")
    if actual.currency != call.amount.currency:
        wanted = call.amount.currency
        raise Conflict(
            f"the call is counted in {wanted}, not {actual.currency}; say it in {wanted}"
        )


# --- the agent, the clock, the policy ---


def cancel(call: Call, *, actor: str, reason: str, now: datetime) -> Change:
    """Withdraw the call on its asker's or an admin's word (T11), while it is not claimed.

    Raises:
        Conflict: If the call has been claimed or has ended.
    """
    return move(replace(call, ended_by=actor, note=reason), Event.CANCEL, actor, now=now)


def expire(call: Call, *, now: datetime) -> Change:
    """End a call whose deadline has passed (T10); one that is not due is left alone."""
    due = call.decide_before if call.status is Status.PENDING else call.run_before
    if call.status not in {Status.PENDING, Status.APPROVED} or due is None or now <= due:
        return Change(call=call)
    return _expired(call, now)


def _expired(call: Call, now: datetime) -> Change:
    note = "nobody decided" if call.status is Status.PENDING else "nobody collected it"
    return move(replace(call, ended_by="clock", note=note), Event.EXPIRE, "clock", now=now)


def review(call: Call, verdict: Verdict, *, now: datetime) -> Change:
    """Hold a waiting call against a policy that was loaded after it (the strictest of both).

    Loosening changes nothing: what a person was asked to judge stays asked.
    """
    if call.status not in {Status.PENDING, Status.APPROVED}:
        return Change(call=call)
    requirement = tighten(call.requirement, verdict)
    if requirement is None:
        return invalidate(call, "policy_denies", now=now)
    if call.status is Status.APPROVED:
        return Change(call=call)
    if not asking.stands(call, verdict.demand):
        return invalidate(call, "price_changed", now=now)
    bounded = asking.bounded(call, verdict.demand)
    if requirement == call.requirement and bounded == call:
        return Change(call=call)
    tightened = replace(
        bounded,
        requirement=requirement,
        policy_digest=verdict.policy_digest,
        decide_before=min(call.decide_before, call.created_at + requirement.timeout),
    )
    facts = {"digest": tightened.digest, "policy": verdict.policy_digest}
    up_to = bounded.asking.up_to if bounded.asking is not None else None
    if up_to is not None and up_to != call.amount:
        facts["up_to"] = str(up_to)
    return move(tightened, Event.TIGHTEN, "policy", facts=facts, actual=up_to)


def invalidate(call: Call, why: str, *, now: datetime, told: str = "") -> Change:
    """End a call because what it was approved under no longer holds (T12).

    `told` says more of it than the one word `why` does, to people and to the agent.
    """
    note = f"{why}: {told}" if told else why
    ended = replace(call, ended_by="policy", note=note)
    return move(ended, Event.INVALIDATE, "policy", now=now, facts={"why": note})


# --- release ---


def claim(
    call: Call,
    holdings: Holdings,
    *,
    lease: Lease,
    directory: Directory,
    verdict: Verdict,
    now: datetime,
) -> Change:
    """Take the one right to send the call (T13). Commit this before the first byte leaves.

    The policy in force and the voters' present standing are looked at once more: an approval that
    would not be given today does not run today. Neither does a call that nobody has seen as it is
    (the decisive approval names its digest), nor one that spends with a tool that was frozen for
    its agent meanwhile, nor one for which a meter has no room now: its window may have begun since
    the call was admitted, or its limit have been lowered.

    Raises:
        Conflict: If the call is not approved (any more).
    """
    if call.status is not Status.APPROVED:
        raise Conflict(f"the call is {call.status}; only an approved call is claimed")
    if call.run_before is None or now > call.run_before:
        return expire(call, now=now)
    why = _no_longer_approved(call, directory, verdict)
    if why:
        return invalidate(call, why, now=now)
    if holdings.frozen and call.amount is not None:
        return invalidate(call, "frozen", now=now, told=admission.frozen(holdings.frozen).text)
    held = {each.meter_id: each for each in call.reservations}
    moved = admission.rehome(asking.demanded(call, verdict.demand), held, holdings, now)
    if isinstance(moved, Refusal):
        return invalidate(call, "budget", now=now, told=moved.text)
    attempt = Attempt(number=1, owner=lease.owner, claimed_at=now, lease_until=now + lease.span)
    claimed = replace(call, attempt=attempt)
    facts = {"digest": call.digest, **attempt_facts(attempt)}
    change = move(claimed, Event.CLAIM, f"service:{lease.owner}", facts=facts)
    return booked(change, moved)


def _no_longer_approved(call: Call, directory: Directory, verdict: Verdict) -> str:
    """Say why the approval would not be given today, or nothing."""
    requirement = tighten(call.requirement, verdict)
    if requirement is None:
        return "policy_denies"
    if not asking.price_stands(call, verdict.demand):
        return "price_changed"
    if not identity.satisfied(directory, call, requirement, call.approvals):
        return "approval_no_longer_enough"
    if not any(identity.same_digest(vote.digest, call.digest) for vote in call.approvals):
        return "not_what_was_approved"
    return ""


def answer(call: Call, found: Answer, *, owner: str, now: datetime) -> Change:
    """Record what the upstream answered (T14 to T16, T18), and what it says that it took.

    A late answer only adds knowledge: it moves a doubt to executed or errored, never to failed, and
    never what a person has settled.

    Raises:
        Conflict: If the attempt is not this owner's, or the call has ended.
    """
    attempt = call.attempt
    if attempt is None or attempt.owner != owner:
        raise Conflict("the answer belongs to another attempt")
    late = call.status is Status.IN_DOUBT
    event = _ANSWERS_LATE[found.status] if late else _ANSWERS[found.status]
    done = replace(
        call,
        attempt=replace(attempt, outcome=str(event)),
        ended_by=f"upstream:{call.asked.upstream}",
    )
    said = took(call, found)
    actual = said if isinstance(said, Money) else None
    change = move(done, event, f"service:{owner}", now=now, actual=actual)
    facts: dict[str, object] = {}
    if change.overran:
        facts["overrun"] = str(actual)
    if isinstance(said, Unknown):  # by its code alone: the rest is the upstream's text
        facts["actual_refused"] = said.reason
    return replace(change, answer=found, facts=facts)


def took(call: Call, found: Answer) -> Money | Unknown | None:
    """Read what the upstream says it took; None where it says nothing.

    What cannot be relied on moves as much money as nothing said.
    """
    if call.amount is None or call.terms.actual is None:
        return None
    try:
        body = canonical.read(found.body, limit=MAX_ANSWER)
    except Unreadable as error:
        return Unknown(reason=error.reason, text=str(error))
    result = body.get("result") if isinstance(body, dict) else None
    if result is None:
        return None
    said = call.terms.took(result, call.amount.currency)
    return None if isinstance(said, Unknown) and said.reason in UNSAID else said


_ANSWERS: Final = {
    Status.EXECUTED: Event.SUCCEED,
    Status.ERRORED: Event.ERR,
    Status.FAILED: Event.FAIL,
}
_ANSWERS_LATE: Final = {
    Status.EXECUTED: Event.SUCCEED_LATE,
    Status.ERRORED: Event.ERR_LATE,
    Status.FAILED: Event.ERR_LATE,
}


def lose(call: Call, *, why: str, actor: str) -> Change:
    """Say that nobody knows what became of the call (T17)."""
    attempt = call.attempt
    lost = replace(call, note=why, attempt=attempt and replace(attempt, outcome="lost"))
    return move(lost, Event.LOSE, actor, facts={"why": why})


def lapse(call: Call, *, now: datetime) -> Change:
    """Put an executing call whose lease has passed in doubt: its owner is dead or too late."""
    attempt = call.attempt
    if call.status is not Status.EXECUTING or attempt is None or now <= attempt.lease_until:
        return Change(call=call)
    return lose(call, why="its sender stopped before an answer was recorded", actor="clock")
