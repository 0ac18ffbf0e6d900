"""Every source of a price: what it reserves, and why it sometimes cannot say."""

import json
from dataclasses import replace

import pytest

from approval.core.canonical import Number
from approval.core.money import CAP, Money, Unit
from approval.core.price import (
    MAX_ITEMS,
    Actual,
    Argument,
    Ask,
    Asking,
    AtMost,
    Fixed,
    Notation,
    OnUnknown,
    Origin,
    Per,
    Quote,
    Source,
    Spend,
    Unknown,
    actual,
)
from approval.errors import Unreadable
from tests.core.prices import (
    ARGUMENT,
    ASK,
    AT_MOST,
    CENTS,
    DEEP,
    DOLLARS,
    FIXED,
    INSIDE,
    NAMED,
    SUM,
    TABLE,
    at,
    usd,
)


def quote(*sources: Source, arguments: object) -> Quote:
    return Spend(sources=sources).quote(arguments)


def reason(quoted: Quote) -> str | None:
    assert (quoted.reserve is None) == (quoted.why is not None and not quoted.must_type)
    return None if quoted.why is None else quoted.why.reason


# --- each source ---


def test_a_fixed_price_holds_whatever_the_agent_says() -> None:
    for arguments in ({}, {"amount": 1}, None, "x"):
        assert quote(FIXED, arguments=arguments) == Quote(
            origin=Origin.FIXED, reserve=usd(115), per=Per.MONTH
        )


def test_what_an_approver_types_is_reserved_at_its_most_and_judged_as_unknown() -> None:
    asked = quote(ASK, arguments={"amount": 1})
    assert asked == Quote(origin=Origin.ASK, reserve=usd(500), must_type=True)
    assert asked.amount is None
    assert quote(FIXED, arguments={}).amount == usd(115)


def test_a_bound_needs_the_upstreams_own_figure() -> None:
    assert quote(AT_MOST, arguments={}) == Quote(
        origin=Origin.AT_MOST, reserve=usd(2000), needs_actual=True
    )


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"type": "local"}, usd(115)),
        ({"type": "toll-free"}, usd(215)),
        ({"type": "LOCAL"}, "unknown_key"),
        ({"type": " local"}, "unknown_key"),
        ({"type": ""}, "unknown_key"),
        ({"type": "lo\u0441al"}, "unknown_key"),  # a Cyrillic letter
        ({}, "absent"),
        ({"Type": "local"}, "twin"),
        ({"type": "local", "TYPE": "toll-free"}, "twin"),
        ({"type": None}, "key_type"),
        ({"type": 1}, "key_type"),
        ({"type": True}, "key_type"),
        ({"type": ["local"]}, "key_type"),
        ({"type": {"local": 1}}, "key_type"),
        ([], "not_an_object"),
    ],
)
def test_a_price_table_knows_its_own_texts_and_no_others(
    arguments: object, found: Money | str
) -> None:
    quoted = quote(TABLE, arguments=arguments)
    assert found in (quoted.reserve, reason(quoted))


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"amount": 115}, usd(115)),
        ({"amount": Number("115.0")}, usd(115)),
        ({"amount": Number("1e2")}, usd(100)),
        ({}, "absent"),
        ({"amount": None}, "null"),
        ({"amount": "115"}, "text_not_allowed"),
        ({"amount": -115}, "negative"),
        ({"amount": True}, "boolean"),
        ({"amount": [115]}, "list"),
        ({"amount": {"amount": 115}}, "object"),
        ({"amount": Number("1.5")}, "inexact"),
        ({"amount": 10**400}, "above_cap"),
        ({"amount": 0}, "zero"),
        ({"amount": Number("NaN")}, "not_finite"),
        ({"order": {"amount": 115}}, "absent"),
        ({"amount": 115, "Amount": 1}, "twin"),
        ({"AMOUNT": 115}, "twin"),
        (None, "not_an_object"),
        ([{"amount": 115}], "not_an_object"),
        ("amount", "not_an_object"),
    ],
)
def test_an_amount_stands_where_the_policy_says_and_can_be_relied_on_or_is_refused(
    arguments: object, found: Money | str
) -> None:
    quoted = quote(ARGUMENT, arguments=arguments)
    assert found in (quoted.reserve, reason(quoted))


