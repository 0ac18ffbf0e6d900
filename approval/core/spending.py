"""Read what a policy says of money: a tool's `spend` table, and named price tables.

As with the rest of a policy, everything that is wrong is told at once, with a pointer and the
remedy, and a key that is not understood is an error: a price or a limit that is silently ignored
would leave money unguarded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from approval.core.currencies import ISO, Currencies
from approval.core.document import Place, kind, shown
from approval.core.money import REMEDY, Money, Unit, read_money
from approval.core.pointers import Pointer, read_pointer
from approval.core.price import (
    Actual,
    Argument,
    Ask,
    AtMost,
    Fixed,
    Notation,
    OnError,
    OnOverrun,
    OnUnknown,
    Origin,
    Per,
    Source,
    Spend,
    Sum,
    Table,
)
from approval.core.vocabulary import check_keys
from approval.errors import Unreadable

SPEND = frozenset(
    {"amount", "actual", "per_call", "meters", "on_unknown", "on_overrun", "allow_zero"}
)
_WRITTEN = frozenset({"unit", "currency", "currency_argument", "text", "inside"})
AMOUNTS: Mapping[Origin, frozenset[str]] = {
    Origin.FIXED: frozenset({"fixed", "per"}),
    Origin.TABLE: frozenset({"table", "key", "inside", "per"}),
    Origin.ARGUMENT: _WRITTEN | {"argument", "per"},
    Origin.SUM: _WRITTEN | {"each", "price", "times", "per"},
    Origin.ASK: frozenset({"ask", "up_to", "per"}),
    Origin.AT_MOST: frozenset({"at_most", "per"}),
}
ACTUAL = frozenset({"result", "unit", "currency", "currency_result", "text", "inside"})

ALWAYS = frozenset({Origin.FIXED, Origin.ASK, Origin.AT_MOST})
"""Sources that apply to every call: a less trusted one beside them would never be asked."""

PriceTable: TypeAlias = Mapping[str, Money]

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the reading of one `spend` table shares: named price tables, and units that count."""

    tables: Mapping[str, PriceTable] = field(default_factory=dict)
    currencies: Currencies = ISO
    allow_zero: bool = False


def read_spend(
    place: Place,
    *,
    tables: Mapping[str, PriceTable] | None = None,
    currencies: Currencies = ISO,
    on_error: OnError = OnError.KEEP,
) -> Spend | None:
    """Read `spend = {…}`; None after any complaint. `on_error` stands beside it, in the tool."""
    known = len(place.problems)
    check_keys(place, SPEND, "spend")
    if not isinstance(place.value, dict):
        return None
    allow_zero = _if_said(place, "allow_zero", Place.flag) or False
    given = Given(tables=tables or {}, currencies=currencies, allow_zero=allow_zero)
    spend = Spend(
        sources=_sources(place.at("amount"), given),
        actual=_if_said(place, "actual", lambda at: _actual(at, given)),
        per_call=_if_said(place, "per_call", lambda at: read_limit(at, currencies)),
        meters=_if_said(place, "meters", _names) or (),
        allow_zero=allow_zero,
        on_unknown=_if_said(place, "on_unknown", lambda at: at.word(OnUnknown)) or OnUnknown.DENY,
        on_error=on_error,
        on_overrun=_if_said(place, "on_overrun", lambda at: at.word(OnOverrun)) or OnOverrun.FREEZE,
        currencies=currencies,
    )
    _check_terms(place, spend)
    return spend if len(place.problems) == known else None


def read_tables(place: Place, *, currencies: Currencies = ISO) -> Mapping[str, PriceTable]:
    """Read named price tables: `{ numbers = { local = "1.15 USD", … }, … }`."""
    return {name: _table(member, currencies) for name, member in place.members()}


def read_limit(place: Place, currencies: Currencies = ISO) -> Money | None:
    """Read an amount above zero, such as a cap."""
    money = read_amount(place, currencies)
    if money is not None and money.minor == 0:
        place.complain("this is zero, and would allow nothing; write an amount above it")
        return None
    return money


def read_amount(place: Place, currencies: Currencies = ISO) -> Money | None:
    """Read `"1.15 USD"`."""
    money = read_money(place.value, currencies) if isinstance(place.value, str) else None
    if money is None:
        place.complain(f"this is {shown(place.value)}; {REMEDY}")
    return money


