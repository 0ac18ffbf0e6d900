"""The strict reader refuses every trap, the writer changes no token, the canonical form is one."""

import json
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.core.canonical import (
    JSON,
    MAX_ARGUMENTS,
    MAX_BODY,
    MAX_DEPTH,
    MAX_MEMBERS,
    MAX_VALUES,
    Number,
    canonical,
    canonical_arguments,
    quoted,
    read,
    write,
)
from approval.errors import Unreadable


def reason_of(body: bytes) -> str:
    with pytest.raises(Unreadable) as refused:
        read(body)
    return refused.value.reason


def test_plain_values_read_as_themselves() -> None:
    body = b' {"a":[1,-2,true,false,null,"\xc3\xa9"],"b":{}} \r\n'
    assert read(body) == {"a": [1, -2, True, False, None, "é"], "b": {}}


@pytest.mark.parametrize(
    ("token", "value"),
    [
        ("0", 0),
        ("-1", -1),
        ("9223372036854775808", 2**63),
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("18446744073709551616", Number("18446744073709551616")),
        ("-9223372036854775809", Number("-9223372036854775809")),
        ("-0", Number("-0")),
        ("1.0", Number("1.0")),
        ("1.10", Number("1.10")),
        ("1E5", Number("1E5")),
        ("1e-400", Number("1e-400")),
        ("100.00000000000000001", Number("100.00000000000000001")),
        ("1" * 40, Number("1" * 40)),
    ],
)
def test_a_number_is_an_integer_or_keeps_its_token(token: str, value: JSON) -> None:
    got = read(token.encode())
    assert (got, type(got)) == (value, type(value))
    assert write(got) == token.encode()


def test_numbers_are_equal_by_token_and_compare_by_decimal() -> None:
    assert Number("1.0") != Number("1.00")
    assert Number("1.0").decimal == Number("1.00").decimal == Decimal(1)
    assert len({Number("1.0"), Number("1.0")}) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b" \n\t\r", "empty"),
        (b"\xef\xbb\xbf{}", "bom"),
        ("{}".encode("utf-16"), "bom"),
        ("{}".encode("utf-32"), "bom"),
        ("{}".encode("utf-16-le"), "encoding"),
        ("{}".encode("utf-16-be"), "encoding"),
        ("{}".encode("utf-32-le"), "encoding"),
        ("{}".encode("utf-32-be"), "encoding"),
        (b'"\xed\xa0\x80"', "encoding"),
        (b'"\xff"', "encoding"),
        (b'"\xc0\xaf"', "encoding"),
        (b'"\xf4\x90\x80\x80"', "encoding"),
        (b'"a\xe2\x82"', "encoding"),
        (b'"\xe9"', "encoding"),
        (b'{"a":1,"a":1}', "duplicate_member"),
        (b'{"a":1,"b":2,"\\u0061":3}', "duplicate_member"),
        (b'[{"x":[{"a":{"b":1,"b":2}}]}]', "duplicate_member"),
        (b'{"":1,"":2}', "duplicate_member"),
        (b"NaN", "not_a_number"),
        (b"[Infinity]", "not_a_number"),
        (b'{"a":-Infinity}', "not_a_number"),
        (b"1e400", "number_not_finite"),
        (b"-1e400", "number_not_finite"),
        (b"1e0400", "number_not_finite"),
        (b"0e99999", "number_exponent"),
        (b"1e-99999999999999999999999", "number_exponent"),
        (b"1" * 41, "number_too_long"),
        (b"9" * 5000, "number_too_long"),
        (b"0." + b"1" * 39, "number_too_long"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\uDFFF":1}', "surrogate"),
        (b'"\\udc00\\ud800"', "surrogate"),
        (b'"\\ud83d\\u0041"', "surrogate"),
        (b'{"a\\u0000":1}', "nul_in_name"),
        (b'[[{"\\u0000":1}]]', "nul_in_name"),
        (b"{}{}", "syntax"),
        (b"{} x", "syntax"),
        (b'{"a":1', "syntax"),
        (b'"a', "syntax"),
        (b"[1,]", "syntax"),
        (b'{"a":1,}', "syntax"),
        (b"{'a':1}", "syntax"),
        (b"{a:1}", "syntax"),
        (b"[1 2]", "syntax"),
        (b"// x\n1", "syntax"),
        (b"/* x */1", "syntax"),
        (b"+1", "syntax"),
        (b"01", "syntax"),
        (b"-01", "syntax"),
        (b".5", "syntax"),
        (b"5.", "syntax"),
        (b"0x10", "syntax"),
        (b"1_000", "syntax"),
        (b"\xd9\xa1", "syntax"),
        (b'"\n"', "syntax"),
        (b'"\x01"', "syntax"),
        (b'"\\x41"', "syntax"),
        (b'"\\u00g1"', "syntax"),
        (b"nul", "syntax"),
        (b"True", "syntax"),
        (b"\x0c1", "syntax"),
        (b"\xc2\xa01", "syntax"),
        (b'"a\x00b"', "encoding"),
    ],
)
def test_a_trap_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    assert reason_of(body) == reason


