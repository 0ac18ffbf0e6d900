"""The terms of a gate, layer by layer: rule, policy, configuration, built in."""

from datetime import timedelta

import pytest

from approval.core.call import Factor, OnDisconnect, Outcome, Requirement, Run
from approval.core.dialects import read_defaults
from approval.core.grantable import Bounds
from approval.core.money import Money
from approval.core.policy import Mention
from approval.core.terms import RequirementDefaults
from approval.errors import Misconfigured
from tests.core.test_dialects import FINANCE, NOBODY, demanded, gated, judge, ours, problems, read

# --- who approves, layer by layer ---


def test_a_gate_that_names_nobody_does_not_load() -> None:
    [problem] = problems(gated([{}]), NOBODY)
    assert problem.startswith("p: /tools/x/require_approval/0: nobody is named who could approve;")
    assert "[approvals]" in problem


def test_an_unused_default_needs_no_approvers() -> None:
    assert judge(read(ours(tools={"x": {}}), NOBODY), "x").outcome is Outcome.ALLOW


FACTORS = (Factor(approvers=("legal",)), Factor(approvers=("cfo", "ceo"), approvals=2))


@pytest.mark.parametrize(
    ("entry", "configured", "factors"),
    [
        ({}, FINANCE, (Factor(approvers=("finance",)),)),
        ({"quorum": 2}, FINANCE, (Factor(approvers=("finance",), approvals=2),)),
        ({"approvers": "cfo"}, FINANCE, (Factor(approvers=("cfo",)),)),
        ({"approvers": ["a", "b"]}, FINANCE, (Factor(approvers=("a", "b")),)),
        (
            {"approvers": "cfo"},
            RequirementDefaults(approvers=("finance",), quorum=2),
            (Factor(approvers=("cfo",), approvals=2),),
        ),
        ({"approvers": "cfo"}, RequirementDefaults(factors=FACTORS), (Factor(approvers=("cfo",)),)),
        ({}, RequirementDefaults(factors=FACTORS), FACTORS),
        (
            {"factors": [{"group": "legal"}, {"approvers": ["cfo", "ceo"], "approvals": 2}]},
            RequirementDefaults(approvers=("finance",), quorum=3),
            FACTORS,
        ),
    ],
)
def test_the_nearest_layer_says_who_approves(
    entry: object, configured: RequirementDefaults, factors: tuple[Factor, ...]
) -> None:
    for gates in (entry, [entry]):
        requirement = demanded(gates, configured)
        assert requirement is not None
        assert requirement.factors == factors


def test_a_quorum_of_the_configuration_holds_below_factors_that_a_rule_replaces() -> None:
    document = gated([{"approvers": "cfo"}])
    document["defaults"] = {"require_approval": {"factors": [{"group": "legal"}]}}
    configured = RequirementDefaults(approvers=("finance",), quorum=3)
    requirement = judge(read(document, configured), "x").requirement
    assert requirement == Requirement(factors=(Factor(approvers=("cfo",), approvals=3),))


def test_a_quorum_over_factors_of_another_layer_does_not_load() -> None:
    [problem] = problems(gated([{"quorum": 2}]), RequirementDefaults(factors=FACTORS))
    assert "/require_approval/0/quorum: the approvers come from factors" in problem


def test_each_term_comes_from_the_nearest_layer_that_says_it() -> None:
    configured = RequirementDefaults(
        approvers=("finance",),
        timeout=timedelta(hours=1),
        run_within=timedelta(hours=2),
        distinct=True,
        run=Run.ON_APPROVAL,
    )
    document = gated([{"timeout": "1m", "notify": "web"}])
    document["defaults"] = {
        "require_approval": {
            "timeout": "5m",
            "run_within": "5m",
            "not_owner": False,
            "on_disconnect": "cancel",
            "on_timeout": "deny",
            "notify": ["slack:#a"],
        }
    }
    assert judge(read(document, configured), "x").requirement == Requirement(
        factors=(Factor(approvers=("finance",)),),
        timeout=timedelta(minutes=1),
        run_within=timedelta(minutes=5),
        distinct=True,
        not_owner=False,
        run=Run.ON_APPROVAL,
        on_disconnect=OnDisconnect.CANCEL,
        notify=("web",),
    )


