"""`approval explain` says what a call would take, and what it did not look at."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.desk import Ended, desk

RULES = """
[upstreams.shop.policy.tools.pay]
spend.amount = { argument = "/n", unit = "major", currency = "USD" }
spend.per_call = "500000.00 USD"
spend.meters = ["pot"]
rate_limit = { max = 2, window = 60 }
[upstreams.shop.policy.tools.euros]
spend = { amount = { fixed = "5.00 EUR" }, meters = ["pot"] }
[upstreams.shop.policy.tools.gated]
spend.amount = { at_most = "20.00 USD" }
spend.actual = { result = "/cents", unit = "minor" }
spend.meters = ["soft"]
require_approval = [{ approvers = "ann" }]
[upstreams.shop.policy.tools.typed]
spend = { amount = { ask = true, up_to = "60.00 USD" }, meters = ["soft"] }
[upstreams.shop.policy.meters]
pot = { limit = "100000.00 USD", window = { calendar = "day" } }
[upstreams.shop.policy.meters.soft]
limit = "50.00 USD"
window = { rolling = "24h" }
scope = ["agent"]
soft = { override_by = "bob", up_to = "10.00 USD" }
[approvals]
approvers = "ann"
[[grants]]
agent = "ops-agent"
tools = ["gated", "typed"]
name = "sale"
uses = 3
[[grants]]
agent = "ops-agent"
tools = ["other"]
name = "other"
uses = 3
"""


def explained(folder: Path, tool: str, arguments: object, *words: str) -> Ended:
    call = folder / "call.json"
    asked = {"agent": "ops-agent", "upstream": "shop", "tool": tool, "arguments": arguments}
    call.write_text(json.dumps(asked))
    return desk(folder).run("explain", str(call), *words, extra=RULES)


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "lines"),
    [
        (
            "pay",
            {"n": 200000},
            4,
            [
                "  price      /tools/pay/spend: 200000.00 USD, from argument → no objection",
                "  rate       /tools/pay/rate_limit: takes 1 of 2 calls in any minute for each",
                (
                    "  meter      pot, all together: takes 200000.00 USD of 100000.00 USD a day"
                    " → deny: more than all of it"
                ),
                (
                    "admission    with nothing spent or counted: deny: limit: The limit pot is"
                    " 100000.00 USD a day; 0.00 USD is used or held, 100000.00 USD is left, this"
                    " call needs 200000.00 USD. Waiting does not help: ask for less."
                ),
                "verdict      deny",
                ("agent told   DENIED, NOT EXECUTED: The limit pot is 100000.00 USD a day; "),
            ],
        ),
        (
            "pay",
            {"n": 2},
            0,
            [
                "admission    with nothing spent or counted: allow",
                (
                    "left out     what is spent and held now (approval budgets); what is counted"
                    " now; what is frozen (approval freezes)"
                ),
                "verdict      allow",
            ],
        ),
        (
            "pay",
            {},
            4,
            [
                (
                    '  price      /tools/pay/spend: none, from argument: At "/n" there is'
                    " nothing. (absent) → deny"
                ),
                "verdict      deny",
            ],
        ),
        (
            "pay",
            {"n": 500001},
            4,
            ["This call costs 500001.00 USD; the most for one call is", "(per_call) → deny"],
        ),
        (
            "euros",
            {},
            4,
            ["takes 5.00 EUR of 100000.00 USD a day → deny: the meter counts USD", ": currency: "],
        ),
        (
            "gated",
            {},
            0,
            [
                "from at_most; the upstream says what it took → no objection",
                "  meter      soft, agent ops-agent: takes 20.00 USD of 50.00 USD in any 24 hours",
                "→ fits",
                "  verdict    gate: require_approval:true /tools/gated/require_approval/0",
                "grant        file:sale: covers it",
                "grant        file:other: The grant does not cover this call: it is not for this",
                "counted: allow: The grant file:sale stands in for an approval.",
                "grants that were issued (approval grants)",
                "verdict      allow",
            ],
        ),
        (
            "typed",
            {},
            3,
            [
                "up to 60.00 USD, from ask, which an approver types → gate",
                "more than all of it; where it is held, bob may let it pass",
                "grant        file:sale: The grant does not cover this call: what the call costs",
                "with nothing spent or counted: gate",
                "approve      1 of bob (may decide: bob)",
            ],
        ),
    ],
)
def test_the_price_limits_and_grants_are_shown(
    tmp_path: Path, tool: str, arguments: object, code: int, lines: list[str]
) -> None:
    ended = explained(tmp_path, tool, arguments)
    assert ended.code == code, ended.out + ended.err
    for line in lines:
        assert line in ended.out


def test_scripts_get_the_same(tmp_path: Path) -> None:
    document: Any = explained(tmp_path, "pay", {"n": 200000}, "--json").document
    [policy] = document["policies"]
    assert policy["prices"] == [
        {
            "path": "/tools/pay/spend",
            "source": "argument",
            "amount": {"amount": "200000.00", "currency": "USD"},
            "typed_by_approver": False,
            "told_by_upstream": False,
            "unknown": None,
            "outcome": None,
        }
    ]
    assert policy["rates"] == [
        {
            "path": "/tools/pay/rate_limit",
            "max": 2,
            "window_seconds": 60,
            "scope": ["agent"],
            "cost": 1,
        }
    ]
    [meter] = policy["meters"]
    assert (meter["meter"], meter["fit"], meter["scope"]) == ("pot", "above", {})
    assert meter["limit"] == {"amount": "100000.00", "currency": "USD"}
    assert document["outcome"] == "deny"
    assert [each["code"] for each in document["reasons"]] == ["limit"]
    assert document["admission"]["refused"]["code"] == "limit"
    assert document["left_out"] == []


def test_scripts_learn_which_grant_stands_in(tmp_path: Path) -> None:
    document: Any = explained(tmp_path, "gated", {}, "--json").document
    assert document["outcome"] == "allow"
    assert document["admission"] == {"outcome": "allow", "grant": "file:sale", "refused": None}
    assert [(each["grant"], each["covers"]) for each in document["grants"]] == [
        ("file:sale", True),
        ("file:other", False),
    ]
    assert document["grants"][1]["why"]["code"] == "grant:tool"
    assert document["left_out"] == ["spent", "frozen", "issued_grants"]
