"""A policy's words about money become values, or complaints that name the place and the remedy."""

import json
import tomllib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.core.canonical import Number
from approval.core.currencies import ISO
from approval.core.document import Place, open_document
from approval.core.money import Money, Unit
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
    Per,
    Source,
    Spend,
    Sum,
    Table,
)
from approval.core.spending import read_limit, read_spend, read_tables
from tests.core.prices import CENTS, at, usd

ROWS = {"local": usd(115), "toll-free": usd(215)}
BY_AMOUNT = {"argument": "/amount", "unit": "minor", "currency": "USD"}
ACTUAL = {"result": "/structuredContent/amount", "unit": "minor"}


def place(value: object) -> Place:
    return Place(source="p.toml", pointer="/tools/buy/spend", value=value)


def read(value: object, **tables: dict[str, Money]) -> Spend:
    at = place(value)
    spend = read_spend(at, tables=tables)
    assert at.problems == []
    assert spend is not None
    return spend


def complaints(value: object) -> list[str]:
    at = place(value)
    assert read_spend(at, tables={"numbers": ROWS}) is None
    prefix = "p.toml: /tools/buy/spend"
    assert all(problem.startswith(prefix) for problem in at.problems)
    return [problem.removeprefix(prefix) for problem in at.problems]


# --- what is understood ---


@pytest.mark.parametrize(
    ("amount", "source"),
    [
        ({"fixed": "1.15 USD"}, Fixed(price=usd(115))),
        ({"fixed": "1.15 USD", "per": "month"}, Fixed(price=usd(115), per=Per.MONTH)),
        ({"table": "numbers", "key": "/type"}, Table(rows=ROWS, key=at("/type"))),
        (
            {"table": {"local": "1.15 USD"}, "key": "/type", "inside": "/data", "per": "year"},
            Table(rows={"local": usd(115)}, key=at("/type", "/data"), per=Per.YEAR),
        ),
        (BY_AMOUNT, Argument(at=at("/amount"), notation=CENTS)),
        (
            {
                "argument": "/a/v",
                "unit": "major",
                "currency_argument": "/a/c",
                "text": True,
                "inside": "/data",
            },
            Argument(
                at=at("/a/v", "/data"),
                notation=Notation(unit=Unit.MAJOR, currency=at("/a/c", "/data"), text=True),
            ),
        ),
        (
            {
                "each": "/items",
                "price": "/unit_amount",
                "times": "/quantity",
                "unit": "minor",
                "currency": "USD",
            },
            Sum(each=at("/items"), price=at("/unit_amount"), times=at("/quantity"), notation=CENTS),
        ),
        (
            {"each": "/items", "price": "/unit_amount", "unit": "minor", "currency": "USD"},
            Sum(each=at("/items"), price=at("/unit_amount"), times=None, notation=CENTS),
        ),
        ({"ask": True, "up_to": "500.00 USD"}, Ask(up_to=usd(50000))),
    ],
)
def test_every_source_is_read_as_it_is_written(amount: dict[str, object], source: Source) -> None:
    assert read({"amount": amount}, numbers=ROWS) == Spend(sources=(source,))
    assert read({"amount": [amount]}, numbers=ROWS) == Spend(sources=(source,))


def test_everything_that_may_be_said_of_money() -> None:
    spend = {
        "amount": [BY_AMOUNT, {"at_most": "20.00 USD"}],
        "actual": {"result": "/x", "inside": "/content/0/text", "unit": "major", "text": True},
        "per_call": "25.00 USD",
        "meters": ["day", "month"],
        "on_unknown": "gate",
        "on_overrun": "alert",
        "allow_zero": True,
    }
    free = Notation(unit=Unit.MINOR, currency="USD", allow_zero=True)
    assert read_spend(place(spend), on_error=OnError.VOID) == Spend(
        sources=(Argument(at=at("/amount"), notation=free), AtMost(bound=usd(2000))),
        actual=Actual(at=at("/x", "/content/0/text"), unit=Unit.MAJOR, text=True),
        per_call=usd(2500),
        meters=("day", "month"),
        on_unknown=OnUnknown.GATE,
        on_error=OnError.VOID,
        on_overrun=OnOverrun.ALERT,
        allow_zero=True,
    )


