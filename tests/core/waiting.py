"""What calls have taken, added up from their reservations alone; and whether a wait told is true.

The money machine holds the project against it: nothing here uses the sums, or the rings, that the
project counts with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from approval.core.call import Call, CallId, Outcome, Verdict
from approval.core.demand import Count, Demand
from approval.core.ledger import Reservation
from approval.core.meters import Draw, Over
from approval.core.refusals import Refusal
from approval.core.windows import Rolling

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllTaken:
    """What was taken until now: by these calls of meters, and by whoever was admitted of rates.

    `admitted` are the instants by count. Asked of a later instant it says what will be if nobody
    else comes.
    """

    calls: Sequence[Call]
    admitted: Mapping[str, Sequence[datetime]]

    def rows(self, meter_id: str) -> list[tuple[CallId, Reservation]]:
        return [
            (call.id, each)
            for call in self.calls
            for each in call.reservations
            if each.meter_id == meter_id
        ]

    def within(self, draw: Draw, now: datetime) -> list[Reservation]:
        """Give what counts in the window of now."""
        window = draw.meter.window
        return [
            each
            for _, each in self.rows(draw.meter_id)
            if (
                each.at > now - window.span
                if isinstance(window, Rolling)
                else each.window_start == window.row(now)
            )
        ]

    def overshoot(self, draw: Draw, now: datetime) -> int:
        """Say how much of a call would be beyond the limit."""
        counted = sum(each.taken - each.override for each in self.within(draw, now))
        excess = counted + draw.amount.minor - draw.meter.limit.minor
        return min(max(0, excess), draw.amount.minor)

    def fits(self, draw: Draw, now: datetime, *, let_pass: int = 0) -> bool:
        """Say whether a call fits in, with no more than `let_pass` beyond a soft limit."""
        excess, soft = self.overshoot(draw, now), draw.meter.soft
        if excess == 0 or soft is None:
            return excess == 0
        others = sum(each.override for each in self.within(draw, now))
        return excess <= let_pass and others + excess <= soft.up_to.minor

    def passes(self, count: Count, now: datetime) -> bool:
        """Say whether a rate has room for one more."""
        window, log = count.rate.window, self.admitted.get(count.key.id, ())
        return len([at for at in log if at > now - window]) < count.rate.max


def check_wait(why: Refusal, verdict: Verdict, taken: AllTaken, now: datetime) -> None:
    """31, 41: nobody is refused while there is room, and whoever waits as told has room everywhere.

    A microsecond earlier there was too little. Where no wait is told, a limit is below what the
    call takes, and always will be.
    """
    demand = verdict.demand or Demand()

    def has_room(at: datetime) -> bool:
        return all(taken.passes(count, at) for count in demand.counts) and all(
            taken.fits(draw, at, let_pass=draw.amount.minor if may_ask(draw, verdict) else 0)
            for draw in demand.draws
        )

    assert why.code in {"rate", "limit"}
    assert not has_room(now)
    if why.retry_after is None:
        assert any(draw.amount > draw.meter.limit for draw in demand.draws)
        return
    then = now + why.retry_after
    assert has_room(then)
    if why.code == "rate":
        assert not all(taken.passes(count, then - MICROSECOND) for count in demand.counts)
    else:
        assert any(taken.overshoot(draw, then - MICROSECOND) for draw in demand.draws)


def may_ask(draw: Draw, verdict: Verdict) -> bool:
    return draw.meter.over is Over.ASK or verdict.outcome is Outcome.GATE
