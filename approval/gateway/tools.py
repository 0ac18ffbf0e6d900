"""The tools an agent is shown: the upstream's without the hidden ones, and three of our own.

Ours let an agent that was told "pending" collect the outcome. They are offered only where a policy
can hold something, and never in the place of an upstream's tool of the same name.
"""

import logging
from collections.abc import Mapping
from typing import Final

from approval.core.canonical import JSON, quoted
from approval.core.identity import Agent
from approval.core.policy import RequireApproval
from approval.core.rulebook import Rulebook
from approval.gateway.answers import Told

log = logging.getLogger(__name__)

WAIT: Final = "approval_wait"
STATUS: Final = "approval_status"
CANCEL: Final = "approval_cancel"
NAMES = frozenset({WAIT, STATUS, CANCEL})

_DESCRIPTIONS: Mapping[str, str] = {
    WAIT: "Waits for the outcome of a tool call that needs a person's approval, and returns the"
    " original tool's own result once the call has run. May return that it is still pending:"
    " call it again then.",
    STATUS: "Says how it stands with a tool call that needed a person's approval, without waiting.",
    CANCEL: "Withdraws a tool call that still waits for a person's approval, so that it never runs",
}
_SCHEMA: JSON = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": 'The call\'s id, which starts with "apr_".'}
    },
    "required": ["id"],
}


def can_hold(rules: Rulebook, agent: Agent, upstream: str) -> bool:
    """Say whether any policy over this agent's calls to the upstream can ask for approval."""
    covering = (rules.policies.get(upstream), rules.narrowing.get((agent.name, upstream)))
    return any(
        isinstance(rule, RequireApproval)
        for policy in covering
        if policy is not None
        for rule in policy.rules
    )


class Listing:
    """What has been seen of one upstream's own tools."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._taken: frozenset[str] = frozenset()

    @property
    def taken(self) -> frozenset[str]:
        """Names of ours that the upstream uses itself: those are its own, and ours are left out."""
        return self._taken

    def see(self, tools: list[JSON], *, whole: bool) -> None:
        """Look at a page of the upstream's own list, or at all of it."""
        taken = NAMES & {name for tool in tools if (name := _name(tool)) is not None}
        seen = taken if whole else self._taken | taken
        for name in sorted(seen - self._taken):
            log.warning(
                'the upstream "%s" has a tool named %s itself; ours are left out',
                self._upstream,
                name,
            )
        self._taken = seen

    def edit(
        self, result: dict[str, JSON], rules: Rulebook, agent: Agent, *, ours: bool, first: bool
    ) -> dict[str, JSON]:
        """Make the agent's page of tools out of the upstream's, in its order."""
        tools = result.get("tools")
        if not isinstance(tools, list):
            return result
        last = result.get("nextCursor") is None
        self.see(tools, whole=first and last)
        shown = [tool for tool in tools if not self._is_hidden(tool, rules, agent)]
        if ours and last and not self._taken:
            shown += own_tools()
        if len(shown) == len(tools) and (not ours or not last or self._taken):
            return result
        edited = result | {"tools": shown}
        if "cacheScope" in result:
            edited["cacheScope"] = "private"  # another agent may be shown another list
        return edited

    def _is_hidden(self, tool: JSON, rules: Rulebook, agent: Agent) -> bool:
        name = _name(tool)
        return name is not None and rules.hides(agent, self._upstream, name)


def own_tools() -> list[JSON]:
    return [
        {
            "name": name,
            "description": description,
            "inputSchema": _SCHEMA,
            "annotations": {
                "readOnlyHint": name == STATUS,
                "destructiveHint": False,
                "openWorldHint": False,
            },
        }
        for name, description in _DESCRIPTIONS.items()
    ]


def tell_unknown(call_id: JSON) -> Told:
    """Say that there is no such call, or none of this agent's: the two are not told apart."""
    shown = quoted(call_id, 60) if isinstance(call_id, str) else "this"
    return Told(
        text=f'No call of yours has the id "{shown}". Give the id, starting with "apr_", that the'
        " pending call was answered with.",
        meta={"state": "unknown", "retryable": False, "reason_code": "unknown_call"},
    )


def _name(tool: JSON) -> str | None:
    name = tool.get("name") if isinstance(tool, dict) else None
    return name if isinstance(name, str) else None