@pytest.mark.parametrize(
    ("currency", "found"),
    [
        ("USD", usd(1000)),
        ("usd", usd(1000)),
        ("JPY", Money(10, "JPY")),
        ("kwd", Money(10_000, "KWD")),
        ("XAU", "currency"),
        ("USDC", "currency"),
        ("u\u017fd", "currency"),
        (" USD", "currency"),
        ("", "currency"),
        (None, "currency"),
        (840, "currency"),
        (["USD"], "currency"),
        (..., "currency"),
    ],
)
def test_the_currency_may_be_named_by_the_agent_and_must_be_known(
    currency: object, found: Money | str
) -> None:
    arguments: dict[str, object] = {"amount": 10}
    if currency is not ...:
        arguments["currency"] = currency
    quoted = quote(NAMED, arguments=arguments)
    assert found in (quoted.reserve, reason(quoted))


@pytest.mark.parametrize(
    ("items", "found"),
    [
        ([{"price": 100, "quantity": 2}], usd(200)),
        ([{"price": 100, "quantity": 2}, {"price": 5, "quantity": 1}], usd(205)),
        ([{"price": 100, "quantity": Number("2.0")}], usd(200)),
        ([{"price": CAP, "quantity": 1}], usd(CAP)),
        ([{"price": 1, "quantity": 1}] * MAX_ITEMS, usd(MAX_ITEMS)),
        ([{"price": 1, "quantity": 1}] * (MAX_ITEMS + 1), "too_many_items"),
        ([{"price": CAP, "quantity": 2}], "above_cap"),
        ([{"price": CAP, "quantity": CAP}], "above_cap"),
        ([{"price": CAP, "quantity": 1}, {"price": 1, "quantity": 1}], "above_cap"),
        ([{"price": 2**32, "quantity": 2**32}], "above_cap"),  # zero in 64 bits
        ([{"price": 100, "quantity": -2}], "negative"),
        ([{"price": -100, "quantity": -2}], "negative"),
        ([{"price": 100, "quantity": 2}, {"price": -199, "quantity": 1}], "negative"),
        ([{"price": 100, "quantity": 0}], "zero"),
        ([{"price": 100, "quantity": 2}, {"price": 100, "quantity": 0}], "zero"),
        ([{"price": 0, "quantity": 2}], "zero"),
        ([{"price": 100, "quantity": Number("0.5")}], "inexact"),
        ([{"price": 100, "quantity": "2"}], "text_not_allowed"),
        ([{"price": 100, "quantity": True}], "boolean"),
        ([{"price": 100, "quantity": None}], "null"),
        ([{"price": 100}], "missing"),
        ([{"quantity": 2}], "missing"),
        ([{"price": 100, "quantity": 2, "Price": 9}], "twin"),
        ([{"price": {"price": 100}, "quantity": 2}], "object"),
        ([[{"price": 100, "quantity": 2}]], "not_an_object"),
        ([100], "not_an_object"),
        ([None], "not_an_object"),
        ([], "zero"),
        (None, "not_a_list"),
        ("items", "not_a_list"),
        ({"0": {"price": 100, "quantity": 2}}, "not_a_list"),
        ({"price": 100, "quantity": 2}, "not_a_list"),
    ],
)
def test_a_sum_counts_every_item_or_nothing(items: object, found: Money | str) -> None:
    quoted = quote(SUM, arguments={"items": items})
    assert found in (quoted.reserve, reason(quoted))