def test_paired_surrogate_escapes_and_escaped_nul_in_values_are_read() -> None:
    assert read(b'["\\ud83d\\ude00","a\\u0000b","\\\\ud800"]') == ["😀", "a\0b", "\\ud800"]


def test_size_is_bounded_to_the_byte() -> None:
    fits = b'"' + b"x" * (MAX_BODY - 2) + b'"'
    assert len(str(read(fits))) == MAX_BODY - 2
    assert reason_of(fits + b" ") == "too_large"
    with pytest.raises(Unreadable, match="3 bytes; the limit is 2"):
        read(b"123", limit=2)


def test_depth_is_bounded_to_the_level() -> None:
    assert read(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert reason_of(b"[" * 65 + b"]" * 65) == "too_deep"
    assert reason_of(b'{"a":' * 65 + b"1" + b"}" * 65) == "too_deep"
    assert reason_of(b"[" * 99_999) == "too_deep"
    assert reason_of(b"[" * MAX_BODY) == "too_many_values"


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_what_is_open_at_once_however_much_was_closed_before(
    opening: bytes, closing: bytes
) -> None:
    def below(levels: int) -> bytes:
        parts = [*[opening * 2 + b"1" + closing * 2] * 50, opening * levels + closing * levels]
        return b"[" + b",".join(parts).replace(b":}", b":1}") + b"]"

    assert read(below(MAX_DEPTH - 1))
    assert reason_of(below(MAX_DEPTH)) == "too_deep"


def test_brackets_in_strings_count_for_nothing() -> None:
    text = '[{"[' * 30_000 + '\\"'
    body = json.dumps([text, text]).encode()
    assert read(body) == [text, text]


def test_the_number_of_values_is_bounded_to_the_value() -> None:
    assert len(write(read(b"[" + b"1," * (MAX_VALUES - 2) + b"1]")))
    assert reason_of(b"[" + b"1," * (MAX_VALUES - 1) + b"1]") == "too_many_values"
    empties = b"[" + b"[ ],{}," * (MAX_VALUES // 2 - 1) + b"[]"
    assert len(write(read(empties + b"]")))
    assert reason_of(empties + b",1]") == "too_many_values"


def test_the_members_of_one_object_are_bounded_to_the_member() -> None:
    members = ",".join(f'"{n}":1' for n in range(MAX_MEMBERS))
    assert len(write(read(b"{" + members.encode() + b"}")))
    assert reason_of(b"{" + members.encode() + b',"x":1}') == "too_many_members"


def test_bodies_made_to_be_slow_are_refused_all_the_same() -> None:
    assert reason_of(b'{"a":"' + b'\\"' * 100_000) == "syntax"
    assert reason_of(b'"' * 100_001) == "syntax"
    assert reason_of(b"[]" * 100_001) == "too_many_values"
    assert reason_of(b"]" * 100_000) == "syntax"


def test_names_in_messages_are_cut_and_show_what_is_invisible() -> None:
    with pytest.raises(Unreadable) as refused:
        read(b'{"a\\u202e\\n":1,"a\\u202e\\n":2}')
    assert str(refused.value) == 'the member name "a\\u202e\\n" appears twice in one object'
    assert quoted("x" * 81) == "x" * 79 + "…"
    assert quoted("a b\t\u200b\x00\U000e0041é") == "a b\\t\\u200b\\x00\\U000e0041é"


def test_writing_is_compact_and_refuses_what_is_not_json() -> None:
    assert write({"b": [1, Number("1.50"), "é\n", None, True], "a": {}}) == (
        '{"b":[1,1.50,"é\\n",null,true],"a":{}}'.encode()
    )
    with pytest.raises(TypeError):
        write({"a": [object()]})  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b'{"b":1,"a":2,"\xc3\xa9":3}', '{"a":2,"b":1,"é":3}'),
        (b"[1.10,1.0,1e3,-0,-0.0,0e5,1E-7]", "[1.1,1,1000,0,0,0,1e-7]"),
        (b"[9007199254740991,-9007199254740991.0]", "[9007199254740991,-9007199254740991]"),
        (b"[0.1,1e-400,4.35,5e-324]", None),
        (b"[0.1,4.35,5e-324,2.2250738585072014e-308]", "[0.1,4.35,5e-324,2.2250738585072014e-308]"),
        (b'["\\u0041\\u000a\\/\\u20ac",true,null]', '["A\\n/€",true,null]'),
        (b'{"\xf0\x9f\x98\x80":1,"\xef\xac\x81":2}', '{"😀":1,"ﬁ":2}'),
    ],
)
def test_the_canonical_form_is_that_of_rfc_8785(body: bytes, form: str | None) -> None:
    if form is None:
        with pytest.raises(Unreadable):
            canonical(read(body))
    else:
        assert canonical(read(body)) == form.encode()


