"""Grants that people issue while the service runs, as text that the store keeps.

A grant is kept in the words of the configuration and read by the same reader, so that both kinds
mean the same. What a file cannot say (who gave it, out of which decision, and pinned arguments)
stands beside those words.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from approval.core.audit import Entry, Tag
from approval.core.call import Factor
from approval.core.document import open_document
from approval.core.grants import Decided, Grant, Origin, Pinned
from approval.core.limits import read_grants

MOST_READ = 4096
"""How many different grants are kept ready; reading one compiles its conditions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A grant that was issued, and what became of it. Nobody knows when a file's was."""

    grant: Grant
    issued_at: datetime | None
    revoked_at: datetime | None = None
    revoked_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantPage:
    """Some grants. `next` is the `after` of the next page; None at the end."""

    grants: tuple[Issued, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A grant that is about to be kept, and what the trail says of it."""

    grant: Grant
    entry: Entry


def issue(grant: Grant, *, via: str) -> Issue:
    """Word a grant for the trail: by whom, to which agent, for what and how far."""
    facts: dict[str, object] = {"via": via, **words(grant), "conditions": len(grant.conditions)}
    if grant.pinned is not None:
        facts |= {"arguments": grant.pinned.digest, "vary": list(grant.pinned.free)}
    if grant.decided is not None:
        facts |= {"call": grant.decided.call, "people": list(grant.decided.people)}
    entry = Entry(tag=Tag.GRANT_ISSUE, subject=grant.id, actor=grant.granted_by, facts=facts)
    return Issue(grant=grant, entry=entry)


def read_issue(words: Mapping[str, object], *, source: str) -> Grant:
    """Read a grant that somebody asks for, in the words of `[[grants]]`.

    Raises:
        Misconfigured: With everything that is wrong with it.
    """
    root = open_document({"grant": [dict(words)]}, source=source).root
    grants = read_grants(root.at("grant"))
    root.settle()
    return grants[0]


def write(grant: Grant) -> str:
    """Write a grant as the text that `read` turns back into it."""
    pinned = grant.pinned
    return json.dumps(
        {
            "decided": _decided(grant.decided),
            "granted_by": grant.granted_by,
            "origin": grant.origin.value,
            "pinned": None if pinned is None else [pinned.digest, list(pinned.free)],
            "words": words(grant),
        },
        sort_keys=True,
    )


@lru_cache(MOST_READ)
def read(grant_id: str, text: str) -> Grant:
    """Read a grant from its text.

    Raises:
        Misconfigured: If this release does not understand it; it covers nothing then.
    """
    kept = json.loads(text)
    grant = read_issue(kept["words"], source=grant_id)
    pinned = kept["pinned"]
    return replace(
        grant,
        id=grant_id,
        granted_by=kept["granted_by"],
        origin=Origin(kept["origin"]),
        decided=_read_decided(kept["decided"]),
        pinned=None if pinned is None else Pinned(digest=pinned[0], free=tuple(pinned[1])),
        path="",
    )


def _decided(decided: Decided | None) -> dict[str, object] | None:
    if decided is None:
        return None
    return {
        "call": decided.call,
        "distinct": decided.distinct,
        "factors": [[list(each.approvers), each.approvals] for each in decided.factors],
        "people": list(decided.people),
    }


def _read_decided(kept: dict[str, Any] | None) -> Decided | None:
    if kept is None:
        return None
    return Decided(
        call=kept["call"],
        distinct=kept["distinct"],
        factors=tuple(Factor(approvers=tuple(who), approvals=n) for who, n in kept["factors"]),
        people=tuple(kept["people"]),
    )


def state(each: Issued, now: datetime) -> str:
    """Say in a word whether a grant is in force, as far as its uses and total allow."""
    if each.revoked_at is not None:
        return "revoked"
    if each.grant.expires is not None and now >= each.grant.expires:
        return "ended"
    if each.grant.not_before is not None and now < each.grant.not_before:
        return "not yet"
    return "in force"


def words(grant: Grant) -> dict[str, object]:
    """Say what a grant allows in the configuration's words; what is not bounded is left out."""
    said: dict[str, object] = {
        "agent": grant.agent,
        "conditions": [
            {"path": each.path.text, "op": each.operator, "value": each.literal}
            for each in grant.conditions
        ],
        "expires": _instant(grant.expires),
        "max_per_call": _text(grant.max_per_call),
        "not_before": _instant(grant.not_before),
        "reason": grant.reason,
        "tools": [tools.text for tools in grant.tools],
        "total": _text(grant.total),
        "upstream": grant.upstream,
        "uses": grant.uses,
    }
    return {key: value for key, value in said.items() if value not in (None, "", [])}


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _text(value: object) -> str | None:
    return None if value is None else str(value)
