"""The simplest thing that keeps money as the store promises to: dictionaries, and no lock."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from approval.core import ledger, meters, rates
from approval.core.call import Call, CallId, ToolCall
from approval.core.demand import Demand, Holdings, Offer, Ring, under
from approval.core.ledger import LedgerEntry, Reservation, State
from approval.core.lifecycle import Change, Event
from approval.core.meters import Draw, Usage
from approval.core.windows import Calendar, Rolling
from approval.ports import Admission, Claim, Step
from tests.core.till import Row
from tests.factories import Clock


class Dictionary:
    """Keeps calls and money in dictionaries; it is a `Till` of the money machine."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls: dict[CallId, Call] = {}
        self.kept: dict[Row, Usage] = {}
        self.book: Counter[tuple[str, LedgerEntry]] = Counter()
        self.rings: dict[str, tuple[int, dict[int, datetime]]] = {}

    def now(self) -> datetime:
        return self.clock.now

    def admit(
        self,
        asked: ToolCall,
        demand: Demand | None,
        step: Admission,
        offers: tuple[Offer, ...],
        process: str,
    ) -> Change:
        equal = [call for call in self.calls.values() if call.asked == asked]
        live = [call for call in equal if not call.status.ended]
        held = self.holdings(under(demand, offers), None, offers)
        return self.keep(step(next(reversed(live or equal), None), held, self.now()))

    def claim(self, call_id: CallId, demand: Demand | None, step: Claim, process: str) -> Change:
        call = self.calls[call_id]
        return self.keep(step(call, self.holdings(demand, call), self.now()))

    def advance(self, call_id: CallId, step: Step, process: str) -> Change:
        return self.keep(step(self.calls[call_id], self.now()))

    def holdings(
        self, demand: Demand | None, call: Call | None, offers: tuple[Offer, ...] = ()
    ) -> Holdings:
        if demand is None:
            return Holdings(offers=offers)
        rings = {}
        for count in demand.counts:
            n, slots = self.rings.get(count.key.id, (0, {}))
            old = tuple(slots.get(slot) for slot in rates.next_slots(count.rate, n))
            rings[count.key.id] = Ring(n=n, old=old)
        usage = {draw.meter_id: self.usage(draw, call) for draw in demand.draws}
        room_at = {
            draw.meter_id: free
            for draw in demand.draws
            if (free := self.room_at(draw, call)) is not None
        }
        return Holdings(usage=usage, rings=rings, offers=offers, room_at=room_at)

    def usage(self, draw: Draw, leaving_out: Call | None) -> Usage:
        window = draw.meter.window
        if isinstance(window, Rolling):
            return added(self.rolled(draw, window, leaving_out), Usage())
        start = meters.window_start(draw, self.now())
        here = self.sum_without((draw.meter_id, start), leaving_out)
        if not isinstance(window, Calendar):
            return here
        others = self.others(draw, leaving_out)
        elsewhere = [each for each in others if each.at >= start and each.window_start != start]
        return added(elsewhere, here)

    def rolled(self, draw: Draw, window: Rolling, leaving_out: Call | None) -> list[Reservation]:
        start = window.start(self.now())
        return [each for each in self.others(draw, leaving_out) if each.at > start]

    def others(self, draw: Draw, leaving_out: Call | None) -> list[Reservation]:
        return [
            each
            for call in self.calls.values()
            if leaving_out is None or call.id != leaving_out.id
            for each in call.reservations
            if each.meter_id == draw.meter_id
        ]

    def room_at(self, draw: Draw, leaving_out: Call | None) -> datetime | None:
        window = draw.meter.window
        if not isinstance(window, Rolling):
            return None
        rolled = self.rolled(draw, window, leaving_out)
        counted = [(each.at, each.taken - each.override) for each in rolled]
        return meters.room_at(draw, window, counted, self.now())

    def sum_without(self, row: Row, call: Call | None) -> Usage:
        usage = self.kept.get(row, Usage())
        for each in call.reservations if call is not None else ():
            if (each.meter_id, each.window_start) == row and each.state is State.HELD:
                usage = ledger.applied(usage, ledger.void(each).entries)
        return usage

    def keep(self, change: Change) -> Change:
        if change.event is None or change.event is Event.DENY:
            return change
        self.calls[change.call.id] = change.call
        for taken in change.taken:
            _, slots = self.rings.get(taken.count.key.id, (0, {}))
            now = dict.fromkeys(taken.slots, self.now())
            self.rings[taken.count.key.id] = (taken.n, slots | now)
        for booking in change.bookings:
            for entry in booking.entries:
                row = (entry.meter_id, entry.window_start)
                self.kept[row] = ledger.applied(self.kept.get(row, Usage()), [entry])
                self.book[change.call.id, entry] += 1
        return change

    def get(self, call_id: CallId, process: str) -> Call:
        return self.calls[call_id]

    def sums(self, process: str) -> Mapping[Row, Usage]:
        return self.kept

    def entries(self, process: str) -> Counter[tuple[str, LedgerEntry]]:
        return self.book

    def close(self) -> None:
        """Keep nothing."""


def added(reservations: list[Reservation], to: Usage) -> Usage:
    return Usage(
        held=to.held + sum(each.taken for each in reservations if each.state is State.HELD),
        posted=to.posted + sum(each.posted for each in reservations),
        overridden=to.overridden + sum(each.override for each in reservations),
    )
