"""What the account says of a PolicyLayer file; the documents themselves are in `documents`."""

import pytest

from approval.catalogue import policylayer
from approval.catalogue.carrying import Draft
from approval.core.document import Place
from approval.errors import Misconfigured


def carry(block: object, **top: object) -> Draft:
    document = {"version": "1", "default": "deny", "tools": {"send": block}}
    root = Place(source="p", pointer="", value={**document, **top})
    draft = policylayer.carry(root)
    root.settle()
    return draft


@pytest.mark.parametrize(
    ("limit", "more", "said", "stricter"),
    [
        ({"window": "minute", "max": 3, "scope": "grant"}, {}, "each agent, who bears", True),
        ({"window": "hour", "max": 10_000}, {}, "all agents together, in a window that", True),
        ({"window": "day", "max": 10_001}, {"algorithm": "calendar"}, "by the calendar", False),
    ],
)
def test_a_limit_counts_for_whom_it_counted_or_for_all(
    limit: dict[str, object], more: dict[str, object], said: str, stricter: bool
) -> None:
    draft = carry({"limits": [{"counter": "c", **limit}]})
    assert draft.tools["send"].rules == {"limits": [{"counter": "c", **limit, **more}]}
    [change] = draft.changes
    assert (change.before, change.after) == ("/tools/send/limits/0", "/tools/send/limits/0")
    assert change.stricter is stricter
    assert said in change.what


@pytest.mark.parametrize(
    "block",
    [
        {"limits": [{"counter": "c", "window": "day", "max": 0}]},
        {"rate_limit": {"max": 0, "window": 1}},
    ],
)
def test_a_limit_that_admits_nothing_denies(block: dict[str, object]) -> None:
    assert carry(block).tools["send"].rules == {"deny_if": [{"conditions": []}]}


def test_a_short_rate_limit_counts_each_agent() -> None:
    draft = carry({"rate_limit": {"max": 10, "window": 60}})
    assert draft.tools["send"].rules == {"rate_limit": {"max": 10, "window": 60, "scope": "agent"}}
    assert draft.changes[0].stricter


@pytest.mark.parametrize("most", [10_001, True, "5", -1])
def test_a_short_rate_limit_that_cannot_be_counted_is_refused(most: object) -> None:
    with pytest.raises(Misconfigured, match="/tools/send/rate_limit/max"):
        carry({"rate_limit": {"max": most, "window": 60}})


def test_rules_are_copied_and_need_no_account() -> None:
    block = {
        "deny_if": [{"conditions": [], "on_deny": "No."}, {}],
        "require": [{"conditions": [{"path": "/a", "op": "glob", "value": "x*"}]}],
    }
    draft = carry(block)
    assert draft.changes == []
    assert draft.tree()["tools"] == {"send": block}


def test_empty_lists_of_rules_stay() -> None:
    assert carry({"deny_if": [], "require": []}).tree()["tools"] == {
        "send": {"deny_if": [], "require": []}
    }


@pytest.mark.parametrize(
    "limit",
    [
        {"counter": "c", "window": "day", "max": True},
        {"counter": "c", "window": "day", "max": -1},
        {"counter": "c", "window": "day"},
        {"counter": "", "window": "day", "max": 1},
        {"counter": "c", "window": 60, "max": 1},
        {"counter": "c", "window": "day", "max": 1, "scope": ["grant"]},
    ],
)
def test_a_limit_that_cannot_be_read_is_refused(limit: object) -> None:
    with pytest.raises(Misconfigured, match="/tools/send/limits/0"):
        carry({"limits": [limit]})


@pytest.mark.parametrize(
    "top",
    [{"hide": "x"}, {"hide": [1]}, {"hide": ["a", "a"]}, {"hide": None}, {"tools": []}],
)
def test_a_document_of_the_wrong_form_is_refused(top: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        carry({}, **top)
