"""A document is copied as plain JSON, and every problem is told with its place and remedy."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from approval.core.call import Run
from approval.core.canonical import Number
from approval.core.document import Place, open_document
from approval.errors import Misconfigured


def place(value: object) -> Place:
    return Place(source="p.json", pointer="/here", value=value)


def test_numbers_of_every_reader_become_the_same_bytes() -> None:
    spellings = (
        {"a": 1.5, "b": 10**18, "c": 5},
        {"c": Number("5.0"), "b": Number("1e18"), "a": Number("1.50")},
        {"a": Decimal("1.500"), "b": Decimal(10**18), "c": 5},
    )
    assert {open_document(each, source="p").canonical for each in spellings} == {
        b'{"a":1.5,"b":1000000000000000000,"c":5}'
    }


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"a": 2**53 + 1}, "p.json: /a: 9007199254740993 cannot be kept exactly"),
        ({"a": 10**400}, "p.json: /a: 1000"),
        ({"a": Number("1e400")}, "cannot be kept exactly"),
        ({"a": Number("1e-400")}, "cannot be kept exactly"),
        ({"a": Decimal("0.1000000000000000055")}, "cannot be kept exactly"),
        ({"a": float("nan")}, "p.json: /a: nan is no JSON value"),
        ({"a": Decimal("Infinity")}, "is no JSON value"),
        ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, "is no JSON value; write text or a number"),
        ({"a": [1, {"b/c~": {2}}]}, "p.json: /a/1/b~1c~0: {2} is no JSON value"),
        ({1: "a"}, "p.json: /1: the key is a number; write text"),
        ({"a": "\ud800"}, "p.json: /a: the text holds half a surrogate pair"),
        ({"\ud800": 1}, "p.json: /\\ud800: the text holds half a surrogate pair"),
    ],
)
def test_what_has_no_canonical_form_does_not_open(document: dict[str, object], told: str) -> None:
    with pytest.raises(Misconfigured) as failure:
        open_document(document, source="p.json")
    assert told in str(failure.value)
    assert len(failure.value.problems) == 1


def test_a_document_nested_without_end_does_not_open() -> None:
    value: object = {}
    for _ in range(5000):
        value = {"a": value}
    with pytest.raises(Misconfigured, match="nested deeper than 64 levels"):
        open_document({"a": value}, source="p")


def test_every_problem_is_told_at_once_and_where_it_stands_in_the_whole() -> None:
    with pytest.raises(Misconfigured) as failure:
        open_document({"a": {1}, "b": [{2}]}, source="c.toml", pointer="/upstreams/x/policy")
    assert failure.value.problems == (
        "c.toml: /upstreams/x/policy/a: {1} is no JSON value; write text or a number",
        "c.toml: /upstreams/x/policy/b/0: {2} is no JSON value; write text or a number",
    )


def test_a_place_leads_to_what_is_below_it() -> None:
    here = place({"a/b": [1], "c": None})
    assert here.has("c")
    assert not here.has("d")
    assert here.at("d").value is None
    assert (here.at("a/b").pointer, here.at("a/b").value) == ("/here/a~1b", [1])
    assert [each.pointer for each in here.at("a/b").elements()] == ["/here/a~1b/0"]
    assert [key for key, _ in here.members()] == ["a/b", "c"]
    assert [key for key, _ in here.strays({"c"})] == ["a/b"]
    assert here.problems == []


def test_good_values_are_read_without_complaint() -> None:
    problems: list[str] = []

    def good(value: object) -> Place:
        return Place(source="p", pointer="", value=value, problems=problems)

    assert good("a").text() == "a"
    assert good(value=False).flag() is False
    assert good(3).count() == 3
    assert good("when_asked").word(Run) is Run.WHEN_ASKED
    assert good("1m").duration() == timedelta(minutes=1)
    assert [each.value for each in good("ann").names()] == ["ann"]
    assert [each.value for each in good(["ann", "bob"]).names()] == ["ann", "bob"]
    assert good([]).names() == ()
    assert problems == []


@pytest.mark.parametrize(
    ("value", "read", "told"),
    [
        (5, Place.text, "this is a number; write text"),
        (" ", Place.text, "this is blank; write text"),
        (None, Place.text, "this is nothing; write text"),
        (1, Place.flag, "this is 1; write true or false"),
        (True, Place.count, "this is True; write a whole number from 1 to 100"),
        (0, Place.count, "this is 0; write a whole number from 1 to 100"),
        (101, Place.count, "this is 101; write a whole number"),
        (1.0, Place.count, "this is 1.0; write a whole number"),
        ("never", lambda at: at.word(Run), "write one of auto, on_approval, when_asked"),
        ([], lambda at: at.word(Run), "this is []; write one of"),
        ("soon", Place.duration, "this is 'soon'; write \"90s\""),
        (15, Place.duration, "this is 15; write"),
        ("", Place.names, "this is blank"),
        ({}, Place.names, "this is an object; write a list"),
        (["ann", 5], Place.names, "/here/1: this is a number; write text"),
        (["ann", "ann"], Place.names, "a name stands here twice"),
        (True, lambda at: list(at.elements()), "this is true or false; write a list"),
        ([], lambda at: list(at.members()), "this is a list; write an object"),
        (5, lambda at: list(at.strays({"a"})), "this is a number; write an object"),
    ],
)
def test_a_bad_value_is_complained_of(value: object, read: object, told: str) -> None:
    here = place(value)
    assert callable(read)
    read(here)
    assert len(here.problems) == 1
    assert here.problems[0].startswith("p.json: /here")
    assert told in here.problems[0]


def test_hostile_text_stays_on_its_line() -> None:
    here = Place(source="p", pointer="/a\nb", value="x\u202e\n" * 100)
    here.word(Run)
    assert len(here.problems[0].splitlines()) == 1
    assert "\u202e" not in here.problems[0]
    assert len(here.problems[0]) < 200


def test_settling_raises_only_where_something_was_complained_of() -> None:
    here = place(5)
    here.settle()
    here.complain("this is wrong; write it well")
    with pytest.raises(Misconfigured) as failure:
        here.settle()
    assert failure.value.problems == ("p.json: /here: this is wrong; write it well",)