def test_items_without_a_quantity_count_once_and_major_units_are_exact_by_item() -> None:
    once = replace(SUM, times=None, notation=DOLLARS)
    items: list[object] = [{"price": Number("0.10")}, {"price": Number("0.20")}]
    assert quote(once, arguments={"items": items}).reserve == usd(30)
    items.append({"price": Number("0.001")})
    assert reason(quote(once, arguments={"items": items})) == "inexact"


def test_a_sum_in_major_units_and_a_named_currency() -> None:
    notation = Notation(unit=Unit.MAJOR, currency=at("/currency"), text=True)
    source = replace(SUM, notation=notation)
    arguments = {"items": [{"price": "1.10", "quantity": "3"}], "currency": "usd"}
    assert quote(source, arguments=arguments).reserve == usd(330)
    assert reason(quote(source, arguments={"items": arguments["items"]})) == "currency"


def test_the_item_that_is_wrong_is_named() -> None:
    items = [{"price": 1, "quantity": 1}, {"price": 1, "quantity": -1}]
    assert quote(SUM, arguments={"items": items}).why == Unknown(
        reason="negative",
        text='At "/items/1/quantity" the quantity is negative; it must be above zero.',
    )


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"amount": {"value": "1.15", "currency": "USD"}}, usd(115)),
        ({"amount": {"value": 20, "currency": "usd"}}, usd(2000)),
        ({"amount": {"value": "1e2", "currency": "USD"}}, "exponent_text"),
        ({"amount": {"value": "1.15"}}, "currency"),
        ({"amount": "1.15"}, "not_an_object"),
        ({"amount": {}}, "missing"),
        ({}, "missing"),
    ],
)
def test_an_amount_may_lie_in_json_within_a_text(data: object, found: Money | str) -> None:
    quoted = quote(INSIDE, arguments={"data": json.dumps(data)})
    assert found in (quoted.reserve, reason(quoted))
    assert reason(quote(INSIDE, arguments={"data": data})) == "not_text"
    assert reason(quote(INSIDE, arguments={})) == "absent"


# --- several sources ---


@pytest.mark.parametrize(
    ("arguments", "origin", "found"),
    [
        ({"type": "local", "amount": 5, "items": []}, Origin.TABLE, usd(115)),
        ({"type": "satellite", "amount": 5}, Origin.ARGUMENT, usd(5)),
        ({"amount": 5, "items": []}, Origin.ARGUMENT, usd(5)),
        ({"items": [{"price": 2, "quantity": 3}]}, Origin.SUM, usd(6)),
        ({}, Origin.AT_MOST, usd(2000)),
        # What was said and cannot be relied on is not passed over for a lower bound.
        ({"type": 1, "amount": 5}, Origin.TABLE, "key_type"),
        ({"amount": "9000000"}, Origin.ARGUMENT, "text_not_allowed"),
        ({"amount": None}, Origin.ARGUMENT, "null"),
        ({"Amount": 9000000}, Origin.ARGUMENT, "twin"),
        ({"items": [{}]}, Origin.SUM, "missing"),
        ({"items": {}}, Origin.SUM, "not_a_list"),
        ([], Origin.TABLE, "not_an_object"),
    ],
)
def test_the_most_trusted_source_that_was_given_anything_wins(
    arguments: object, origin: Origin, found: Money | str
) -> None:
    sources = (TABLE, ARGUMENT, SUM, AT_MOST)
    for order in (sources, sources[::-1]):
        quoted = quote(*order, arguments=arguments)
        assert quoted.origin is origin
        assert found in (quoted.reserve, reason(quoted))


@pytest.mark.parametrize("order", [None, "x", 5, [800], {}, {"total": "800"}])
def test_an_order_without_a_readable_total_does_not_count_at_the_bound(order: object) -> None:
    quoted = quote(DEEP, AT_MOST, arguments={"order": order})
    assert (quoted.origin, quoted.reserve) == (Origin.ARGUMENT, None)


