"""Money: whole minor units of one currency, and the strict reading of amounts that agents send.

No float is ever made, and nothing is rounded: an amount that is not exact in its currency is
refused, as is everything two readers could take for different sums. `Money` is never negative, so
that no amount can give back what a meter has counted.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import total_ordering
from typing import Self

from typing_extensions import override

from approval.core.canonical import MAX_NUMBER, Number, quoted
from approval.core.currencies import ISO, Currencies
from approval.errors import Unreadable

CAP = 10**15
"""The largest amount, in minor units: sums of a few stay far from what 64 bits hold."""

REMEDY = 'write it like "1.15 USD": digits, the decimals of the currency or none, and its code'


class Unit(StrEnum):
    """What the number 115 means for dollars: 1.15 in minor units, 115.00 in major ones."""

    MINOR = "minor"
    MAJOR = "major"


@total_ordering
@dataclass(frozen=True, slots=True)
class Money:
    """An amount from zero to `CAP`. Only like currencies add, subtract and have an order."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.minor) is not int or not self.currency:
            raise TypeError("money is a whole number of minor units, and a currency")
        if not 0 <= self.minor <= CAP:
            raise ValueError("an amount is from zero to 10^15 minor units")

    @classmethod
    def parse(cls, text: str, currencies: Currencies = ISO) -> Self:
        """Read an amount as people write it into a policy: `"1.15 USD"`.

        The decimals are all there or not at all: where a point separates thousands, `"1.150 USD"`
        is another sum.

        Raises:
            ValueError: If it is written in any other way; the text names the remedy.
        """
        digits, _, code = text.partition(" ")
        exponent = currencies.exponent(code)
        if exponent is None:
            raise ValueError(f'there is no currency in "{quoted(text, 40)}"; {REMEDY}')
        found = _DIGITS.fullmatch(digits)
        if found is None or len(found[2] or "") not in {0, exponent}:
            raise ValueError(f'"{quoted(text, 40)}" is no amount; {REMEDY}')
        minor = int(found[1] + (found[2] or "0" * exponent))
        if minor > CAP:
            raise ValueError(f'"{quoted(text, 40)}" is beyond 10^15 minor units; write less')
        return cls(minor, code)

    @override
    def __str__(self) -> str:
        return self.text()

    def text(self, currencies: Currencies = ISO) -> str:
        """Write `"1.15 USD"`; of a unit that is not listed nobody knows the decimals."""
        exponent = currencies.exponent(self.currency)
        if exponent is None:
            return f"{self.minor} smallest units of {quoted(self.currency)}"
        return f"{_decimals(self.minor, exponent)} {self.currency}"

    def plain(self, currencies: Currencies = ISO) -> Mapping[str, str]:
        """Give what the API says: `{"amount": "1.15", "currency": "USD"}`.

        Raises:
            ValueError: If the currency is not listed.
        """
        exponent = currencies.exponent(self.currency)
        if exponent is None:
            raise ValueError(f"the decimals of {quoted(self.currency)} are not known; declare it")
        return {"amount": _decimals(self.minor, exponent), "currency": self.currency}

    def __add__(self, other: "Money") -> "Money":
        self._check_like(other)
        return Money(self.minor + other.minor, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        """Take away. There are no debts: what would fall below zero is a ValueError."""
        self._check_like(other)
        return Money(self.minor - other.minor, self.currency)

    def __lt__(self, other: "Money") -> bool:
        self._check_like(other)
        return self.minor < other.minor

    def _check_like(self, other: "Money") -> None:
        if self.currency != other.currency:
            raise ValueError(
                f"{quoted(self.currency)} and {quoted(other.currency)} are never compared or added"
            )


def read_money(text: str, currencies: Currencies = ISO) -> Money | None:
    """Read `"1.15 USD"`, else None. See `Money.parse`."""
    try:
        return Money.parse(text, currencies)
    except ValueError:
        return None


# --- what people type ---


def read_typed(text: str) -> Money:
    """Read an amount that a person typed, `"12.34 USD"`: nothing is rounded, and nothing guessed.

    Raises:
        Unreadable: With one reason each, as `amount` has them for text; for a `currency` that is
            unknown or missing; and for `decimals` that are too few or too many to say which sum is
            meant (`12.5 USD`, `1.150 USD`).
    """
    digits, _, code = text.partition(" ")
    exponent = ISO.exponent(code)
    if exponent is None:
        raise Unreadable("currency", f'"{quoted(text, 40)}" names no currency; {REMEDY}')
    try:
        typed = amount(digits, unit=Unit.MAJOR, currency=code, text=True, allow_zero=True)
    except Unreadable as error:
        raise Unreadable(error.reason, f'"{quoted(text, 40)}": {error}') from None
    if len(digits.partition(".")[2]) not in {0, exponent}:
        raise Unreadable("decimals", f'"{quoted(text, 40)}" could be two sums; {REMEDY}')
    return typed


# --- what agents send ---


def amount(
    value: object,
    *,
    unit: Unit,
    currency: str,
    text: bool = False,
    allow_zero: bool = False,
    currencies: Currencies = ISO,
) -> Money:
    """Read an amount among arguments, as `canonical.read` gives them.

    A number counts by its value, however it is written: `1e2` is exactly 100, and its canonical
    form, which is what the upstream gets, is `100`. Text counts only with `text`, and only as
    plain digits, because readers differ on everything else.

    Raises:
        Unreadable: With one reason each for a `negative` amount (-0 too), one that is
            `not_finite`, `inexact` in its currency, `above_cap`, `zero` or in an unknown
            `currency`; for `text_not_allowed`, `exponent_text`, `text_form` and a number that is
            `too_long`; and for a `boolean`, `null`, `list`, `object` or anything of another `type`.
    """
    exponent = currencies.exponent(currency)
    if exponent is None:
        raise Unreadable("currency", f'there is no currency "{quoted(currency, 20)}" here')
    shift = exponent if unit is Unit.MAJOR else 0
    return Money(whole(value, shift=shift, text=text, allow_zero=allow_zero), currency)


def whole(
    value: object,
    *,
    shift: int = 0,
    text: bool = False,
    allow_zero: bool = False,
    name: str = "amount",
) -> int:
    """Read a number that is whole once its point is moved by `shift` digits, from zero to `CAP`.

    Raises:
        Unreadable: As `amount` does, with `name` for what it is.
    """
    try:
        minor = _scaled(*_exact(value, text=text), shift)
        _check_zero(minor, allowed=allow_zero)
    except Unreadable as error:
        raise Unreadable(error.reason, f"the {name} {error}") from None
    return minor


_DIGITS = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.([0-9]{1,15}))?")
_TEXT = re.compile(r"(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,9})?")
_EXPONENT_TEXT = re.compile(r"[+-]?[0-9]*\.?[0-9]+[eE][+-]?[0-9]+")
_NOT_FINITE_TEXT = re.compile(r"[+-]?(?:s?nan|inf(?:inity)?)", re.IGNORECASE)

