"""The laws of calls, money, rates and policies by number, and the tests that hold each of them.

The machines play on the pure core, on SQLite with two stores and on PostgreSQL; the crowds play
many calls at once through two services, either of which may die; the kill test ends a real service
again and again, and names what it sees by the same numbers. Numbers are the design's.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.faults.laws import LAWS

HERE = Path(__file__).parent
LIVES = (
    "core/test_life_properties.py::TestLives",
    "store/test_store_properties.py::TestLivesInTheStore",
    "store/test_store_properties.py::test_lives_in_postgres",
)
KILL = (
    "faults/test_kill.py"
    "::test_no_call_runs_twice_and_none_is_lost_however_often_the_service_is_killed"
)
VERIFIED = frozenset({11, 13})
"""What the kill test leaves to `approval audit verify`."""
MACHINE = (
    "core/test_money_properties.py::TestMoney",
    "store/test_money_properties.py::TestMoneyInTheStore",
    "store/test_money_properties.py::test_money_in_postgres",
)
CROWDS = ("store/test_crowds.py::TestCrowds", "store/test_crowds.py::test_crowds_in_postgres")
LEDGER = "core/test_ledger_machine.py::TestSpending"
RATES = "core/test_rates.py"
JUDGING = "core/test_policy_properties.py"
STEPS, ENDS = "core/test_steps.py", "core/test_steps_ends.py"
TABLE = "core/test_lifecycle.py"
STORE, TABLES = "store/test_store.py", "store/test_tables.py"
SERVICE = "test_service.py"
HOLDS = "scenarios/test_wire_holds.py"
MISBEHAVES = "scenarios/test_wire_misbehaves.py"

CALLS: Mapping[int, tuple[str, ...]] = {
    1: (  # at most one effect
        KILL,
        *LIVES,
        f"{STORE}::test_two_services_on_one_database_run_an_approved_call_once",
        f"{MISBEHAVES}::test_a_gated_call_is_sent_once_and_its_outcome_is_never_made_up",
    ),
    2: (  # what did not come to run has no effect
        KILL,
        *LIVES,
        f"{SERVICE}::test_what_is_not_approved_is_never_sent",
        f"{HOLDS}::test_a_rejected_call_never_runs_and_says_who_and_why",
        f"{HOLDS}::test_a_denied_call_says_why_and_a_hidden_tool_is_not_listed",
        "gateway/test_release.py::test_any_other_status_leaves_a_doubt",
    ),
    3: (  # executed has run
        KILL,
        *LIVES,
        f"{MISBEHAVES}::test_a_gated_call_is_sent_once_and_its_outcome_is_never_made_up",
    ),
    4: (  # the bytes that arrive are those whose digest was approved
        KILL,
        "core/test_call.py::test_whatever_an_approval_depends_on_changes_the_envelope",
        "gateway/test_upstream.py::test_the_arguments_that_were_recorded_are_the_bytes_that_are_sent",
        f"{SERVICE}::test_an_approved_call_runs_once_with_exactly_what_was_approved",
        f"{HOLDS}::test_an_approved_call_runs_once_and_answers_as_if_nothing_had_been",
    ),
    5: (  # the claim is committed before the call arrives
        KILL,
        f"{STORE}::test_a_claim_is_on_disk_before_its_call_is_sent",
        "store/test_writer.py::test_what_is_written_is_on_disk_when_the_caller_hears_of_it",
    ),
    6: (KILL, *LIVES, f"{ENDS}::test_what_nobody_approved_does_not_run"),
    7: (  # no effect after its deadlines
        *LIVES,
        f"{STEPS}::test_the_deadline_itself_is_in_time_and_a_tick_later_is_not",
        f"{ENDS}::test_the_last_moment_to_run_is_in_time_and_a_tick_later_is_not",
        f"{STORE}::test_a_decision_that_waited_for_the_lock_meets_the_deadline_after_it",
        "test_sending.py::test_what_was_claimed_too_long_ago_is_not_sent",
        KILL,
    ),
    8: (  # what joined has one effect
        KILL,
        *LIVES,
        f"{STEPS}::test_an_ended_call_answers_once_or_under_its_key_for_a_day",
        f"{STORE}::test_of_many_equal_requests_at_once_one_call_is_made",
    ),
    9: (  # nothing equal runs while a call is in doubt
        KILL,
        *LIVES,
        f"{STEPS}::test_a_call_that_has_not_ended_is_joined_however_old_it_is",
        f"{SERVICE}::test_a_repeat_while_in_doubt_joins_and_runs_nothing",
        f"{MISBEHAVES}::test_a_gated_call_is_sent_once_and_its_outcome_is_never_made_up",
        f"{TABLES}::test_the_database_itself_refuses_a_second_live_call_for_the_same_request",
    ),
    11: (  # the trail follows the table, version by version
        *LIVES,
        f"{TABLE}::test_every_pair_of_status_and_event_does_what_the_story_says",
        "store/test_trail.py::test_a_story_that_cannot_happen_is_found_although_the_chain_is_whole",
        KILL,
    ),
    12: (*LIVES, KILL, f"{TABLE}::test_no_end_has_a_way_out"),
    13: (  # the trail leads to the calls that are kept
        *LIVES,
        KILL,
        "store/test_trail.py::test_a_call_that_is_not_what_the_trail_says_is_found",
    ),
    14: (  # pending is left once
        *LIVES,
        KILL,
        f"{STORE}::test_of_many_answers_at_once_only_the_first_stands",
    ),
    15: (  # what was rejected is not claimed
        *LIVES,
        KILL,
        f"{ENDS}::test_only_an_approved_call_is_claimed",
    ),
    16: (  # nothing executes for ever
        *LIVES,
        KILL,
        f"{ENDS}::test_a_lease_lapses_after_its_end_and_not_at_it",
    ),
    17: (  # nothing waits beyond its deadline
        *LIVES,
        KILL,
        f"{ENDS}::test_a_waiting_call_expires_after_its_deadline_and_not_at_it",
        "test_worker.py::test_what_is_due_expires_and_what_is_not_stays",
    ),
    18: (  # a late answer only adds knowledge
        *LIVES,
        f"{ENDS}::test_an_answer_ends_the_call_and_a_late_one_only_adds_knowledge",
        f"{ENDS}::test_an_answer_never_changes_what_is_settled_or_was_not_sent",
        f"{SERVICE}::test_a_late_answer_does_not_undo_what_a_person_settled",
    ),
    19: (  # one open attempt
        *LIVES,
        KILL,
        f"{STORE}::test_of_many_claims_at_once_one_has_it",
        f"{TABLES}::test_the_database_itself_refuses_a_second_open_attempt_and_a_second_equal_vote",
    ),
}

LIMITS: Mapping[int, tuple[str, ...]] = {
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


PROPERTIES: Mapping[int, tuple[str, ...]] = {**CALLS, **LIMITS}


def test_every_law_of_calls_money_rates_and_policy_is_held_by_a_test() -> None:
    # 10 is of restored copies, 20 of timers, 21 to 26 of deciders.
    assert list(PROPERTIES) == [*range(1, 10), *range(11, 20), *range(27, 47)]


def test_the_kill_test_sees_the_laws_that_name_it() -> None:
    named = {number for number, tests in PROPERTIES.items() if KILL in tests}
    assert named - VERIFIED <= {int(number) for law in LAWS for number in re.findall(r"\d+", law)}


@pytest.mark.parametrize("number", PROPERTIES)
def test_the_tests_of_a_law_are_there(number: int) -> None:
    for named in PROPERTIES[number]:
        file, name = named.split("::")
        there = re.compile(rf"^(?:async def |def )?{name}\b", re.MULTILINE)
        assert there.search((HERE / file).read_text(encoding="utf-8")), named
