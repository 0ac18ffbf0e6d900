"""The trail as sentences: who did what, when, and in whose words."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson

from approval.core.audit import Tag, Written
from approval.core.identity import Directory
from approval.web import present
from approval.web.text import Piece, pieces

DID: Final[Mapping[Tag, str]] = {
    Tag.CALL_ALLOW: "asked, and policy let it through",
    Tag.CALL_ANSWER: "answered",
    Tag.CALL_DENY: "denied the call",
    Tag.CALL_HOLD: "asked; the call is held for people to decide",
    Tag.CALL_JOIN: "asked again for the same",
    Tag.CALL_TIGHTEN: "now asks for more",
    Tag.CALL_ENDORSE: "approved; more approvals are needed",
    Tag.CALL_APPROVE: "approved",
    Tag.CALL_REJECT: "rejected",
    Tag.CALL_REVOKE: "took the approval back and rejected",
    Tag.CALL_EXPIRE: "ended the call: time ran out",
    Tag.CALL_CANCEL: "cancelled",
    Tag.CALL_INVALIDATE: "ended the call: it is no longer permitted",
    Tag.CALL_RELEASE: "said that it is to run now",
    Tag.CALL_CLAIM: "took the call to send it upstream, once",
    Tag.CALL_SUCCEED: "recorded the answer: executed",
    Tag.CALL_ERR: "recorded the answer: an error",
    Tag.CALL_FAIL: "recorded that nothing took effect",
    Tag.CALL_LOSE: "lost the answer: the outcome is in doubt",
    Tag.CALL_SUCCEED_LATE: "recorded a late answer: executed",
    Tag.CALL_ERR_LATE: "recorded a late answer: an error",
    Tag.CALL_SETTLE_EXECUTED: "settled the doubt: it was executed",
    Tag.CALL_SETTLE_FAILED: "settled the doubt: nothing happened",
    Tag.CALL_CORRECT: "corrected what was booked for the call",
    Tag.CALL_DELIVER: "handed the outcome to the agent",
    Tag.DECISION_REFUSE: "tried to decide and was refused",
    Tag.LOGIN_OPEN: "opened a sign-in",
    Tag.LOGIN_REFUSE: "was refused at the door",
    Tag.METER_ALERT: "filled a meter",
    Tag.POLICY_LOAD: "put a policy in force",
    Tag.POLICY_REFUSE: "refused a policy; the old one stays",
    Tag.SERVICE_START: "started",
    Tag.SERVICE_STOP: "stopped",
    Tag.TOKEN_ISSUE: "issued a credential",
    Tag.TOKEN_REVOKE: "took a credential back",
    Tag.FREEZE_LIFT: "lifted a freeze",
    Tag.GRANT_ISSUE: "gave a grant",
    Tag.GRANT_REVOKE: "took a grant back",
}

WORDS: Final = ("reason", "why", "evidence", "outcome")
"""Facts that are somebody's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One entry of the trail, as a person reads it."""

    seq: int
    at: datetime
    tag: str
    who: tuple[Piece, ...]
    did: str
    words: tuple[Piece, ...]
    via: str
    subject: str
    facts: tuple[Piece, ...]
    hash: str

    @property
    def held(self) -> bool:
        """Say whether the subject is a call with a page of its own."""
        names_call = self.subject.startswith("apr_")
        return names_call and self.tag not in {Tag.CALL_ALLOW, Tag.CALL_ANSWER, Tag.CALL_DENY}


def moments(
    entries: Iterable[Written], directory: Directory, person: str = ""
) -> tuple[Moment, ...]:
    """Word each entry."""
    return tuple(_moment(entry, directory, person) for entry in entries)


def _moment(entry: Written, directory: Directory, person: str) -> Moment:
    body = orjson.loads(entry.body)
    facts = body["facts"]
    said = [str(facts[name]) for name in WORDS if facts.get(name)]
    written = orjson.dumps(facts, option=orjson.OPT_SORT_KEYS).decode() if facts else ""
    return Moment(
        seq=entry.seq,
        at=datetime.fromisoformat(body["at"]),
        tag=body["tag"],
        who=pieces(present.actor(body["actor"], directory, person)),
        did=_did(Tag(body["tag"]), facts),
        words=pieces(said[0] if said else ""),
        via=str(facts.get("via", "")),
        subject=body["subject"],
        facts=pieces(written),
        hash=entry.hash.hex(),
    )


def _did(tag: Tag, facts: Mapping[str, object]) -> str:
    if tag is Tag.METER_ALERT:
        return f"{DID[tag]}: {facts['meter']} is at {facts['percent']} % of {facts['limit']}"
    told = "".join(f" ({told})" for told in _told(tag, facts))
    return DID[tag] + told + (_gave(tag, facts) if tag in _APPROVALS else "")


_APPROVALS: Final = frozenset({Tag.CALL_ENDORSE, Tag.CALL_APPROVE})


def _told(tag: Tag, facts: Mapping[str, object]) -> Iterator[object]:
    # Of credentials the kind matters: a session begins every day, an agent's token rarely.
    if "kind" in facts:
        yield facts["kind"]
    if "up_to" in facts:
        yield f"up to {facts['up_to']}"
    if tag in _APPROVALS and "amount" in facts:
        yield facts["amount"]
    if "actual" in facts:
        yield f"it took {facts['actual']}"
    if "overrun" in facts:
        yield f"it took {facts['overrun']}, more than was approved"
    if "actual_refused" in facts:
        yield f"what it says it took is not taken over: {facts['actual_refused']}"
    if facts.get("frozen"):
        yield "the tool is frozen for its agent"


def _gave(tag: Tag, facts: Mapping[str, object]) -> str:
    """Say what became of the grant that was asked for along with an approval."""
    if facts.get("granted"):
        return f", and gave the grant {facts['granted']}: {facts['grant']} without asking"
    if "granted" in facts:
        return "; no grant was given, for not every approver asked for one"
    wish = facts.get("wish") if tag is Tag.CALL_ENDORSE else None
    return f"; would give a grant too: {wish} without asking" if wish else ""
