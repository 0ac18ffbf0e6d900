import pytest

from approval.core.canonical import JSON, Number, read
from approval.web.fields import (
    CARD_FIELDS,
    CARD_VALUE,
    FOLD,
    Field,
    fields_of,
    has_secret,
    indented,
    is_complete,
    is_secret,
    mask,
)
from approval.web.text import pieces


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "access_token",
        "accessToken",
        "X-Api-Key",
        "apikey",
        "password",
        "passphrase",
        "client_secret",
        "Authorization",
        "auth",
        "private.key",
        "credentials",
        "Cookie",
        "card_pin",
    ],
)
def test_names_of_credentials_are_known(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["max_tokens", "author", "phone_number", "spinning", "key", ""])
def test_other_names_are_not_taken_for_credentials(name: str) -> None:
    assert not is_secret(name)


def test_credentials_are_covered_at_every_depth_and_nothing_else_is() -> None:
    given: JSON = {"a": [{"password": "hunter2", "user": "ann"}], "api_key": {"id": 1}, "n": 1}
    assert mask(given) == {
        "a": [{"password": "••••••", "user": "ann"}],
        "api_key": "••••••",
        "n": 1,
    }
    assert has_secret(given)
    assert not has_secret({"a": [{"user": "ann"}, "password"]})


def test_each_argument_is_a_field_with_its_kind() -> None:
    given = read(b'{"a":"x","b":1,"c":1.50,"d":true,"e":null,"f":[1,{}],"g":{}}')
    assert [(field.kind, field.value[0].text) for field in fields_of(given)] == [
        ("text", "x"),
        ("number", "1"),
        ("number", "1.50"),
        ("boolean", "true"),
        ("null", "null"),
        ("list", "[\n  1,\n  {}\n]"),
        ("object", "{}"),
    ]


def test_a_covered_field_tells_its_length_and_not_its_value() -> None:
    covered, object_ = fields_of({"token": "0123456789", "secret": {"a": 1}})
    assert covered == Field(name=pieces("token"), value=(), size=10, masked=True)
    assert (object_.size, object_.kind, object_.value) == (7, "object", ())


def test_revealing_shows_what_was_covered() -> None:
    given: JSON = {"token": "0123456789", "deep": {"password": "hunter2"}}
    token, deep = fields_of(given, reveal=True)
    assert token.value == pieces("0123456789")
    assert "hunter2" in deep.value[0].text
    assert "hunter2" not in str(fields_of(given))


def test_a_suspicious_name_or_value_marks_the_field() -> None:
    plain, name, value = fields_of({"a": "b", "a\u200b": "b", "c": "\u202e"})
    assert [plain.suspicious, name.suspicious, value.suspicious] == [False, True, True]


def test_arguments_that_are_no_object_are_one_field() -> None:
    assert [field.name for field in fields_of([1])] == [pieces("(arguments)")]


def test_a_card_is_complete_only_when_it_shows_everything() -> None:
    assert is_complete(fields_of({}))
    assert is_complete(fields_of({str(n): "x" for n in range(CARD_FIELDS)}))
    assert not is_complete(fields_of({str(n): "x" for n in range(CARD_FIELDS + 1)}))
    assert is_complete(fields_of({"a": "x" * CARD_VALUE}))
    assert not is_complete(fields_of({"a": "x" * (CARD_VALUE + 1)}))


def test_very_long_values_are_folded_on_the_calls_own_page() -> None:
    short, long = fields_of({"a": "x" * FOLD, "b": "x" * (FOLD + 1)})
    assert (short.folded, long.folded) == (False, True)


def test_indented_json_keeps_every_token() -> None:
    value: JSON = {"a": [Number("1.50"), {"b": "\u202e\n"}], "c": []}
    assert indented(value) == (
        '{\n  "a": [\n    1.50,\n    {\n      "b": "\u202e\\n"\n    }\n  ],\n  "c": []\n}'
    )
