"""A grant is read back from its text as it was issued, or not at all."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from approval.core import issued
from approval.core.grants import Grant, Origin, Pinned, covers
from approval.core.money import Money
from approval.core.subject import Subject
from approval.errors import Misconfigured
from tests.factories import NOW

FULL = {
    "agent": "ops-agent",
    "tools": ["buy", "order_*"],
    "upstream": "shop",
    "conditions": [
        {"path": "args.number", "op": "regex", "value": "^\\+49"},
        {"path": "args.n", "op": "lte", "value": 2.5},
    ],
    "max_per_call": "2.00 USD",
    "total": "20.00 USD",
    "uses": 10,
    "not_before": "2026-11-20T00:00:00+01:00",
    "expires": "2026-12-31T00:00:00Z",
    "reason": "the move",
}


def given(**changes: object) -> Grant:
    grant = issued.read_issue({**FULL, **changes}, source="test")
    return replace(
        grant,
        id="grt_1",
        granted_by="person:ann",
        origin=Origin.DECISION,
        pinned=Pinned(digest="d" * 64, free=("number",)),
        path="",
    )


def test_a_grant_is_the_same_once_it_is_read_back() -> None:
    grant = given()
    again = issued.read("grt_1", issued.write(grant))
    assert issued.words(again) == issued.words(grant) | {"tools": ["buy", "order_*"]}
    assert (again.id, again.granted_by, again.origin) == ("grt_1", "person:ann", Origin.DECISION)
    assert (again.pinned, again.path) == (grant.pinned, "")
    assert (again.total, again.max_per_call) == (Money(2000, "USD"), Money(200, "USD"))
    assert (again.not_before, again.expires) == (grant.not_before, grant.expires)


def test_what_is_not_bounded_is_left_out() -> None:
    grant = issued.read_issue({"agent": "a", "tools": "b", "uses": 1}, source="test")
    assert issued.words(grant) == {"agent": "a", "tools": ["b"], "uses": 1}


@pytest.mark.parametrize(
    ("arguments", "covered"),
    [({"number": "+49", "n": 2}, True), ({"number": "+1", "n": 2}, False), ({"number": 5}, False)],
)
def test_conditions_mean_the_same_when_they_are_read_back(
    arguments: dict[str, object], covered: bool
) -> None:
    grant = replace(issued.read("grt_1", issued.write(given())), pinned=None)
    subject = Subject(agent="ops-agent", upstream="shop", tool="order_x", arguments=arguments)
    assert (covers(grant, subject, Money(100, "USD"), NOW) is None) is covered
    late = NOW + timedelta(days=365)
    assert covers(grant, subject, Money(100, "USD"), late) is not None


@pytest.mark.parametrize(
    "changes",
    [{"usses": 1}, {"tools": []}, {"uses": 0}, {"expires": "tomorrow"}, {"total": "1.00 EUR"}],
)
def test_what_is_not_understood_is_refused(changes: dict[str, object]) -> None:
    kept = json.loads(issued.write(given()))
    kept["words"] |= changes
    with pytest.raises(Misconfigured):
        issued.read("grt_1", json.dumps(kept))
