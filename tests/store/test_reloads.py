"""Rules that change while a call waits: the strictest of then and now, on real stores."""

import pytest

from tests.core.reloads import CASES, Case, play
from tests.factories import Clock
from tests.postgres import Server
from tests.store.tills import TwoTills


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_becomes_of_a_call_whose_rules_change_on_sqlite(case: Case) -> None:
    clock = Clock()
    tills = TwoTills.on_sqlite(clock)
    try:
        play(tills, clock, case)
    finally:
        tills.close()


@pytest.mark.postgres
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_becomes_of_a_call_whose_rules_change_on_postgres(
    case: Case, postgres_server: Server
) -> None:
    clock = Clock()
    tills = TwoTills.on_postgres(clock, postgres_server)
    try:
        play(tills, clock, case)
    finally:
        tills.close()
