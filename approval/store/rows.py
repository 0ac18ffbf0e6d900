"""Rows to values and back: one mapper per value, and nothing else."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from approval.core.call import (
    Attempt,
    Call,
    CallId,
    Choice,
    Listener,
    Reason,
    Requirement,
    Status,
    ToolCall,
    Vote,
)
from approval.core.demand import Terms
from approval.core.grantable import read_wish
from approval.core.ledger import LedgerEntry, Reservation, State
from approval.core.money import Money
from approval.core.price import Per
from approval.core.scopes import Scope
from approval.ports import Kept
from approval.store.prepared import Columns
from approval.store.tables import from_microseconds, to_microseconds

_REQUIREMENT = TypeAdapter(Requirement)
_REASONS = TypeAdapter(tuple[Reason, ...])
_TERMS = TypeAdapter(Terms)


def call_row(call: Call) -> dict[str, Any]:
    """Name every column of the call's row."""
    asked = call.asked
    return {
        "id": call.id,
        "agent": asked.agent,
        "upstream": asked.upstream,
        "tool": asked.tool,
        "arguments_digest": asked.arguments_digest,
        "key": asked.key,
        "protocol_version": asked.protocol_version,
        "status": call.status.value,
        "version": call.version,
        "title": call.title,
        "requirement": _REQUIREMENT.dump_json(call.requirement).decode(),
        "reasons": _REASONS.dump_json(call.reasons).decode(),
        "policy_digest": call.policy_digest,
        "created_at": call.created_at,
        "decide_before": call.decide_before,
        "run_before": call.run_before,
        "decided_at": call.decided_at,
        "ended_at": call.ended_at,
        "delivered_at": call.delivered_at,
        "timer_at": _timer(call),
        "listener": call.listener.value,
        "listener_owner": call.listener_owner,
        "ended_by": call.ended_by,
        "note": call.note,
        "amount": call.amount.minor if call.amount else None,
        "currency": call.amount.currency if call.amount else None,
        "per": call.per.value if call.per else None,
        "grant_id": call.grant,
        "released_by": call.released_by,
        "terms": _TERMS.dump_json(call.terms).decode() if call.amount else None,
    }


def _timer(call: Call) -> object:
    """Tell when the clock next has a say in this call."""
    match call.status:
        case Status.PENDING:
            return call.decide_before
        case Status.APPROVED:
            return call.run_before
        case Status.EXECUTING:
            return call.attempt.lease_until if call.attempt else None
        case _:
            return None


def to_call(
    row: Columns,
    votes: Sequence[Columns],
    attempt: Columns | None,
    reservations: tuple[Reservation, ...] = (),
) -> Call:
    """Rebuild the call from its row, its arguments, its votes, its latest attempt and its money."""
    asked = ToolCall(
        agent=row["agent"],
        upstream=row["upstream"],
        tool=row["tool"],
        arguments=row["arguments"],
        key=row["key"],
        protocol_version=row["protocol_version"],
    )
    return Call(
        id=CallId(row["id"]),
        asked=asked,
        status=Status(row["status"]),
        version=row["version"],
        requirement=_REQUIREMENT.validate_json(row["requirement"]),
        reasons=_REASONS.validate_json(row["reasons"]),
        policy_digest=row["policy_digest"],
        created_at=row["created_at"],
        decide_before=row["decide_before"],
        title=row["title"],
        run_before=row["run_before"],
        decided_at=row["decided_at"],
        ended_at=row["ended_at"],
        delivered_at=row["delivered_at"],
        listener=Listener(row["listener"]),
        listener_owner=row["listener_owner"],
        ended_by=row["ended_by"],
        note=row["note"],
        votes=tuple(to_vote(vote) for vote in votes),
        attempt=to_attempt(attempt) if attempt is not None else None,
        amount=Money(row["amount"], row["currency"]) if row["currency"] else None,
        per=Per(row["per"]) if row["per"] else None,
        terms=_TERMS.validate_json(row["terms"]) if row["terms"] else Terms(),
        reservations=reservations,
        grant=row["grant_id"],
        released_by=row["released_by"],
    )


def vote_row(call_id: CallId, vote: Vote) -> dict[str, Any]:
    return {
        "call_id": call_id,
        "person": vote.person,
        "choice": vote.choice.value,
        "digest": vote.digest,
        "at": vote.at,
        "via": vote.via,
        "reason": vote.reason,
        "amount": vote.amount.minor if vote.amount is not None else None,
        "currency": vote.amount.currency if vote.amount is not None else None,
        "wish": json.dumps(vote.grant.plain()) if vote.grant else None,
    }


def to_vote(row: Columns) -> Vote:
    return Vote(
        person=row["person"],
        choice=Choice(row["choice"]),
        digest=row["digest"],
        at=row["at"],
        via=row["via"],
        reason=row["reason"],
        amount=Money(row["amount"], row["currency"]) if row["currency"] else None,
        grant=read_wish(json.loads(row["wish"])) if row["wish"] else None,
    )


def attempt_row(call_id: CallId, attempt: Attempt) -> dict[str, Any]:
    return {
        "call_id": call_id,
        "number": attempt.number,
        "owner": attempt.owner,
        "claimed_at": attempt.claimed_at,
        "lease_until": attempt.lease_until,
        "outcome": attempt.outcome,
    }


def to_attempt(row: Columns) -> Attempt:
    return Attempt(
        number=row["number"],
        owner=row["owner"],
        claimed_at=row["claimed_at"],
        lease_until=row["lease_until"],
        outcome=row["outcome"],
    )


def reservation_row(call_id: CallId, reservation: Reservation) -> dict[str, Any]:
    return {
        "call_id": call_id,
        "meter_id": reservation.meter_id,
        "window_start": to_microseconds(reservation.window_start),
        "at": reservation.at,
        "amount": reservation.amount.minor,
        "currency": reservation.amount.currency,
        "override": reservation.override,
        "state": reservation.state.value,
        "posted": reservation.posted,
    }


def to_reservation(row: Columns) -> Reservation:
    return Reservation(
        meter_id=row["meter_id"],
        window_start=from_microseconds(row["window_start"]),
        at=row["at"],
        amount=Money(row["amount"], row["currency"]),
        override=row["override"],
        state=State(row["state"]),
        posted=row["posted"],
    )


def to_kept(row: Columns) -> Kept:
    key = tuple((Scope(scope), value) for scope, value in json.loads(row["key"]))
    return Kept(meter_id=row["id"], origin=row["origin"], name=row["name"], key=key)


def entry_row(call_id: CallId, entry: LedgerEntry, now: datetime) -> dict[str, Any]:
    return {
        "call_id": call_id,
        "meter_id": entry.meter_id,
        "window_start": to_microseconds(entry.window_start),
        "kind": entry.kind.value,
        "amount": entry.amount,
        "override": entry.override,
        "at": now,
    }