def test_the_order_of_trust_is_that_of_the_origins() -> None:
    every = (AT_MOST, ASK, SUM, ARGUMENT, TABLE, FIXED)
    arguments = {"type": "local", "amount": 5, "items": [{"price": 2, "quantity": 3}]}
    wins = [quote(*every[: 6 - n], arguments=arguments).origin for n in range(6)]
    assert wins == list(Origin)


def test_without_any_source_there_is_no_price() -> None:
    assert reason(quote(arguments={})) == "absent"


# --- terms ---

GATED = Spend(sources=(DEEP,), per_call=usd(1000), on_unknown=OnUnknown.GATE)


@pytest.mark.parametrize("arguments", [{}, {"order": {}}])
def test_an_approver_may_make_up_for_an_amount_that_nobody_stated(arguments: object) -> None:
    held = GATED.quote(arguments)
    assert (held.reserve, held.must_type, held.amount) == (usd(1000), True, None)
    assert held.why is not None
    assert held.why.reason in {"absent", "missing"}
    assert replace(GATED, on_unknown=OnUnknown.DENY).quote(arguments).reserve is None
    assert replace(GATED, per_call=None).quote(arguments).reserve is None


@pytest.mark.parametrize("value", [None, "5", -5, 0, True, [5], {}, Number("5.5"), 10**16])
def test_nobody_makes_up_for_an_amount_that_is_there_and_cannot_be_relied_on(
    value: object,
) -> None:
    held = GATED.quote({"order": {"total": value}})
    assert (held.reserve, held.must_type) == (None, False)


def test_nobody_makes_up_for_an_unknown_currency() -> None:
    spend = replace(GATED, sources=(NAMED,))
    for arguments in ({"amount": 5}, {"amount": 5, "currency": "XAU"}):
        assert spend.quote(arguments).reserve is None


@pytest.mark.parametrize(
    ("stated", "found"),
    [(1000, usd(1000)), (1001, "per_call"), (1, usd(1))],
)
def test_no_call_exceeds_what_one_call_may_cost(stated: int, found: Money | str) -> None:
    quoted = GATED.quote({"order": {"total": stated}})
    assert found in (quoted.reserve, reason(quoted))


def test_the_cap_of_one_call_says_what_it_is_and_holds_for_every_source() -> None:
    for source in (Fixed(price=usd(1001)), Ask(up_to=usd(1001)), AtMost(bound=usd(1001))):
        why = Unknown(
            reason="per_call", text="This call costs 10.01 USD; the most for one call is 10.00 USD."
        )
        # Refused is refused: nobody is asked to type an amount, either.
        refused = Quote(origin=source.origin, why=why)
        assert Spend(sources=(source,), per_call=usd(1000)).quote({}) == refused


def test_a_price_in_another_currency_than_the_cap_is_no_price() -> None:
    spend = Spend(sources=(Fixed(price=Money(1, "JPY")),), per_call=usd(1000))
    assert reason(spend.quote({})) == "currency"


def test_a_price_of_nothing_is_refused_unless_allowed() -> None:
    free = Spend(sources=(Fixed(price=usd(0)),))
    assert reason(free.quote({})) == "zero"
    assert replace(free, allow_zero=True).quote({}).reserve == usd(0)
    lenient = replace(CENTS, allow_zero=True)
    stated = Spend(sources=(Argument(at=at("/amount"), notation=lenient),), allow_zero=True)
    assert stated.quote({"amount": 0}).reserve == usd(0)
    assert reason(stated.quote({"amount": Number("-0")})) == "negative"


# --- typed amounts ---


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (usd(501), "above_bound"),
        (usd(0), "zero"),
        (Money(1, "EUR"), "currency"),
        (Money(501, "JPY"), "currency"),
    ],
)
def test_an_approver_types_within_the_bound(typed: Money, reason: str) -> None:
    asking = Asking(up_to=usd(500))
    with pytest.raises(Unreadable) as refusal:
        asking.check(typed)
    assert refusal.value.reason == reason
    assert not asking.admits(typed)
    assert asking.admits(usd(500))
    assert asking.admits(usd(1))


