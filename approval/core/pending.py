"""How many calls of one agent may wait for people at once, and what it is told beyond that."""

from dataclasses import dataclass
from typing import Final

from approval.core.refusals import Refusal

TOO_MANY: Final = "too_many_pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The calls of an agent that wait for a decision, and how many may.

    `count` may be above `most`: a bound that is lowered ends nothing.
    """

    count: int
    most: int

    @property
    def is_full(self) -> bool:
        return self.count >= self.most


def refusal(pending: Pending) -> Refusal:
    """Word why no further call is held; nobody knows when people decide, so no wait is named."""
    calls = "call" if pending.most == 1 else "calls"
    return Refusal(
        code=TOO_MANY,
        text=f"At most {pending.most} {calls} of this agent may wait for people at once (now:"
        f" {pending.count}). Wait until one of them is decided.",
        retryable=True,
    )
