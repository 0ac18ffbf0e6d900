"""Grants: standing permission for an agent to pass a gate without asking again, within bounds.

A grant stands in for a person's approval and for nothing else: denials, hard meters and rates hold
as they do for everybody. How often and for how much in all it may be used are meters of its own,
so they are counted where everything is counted, under the same lock.
"""

import enum
import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from approval.core.call import Factor, Requirement
from approval.core.canonical import canonical
from approval.core.conditions import Condition, holds
from approval.core.demand import Demand, Offer
from approval.core.grantable import Bounds
from approval.core.meters import USES, Draw, Meter, draws
from approval.core.money import Money
from approval.core.policy import ToolPattern
from approval.core.refusals import Refusal, worded_instant
from approval.core.scopes import Scope
from approval.core.subject import Subject, facts_of
from approval.core.windows import AllTime
from approval.errors import Unreadable

_NEVER: Final = datetime.max.replace(tzinfo=UTC)
PINNED_DOMAIN = b"approval/pinned/1\n"


class Origin(enum.StrEnum):
    FILE = "file"
    CONSOLE = "console"
    CLI = "cli"
    DECISION = "decision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """The arguments that calls must have, as a digest; the members named in `free` may differ."""

    digest: str
    free: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The call out of whose decision a grant came, who gave it, and in whose place it stands."""

    call: str
    people: tuple[str, ...]
    factors: tuple[Factor, ...]
    distinct: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What an agent may do without asking. What is None is not bounded; no `upstream` is every one.

    `path` points to where a document says it.
    """

    id: str
    agent: str
    tools: tuple[ToolPattern, ...]
    upstream: str | None = None
    conditions: tuple[Condition, ...] = ()
    pinned: Pinned | None = None
    max_per_call: Money | None = None
    total: Money | None = None
    uses: int | None = None
    not_before: datetime | None = None
    expires: datetime | None = None
    granted_by: str = ""
    reason: str = ""
    origin: Origin = Origin.FILE
    decided: Decided | None = None
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a person had before them when they decided, and when that was."""

    subject: Subject
    amount: Money | None
    at: datetime


def covers(
    grant: Grant, subject: Subject, amount: Money | None, now: datetime, *, spends: bool = True
) -> Refusal | None:
    """Say why the grant does not cover this call, or None when it does, as far as meters allow.

    `amount` is None where none is known, also where an approver would have to type it: nobody
    does when a grant stands in. Only a call that is said to spend nothing needs none.
    """
    return _untimely(grant, now) or _beyond(grant, subject, amount, spends=spends)


def meters(grant: Grant) -> tuple[Meter, ...]:
    """Give what bounds the grant over its whole life: how often, and how much in all."""
    limits = {
        "uses of the grant": None if grant.uses is None else Money(grant.uses, USES),
        "total of the grant": grant.total,
    }
    return tuple(
        Meter(name=name, origin="grant", limit=limit, window=AllTime(), scope=(Scope.GRANT,))
        for name, limit in limits.items()
        if limit is not None
    )


def grant_draws(grant: Grant, subject: Subject, amount: Money | None) -> tuple[Draw, ...]:
    """Give what a covered call takes from the grant.

    Raises:
        ValueError: If it has a total and the call no amount; such a call is not covered.
    """
    found: list[Draw] = []
    for meter in meters(grant):
        taken = Money(1, USES) if meter.limit.currency == USES else amount
        if taken is None:
            raise ValueError("a call without an amount is not covered by a grant with a total")
        found += draws(meter, subject, taken, grant=grant.id)
    return tuple(sorted(found, key=lambda draw: draw.meter_id))


def stands_in(grant: Grant, required: Requirement) -> bool:
    """Say whether a grant may take the place of those whom a gate would ask.

    One that somebody issued takes anybody's. One out of a decision takes that of those who gave it
    and nobody else's, and only while the rule lets them give it: a call that meets a further gate,
    or whose rule was tightened since, is held.
    """
    decided, bounds = grant.decided, required.grantable
    if decided is None:
        return True
    free = grant.pinned.free if grant.pinned is not None else ()
    return (
        bounds is not None
        and set(free) <= set(bounds.vary)
        and all(factor in decided.factors for factor in required.factors)
        and decided.distinct >= required.distinct
    )


def offers(grants: Iterable[Grant], subject: Subject, demand: Demand | None) -> tuple[Offer, ...]:
    """Name the grants that cover this call whenever they are in force: what ends first goes first.

    A call that nobody knows the price of never gets here: it is denied. None covers one whose price
    an approver types, for nobody types where a grant stands in. Whether a grant is in force is
    asked once its meters are locked, for that may take a while.
    """
    if demand is not None and demand.asks:
        return ()
    amount = None if demand is None else demand.amount
    return tuple(
        Offer(
            grant=each.id,
            draws=grant_draws(each, subject, amount),
            not_before=each.not_before,
            expires=each.expires,
            path=each.path,
        )
        for each in sorted(grants, key=_soonest)
        if _beyond(each, subject, amount, spends=amount is not None) is None
    )


def _soonest(grant: Grant) -> tuple[datetime, str]:
    return grant.expires or _NEVER, grant.id


