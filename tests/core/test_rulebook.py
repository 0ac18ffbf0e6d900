"""A rulebook judges every call under all that covers it, and knows nobody it does not name."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from approval.core import ledger
from approval.core.call import Call, Outcome, Verdict
from approval.core.grants import Grant
from approval.core.identity import Agent
from approval.core.issued import read_issue
from approval.core.meters import Usage
from approval.core.rulebook import Rulebook
from tests.factories import (
    ALLOW_EVERYTHING,
    GATE_PURCHASES,
    NOW,
    make_asked,
    make_call,
    make_directory,
    make_policy,
    make_verdict,
)

NARROW: Mapping[str, object] = {
    "dialect": "approval-1",
    "version": "1",
    "default": "allow",
    "hide": ["search_available_numbers"],
    "tools": {"create_incoming_phone_number": {"deny_if": [{"conditions": []}]}},
}
BUY, SEARCH = "create_incoming_phone_number", "search_available_numbers"
RULES = Rulebook(directory=make_directory(), policies={"shop": make_policy(GATE_PURCHASES)})
NARROWED = Rulebook(
    directory=make_directory(),
    policies={"shop": make_policy(GATE_PURCHASES)},
    narrowing={("ops-agent", "shop"): make_policy(NARROW)},
)
WIDENED = Rulebook(
    directory=make_directory(),
    policies={"shop": make_policy(GATE_PURCHASES)},
    narrowing={("ops-agent", "shop"): make_policy(ALLOW_EVERYTHING)},
)


@pytest.mark.parametrize(
    ("rules", "agent", "tool", "outcome", "code"),
    [
        (RULES, "ops-agent", BUY, Outcome.GATE, None),
        (RULES, "ops-agent", SEARCH, Outcome.ALLOW, "listed"),
        (RULES, "ops-agent", "delete_everything", Outcome.DENY, "unlisted"),
        (NARROWED, "ops-agent", BUY, Outcome.DENY, None),
        (NARROWED, "other-agent", BUY, Outcome.GATE, None),
        (NARROWED, "ops-agent", SEARCH, Outcome.DENY, "hide"),
        (WIDENED, "ops-agent", BUY, Outcome.GATE, None),
        (WIDENED, "ops-agent", "delete_everything", Outcome.DENY, "unlisted"),
    ],
)
def test_the_strictest_of_the_policies_that_cover_a_call_stands(
    rules: Rulebook, agent: str, tool: str, outcome: Outcome, code: str | None
) -> None:
    verdict = rules.judge(agent, "shop", tool, {})
    assert verdict.outcome is outcome
    assert code is None or verdict.reasons[0].code == code


@pytest.mark.parametrize(
    ("agent", "upstream"),
    [("stranger", "shop"), ("ops-agent", "bank"), ("limited", "shop"), ("limited", "bank")],
)
def test_whoever_has_no_access_is_denied_and_told_so(agent: str, upstream: str) -> None:
    limited = Agent(name="limited", upstreams=frozenset({"bank"}))
    directory = make_directory(agents={**make_directory().agents, "limited": limited})
    rules = Rulebook(directory=directory, policies={"shop": make_policy(ALLOW_EVERYTHING)})
    verdict = rules.judge(agent, upstream, BUY, {})
    assert (verdict.outcome, verdict.requirement) == (Outcome.DENY, None)
    assert [(reason.code, reason.path) for reason in verdict.reasons] == [("no_access", "")]
    assert "Ask the operator" in verdict.reasons[0].text


@pytest.mark.parametrize("arguments", [None, [], "text", 7, {"a": [1, {"b": None}]}, "\ud800"])
def test_any_arguments_are_judged(arguments: object) -> None:
    assert RULES.judge("ops-agent", "shop", BUY, arguments).outcome is Outcome.GATE  # type: ignore[arg-type]


def test_the_owner_and_the_groups_of_the_agent_reach_the_policy() -> None:
    condition = {"path": "agent.owner", "op": "eq", "value": "carl"}
    document = {**ALLOW_EVERYTHING, "all_tools": {"deny_if": [{"conditions": [condition]}]}}
    rules = Rulebook(directory=make_directory(), policies={"shop": make_policy(document)})
    assert rules.judge("ops-agent", "shop", BUY, {}).outcome is Outcome.DENY


def test_a_tool_is_hidden_when_any_policy_hides_it() -> None:
    ops, other = (make_directory().agents[name] for name in ("ops-agent", "other-agent"))
    assert NARROWED.hides(ops, "shop", SEARCH)
    assert not NARROWED.hides(other, "shop", SEARCH)
    assert not NARROWED.hides(ops, "shop", BUY)
    assert not NARROWED.hides(ops, "bank", SEARCH)


def granted(**words: object) -> Grant:
    return read_issue({"agent": "ops-agent", "tools": "*", "uses": 5, **words}, source="test")


@pytest.mark.parametrize(
    ("own", "issued", "offered"),
    [
        ((), (), 0),
        ((granted(),), (), 1),
        ((), (granted(),), 1),
        ((granted(),), (granted(tools="create_*"),), 2),
        ((granted(agent="other-agent"),), (granted(agent="other-agent"),), 0),
        ((granted(tools=SEARCH),), (granted(upstream="elsewhere"),), 0),
        ((granted(total="5.00 USD"),), (granted(max_per_call="5.00 USD"),), 0),
        ((granted(conditions=[{"path": "args.n", "op": "lte", "value": 5}]),), (), 1),
        ((granted(conditions=[{"path": "args.n", "op": "lte", "value": 4}]),), (), 0),
        ((granted(conditions=[{"path": "args.m", "op": "lte", "value": 5}]),), (), 0),
    ],
)
def test_the_grants_that_cover_a_gated_call_are_offered(
    own: tuple[Grant, ...], issued: tuple[Grant, ...], offered: int
) -> None:
    rules = replace(RULES, grants=own)
    asked = make_asked({"n": 5})
    verdict = rules.judge(asked.agent, asked.upstream, asked.tool, {"n": 5})
    assert len(rules.offers(asked, verdict, issued)) == offered

    for outcome in (Outcome.ALLOW, Outcome.DENY):
        assert rules.offers(asked, make_verdict(outcome), issued) == ()
    gone = replace(rules, directory=make_directory(agents={}))
    assert gone.offers(asked, verdict, issued) == ()


def test_the_grant_that_ends_first_is_tried_first() -> None:
    ends = ["2027-01-01T00:00:00Z", None, "2026-12-01T00:00:00Z"]
    given = [
        replace(granted(**({"expires": end} if end else {})), id=f"grt_{n}")
        for n, end in enumerate(ends)
    ]
    asked = make_asked({})
    verdict = RULES.judge(asked.agent, asked.upstream, asked.tool, {})
    offered = RULES.offers(asked, verdict, given)
    assert [offer.grant for offer in offered] == ["grt_2", "grt_0", "grt_1"]


# --- calls that wait ---


def meter(*scope: str) -> Mapping[str, object]:
    return {"limit": "100.00 USD", "window": {"calendar": "day"}, "scope": list(scope)}


def charging(*names: str, price: str | None = "1.15 USD") -> Mapping[str, object]:
    spend = {"amount": {"fixed": price}, "meters": list(names)}
    return {
        "dialect": "approval-1",
        "version": "1",
        "default": "deny",
        "tools": {
            BUY: {
                "require_approval": [{"approvers": "finance"}],
                **({"spend": spend} if price else {}),
            }
        },
        "meters": {"all": meter(), "agent": meter("agent"), "tool": meter("tool")},
    }


def waiting(rules: Rulebook, **changes: object) -> Call:
    """Give a call that waits and holds what these rules take of it."""
    asked = make_asked()
    demand = rules.judge(asked.agent, "shop", BUY, {}).demand
    assert demand is not None
    bookings = [ledger.reserve(draw, Usage(), NOW) for draw in demand.draws]
    held = tuple(each.reservation for each in bookings if each is not None)
    return make_call(**{"amount": demand.amount, "reservations": held, **changes})


def drawn(verdict: Verdict) -> list[str]:
    return sorted(draw.meter.name for draw in verdict.demand.draws) if verdict.demand else []


@pytest.mark.parametrize(
    ("now", "amount", "names"),
    [
        (charging("all", "agent"), "1.15 USD", ["agent", "all"]),
        (charging("all"), "1.15 USD", ["agent", "all"]),
        (charging("all", "tool"), "1.15 USD", ["agent", "all", "tool"]),
        (charging("all", price="2.00 USD"), "2.00 USD", ["agent", "all"]),
        (charging(price=None), None, ["agent", "all"]),
        ({**charging(price=None), "meters": {"all": meter()}}, None, ["all"]),
        ({**charging(price=None), "meters": {"all": meter("agent")}}, None, []),
        (GATE_PURCHASES, None, []),
        (NARROW, None, []),
    ],
)
def test_a_waiting_call_draws_on_what_it_holds_of_meters_that_are_still_there(
    now: Mapping[str, object], amount: str | None, names: list[str]
) -> None:
    call = waiting(
        Rulebook(
            directory=make_directory(), policies={"shop": make_policy(charging("all", "agent"))}
        )
    )
    verdict = Rulebook(
        directory=make_directory(), policies={"shop": make_policy(now)}
    ).judge_waiting(call)
    demand = verdict.demand
    assert drawn(verdict) == names
    assert (demand and demand.amount and str(demand.amount)) == amount
    draws = demand.draws if demand is not None else ()
    assert [draw.meter_id for draw in draws] == sorted(draw.meter_id for draw in draws)


def test_a_waiting_call_draws_on_what_a_narrowing_policy_has_of_it() -> None:
    narrowing = {("ops-agent", "shop"): make_policy(charging(price=None))}
    rules = Rulebook(
        directory=make_directory(),
        policies={"shop": make_policy(GATE_PURCHASES)},
        narrowing=narrowing,
    )
    call = waiting(
        Rulebook(directory=make_directory(), policies={"shop": make_policy(charging("all"))})
    )
    assert drawn(rules.judge_waiting(call)) == ["all"]
    of_another = replace(call, asked=replace(call.asked, agent="other-agent"))
    assert drawn(rules.judge_waiting(of_another)) == []


def test_a_waiting_call_whose_agent_is_gone_is_denied() -> None:
    rules = Rulebook(directory=make_directory(), policies={"shop": make_policy(charging("all"))})
    gone = replace(rules, directory=make_directory(agents={}))
    assert gone.judge_waiting(waiting(rules)).outcome is Outcome.DENY
