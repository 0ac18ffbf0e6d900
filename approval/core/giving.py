"""A grant that comes out of a decision: what is asked for, whether the rule allows it, what it is.

It comes into being with the approval that is enough, in the same change, or not at all. It reaches
no further than the call that was shown, times what the rule lets its approvers give.
"""

from datetime import datetime

from approval.core import canonical, grants
from approval.core.call import Call, Requirement
from approval.core.grantable import Bounds, Wish, narrowest, on_call
from approval.core.grants import Decided, Grant, Origin, Shown
from approval.core.identity import Agent, Directory
from approval.core.issued import Issue, issue
from approval.core.money import Money
from approval.core.policy import tool_pattern
from approval.core.rulebook import subject_of
from approval.core.subject import Subject
from approval.errors import Conflict


def bounds_of(call: Call, requirement: Requirement) -> Bounds | None:
    """Say how far a grant out of a decision on this call may reach; None where none may come.

    None comes of a call whose price an approver types: nobody would type the next one's.
    """
    if call.asking is not None:
        return None
    return on_call(requirement.grantable, call.amount)


def check(
    call: Call,
    wish: Wish,
    *,
    requirement: Requirement,
    directory: Directory,
    person: str,
    now: datetime,
) -> None:
    """Look whether an approver may ask for this grant.

    Raises:
        Conflict: If the rule gives none, or this one would reach too far.
    """
    bounds, asker = bounds_of(call, requirement), directory.agents.get(call.asked.agent)
    if bounds is None or asker is None:
        raise Conflict("no grant comes out of a decision on this call; approve it without one")
    if wish.total is not None and not _counts(wish.total, call.amount):
        raise Conflict(f"the call is not paid in {wish.total.currency}; leave the total out")
    shown = Shown(subject=_subject(call, asker), amount=call.amount, at=now)
    wanted = _grant(call, wish, bounds, requirement=requirement, people=(person,), now=now)
    if (refusal := grants.narrower(wanted, shown, bounds)) is not None:
        raise Conflict(refusal.text.removesuffix("."))


def given(call: Call, requirement: Requirement, *, via: str, now: datetime) -> Issue | None:
    """Make the grant of an approved call, if everybody who approved it asked for one.

    Each wish was checked as it came, and the last under the rules in force: what all of them have
    in common is at most that wish.
    """
    bounds = bounds_of(call, requirement)
    wish = narrowest(vote.grant for vote in call.approvals)
    if bounds is None or wish is None:
        return None
    people = tuple(vote.person for vote in call.approvals)
    made = _grant(call, wish, bounds, requirement=requirement, people=people, now=now)
    return issue(made, via=via)


def _counts(total: Money, amount: Money | None) -> bool:
    return amount is not None and amount.currency == total.currency


def _subject(call: Call, asker: Agent) -> Subject:
    asked = call.asked
    return subject_of(asker, asked.upstream, asked.tool, canonical.read(asked.arguments))


def _grant(
    call: Call,
    wish: Wish,
    bounds: Bounds,
    *,
    requirement: Requirement,
    people: tuple[str, ...],
    now: datetime,
) -> Grant:
    asked = call.asked
    return Grant(
        # One call gives one grant, whose name tells which: nothing random is needed here.
        id=f"grt_{call.id.removeprefix('apr_')}",
        agent=asked.agent,
        tools=(tool_pattern(asked.tool, ""),),
        upstream=asked.upstream,
        pinned=grants.pin(canonical.read(asked.arguments), bounds.vary),
        max_per_call=call.amount,
        total=wish.total,
        uses=wish.uses,
        # In whole seconds, as it is kept: never a moment longer than the rule allows.
        expires=(now + wish.within).replace(microsecond=0),
        granted_by=f"person:{people[-1]}",
        origin=Origin.DECISION,
        decided=Decided(
            call=call.id,
            people=people,
            factors=requirement.factors,
            distinct=requirement.distinct,
        ),
    )
