"""What is not there, what is there in another form, and what two readers could find apart."""

import json

import pytest

from approval.core.pointers import Pointer, read_pointer
from approval.errors import Unreadable

DOCUMENT: dict[str, object] = {
    "amount": 5,
    "null": None,
    "text": "x",
    "deep": {"er": {"est": 6}},
    "items": [{"price": 1}, {"price": 2}],
    "a/b~c": "escaped",
    "a.b": "dotted",
    "0": "a member",
    "Twice": 1,
    "twice": 2,
    "Ma\u017fs": 3,
    "data": json.dumps({"amount": 7, "list": [8], "deep": {}}),
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("/amount", 5),
        ("/null", None),
        ("/deep/er/est", 6),
        ("/items/1/price", 2),
        ("/a~1b~0c", "escaped"),
        ("/a.b", "dotted"),
        ("/0", "a member"),
    ],
)
def test_a_pointer_leads_to_a_value(text: str, value: object) -> None:
    assert read_pointer(text).find(DOCUMENT) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/nothing", "absent"),
        ("/", "absent"),
        ("/nothing/at/all", "absent"),
        ("/deep/nothing", "missing"),
        ("/deep/er/est/deeper", "not_an_object"),
        ("/amount/minor", "not_an_object"),
        ("/text/0", "not_an_object"),
        ("/null/amount", "not_an_object"),
        ("/items/2", "missing"),
        ("/items/price", "not_an_object"),
        ("/items/00", "not_an_object"),
        ("/items/-1", "not_an_object"),
        ("/items/\u0661", "not_an_object"),
        ("/items/9999999999", "not_an_object"),
        ("/twice", "twin"),
        ("/Twice", "twin"),
        ("/TWICE", "twin"),
        ("/Amount", "twin"),
        ("/mass", "twin"),  # a long s, which folds to s
    ],
)
def test_what_cannot_be_found_is_refused_for_its_own_reason(text: str, reason: str) -> None:
    with pytest.raises(Unreadable) as refusal:
        read_pointer(text).find(DOCUMENT)
    assert refusal.value.reason == reason


@pytest.mark.parametrize("document", [None, True, 5, "text", 1.5])
def test_what_is_no_document_at_all_has_nothing_in_it(document: object) -> None:
    with pytest.raises(Unreadable) as refusal:
        read_pointer("/amount").find(document)
    assert refusal.value.reason == "not_an_object"


@pytest.mark.parametrize("text", ["", "amount", "args.amount", "$.amount", " /amount"])
def test_a_policy_writes_pointers_and_nothing_else(text: str) -> None:
    with pytest.raises(Unreadable, match='write it like "/amount"'):
        read_pointer(text)


def test_a_tilde_that_escapes_nothing_is_refused() -> None:
    with pytest.raises(Unreadable, match="in a pointer ~ is written ~0"):
        read_pointer("/a~2")


def test_the_message_says_where_and_cannot_be_broken_out_of() -> None:
    with pytest.raises(Unreadable, match=r'^at "/items/0/price" there is nothing$'):
        read_pointer("/price").find({}, above="/items/0")
    with pytest.raises(Unreadable, match=r'^at "/a\\nb" there is nothing$'):
        read_pointer("/a\nb").find({})


# --- JSON within text ---

DATA = read_pointer("/data")


@pytest.mark.parametrize(("text", "value"), [("/amount", 7), ("/list/0", 8)])
def test_a_pointer_may_lead_into_the_json_of_a_text(text: str, value: object) -> None:
    assert read_pointer(text, inside=DATA).find(DOCUMENT) == value


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "absent"),
        ({"Data": "{}"}, "twin"),
        ({"data": None}, "not_text"),
        ({"data": {"amount": 7}}, "not_text"),
        ({"data": 7}, "not_text"),
        ({"data": ""}, "embedded"),
        ({"data": "amount=7"}, "embedded"),
        ({"data": '{"amount":7} '}, None),
        ({"data": '{"amount":7}{"amount":1}'}, "embedded"),
        ({"data": '{"amount":7,"amount":1}'}, "embedded"),
        ({"data": '{"amount":7,"\\u0061mount":1}'}, "embedded"),
        ({"data": '{"amount":7,"AMOUNT":1}'}, "twin"),
        ({"data": '{"amount":NaN}'}, "embedded"),
        ({"data": '{"amount":1e400}'}, "embedded"),
        ({"data": '{"amount":%s}' % ("1" * 400)}, "embedded"),
        ({"data": "[" * 5000}, "embedded"),
        ({"data": '\ufeff{"amount":7}'}, "embedded"),
        ({"data": '{"amount":7}\x00'}, "embedded"),
        ({"data": '{"amount":"\ud800"}'}, "embedded"),
        ({"data": '{"amount":"\\ud800"}'}, "embedded"),
        ({"data": '{"a":"%s"}' % ("x" * 300_000)}, "embedded"),
        ({"data": "{}"}, "missing"),
        ({"data": "[]"}, "not_an_object"),
        ({"data": "7"}, "not_an_object"),
        ({"data": json.dumps(json.dumps({"amount": 7}))}, "not_an_object"),
    ],
)
def test_text_is_read_as_strictly_as_a_message(
    arguments: dict[str, object], reason: str | None
) -> None:
    pointer = read_pointer("/amount", inside=DATA)
    if reason is None:
        assert pointer.find(arguments) == 7
        return
    with pytest.raises(Unreadable) as refusal:
        pointer.find(arguments)
    assert refusal.value.reason == reason


def test_a_text_may_lie_within_another() -> None:
    inner = Pointer(text="/inner", steps=("inner",), inside=DATA)
    arguments = {"data": json.dumps({"inner": json.dumps({"amount": 7})})}
    assert read_pointer("/amount", inside=inner).find(arguments) == 7
