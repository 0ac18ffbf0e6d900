"""YAML is read as JSON would be, or not at all."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.catalogue.plain_yaml import MAX_VALUES, read_yaml
from approval.core.canonical import MAX_DEPTH, Number, read
from approval.errors import Unreadable


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("y", "y"),
        ("~", None),
        ("null", None),
        ("a:", {"a": None}),
        ("5", 5),
        ("-5", -5),
        ("0", 0),
        ("1.50", Number("1.50")),
        ("1e3", Number("1e3")),
        ("-0", Number("-0")),
        ("'5'", "5"),
        ('"true"', "true"),
        ("'~'", "~"),
        ("|\n  5\n", "5\n"),
        (">-\n  true\n", "true"),
        ("1.2.3.4.5.x", "1.2.3.4.5.x"),
        ("5m", "5m"),
        ("5/minute", "5/minute"),
        ("args.a", "args.a"),
        ("{1: a, true: b, yes: c, ~: d}", {"1": "a", "true": "b", "yes": "c", "~": "d"}),
        ("'<<': 1", {"<<": 1}),
        ("# only\na: [x, {b: 1}]\n", {"a": ["x", {"b": 1}]}),
        ("--- {a: 1}\n...\n", {"a": 1}),
    ],
)
def test_plain_yaml_is_the_json_it_stands_for(text: str, value: object) -> None:
    found = read_yaml(text.encode())
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "number",
    [
        *("010", "00", "0777", "+5", "0x1F", "0o17", "0b11", "1_000", "1,000"),
        *(".5", "5.", "-.5", "1.2.3", "1:30", "1:30:00", ".inf", "-.INF", ".NaN"),
        *("2026-11-25", "2026-1-2", "2026-11-25T10:00:00Z"),
    ],
)
def test_what_readers_take_for_different_things_is_refused(number: str) -> None:
    with pytest.raises(Unreadable, match=r"line 2 holds .* which readers take"):
        read_yaml(f"a:\n  b: {number}\n".encode())
    assert read_yaml(f'"{number}"'.encode()) == number


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2", "line 2 holds the key"),
        ("a: 1\n'a': 2", "line 2 holds the key"),
        ("a: &x 1", "anchor or alias"),
        ("&x a: 1", "anchor or alias"),
        ("a: *x", "anchor or alias"),
        ("- &x []", "anchor or alias"),
        ("<<: {a: 1}", "a merge key"),
        ("a: !!python/object/apply:os.system ['true']", "a tag"),
        ("a: !x {}", "a tag"),
        ("!!map {}", "a tag"),
        ("[]: 1", "a key that is no text"),
        ("a: 1\n---\nb: 1", "a second document"),
        ("%YAML 1.1\n---\na: 1", "a directive"),
        ("%TAG ! tag:x,2000:\n---\na: 1", "a directive"),
        ("a: [", "is not YAML"),
        ("%YAML", "is not YAML"),
        ('"\\ud83d\\ude00"', "half a surrogate pair"),
        ('"\\ud83d": 1', "half a surrogate pair"),
        ("a: b: c", "is not YAML"),
        ("\ta: 1", "is not YAML"),
        ("a: \x07", "is not YAML"),
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("a: 1e999", "cannot be kept"),
        ("a: " + "1" * 60, "cannot be kept"),
    ],
)
def test_whatever_has_two_readings_is_refused(text: str, told: str) -> None:
    with pytest.raises(Unreadable, match=told):
        read_yaml(text.encode())


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(Unreadable, match="not UTF-8: byte 3"):
        read_yaml(b"a: \xff")


def test_a_bomb_does_not_go_off() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(50))
    started = time.monotonic()
    with pytest.raises(Unreadable, match="anchor"):
        read_yaml(bomb.encode())
    with pytest.raises(Unreadable, match="nested deeper"):
        read_yaml(b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2))
    assert read_yaml(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None
    assert time.monotonic() - started < 5


def test_too_many_values_are_refused() -> None:
    with pytest.raises(Unreadable, match="more than"):
        read_yaml(("[" + "1," * MAX_VALUES + "1]").encode())


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(plain)
def test_json_without_traps_is_yaml_and_means_the_same(value: Any) -> None:
    text = json.dumps(value).encode()
    try:
        strict = read(text)
        assert read_yaml(text) == strict
    except Unreadable as error:
        assert error.reason == "nul_in_name" or "\\ud" in text.decode()  # noqa: PT017


@given(st.text(alphabet="0123456789abxetruEnlyso.+-_:~'\"# ", max_size=8))
def test_any_scalar_ends_in_a_value_or_a_refusal(text: str) -> None:
    try:
        read_yaml(f"a: {text}".encode())
    except Unreadable as error:
        assert error.reason  # noqa: PT017 - either end is right
