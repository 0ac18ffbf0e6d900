"""The steps with which a call begins: it is held, run at once, denied, or joins an equal one.

As all steps they are pure: from what was asked, the verdict, what the demand meets, and the store's
time after the lock, to the `Change` to be written.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from approval.core import admission
from approval.core.audit import Entry, Tag
from approval.core.call import (
    Attempt,
    Call,
    CallId,
    Listener,
    Outcome,
    Requirement,
    ToolCall,
    Verdict,
)
from approval.core.demand import Demand, Holdings
from approval.core.lifecycle import TRANSITIONS, Change, Event, move
from approval.core.refusals import Refusal

REDELIVER: Final = timedelta(hours=24)
"""How long an ended call answers an identical repeat instead of becoming a new call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who takes the one right to send, and for how long nobody else may doubt it."""

    owner: str
    span: timedelta


NOBODY: Final = Requirement(factors=())
"""What is required of a call that no rule holds."""


def begin(
    asked: ToolCall,
    verdict: Verdict,
    holdings: Holdings,
    *,
    call_id: CallId,
    lease: Lease,
    now: datetime,
) -> Change:
    """Begin a call: hold it for people (T1), or run at once what a policy allows at a price (T2).

    What it demands is taken in the same transaction. Where there is no room it is denied (T3) and
    leaves its entry alone. One that runs at once, by policy or under a grant, is claimed as it
    begins: it has nobody to wait for, and money is spent at most once however it was allowed.

    Raises:
        ValueError: If the verdict is a denial, a gate that requires nothing, or plain permission,
            or if nobody would be asked to type an amount that nobody else knows.
    """
    gated = verdict.outcome is Outcome.GATE
    if gated is not (verdict.requirement is not None):
        raise ValueError("a gate says what it requires, and nothing else does")
    if not gated and (verdict.demand is None or not verdict.demand.spends):
        raise ValueError("only a call that is gated or spends begins: others are kept nowhere")
    admitted = admission.admit(verdict, holdings, now)
    if isinstance(admitted, Refusal):
        return _refused(asked, verdict, admitted, call_id, now)
    verdict = admitted.verdict
    event = Event.ALLOW if verdict.outcome is Outcome.ALLOW else Event.HOLD
    if event is Event.ALLOW and verdict.demand is not None and verdict.demand.asks:
        raise ValueError("a call whose amount an approver types is held for one")
    attempt = Attempt(number=1, owner=lease.owner, claimed_at=now, lease_until=now + lease.span)
    made = {each.reservation.meter_id: each.reservation for each in admitted.bookings}
    call = replace(
        _new(asked, verdict, call_id, event, now),
        attempt=attempt if event is Event.ALLOW else None,
        listener_owner=lease.owner,
        grant=admitted.grant,
        reservations=tuple(made[meter_id] for meter_id in sorted(made)),
    )
    return Change(
        call=call,
        event=event,
        funds=TRANSITIONS[None, event].funds,
        actor=f"agent:{asked.agent}",
        facts=_begun(call),
        bookings=admitted.bookings,
        taken=admitted.taken,
    )


def _new(asked: ToolCall, verdict: Verdict, call_id: CallId, event: Event, now: datetime) -> Call:
    demand = verdict.demand or Demand()
    requirement = verdict.requirement or NOBODY
    return Call(
        id=call_id,
        asked=asked,
        status=TRANSITIONS[None, event].target,
        version=1,
        requirement=requirement,
        reasons=verdict.reasons,
        policy_digest=verdict.policy_digest,
        title=verdict.title,
        created_at=now,
        decide_before=now + requirement.timeout,
        amount=demand.amount,
        per=demand.per,
        terms=demand.terms,
    )


def _refused(
    asked: ToolCall, verdict: Verdict, why: Refusal, call_id: CallId, now: datetime
) -> Change:
    denied = admission.denied(verdict, why)
    call = _new(asked, denied, call_id, Event.DENY, now)
    return Change(
        call=replace(call, ended_at=now, ended_by="policy"),
        event=Event.DENY,
        actor="policy",
        facts=_denial_facts(asked, denied),
        refusal=why,
    )


def _begun(call: Call) -> dict[str, object]:
    asked = call.asked
    facts: dict[str, object] = {
        "agent": asked.agent,
        "arguments": asked.arguments_digest,
        "digest": call.digest,
        "policy": call.policy_digest,
        "tool": asked.tool,
        "upstream": asked.upstream,
    }
    if call.amount is not None:
        facts["amount" if call.asking is None else "up_to"] = str(call.amount)
    if call.grant is not None:
        facts["grant"] = call.grant
    if call.attempt is not None:
        facts |= attempt_facts(call.attempt)
    return facts


def attempt_facts(attempt: Attempt) -> dict[str, object]:
    """Word a claim for the trail."""
    return {"attempt": attempt.number, "lease_until": attempt.lease_until.isoformat()}


def denial(asked: ToolCall, verdict: Verdict, subject: str) -> Entry:
    """Word a call that policy refuses for the trail (T3): it gets no record of its own."""
    facts = _denial_facts(asked, verdict)
    return Entry(tag=Tag.CALL_DENY, subject=subject, actor="policy", facts=facts)


def _denial_facts(asked: ToolCall, verdict: Verdict) -> dict[str, object]:
    return {
        "agent": asked.agent,
        "arguments": asked.arguments_digest,
        "codes": [reason.code for reason in verdict.reasons],
        "policy": verdict.policy_digest,
        "to": TRANSITIONS[None, Event.DENY].target,
        "tool": asked.tool,
        "upstream": asked.upstream,
    }


def joins(existing: Call, asked: ToolCall, now: datetime) -> bool:
    """Say whether this repeat belongs to the existing equal call instead of beginning another.

    A live or doubtful call is always joined. An ended one answers the repeat once, if nobody has
    had its outcome yet, or as often as asked under the agent's own key, for `REDELIVER`.
    """
    if not existing.status.ended:
        return True
    if existing.ended_at is None or now - existing.ended_at > REDELIVER:
        return False
    return existing.delivered_at is None or bool(asked.key)


def join(call: Call, *, owner: str) -> Change:
    """Attach a repeat to the call it equals (T4). An ended call is only read."""
    if call.status.ended:
        return Change(call=call)
    attached = replace(call, listener=Listener.WAITING, listener_owner=owner)
    return move(attached, Event.JOIN, f"agent:{call.asked.agent}")
