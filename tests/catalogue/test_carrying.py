"""The document that grows, and how limits on how often are spelt."""

import pytest

from approval.catalogue.carrying import Block, Draft, Rate, entry, whole
from approval.core.document import Place

SENT = Rate(limit=10, window="minute", counter="sent")
MANY = Rate(limit=10_001, window="day", counter="many")


def place(value: object) -> Place:
    return Place(source="p", pointer="/tools/x", value=value)


def test_the_only_limit_of_a_tool_is_its_rate_limit() -> None:
    block = Block(pointer="/tools/x")
    assert block.limit(SENT) == "/tools/x/rate_limit"
    assert block.rules == {"rate_limit": {"max": 10, "window": 60, "scope": []}}


def test_several_limits_are_a_list() -> None:
    block = Block(pointer="/tools/x", many_rates=True)
    assert [block.limit(SENT), block.limit(MANY)] == ["/tools/x/limits/0", "/tools/x/limits/1"]
    assert block.rules["limits"] == [
        {"counter": "sent", "window": "minute", "max": 10, "scope": []},
        {
            "counter": "many",
            "window": "day",
            "max": 10_001,
            "scope": [],
            "algorithm": "calendar",
        },
    ]


def test_what_is_too_much_for_a_ring_is_counted_by_the_calendar() -> None:
    block = Block(pointer="/tools/x")
    block.limit(MANY)
    assert block.rules["rate_limit"] == {
        "max": 10_001,
        "window": 86400,
        "scope": [],
        "algorithm": "calendar",
    }


def test_a_draft_is_written_in_the_order_people_expect() -> None:
    draft = Draft(top={"default": "deny", "hide": ["a"]})
    block = draft.tool(place({}), "x")
    assert block.add("deny_if", {"conditions": []}) == "/tools/x/deny_if/0"
    assert block.add("deny_if", {}) == "/tools/x/deny_if/1"
    draft.all_tools.append(Block(pointer="/all_tools"))
    tree = draft.tree()
    assert list(tree) == ["dialect", "version", "default", "hide", "tools", "all_tools"]
    assert tree["tools"] == {"x": {"deny_if": [{"conditions": []}, {}]}}
    assert tree["all_tools"] == {}
    assert "tools" not in Draft().tree()


@pytest.mark.parametrize(
    ("value", "least", "read"),
    [
        (1, 1, 1),
        (10**9, 1, 10**9),
        (10**9 + 1, 1, None),
        (0, 0, 0),
        (0, 1, None),
        (True, 0, None),
        (1.0, 0, None),
        ("1", 0, None),
    ],
)
def test_a_whole_number_is_nothing_else(value: object, least: int, read: int | None) -> None:
    here = place(value)
    assert whole(here, least=least) == read
    assert bool(here.problems) is (read is None)


@pytest.mark.parametrize(("said", "kept"), [("No.", {"on_deny": "No."}), ("", {}), (None, {})])
def test_words_for_the_agent_are_kept_where_there_are_any(said: object, kept: object) -> None:
    here = place(said)
    assert entry([], here) == {"conditions": [], **kept}  # type: ignore[dict-item]
    assert here.problems == []


def test_words_for_the_agent_that_are_no_text_are_refused() -> None:
    here = place(5)
    entry([], here)
    assert here.problems == ["p: /tools/x: this is a number; write text for the agent"]