def test_what_is_not_said_is_the_cautious_choice() -> None:
    spend = read({"amount": {"fixed": "1.15 USD"}})
    assert (spend.on_unknown, spend.on_error, spend.on_overrun) == ("deny", "keep", "freeze")
    assert (spend.allow_zero, spend.per_call, spend.actual, spend.meters) == (False, None, None, ())


@pytest.mark.parametrize(
    ("said", "currency"),
    [
        ({}, None),
        ({"currency": "EUR"}, "EUR"),
        ({"currency_result": "/currency"}, at("/currency")),
    ],
)
def test_what_was_spent_may_name_its_currency(said: dict[str, object], currency: object) -> None:
    spend = read({"amount": BY_AMOUNT, "actual": {**ACTUAL, **said}})
    assert spend.actual is not None
    assert spend.actual.currency == currency


def test_one_meter_may_be_written_as_text() -> None:
    assert read({"amount": BY_AMOUNT, "meters": "day"}).meters == ("day",)


def test_a_policy_written_by_people_is_read() -> None:
    text = """
    [numbers]
    title = "buy a phone number"
    spend = { amount = { fixed = "1.15 USD", per = "month" }, meters = ["numbers-day"] }
    [transfer.spend]
    amount = { argument = "/amount", unit = "major", currency = "USD" }
    per_call = "100.00 USD"
    meters = ["transfer-day"]
    [charge.spend]
    amount = { argument = "/amount", unit = "minor", currency_argument = "/currency" }
    actual = { result = "/structuredContent/amount", unit = "minor" }
    per_call = "2500.00 USD"
    meters = ["team-day", "agent-month"]
    """
    root = open_document(tomllib.loads(text, parse_float=Decimal), source="p.toml").root
    spends = {name: read_spend(tool.at("spend")) for name, tool in root.members()}
    assert root.problems == []
    charge, transfer = spends["charge"], spends["transfer"]
    assert charge is not None
    assert charge.quote({"amount": 2500, "currency": "usd"}).reserve == usd(2500)
    assert transfer is not None
    assert transfer.quote({"amount": Number("99.99")}).reserve == usd(9999)
    assert transfer.quote({"amount": Number("100.01")}).reserve is None


def test_units_that_an_operator_declared_count_wherever_money_is_written() -> None:
    units = ISO.with_units({"COIN": 6})
    spend = {
        "amount": {"argument": "/value", "unit": "minor", "currency": "COIN", "text": True},
        "per_call": "2.500000 COIN",
    }
    here = place(spend)
    read_by = read_spend(here, currencies=units)
    assert read_by is not None
    assert read_by.quote({"value": "2500000"}).reserve == Money(2_500_000, "COIN")
    over = read_by.quote({"value": "2500001"}).why
    assert over is not None
    assert over.text == "This call costs 2.500001 COIN; the most for one call is 2.500000 COIN."
    assert len(complaints(spend)) == 2


# --- what is complained of ---