def codes(source: Source) -> set[str]:
    """Name the currencies that a source is known to be in."""
    match source:
        case Fixed(price=money) | Ask(up_to=money) | AtMost(bound=money):
            return {money.currency}
        case Table(rows=rows):
            return {money.currency for money in rows.values()}
        case Argument(notation=notation) | Sum(notation=notation):
            return {notation.currency} if isinstance(notation.currency, str) else set()


# --- sources ---


def _sources(place: Place, given: Given) -> tuple[Source, ...]:
    """Read the one source, or a list of several; they are tried in the order of trust."""
    if place.value is None:
        place.complain("the amount is missing; say where the price comes from")
        return ()
    places = tuple(place.elements()) if isinstance(place.value, list) else (place,)
    if not places:
        place.complain("an empty list names no price; say where the price comes from")
    sources = tuple(source for at in places if (source := _source(at, given)) is not None)
    origins = [source.origin for source in sources]
    if len(set(origins)) < len(origins):
        place.complain("two sources here are of one kind, and neither is trusted more; keep one")
    elif len(ALWAYS & set(origins)) > 1 or (Origin.FIXED in origins and len(origins) > 1):
        place.complain("a source here always applies, and another would never be asked; keep one")
    return sources


def _source(place: Place, given: Given) -> Source | None:
    if not isinstance(place.value, dict):
        place.complain(f'this is {kind(place.value)}; write it like {{ fixed = "1.15 USD" }}')
        return None
    origins = [origin for origin in Origin if place.has(origin)]
    if len(origins) != 1:
        place.complain(
            f"a source has exactly one of {', '.join(Origin)}; for several write a list of sources"
        )
        return None
    origin = origins[0]
    check_keys(place, AMOUNTS[origin], f"an amount by {origin}")
    per = _if_said(place, "per", lambda at: at.word(Per))
    return _READERS[origin](place, given, per)


def _fixed(place: Place, given: Given, per: Per | None) -> Fixed | None:
    price = _price(place.at("fixed"), given)
    return None if price is None else Fixed(price=price, per=per)


def _by_table(place: Place, given: Given, per: Per | None) -> Table | None:
    at, key = place.at("table"), _pointer(place.at("key"), _inside(place))
    rows = _table(at, given.currencies) if isinstance(at.value, dict) else _named(at, given)
    if not given.allow_zero and any(price.minor == 0 for price in rows.values()):
        at.complain("a price here is zero; correct it, or say allow_zero = true in spend")
    return None if key is None else Table(rows=rows, key=key, per=per)


def _by_argument(place: Place, given: Given, per: Per | None) -> Argument | None:
    inside = _inside(place)
    at, notation = _pointer(place.at("argument"), inside), _notation(place, given, inside)
    if at is None or notation is None:
        return None
    return Argument(at=at, notation=notation, per=per)


def _sum(place: Place, given: Given, per: Per | None) -> Sum | None:
    inside = _inside(place)
    each, notation = _pointer(place.at("each"), inside), _notation(place, given, inside)
    price = _pointer(place.at("price"))
    times = _if_said(place, "times", _pointer)
    if each is None or price is None or notation is None:
        return None
    return Sum(each=each, price=price, times=times, notation=notation, per=per)


def _ask(place: Place, given: Given, per: Per | None) -> Ask | None:
    if place.at("ask").value is not True:
        place.at("ask").complain(f"this is {shown(place.at('ask').value)}; write true")
    up_to = read_limit(place.at("up_to"), given.currencies)
    return None if up_to is None else Ask(up_to=up_to, per=per)


def _at_most(place: Place, given: Given, per: Per | None) -> AtMost | None:
    bound = read_limit(place.at("at_most"), given.currencies)
    return None if bound is None else AtMost(bound=bound, per=per)


_READERS: Mapping[Origin, Callable[[Place, Given, Per | None], Source | None]] = {
    Origin.FIXED: _fixed,
    Origin.TABLE: _by_table,
    Origin.ARGUMENT: _by_argument,
    Origin.SUM: _sum,
    Origin.ASK: _ask,
    Origin.AT_MOST: _at_most,
}


def _price(place: Place, given: Given) -> Money | None:
    price = read_amount(place, given.currencies)
    if price is not None and price.minor == 0 and not given.allow_zero:
        place.complain("this is zero; correct it, or say allow_zero = true in spend")
    return price


