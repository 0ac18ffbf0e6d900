import logging
from collections.abc import Mapping
from typing import Any

import pytest

from approval.core.canonical import JSON
from approval.core.policy import Policy
from approval.core.rulebook import Rulebook
from approval.gateway.tools import NAMES, Listing, can_hold, own_tools, tell_unknown
from tests.factories import GATE_PURCHASES, make_directory, make_policy, make_rulebook

AGENT = make_directory().agents["ops-agent"]
HIDING = {**GATE_PURCHASES, "hide": ["secret_*"]}


def edited(result: dict[str, JSON], *, ours: bool = True, first: bool = True) -> dict[str, Any]:
    return Listing("shop").edit(result, make_rulebook(HIDING), AGENT, ours=ours, first=first)


def names(result: dict[str, Any]) -> list[str]:
    return [each["name"] for each in result["tools"]]


def test_hidden_tools_go_and_ours_come_last_in_the_upstreams_order() -> None:
    tools: JSON = [{"name": "z", "x": 1}, {"name": "secret_1"}, {"name": "a"}, {"name": "a"}]
    result = edited({"tools": tools, "ttlMs": 5, "cacheScope": "public", "more": None})
    assert names(result) == ["z", "a", "a", "approval_wait", "approval_status", "approval_cancel"]
    assert result["tools"][0] == {"name": "z", "x": 1}
    assert (result["ttlMs"], result["cacheScope"], result["more"]) == (5, "private", None)


def test_a_list_that_nothing_was_done_to_is_the_very_same() -> None:
    page: dict[str, JSON] = {"tools": [{"name": "a"}, 7, {}], "cacheScope": "public"}
    assert edited(page, ours=False) is page
    assert edited({**page, "nextCursor": "2"}) == {**page, "nextCursor": "2"}
    odd: dict[str, JSON] = {"tools": "none"}
    assert edited(odd) is odd


def test_ours_stand_on_the_last_page_alone() -> None:
    page: dict[str, JSON] = {"tools": [{"name": "a"}]}
    assert names(edited(page, first=False))[1:] == _ours()
    assert names(edited({**page, "nextCursor": "2"})) == ["a"]


def _ours() -> list[str]:
    return [str(each["name"]) for each in own_tools() if isinstance(each, dict)]


def test_an_upstreams_tool_of_our_name_is_never_shadowed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listing = Listing("shop")
    rules = make_rulebook()
    first: dict[str, JSON] = {"tools": [{"name": "approval_wait"}], "nextCursor": "2"}
    last: dict[str, JSON] = {"tools": [{"name": "b"}]}
    with caplog.at_level(logging.WARNING):
        listing.edit(first, rules, AGENT, ours=True, first=True)
        assert names(listing.edit(last, rules, AGENT, ours=True, first=False)) == ["b"]
    assert listing.taken == {"approval_wait"}
    assert len(caplog.records) == 1
    assert "approval_wait" in caplog.text
    # Gone from the upstream's whole list: ours come back.
    whole: dict[str, JSON] = {"tools": [{"name": "b"}]}
    assert len(names(listing.edit(whole, rules, AGENT, ours=True, first=True))) == 4


def test_names_are_ours_unless_the_upstream_or_its_operator_says_otherwise() -> None:
    listing = Listing("shop")
    assert (listing.ours, listing.complete) == (NAMES, True)
    listing.see([{"name": "approval_wait"}, {"name": "b"}], whole=True)
    assert listing.ours == {"approval_status", "approval_cancel"}
    assert not listing.complete
    declined = Listing("shop", offers=False)
    assert (declined.ours, declined.complete) == (frozenset(), False)


# --- where something can be held ---

STATED = {"argument": "/amount", "unit": "minor", "currency": "USD"}
FIXED = {"fixed": "2.00 USD"}
LIMIT: dict[str, object] = {"limit": "1.00 USD", "window": {"all_time": True}, "scope": []}
SOFT = {"override_by": "finance", "up_to": "10.00 USD"}


def policy(block: Mapping[str, object] | None = None, **more: object) -> Policy:
    """Read a policy about one tool."""
    return make_policy(
        {
            "dialect": "approval-1",
            "version": "1",
            "default": "allow",
            "defaults": {"require_approval": {"approvers": "finance"}},
            "tools": {"pay": block or {}},
            **more,
        }
    )


