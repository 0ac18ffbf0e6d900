"""Where the price of a call comes from, and what must be set aside for it before it may run.

A policy may name several sources. The most trusted one that applies wins: a price the operator
wrote, then one the agent states, then the approver, then a bound that only the upstream's answer
settles. The next is tried only where nothing was said at all; what was said and cannot be relied
on ends the search, for otherwise a worthless amount would buy a lower bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, TypeAlias

from approval.core.canonical import quoted
from approval.core.currencies import ISO, Currencies
from approval.core.money import Money, Unit, amount, whole
from approval.core.pointers import Pointer
from approval.errors import Unreadable

MAX_ITEMS = 1000
"""What a sum adds up at most; judging a call has to end soon."""

FALLS_THROUGH = frozenset({"absent", "unknown_key"})
"""Nothing was said, or nothing this table knows: the next source is tried."""

UNSAID = frozenset({"absent", "missing"})
"""There is nothing where an amount would stand."""

ASKABLE = FALLS_THROUGH | {"missing"}
"""What an approver may make up for (`on_unknown = "gate"`). An amount that is there and cannot be
read, or is in no known currency, is denied whatever the policy says of unknown ones."""


class Origin(StrEnum):
    """The sources of a price, by the key that policies write; the most trusted first."""

    FIXED = "fixed"
    TABLE = "table"
    ARGUMENT = "argument"
    SUM = "each"
    ASK = "ask"
    AT_MOST = "at_most"


class Per(StrEnum):
    """How a price that recurs is worded on the card. It is counted once all the same."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


class OnUnknown(StrEnum):
    """What becomes of a call whose amount nobody stated."""

    DENY = "deny"
    GATE = "gate"


class OnError(StrEnum):
    """What becomes of the money when the upstream answers with an error. It may have spent it."""

    KEEP = "keep"
    VOID = "void"
    POST = "post"