def pin(arguments: object, free: Collection[str] = ()) -> Pinned | None:
    """Pin down all arguments but the free ones; None where there is nothing exact to pin."""
    if not isinstance(arguments, dict):
        return None
    try:
        exact = canonical({name: each for name, each in arguments.items() if name not in free})
    except Unreadable:
        return None
    digest = hashlib.sha256(PINNED_DOMAIN + exact).hexdigest()
    return Pinned(digest=digest, free=tuple(sorted(free)))


def narrower(wanted: Grant, shown: Shown, bounds: Bounds) -> Refusal | None:
    """Say why a grant made from a decision would reach too far, or None when it does not.

    Nobody gives more than what they were shown, times what the rule lets them give.
    """
    return (
        _other_calls(wanted, shown.subject)
        or _other_arguments(wanted, shown.subject, bounds)
        or _more_often(wanted, shown.at, bounds)
        or _more_money(wanted, shown.amount, bounds)
    )


# --- does it cover this call? ---


def _beyond(
    grant: Grant, subject: Subject, amount: Money | None, *, spends: bool
) -> Refusal | None:
    return (
        _of_another(grant, subject)
        or _unaffordable(grant, amount, spends=spends)
        or _unfit(grant, subject)
    )


def _of_another(grant: Grant, subject: Subject) -> Refusal | None:
    if grant.agent != subject.agent:
        return _not_covered("agent", "it was given to another agent")
    if grant.upstream is not None and grant.upstream != subject.upstream:
        return _not_covered("upstream", "it is for another upstream")
    if not any(tools.matches(subject.tool) for tools in grant.tools):
        return _not_covered("tool", "it is not for this tool")
    return None


def _untimely(grant: Grant, now: datetime) -> Refusal | None:
    if grant.not_before is not None and now < grant.not_before:
        return Refusal(
            code="grant:not_before",
            text=f"The grant is not in force before {worded_instant(grant.not_before)}.",
            retry_after=grant.not_before - now,
        )
    if grant.expires is not None and now >= grant.expires:
        return _not_covered("expired", f"it ended at {worded_instant(grant.expires)}")
    return None


def _unaffordable(grant: Grant, amount: Money | None, *, spends: bool) -> Refusal | None:
    limits = [limit for limit in (grant.max_per_call, grant.total) if limit is not None]
    if amount is None:
        if spends or limits:
            return _not_covered("unknown_amount", "what the call costs is not known")
        return None
    for limit in limits:
        if amount.currency != limit.currency:
            return _not_covered("currency", f"it is in {limit.currency}, and the call is not")
        if amount > limit:
            return _not_covered("amount", f"it allows {limit}, and the call needs {amount}")
    return None


def _unfit(grant: Grant, subject: Subject) -> Refusal | None:
    match holds(grant.conditions, facts_of(subject)):
        case False:
            return _not_covered("conditions", "its conditions do not hold")
        case None:
            return _not_covered("unknown_conditions", "nobody can tell whether its conditions hold")
        case True:
            pass
    pinned = grant.pinned
    if pinned is not None and pin(subject.arguments, pinned.free) != pinned:
        return _not_covered("arguments", "it is for other arguments")
    return None


def _not_covered(code: str, why: str) -> Refusal:
    return Refusal(code=f"grant:{code}", text=f"The grant does not cover this call: {why}.")


# --- does it reach further than what was shown? ---


def _other_calls(wanted: Grant, shown: Subject) -> Refusal | None:
    if (wanted.agent, wanted.upstream) != (shown.agent, shown.upstream):
        return _too_wide("the agent and the upstream must be those of the call")
    # By its text: a tool whose own name holds a star would match others as a pattern.
    if "*" in shown.tool or "?" in shown.tool or {t.text for t in wanted.tools} != {shown.tool}:
        return _too_wide("the one tool must be that of the call, by its exact name")
    return None


def _other_arguments(wanted: Grant, shown: Subject, bounds: Bounds) -> Refusal | None:
    pinned = wanted.pinned
    if pinned is None or not set(pinned.free) <= set(bounds.vary):
        may = f"only {', '.join(bounds.vary)} may differ" if bounds.vary else "none may differ"
        return _too_wide(f"the arguments must be pinned to those shown, of which {may}")
    if pin(shown.arguments, pinned.free) != pinned:
        return _too_wide("the pinned arguments must be those shown")
    return None


def _more_often(wanted: Grant, at: datetime, bounds: Bounds) -> Refusal | None:
    if wanted.uses is None or wanted.uses > bounds.uses:
        return _too_wide(f"the rule lets it be used {bounds.uses} times at most; say how often")
    last = at + bounds.within
    if wanted.expires is None or wanted.expires > last:
        return _too_wide(f"the rule lets it last until {worded_instant(last)}; say until when")
    return None


def _more_money(wanted: Grant, shown: Money | None, bounds: Bounds) -> Refusal | None:
    if shown is not None and not _within(wanted.max_per_call, shown):
        return _too_wide(f"max_per_call must be given, and at most the {shown} shown")
    if bounds.total is not None and not _within(wanted.total, bounds.total):
        return _too_wide(f"the rule lets it spend {bounds.total} in all; say how much")
    return None


def _within(wanted: Money | None, most: Money) -> bool:
    return wanted is not None and wanted.currency == most.currency and wanted <= most


def _too_wide(why: str) -> Refusal:
    return Refusal(code="grant:too_wide", text=f"This grant would reach too far: {why}.")
