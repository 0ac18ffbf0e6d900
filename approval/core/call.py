"""A call: what an agent asked for, what must happen before it may run, and the record of it.

Everything here is a frozen value. `lifecycle` is the only module that makes a new `Call` out of
an old one; the store keeps what it makes.
"""

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NewType

import orjson

from approval.core.demand import Demand, Terms
from approval.core.grantable import Bounds, Wish, plain
from approval.core.ledger import Reservation
from approval.core.meters import shown
from approval.core.money import Money
from approval.core.price import Asking, Per

CallId = NewType("CallId", str)
"""`apr_` and the base32 of a UUIDv7: sorts by time, and is what agents and people are shown."""

ENVELOPE_DOMAIN = b"approval/call/1\n"

_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]
_SHIFTS = range(120, -1, -10)


class Status(enum.StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    EXECUTING = "executing"
    EXECUTED = "executed"
    ERRORED = "errored"
    """The upstream answered, and its answer is an error: it may have acted all the same."""
    FAILED = "failed"
    """Proven: the upstream did nothing."""
    IN_DOUBT = "in_doubt"
    """Bytes may have left and no answer came. Not an end: a person settles it."""
    REJECTED = "rejected"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    INVALIDATED = "invalidated"

    @property
    def ended(self) -> bool:
        return self not in UNENDED


UNENDED = frozenset({Status.PENDING, Status.APPROVED, Status.EXECUTING, Status.IN_DOUBT})


class Run(enum.StrEnum):
    """When an approved call runs although nobody holds the line (product decision 2)."""

    AUTO = "auto"
    ON_APPROVAL = "on_approval"
    WHEN_ASKED = "when_asked"


class OnDisconnect(enum.StrEnum):
    DETACH = "detach"
    CANCEL = "cancel"


class Listener(enum.StrEnum):
    """What the agent knows of the call: it holds the line, was told, or left before it was told."""

    WAITING = "waiting"
    TOLD = "told"
    GONE = "gone"


class Choice(enum.StrEnum):
    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """So many approvals from these people or groups."""

    approvers: tuple[str, ...]
    approvals: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What must be met before a gated call may run; several rules unite into one."""

    factors: tuple[Factor, ...]
    timeout: timedelta = timedelta(minutes=15)
    run_within: timedelta = timedelta(minutes=10)
    distinct: bool = False
    not_owner: bool = True
    run: Run = Run.AUTO
    on_disconnect: OnDisconnect = OnDisconnect.DETACH
    notify: tuple[str, ...] = ()
    grantable: Bounds | None = None
    """How far a grant may reach that comes of the decision; None where none may."""


class Outcome(enum.StrEnum):
    """A verdict's outcome, mildest first."""

    ALLOW = "allow"
    GATE = "gate"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a policy said what it said.

    `code` is stable and short (`deny_if:true`, `deny_if:unknown`, `default`, `hide`, …), `path` an
    RFC 6901 pointer into the policy document, `text` a sentence for the agent.
    """

    code: str
    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What policy says of a call. `requirement` is given exactly when the outcome is *gate*."""

    outcome: Outcome
    reasons: tuple[Reason, ...]
    policy_digest: str
    requirement: Requirement | None = None
    title: str | None = None
    demand: Demand | None = None
    """What the call takes; None for one that is denied, or takes nothing."""
    terms: Requirement | None = None
    """How those are asked who may let a call pass a soft limit, where no rule holds it; it names
    nobody. None for one that costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A `tools/call` as an agent sent it, read strictly.

    `arguments` are RFC 8785 bytes: what is judged, shown, hashed, stored and sent. `key` is the
    agent's own word that makes two equal calls two calls, or empty.
    """

    agent: str
    upstream: str
    tool: str
    arguments: bytes
    key: str = ""
    protocol_version: str = ""

    @property
    def arguments_digest(self) -> str:
        return hashlib.sha256(self.arguments).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One person's decision. `digest` is that of the envelope the person saw.

    `grant` is what they would let the agent do besides without asking.
    """

    person: str
    choice: Choice
    digest: str
    at: datetime
    via: str
    reason: str = ""
    amount: Money | None = None
    """What this person typed that the call costs, where they were asked."""
    grant: Wish | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One claim to send the call upstream. While `outcome` is None it is open."""

    number: int
    owner: str
    claimed_at: datetime
    lease_until: datetime
    outcome: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: `body` is the JSON-RPC response's `{"result": …}` or `{"error": …}` alone.

    `status` is where it leads: *executed*, *errored*, or *failed* when the upstream's answer proves
    that it did nothing.
    """

    status: Status
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The record of one gated call. `version` counts its changes from 1, without gaps."""

    id: CallId
    asked: ToolCall
    status: Status
    version: int
    requirement: Requirement
    reasons: tuple[Reason, ...]
    policy_digest: str
    created_at: datetime
    decide_before: datetime
    title: str | None = None
    run_before: datetime | None = None
    decided_at: datetime | None = None
    ended_at: datetime | None = None
    delivered_at: datetime | None = None
    listener: Listener = Listener.WAITING
    listener_owner: str = ""
    ended_by: str = ""
    """Who made the last decision or end: `person:ann`, `clock`, `agent:x`, `policy`."""
    note: str = ""
    """The last decider's own words, or why the call ended."""
    votes: tuple[Vote, ...] = ()
    attempt: Attempt | None = None
    amount: Money | None = None
    """What is set aside for it: what it costs, as far as is known before it ran, or the most that
    an approver may type until one did. None for a call that spends nothing."""
    per: Per | None = None
    terms: Terms = field(default_factory=Terms)
    reservations: tuple[Reservation, ...] = ()
    """What it has taken from meters, in the order in which they are locked."""
    grant: str | None = None
    """The grant under which it ran without asking."""
    released_by: str | None = None
    """Who said that it is to run although its agent has gone."""

    @property
    def digest(self) -> str:
        """The envelope: everything an approval depends on. A changed requirement changes it."""
        envelope: dict[str, object] = {
            "agent": self.asked.agent,
            "arguments": self.asked.arguments_digest,
            "decide_before": self.decide_before.isoformat(),
            "id": self.id,
            "key": self.asked.key,
            "policy": self.policy_digest,
            "requirement": requirement_facts(self.requirement),
            "tool": self.asked.tool,
            "upstream": self.asked.upstream,
        }
        if self.asking is not None:
            # What is typed is the person's own word, in their vote; what they were shown is this.
            bound = self.asking.up_to
            envelope["up_to"] = {"currency": bound.currency, "minor": bound.minor}
        elif self.amount is not None:
            envelope["amount"] = {"currency": self.amount.currency, "minor": self.amount.minor}
        return envelope_digest(envelope)

    @property
    def asking(self) -> Asking | None:
        """That whoever approves it types what it costs, and up to what."""
        return self.terms.asking

    @property
    def typed(self) -> Money | None:
        """What approvers have typed that it costs: all of them the same."""
        return next((vote.amount for vote in self.votes if vote.amount is not None), None)

    @property
    def cost(self) -> Money | None:
        """What it costs; None where it spends nothing, or nobody who could has said it yet."""
        is_open = self.asking is not None and self.amount != self.typed
        return None if is_open else self.amount

    @property
    def price(self) -> str | None:
        """What it costs, as people write it on cards: `$1.15/month`."""
        if self.amount is None:
            return None
        told = shown(self.amount) if self.cost is not None else f"up to {shown(self.amount)}"
        return f"{told}/{self.per}" if self.per else told

    @property
    def approvals(self) -> tuple[Vote, ...]:
        return tuple(vote for vote in self.votes if vote.choice is Choice.APPROVE)


def envelope_digest(envelope: Mapping[str, object]) -> str:
    # ASCII member names and no floats: sorted orjson output is RFC 8785 for such a value.
    text = orjson.dumps(dict(envelope), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(ENVELOPE_DOMAIN + text).hexdigest()


def requirement_facts(requirement: Requirement) -> dict[str, object]:
    """Write the requirement as plain JSON: what is hashed, stored and answered by the API."""
    facts: dict[str, object] = {
        "factors": [
            {"approvals": factor.approvals, "approvers": list(factor.approvers)}
            for factor in requirement.factors
        ],
        "timeout_seconds": round(requirement.timeout.total_seconds()),
        "run_within_seconds": round(requirement.run_within.total_seconds()),
        "distinct": requirement.distinct,
        "not_owner": requirement.not_owner,
        "run": str(requirement.run),
        "on_disconnect": str(requirement.on_disconnect),
        "notify": list(requirement.notify),
    }
    if requirement.grantable is not None:
        facts["grantable"] = plain(requirement.grantable)
    return facts


def new_call_id(now: datetime, randomness: bytes) -> CallId:
    """Make an id from the store's time and ten random bytes (RFC 9562 §5.7, UUID version 7)."""
    value = (int(now.timestamp() * 1000) & (1 << 48) - 1) << 80
    value |= int.from_bytes(randomness[:10])
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    # 128 bits and two of padding are thirteen pairs of base32hex digits (RFC 4648 §7): a table of
    # pairs takes a seventh of `base64`'s time, and every call has an id.
    padded = value << 2
    return CallId("apr_" + "".join([_PAIRS[padded >> shift & 1023] for shift in _SHIFTS]))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPage:
    calls: tuple[Call, ...]
    next: str | None = field(default=None)
