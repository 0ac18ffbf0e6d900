"""What the service needs of the world, as contracts: a store, and a way to send a call upstream."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from approval.core.admission import Counted
from approval.core.audit import Entry, Written
from approval.core.call import Answer, Call, CallId, CallPage, Listener, Status, ToolCall
from approval.core.demand import Count, Demand, Holdings, Offer
from approval.core.grants import Grant
from approval.core.issued import GrantPage, Issued
from approval.core.lifecycle import Change
from approval.core.meters import Draw, Usage
from approval.core.scopes import Key

Step = Callable[[Call, datetime], Change]
"""A pure step from a call, and the store's time after the lock, to its change.

A store may run it more than once: only the change of the last run is written.
"""

Admission = Callable[[Call | None, Holdings, datetime], Change]
"""A pure step from the latest equal call, if there is one, and from what the demand meets, to a new
call, a joined one, or a denial."""

Covering = Callable[[Sequence[Grant]], tuple[Offer, ...]]
"""Names the grants that cover a call, of those issued to its agent and of the configuration's."""

Claim = Callable[[Call, Holdings, datetime], Change]
"""A pure step from an approved call, and from what its demand meets now, to its claim."""

Claiming = Callable[[Call], tuple[Demand | None, Claim]]
"""What a call demands under the rules in force, and the step that those same rules take.

Both at once: rules may be replaced while locks are waited for, and a step that judged anew could
draw on a meter that nobody has locked or read.
"""

Counting = Callable[[Holdings, datetime], Counted]
"""A pure step from counts to what is written of a call that is merely counted."""

Send = Callable[[Call], Awaitable[Answer]]
"""Sends a claimed call upstream, once.

Raises `NeverSent` only when it is proven that no byte left, and `AnswerLost` when bytes may have
left and no readable answer came. Anything else it raises counts as the latter.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A secret that the service issued, by its digest alone.

    `kind` is `agent`, `person`, `login` (spent by its first use) or `session`.
    """

    digest: str
    kind: str
    subject: str
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A meter that has been drawn on, and by whom: `key` says whose sums `meter_id` names."""

    meter_id: str
    origin: str
    name: str
    key: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailReport:
    """What a check of the whole trail found. An empty `problems` means that it holds."""

    entries: int
    calls: int
    head: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A tool that spends nothing for an agent, since `call_id` took more than was approved."""

    call_id: CallId
    agent: str
    upstream: str
    tool: str
    at: datetime


Limits = Callable[[Sequence[Kept]], Sequence[Draw]]
"""Names those of these sums that the rules in force limit, with the meters that do."""