POINTER = 'write a pointer such as "/amount"'
MONEY = 'write it like "1.15 USD": digits, the decimals of the currency or none, and its code'


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        ("1.15 USD", ': this is text; write it like { fixed = "1.15 USD" }'),
        (115, ': this is a number; write it like { fixed = "1.15 USD" }'),
        ({}, ": a source has exactly one of fixed, table, argument, each, ask, at_most; for"),
        ({"fixed": "1.15 USD", "ask": True}, ": a source has exactly one of fixed, table"),
        ([], ": an empty list names no price; say where the price comes from"),
        (None, ": the amount is missing; say where the price comes from"),
        ({"fixed": "1.15"}, f"/fixed: this is '1.15'; {MONEY}"),
        ({"fixed": 1}, f"/fixed: this is 1; {MONEY}"),
        ({"fixed": "1,15 USD"}, f"/fixed: this is '1,15 USD'; {MONEY}"),
        ({"fixed": "1.150 USD"}, f"/fixed: this is '1.150 USD'; {MONEY}"),
        ({"fixed": "-1.15 USD"}, f"/fixed: this is '-1.15 USD'; {MONEY}"),
        ({"fixed": "1.15 XAU"}, f"/fixed: this is '1.15 XAU'; {MONEY}"),
        ({"fixed": "0.00 USD"}, "/fixed: this is zero; correct it, or say allow_zero = true"),
        ({"fixed": "1.15 USD", "per": "fortnight"}, "/per: this is 'fortnight'; write one of day"),
        ({"fixed": "1.15 USD", "unit": "minor"}, "/unit: there is no key unit in an amount by"),
        ({"table": "prices", "key": "/t"}, "/table: there is no price table 'prices'; there is n"),
        ({"table": "", "key": "/t"}, "/table: this is blank; write text"),
        ({"table": {}, "key": "/t"}, "/table: this table has no prices; write them like"),
        ({"table": {"a": "1"}, "key": "/t"}, f"/table/a: this is '1'; {MONEY}"),
        ({"table": {"a": "0 USD"}, "key": "/t"}, "/table: a price here is zero; correct it, or"),
        ({"table": "numbers"}, f"/key: this is nothing; {POINTER}"),
        ({"table": "numbers", "key": "type"}, '/key: "type" is no pointer; write it like "/amount'),
        ({**BY_AMOUNT, "argument": 5}, f"/argument: this is a number; {POINTER}"),
        ({**BY_AMOUNT, "argument": "args.amount"}, '/argument: "args.amount" is no pointer; write'),
        ({**BY_AMOUNT, "argument": "/a~2"}, "/argument: in a pointer ~ is written ~0"),
        ({**BY_AMOUNT, "inside": "data"}, '/inside: "data" is no pointer; write it like "/amount"'),
        ({**BY_AMOUNT, "unit": "cents"}, "/unit: this is 'cents'; write one of minor, major"),
        ({**BY_AMOUNT, "currency": "usd"}, "/currency: this is 'usd'; write the code of a curren"),
        ({**BY_AMOUNT, "currency": "XXX"}, "/currency: this is 'XXX'; write the code of a curren"),
        ({**BY_AMOUNT, "currency": None}, "/currency: this is None; write the code of a currency"),
        ({**BY_AMOUNT, "text": "yes"}, "/text: this is 'yes'; write true or false"),
        ({**BY_AMOUNT, "currency_argument": "/c"}, ": currency and currency_argument say the same"),
        ({**BY_AMOUNT, "curency": "USD"}, "/curency: there is no key curency in an amount by arg"),
        ({"argument": "/a", "currency": "USD"}, ': the unit is missing; write unit = "minor" (cen'),
        ({"argument": "/a", "unit": "minor"}, ': the currency is missing; write currency = "USD"'),
        (
            {"argument": "/a", "unit": "minor", "currency_argument": "c"},
            '/currency_argument: "c" is no pointer; write it like "/amount"',
        ),
        (
            {"each": "/items", "unit": "minor", "currency": "USD"},
            f"/price: this is nothing; {POINTER}",
        ),
        (
            {"each": "/i", "price": "/p", "times": 2, "unit": "minor", "currency": "USD"},
            f"/times: this is a number; {POINTER}",
        ),
        ({"ask": True}, f"/up_to: this is None; {MONEY}"),
        ({"ask": False, "up_to": "5 USD"}, "/ask: this is False; write true"),
        ({"ask": 1, "up_to": "5 USD"}, "/ask: this is 1; write true"),
        ({"ask": True, "up_to": "0 USD"}, "/up_to: this is zero, and would allow nothing; write"),
        ({"at_most": "0 USD"}, "/at_most: this is zero, and would allow nothing; write an"),
        (
            [BY_AMOUNT, BY_AMOUNT],
            ": two sources here are of one kind, and neither is trusted more; keep one",
        ),
        (
            [{"fixed": "1.15 USD"}, BY_AMOUNT],
            ": a source here always applies, and another would never be asked; keep one",
        ),
        (
            [{"ask": True, "up_to": "5 USD"}, {"at_most": "5 USD"}],
            ": a source here always applies, and another would never be asked; keep one",
        ),
        ([BY_AMOUNT, "x"], "/1: this is text; write it like"),
    ],
)
def test_every_mistake_in_an_amount_is_told_once_with_its_remedy(amount: object, told: str) -> None:
    spend = {"amount": amount}
    if "at_most" in json.dumps(amount):
        spend["actual"] = ACTUAL
    (problem,) = complaints(spend)
    assert problem.startswith(f"/amount{told}")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"budget": "5 USD"}, "/budget: there is no key budget in spend; it takes actual, allow_z"),
        ({"per_cal": "5 USD"}, "/per_cal: there is no key per_cal in spend; did you mean per_call"),
        ({"per": "month"}, "/per: there is no key per in spend; "),
        ({"on_error": "keep"}, "/on_error: "),
        ({"per_call": 5}, f"/per_call: this is 5; {MONEY}"),
        ({"per_call": None}, f"/per_call: this is None; {MONEY}"),
        ({"per_call": "0 USD"}, "/per_call: this is zero, and would allow nothing; write an"),
        ({"per_call": "5 EUR"}, "/per_call: this is in EUR, and the amount is not; write both in"),
        ({"meters": []}, None),
        ({"meters": 5}, "/meters: this is a number; write a list"),
        ({"meters": ["day", "day"]}, "/meters: a name stands here twice, and counts once; remove"),
        ({"meters": ["day", 5]}, "/meters/1: this is a number; write text"),
        ({"on_unknown": "allow"}, "/on_unknown: this is 'allow'; write one of deny, gate"),
        ({"on_unknown": "gate"}, ': with on_unknown = "gate" per_call is reserved until an approv'),
        ({"on_overrun": "ignore"}, "/on_overrun: this is 'ignore'; write one of freeze, alert"),
        ({"allow_zero": 1}, "/allow_zero: this is 1; write true or false"),
        ({"actual": "/amount"}, "/actual: this is text; write an object (in TOML a table)"),
        ({"actual": {"result": "/a"}}, '/actual: the unit is missing; write unit = "minor" (cents'),
        ({"actual": {"unit": "minor"}}, f"/actual/result: this is nothing; {POINTER}"),
        ({"actual": {**ACTUAL, "argument": "/a"}}, "/actual/argument: there is no key argument"),
        ({"actual": {**ACTUAL, "currency": "EURO"}}, "/actual/currency: this is 'EURO'; write the"),
        (
            {"actual": {**ACTUAL, "currency": "EUR", "currency_result": "/c"}},
            "/actual: currency and currency_result say the same thing twice; keep one",
        ),
    ],
)
def test_every_mistake_in_the_terms_is_told_once_with_its_remedy(
    said: dict[str, object], told: str | None
) -> None:
    spend = {"amount": BY_AMOUNT, **said}
    if told is None:
        read(spend)
        return
    (problem,) = complaints(spend)
    assert problem.startswith(told)


