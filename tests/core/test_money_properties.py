"""The laws of money over the pure core: whatever is bought, settled and lost in whatever order."""

from hypothesis import settings
from typing_extensions import override

from tests.core.correcting_machine import CorrectingMachine
from tests.core.dictionary import Dictionary
from tests.factories import Clock


class CoreMoney(CorrectingMachine):
    @override
    def make_till(self, clock: Clock) -> Dictionary:
        return Dictionary(clock)


TestMoney = CoreMoney.TestCase
TestMoney.settings = settings(max_examples=400, stateful_step_count=50, deadline=None)