def test_nothing_may_be_typed_where_the_policy_allows_it() -> None:
    assert Asking(up_to=usd(500), allow_zero=True).admits(usd(0))


def test_of_two_policies_the_lower_bound_counts_and_both_must_allow_nothing() -> None:
    wide, narrow = Asking(up_to=usd(500), allow_zero=True), Asking(up_to=usd(200))
    assert wide.and_also(narrow) == narrow.and_also(wide) == narrow
    assert wide.and_also(wide) == wide


# --- what the upstream says ---

RESULT: dict[str, object] = {
    "structuredContent": {"amount": 110, "currency": "usd", "euros": {"currency": "EUR"}},
    "content": [{"type": "text", "text": '{"charged":"1.10"}'}],
    "negative": -1,
    "zero": 0,
}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (Actual(at=at("/structuredContent/amount"), unit=Unit.MINOR), usd(110)),
        (Actual(at=at("/structuredContent/amount"), unit=Unit.MAJOR), usd(11000)),
        (
            Actual(
                at=at("/structuredContent/amount"),
                unit=Unit.MINOR,
                currency=at("/structuredContent/currency"),
            ),
            usd(110),
        ),
        (Actual(at=at("/charged", "/content/0/text"), unit=Unit.MAJOR, text=True), usd(110)),
        (Actual(at=at("/charged", "/content/0/text"), unit=Unit.MAJOR), "text_not_allowed"),
        (Actual(at=at("/structuredContent/amount"), unit=Unit.MINOR, currency="EUR"), "currency"),
        (
            Actual(
                at=at("/structuredContent/amount"),
                unit=Unit.MINOR,
                currency=at("/structuredContent/euros/currency"),
            ),
            "currency",
        ),
        (Actual(at=at("/amount"), unit=Unit.MINOR), "absent"),
        (Actual(at=at("/structuredContent/total"), unit=Unit.MINOR), "missing"),
        (Actual(at=at("/negative"), unit=Unit.MINOR), "negative"),
        (Actual(at=at("/zero"), unit=Unit.MINOR), "zero"),
        (None, "not_declared"),
    ],
)
def test_what_was_spent_is_read_from_the_result_or_not_known(
    said: Actual | None, found: Money | str
) -> None:
    took = actual(Spend(sources=(AT_MOST,), actual=said), RESULT, currency="USD")
    assert found in (took, took.reason if isinstance(took, Unknown) else None)


def test_nothing_was_spent_only_where_nothing_may_be_the_price() -> None:
    said = Actual(at=at("/zero"), unit=Unit.MINOR)
    spend = Spend(sources=(AT_MOST,), actual=said, allow_zero=True)
    assert actual(spend, RESULT, currency="USD") == usd(0)


# --- sentences ---

TWICE = 'the member name "\\n" appears twice in one object'


@pytest.mark.parametrize(
    ("source", "arguments", "text"),
    [
        (ARGUMENT, {}, 'At "/amount" there is nothing.'),
        (
            ARGUMENT,
            {"amount": {"\u202e": "\n"}},
            'At "/amount" the amount is an object; it must be a number.',
        ),
        (
            TABLE,
            {"type": "x\n\u202e" + "y" * 100},
            'At "/type" there is "x\\n\\u202e' + "y" * 36 + '…", which has no price.',
        ),
        (
            NAMED,
            {"amount": 1, "currency": "\x1b[2J"},
            'At "/currency" there is "\\x1b[2J", and no currency known here.',
        ),
        (NAMED, {"amount": 1}, 'No currency is named: at "/currency" there is nothing.'),
        (
            INSIDE,
            {"data": '{"\\n":1,"\\n":2}'},
            f'At "/data" there is no strict JSON: {TWICE}.',
        ),
    ],
)
def test_people_are_told_where_and_why_and_hostile_text_stays_in_its_quotes(
    source: Source, arguments: object, text: str
) -> None:
    why = quote(source, arguments=arguments).why
    assert why is not None
    assert why.text == text
