"""What several rules and policies ask for together: the strictest stands, and gates unite."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from approval.core.call import (
    Factor,
    OnDisconnect,
    Outcome,
    Reason,
    Requirement,
    Run,
    Verdict,
)
from approval.core.policy import combine, tighten, tool_pattern, unite
from approval.core.terms import RequirementDefaults
from tests.core.test_policy import CFO, FINANCE

# --- several policies ---


def gated(*factors: Factor, **changes: Any) -> Requirement:
    return replace(Requirement(factors=factors), **changes)


def said(outcome: Outcome, code: str, requirement: Requirement | None = None) -> Verdict:
    return Verdict(
        outcome=outcome,
        reasons=(Reason(code=code, path="", text=""),),
        policy_digest=code,
        requirement=requirement,
    )


ALLOWED = said(Outcome.ALLOW, "allowed")
DENIED = said(Outcome.DENY, "denied")
BY_FINANCE = said(Outcome.GATE, "finance", gated(FINANCE))
BY_CFO = said(Outcome.GATE, "cfo", gated(CFO))


@pytest.mark.parametrize(
    ("first", "second", "outcome", "reasons", "requirement"),
    [
        (ALLOWED, ALLOWED, "allow", ["allowed", "allowed"], None),
        (ALLOWED, DENIED, "deny", ["denied", "allowed"], None),
        (DENIED, ALLOWED, "deny", ["denied", "allowed"], None),
        (BY_FINANCE, DENIED, "deny", ["denied", "finance"], None),
        (ALLOWED, BY_FINANCE, "gate", ["finance", "allowed"], gated(FINANCE)),
        (BY_FINANCE, ALLOWED, "gate", ["finance", "allowed"], gated(FINANCE)),
        (BY_FINANCE, BY_CFO, "gate", ["finance", "cfo"], gated(FINANCE, CFO)),
        (BY_FINANCE, BY_FINANCE, "gate", ["finance", "finance"], gated(FINANCE)),
    ],
)
def test_of_two_policies_the_strictest_stands(
    first: Verdict,
    second: Verdict,
    outcome: str,
    reasons: list[str],
    requirement: Requirement | None,
) -> None:
    verdict = combine(first, second)
    assert verdict.outcome is Outcome(outcome)
    assert [reason.code for reason in verdict.reasons] == reasons
    assert verdict.requirement == requirement


def test_one_policy_alone_stays_as_it_is() -> None:
    assert combine(BY_FINANCE) is BY_FINANCE


def test_the_digest_of_two_policies_names_both() -> None:
    digests = {
        combine(*verdicts).policy_digest
        for verdicts in ((ALLOWED, DENIED), (ALLOWED, BY_CFO), (DENIED, DENIED), (ALLOWED,))
    }
    assert len(digests) == 4
    again = combine(ALLOWED, DENIED).policy_digest
    assert again in digests


def test_the_first_title_words_the_card() -> None:
    titled = replace(ALLOWED, title="buy")
    assert combine(DENIED, titled).title == "buy"
    assert combine(titled, replace(DENIED, title="other")).title == "buy"
    assert combine(ALLOWED, DENIED).title is None


# --- requirements ---


@pytest.mark.parametrize(
    ("a", "b", "united"),
    [
        (gated(FINANCE), gated(FINANCE), gated(FINANCE)),
        (gated(FINANCE), gated(CFO), gated(FINANCE, CFO)),
        (
            gated(FINANCE),
            gated(replace(FINANCE, approvals=3)),
            gated(replace(FINANCE, approvals=3)),
        ),
        (
            gated(Factor(approvers=("a", "b"))),
            gated(Factor(approvers=("b", "a"), approvals=2)),
            gated(Factor(approvers=("a", "b"), approvals=2)),
        ),
        (
            gated(FINANCE, timeout=timedelta(minutes=1)),
            gated(FINANCE, run_within=timedelta(minutes=2)),
            gated(FINANCE, timeout=timedelta(minutes=1), run_within=timedelta(minutes=2)),
        ),
        (gated(FINANCE, distinct=True), gated(FINANCE), gated(FINANCE, distinct=True)),
        (gated(FINANCE, not_owner=False), gated(FINANCE), gated(FINANCE)),
        (
            gated(FINANCE, not_owner=False),
            gated(FINANCE, not_owner=False),
            gated(FINANCE, not_owner=False),
        ),
        (
            gated(FINANCE, run=Run.ON_APPROVAL),
            gated(FINANCE, run=Run.AUTO),
            gated(FINANCE, run=Run.AUTO),
        ),
        (
            gated(FINANCE, run=Run.WHEN_ASKED),
            gated(FINANCE, run=Run.AUTO),
            gated(FINANCE, run=Run.WHEN_ASKED),
        ),
        (
            gated(FINANCE, run=Run.ON_APPROVAL),
            gated(FINANCE, run=Run.ON_APPROVAL),
            gated(FINANCE, run=Run.ON_APPROVAL),
        ),
        (
            gated(FINANCE, on_disconnect=OnDisconnect.CANCEL),
            gated(FINANCE),
            gated(FINANCE, on_disconnect=OnDisconnect.CANCEL),
        ),
        (
            gated(FINANCE, notify=("a", "b")),
            gated(FINANCE, notify=("c", "a")),
            gated(FINANCE, notify=("a", "b", "c")),
        ),
    ],
)
def test_two_requirements_unite_into_the_mildest_that_meets_both(
    a: Requirement, b: Requirement, united: Requirement
) -> None:
    assert unite(a, b) == united
    assert replace(unite(b, a), notify=()) == replace(
        united, notify=(), factors=unite(b, a).factors
    )
    assert {frozenset(each.approvers): each.approvals for each in unite(b, a).factors} == {
        frozenset(each.approvers): each.approvals for each in united.factors
    }
    assert unite(united, a) == unite(united, b) == united


@pytest.mark.parametrize(
    ("now", "asked"),
    [
        (ALLOWED, gated(FINANCE)),
        (DENIED, None),
        (BY_FINANCE, gated(FINANCE)),
        (BY_CFO, gated(FINANCE, CFO)),
        (replace(BY_CFO, requirement=None), None),
    ],
)
def test_a_waiting_call_is_never_asked_for_less(now: Verdict, asked: Requirement | None) -> None:
    assert tighten(gated(FINANCE), now) == asked


# --- layers of terms ---


def test_a_layer_that_says_nothing_changes_nothing() -> None:
    below = RequirementDefaults(
        approvers=("a",),
        quorum=2,
        timeout=timedelta(minutes=1),
        run_within=timedelta(minutes=2),
        distinct=False,
        not_owner=False,
        run=Run.WHEN_ASKED,
        on_disconnect=OnDisconnect.CANCEL,
        notify=(),
    )
    assert RequirementDefaults().over(below) == below
    assert below.over(RequirementDefaults(approvers=("z",), quorum=9, notify=("z",))) == below


def test_what_no_layer_says_is_built_in() -> None:
    assert RequirementDefaults(approvers=("a",)).requirement() == Requirement(
        factors=(Factor(approvers=("a",)),)
    )
    assert RequirementDefaults().requirement() is None
    assert RequirementDefaults(approvers=()).requirement() is None
    assert RequirementDefaults(factors=()).requirement() is None


def test_a_pattern_matches_names_as_they_are() -> None:
    assert tool_pattern("*", "").matches("anything")
    assert tool_pattern("a.b", "").matches("a.b")
    assert not tool_pattern("a.b", "").matches("aXb")
    assert tool_pattern("a.*", "").matches("a.b")
    assert not tool_pattern("a.*", "").matches("aXb")
    assert not tool_pattern("[ab]*", "").matches("a")
