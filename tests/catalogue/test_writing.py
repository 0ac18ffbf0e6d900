"""What is written reads back as the same document, whatever its texts."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.catalogue.writing import WIDTH, to_json, to_toml
from approval.core import canonical
from approval.errors import Unreadable

RULE: Any = {"conditions": [{"path": "args.x", "op": "gt", "value": 5}], "on_deny": "No."}

texts = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\"\\\n\r\t\0\x1b\x7f\u202e'"),
    max_size=6,
)
scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
blocks = st.dictionaries(texts, values, max_size=3)
documents = st.fixed_dictionaries(
    {"version": st.just("1")},
    optional={
        "hide": st.lists(texts, max_size=3),
        "tools": st.dictionaries(texts, blocks, max_size=3),
        "all_tools": blocks,
    },
)


@given(documents)
def test_toml_reads_back_as_it_was(document: dict[str, Any]) -> None:
    text = to_toml(document)
    assert tomllib.loads(text) == document
    assert all(letter.isprintable() or letter == "\n" for letter in text)


@given(documents)
def test_json_reads_back_as_it_was(document: dict[str, Any]) -> None:
    text = to_json(document)
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    try:
        assert canonical.canonical(canonical.read(text.encode())) == canonical.canonical(document)
    except Unreadable:  # a NUL in a name, or a number that no double holds
        return


def test_short_rules_stand_on_one_line_and_long_ones_on_one_each() -> None:
    assert to_toml({"tools": {"x": {"deny_if": [RULE]}}}) == (
        "[tools.x]\n"
        'deny_if = [{ conditions = [{ path = "args.x", op = "gt", value = 5 }],'
        ' on_deny = "No." }]\n'
    )
    long = to_toml({"tools": {"a b": {"deny_if": [RULE, RULE]}}})
    assert long.splitlines()[:2] == ['[tools."a b"]', "deny_if = ["]
    assert [line[:4] for line in long.splitlines()[2:]] == ["    ", "    ", "]"]
    assert max(map(len, long.splitlines())) <= WIDTH


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"a": None, "b": [{}]}, "b = [{}]\n"),
        ({"a": 1, "tools": {}}, "a = 1\n\n[tools]\n"),
        ({"all_tools": {"deny_if": []}}, "[all_tools]\ndeny_if = []\n"),
        ({"a": "\x1b[31m"}, 'a = "\\u001B[31m"\n'),
    ],
)
def test_the_corners_of_toml(document: dict[str, Any], text: str) -> None:
    assert to_toml(document) == text