def metered(meter: dict[str, object], *names: str) -> Policy:
    block = {"spend": {"amount": FIXED, "meters": list(names)}}
    return policy(block, meters={"pot": {**LIMIT, **meter}, "jar": LIMIT})


HOLDING = {
    "a gate": policy({"require_approval": [{}]}),
    "a gate under a condition": policy(
        {"require_approval": [{"conditions": [{"path": "args.n", "op": "gt", "value": 1}]}]}
    ),
    "a gate for every tool": policy(all_tools={"require_approval": [{}]}),
    "a price that is typed": policy({"spend": {"amount": {"ask": True, "up_to": "5.00 USD"}}}),
    "a price that is typed where none is stated": policy(
        {"spend": {"amount": [STATED, {"ask": True, "up_to": "5.00 USD"}]}}
    ),
    "a price that may be missing": policy(
        {"spend": {"amount": STATED, "on_unknown": "gate", "per_call": "5.00 USD"}}
    ),
    "a meter that asks": metered({"soft": SOFT, "over": "ask"}, "pot"),
    "the second meter asks": metered({"soft": SOFT, "over": "ask"}, "jar", "pot"),
}
NEVER_HOLDING = {
    "nothing": policy(),
    "denials": policy({"deny_if": [{"conditions": []}]}, hide=["secret_*"]),
    "a demand": policy({"require": [{"conditions": [{"path": "args.n", "op": "eq", "value": 1}]}]}),
    "a price": policy({"spend": {"amount": FIXED}}),
    "a price that must be stated": policy({"spend": {"amount": STATED}}),
    "a rate": policy({"rate_limit": {"max": 1, "window": "1h"}}),
    "a hard meter": metered({}, "pot"),
    # Who may override it is asked only where a rule holds the call anyway.
    "a soft meter that denies": metered({"soft": SOFT}, "pot"),
    "a meter that asks and that nothing draws on": metered({"soft": SOFT, "over": "ask"}, "jar"),
}


@pytest.mark.parametrize(
    ("rules", "holds"),
    [
        *((each, True) for each in HOLDING.values()),
        *((each, False) for each in NEVER_HOLDING.values()),
    ],
    ids=[*HOLDING, *NEVER_HOLDING],
)
def test_ours_are_offered_wherever_something_can_be_held_and_only_there(
    rules: Policy, *, holds: bool
) -> None:
    directory, nothing = make_directory(), NEVER_HOLDING["nothing"]
    alone = Rulebook(directory=directory, policies={"shop": rules})
    assert can_hold(alone, AGENT, "shop") is holds
    assert not can_hold(alone, AGENT, "elsewhere")
    # A policy of one agent holds that agent's calls to that upstream, and nobody else's.
    policies = {"shop": nothing, "elsewhere": nothing}
    narrowing = {(AGENT.name, "shop"): rules}
    both = Rulebook(directory=directory, policies=policies, narrowing=narrowing)
    assert can_hold(both, AGENT, "shop") is holds
    assert not can_hold(both, AGENT, "elsewhere")
    assert not can_hold(both, directory.agents["other-agent"], "shop")
    # What the other of two policies says takes nothing away.
    wider = Rulebook(
        directory=directory,
        policies={"shop": rules},
        narrowing={(AGENT.name, "shop"): nothing},
    )
    assert can_hold(wider, AGENT, "shop") is holds


def test_every_tool_of_ours_has_a_schema_and_a_description() -> None:
    assert set(_ours()) == NAMES
    for tool in own_tools():
        assert isinstance(tool, dict)
        assert tool["inputSchema"]
        assert tool["description"]


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"id": "apr_1"}, 'No call of yours has the id "apr_1".'),
        ({"id": ""}, 'No call of yours has the id "".'),
        ({"id": 7}, 'The argument "id" is not a text.'),
        ({"id": None}, 'The argument "id" is not a text.'),
        ({}, 'The argument "id" is missing.'),
        ({"ID": "apr_1"}, 'The argument "id" is missing.'),
    ],
)
def test_what_is_wrong_with_an_id_is_said_and_what_to_give(
    arguments: dict[str, JSON], wrong: str
) -> None:
    told = tell_unknown(arguments)
    assert told.text == (
        f'{wrong} Give the id, starting with "apr_", that the pending call was answered with.'
    )
    assert told.meta == {"state": "unknown", "retryable": False, "reason_code": "unknown_call"}


def test_an_unknown_call_is_named_in_one_visible_line() -> None:
    assert "\n" not in tell_unknown({"id": "a\nb" * 100}).text
