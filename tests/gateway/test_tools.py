import logging
from typing import Any

import pytest

from approval.core.canonical import JSON
from approval.gateway.tools import NAMES, Listing, can_hold, own_tools, tell_unknown
from tests.factories import ALLOW_EVERYTHING, GATE_PURCHASES, make_directory, make_rulebook

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


def test_ours_are_offered_only_where_something_can_be_held() -> None:
    assert can_hold(make_rulebook(), AGENT, "shop")
    assert not can_hold(make_rulebook(ALLOW_EVERYTHING), AGENT, "shop")
    assert not can_hold(make_rulebook(), AGENT, "elsewhere")


def test_every_tool_of_ours_has_a_schema_and_a_description() -> None:
    assert set(_ours()) == NAMES
    for tool in own_tools():
        assert isinstance(tool, dict)
        assert tool["inputSchema"]
        assert tool["description"]


def test_an_unknown_call_is_named_in_one_visible_line() -> None:
    assert "\n" not in tell_unknown("a\nb" * 100).text
    assert 'the id "this"' in tell_unknown(7).text