@pytest.mark.parametrize(
    "amount",
    [
        {"fixed": "5.01 USD"},
        {"ask": True, "up_to": "5.01 USD"},
        [BY_AMOUNT, {"at_most": "5.01 USD"}],
    ],
)
def test_a_price_that_no_call_could_have_is_told(amount: object) -> None:
    spend = {"amount": amount, "per_call": "5.00 USD", "actual": ACTUAL}
    told = "/per_call: this is below the amount, 5.01 USD; no such call could ever pass"
    assert complaints(spend) == [told]
    assert read({**spend, "per_call": "5.01 USD"}).per_call == usd(501)


@pytest.mark.parametrize(
    "amount",
    [
        {"fixed": "1 EUR"},
        {"ask": True, "up_to": "1 EUR"},
        {"at_most": "1 EUR"},
        {**BY_AMOUNT, "currency": "EUR"},
        {"each": "/i", "price": "/p", "unit": "minor", "currency": "EUR"},
        {"table": {"a": "1 USD", "b": "1 EUR"}, "key": "/t"},
    ],
)
def test_a_cap_in_another_currency_than_the_price_is_told(amount: object) -> None:
    spend = {"amount": amount, "per_call": "5.00 USD", "actual": ACTUAL}
    told = "/per_call: this is in USD, and the amount is not; write both in one"
    assert complaints(spend) == [told]


