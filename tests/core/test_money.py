"""Money is exact or refused: every spelling of an amount, and what no spelling can bring about."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.core import canonical
from approval.core.canonical import Number
from approval.core.currencies import ISO
from approval.core.money import CAP, Money, Unit, amount, read_money, read_typed, whole
from approval.errors import Unreadable

CODES = st.sampled_from(sorted(ISO.exponents))
MONEY = st.builds(Money, st.integers(0, CAP), CODES)


def major(value: object, currency: str = "USD", *, text: bool = False) -> Money:
    return amount(value, unit=Unit.MAJOR, currency=currency, text=text)


def minor(value: object, currency: str = "USD", *, text: bool = False) -> Money:
    return amount(value, unit=Unit.MINOR, currency=currency, text=text)


# --- money itself ---


@pytest.mark.parametrize(
    ("text", "money"),
    [
        ("1.15 USD", Money(115, "USD")),
        ("0.05 USD", Money(5, "USD")),
        ("0.00 USD", Money(0, "USD")),
        ("20 USD", Money(2000, "USD")),
        ("115 JPY", Money(115, "JPY")),
        ("1.150 KWD", Money(1150, "KWD")),
        ("1.1500 CLF", Money(11500, "CLF")),
        ("10000000000000.00 USD", Money(CAP, "USD")),
        ("10000000000000.01 USD", None),
        ("999999999999999 JPY", Money(CAP - 1, "JPY")),
        ("1000000000000000 JPY", Money(CAP, "JPY")),
        ("1000000000000001 JPY", None),
        ("9999999999999999 JPY", None),
        ("10000000000000000 JPY", None),
        ("1.1 USD", None),
        ("1.150 USD", None),  # eleven hundred and fifty, for half of Europe
        ("1.15 JPY", None),
        ("1.15USD", None),
        ("1.15  USD", None),
        (" 1.15 USD", None),
        ("1.15 USD ", None),
        ("1.15 USD\n", None),
        ("1.15\u00a0USD", None),
        ("1.15 usd", None),
        ("1.15 XAU", None),
        ("1.15 USDC", None),
        ("USD 1.15", None),
        ("$1.15", None),
        ("1.15", None),
        ("", None),
        ("-1.15 USD", None),
        ("+1.15 USD", None),
        ("01.15 USD", None),
        (".15 USD", None),
        ("1. USD", None),
        ("1,15 USD", None),
        ("1_000.00 USD", None),
        ("1e2 USD", None),
        ("NaN USD", None),
        ("Infinity USD", None),
        ("\u0661.\u0661\u0665 USD", None),
        ("\uff11.\uff11\uff15 USD", None),
    ],
)
def test_policies_write_money_in_one_way(text: str, money: Money | None) -> None:
    assert read_money(text) == money
    if money is None:
        with pytest.raises(ValueError, match=r'write (it like "1.15 USD"|less)'):
            Money.parse(text)


@pytest.mark.parametrize("wrong", [-1, CAP + 1])
def test_money_is_never_negative_and_never_beyond_the_cap(wrong: int) -> None:
    with pytest.raises(ValueError, match="from zero to"):
        Money(wrong, "USD")


@pytest.mark.parametrize("wrong", [True, 1.0, Decimal(1), "1", None])
def test_money_is_made_of_whole_numbers_alone(wrong: int) -> None:
    with pytest.raises(TypeError, match="a whole number"):
        Money(wrong, "USD")


def test_money_has_a_currency() -> None:
    with pytest.raises(TypeError, match="and a currency"):
        Money(1, "")


def test_what_the_api_says_of_money_has_every_decimal() -> None:
    assert Money(115, "USD").plain() == {"amount": "1.15", "currency": "USD"}
    assert Money(5, "KWD").plain() == {"amount": "0.005", "currency": "KWD"}
    assert Money(5, "JPY").plain() == {"amount": "5", "currency": "JPY"}


def test_a_unit_nobody_declared_is_never_written_with_guessed_decimals() -> None:
    coin = Money(1_500_000, "COIN")
    assert str(coin) == "1500000 smallest units of COIN"
    with pytest.raises(ValueError, match="not known"):
        coin.plain()
    units = ISO.with_units({"COIN": 6})
    assert coin.text(units) == "1.500000 COIN"
    assert coin.plain(units) == {"amount": "1.500000", "currency": "COIN"}
    assert Money.parse("1.500000 COIN", units) == read_money("1.500000 COIN", units) == coin


def test_a_meter_cannot_fall_below_zero_by_taking_away() -> None:
    assert Money(5, "USD") - Money(5, "USD") == Money(0, "USD")
    with pytest.raises(ValueError, match="from zero"):
        Money(5, "USD") - Money(6, "USD")


def test_other_currencies_are_never_added_taken_away_or_compared() -> None:
    dollars, euros = Money(1, "USD"), Money(1, "EUR")
    for mixed in (
        lambda: dollars + euros,
        lambda: dollars - euros,
        lambda: dollars < euros,
        lambda: dollars <= euros,
        lambda: dollars > euros,
        lambda: dollars >= euros,
        lambda: max(dollars, euros),
    ):
        with pytest.raises(ValueError, match="never compared or added"):
            mixed()
    assert dollars != euros
    assert Money(0, "USD") != Money(0, "EUR")


@given(MONEY)
def test_reading_what_was_written_gives_the_same_money(money: Money) -> None:
    assert Money.parse(str(money)) == money


@given(st.integers(0, CAP), st.integers(0, CAP), CODES)
def test_sums_are_exact_or_refused_and_never_wrap(a: int, b: int, code: str) -> None:
    left, right = Money(a, code), Money(b, code)
    assert (left < right, left <= right) == (a < b, a <= b)
    assert (left > right, left >= right) == (a > b, a >= b)
    if a + b > CAP:
        with pytest.raises(ValueError, match="from zero to"):
            left + right
    else:
        assert (left + right).minor == a + b
        assert left + right - right == left


# --- what agents send ---


@pytest.mark.parametrize(
    ("value", "cents"),
    [
        (1, 100),
        (20, 2000),
        (Number("1.15"), 115),
        (Number("1.1"), 110),
        (Number("1.150000"), 115),
        (Number("1.15000000000000000000000000000000000000"), 115),
        (Number("0.01"), 1),
        (Number("1e2"), 10000),
        (Number("1E2"), 10000),
        (Number("1e+2"), 10000),
        (Number("115e-2"), 115),
        (Number("1.15e0"), 115),
        (Number("0.0000000000000000001e19"), 100),
        (Number("1e13"), CAP),
        (10**13, CAP),
    ],
)
def test_numbers_count_by_their_exact_value(value: object, cents: int) -> None:
    assert major(value) == major(value, text=True) == Money(cents, "USD")


@pytest.mark.parametrize(
    ("text", "cents"),
    [
        ("1", 100),
        ("1.1", 110),
        ("1.15", 115),
        ("1.150000000", 115),
        ("0.01", 1),
        ("10000000000000", CAP),
    ],
)
def test_text_counts_where_the_policy_says_so(text: str, cents: int) -> None:
    assert major(text, text=True) == Money(cents, "USD")
    with pytest.raises(Unreadable) as refusal:
        major(text)
    assert refusal.value.reason == "text_not_allowed"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (-1, "negative"),
        (Number("-1.15"), "negative"),
        (Number("-0"), "negative"),
        (Number("-0.0"), "negative"),
        (Number("-0.001"), "negative"),
        (-(10**400), "negative"),
        ("-1", "negative"),
        ("-0", "negative"),
        (Number("NaN"), "not_finite"),
        (Number("sNaN"), "not_finite"),
        (Number("Infinity"), "not_finite"),
        (Number("-Infinity"), "not_finite"),
        ("NaN", "not_finite"),
        ("nan", "not_finite"),
        ("sNaN", "not_finite"),
        ("-inf", "not_finite"),
        ("Infinity", "not_finite"),
        ("1e2", "exponent_text"),
        ("1E2", "exponent_text"),
        ("1.5e+2", "exponent_text"),
        ("1e400", "exponent_text"),
        ("-1e2", "exponent_text"),
        (True, "boolean"),
        (False, "boolean"),
        (None, "null"),
        ([1], "list"),
        ([], "list"),
        ({"amount": 1}, "object"),
        ({}, "object"),
        (1.15, "type"),
        (float("nan"), "type"),
        (Decimal(1), "type"),
        (b"1", "type"),
        ((1,), "type"),
        (Number("1e99999999999999999999"), "type"),
        (Number("one"), "type"),
        (Number("1" * 41), "too_long"),
        (Number("1" * 5000), "too_long"),
        (Number("12.345"), "inexact"),
        (Number("0.001"), "inexact"),
        (Number("1e-3"), "inexact"),
        (Number("1e-300"), "inexact"),
        (Number("1e-999999999"), "inexact"),
        (Number("10000000000e-20"), "inexact"),
        (Number("9" * 30 + "e-99999"), "inexact"),
        (Number("1.1500000000000000000000000000000001"), "inexact"),
        ("12.345", "inexact"),
        ("1.000000001", "inexact"),
        (10**13 + 1, "above_cap"),
        (10**400, "above_cap"),
        (Number("1e14"), "above_cap"),
        (Number("1e308"), "above_cap"),
        (Number("1e99999"), "above_cap"),
        (Number("1e999999999"), "above_cap"),
        (Number("10000000000000.01"), "above_cap"),
        ("10000000000000.01", "above_cap"),
        ("999999999999999", "above_cap"),
        (0, "zero"),
        (Number("0.0"), "zero"),
        (Number("0.000"), "zero"),
        (Number("0e9"), "zero"),
        (Number("0e-99999"), "zero"),
        ("0", "zero"),
        ("0.000", "zero"),
        ("", "text_form"),
        (" ", "text_form"),
        (" 1", "text_form"),
        ("1 ", "text_form"),
        ("1\n", "text_form"),
        ("\t1", "text_form"),
        ("1\x00", "text_form"),
        ("1 000", "text_form"),
        ("1\u00a0000", "text_form"),
        ("1_000", "text_form"),
        ("1,000", "text_form"),
        ("1,15", "text_form"),
        ("1.000.000", "text_form"),
        ("+1", "text_form"),
        ("01", "text_form"),
        ("00", "text_form"),
        (".5", "text_form"),
        ("1.", "text_form"),
        ("1.0000000000", "text_form"),  # ten digits after the point
        ("1000000000000000", "text_form"),  # sixteen before it
        ("0x10", "text_form"),
        ("0b1", "text_form"),
        ("1/2", "text_form"),
        ("$1", "text_form"),
        ("1 USD", "text_form"),
        ("one", "text_form"),
        ("true", "text_form"),
        ("null", "text_form"),
        ("\u0661", "text_form"),  # Arabic
        ("1\u0661", "text_form"),
        ("1.\u0661", "text_form"),
        ("\uff11\uff10", "text_form"),  # full-width
        ("\u09e7", "text_form"),  # Bengali
        ("\u00b9", "text_form"),  # superscript
        ("\u2160", "text_form"),  # a Roman numeral of one letter
        ("\u22121", "text_form"),  # a minus sign that is not ASCII
        ("1\u200b", "text_form"),
        ("\ud800", "text_form"),
        ("1" * 100_000, "text_form"),
    ],
)
def test_what_two_readers_could_take_for_different_sums_is_refused(
    value: object, reason: str
) -> None:
    with pytest.raises(Unreadable) as refusal:
        major(value, text=True)
    assert refusal.value.reason == reason
    assert str(refusal.value).startswith("the amount ")
    # Nothing of what the agent wrote is in what people read.
    assert str(refusal.value).isascii()
    assert len(str(refusal.value)) < 120


@pytest.mark.parametrize(
    ("currency", "value", "minor_units"),
    [
        ("JPY", 115, 115),
        ("JPY", Number("115.0"), 115),
        ("JPY", Number("1.15"), None),
        ("KWD", Number("1.155"), 1155),
        ("KWD", Number("1.1555"), None),
        ("CLF", Number("0.0001"), 1),
        ("CLF", Number("0.00001"), None),
        ("USD", Number("1.155"), None),
    ],
)
def test_an_amount_is_exact_in_its_own_currency(
    currency: str, value: object, minor_units: int | None
) -> None:
    if minor_units is not None:
        assert major(value, currency) == Money(minor_units, currency)
        return
    with pytest.raises(Unreadable) as refusal:
        major(value, currency)
    assert refusal.value.reason == "inexact"


@pytest.mark.parametrize("currency", ["USD", "JPY", "KWD", "CLF"])
def test_minor_units_are_whole_whatever_the_currency(currency: str) -> None:
    assert minor(115, currency) == minor(Number("115.00"), currency) == Money(115, currency)
    assert minor(CAP, currency) == Money(CAP, currency)
    for value, reason in ((Number("1.5"), "inexact"), (CAP + 1, "above_cap")):
        with pytest.raises(Unreadable) as refusal:
            minor(value, currency)
        assert refusal.value.reason == reason


@pytest.mark.parametrize("currency", ["XAU", "XXX", "usd", "USDC", "", "US\u202eD"])
def test_an_amount_in_a_currency_that_does_not_count_is_refused(currency: str) -> None:
    with pytest.raises(Unreadable) as refusal:
        major(1, currency)
    assert refusal.value.reason == "currency"
    assert str(refusal.value).isascii()


@pytest.mark.parametrize("zero", [0, Number("0.0"), Number("0e5"), "0", "0.00"])
def test_nothing_may_be_the_price_where_the_policy_allows_it(zero: object) -> None:
    free = amount(zero, unit=Unit.MAJOR, currency="USD", text=True, allow_zero=True)
    assert free == Money(0, "USD")
    with pytest.raises(Unreadable) as refusal:
        amount(Number("-0"), unit=Unit.MAJOR, currency="USD", allow_zero=True)
    assert refusal.value.reason == "negative"


def test_a_number_too_long_to_be_written_out_is_refused_all_the_same() -> None:
    for value, reason in ((10**5000, "above_cap"), (-(10**5000), "negative")):
        with pytest.raises(Unreadable) as refusal:
            major(value)
        assert refusal.value.reason == reason


def test_a_count_is_refused_under_its_own_name() -> None:
    assert whole(3) == 3
    with pytest.raises(Unreadable, match=r"^the quantity is negative") as refusal:
        whole(-3, name="quantity")
    assert refusal.value.reason == "negative"


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e400", "1" * 400, "01", "+1"])
def test_the_reader_of_arguments_refuses_what_is_no_number_before_us(token: str) -> None:
    with pytest.raises(Unreadable):
        canonical.read(b'{"amount":%s}' % token.encode())


def test_two_amounts_under_one_name_never_get_as_far_as_being_read() -> None:
    with pytest.raises(Unreadable) as refusal:
        canonical.read(b'{"amount":1,"\\u0061mount":100000}')
    assert refusal.value.reason == "duplicate_member"


def test_a_number_with_an_exponent_is_sent_as_the_value_that_was_counted() -> None:
    arguments = canonical.read(b'{"amount":1e2}')
    assert isinstance(arguments, dict)
    assert minor(arguments["amount"]) == Money(100, "USD")
    assert canonical.canonical(arguments) == b'{"amount":100}'


# --- for any value ---

TOKENS = st.one_of(
    st.decimals(allow_nan=True, allow_infinity=True).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,5})?", fullmatch=True),
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(0, 2 * CAP),
        st.text(),
        TOKENS,
        TOKENS.map(Number),
        st.floats(),
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(VALUES, st.sampled_from(Unit), st.text(max_size=4) | CODES, st.booleans(), st.booleans())
def test_no_value_is_ever_read_as_a_negative_or_boundless_amount(
    value: object, unit: Unit, currency: str, text: bool, allow_zero: bool
) -> None:
    try:
        money = amount(value, unit=unit, currency=currency, text=text, allow_zero=allow_zero)
    except Unreadable:
        return
    assert (0 if allow_zero else 1) <= money.minor <= CAP
    assert money.currency == currency
    assert isinstance(value, int | Number) or (text and isinstance(value, str))
    shift = (ISO.exponent(currency) or 0) if unit is Unit.MAJOR else 0
    written = value.token if isinstance(value, Number) else str(value)
    assert Fraction(written) * 10**shift == money.minor


@given(MONEY)
def test_both_units_and_both_spellings_mean_the_same_money(money: Money) -> None:
    written = money.plain()["amount"]
    code = money.currency
    free = money.minor == 0
    from_minor = amount(money.minor, unit=Unit.MINOR, currency=code, allow_zero=free)
    token = Number(written)
    from_major = amount(token, unit=Unit.MAJOR, currency=code, allow_zero=free)
    assert from_minor == from_major == money
    if len(written.partition(".")[0]) <= 15:
        assert amount(written, unit=Unit.MAJOR, currency=code, text=True, allow_zero=free) == money


# --- what people type; the reasons for which it is refused are in `test_asking` ---


@given(st.builds(Money, st.integers(0, CAP - 1), CODES))
def test_an_amount_is_typed_as_it_is_shown(money: Money) -> None:
    assert read_typed(str(money)) == money


@given(st.text() | st.from_regex(r"[-+ ]?[0-9_.,eE]{0,18}.?(USD|JPY|KWD)?", fullmatch=True))
def test_what_is_typed_is_read_as_a_policy_would_read_it_or_refused(text: str) -> None:
    known = read_money(text)
    if known is not None and known.minor < CAP:
        assert read_typed(text) == known
        return
    with pytest.raises(Unreadable) as refusal:
        read_typed(text)
    assert str(refusal.value).isprintable()
