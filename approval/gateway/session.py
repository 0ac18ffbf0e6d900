"""Sessions of the older protocol: whose they are, and the conversation behind each.

An agent is given an id of ours, of 256 random bits, that works for that agent at that upstream
alone; the upstream's own never leaves the gateway. To anybody else a session does not exist.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from approval.errors import Refused
from approval.gateway.upstream import Conversation
from approval.gateway.waiting import Line

EVICT_AFTER_SECONDS = 60.0
"""How long a session must have been idle before it makes room for a new one of its agent."""


@dataclass(slots=True, kw_only=True)
class Session:
    """One conversation of one agent with one upstream, while it lasts."""

    id: str
    agent: str
    upstream: str
    far: Conversation
    client_name: str
    used_at: float
    version: str = ""
    busy: int = 0
    """How many requests and streams of it are open: a busy session is never idle."""
    lines: dict[str | int, Line] = field(default_factory=dict)
    """The held calls of it by request id, for an agent that cancels one."""


class Sessions:
    """Every open session, by id."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}
        self._order = count()

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._open.values()))

    def find(self, session_id: str, *, agent: str, upstream: str) -> Session | None:
        """Find the agent's own session; another agent's is not told from one that never was."""
        session = self._open.get(session_id)
        if session is None or (session.agent, session.upstream) != (agent, upstream):
            return None
        return session

    def add(
        self, *, agent: str, upstream: str, far: Conversation, client_name: str, now: float
    ) -> Session:
        session = Session(
            id=secrets.token_urlsafe(32),
            agent=agent,
            upstream=upstream,
            far=far,
            client_name=client_name,
            used_at=now,
        )
        self._open[session.id] = session
        return session

    def remove(self, session: Session) -> None:
        self._open.pop(session.id, None)

    def make_room(self, agent: str, *, limit: int, now: float) -> Session | None:
        """Give the session that must end before the agent may have another, or None.

        Clients often forget to end theirs, so the one idle for longest goes.

        Raises:
            Refused: If the agent has as many as it may, and all are in use.
        """
        own = [session for session in self._open.values() if session.agent == agent]
        if len(own) < limit:
            return None
        idle = [each for each in own if _idle(each, now) > EVICT_AFTER_SECONDS]
        if not idle:
            text = f"this agent has {limit} sessions open, the most it may; end one with DELETE"
            raise Refused("too_many_sessions", text, retryable=True)
        return min(idle, key=lambda session: session.used_at)

    def idle(self, seconds: float, *, now: float) -> list[Session]:
        """Give the sessions that nobody has used for so long, and those that are over."""
        return [each for each in self if each.far.over or _idle(each, now) > seconds]


def _idle(session: Session, now: float) -> float:
    return 0.0 if session.busy else now - session.used_at
