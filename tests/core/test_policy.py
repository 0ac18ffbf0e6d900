"""Judgement: what stands when rules disagree, and that whatever cannot be judged is denied."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from approval.core.call import (
    Factor,
    Outcome,
    Reason,
    Requirement,
    Verdict,
)
from approval.core.conditions import Condition
from approval.core.dialects import read_policy
from approval.core.paths import Path, compile_path
from approval.core.policy import (
    MAX_PLANS,
    DenyIf,
    Finding,
    Policy,
    evaluate,
    is_hidden,
    tool_pattern,
)
from approval.core.subject import Subject
from approval.core.terms import RequirementDefaults

FINANCE = Factor(approvers=("finance",))
CFO = Factor(approvers=("cfo",))
DENY_ALWAYS: Mapping[str, object] = {"deny_if": [{}]}
GATE_ALWAYS: Mapping[str, object] = {"require_approval": [{}]}
BIG = [{"path": "args.amount", "op": "gt", "value": 100}]
SMALL = [{"path": "args.amount", "op": "lte", "value": 100}]


def policy_of(**top: object) -> Policy:
    document: Mapping[str, object] = {
        "dialect": "approval-1",
        "version": "1",
        "default": "deny",
        **top,
    }
    return read_policy(document, source="p", defaults=RequirementDefaults(approvers=("finance",)))


def judge(policy: Policy, arguments: object = None, tool: str = "buy") -> Verdict:
    return evaluate(
        policy,
        Subject(
            agent="ops",
            owner="ann",
            groups=("buyers",),
            upstream="shop",
            tool=tool,
            arguments={} if arguments is None else arguments,
        ),
    )


def codes(verdict: Verdict) -> list[tuple[str, str]]:
    return [(reason.code, reason.path) for reason in verdict.reasons]


# --- one policy ---


@pytest.mark.parametrize(
    ("top", "outcome", "code", "path"),
    [
        ({}, "deny", "unlisted", "/default"),
        ({"default": "allow"}, "allow", "default", "/default"),
        ({"tools": {"buy": {}}}, "allow", "listed", "/tools/buy"),
        ({"tools": {"BUY": {}}}, "deny", "unlisted", "/default"),
        ({"tools": {"buy2": {}}}, "deny", "unlisted", "/default"),
        ({"tools": {"b*": {}}}, "allow", "listed", "/tools/b*"),
        ({"tools": {"b?y": {}}}, "allow", "listed", "/tools/b?y"),
        ({"tools": {"b?": {}}}, "deny", "unlisted", "/default"),
        ({"tools": {"*": {}}}, "deny", "unlisted", "/default"),
        ({"all_tools": {}}, "deny", "unlisted", "/default"),
        ({"tools": {"buy": {}}, "hide": ["buy"]}, "deny", "hide", "/hide/0"),
        ({"tools": {"buy": {}}, "hide": ["x", "b*"]}, "deny", "hide", "/hide/1"),
        ({"default": "allow", "hide": "*"}, "deny", "hide", "/hide"),
        ({"default": "allow", "hide": []}, "allow", "default", "/default"),
        ({"tools": {"buy": DENY_ALWAYS}}, "deny", "deny_if:true", "/tools/buy/deny_if/0"),
        (
            {"default": "allow", "tools": {"*": DENY_ALWAYS}},
            "deny",
            "deny_if:true",
            "/tools/*/deny_if/0",
        ),
        (
            {"tools": {"buy": {}}, "all_tools": GATE_ALWAYS},
            "gate",
            "require_approval:true",
            "/all_tools/require_approval/0",
        ),
        (
            {"tools": {"buy": {}, "b*": GATE_ALWAYS}},
            "gate",
            "require_approval:true",
            "/tools/b*/require_approval/0",
        ),
        ({"tools": {"buy": {}, "sell": DENY_ALWAYS}}, "allow", "listed", "/tools/buy"),
    ],
)
def test_what_a_policy_says_of_a_tool(
    top: dict[str, object], outcome: str, code: str, path: str
) -> None:
    verdict = judge(policy_of(**top))
    assert (verdict.outcome, codes(verdict)) == (Outcome(outcome), [(code, path)])
    assert (verdict.requirement is not None) is (verdict.outcome is Outcome.GATE)
    assert verdict.policy_digest == policy_of(**top).digest


@pytest.mark.parametrize(
    ("rule", "amount", "outcome", "code"),
    [
        ({"deny_if": [{"conditions": BIG}]}, 101, "deny", "deny_if:true"),
        ({"deny_if": [{"conditions": BIG}]}, 100, "allow", "listed"),
        ({"deny_if": [{"conditions": BIG}]}, "101", "deny", "deny_if:unknown"),
        ({"deny_if": [{"conditions": BIG}]}, None, "deny", "deny_if:unknown"),
        ({"require": [{"conditions": SMALL}]}, 100, "allow", "listed"),
        ({"require": [{"conditions": SMALL}]}, 101, "deny", "require:false"),
        ({"require": [{"conditions": SMALL}]}, "100", "deny", "require:unknown"),
        ({"require": [{"conditions": SMALL}]}, True, "deny", "require:unknown"),
        ({"require_approval": [{"conditions": BIG}]}, 101, "gate", "require_approval:true"),
        ({"require_approval": [{"conditions": BIG}]}, 100, "allow", "listed"),
        ({"require_approval": [{"conditions": BIG}]}, [], "gate", "require_approval:unknown"),
    ],
)
def test_unknown_is_never_taken_for_harmless(
    rule: dict[str, object], amount: object, outcome: str, code: str
) -> None:
    verdict = judge(policy_of(tools={"buy": rule}), {"amount": amount})
    assert (verdict.outcome, verdict.reasons[0].code) == (Outcome(outcome), code)


def test_a_reason_is_worded_by_the_policy_or_says_what_was_missing() -> None:
    worded = policy_of(tools={"buy": {"deny_if": [{"conditions": BIG, "on_deny": "Too dear."}]}})
    assert judge(worded, {"amount": 101}).reasons[0].text == "Too dear."
    assert judge(worded).reasons[0].text == "Too dear."
    plain = policy_of(tools={"buy": {"deny_if": [{"conditions": BIG}]}})
    assert judge(plain, {"amount": 101}).reasons[0].text == "The policy denies this call."
    assert "cannot judge args.amount" in judge(plain).reasons[0].text
    assert "is denied" in judge(plain).reasons[0].text
    gate = policy_of(tools={"buy": {"require_approval": [{"conditions": BIG}]}})
    assert "a person approves" in judge(gate, {"amount": 101}).reasons[0].text
    assert "is held for a person" in judge(gate).reasons[0].text


def test_all_denials_are_told_and_no_gate_beside_them() -> None:
    policy = policy_of(
        tools={
            "buy": {
                "require_approval": [{}],
                "require": [{"conditions": SMALL}],
                "deny_if": [{"conditions": SMALL}, {"conditions": BIG}],
            }
        },
        all_tools=DENY_ALWAYS,
    )
    verdict = judge(policy, {"amount": 500})
    assert verdict.outcome is Outcome.DENY
    assert verdict.requirement is None
    assert codes(verdict) == [
        ("deny_if:true", "/tools/buy/deny_if/1"),
        ("require:false", "/tools/buy/require/0"),
        ("deny_if:true", "/all_tools/deny_if/0"),
    ]


def test_all_gates_that_fire_unite() -> None:
    policy = policy_of(
        tools={
            "b*": {"require_approval": [{"approvers": "cfo", "timeout": "5m"}]},
            "buy": {
                "require_approval": [
                    {"conditions": BIG, "approvers": "finance", "quorum": 2},
                    {"conditions": SMALL, "approvers": "nobody"},
                    {},
                ]
            },
        }
    )
    verdict = judge(policy, {"amount": 500})
    assert verdict.requirement == Requirement(
        factors=(replace(FINANCE, approvals=2), CFO), timeout=timedelta(minutes=5)
    )
    assert [path for _, path in codes(verdict)] == [
        "/tools/buy/require_approval/0",
        "/tools/buy/require_approval/2",
        "/tools/b*/require_approval/0",
    ]


def test_rules_see_the_agent_the_tool_and_the_server() -> None:
    def denied(path: str, operator: str, value: object) -> bool:
        rule = {"deny_if": [{"conditions": [{"path": path, "op": operator, "value": value}]}]}
        return judge(policy_of(tools={"buy": rule})).outcome is Outcome.DENY

    assert denied("agent.name", "eq", "ops")
    assert denied("agent.owner", "eq", "ann")
    assert denied("agent.groups", "contains", "buyers")
    assert denied("tool.name", "glob", "b*")
    assert denied("server.name", "eq", "shop")
    assert not denied("agent.name", "eq", "other")
    assert not denied("agent.groups", "contains", "admins")


def test_an_agent_without_an_owner_has_none() -> None:
    rule = {"deny_if": [{"conditions": [{"path": "agent.owner", "op": "exists", "value": False}]}]}
    subject = Subject(agent="a", upstream="u", tool="buy", arguments={})
    verdict = evaluate(policy_of(tools={"buy": rule}), subject)
    assert verdict.outcome is Outcome.DENY


def test_the_most_exact_entry_gives_the_title() -> None:
    tools = {"b*": {"title": "by glob"}, "buy": {"title": "by name"}}
    assert judge(policy_of(tools=tools)).title == "by name"
    assert judge(policy_of(tools=tools), tool="bye").title == "by glob"
    assert judge(policy_of(tools={"buy": {}})).title is None
    assert judge(policy_of(tools={"buy": {"title": "t", **GATE_ALWAYS}})).title == "t"


@pytest.mark.parametrize("arguments", [[], "text", 5, True, [[[]]], {"amount": {"amount": 5}}])
def test_arguments_of_any_shape_are_judged(arguments: object) -> None:
    policy = policy_of(tools={"buy": {"deny_if": [{"conditions": BIG}]}})
    assert judge(policy, arguments).outcome is Outcome.DENY


def test_a_rule_that_fails_denies_and_names_itself() -> None:
    # Half a surrogate pair cannot be handed to RE2. The strict reader refuses it long before.
    pattern = [{"path": "args.name", "op": "regex", "value": "x"}]
    policy = policy_of(
        tools={"buy": {"require_approval": [{}, {"conditions": pattern}]}}, default="allow"
    )
    verdict = judge(policy, {"name": "\ud800 secret"})
    assert verdict.outcome is Outcome.DENY
    assert codes(verdict) == [("rule_error", "/tools/buy/require_approval/1")]
    assert "UnicodeEncodeError" in verdict.reasons[0].text
    assert "secret" not in verdict.reasons[0].text
    assert verdict.requirement is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hopeless:
    """A test that nobody foresaw, in place of a compiled one."""

    error: BaseException

    def __call__(self, value: object) -> bool | None:
        raise self.error


@pytest.mark.parametrize("error", [KeyError("a"), RecursionError(), MemoryError(), ValueError()])
def test_whatever_a_rule_raises_the_call_is_denied(error: Exception) -> None:
    reason = Reason(code="deny_if:true", path="/r", text="")
    finding = Finding(outcome=Outcome.DENY, reason=reason)
    path: Path = compile_path("args.a")
    rule = DenyIf(
        tools=tool_pattern("*", ""),
        path="/r",
        conditions=(Condition(path=path, test=Hopeless(error=error)),),
        if_true=finding,
        if_unknown=finding,
    )
    policy = Policy(source="p", digest="d", allows_unlisted=True, rules=(rule,))
    assert codes(judge(policy)) == [("rule_error", "/r")]


def test_what_is_no_error_of_a_rule_is_not_swallowed() -> None:
    reason = Reason(code="deny_if:true", path="/r", text="")
    finding = Finding(outcome=Outcome.DENY, reason=reason)
    rule = DenyIf(
        tools=tool_pattern("*", ""),
        path="/r",
        conditions=(
            Condition(path=compile_path("args.a"), test=Hopeless(error=KeyboardInterrupt())),
        ),
        if_true=finding,
        if_unknown=finding,
    )
    policy = Policy(source="p", digest="d", allows_unlisted=True, rules=(rule,))
    with pytest.raises(KeyboardInterrupt):
        judge(policy)


def test_a_tools_name_that_no_glob_can_read_is_denied_and_hidden() -> None:
    policy = policy_of(default="allow", hide=["secret_*"])
    assert codes(judge(policy, tool="\ud800")) == [("rule_error", "")]
    assert is_hidden(policy, "\ud800")


def test_hidden_is_what_the_policy_hides_and_nothing_else() -> None:
    policy = policy_of(tools={"buy": DENY_ALWAYS}, hide=["secret_*", "buy2"])
    assert is_hidden(policy, "secret_a")
    assert is_hidden(policy, "buy2")
    assert not is_hidden(policy, "buy")
    assert not is_hidden(policy, "unlisted")


def test_names_that_agents_make_up_do_not_fill_the_memory() -> None:
    policy = policy_of(tools={"buy": {}})
    for number in range(MAX_PLANS + 10):
        assert judge(policy, tool=f"made_up_{number}").outcome is Outcome.DENY
    assert len(policy.plans) == MAX_PLANS
    assert judge(policy).outcome is Outcome.ALLOW
