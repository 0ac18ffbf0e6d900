"""What the account says of a PolicyLayer file; the documents themselves are in `documents`."""

import pytest

from approval.catalogue import policylayer
from approval.catalogue.carrying import Draft, Rate
from approval.core.document import Place
from approval.errors import Misconfigured


def carry(block: object, **top: object) -> Draft:
    document = {"version": "1", "default": "deny", "tools": {"send": block}}
    root = Place(source="p", pointer="", value={**document, **top})
    draft = policylayer.carry(root)
    root.settle()
    return draft


@pytest.mark.parametrize(
    ("limit", "rate", "whom"),
    [
        (
            {"window": "minute", "scope": "grant"},
            Rate(limit=3, window=60, scope=("agent",)),
            "each",
        ),
        ({"window": "hour"}, Rate(limit=3, window=3600), "all agents"),
        ({"window": "day"}, Rate(limit=3, window=86400), "all agents"),
    ],
)
def test_a_limit_counts_for_whom_it_counted_or_for_all(
    limit: dict[str, object], rate: Rate, whom: str
) -> None:
    draft = carry({"limits": [{"counter": "c", "max": 3, **limit}]})
    assert draft.tools["send"].rates == [rate]
    [change] = draft.changes
    assert (change.before, change.after) == ("/tools/send/limits/0", "/tools/send/rate_limit")
    assert change.stricter
    assert whom in change.what


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
