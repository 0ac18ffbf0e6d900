"""What holds for every policy's price, whatever an agent or an upstream sends."""

from hypothesis import assume, given
from hypothesis import strategies as st

from approval.core import canonical
from approval.core.canonical import JSON, Number
from approval.core.currencies import ISO
from approval.core.money import CAP, Money, Unit
from approval.core.price import Actual, Ask, AtMost, OnUnknown, Spend, Unknown, actual
from tests.core.prices import (
    ARGUMENT,
    ASK,
    AT_MOST,
    DEEP,
    FIXED,
    INSIDE,
    NAMED,
    SUM,
    TABLE,
    at,
    usd,
)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.integers(),
    st.text(max_size=5),
    st.sampled_from(["local", "USD", "usd", "1.15", "-1", "NaN", '{"amount":{"value":1}}']),
    st.sampled_from(["-0", "1.5", "1e2", "1e308", "NaN", "0.00", "-1e2"]).map(Number),
)
NAMES = st.sampled_from(
    ["amount", "Amount", "type", "items", "price", "quantity", "order", "total", "data", "currency"]
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=12
)
SOURCES = st.lists(
    st.sampled_from([FIXED, TABLE, ARGUMENT, NAMED, DEEP, SUM, INSIDE, ASK, AT_MOST]), min_size=1
)
SPENDS = st.builds(
    Spend,
    sources=SOURCES.map(tuple),
    per_call=st.none() | st.builds(usd, st.integers(1, 3000)),
    on_unknown=st.sampled_from(OnUnknown),
    allow_zero=st.booleans(),
    actual=st.sampled_from(
        [
            Actual(at=at("/amount"), unit=Unit.MINOR),
            Actual(at=at("/amount"), unit=Unit.MINOR, currency=at("/currency")),
        ]
    ),
)


# One source that reads what the agent says, and behind it one that would settle for less.
TEMPTED = st.builds(
    Spend,
    sources=st.tuples(
        st.sampled_from([TABLE, ARGUMENT, NAMED, DEEP, SUM, INSIDE]),
        st.sampled_from([Ask(up_to=usd(1)), AtMost(bound=usd(1))]),
    ),
    per_call=st.none() | st.just(usd(100_000)),
    on_unknown=st.sampled_from(OnUnknown),
)


@given(SPENDS, TREES)
def test_a_quote_is_an_amount_within_the_terms_or_a_reason(spend: Spend, arguments: object) -> None:
    quoted = spend.quote(arguments)
    assert quoted == spend.quote(arguments)
    if quoted.reserve is None:
        assert quoted.why is not None
        assert quoted.why.text[0].isupper()
        assert quoted.why.text.isprintable()
        assert not quoted.must_type
        return
    assert quoted.why is None or quoted.must_type
    assert (0 if spend.allow_zero else 1) <= quoted.reserve.minor <= CAP
    assert spend.per_call is None or quoted.reserve <= spend.per_call


RESULTS = st.fixed_dictionaries(
    {"amount": st.integers(1, 1000), "currency": st.sampled_from(["USD", "EUR", "usd"])}
)


@given(SPENDS, TREES | RESULTS)
def test_what_an_upstream_says_is_an_amount_or_a_reason(spend: Spend, result: object) -> None:
    took = actual(spend, result, currency="USD")
    assert isinstance(took, Unknown) or (took.currency == "USD" and 0 <= took.minor <= CAP)


GOOD: dict[str, JSON] = {
    "type": "toll-free",
    "amount": 700,
    "currency": "USD",
    "order": {"total": 800},
    "items": [{"price": 300, "quantity": 2}, {"price": 100, "quantity": 4}],
    "data": '{"amount":{"value":"9.00","currency":"USD"}}',
}


def spots(value: JSON) -> list[tuple[str | int, ...]]:
    """Name the way to every value below this one."""
    below = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    return [(key, *way) for key, inner in below for way in [(), *spots(inner)]]


def with_value(document: JSON, way: tuple[str | int, ...], value: JSON) -> JSON:
    if not way:
        return value
    if isinstance(document, dict):
        return {k: with_value(v, way[1:], value) if k == way[0] else v for k, v in document.items()}
    assert isinstance(document, list)
    return [with_value(v, way[1:], value) if i == way[0] else v for i, v in enumerate(document)]


def at_way(document: JSON, way: tuple[str | int, ...]) -> JSON:
    for step in way:
        document = (
            document[str(step)]
            if isinstance(document, dict)
            else document[int(step)]
            if isinstance(document, list)
            else None
        )
    return document


def json_type(value: JSON) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | Number) else type(value).__name__


@given(TEMPTED, st.sampled_from(spots(GOOD)), TREES)
def test_a_value_of_another_type_never_buys_a_lower_amount(
    spend: Spend, way: tuple[str | int, ...], value: JSON
) -> None:
    # Text that stands for a number is as good as one where a policy says so: not another type.
    assume(json_type(at_way(GOOD, way)) != json_type(value))
    before, after = spend.quote(GOOD), spend.quote(with_value(GOOD, way, value))
    assert before.reserve is not None
    # Where an approver now has to type it, they have room for what it was.
    assert after.reserve is None or after.reserve >= before.reserve


@given(st.lists(st.tuples(st.integers(1, CAP), st.integers(1, CAP)), min_size=1, max_size=20))
def test_sums_of_products_are_exact_or_refused(items: list[tuple[int, int]]) -> None:
    total = sum(price * times for price, times in items)
    arguments = {"items": [{"price": price, "quantity": times} for price, times in items]}
    quoted = Spend(sources=(SUM,)).quote(arguments)
    if total > CAP:
        assert quoted.why is not None
        assert quoted.why.reason == "above_cap"
    else:
        assert quoted.reserve == usd(total)


@given(st.integers(1, CAP), st.sampled_from(sorted(ISO.exponents)))
def test_an_amount_survives_the_way_through_json_in_either_unit(cents: int, code: str) -> None:
    money, spend = Money(cents, code), Spend(sources=(NAMED,))
    body = b'{"amount":%s,"currency":"%s"}' % (money.plain()["amount"].encode(), code.encode())
    assert spend.quote(canonical.read(body)).reserve == money
    # The upstream gets the canonical form, and reads the same from it.
    sent = canonical.read(canonical.canonical(canonical.read(body)))
    assert spend.quote(sent).reserve == money
