"""The laws of money, rates and policies by their number, and the tests that hold each of them.

The money machine plays on the pure core, on SQLite with two stores and on PostgreSQL; the crowds
play many calls at once through two services, either of which may die. Numbers are the design's.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MACHINE = (
    "core/test_money_properties.py::TestMoney",
    "store/test_money_properties.py::TestMoneyInTheStore",
    "store/test_money_properties.py::test_money_in_postgres",
)
CROWDS = ("store/test_crowds.py::TestCrowds", "store/test_crowds.py::test_crowds_in_postgres")
LEDGER = "core/test_ledger_machine.py::TestSpending"
RATES = "core/test_rates.py"
JUDGING = "core/test_policy_properties.py"

PROPERTIES: Mapping[int, tuple[str, ...]] = {
    27: (*MACHINE, *CROWDS, LEDGER),  # no window is beyond its limit
    28: (*MACHINE, *CROWDS, LEDGER),  # sums are those of the reservations
    29: (*MACHINE, *CROWDS),  # only live calls hold money, and all of it
    30: (*MACHINE, *CROWDS, LEDGER),  # entries add up
    31: (  # as many are admitted as fit, with deaths
        *CROWDS,
        "store/test_ledger.py::test_of_fifty_at_once_through_two_processes_ten_are_admitted",
        "core/test_ledger.py::test_n_calls_of_one_amount_are_admitted_as_often_as_they_fit",
    ),
    32: (  # no argument lowers what is taken
        *MACHINE,
        "core/test_money.py::test_no_value_is_ever_read_as_a_negative_or_boundless_amount",
        "core/test_price_properties.py::test_a_value_of_another_type_never_buys_a_lower_amount",
    ),
    33: (  # an unknown amount has no effect
        *MACHINE,
        "core/test_price_properties.py::test_a_quote_is_an_amount_within_the_terms_or_a_reason",
        "core/test_reloads.py::test_what_becomes_of_a_call_whose_rules_change",
    ),
    34: (  # what did not happen leaves what was there before
        "core/test_ledger.py::test_voiding_leaves_exactly_the_room_that_was_there",
        LEDGER,
        *CROWDS,
    ),
    35: (*MACHINE, *CROWDS, LEDGER),  # rolling meters at every instant
    36: (  # no call counts in no window or in two
        *MACHINE,
        "core/test_windows.py::test_every_instant_is_in_exactly_one_window",
        "core/test_ledger.py::test_a_zone_whose_days_have_moved_counts_a_waiting_call_once",
        "core/test_reloads.py::test_what_becomes_of_a_call_whose_rules_change",
        "store/test_reloads.py::test_what_becomes_of_a_call_whose_rules_change_on_sqlite",
        "store/test_reloads.py::test_what_becomes_of_a_call_whose_rules_change_on_postgres",
    ),
    37: (  # less frees the difference, more is flagged and blocks what follows
        *MACHINE,
        *CROWDS,
        "core/test_ledger.py::test_posting_frees_the_difference_or_marks_an_overrun",
        "store/test_overruns.py::test_a_hard_limit_that_was_overrun_admits_nobody",
    ),
    38: (  # all meters of a call move, or none
        *MACHINE,
        *CROWDS,
        "store/test_ledger.py::test_a_rate_and_a_pot_are_taken_together_or_not_at_all",
    ),
    39: (  # grants are not exceeded, and not used once revoked
        *MACHINE,
        "store/test_granting.py::test_uses_and_total_are_never_exceeded_by_twenty_at_once",
        "store/test_granting.py::test_nothing_is_admitted_after_a_revocation_that_races_with_it",
    ),
    40: (  # at most so many in every interval
        *MACHINE,
        *CROWDS,
        f"{RATES}::test_no_interval_of_a_windows_length_holds_more",
    ),
    41: (  # what is refused leaves no trace, and is told a true wait
        *MACHINE,
        f"{RATES}::test_a_refused_call_leaves_no_trace_and_is_told_exactly_how_long_to_wait",
        "store/test_ledger.py::test_a_ring_admits_its_maximum_in_any_window",
    ),
    42: (  # reading again forgives nothing, nor does another session
        *CROWDS,
        f"{RATES}::test_the_same_numbers_are_the_same_ring",
        "store/test_rereading.py::test_reading_the_same_numbers_again_forgives_nothing",
        "store/test_rereading.py::test_lacking_the_limit_for_a_while_forgives_nothing",
        "store/test_rereading.py::test_nothing_that_an_agent_chooses_of_a_call_raises_its_total",
        "store/test_ledger.py::test_a_changed_limit_forgives_nothing_nor_does_changing_it_back",
        "scenarios/test_wire_limits.py::test_a_new_session_for_each_call_raises_no_total",
    ),
    43: (f"{JUDGING}::test_judging_ends_in_one_verdict_for_any_json",),
    44: (  # adding tightens, and order is nothing
        f"{JUDGING}::test_adding_a_rule_never_loosens",
        f"{JUDGING}::test_the_order_of_rules_changes_nothing",
    ),
    45: (  # unknown never allows
        f"{JUDGING}::test_an_argument_of_another_type_never_loosens_what_was_known",
        f"{JUDGING}::test_what_no_rule_can_judge_is_never_allowed_past_a_rule",
    ),
    46: (f"{JUDGING}::test_policylayers_documents_allow_only_what_the_original_would",),
}


def test_every_law_of_money_rates_and_policy_is_held_by_a_test() -> None:
    assert list(PROPERTIES) == list(range(27, 47))


@pytest.mark.parametrize("number", PROPERTIES)
def test_the_tests_of_a_law_are_there(number: int) -> None:
    for named in PROPERTIES[number]:
        file, name = named.split("::")
        there = re.compile(rf"^(?:async def |def )?{name}\b", re.MULTILINE)
        assert there.search((HERE / file).read_text(encoding="utf-8")), named