class Store(Protocol):
    """Keeps calls, the trail and credentials.

    Every method that writes does so in one durable transaction: when it returns, a power cut loses
    nothing of it; when it raises, nothing of it has happened. Any of them may raise
    `StoreUnavailable`. Time is the store's own and never runs backwards.
    """

    async def journal(self, entry: Entry) -> None:
        """Write one audit entry; on disk when this returns."""
        ...

    def journal_later(self, entry: Entry) -> None:
        """Write one audit entry with the next commit, without waiting for it.

        Only for what adds to an entry already on disk: a crash may lose it.
        """
        ...

    async def admit(
        self,
        asked: ToolCall,
        demand: Demand | None,
        step: Admission,
        covering: Covering | None = None,
        max_pending: int | None = None,
    ) -> Change:
        """Look for the latest call equal to this one, run the step, and write what it says.

        `covering` is asked which grants cover it, once those issued are locked against revocation.
        With `max_pending` the step sees how many of the agent's calls are pending, and until this
        is committed no other admission of that agent, with a bound as well, adds to them.

        What the demand draws on is locked before the step sees it, so no other call takes the same
        room meanwhile. State, money, counts, audit entry and notice are one transaction.
        """
        ...

    async def claim(self, call_id: CallId, claiming: Claiming) -> Change:
        """Lock the call and what it demands now, run the step, and write what it says.

        Raises:
            NotFound: If there is no such call. Whatever the step raises passes through.
        """
        ...

    async def count(self, counts: tuple[Count, ...], step: Counting) -> Counted:
        """Lock these counts, run the step, and write what it says with its audit entry."""
        ...

    async def advance(self, call_id: CallId, step: Step, limits: Limits | None = None) -> Change:
        """Lock the call, run the step, and write what it says: state, audit entry and notice.

        With `limits` the trail is told of those that are neared by what a call has taken beyond
        what it held, in the same transaction.

        Raises:
            NotFound: If there is no such call. Whatever the step raises passes through.
        """
        ...

    async def usage(
        self, draws: Collection[Draw], *, without: CallId | None = None
    ) -> Mapping[str, Usage]:
        """Read the sums that draws meet now, by meter, without what one call has taken.

        For people to look at: nothing is locked, so it may be otherwise a moment later.
        """
        ...

    async def kept(self) -> tuple[Kept, ...]:
        """Name every meter that has been drawn on.

        They are read page by page: one that is first drawn on meanwhile may be among them or not.
        """
        ...

    async def spent(
        self, meter_ids: Collection[str], days: Sequence[datetime]
    ) -> Mapping[str, tuple[int, ...]]:
        """Add up what was booked between each two of these instants, by meter, in minor units.

        The instants ascend. Meters of which nothing was booked then are left out.
        """
        ...

    async def listen(self, call_id: CallId, listener: Listener, owner: str) -> None:
        """Note what the agent knows of a call that has not ended.

        That it has *gone* stands only if `owner` held its line and it was told nothing.
        """
        ...

    async def deliver(self, call_id: CallId) -> None:
        """Note that the agent was handed the call's outcome; the first time stands."""
        ...

    async def get(self, call_id: CallId) -> Call:
        """Read one call.

        Raises:
            NotFound: If there is no such call.
        """
        ...

    async def answer(self, call_id: CallId) -> Answer | None:
        """Read what the upstream answered, while it is kept."""
        ...

    async def find(
        self, *, states: Collection[Status] = (), after: str | None = None, limit: int = 50
    ) -> CallPage:
        """Read a page of calls, newest first; `after` is the last page's `next`."""
        ...

    async def due(self) -> tuple[CallId, ...]:
        """Name calls whose deadline or lease has passed by the store's clock."""
        ...

    async def changes(self, after: int) -> tuple[tuple[tuple[str, int], ...], int]:
        """Name what any process changed after this mark with its version then, and the new mark.

        A name is a call's id, or "credentials". The mark -1 answers nothing and the present mark.
        """
        ...

    async def freezes(self) -> tuple[Freeze, ...]:
        """Read the freezes in force."""
        ...

    async def lift(self, call_id: CallId, entry: Entry) -> None:
        """Let the tool that this call froze spend again.

        Raises:
            NotFound: If nothing is frozen by that call.
        """
        ...

    async def heartbeat(self, instance: str) -> None:
        """Say that this process lives."""
        ...

    async def living(self) -> frozenset[str]:
        """Name the processes that gave a sign of life within the last 15 seconds."""
        ...

    async def keep_credential(self, credential: Credential, entry: Entry) -> None:
        """Keep an issued secret's digest, with its audit entry."""
        ...

    async def credentials(self, kind: str) -> tuple[Credential, ...]:
        """Read the unexpired credentials of one kind."""
        ...

    async def spend_credential(self, kind: str, digest: str, entry: Entry) -> Credential | None:
        """Take a credential away and answer it, or None; of two at once only one has it."""
        ...

    async def keep_grant(self, grant: Grant, entry: Entry) -> Issued:
        """Keep a grant that somebody issued, with its audit entry."""
        ...

    async def revoke_grant(self, grant_id: str, entry: Entry) -> Issued:
        """Take a grant back, with its audit entry; once this returns it admits nothing.

        Raises:
            NotFound: If no such grant was issued.
            Conflict: If it was revoked before, or has ended by itself.
        """
        ...

    async def grant(self, grant_id: str) -> Issued:
        """Read one grant; `NotFound` if no such grant was issued."""
        ...

    async def grants(self, *, after: str | None = None, limit: int = 50) -> GrantPage:
        """Read a page of the grants that were issued, the newest first, revoked and ended ones too.

        Raises:
            NotFound: If no grant `after` was issued.
        """
        ...

    async def trail(
        self, *, after: int = 0, limit: int = 100, subject: str | None = None
    ) -> tuple[Written, ...]:
        """Read audit entries in order."""
        ...

    async def verify(self) -> TrailReport:
        """Recompute the chain from its first entry and replay it against the calls."""
        ...

    async def now(self) -> datetime:
        """Tell the store's time."""
        ...