def test_a_bound_alone_settles_nothing() -> None:
    (problem,) = complaints({"amount": {"at_most": "20.00 USD"}})
    assert problem.startswith(": at_most is only a bound; write actual = { result")


def test_a_price_of_nothing_has_to_be_meant() -> None:
    for amount in ({"fixed": "0 USD"}, {"table": {"a": "0 USD"}, "key": "/t"}):
        assert len(complaints({"amount": amount})) == 1
        assert read({"amount": amount, "allow_zero": True}).quote({"t": "a"}).reserve == usd(0)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    spend = {
        "amount": {"argument": "amount", "unit": "cents", "currency": "dollar"},
        "per_call": "five",
        "meters": [1],
    }
    assert [problem.partition(":")[0] for problem in complaints(spend)] == [
        *("/amount/argument", "/amount/unit", "/amount/currency"),
        *("/per_call", "/meters/0"),
    ]


@pytest.mark.parametrize("value", [None, "1.15 USD", 5, [], [{"amount": BY_AMOUNT}], True])
def test_what_is_no_table_is_told(value: object) -> None:
    (problem,) = complaints(value)
    assert problem.endswith("; write an object (in TOML a table)")


# --- price tables ---


def test_price_tables_are_read_by_name() -> None:
    here = place({"numbers": {"local": "1.15 USD"}, "domains": {"com": "12 EUR"}})
    assert read_tables(here) == {
        "numbers": {"local": usd(115)},
        "domains": {"com": Money(1200, "EUR")},
    }
    assert here.problems == []


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"numbers": {}}, "/numbers: this table has no prices; write them like"),
        ({"numbers": "1 USD"}, "/numbers: this is text; write an object (in TOML a table)"),
        ({"numbers": {"local": 1}}, f"/numbers/local: this is 1; {MONEY}"),
        ([], ": this is a list; write an object (in TOML a table)"),
    ],
)
def test_a_mistake_in_a_price_table_is_told(value: object, told: str) -> None:
    here = place(value)
    read_tables(here)
    (problem,) = here.problems
    assert problem.startswith(f"p.toml: /tools/buy/spend{told}")


def test_a_limit_is_above_zero() -> None:
    here = place("5.00 USD")
    assert read_limit(here) == usd(500)
    assert read_limit(place("0.00 USD")) is None


# --- for any document ---

KEYS = st.sampled_from(
    [
        *("amount", "actual", "per_call", "meters", "on_unknown", "on_overrun", "allow_zero"),
        *("fixed", "table", "argument", "each", "ask", "at_most", "per", "key", "price", "times"),
        *("unit", "currency", "currency_argument", "text", "inside", "up_to", "result"),
    ]
)
WORDS = st.sampled_from(
    ["1.15 USD", "0 USD", "5 EUR", "/amount", "minor", "major", "USD", "gate", "month", "x", ""]
)
VALUES = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=20,
)


@given(VALUES)
def test_any_document_is_read_or_complained_of(value: object) -> None:
    here = place(value)
    spend = read_spend(here)
    assert (spend is None) == bool(here.problems)
    if spend is not None:
        assert spend.sources
        spend.quote({"amount": 5})
