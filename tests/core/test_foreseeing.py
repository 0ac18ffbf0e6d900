"""What limits and grants make of a call on an empty store: what the service makes of it there."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from approval.core.admission import Admitted
from approval.core.call import Outcome
from approval.core.canonical import JSON, read
from approval.core.foreseeing import Foresight, foresee
from approval.core.grants import Grant
from approval.core.money import Money
from approval.core.policy import tool_pattern
from approval.core.rulebook import Rulebook
from approval.errors import NoRoom
from tests.factories import NOW, Clock, make_asked, make_rulebook, make_service

GATE = [{"approvers": "finance"}]
DOLLARS = {"argument": "/n", "unit": "major", "currency": "USD"}
RULES = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {
        "look": {"rate_limit": {"max": 1, "window": 60}},
        "pay": {"spend": {"amount": DOLLARS, "meters": ["pot"]}},
        "euros": {"spend": {"amount": {"fixed": "1.00 EUR"}, "meters": ["pot"]}},
        "soft": {"spend": {"amount": DOLLARS, "meters": ["soft"]}},
        "ask": {"require_approval": GATE},
        "buy": {"require_approval": GATE, "spend": {"amount": DOLLARS, "meters": ["pot"]}},
        "type": {"spend": {"amount": {"ask": True, "up_to": "9.00 USD"}}},
    },
    "defaults": {"require_approval": {"approvers": "finance"}},
    "meters": {
        "pot": {"limit": "100.00 USD", "window": {"all_time": True}},
        "soft": {
            "limit": "100.00 USD",
            "window": {"all_time": True},
            "soft": {"override_by": "finance", "up_to": "50.00 USD"},
            "over": "ask",
        },
    },
}
GRANT = Grant(
    id="file:a",
    agent="ops-agent",
    tools=(tool_pattern("*", ""),),
    max_per_call=Money(2000, "USD"),
    uses=3,
)


def ruled(*grants: Grant) -> Rulebook:
    return replace(make_rulebook(RULES), grants=grants)


def foreseen(rules: Rulebook, tool: str, arguments: JSON) -> Foresight:
    asked = make_asked(arguments, tool=tool)
    verdict = rules.judge(asked.agent, asked.upstream, tool, arguments)
    return foresee(rules, asked, verdict, NOW)


CASES: list[tuple[str, JSON, tuple[Grant, ...], Outcome, str]] = [
    ("look", {}, (), Outcome.ALLOW, ""),
    ("pay", {"n": 100}, (), Outcome.ALLOW, ""),
    ("pay", {"n": 101}, (), Outcome.DENY, "limit"),
    ("euros", {}, (), Outcome.DENY, "currency"),
    ("soft", {"n": 101}, (), Outcome.GATE, ""),
    ("soft", {"n": 151}, (), Outcome.DENY, "limit"),
    ("ask", {}, (), Outcome.GATE, ""),
    ("ask", {}, (replace(GRANT, max_per_call=None),), Outcome.ALLOW, "file:a"),
    ("ask", {}, (GRANT,), Outcome.GATE, ""),
    ("ask", {}, (replace(GRANT, agent="other-agent"),), Outcome.GATE, ""),
    ("buy", {"n": 20}, (GRANT,), Outcome.ALLOW, "file:a"),
    ("buy", {"n": 21}, (GRANT,), Outcome.GATE, ""),
    ("buy", {"n": 20}, (replace(GRANT, expires=NOW),), Outcome.GATE, ""),
    ("buy", {"n": 20}, (replace(GRANT, not_before=NOW),), Outcome.ALLOW, "file:a"),
    ("buy", {"n": 101}, (replace(GRANT, max_per_call=None),), Outcome.DENY, "limit"),
    ("type", {}, (replace(GRANT, max_per_call=None),), Outcome.GATE, ""),
]


@pytest.mark.parametrize(("tool", "arguments", "grants", "outcome", "told"), CASES)
async def test_it_is_what_the_service_says_where_nothing_is_taken(
    tmp_path: Path,
    tool: str,
    arguments: JSON,
    grants: tuple[Grant, ...],
    outcome: Outcome,
    told: str,
) -> None:
    rules = ruled(*grants)
    found = foreseen(rules, tool, arguments)
    admitted = found.admitted
    code = admitted.grant or "" if isinstance(admitted, Admitted) else admitted.code
    assert (found.outcome, code) == (outcome, told)
    assert await served(tmp_path, rules, tool, arguments) == (outcome, told)


async def served(folder: Path, rules: Rulebook, tool: str, arguments: JSON) -> tuple[Outcome, str]:
    asked = make_asked(arguments, tool=tool)
    verdict = rules.judge(asked.agent, asked.upstream, tool, read(asked.arguments))
    async with make_service(folder, rules=rules, clock=Clock()) as service:
        try:
            if verdict.outcome is Outcome.ALLOW and not (verdict.demand and verdict.demand.spends):
                await service.allow(asked, verdict)
                return Outcome.ALLOW, ""
            submission = await service.submit(asked, verdict)
        except NoRoom as error:
            return Outcome.DENY, error.code
    if submission.claimed_at is None:
        return Outcome.GATE, submission.call.grant or ""
    return Outcome.ALLOW, submission.call.grant or ""


@pytest.mark.parametrize(
    ("grant", "why"),
    [
        (replace(GRANT, max_per_call=None), None),
        (GRANT, "grant:unknown_amount"),
        (replace(GRANT, tools=(tool_pattern("buy", ""),)), "grant:tool"),
        (replace(GRANT, max_per_call=None, expires=NOW), "grant:expired"),
        (
            replace(GRANT, max_per_call=None, not_before=NOW + timedelta(hours=1)),
            "grant:not_before",
        ),
    ],
)
def test_each_of_the_agents_grants_is_held_against_a_gate(grant: Grant, why: str | None) -> None:
    others = replace(GRANT, id="file:b", agent="other-agent")
    [considered] = foreseen(ruled(grant, others), "ask", {}).grants
    assert (considered.why.code if considered.why else None) == why
    assert foreseen(ruled(grant), "look", {}).grants == ()


def test_what_an_approver_types_is_known_to_no_grant() -> None:
    [considered] = foreseen(ruled(replace(GRANT, max_per_call=None)), "type", {}).grants
    assert considered.why is not None
    assert considered.why.code == "grant:unknown_amount"


def test_a_denied_call_is_not_admitted() -> None:
    with pytest.raises(ValueError, match="denied"):
        foreseen(ruled(), "none", {})
