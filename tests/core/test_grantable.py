"""How far a grant out of a decision may reach: read strictly, and what several have in common."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.core.grantable import (
    Bounds,
    Wish,
    meet,
    narrowest,
    on_call,
    parse_wish,
    plain,
    read_wish,
)
from approval.core.money import Money

DAY = timedelta(hours=24)
usd = st.integers(1, 10_000).map(lambda minor: Money(minor, "USD"))
spans = st.integers(1, 400_000).map(lambda seconds: timedelta(seconds=seconds))
names = st.lists(st.sampled_from("abcd"), unique=True).map(tuple)
wishes = st.builds(Wish, uses=st.integers(1, 99), within=spans, total=st.none() | usd)
bounds = st.builds(Bounds, uses=st.integers(1, 99), within=spans, total=st.none() | usd, vary=names)


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        (
            "10 uses within 24h up to 20.00 USD",
            Wish(uses=10, within=DAY, total=Money(2000, "USD")),
        ),
        ("1 use within 90m", Wish(uses=1, within=timedelta(minutes=90))),
        (" 2 uses within 7d ", Wish(uses=2, within=timedelta(days=7))),
    ],
)
def test_a_grant_is_asked_for_in_a_sentence(text: str, wish: Wish) -> None:
    assert parse_wish(text) == wish


@given(wishes)
def test_what_is_asked_for_reads_back_as_it_was_written(wish: Wish) -> None:
    assert parse_wish(str(wish)) == wish
    assert read_wish(wish.plain()) == wish


@pytest.mark.parametrize(
    "text",
    [
        *("", "10", "ten uses within 24h", "10 uses", "10 uses in 24h", "-1 uses within 24h"),
        *("10 uses within 24h up to", "10 uses within 24h up to 20", "0 uses within 24h"),
        *("10 uses within 0h", "10 uses within 366d", "10 uses within 24h up to 0.00 USD"),
        *("10 uses within 24h up to 1.5 USD", "\u0661 uses within 24h", "10 uses within \u0662h"),
        *("10 uses within 24h up to 20.00 USD\nand more", "9999999999 uses within 1h"),
    ],
)
def test_any_other_sentence_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|whole number|total"):
        parse_wish(text)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"uses": None}, "uses is a whole number"),
        ({"uses": "10"}, "uses is a whole number"),
        ({"uses": True}, "uses is a whole number"),
        ({"uses": 0}, "uses is a whole number"),
        ({"uses": 10**9 + 1}, "uses is a whole number"),
        ({"within": None}, "within is a time"),
        ({"within": 86400}, "within is a time"),
        ({"within": "soon"}, "within is a time"),
        ({"total": 20}, "total is an amount"),
        ({"total": "20"}, "total: "),
        ({"total": "0.00 USD"}, "total is an amount above zero"),
        ({"vary": ["to"]}, "vary is not known"),
        ({"a\nb": 1}, "is not known"),
    ],
)
def test_what_is_wrong_with_a_wish_is_named(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        read_wish({"uses": 10, "within": "24h", "total": "20.00 USD"} | changes)
    assert "\n" not in str(refused.value)


@given(st.lists(wishes, min_size=1, max_size=4))
def test_what_comes_of_several_wishes_is_within_each_of_them(said: list[Wish]) -> None:
    found = narrowest(said)
    assert found is not None
    for wish in said:
        assert found.uses <= wish.uses
        assert found.within <= wish.within
        assert wish.total is None or (found.total is not None and found.total <= wish.total)
    assert narrowest(reversed(said)) == found
    assert narrowest([found, *said]) == found


@given(st.lists(wishes, max_size=3), st.integers(0, 3))
def test_who_asks_for_no_grant_gives_none_for_all(said: list[Wish], place: int) -> None:
    assert narrowest([*said[:place], None, *said[place:]]) is None
    assert narrowest([]) is None


def test_totals_of_two_currencies_give_no_grant() -> None:
    two = [Wish(uses=1, within=DAY, total=Money(1, code)) for code in ("USD", "EUR")]
    assert narrowest(two) is None


@given(bounds, bounds)
def test_two_rules_let_give_what_both_of_them_let_give(a: Bounds, b: Bounds) -> None:
    both = meet(a, b)
    assert both is not None
    assert meet(a, a) == a
    for each in (a, b):
        assert both.uses <= each.uses
        assert both.within <= each.within
        assert set(both.vary) <= set(each.vary)
        assert each.total is None or (both.total is not None and both.total <= each.total)
    assert meet(a, None) is meet(None, b) is None


def test_rules_in_two_currencies_let_give_nothing() -> None:
    a, b = (Bounds(uses=1, within=DAY, total=Money(1, code)) for code in ("USD", "EUR"))
    assert meet(a, b) is None


@pytest.mark.parametrize(
    ("total", "amount", "fits"),
    [
        (None, None, True),
        (None, Money(1, "USD"), True),
        (Money(1, "USD"), Money(1, "USD"), True),
        (Money(1, "USD"), None, False),
        (Money(1, "USD"), Money(1, "EUR"), False),
    ],
)
def test_a_grant_that_could_cover_nothing_is_not_offered(
    total: Money | None, amount: Money | None, fits: bool
) -> None:
    most = Bounds(uses=1, within=DAY, total=total)
    assert on_call(most, amount) == (most if fits else None)
    assert on_call(None, amount) is None


def test_bounds_are_written_with_what_may_vary() -> None:
    most = Bounds(uses=3, within=timedelta(days=2), vary=("to",))
    assert plain(most) == {"uses": 3, "within": "2d", "vary": ["to"]}