class OnOverrun(StrEnum):
    """What follows when the upstream took more than was approved."""

    FREEZE = "freeze"
    ALERT = "alert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Why there is no amount: a stable code, and a sentence for people."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a call costs as far as anybody knows before it ran.

    Without `reserve` the call is denied, and `why` says so. With `must_type`, what is reserved is
    the most an approver may type, and nothing runs until one did (`why` then tells them what is
    missing, if anything). With `needs_actual` the upstream's own figure settles it.
    """

    origin: Origin | None = None
    reserve: Money | None = None
    per: Per | None = None
    must_type: bool = False
    needs_actual: bool = False
    why: Unknown | None = None

    @property
    def amount(self) -> Money | None:
        """What conditions may judge: nothing, while an approver has yet to say it."""
        return None if self.must_type else self.reserve


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """That whoever approves a call types what it costs, at most `up_to`."""

    up_to: Money
    allow_zero: bool = False

    def check(self, typed: Money) -> None:
        """Hold what was typed against the bound.

        Raises:
            Unreadable: With one reason each for another `currency`, for more than the bound
                (`above_bound`), and for `zero` where the policy does not allow it.
        """
        if typed.currency != self.up_to.currency:
            told = f"the amount must be in {self.up_to.currency}, and {typed} is not"
            raise Unreadable("currency", told)
        if typed > self.up_to:
            told = f"{typed} is above {self.up_to}, the most that may be typed for this call"
            raise Unreadable("above_bound", told)
        if typed.minor == 0 and not self.allow_zero:
            raise Unreadable("zero", "the amount is zero, which the policy does not allow")

    def admits(self, typed: Money) -> bool:
        """Say whether this may be typed."""
        try:
            self.check(typed)
        except Unreadable:
            return False
        return True

    def and_also(self, other: "Asking") -> "Asking":
        """Join what two policies let an approver type, in one currency: the lower bound."""
        return Asking(
            up_to=min(self.up_to, other.up_to), allow_zero=self.allow_zero and other.allow_zero
        )


# --- how amounts are written ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Notation:
    """How a document writes amounts. `currency` is fixed by the policy, or where it is named."""

    unit: Unit
    currency: str | Pointer
    text: bool = False
    allow_zero: bool = False
    currencies: Currencies = ISO

    def code(self, document: object) -> str:
        """Find the currency.

        Raises:
            Unreadable: `currency`, if it is not named or does not count here.
        """
        if isinstance(self.currency, str):
            return self.currency
        where = quoted(self.currency.text)
        try:
            named = self.currency.find(document)
        except Unreadable as error:
            raise Unreadable("currency", f"no currency is named: {error}") from None
        code = self.currencies.code(named) if isinstance(named, str) else None
        if code is None:
            told = f'"{quoted(named, 20)}"' if isinstance(named, str) else "no text"
            raise Unreadable(
                "currency", f'at "{where}" there is {told}, and no currency known here'
            )
        return code

    def money(self, value: object, code: str, where: str) -> Money:
        try:
            return amount(
                value,
                unit=self.unit,
                currency=code,
                text=self.text,
                allow_zero=self.allow_zero,
                currencies=self.currencies,
            )
        except Unreadable as error:
            raise _located(error, where) from None


# --- the sources ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """One price for every call."""

    origin: ClassVar[Origin] = Origin.FIXED
    price: Money
    per: Per | None = None

    def find(self, arguments: object) -> Quote:
        return Quote(origin=self.origin, reserve=self.price, per=self.per)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A price for each text that an argument may be. Any other text has no price."""

    origin: ClassVar[Origin] = Origin.TABLE
    rows: Mapping[str, Money]
    key: Pointer
    per: Per | None = None

    def find(self, arguments: object) -> Quote:
        """Look the price up.

        Raises:
            Unreadable: If the key cannot be found, is no text, or is an `unknown_key`.
        """
        key = self.key.find(arguments)
        where = quoted(self.key.text)
        if not isinstance(key, str):
            raise Unreadable("key_type", f'at "{where}" there is no text to look a price up by')
        if key not in self.rows:
            raise Unreadable(
                "unknown_key", f'at "{where}" there is "{quoted(key, 40)}", which has no price'
            )
        return Quote(origin=self.origin, reserve=self.rows[key], per=self.per)


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """The amount that the agent states."""

    origin: ClassVar[Origin] = Origin.ARGUMENT
    at: Pointer
    notation: Notation
    per: Per | None = None

    def find(self, arguments: object) -> Quote:
        """Read the amount.

        Raises:
            Unreadable: If there is none that can be relied on.
        """
        value = self.at.find(arguments)
        code = self.notation.code(arguments)
        stated = self.notation.money(value, code, self.at.text)
        return Quote(origin=self.origin, reserve=stated, per=self.per)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """The sum over a list of the agent's: each item's price, times its quantity if it has one."""

    origin: ClassVar[Origin] = Origin.SUM
    each: Pointer
    price: Pointer
    times: Pointer | None
    notation: Notation
    per: Per | None = None

    def find(self, arguments: object) -> Quote:
        """Add up.

        Raises:
            Unreadable: If any item cannot be relied on, or the sum is beyond the cap.
        """
        items = self.each.find(arguments)
        where = quoted(self.each.text)
        if not isinstance(items, list):
            raise Unreadable("not_a_list", f'at "{where}" there is no list to add up')
        if len(items) > MAX_ITEMS:
            raise Unreadable(
                "too_many_items", f'at "{where}" there are more than {MAX_ITEMS} items'
            )
        code = self.notation.code(arguments)
        total = sum(
            self._product(item, code, f"{self.each.text}/{index}")
            for index, item in enumerate(items)
        )
        # As one more amount: it may be zero or above the cap though no part of it was.
        counted = replace(self.notation, unit=Unit.MINOR).money(total, code, self.each.text)
        return Quote(origin=self.origin, reserve=counted, per=self.per)

    def _product(self, item: object, code: str, where: str) -> int:
        price = _part(self.price, item, where)
        unit_price = self.notation.money(price, code, where + self.price.text).minor
        if self.times is None:
            return unit_price
        times = _part(self.times, item, where)
        try:
            notation = self.notation
            return unit_price * whole(
                times, text=notation.text, allow_zero=notation.allow_zero, name="quantity"
            )
        except Unreadable as error:
            raise _located(error, where + self.times.text) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The approver types it (`Asking`); until then the most they may type is reserved."""

    origin: ClassVar[Origin] = Origin.ASK
    up_to: Money
    per: Per | None = None

    def find(self, arguments: object) -> Quote:
        return Quote(origin=self.origin, reserve=self.up_to, per=self.per, must_type=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class AtMost:
    """A bound for what is metered; the upstream's answer has to say what it was."""

    origin: ClassVar[Origin] = Origin.AT_MOST
    bound: Money
    per: Per | None = None

    def find(self, arguments: object) -> Quote:
        return Quote(origin=self.origin, reserve=self.bound, per=self.per, needs_actual=True)


