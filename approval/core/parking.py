"""Approved calls that nobody holds the line for: which run all the same, and on whose word.

An agent that hung up before it was told anything may have done the thing another way by now, or
its protocol counts the call as cancelled. So its approval is *parked*: the call runs when the agent
asks again, or when a person who may approve it says that it is to run now.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from approval.core import identity, steps
from approval.core.call import Call, Listener, Run, Status, Verdict
from approval.core.identity import Directory
from approval.core.lifecycle import Change, Event, move
from approval.core.policy import tighten
from approval.errors import Conflict, Forbidden


def releasable(call: Call) -> bool:
    """Say whether an approved call may run although nobody holds its line."""
    match call.requirement.run:
        case Run.ON_APPROVAL:
            return True
        case Run.WHEN_ASKED:
            return False
        case Run.AUTO:
            return call.listener is Listener.TOLD or call.released_by is not None


def parked(call: Call) -> bool:
    """Say whether a person may have this call run now; it would wait for its agent otherwise."""
    waits = call.status is Status.APPROVED and not releasable(call)
    return waits and call.requirement.run is not Run.WHEN_ASKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A person's word that a call is to run now. `digest` is what they saw."""

    person: str
    digest: str
    via: str


def release(
    call: Call, word: Word, *, directory: Directory, verdict: Verdict, now: datetime
) -> Change:
    """Let a parked call run on the word of somebody who may approve it.

    This sends nothing and claims nothing: whoever claims the call next runs it, and only one can.
    Saying so again changes nothing.

    Raises:
        Forbidden: If this person may not decide this call.
        Conflict: If the call is another one than was shown, is not approved (any more), or is not
            parked: it runs without this, or its rule lets it run for its agent alone.
    """
    if word.person not in identity.deciders(directory, call):
        raise Forbidden(f"{word.person} is not among those who may decide this call")
    if not identity.same_digest(word.digest, call.digest):
        raise Conflict("the call is not the one that was shown: look at it again")
    if _repeats(call, word.person):
        return Change(call=call)
    if call.status is not Status.APPROVED:
        raise Conflict(f"the call is {call.status}; only an approved call can be run now")
    if call.run_before is None or now > call.run_before:
        return steps.expire(call, now=now)
    return _released(call, word, verdict, now)


def _released(call: Call, word: Word, verdict: Verdict, now: datetime) -> Change:
    # The policy in force may be stricter than the one the call was approved under.
    requirement = tighten(call.requirement, verdict)
    if requirement is None:
        return steps.invalidate(call, "policy_denies", now=now)
    if requirement.run is Run.WHEN_ASKED:
        raise Conflict("its rule lets it run only when its agent asks for it again")
    if not parked(call):
        raise Conflict("the call is about to run without that")
    released = replace(call, released_by=word.person)
    facts = {"digest": word.digest, "via": word.via}
    return move(released, Event.RELEASE, f"person:{word.person}", facts=facts)


def _repeats(call: Call, person: str) -> bool:
    """Say whether somebody has said so and it stands; once it runs, only who said it repeats it."""
    if call.status is Status.APPROVED:
        return call.released_by is not None
    return call.status in _RUN and call.released_by == person


_RUN: Final = frozenset(
    {Status.EXECUTING, Status.EXECUTED, Status.ERRORED, Status.FAILED, Status.IN_DOUBT}
)
