"""The document that grows, and how limits on how often are spelt."""

from collections.abc import Sequence

import pytest

from approval.catalogue.carrying import Block, Draft, Rate, entry, spelled, whole
from approval.core.document import Place

MINUTE = Rate(limit=10, window=60, scope=("agent",))
HOUR = Rate(limit=50, window=3600)
PAIR = Rate(limit=1, window=1, scope=("agent", "tool"))


def place(value: object) -> Place:
    return Place(source="p", pointer="/tools/x", value=value)


@pytest.mark.parametrize(
    ("rates", "written"),
    [
        ([MINUTE], {"max": 10, "window": 60, "scope": "agent"}),
        ([HOUR], {"max": 50, "window": 3600, "scope": []}),
        ([PAIR], {"max": 1, "window": 1, "scope": ["agent", "tool"]}),
        (
            [MINUTE, HOUR],
            [
                {"max": 10, "window": 60, "scope": "agent"},
                {"max": 50, "window": 3600, "scope": []},
            ],
        ),
    ],
)
def test_one_limit_is_a_table_and_several_are_a_list(
    rates: Sequence[Rate], written: object
) -> None:
    assert spelled(rates) == written


def test_a_draft_is_written_in_the_order_people_expect() -> None:
    draft = Draft(top={"default": "deny", "hide": ["a"]})
    block = draft.tool(place({}), "x")
    assert block.add("deny_if", {"conditions": []}) == "/tools/x/deny_if/0"
    assert block.add("deny_if", {}) == "/tools/x/deny_if/1"
    assert block.limit(HOUR) == "/tools/x/rate_limit"
    draft.all_tools.append(Block(pointer="/all_tools"))
    tree = draft.tree()
    assert list(tree) == ["dialect", "version", "default", "hide", "tools", "all_tools"]
    assert tree["tools"] == {
        "x": {"deny_if": [{"conditions": []}, {}], "rate_limit": spelled([HOUR])}
    }
    assert tree["all_tools"] == {}
    assert "tools" not in Draft().tree()


@pytest.mark.parametrize(
    ("value", "least", "read"),
    [(1, 1, 1), (0, 0, 0), (0, 1, None), (True, 0, None), (1.0, 0, None), ("1", 0, None)],
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
