"""Every step of a judgement is shown, and the steps come to the verdict that is served."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from approval.core.call import Outcome
from approval.core.canonical import JSON
from approval.core.conditions import Condition, holds
from approval.core.explaining import Asked, trace
from approval.core.identity import Agent, Directory
from approval.core.paths import MISSING, compile_path
from approval.core.policy import DenyIf, Policy
from approval.core.rulebook import Rulebook
from tests.core.test_policy_properties import (
    TOOLS,
    Document,
    anything,
    documents,
    load,
    thorough,
)
from tests.factories import make_directory, make_policy

PEOPLE = Directory(
    agents={
        "a": Agent(name="a", upstreams=frozenset({"u"}), owner="ann", groups=("buyers",)),
        "limited": Agent(name="limited", upstreams=frozenset({"other"})),
    }
)
RULED: Mapping[str, object] = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "hide": ["secret"],
    "tools": {
        "buy": {
            "deny_if": [{"conditions": [{"path": "args.amount", "op": "gt", "value": 100}]}],
            "require": [{"conditions": [{"path": "args.currency", "op": "in", "value": ["usd"]}]}],
            "require_approval": [{"approvers": "finance"}],
        },
        "secret": {},
    },
}


def shop(document: Mapping[str, object] = RULED) -> Rulebook:
    return Rulebook(directory=make_directory(), policies={"shop": make_policy(document)})


# --- the steps come to the verdict ---


@thorough
@given(
    documents,
    st.one_of(st.none(), documents),
    anything,
    st.one_of(st.sampled_from(TOOLS), st.text(max_size=3), st.just("\ud800")),
    st.sampled_from(["a", "a", "a", "limited", "stranger"]),
    st.sampled_from(["u", "u", "u", "nowhere"]),
)
def test_the_traced_verdict_is_the_one_that_is_served(
    document: Document,
    narrower: Document | None,
    arguments: Any,
    tool: str,
    agent: str,
    upstream: str,
) -> None:
    narrowing = {} if narrower is None else {("a", "u"): load(narrower)}
    rules = Rulebook(directory=PEOPLE, policies={"u": load(document)}, narrowing=narrowing)
    found = trace(rules, agent, upstream, tool, arguments)
    event(found.verdict.outcome)
    assert found.verdict == rules.judge(agent, upstream, tool, arguments)
    assert bool(found.opinions) is not bool(found.no_access)
    for opinion in found.opinions:
        assert all(agrees(rule) for rule in opinion.rules)


def agrees(rule: Asked) -> bool:
    """Hold what a rule objected against what its conditions are shown to have come to."""
    if rule.kind == "require":
        return (rule.finding is None) is (rule.truth is True)
    return (rule.finding is None) is (rule.truth is False)


@dataclass(frozen=True)
class Broken:
    """A test that no value survives."""

    def __call__(self, value: object) -> bool:
        raise RecursionError


@dataclass(frozen=True)
class Fixed:
    """A test that comes to the same for every value."""

    truth: bool | None

    def __call__(self, value: object) -> bool | None:
        return self.truth


def with_conditions(*conditions: Condition) -> Rulebook:
    policy = make_policy({**RULED, "tools": {"buy": {"deny_if": [{}]}}})
    [rule] = policy.rules
    assert isinstance(rule, DenyIf)
    changed: Policy = replace(policy, rules=(replace(rule, conditions=conditions),))
    return Rulebook(directory=make_directory(), policies={"shop": changed})


def test_a_rule_that_fails_ends_the_steps_in_the_denial_that_is_served() -> None:
    rules = with_conditions(Condition(path=compile_path("args.x"), test=Broken()))
    found = trace(rules, "ops-agent", "shop", "buy", {})
    assert found.verdict == rules.judge("ops-agent", "shop", "buy", {})
    assert [(each.code, each.path) for each in found.verdict.reasons] == [
        ("rule_error", "/tools/buy/deny_if/0")
    ]


def test_a_condition_that_was_never_come_to_does_not_fail_the_steps() -> None:
    path = compile_path("args.x")
    settled = Condition(path=path, test=lambda _: False)
    rules = with_conditions(settled, Condition(path=path, test=Broken()))
    found = trace(rules, "ops-agent", "shop", "buy", {})
    assert found.verdict == rules.judge("ops-agent", "shop", "buy", {})
    assert found.verdict.outcome is Outcome.ALLOW
    [rule] = found.opinions[0].rules
    assert [each.truth for each in rule.conditions] == [False, None]
    assert rule.truth is False


# --- what is shown ---


@pytest.mark.parametrize(
    ("agent", "upstream", "why"),
    [
        ("stranger", "shop", "the configuration names no such agent"),
        ("ops-agent", "bank", "the configuration names no such upstream"),
        ("limited", "shop", "the agent's upstreams do not include this one"),
    ],
)
def test_why_there_is_no_access_is_said(agent: str, upstream: str, why: str) -> None:
    limited = Agent(name="limited", upstreams=frozenset({"bank"}))
    people = make_directory(agents={**make_directory().agents, "limited": limited})
    found = trace(replace(shop(), directory=people), agent, upstream, "buy", {})
    assert (found.no_access, found.opinions) == (why, ())
    assert found.verdict.reasons[0].code == "no_access"


@pytest.mark.parametrize(
    ("tool", "hiding", "listing", "rules"),
    [
        ("secret", "/hide/0", "/tools/secret", 0),
        ("buy", None, "/tools/buy", 3),
        ("sell", None, None, 0),
    ],
)
def test_what_the_name_alone_decides_is_shown(
    tool: str, hiding: str | None, listing: str | None, rules: int
) -> None:
    [opinion] = trace(shop(), "ops-agent", "shop", tool, {}).opinions
    assert (opinion.source, opinion.default) == ("test.json", "deny")
    assert (opinion.hiding.path if opinion.hiding else None) == hiding
    assert (opinion.listing.path if opinion.listing else None) == listing
    assert len(opinion.rules) == rules


@pytest.mark.parametrize(
    ("arguments", "seen", "objected"),
    [
        ({"amount": 1, "currency": "usd"}, [(1, False), ("usd", True)], [None, None, "gate"]),
        (
            {"amount": 101, "currency": "eur"},
            [(101, True), ("eur", False)],
            ["deny", "deny", "gate"],
        ),
        ({"amount": "101"}, [("101", None), (MISSING, None)], ["deny", "deny", "gate"]),
    ],
)
def test_every_condition_is_shown_with_what_it_saw(
    arguments: JSON, seen: list[tuple[object, object]], objected: list[str | None]
) -> None:
    [opinion] = trace(shop(), "ops-agent", "shop", "buy", arguments).opinions
    looked = [each for rule in opinion.rules for each in rule.conditions]
    assert [(each.found, each.truth) for each in looked] == seen
    assert [(each.path, each.operator, each.literal) for each in looked] == [
        ("args.amount", "gt", 100),
        ("args.currency", "in", ["usd"]),
    ]
    assert [rule.kind for rule in opinion.rules] == ["deny_if", "require", "require_approval"]
    found = [rule.finding.outcome if rule.finding else None for rule in opinion.rules]
    assert found == objected


@given(st.lists(st.sampled_from([True, False, None]), max_size=3))
def test_a_rule_is_shown_to_hold_when_its_conditions_do(truths: list[bool | None]) -> None:
    path = compile_path("args.x")
    conditions = tuple(Condition(path=path, test=Fixed(truth)) for truth in truths)
    [rule] = trace(with_conditions(*conditions), "ops-agent", "shop", "buy", {}).opinions[0].rules
    assert rule.truth is holds(conditions, {})


# --- prices and limits ---

PRICED: Mapping[str, object] = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {
        "pay": {
            "spend": {
                "amount": {"argument": "/n", "unit": "major", "currency": "USD"},
                "per_call": "100.00 USD",
                "meters": ["pot"],
            },
            "rate_limit": {"max": 2, "window": 60},
        }
    },
    "meters": {"pot": {"limit": "50.00 USD", "window": {"all_time": True}, "scope": ["agent"]}},
}


@pytest.mark.parametrize(
    ("arguments", "price", "code", "drawn"),
    [
        ({"n": 5}, "5.00 USD", None, ["5.00 USD"]),
        ({"n": 70}, "70.00 USD", None, ["70.00 USD"]),
        ({"n": 101}, None, "amount:per_call", []),
        ({"n": "5"}, None, "amount:text_not_allowed", []),
        ({}, None, "amount:absent", []),
    ],
)
def test_the_price_is_shown_with_what_it_draws_on(
    arguments: JSON, price: str | None, code: str | None, drawn: list[str]
) -> None:
    [opinion] = trace(shop(PRICED), "ops-agent", "shop", "pay", arguments).opinions
    [priced] = opinion.prices
    assert priced.path == "/tools/pay/spend"
    assert (str(priced.quote.reserve) if priced.quote.reserve else None) == price
    assert (priced.finding.reason.code if priced.finding else None) == code
    assert [(draw.meter.name, str(draw.amount)) for draw in priced.draws] == [
        ("pot", each) for each in drawn
    ]
    assert [count.rate.path for count in opinion.counts] == ["/tools/pay/rate_limit"]
