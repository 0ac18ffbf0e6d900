"""The terms of a gate, layer by layer: rule, policy, configuration, built in."""

from collections.abc import Mapping
from datetime import timedelta

import pytest

from approval.core.call import Factor, OnDisconnect, Outcome, Requirement, Run, Verdict
from approval.core.dialects import load_text, read_defaults, read_policy
from approval.core.policy import Mention, Policy, RequirementDefaults, Subject, evaluate
from approval.errors import Misconfigured

NOBODY = RequirementDefaults()
FINANCE = RequirementDefaults(approvers=("finance",))

SEEDS = (
    '{"version":"1","default":"deny","tools":{"create_incoming_phone_number":{"deny_if":'
    '[{"conditions":[],"on_deny":"Requires human approval."}]}}}'
)
PROMOTED = (
    '{"dialect":"approval-1","version":"1","default":"deny","tools":'
    '{"create_incoming_phone_number":{"require_approval":[{}]}}}'
)
SPENDING = """
dialect = "approval-1"
version = "1"
default = "deny"
[tools.create_incoming_phone_number]
title = "buy a phone number"
spend = { amount = { fixed = "1.15 USD", per = "month" }, meters = ["numbers-day"] }
require_approval = [{ approvers = "finance", timeout = "15m" }]
[tools.transfer]
spend = { amount = { argument = "/amount" }, per_call = "100.00 USD", meters = ["transfer-day"] }
require_approval = [{ conditions = [{ path = "spend.amount", op = "gt", value = "20.00 USD" }] }]
[meters]
numbers-day = { limit = "5.00 USD", window = { calendar = "day" }, scope = ["agent"] }
"""
BUYING = """
dialect = "approval-1"
version = "1"
default = "deny"
hide = ["delete_*"]

[defaults.require_approval]
approvers = "finance"
timeout = "30m"
not_owner = false

[tools.create_incoming_phone_number]
title = "buy a phone number"
require = [{ conditions = [{ path = "args.country", op = "in", value = ["US", "CA"] }] }]
deny_if = [{ conditions = [{ path = "/price", op = "gt", value = 1.5 }], on_deny = "Too dear." }]

[[tools.create_incoming_phone_number.require_approval]]
quorum = 2
notify = ["slack:#payments", "email:finance"]

[tools."search_*"]
"""


def load(text: str, defaults: RequirementDefaults = FINANCE) -> Policy:
    suffix = ".json" if text.startswith("{") else ".toml"
    return load_text(text.encode(), suffix=suffix, source="p", defaults=defaults)


def read(document: Mapping[str, object], defaults: RequirementDefaults = FINANCE) -> Policy:
    return read_policy(document, source="p", defaults=defaults)


def ours(**top: object) -> dict[str, object]:
    return {"dialect": "approval-1", "version": "1", "default": "deny", **top}


def theirs(**top: object) -> dict[str, object]:
    return {"version": "1", "default": "deny", **top}


def gated(entry: object) -> dict[str, object]:
    return ours(tools={"x": {"require_approval": entry}})


def judge(policy: Policy, tool: str, **arguments: object) -> Verdict:
    return evaluate(policy, Subject(agent="a", upstream="u", tool=tool, arguments=arguments))


def problems(document: Mapping[str, object], defaults: RequirementDefaults = FINANCE) -> list[str]:
    with pytest.raises(Misconfigured) as failure:
        read(document, defaults)
    return list(failure.value.problems)


def demanded(entry: object, defaults: RequirementDefaults = FINANCE) -> Requirement | None:
    return judge(read(gated(entry), defaults), "x").requirement


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