Source: TypeAlias = Fixed | Table | Argument | Sum | Ask | AtMost


# --- what a policy says of a tool's money ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Actual:
    """Where the upstream's result says what was spent; the currency is the reserved one if None."""

    at: Pointer
    unit: Unit
    currency: str | Pointer | None = None
    text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """Everything a policy says about the money of a tool. `meters` are names."""

    sources: tuple[Source, ...]
    actual: Actual | None = None
    per_call: Money | None = None
    meters: tuple[str, ...] = ()
    allow_zero: bool = False
    on_unknown: OnUnknown = OnUnknown.DENY
    on_error: OnError = OnError.KEEP
    on_overrun: OnOverrun = OnOverrun.FREEZE
    currencies: Currencies = ISO

    def quote(self, arguments: object) -> Quote:
        """Say what a call with these arguments costs, or why nobody can tell. Never raises."""
        quote = self._first_match(arguments)
        if quote.reserve is not None:
            return self._within_terms(quote, quote.reserve)
        unstated = quote.why is not None and quote.why.reason in ASKABLE
        if unstated and self.on_unknown is OnUnknown.GATE and self.per_call is not None:
            return replace(quote, reserve=self.per_call, must_type=True)
        return quote

    def _first_match(self, arguments: object) -> Quote:
        quote = Quote(why=Unknown(reason="absent", text="The policy names no price."))
        for source in sorted(self.sources, key=_trust):
            try:
                return source.find(arguments)
            except Unreadable as error:
                quote = Quote(origin=source.origin, per=source.per, why=_unknown(error))
                if error.reason not in FALLS_THROUGH:
                    break
        return quote

    def _within_terms(self, quote: Quote, reserve: Money) -> Quote:
        told, most = reserve.text(self.currencies), self.per_call
        if reserve.minor == 0 and not self.allow_zero:
            return _refused(quote, "zero", "The price is zero, which the policy does not allow.")
        if most is not None and most.currency != reserve.currency:
            text = f"The price is {told}, and the most for one call is given in {most.currency}."
            return _refused(quote, "currency", text)
        if most is not None and reserve > most:
            text = f"This call costs {told}; the most for one call is {most.text(self.currencies)}."
            return _refused(quote, "per_call", text)
        return quote


def actual(spend: Spend, result: object, *, currency: str) -> Money | Unknown:
    """Read what the upstream says it took, where `currency` is what was reserved in.

    What cannot be relied on frees nothing: the caller keeps what is reserved.
    """
    said = spend.actual
    if said is None:
        return Unknown(reason="not_declared", text="The policy names no place for what was spent.")
    notation = Notation(
        unit=said.unit,
        currency=said.currency or currency,
        text=said.text,
        allow_zero=spend.allow_zero,
        currencies=spend.currencies,
    )
    try:
        code = notation.code(result)
        took = notation.money(said.at.find(result), code, said.at.text)
    except Unreadable as error:
        return _unknown(error)
    if code != currency:
        text = f"The upstream says it took {code}, and what is reserved is {quoted(currency)}."
        return Unknown(reason="currency", text=text)
    return took


def _trust(source: Source) -> int:
    return list(Origin).index(source.origin)


def _part(pointer: Pointer, item: object, where: str) -> object:
    try:
        return pointer.find(item, above=where)
    except Unreadable as error:
        # The list is there: an item without a price is no reason to look for another source.
        reason = "missing" if error.reason == "absent" else error.reason
        raise Unreadable(reason, str(error)) from None


def _located(error: Unreadable, where: str) -> Unreadable:
    return Unreadable(error.reason, f'at "{quoted(where)}" {error}')


def _unknown(error: Unreadable) -> Unknown:
    told = str(error)
    return Unknown(reason=error.reason, text=f"{told[:1].upper()}{told[1:]}.")


def _refused(quote: Quote, reason: str, text: str) -> Quote:
    why = Unknown(reason=reason, text=text)
    return Quote(origin=quote.origin, per=quote.per, why=why)
