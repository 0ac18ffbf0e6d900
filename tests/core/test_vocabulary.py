"""A key that is not kept is refused, in words that say what to do."""

import pytest

from approval.core.document import Place
from approval.core.vocabulary import (
    APPROVAL_1,
    ENTRY,
    HINTS,
    NOT_BUILT,
    POLICYLAYER,
    TERMS,
    check_keys,
)


def complaints(value: object, keys: frozenset[str]) -> list[str]:
    here = Place(source="p", pointer="/x", value=value)
    check_keys(here, keys, "a tool")
    return here.problems


@pytest.mark.parametrize("key", NOT_BUILT)
def test_a_key_that_is_not_built_is_refused_and_never_ignored(key: str) -> None:
    [problem] = complaints({key: {}}, APPROVAL_1.tool)
    assert problem.startswith(f"p: /x/{key}: {key} is not built yet: {NOT_BUILT[key]} in this")
    assert "; remove it" in problem


@pytest.mark.parametrize("key", HINTS)
def test_a_key_that_is_known_to_be_meant_otherwise_gets_a_hint(key: str) -> None:
    assert complaints({key: 1}, APPROVAL_1.tool) == [
        f"p: /x/{key}: {key} has no place in a tool: {HINTS[key]}"
    ]


def test_no_key_is_both_known_and_refused() -> None:
    known = APPROVAL_1.top | APPROVAL_1.tool | APPROVAL_1.all_tools | ENTRY | TERMS
    assert known.isdisjoint(NOT_BUILT)
    assert known.isdisjoint(HINTS)
    assert POLICYLAYER.top < APPROVAL_1.top
    assert POLICYLAYER.tool < APPROVAL_1.tool


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("deny_iff", "there is no key deny_iff in a tool; did you mean deny_if?"),
        ("zzz", "there is no key zzz in a tool; it takes deny_if, limits, rate_limit, require"),
        (
            "title",
            "title has no place in a tool; it takes deny_if, limits, rate_limit, re",
        ),
        ("a\nb", "there is no key a\\nb in a tool"),
    ],
)
def test_a_stray_key_is_told_with_what_was_meant(key: str, told: str) -> None:
    [problem] = complaints({key: 1}, POLICYLAYER.tool)
    assert told in problem


def test_where_no_key_is_taken_that_is_said() -> None:
    [problem] = complaints({"zzz": 1}, POLICYLAYER.all_tools)
    assert problem.endswith("it takes no keys")


def test_known_keys_pass() -> None:
    assert complaints({"deny_if": [], "require": []}, POLICYLAYER.tool) == []
