"""What a policy says a call costs and takes, and what becomes of it where two rules disagree."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from approval.core.call import Outcome, Requirement, Verdict
from approval.core.dialects import read_policy
from approval.core.money import Money
from approval.core.policy import Policy, combine, evaluate
from approval.core.price import Asking, OnError, OnOverrun, Per
from approval.core.subject import Subject
from approval.core.terms import RequirementDefaults

DAY = {"calendar": "day"}
METERS = {
    "day": {"limit": "5.00 USD", "window": DAY, "scope": ["agent"]},
    "all": {"limit": "50.00 USD", "window": {"all_time": True}, "scope": []},
    "teams": {"limit": "50.00 USD", "window": DAY, "scope": ["group"]},
}
ONE = {"fixed": "1.00 USD", "per": "month"}
STATED = {"argument": "/amount", "unit": "minor", "currency": "USD"}
GATE_ALWAYS: dict[str, object] = {"require_approval": [{}]}


def policy_of(tools: Mapping[str, object], source: str = "p", **top: object) -> Policy:
    document = {
        "dialect": "approval-1",
        "version": "1",
        "default": "deny",
        "tools": tools,
        "meters": METERS,
        **top,
    }
    return read_policy(
        document, source=source, defaults=RequirementDefaults(approvers=("finance",))
    )


def spend(amount: object = None, *meters: str, **more: object) -> dict[str, object]:
    return {"amount": ONE if amount is None else amount, "meters": list(meters), **more}


def judge(policy: Policy, arguments: object = None, groups: tuple[str, ...] = ()) -> Verdict:
    asked = {} if arguments is None else arguments
    subject = Subject(agent="ops", upstream="shop", tool="buy", arguments=asked, groups=groups)
    return evaluate(policy, subject)


def codes(verdict: Verdict) -> list[str]:
    return [reason.code for reason in verdict.reasons]


def meters(verdict: Verdict) -> list[str]:
    assert verdict.demand is not None
    return sorted(draw.meter.name for draw in verdict.demand.draws)


@pytest.mark.parametrize(("rules", "outcome"), [({}, Outcome.ALLOW), (GATE_ALWAYS, Outcome.GATE)])
def test_a_call_demands_its_price_from_every_meter(
    rules: dict[str, object], outcome: Outcome
) -> None:
    charged = spend(None, "day", "all", on_overrun="alert")
    verdict = judge(policy_of({"buy": {"spend": charged, "on_error": "void", **rules}}))
    demand = verdict.demand
    assert demand is not None
    assert (verdict.outcome, demand.amount, demand.per) == (outcome, Money(100, "USD"), Per.MONTH)
    assert (demand.terms.on_error, demand.terms.on_overrun) == (OnError.VOID, OnOverrun.ALERT)
    assert meters(verdict) == ["all", "day"]
    ids = [draw.meter_id for draw in demand.draws]
    assert ids == sorted(ids)
    assert {draw.amount for draw in demand.draws} == {demand.amount}


def test_a_meter_of_groups_is_drawn_on_once_for_each_group() -> None:
    policy = policy_of({"buy": {"spend": spend(None, "teams")}})
    for groups, draws in [((), 1), (("red",), 1), (("red", "blue"), 2), (("red", "red"), 1)]:
        assert meters(judge(policy, groups=groups)) == ["teams"] * draws


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "amount:absent"),
        ({"amount": -1}, "amount:negative"),
        ({"amount": 0}, "amount:zero"),
        ({"amount": True}, "amount:boolean"),
        ({"amount": None}, "amount:null"),
        ({"amount": "5"}, "amount:text_not_allowed"),
        ({"amount": [5]}, "amount:list"),
        ({"amount": 10**16}, "amount:above_cap"),
        ({"Amount": 5}, "amount:twin"),
        ([], "amount:not_an_object"),
        ({"amount": 101}, "amount:per_call"),
    ],
)
@pytest.mark.parametrize("rules", [{}, GATE_ALWAYS])
def test_what_has_no_price_is_denied_and_takes_nothing(
    rules: dict[str, object], arguments: object, reason: str
) -> None:
    charged = spend(STATED, "day", per_call="1.00 USD")
    verdict = judge(policy_of({"buy": {"spend": charged, **rules}}), arguments)
    assert (verdict.outcome, verdict.demand, verdict.requirement) == (Outcome.DENY, None, None)
    assert codes(verdict) == [reason]


def test_what_a_rule_denies_takes_nothing() -> None:
    verdict = judge(policy_of({"buy": {"spend": spend(None, "day"), "deny_if": [{}]}}))
    assert (verdict.outcome, verdict.demand) == (Outcome.DENY, None)


@pytest.mark.parametrize(
    ("minor", "outcome"), [(499, Outcome.ALLOW), (500, Outcome.ALLOW), (501, Outcome.GATE)]
)
def test_a_rule_may_look_at_the_price(minor: int, outcome: Outcome) -> None:
    dear = [{"path": "spend.amount", "op": "gt", "value": "5.00 USD"}]
    tool = {"spend": spend(STATED, "all"), "require_approval": [{"conditions": dear}]}
    verdict = judge(policy_of({"buy": tool}), {"amount": minor})
    assert verdict.outcome is outcome
    assert verdict.demand is not None
    assert verdict.demand.amount == Money(minor, "USD")


def test_two_rules_of_one_price_unite_and_of_two_prices_deny() -> None:
    same = policy_of({"buy": {"spend": spend(None, "day")}, "b*": {"spend": spend(None, "all")}})
    assert meters(judge(same)) == ["all", "day"]
    once = policy_of({"buy": {"spend": spend(None, "day")}, "b*": {"spend": spend(None, "day")}})
    assert meters(judge(once)) == ["day"]
    other = {"fixed": "1.01 USD"}
    differ = policy_of({"buy": {"spend": spend(None, "day")}, "b*": {"spend": spend(other)}})
    verdict = judge(differ)
    assert (verdict.outcome, codes(verdict)) == (Outcome.DENY, ["amount:two_prices"])
    assert (verdict.demand, verdict.requirement) == (None, None)


def test_limits_of_every_rule_are_counted_with_and_without_money() -> None:
    limit = {"max": 3, "window": "1m"}
    counted = judge(policy_of({"buy": {"rate_limit": limit}, "b*": {"rate_limit": limit}}))
    assert counted.outcome is Outcome.ALLOW
    assert counted.demand is not None
    assert (len(counted.demand.counts), counted.demand.draws) == (2, ())
    assert not counted.demand.spends
    keys = [count.key.id for count in counted.demand.counts]
    assert keys == sorted(set(keys))
    assert {count.rate.window for count in counted.demand.counts} == {timedelta(minutes=1)}

    both = judge(policy_of({"buy": {"rate_limit": limit, "spend": spend(None, "day")}}))
    assert both.demand is not None
    assert both.demand.spends
    assert (len(both.demand.counts), len(both.demand.draws)) == (1, 1)


# --- several policies on one call ---


def test_policies_that_narrow_each_other_take_from_the_meters_of_both() -> None:
    first = judge(policy_of({"buy": {"spend": spend(None, "day")}}, source="first"))
    second = judge(policy_of({"buy": {"spend": spend(None, "day", "all")}}, source="second"))
    united = combine(first, second)
    assert meters(united) == ["all", "day", "day"]
    assert united.demand is not None
    assert united.demand.amount == Money(100, "USD")
    assert combine(second, first).demand == united.demand
    assert combine(first, first).demand == first.demand


@pytest.mark.parametrize("rules", [{}, GATE_ALWAYS])
def test_policies_that_name_two_prices_deny(rules: dict[str, object]) -> None:
    first = judge(policy_of({"buy": {"spend": spend(None, "day"), **rules}}, source="first"))
    euro = {"fixed": "1.00 EUR"}
    second = judge(policy_of({"buy": {"spend": spend(euro)}}, source="second"))
    verdict = combine(first, second)
    assert (verdict.outcome, codes(verdict)) == (Outcome.DENY, ["amount:two_prices"])
    assert (verdict.demand, verdict.requirement) == (None, None)


def test_a_policy_without_a_price_adds_none_and_one_that_denies_takes_all_away() -> None:
    priced = judge(policy_of({"buy": {"spend": spend(None, "day")}}, source="first"))
    free = judge(policy_of({"buy": GATE_ALWAYS}, source="second"))
    united = combine(priced, free)
    assert (united.outcome, united.demand) == (Outcome.GATE, priced.demand)
    denied = combine(priced, judge(policy_of({"sell": {}}, source="third")))
    assert (denied.outcome, denied.demand) == (Outcome.DENY, None)


# --- amounts that an approver types ---

ASK = {"ask": True, "up_to": "500.00 USD", "per": "month"}
UNSTATED = {"amount": STATED, "per_call": "20.00 USD", "on_unknown": "gate"}
WHO = ("finance",)


def approvers(verdict: Verdict) -> list[tuple[str, ...]]:
    assert verdict.requirement is not None
    return [factor.approvers for factor in verdict.requirement.factors]


def test_a_call_whose_price_is_typed_is_held_though_no_rule_objects() -> None:
    verdict = judge(policy_of({"buy": {"spend": spend(ASK, "day", "all", allow_zero=True)}}))
    assert (verdict.outcome, codes(verdict)) == (Outcome.GATE, ["amount:ask"])
    assert verdict.reasons[0].path == "/tools/buy/spend"
    assert verdict.reasons[0].text == (
        "Whoever approves this call types what it costs, up to 500.00 USD."
    )
    assert approvers(verdict) == [WHO]
    demand, bound = verdict.demand, Money(50000, "USD")
    assert demand is not None
    assert (demand.amount, demand.per, demand.asks) == (bound, Per.MONTH, True)
    assert demand.terms.asking == Asking(up_to=bound, allow_zero=True)
    assert {draw.amount for draw in demand.draws} == {bound}


@pytest.mark.parametrize(
    ("arguments", "outcome", "code"),
    [
        ({}, Outcome.GATE, "amount:absent"),
        ({"amount": 1500}, Outcome.ALLOW, "listed"),
        ({"amount": 2001}, Outcome.DENY, "amount:per_call"),
        *(
            ({"amount": value}, Outcome.DENY, f"amount:{reason}")
            for value, reason in [
                (None, "null"),
                (-1, "negative"),
                (0, "zero"),
                ("15", "text_not_allowed"),
                (True, "boolean"),
                ([15], "list"),
            ]
        ),
    ],
)
def test_only_an_amount_that_nobody_stated_is_typed(
    arguments: dict[str, object], outcome: Outcome, code: str
) -> None:
    verdict = judge(policy_of({"buy": {"spend": {**UNSTATED, "meters": ["day"]}}}), arguments)
    assert (verdict.outcome, codes(verdict)) == (outcome, [code])
    if outcome is Outcome.GATE:
        assert verdict.demand is not None
        assert verdict.demand.terms.asking == Asking(up_to=Money(2000, "USD"))
        assert verdict.reasons[0].text.endswith("types what it costs, up to 20.00 USD.")


def test_other_rules_ask_their_people_as_well_and_still_deny() -> None:
    cfo = {"require_approval": [{"approvers": "cfo", "timeout": "5m"}]}
    both = judge(policy_of({"buy": {"spend": spend(ASK), **cfo}}))
    assert approvers(both) == [("cfo",), WHO]
    assert both.requirement is not None
    assert both.requirement.timeout == timedelta(minutes=5)
    assert codes(both) == ["require_approval:true", "amount:ask"]
    same = judge(policy_of({"buy": {"spend": spend(ASK), **GATE_ALWAYS}}))
    assert approvers(same) == [WHO]
    no = judge(policy_of({"buy": {"spend": spend(ASK), "deny_if": [{"conditions": []}]}}))
    assert (no.outcome, no.demand) == (Outcome.DENY, None)


@pytest.mark.parametrize(
    ("rule", "outcome"), [("require_approval", Outcome.GATE), ("deny_if", Outcome.DENY)]
)
def test_to_a_condition_a_price_that_is_still_to_be_typed_is_unknown(
    rule: str, outcome: Outcome
) -> None:
    dear = [{"conditions": [{"path": "spend.amount", "op": "gt", "value": "900.00 USD"}]}]
    assert judge(policy_of({"buy": {"spend": spend(ASK), rule: dear}})).outcome is outcome


def test_of_two_policies_that_ask_the_lower_bound_stands() -> None:
    less = {"ask": True, "up_to": "200.00 USD"}
    wide = judge(policy_of({"buy": {"spend": spend(ASK, "day")}}, source="first"))
    narrow = judge(policy_of({"buy": {"spend": spend(less, "all")}}, source="second"))
    for united in (combine(wide, narrow), combine(narrow, wide)):
        assert united.demand is not None
        assert united.demand.terms.asking == Asking(up_to=Money(20000, "USD"))
        assert {draw.amount for draw in united.demand.draws} == {Money(20000, "USD")}
    known = judge(policy_of({"buy": {"spend": spend({"fixed": "500.00 USD"})}}, source="third"))
    assert codes(combine(wide, known)) == ["amount:two_prices"]


def test_where_nobody_may_type_a_price_that_nobody_knows_is_denied() -> None:
    policy = policy_of({"buy": {"spend": spend(ASK)}})
    closed = replace(policy, charges=tuple(replace(each, asks=None) for each in policy.charges))
    verdict = judge(closed)
    assert (verdict.outcome, verdict.demand) == (Outcome.DENY, None)
    assert codes(verdict) == ["amount:unknown"]


# --- how those are asked who may let a call pass a soft limit ---


def test_where_no_rule_holds_a_call_the_defaults_say_how_a_soft_limit_is_asked_about() -> None:
    said = {"require_approval": {"timeout": "6h", "approvers": "legal"}}
    tools = {"buy": {"spend": spend(None, "day")}, "other": {}}
    policy = policy_of(tools, defaults=said)
    terms = judge(policy).terms
    assert terms == Requirement(factors=(), timeout=timedelta(hours=6))
    assert (
        evaluate(policy, Subject(agent="ops", upstream="shop", tool="other", arguments={})).terms
        is None
    )

    configured = RequirementDefaults(run_within=timedelta(hours=24), timeout=timedelta(hours=1))
    document = {"dialect": "approval-1", "version": "1", "default": "deny", "tools": tools}
    below = read_policy(
        {**document, "meters": METERS, "defaults": said}, source="p", defaults=configured
    )
    assert judge(below).terms == replace(terms, run_within=timedelta(hours=24))


def test_of_two_policies_the_strictest_terms_say_how_a_soft_limit_is_asked_about() -> None:
    charging = {"buy": {"spend": spend(None, "day")}}
    hours = policy_of(charging, defaults={"require_approval": {"timeout": "6h"}})
    days = policy_of(charging, defaults={"require_approval": {"timeout": "2d", "distinct": True}})
    free = policy_of({"buy": {}}, defaults={"require_approval": {"timeout": "1m"}})
    joined = combine(judge(days), judge(hours), judge(free))
    assert joined.terms == Requirement(factors=(), timeout=timedelta(hours=6), distinct=True)
