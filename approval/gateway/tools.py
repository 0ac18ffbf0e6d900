"""The tools an agent is shown: the upstream's without the hidden ones, and three of our own.

Ours let an agent that was told "pending" collect the outcome. They are offered only where a policy
can hold something, and never in the place of an upstream's tool of the same name.
"""

import logging
from collections.abc import Mapping
from typing import Final

from approval.core.canonical import JSON, quoted
from approval.core.identity import Agent
from approval.core.meters import Over
from approval.core.policy import Policy, RequireApproval
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
    return any(_holds(policy) for policy in covering if policy is not None)


def _holds(policy: Policy) -> bool:
    """Look for what holds calls: a gate, a price that approvers type, a meter that asks."""
    return any(isinstance(rule, RequireApproval) for rule in policy.rules) or any(
        charge.asks is not None or any(meter.over is Over.ASK for meter in charge.meters)
        for charge in policy.charges
    )


class Listing:
    """What has been seen of one upstream's own tools. `offers`: its operator wants ours beside."""

    def __init__(self, upstream: str, *, offers: bool = True) -> None:
        self.offers = offers
        self._upstream = upstream
        self._taken: frozenset[str] = frozenset()

    @property
    def ours(self) -> frozenset[str]:
        """Names whose calls are for us to answer."""
        return NAMES - self._taken if self.offers else frozenset()

    @property
    def complete(self) -> bool:
        """Say whether an agent may be sent to our tools: all of them are listed, or none is."""
        return self.offers and not self._taken

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


def tell_unknown(arguments: Mapping[str, JSON]) -> Told:
    """Say that there is no such call, or none of this agent's: the two are not told apart."""
    call_id = arguments.get("id")
    if isinstance(call_id, str):
        wrong = f'No call of yours has the id "{quoted(call_id, 60)}".'
    elif "id" in arguments:
        wrong = 'The argument "id" is not a text.'
    else:
        wrong = 'The argument "id" is missing.'
    return Told(
        text=f'{wrong} Give the id, starting with "apr_", that the pending call was answered with.',
        meta={"state": "unknown", "retryable": False, "reason_code": "unknown_call"},
    )


def _name(tool: JSON) -> str | None:
    name = tool.get("name") if isinstance(tool, dict) else None
    return name if isinstance(name, str) else None
