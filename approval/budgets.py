"""Budgets for people to look at: what a call would leave in each of its meters.

Nothing here is locked and nothing promised. What admits a call is `core/admission.py`, under the
store's lock.
"""

from collections.abc import Callable
from dataclasses import dataclass

from approval.core import canonical, meters
from approval.core.call import Call
from approval.core.demand import Demand
from approval.core.rulebook import Rulebook
from approval.ports import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One meter that a call draws on: its name, and what is left before the call and after it."""

    meter: str
    words: str


class Budgets:
    """Reads budgets under the rules in force, which `rules` gives."""

    def __init__(self, store: Store, rules: Callable[[], Rulebook]) -> None:
        self._store = store
        self._rules = rules

    async def lines(self, call: Call) -> tuple[Line, ...]:
        """Word what a waiting call would leave in its meters, as the rules in force have them.

        What it has itself set aside is left out of what is used.
        """
        draws = self._demand(call).draws if call.amount is not None else ()
        if not draws:
            return ()
        usage = await self._store.usage(draws, without=call.id)
        return tuple(
            Line(meter=draw.meter.name, words=meters.words(draw, usage[draw.meter_id]))
            for draw in draws
        )

    def _demand(self, call: Call) -> Demand:
        asked, arguments = call.asked, canonical.read(call.asked.arguments)
        verdict = self._rules().judge(asked.agent, asked.upstream, asked.tool, arguments)
        return verdict.demand or Demand()