@pytest.mark.parametrize(
    ("body", "reason", "pointer"),
    [
        (b'{"a":[9007199254740992]}', "integer_not_safe", '"/a/0"'),
        (b'{"a":-9007199254740993}', "integer_not_safe", '"/a"'),
        (b'{"a":9007199254740992.0}', "integer_not_safe", '"/a"'),
        (b"1e21", "integer_not_safe", '""'),
        (b"18446744073709551616", "integer_not_safe", '""'),
        (b'{"a/b~c":123456789.123456789123}', "number_not_exact", '"/a~1b~0c"'),
        (b'[0,{"x":100.00000000000000001}]', "number_not_exact", '"/1/x"'),
        (b"1e-400", "number_not_exact", '""'),
        (b"9007199254740993.5", "number_not_exact", '""'),
        (b"9007199254740993.0", "integer_not_safe", '""'),
        (b"0.1000000000000000055511151231257827", "number_not_exact", '""'),
    ],
)
def test_a_number_that_readers_round_has_no_canonical_form(
    body: bytes, reason: str, pointer: str
) -> None:
    with pytest.raises(Unreadable) as refused:
        canonical(read(body))
    assert refused.value.reason == reason
    assert f"at {pointer}" in str(refused.value)


def test_text_that_is_no_unicode_has_no_canonical_form() -> None:
    values: list[JSON] = ["\ud800", {"\ud800": 1, "a": 2}]
    for value in values:
        with pytest.raises(Unreadable) as refused:
            canonical(value)
        assert refused.value.reason == "not_canonical"


def test_arguments_of_gated_calls_are_bounded_as_written_and_as_canonical() -> None:
    fits: JSON = {"a": "x" * (MAX_ARGUMENTS - 8)}
    assert len(canonical_arguments(fits)) == MAX_ARGUMENTS
    longer_as_written: JSON = {"a": "x" * (MAX_ARGUMENTS - 7)}
    longer_as_canonical: JSON = [Number("1e15")] * (MAX_ARGUMENTS // 6)
    for large in (longer_as_written, longer_as_canonical):
        with pytest.raises(Unreadable) as refused:
            canonical_arguments(large)
        assert refused.value.reason == "arguments_too_large"


TOKENS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)


@given(TOKENS)
def test_a_number_that_is_read_is_written_as_it_came(token: str) -> None:
    try:
        value = read(token.encode())
    except Unreadable:
        assert len(token) > 40 or math.isinf(float(token))
        return
    assert write(value) == token.encode()
    assert (value.decimal if isinstance(value, Number) else value) == Decimal(token)


@given(TOKENS)
def test_a_canonical_number_keeps_its_value_and_is_its_own_canonical_form(token: str) -> None:
    try:
        form = canonical(read(token.encode()))
    except Unreadable:
        return
    assert Decimal(form.decode()) == Decimal(token)
    assert canonical(read(form)) == form


NAMES = st.text(st.characters(codec="utf-8", min_codepoint=1))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_as_the_same_value_in_either_form(value: JSON) -> None:
    assert read(write(value)) == value
    assert read(canonical(value)) == value
    assert canonical(read(json.dumps(value).encode())) == canonical(value)
