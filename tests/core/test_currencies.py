"""The table of currencies against two libraries that keep their own."""

import iso4217
import moneyed
import pytest

from approval.core.currencies import ISO, MAX_EXPONENT, Currencies

# What py-moneyed 3.0 (2022) does not know: these came later, and ISO lists them.
LATER = {"XAD", "XCG", "ZWG"}


def test_the_table_is_the_list_of_iso_without_what_has_no_minor_unit() -> None:
    listed = {each.code: each.exponent for each in iso4217.Currency}
    assert {code: exponent for code, exponent in listed.items() if exponent is not None} == dict(
        ISO.exponents
    )
    # Metals, bond market units, drawing rights, "test" and "none" have no smallest piece.
    assert {code for code, exponent in listed.items() if exponent is None} == {
        *("XAG", "XAU", "XPD", "XPT", "XBA", "XBB", "XBC", "XBD"),
        *("XDR", "XSU", "XUA", "XTS", "XXX"),
    }


def test_another_library_agrees_wherever_it_knows_the_currency() -> None:
    known = {code: each.sub_unit for code, each in moneyed.CURRENCIES.items()}
    ours = {code: 10**exponent for code, exponent in ISO.exponents.items()}
    assert ours.keys() - known.keys() == LATER
    assert {code: known[code] for code in ours.keys() & known.keys()} == {
        code: pieces for code, pieces in ours.items() if code not in LATER
    }


@pytest.mark.parametrize(
    "code",
    [
        *("XAU", "XXX", "XTS", "XDR"),  # py-moneyed divides these by one, which ISO does not
        *("BGN", "ANG", "HRK", "DEM"),  # py-moneyed still has them; they were withdrawn
        *("USDC", "BTC", "US", "", "usd", "U$D", "USD ", " USD"),
    ],
)
def test_what_is_not_listed_does_not_count(code: str) -> None:
    assert ISO.exponent(code) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("USD", "USD"),
        ("usd", "USD"),
        ("Usd", "USD"),
        ("u\u017fd", None),  # its capitals are "USD"
        ("\uff35\uff33\uff24", None),  # full-width
        ("\u0405GD", None),  # a Cyrillic letter that looks like S
        ("\ufb01", None),
        (" usd", None),
        ("us", None),
        ("", None),
    ],
)
def test_a_currency_is_found_by_ascii_letters_alone(text: str, code: str | None) -> None:
    assert ISO.code(text) == code


def test_an_operator_may_declare_units_beside_those_of_iso() -> None:
    coin = "eip155:8453/erc20:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
    units = ISO.with_units({coin: 6, "CREDIT": 0})
    assert (units.exponent(coin), units.exponent("CREDIT"), units.exponent("USD")) == (6, 0, 2)
    assert units.code(coin) == coin
    assert units.code(coin.lower()) is None
    assert ISO.exponent(coin) is None


@pytest.mark.parametrize(
    ("code", "exponent", "told"),
    [
        ("USD", 2, "USD is listed already"),
        ("USD", 3, "its decimals cannot be changed"),
        ("COIN", MAX_EXPONENT + 1, "decimals from 0 to 15"),
        ("COIN", -1, "decimals from 0 to 15"),
        ("", 2, "visible ASCII"),
        ("A B", 2, "visible ASCII"),
        ("A\n", 2, "visible ASCII"),
        ("\u0410", 2, "visible ASCII"),
    ],
)
def test_a_unit_that_could_be_misread_is_not_declared(code: str, exponent: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ISO.with_units({code: exponent})


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ISO.exponents["USD"] = 0  # type: ignore[index]
    assert Currencies({}).exponent("USD") is None
