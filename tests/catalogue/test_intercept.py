"""What the account says of an Intercept file; the documents themselves are in `documents`."""

from collections.abc import Mapping

import pytest

from approval.catalogue import intercept
from approval.catalogue.carrying import Draft
from approval.core.document import Place
from approval.errors import Misconfigured

DENY = {"name": "no", "action": "deny"}
GATE = {"name": "ask", "action": "require_approval"}
SENT: Mapping[str, object] = {"path": "state.send.sent", "op": "lte", "value": 5}
COUNTER: Mapping[str, object] = {"counter": "sent", "window": "day"}


def carry(*rules: object, **top: object) -> Draft:
    document = {"version": "1", "default": "deny", "tools": {"send": {"rules": list(rules)}}}
    root = Place(source="p", pointer="", value={**document, **top})
    draft = intercept.carry(root)
    root.settle()
    return draft


@pytest.mark.parametrize(
    ("rule", "after", "stricter", "said"),
    [
        (DENY, "/tools/send/deny_if/0", False, "rule no: denies always"),
        (GATE, "/tools/send/require_approval/0", False, "rule ask: holds every call"),
        (
            {**GATE, "conditions": [{"path": "args.x", "op": "gt", "value": 5}]},
            "/tools/send/require_approval/0",
            True,
            "and when nobody can tell",
        ),
        (
            {"name": "a\nb", "conditions": [{"path": "args.x", "op": "gt", "value": 5}]},
            "/tools/send/require/0",
            False,
            r"rule a\nb: its conditions say when a call is allowed",
        ),
        (
            {"conditions": [{"path": "args.x", "op": "eq", "value": 5}]},
            "/tools/send/require/0",
            True,
            "rule unnamed: ",
        ),
        (
            {"name": "r", "rate_limit": "5/minute", "on_deny": "Slow."},
            "/tools/send/rate_limit",
            True,
            "on_deny is left out",
        ),
    ],
)
def test_every_rule_is_accounted_for(rule: object, after: str, stricter: bool, said: str) -> None:
    [change] = carry(rule).changes
    assert (change.before, change.after) == ("/tools/send/rules/0", after)
    assert change.stricter is stricter
    assert said in change.what


def test_a_rule_that_judges_and_counts_becomes_two() -> None:
    both = [{"path": "args.to", "op": "exists", "value": True}, SENT]
    draft = carry({"name": "r", "conditions": both, "state": COUNTER})
    assert [change.after for change in draft.changes] == [
        "/tools/send/require/0",
        "/tools/send/rate_limit",
    ]
    assert draft.tree()["tools"] == {
        "send": {
            "require": [{"conditions": both[:1]}],
            "rate_limit": {"max": 5, "window": 86400, "scope": []},
        }
    }


@pytest.mark.parametrize(
    ("bound", "step", "limit"),
    [
        (("lte", 5), 1, 5),
        (("lt", 5), 1, 4),
        (("lte", 35), 10, 3),
        (("lt", 30), 10, 2),
        (("lte", 1), 0, 1),
        (("lt", 2), None, 1),
    ],
)
def test_a_counter_admits_what_it_admitted(
    bound: tuple[str, int], step: int | None, limit: int
) -> None:
    condition = dict(SENT, op=bound[0], value=bound[1])
    draft = carry({"name": "r", "conditions": [condition], "state": dict(COUNTER, increment=step)})
    assert draft.tools["send"].rules == {"rate_limit": {"max": limit, "window": 86400, "scope": []}}


@pytest.mark.parametrize("bound", [("lte", 0), ("lt", 1), ("lt", 0), ("lte", 9)])
def test_a_counter_that_admits_no_call_denies(bound: tuple[str, int]) -> None:
    condition = dict(SENT, op=bound[0], value=bound[1])
    draft = carry({"name": "r", "conditions": [condition], "state": dict(COUNTER, increment=10)})
    assert draft.tools["send"].rules == {"deny_if": [{"conditions": []}]}


@pytest.mark.parametrize(
    ("text", "written"),
    [("10m", "10m"), ("1h30m", "90m"), ("90s", "90s"), ("1m1s", "61s"), ("8760h", "525600m")],
)
def test_a_duration_of_gos_is_written_as_ours(text: str, written: str) -> None:
    draft = carry({**GATE, "approval_timeout": text})
    assert draft.tools["send"].rules["require_approval"] == [{"conditions": [], "timeout": written}]


@pytest.mark.parametrize("text", ["", "5", "-5m", "1.5h", "5 m", "m5", "8761h", 5, True])
def test_a_duration_that_cannot_be_kept_is_refused(text: object) -> None:
    with pytest.raises(Misconfigured, match="approval_timeout: this is"):
        carry({**GATE, "approval_timeout": text})


@pytest.mark.parametrize("version", [1, "1"])
def test_the_one_version_may_be_a_number(version: object) -> None:
    assert carry(version=version).tree()["version"] == "1"


@pytest.mark.parametrize("version", [True, 2, "1.0", None])
def test_no_other_version_is(version: object) -> None:
    with pytest.raises(Misconfigured, match="/version"):
        carry(version=version)


@pytest.mark.parametrize("name", ["", " ", "a*", "a?"])
def test_a_name_that_would_mean_more_here_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match="/tools/"):
        carry(tools={name: {"rules": [DENY]}})


def test_one_counter_twice_in_a_window_is_refused() -> None:
    rule = {"name": "r", "conditions": [SENT], "state": COUNTER}
    with pytest.raises(Misconfigured, match="/rules/1/state: the tool counts this"):
        carry(rule, rule)
    hourly = {**rule, "state": dict(COUNTER, window="hour")}
    assert [change.after for change in carry(rule, hourly).changes] == [
        "/tools/send/limits/0",
        "/tools/send/limits/1",
    ]
