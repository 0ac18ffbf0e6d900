"""Rules that change while a call waits: the strictest of then and now, on the pure core."""

import pytest

from tests.core.dictionary import Dictionary
from tests.core.reloads import CASES, Case, play
from tests.factories import Clock


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_becomes_of_a_call_whose_rules_change(case: Case) -> None:
    clock = Clock()
    play(Dictionary(clock), clock, case)