def test_a_gate_can_tell_nobody_although_the_defaults_do() -> None:
    requirement = demanded({"notify": []}, RequirementDefaults(approvers=("a",), notify=("web",)))
    assert requirement == Requirement(factors=(Factor(approvers=("a",)),))


def test_names_are_kept_with_their_places() -> None:
    policy = read(
        ours(
            defaults={"require_approval": {"approvers": ["a", "b"]}},
            tools={"x": {"require_approval": {"factors": [{"group": "g"}, {"approvers": "p"}]}}},
            all_tools={"require_approval": [{"approvers": "all"}]},
        )
    )
    assert policy.names_used() == (
        Mention(text="a", path="/defaults/require_approval/approvers/0"),
        Mention(text="b", path="/defaults/require_approval/approvers/1"),
        Mention(text="g", path="/tools/x/require_approval/factors/0/group"),
        Mention(text="p", path="/tools/x/require_approval/factors/1/approvers"),
        Mention(text="all", path="/all_tools/require_approval/0/approvers"),
    )


def test_the_configurations_own_defaults_are_read_the_same_way() -> None:
    table = {"approvers": "finance", "timeout": "15m", "notify": ["email:finance"]}
    assert read_defaults(table, source="c", path="/approvals") == RequirementDefaults(
        approvers=("finance",), timeout=timedelta(minutes=15), notify=("email:finance",)
    )
    with pytest.raises(Misconfigured) as failure:
        read_defaults({"approvers": [], "conditions": []}, source="c", path="/approvals")
    assert [problem.split(": ")[1] for problem in failure.value.problems] == [
        "/approvals/conditions",
        "/approvals/approvers",
    ]


# --- what a rule lets its approvers give ---

GRANTABLE = {"uses": 10, "within": "24h", "total": "20.00 USD", "vary": ["phone_number"]}


def gate(grantable: object) -> dict[str, object]:
    entry = {"approvers": "finance", "grantable": grantable}
    return ours(tools={"x": {"require_approval": [entry]}})


@pytest.mark.parametrize(
    ("said", "bounds"),
    [
        (
            GRANTABLE,
            Bounds(
                uses=10,
                within=timedelta(hours=24),
                total=Money(2000, "USD"),
                vary=("phone_number",),
            ),
        ),
        ({"uses": 1, "within": "15m"}, Bounds(uses=1, within=timedelta(minutes=15))),
    ],
)
def test_a_rule_says_how_far_a_grant_out_of_a_decision_may_reach(
    said: dict[str, object], bounds: Bounds
) -> None:
    requirement = judge(read(gate(said)), "x").requirement
    assert requirement is not None
    assert requirement.grantable == bounds


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (True, "this is"),
        ({"within": "24h"}, "/grantable/uses: this is None"),
        ({"uses": 1}, "/grantable/within: this is None"),
        (GRANTABLE | {"uses": 0}, "/grantable/uses: this is 0"),
        (GRANTABLE | {"within": 24}, "/grantable/within: this is 24"),
        (GRANTABLE | {"total": "0.00 USD"}, "/grantable/total: a limit of zero"),
        (GRANTABLE | {"total": "20"}, "/grantable/total"),
        (GRANTABLE | {"vary": [5]}, "/grantable/vary/0"),
        (GRANTABLE | {"vary": ["a", "a"]}, "/grantable/vary: a name stands here twice"),
        (GRANTABLE | {"tools": ["*"]}, "tools has no place in grantable"),
    ],
)
def test_what_is_wrong_with_it_is_said(said: object, told: str) -> None:
    [problem] = problems(gate(said))
    assert told in problem
