"""The trail: what is written of every change, in a canonical form, chained by hash.

An entry's bytes are hashed with the hash before them, so no byte of the trail changes and none goes
missing from its middle without the chain breaking. A chain proves nothing about its own end: keep
the last hash somewhere else (`approval audit verify` prints it).
"""

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import orjson

from approval.errors import Unreadable

GENESIS: Final = bytes(32)
LEAF: Final = b"\x01"
"""Keeps an entry's hash apart from any other hash of the same bytes (RFC 9162 §2.1.1)."""


class Tag(enum.StrEnum):
    """What happened, as `subject:action`. `docs/reference.md` explains each."""

    CALL_ALLOW = "call:allow"
    CALL_ANSWER = "call:answer"
    CALL_DENY = "call:deny"
    CALL_HOLD = "call:hold"
    CALL_JOIN = "call:join"
    CALL_TIGHTEN = "call:tighten"
    CALL_ENDORSE = "call:endorse"
    CALL_APPROVE = "call:approve"
    CALL_REJECT = "call:reject"
    CALL_REVOKE = "call:revoke"
    CALL_EXPIRE = "call:expire"
    CALL_CANCEL = "call:cancel"
    CALL_INVALIDATE = "call:invalidate"
    CALL_RELEASE = "call:release"
    CALL_CLAIM = "call:claim"
    CALL_SUCCEED = "call:succeed"
    CALL_ERR = "call:err"
    CALL_FAIL = "call:fail"
    CALL_LOSE = "call:lose"
    CALL_SUCCEED_LATE = "call:succeed_late"
    CALL_ERR_LATE = "call:err_late"
    CALL_SETTLE_EXECUTED = "call:settle_executed"
    CALL_SETTLE_FAILED = "call:settle_failed"
    CALL_CORRECT = "call:correct"
    CALL_DELIVER = "call:deliver"
    DECISION_REFUSE = "decision:refuse"
    FREEZE_LIFT = "freeze:lift"
    GRANT_ISSUE = "grant:issue"
    GRANT_REVOKE = "grant:revoke"
    LOGIN_OPEN = "login:open"
    LOGIN_REFUSE = "login:refuse"
    METER_ALERT = "meter:alert"
    POLICY_LOAD = "policy:load"
    POLICY_REFUSE = "policy:refuse"
    SERVICE_START = "service:start"
    SERVICE_STOP = "service:stop"
    TOKEN_ISSUE = "token:issue"
    TOKEN_REVOKE = "token:revoke"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is to be written. `facts` are digests, names and counts; never arguments or secrets.

    `facts` hold ASCII member names and no floats, so that sorted JSON is canonical JSON (RFC 8785).
    """

    tag: Tag
    subject: str
    actor: str
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def filed_under(self) -> str:
        """The subject under which the entry is looked up; empty for a call that is kept nowhere.

        Nobody can ask for such a call by name, and not to file the two entries of each allowed call
        is worth a page of every commit.
        """
        return "" if is_passing(self.tag, self.facts) else self.subject


_PASSING: Final = frozenset({Tag.CALL_ALLOW, Tag.CALL_ANSWER, Tag.CALL_DENY})


def is_passing(tag: str, facts: Mapping[str, object]) -> bool:
    """Say whether an entry is about a call without a record; a kept call's have its version."""
    return tag in _PASSING and "version" not in facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An entry in the trail. `body` is exactly what was hashed."""

    seq: int
    body: bytes
    hash: bytes


def write(entry: Entry, *, seq: int, at: datetime, previous: bytes) -> Written:
    """Give the entry its place in the chain.

    Raises:
        Unreadable: If it holds what JSON cannot: half a surrogate pair, or an odd value.
    """
    line = {
        "actor": entry.actor,
        "at": at.isoformat(timespec="microseconds"),
        "facts": dict(entry.facts),
        "seq": seq,
        "subject": entry.subject,
        "tag": entry.tag.value,
    }
    try:
        body = orjson.dumps(line, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise Unreadable("entry", f"the trail cannot hold this {entry.tag}: {error}") from error
    return Written(seq=seq, body=body, hash=link(previous, body))


def link(previous: bytes, body: bytes) -> bytes:
    return hashlib.sha256(LEAF + previous + body).digest()
