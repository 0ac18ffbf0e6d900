"""Whose count it is: nobody escapes one, and no two are mistaken for each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.core.scopes import Scope, keys, stable_id
from approval.core.subject import Subject


def subject(**changes: object) -> Subject:
    given_groups = changes.get("groups", ())
    groups = tuple(map(str, given_groups)) if isinstance(given_groups, tuple) else ()
    return Subject(
        agent=str(changes.get("agent", "ops")),
        upstream=str(changes.get("upstream", "shop")),
        tool=str(changes.get("tool", "buy")),
        arguments=changes.get("arguments", {}),
        groups=groups,
    )


@pytest.mark.parametrize(
    ("scope", "groups", "grant", "found"),
    [
        ((), ("a",), "g", [()]),
        ((Scope.AGENT,), (), None, [(("agent", "ops"),)]),
        ((Scope.TOOL, Scope.AGENT), (), None, [(("agent", "ops"), ("tool", "buy"))]),
        ((Scope.UPSTREAM,), (), None, [(("upstream", "shop"),)]),
        ((Scope.GROUP,), ("a", "b"), None, [(("group", "a"),), (("group", "b"),)]),
        ((Scope.GROUP,), ("a", "a"), None, [(("group", "a"),)]),
        ((Scope.GROUP,), (), None, [(("group", None),)]),
        ((Scope.GRANT,), (), "g", [(("grant", "g"),)]),
        ((Scope.GRANT,), (), None, [(("grant", None),)]),
        (
            (Scope.GROUP, Scope.TOOL),
            ("a", "b"),
            None,
            [(("tool", "buy"), ("group", "a")), (("tool", "buy"), ("group", "b"))],
        ),
    ],
)
def test_a_call_counts_under_each_of_its_keys(
    scope: tuple[Scope, ...], groups: tuple[str, ...], grant: str | None, found: list[object]
) -> None:
    assert list(keys(scope, subject(groups=groups), grant)) == found


def test_an_agent_without_a_group_is_not_one_of_a_nameless_group() -> None:
    nobody, nameless = keys([Scope.GROUP], subject()), keys([Scope.GROUP], subject(groups=("",)))
    assert stable_id("x", nobody) != stable_id("x", nameless)


parts = st.lists(st.text(st.characters(codec=None)) | st.none(), max_size=3)


@given(one=parts, other=parts)
def test_ids_are_equal_where_their_parts_are(one: list[object], other: list[object]) -> None:
    assert (stable_id("x", *one) == stable_id("x", *other)) is (one == other)
    assert stable_id("x", *one) != stable_id("y", *one)


def test_the_order_of_members_is_no_difference() -> None:
    assert stable_id("x", {"a": 1, "b": 2}) == stable_id("x", {"b": 2, "a": 1})


def test_ids_stay_what_they_are_because_databases_keep_them() -> None:
    id_ = stable_id("meter", "p", None, ((Scope.AGENT, "a"),))
    assert id_ == "e3052863d46e535fd2cda51047684b4a086e94add77008da62b44094424d2f35"
