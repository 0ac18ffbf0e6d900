"""The machine that spends at random, where people also correct what calls have taken."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from approval.core import steps
from approval.core.call import Status
from approval.core.ledger import Kind, State
from approval.core.lifecycle import Event
from approval.core.meters import USES
from approval.core.money import Money
from tests.core.money_machine import PROCESSES, MoneyMachine

RAN = (Status.EXECUTED, Status.ERRORED, Status.FAILED)


class CorrectingMachine(MoneyMachine):
    """What a person says is booked, also where all was given back; and nothing else changes."""

    @precondition(lambda self: self.any_is(*RAN))
    @rule(data=st.data(), took=st.integers(0, 9), process=st.sampled_from(PROCESSES))
    def correct(self, data: st.DataObject, took: int, process: str) -> None:
        call, actual = self.pick(data, *RAN), Money(took, "USD")
        if not any(each.amount.currency == "USD" for each in call.reservations):
            return  # nothing of it is counted anywhere
        change = self.advance(
            call,
            lambda call, now: steps.correct(
                call, person="dora", evidence="", actual=actual, now=now
            ),
            process,
        )
        assert change.call.status is call.status
        assert not change.freezes
        for before, after in zip(call.reservations, change.call.reservations, strict=True):
            is_use = before.amount.currency == USES
            was_taken = before.state is not State.VOID or took > 0
            assert after.posted == (int(was_taken) if is_use else took)
            assert after.override <= before.override
        kinds = {entry.kind for each in change.bookings for entry in each.entries}
        assert kinds <= {Kind.OVERRUN, Kind.ADJUST}
        assert (change.event is Event.CORRECT) is bool(kinds)
