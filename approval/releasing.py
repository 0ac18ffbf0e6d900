"""Running a parked call now, because a person who may approve it says so."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from approval.core import identity, parking
from approval.core.audit import Entry, Tag
from approval.core.call import Call, CallId, Listener
from approval.core.lifecycle import Change, Event
from approval.core.parking import Word
from approval.core.rulebook import Rulebook
from approval.errors import Conflict, Forbidden
from approval.ports import Step, Store

Advance = Callable[[CallId, Step], Awaitable[Change]]


class Releasing:
    """Takes the word of people who may decide; `rules` gives the rules in force."""

    def __init__(self, advance: Advance, store: Store, rules: Callable[[], Rulebook]) -> None:
        self._advance = advance
        self._store = store
        self._rules = rules

    async def is_open_to(self, person: str, call: Call) -> bool:
        """Say whether this call waits for its agent in vain, and the person may have it run now."""
        directory = self._rules().directory
        if not parking.parked(call) or person not in identity.deciders(directory, call):
            return False
        # A line that a living process holds runs the call by itself, at once.
        held = call.listener is Listener.WAITING
        return not held or call.listener_owner not in await self._store.living()

    async def release(self, call_id: CallId, word: Word) -> Call:
        """Let a parked call run. The process on duty sends it; that may be another one.

        Raises:
            NotFound: If there is no such call.
            Forbidden: If this person may not decide it.
            Conflict: If it is another one than was shown, is not parked, or has ended.
        """

        def step(call: Call, now: datetime) -> Change:
            rules = self._rules()
            return parking.release(
                call,
                word,
                directory=rules.directory,
                verdict=rules.judge_waiting(call),
                now=now,
            )

        try:
            change = await self._advance(call_id, step)
        except (Conflict, Forbidden) as refusal:
            await self._refused(call_id, word, str(refusal))
            raise
        if change.event in {None, Event.RELEASE}:
            return change.call
        await self._refused(call_id, word, f"the call is {change.call.status}")
        raise Conflict(f"too late: the call is {change.call.status}")

    async def _refused(self, call_id: CallId, word: Word, why: str) -> None:
        facts = {"choice": "run", "via": word.via, "why": why}
        actor = f"person:{word.person}"
        await self._store.journal(
            Entry(tag=Tag.DECISION_REFUSE, subject=call_id, actor=actor, facts=facts)
        )
