"""Freezes for people to look at: which tools spend nothing for whom, and lifting one."""

from collections.abc import Callable

from approval.core.audit import Entry, Tag
from approval.core.call import CallId
from approval.core.identity import Right
from approval.core.rulebook import Rulebook
from approval.errors import Forbidden
from approval.ports import Freeze, Store


class Freezing:
    """Lists and lifts freezes; `rules` gives the rules in force."""

    def __init__(self, store: Store, rules: Callable[[], Rulebook]) -> None:
        self._store = store
        self._rules = rules

    async def listed(self) -> tuple[Freeze, ...]:
        """Give the freezes in force, the newest first."""
        return await self._store.freezes()

    async def lift(self, call_id: str, *, person: str, via: str, evidence: str) -> None:
        """Let the tool that a call froze spend again, on the word of somebody who may settle.

        Raises:
            Forbidden: Without that right.
            NotFound: If nothing is frozen by that call.
        """
        if not self._rules().directory.has_right(person, Right.SETTLE):
            raise Forbidden(f"{person} has no right to settle; [rights] settle gives it")
        entry = Entry(
            tag=Tag.FREEZE_LIFT,
            subject=call_id,
            actor=f"person:{person}",
            facts={"evidence": evidence, "via": via},
        )
        await self._store.lift(CallId(call_id), entry)