def _table(place: Place, currencies: Currencies) -> PriceTable:
    rows = {
        key: price
        for key, member in place.members()
        if (price := read_amount(member, currencies)) is not None
    }
    if place.value == {}:
        place.complain('this table has no prices; write them like { local = "1.15 USD" }')
    return rows


def _named(place: Place, given: Given) -> PriceTable:
    name = place.text()
    if name and name not in given.tables:
        known = ", ".join(sorted(given.tables)) or "none"
        place.complain(f"there is no price table {shown(name)}; there is {known}")
    return given.tables.get(name, {})


# --- how amounts are written, and where they stand ---


def _notation(place: Place, given: Given, inside: Pointer | None) -> Notation | None:
    unit = _unit(place)
    currency = _currency(place, "currency_argument", inside, given.currencies)
    text = _if_said(place, "text", Place.flag) or False
    if currency is None and not (place.has("currency") or place.has("currency_argument")):
        place.complain(
            'the currency is missing; write currency = "USD", or currency_argument = "/currency"'
        )
    if unit is None or currency is None:
        return None
    return Notation(
        unit=unit,
        currency=currency,
        text=text,
        allow_zero=given.allow_zero,
        currencies=given.currencies,
    )


def _actual(place: Place, given: Given) -> Actual | None:
    check_keys(place, ACTUAL, "actual")
    if not isinstance(place.value, dict):
        return None
    inside = _inside(place)
    at, unit = _pointer(place.at("result"), inside), _unit(place)
    currency = _currency(place, "currency_result", inside, given.currencies)
    text = _if_said(place, "text", Place.flag) or False
    if at is None or unit is None:
        return None
    return Actual(at=at, unit=unit, currency=currency, text=text)


def _unit(place: Place) -> Unit | None:
    if place.has("unit"):
        return place.at("unit").word(Unit)
    place.complain('the unit is missing; write unit = "minor" (cents) or "major" (dollars)')
    return None


def _currency(
    place: Place, pointed: str, inside: Pointer | None, currencies: Currencies
) -> str | Pointer | None:
    if place.has("currency") and place.has(pointed):
        place.complain(f"currency and {pointed} say the same thing twice; keep one of them")
        return None
    if place.has(pointed):
        return _pointer(place.at(pointed), inside)
    return _if_said(place, "currency", lambda at: _code(at, currencies))


def _code(place: Place, currencies: Currencies) -> str | None:
    if isinstance(place.value, str) and currencies.exponent(place.value) is not None:
        return place.value
    place.complain(f'this is {shown(place.value)}; write the code of a currency, such as "USD"')
    return None


def _inside(place: Place) -> Pointer | None:
    """Read which text holds the JSON that the other pointers of a source lead into."""
    return _if_said(place, "inside", _pointer)


def _pointer(place: Place, inside: Pointer | None = None) -> Pointer | None:
    if not isinstance(place.value, str):
        place.complain(f'this is {kind(place.value)}; write a pointer such as "/amount"')
        return None
    try:
        return read_pointer(place.value, inside=inside)
    except Unreadable as error:
        place.complain(str(error))
        return None


# --- terms that hold together ---


def _check_terms(place: Place, spend: Spend) -> None:
    origins = {source.origin for source in spend.sources}
    if Origin.AT_MOST in origins and not place.has("actual"):
        place.complain(
            "at_most is only a bound; write actual = { result = …, unit = … }, where the upstream's"
            " result says what was spent"
        )
    if spend.on_unknown is OnUnknown.GATE and not place.has("per_call"):
        place.complain(
            'with on_unknown = "gate" per_call is reserved until an approver types the amount;'
            " write per_call"
        )
    for source in spend.sources:
        _check_per_call(place.at("per_call"), source, spend)


def _check_per_call(place: Place, source: Source, spend: Spend) -> None:
    cap = spend.per_call
    if cap is None:
        return
    if any(code != cap.currency for code in codes(source)):
        place.complain(f"this is in {cap.currency}, and the amount is not; write both in one")
        return
    match source:
        case Fixed(price=most) | Ask(up_to=most) | AtMost(bound=most) if most > cap:
            told = most.text(spend.currencies)
            place.complain(f"this is below the amount, {told}; no such call could ever pass")
        case _:
            pass


def _names(place: Place) -> tuple[str, ...]:
    return tuple(str(at.value) for at in place.names())


def _if_said(place: Place, key: str, read: Callable[[Place], Value | None]) -> Value | None:
    return read(place.at(key)) if place.has(key) else None
