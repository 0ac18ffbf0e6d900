"""The keys a policy document may have, and what to tell people about all the others."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from approval.core.canonical import quoted
from approval.core.document import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Which keys a document may have, by place."""

    name: str
    top: frozenset[str]
    tool: frozenset[str]
    all_tools: frozenset[str]
    globs: bool


POLICYLAYER = Dialect(
    name="PolicyLayer",
    top=frozenset({"version", "default", "hide", "tools", "all_tools"}),
    tool=frozenset({"deny_if", "require", "rate_limit", "limits"}),
    all_tools=frozenset(),
    globs=False,
)
APPROVAL_1 = Dialect(
    name="approval-1",
    top=POLICYLAYER.top | {"dialect", "defaults", "meters", "prices"},
    tool=POLICYLAYER.tool | {"title", "require_approval", "spend", "on_error"},
    all_tools=POLICYLAYER.tool | {"require_approval"},
    globs=True,
)
ENTRY = frozenset({"conditions", "on_deny"})
CONDITION = frozenset({"path", "op", "value"})
FACTOR = frozenset({"group", "approvers", "approvals"})
TERMS = frozenset(
    {
        *("approvers", "factors", "quorum", "distinct", "timeout", "run_within", "on_timeout"),
        *("run", "on_disconnect", "not_owner", "notify"),
    }
)

GATE = TERMS | ENTRY | {"grantable"}

NOT_BUILT: Mapping[str, str] = {
    "escalation": "nobody else is asked while a call waits",
    "idempotency": "no key is sent to the upstream",
    "dedupe": "equal gated calls always join",
    "hold": "a call cannot be held in any other way",
    "show": "approvers always see the whole arguments",
    "require_console": "a person may decide wherever the call is shown",
    "when": "there are conditions, but no expressions",
    "reason": "the agent's own words are not shown apart",
}

_EVERY_KEY = APPROVAL_1.top | APPROVAL_1.tool | GATE

HINTS: Mapping[str, str] = {
    "rules": "this is an Intercept file, whose conditions mean the opposite; rewrite it as deny_if",
    "channels": "the key is notify",
    "group": "outside of factors the key is approvers",
    "approvals": "outside of factors the key is quorum",
    "action": "write deny_if or require_approval",
    "methods": "it belongs to the upstream in the configuration",
    "grantable": "each rule of require_approval says it for itself, and no default does",
    "max_pending": "it bounds an agent, not a rule; write it under [approvals], or under"
    " [agents.NAME] for one of them, in the configuration",
    "grants": "they are given in the configuration, or with approval grants issue",
}


def check_keys(place: Place, keys: Collection[str], what: str) -> None:
    """Complain of every member that has no place in `what`."""
    for key, member in place.strays(keys):
        member.complain(_unknown(key, keys, what))


def _unknown(key: str, keys: Collection[str], what: str) -> str:
    name = quoted(key)
    if key in NOT_BUILT:
        return (
            f"{name} is not built yet: {NOT_BUILT[key]} in this version; remove it, for a rule"
            " that is not kept must not look kept"
        )
    takes = f"it takes {', '.join(sorted(keys))}" if keys else "it takes no keys"
    if key in HINTS:
        return f"{name} has no place in {what}: {HINTS[key]}"
    if key in _EVERY_KEY:
        return f'{name} has no place in {what}; {takes} (more with "dialect": "approval-1")'
    near = difflib.get_close_matches(key, keys, 1)
    return f"there is no key {name} in {what}; " + (f"did you mean {near[0]}?" if near else takes)