_REFUSED_TYPES: Mapping[type, tuple[str, str]] = {
    bool: ("boolean", "true or false"),
    type(None): ("null", "null"),
    list: ("list", "a list"),
    dict: ("object", "an object"),
}


def _exact(value: object, *, text: bool) -> tuple[int, int]:
    """Give the digits of a finite value that is not negative, and their power of ten."""
    if isinstance(value, str):
        return _parts(_text_value(value, allowed=text))
    if isinstance(value, Number):
        return _parts(_token_value(value.token))
    if type(value) is not int:
        reason, named = _REFUSED_TYPES.get(type(value), ("type", "of no type that JSON has"))
        raise Unreadable(reason, f"is {named}; it must be a number")
    if value < 0:
        raise _negative()
    return value, 0


def _text_value(value: str, *, allowed: bool) -> Decimal:
    if not allowed:
        raise Unreadable(
            "text_not_allowed", "is text; it must be a number, unless the policy says text = true"
        )
    # Before any pattern, which backtracks: 100,000 digits kept one busy for 47 seconds.
    if len(value) > MAX_NUMBER:
        raise Unreadable("text_form", f"is text of more than {MAX_NUMBER} characters; write digits")
    if _TEXT.fullmatch(value):
        return Decimal(value)
    if _NOT_FINITE_TEXT.fullmatch(value):
        raise _not_finite()
    if _EXPONENT_TEXT.fullmatch(value):
        raise Unreadable("exponent_text", "is text with an exponent; write it in digits")
    if value.startswith("-") and _TEXT.fullmatch(value[1:]):
        raise _negative()
    raise Unreadable("text_form", "is text, but not plain digits with at most nine after a point")


def _token_value(token: str) -> Decimal:
    if len(token) > MAX_NUMBER:
        raise Unreadable("too_long", f"has more than {MAX_NUMBER} characters")
    try:
        return Decimal(token)
    except InvalidOperation:
        raise Unreadable("type", "is no number that can be read") from None


def _parts(value: Decimal) -> tuple[int, int]:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise _not_finite()
    # -0 is equal to zero, and yet a sign that no amount has.
    if sign:
        raise _negative()
    return int("".join(map(str, digits))), exponent


def _scaled(digits: int, exponent: int, shift: int) -> int:
    """Move the point by whole numbers alone: decimals would round at their context's precision."""
    places = exponent + shift
    if digits == 0:
        return 0
    # Bounded: no power of ten is built only because an agent wrote a large exponent.
    if places >= 0:
        minor: int = digits * 10 ** min(places, 16)
    else:
        divisor: int = 10 ** min(-places, MAX_NUMBER)
        minor, rest = divmod(digits, divisor)
        if rest:
            raise Unreadable(
                "inexact", "is no whole number of the smallest unit; nothing is rounded"
            )
    if minor > CAP:
        raise Unreadable("above_cap", "is beyond 10^15 of the smallest unit")
    return minor


def _check_zero(minor: int, *, allowed: bool) -> None:
    if minor == 0 and not allowed:
        raise Unreadable("zero", "is zero; a call for nothing needs allow_zero in the policy")


def _decimals(minor: int, exponent: int) -> str:
    if exponent == 0:
        return str(minor)
    digits = str(minor).zfill(exponent + 1)
    return f"{digits[:-exponent]}.{digits[-exponent:]}"


def _negative() -> Unreadable:
    return Unreadable("negative", "is negative; it must be above zero")


def _not_finite() -> Unreadable:
    return Unreadable("not_finite", "is not finite; it must be a plain number")
