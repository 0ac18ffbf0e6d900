"""What a person knows better than the service: how a doubt ended, and what a call really took."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from approval.core import steps
from approval.core.call import Call, CallId
from approval.core.identity import Right
from approval.core.lifecycle import Change
from approval.core.money import Money
from approval.core.rulebook import Rulebook
from approval.errors import Forbidden
from approval.ports import Step

Advance = Callable[[CallId, Step], Awaitable[Change]]


class Settling:
    """Takes the word of people with the right to settle; `rules` gives the rules in force."""

    def __init__(self, advance: Advance, rules: Callable[[], Rulebook]) -> None:
        self._advance = advance
        self._rules = rules

    async def settle(
        self,
        call_id: CallId,
        *,
        executed: bool,
        person: str,
        evidence: str,
        actual: Money | None = None,
    ) -> Call:
        """Say what became of a call in doubt, and what it took if that is known.

        Raises:
            Forbidden: Without the right to settle.
            Conflict: If the call is not in doubt, its sender may still be at work, or it cannot
                have taken that.
        """
        self._check_right(person)

        def step(call: Call, now: datetime) -> Change:
            return steps.settle(
                call, executed=executed, person=person, evidence=evidence, now=now, actual=actual
            )

        return (await self._advance(call_id, step)).call

    async def correct(self, call_id: CallId, *, person: str, evidence: str, actual: Money) -> Call:
        """Correct what was booked for a call that has ended, also where all was given back.

        Raises:
            Forbidden: Without the right to settle.
            Conflict: If the call was never sent or draws on no meter, or in another currency.
        """
        self._check_right(person)

        def step(call: Call, now: datetime) -> Change:
            return steps.correct(call, person=person, evidence=evidence, actual=actual, now=now)

        return (await self._advance(call_id, step)).call

    def _check_right(self, person: str) -> None:
        if not self._rules().directory.has_right(person, Right.SETTLE):
            raise Forbidden(f"{person} has no right to settle; [rights] settle gives it")
