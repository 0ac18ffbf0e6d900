"""What each operator makes of each kind of value, and that what cannot be judged is unknown."""

from decimal import Decimal

import pytest

from approval.core.canonical import Number
from approval.core.conditions import (
    OPERATORS,
    Condition,
    any_of,
    compile_glob,
    compile_test,
    holds,
    host_of,
    number,
)
from approval.core.paths import MISSING, compile_path
from approval.errors import Unreadable

T, F, U = True, False, None

FACTS: dict[str, object] = {
    "args": {
        "amount": 5,
        "deep": {"er": {"": "blank"}},
        "items": [{"price": 1}, {"price": 2}],
        "a.b": "dotted",
        "a/b~c": "escaped",
        "null": None,
        "0": "a member",
    },
    "agent": {"name": "ops", "groups": ["g"]},
    "tool": {"name": "buy"},
    "server": {"name": "shop"},
}


@pytest.mark.parametrize(
    ("operator", "literal", "value", "truth"),
    [
        ("eq", "a", "a", T),
        ("eq", "a", "A", F),
        ("eq", "é", "e\u0301", F),
        ("eq", "5", 5, U),
        ("eq", 5, "5", U),
        ("eq", 5, 5, T),
        ("eq", 5, Number("5.0"), T),
        ("eq", 5, Number("0.5e1"), T),
        ("eq", 0, Number("-0"), T),
        ("eq", 1, True, U),
        ("eq", True, 1, U),
        ("eq", True, True, T),
        ("eq", True, False, F),
        ("eq", True, "true", U),
        ("eq", 0.1, Number("0.1"), T),
        ("eq", 0.1, Number("0.1000000000000000055511151231257827"), U),
        ("eq", 5, None, U),
        ("eq", 5, [5], U),
        ("eq", "a", {}, U),
        ("eq", 5, float("nan"), U),
        ("eq", 5, Decimal("NaN"), U),
        ("eq", 5, float("inf"), U),
        ("eq", 5, 5.0, T),
        ("eq", 5, Decimal(5), T),
        ("eq", 5, Number("1e99999999999999999999"), U),
        ("neq", "a", "b", T),
        ("neq", "a", "a", F),
        ("neq", "a", 5, U),
        ("in", ["usd", "eur"], "eur", T),
        ("in", ["usd", "eur"], "gbp", F),
        ("in", ["usd", 5], "gbp", U),
        ("in", ["usd", 5], "usd", T),
        ("in", [1, 2], "1", U),
        ("not_in", ["usd", "eur"], "gbp", T),
        ("not_in", ["usd", "eur"], "usd", F),
        ("not_in", ["usd", "eur"], 5, U),
        ("gt", 10000, 10000, F),
        ("gt", 10000, 10001, T),
        ("gt", 10000, Number("10000.00000000000000000001"), U),
        ("gt", 10000, "20000", U),
        ("gt", 10000, True, U),
        ("gt", 9007199254740991, Number("9007199254740991.5"), U),
        ("gte", 5, 5, T),
        ("gte", 5, Number("4.9999999999999999999"), U),
        ("lt", 5, 4, T),
        ("lt", 5, 5, F),
        ("lt", 5, Number("1e400"), U),
        ("lte", 5, 5, T),
        ("lte", 5, 6, F),
        ("lte", 5, None, U),
        ("regex", "b+", "abbc", T),
        ("regex", "^b+$", "abbc", F),
        ("regex", "^a$", "a\n", F),
        ("regex", "b", 5, U),
        ("contains", "ell", "hello", T),
        ("contains", "ELL", "hello", F),
        ("contains", "a", ["a", "b"], T),
        ("contains", "a", ["aa", "b"], F),
        ("contains", "a", [5, "b"], U),
        ("contains", "a", [5, "a"], T),
        ("contains", 5, [4, 5], T),
        ("contains", 5, "5", U),
        ("contains", "a", {"a": 1}, U),
        ("contains", "a", [], F),
        ("exists", True, 0, T),
        ("exists", True, "", T),
        ("exists", True, None, F),
        ("exists", False, None, T),
        ("exists", False, [], F),
        ("glob", "a*c", "abc", T),
        ("glob", "a*c", "a\nc", T),
        ("glob", "a*c", "abcd", F),
        ("glob", "a?c", "aéc", T),
        ("glob", "a?c", "ac", F),
        ("glob", "[a]", "a", F),
        ("glob", "[a]", "[a]", T),
        ("glob", "a.c", "abc", F),
        ("glob", "A", "a", F),
        ("glob", "a", 5, U),
        ("cidr", "10.0.0.0/8", "10.1.2.3", T),
        ("cidr", "10.0.0.0/8", "11.1.2.3", F),
        ("cidr", "10.0.0.0/8", "::ffff:10.1.2.3", T),
        ("cidr", "10.0.0.0/8", "::ffff:a01:203", T),
        ("cidr", "10.0.0.0/8", "2001:db8::1", U),
        ("cidr", ["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", T),
        ("cidr", ["10.0.0.0/8", "2001:db8::/32"], "2001:db9::1", F),
        ("cidr", "10.0.0.0/8", "10.1.0.0/16", T),
        ("cidr", "10.0.0.0/8", "0.0.0.0/0", U),
        ("cidr", "10.0.0.0/8", "192.168.0.0/16", F),
        ("cidr", "10.0.0.0/8", "010.1.2.3", U),
        ("cidr", "10.0.0.0/8", "10.1.2.3/8", U),
        ("cidr", "10.0.0.0/8", "10.0.0.0/255.0.0.0", U),
        ("cidr", "10.0.0.0/8", "10.1", U),
        ("cidr", "10.0.0.0/8", 167772161, U),
        ("cidr", "fe80::/10", "fe80::1%eth0", U),
        ("cidr", "10.1.2.3", "10.1.2.3", T),
        ("host_in", ["example.com"], "https://example.com/a?b", T),
        ("host_in", ["example.com"], "https://EXAMPLE.com.:443/", T),
        ("host_in", ["Example.com"], "example.com:8080", T),
        ("host_in", ["example.com"], "https://a.example.com/", F),
        ("host_in", ["*.example.com"], "https://a.example.com/", T),
        ("host_in", ["*.example.com"], "https://example.com/", F),
        ("host_in", ["*.example.com"], "https://evilexample.com/", F),
        ("host_in", "example.com", "https://example.com.evil.org/", F),
        ("host_in", ["example.com"], "https://example.com@evil.org/", U),
        ("host_in", ["example.com"], "https://example.com:80@evil.org/", U),
        ("host_in", ["example.com"], "https://evil.org\\@example.com/", U),
        ("host_in", ["example.com"], "https://ex\u0430mple.com/", U),
        ("host_in", ["example.com"], "https:example.com", U),
        ("host_in", ["example.com"], "https:///example.com", U),
        ("host_in", ["example.com"], "https://exa%6dple.com", U),
        ("host_in", ["example.com"], " https://example.com", U),
        ("host_in", ["example.com"], "https://example.com\n", U),
        ("host_in", ["example.com"], "https://example..com", U),
        ("host_in", ["127.0.0.1"], "http://127.0.0.1:80/", T),
        ("host_in", ["127.0.0.1"], "http://2130706433/", U),
        ("host_in", ["127.0.0.1"], "http://0x7f.1/", U),
        ("host_in", ["127.0.0.1"], "http://127.0.0.0x1/", U),
        ("host_in", ["127.0.0.1"], "http://127.1/", U),
        ("host_in", ["example.com"], 5, U),
        ("len_lte", 3, "abc", T),
        ("len_lte", 3, "abcd", F),
        ("len_lte", 1, "😀", T),
        ("len_lte", 1, [1, 2], F),
        ("len_lte", 1, 5, U),
        ("len_lte", 1, {}, U),
    ],
)
def test_of_an_operator_and_a_value_the_truth_is(
    operator: str, literal: object, value: object, truth: bool | None
) -> None:
    assert compile_test(operator, literal)(value) is truth


LITERALS: dict[str, object] = {
    "in": ["a"],
    "not_in": ["a"],
    "exists": True,
    "cidr": "10.0.0.0/8",
    "host_in": ["a.org"],
    "regex": "a",
    "glob": "a",
    "contains": "a",
    "eq": "a",
    "neq": "a",
}


@pytest.mark.parametrize("operator", [name for name in OPERATORS if name != "exists"])
@pytest.mark.parametrize("value", [MISSING, None])
def test_what_is_missing_or_null_is_unknown_to_every_operator_but_exists(
    operator: str, value: object
) -> None:
    assert compile_test(operator, LITERALS.get(operator, 5))(value) is None


def test_exists_always_knows() -> None:
    assert compile_test("exists", True)(MISSING) is False
    assert compile_test("exists", False)(MISSING) is True


@pytest.mark.parametrize(
    ("operator", "literal", "told"),
    [
        ("like", "a", "there is no operator 'like'; use one of eq, neq"),
        ("matches_schema", {}, "not built yet"),
        ("eq", None, "for null use exists"),
        ("eq", [1], "compare their parts by pointer"),
        ("in", "usd", "must be a list that is not empty"),
        ("in", [], "must be a list that is not empty"),
        ("in", [None], "for null use exists"),
        ("not_in", 5, "must be a list"),
        ("gt", "100.00 USD", "must be a number"),
        ("gt", True, "must be a number"),
        ("regex", 5, "must be text"),
        ("regex", "(?=a)", "is no RE2 pattern"),
        ("regex", r"(a)\1", "is no RE2 pattern"),
        ("regex", "(", "is no RE2 pattern"),
        ("contains", {}, "compare their parts"),
        ("exists", "yes", "must be true or false"),
        ("exists", 1, "must be true or false"),
        ("glob", ["a"], "must be text"),
        ("cidr", "10.0.0.0/33", "is not a network"),
        ("cidr", "10.0.0.1/8", "is not a network"),
        ("cidr", [], "a list of texts that is not empty"),
        ("cidr", [5], "must be text"),
        ("cidr", 5, "must be text, or a list"),
        ("host_in", ["https://a.org"], "is not a host name"),
        ("host_in", ["a.org:80"], "is not a host name"),
        ("host_in", ["*"], "is not a host name"),
        ("host_in", ["*."], "is not a host name"),
        ("len_lte", -1, "a whole number from 0"),
        ("len_lte", True, "a whole number from 0"),
        ("len_lte", 1.5, "a whole number from 0"),
    ],
)
def test_a_value_the_operator_cannot_work_with_does_not_load(
    operator: str, literal: object, told: str
) -> None:
    with pytest.raises(Unreadable) as failure:
        compile_test(operator, literal)
    assert told in str(failure.value)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("args.amount", 5),
        ("args.deep.er", {"": "blank"}),
        ("args.deep.none", MISSING),
        ("args.amount.more", MISSING),
        ("args.items.0", MISSING),
        ("args.items.0.price", MISSING),
        ("args.null", None),
        ("args.null.more", MISSING),
        ("agent.name", "ops"),
        ("agent.groups", ["g"]),
        ("agent.owner", MISSING),
        ("tool.name", "buy"),
        ("server.name", "shop"),
        ("/amount", 5),
        ("/items/1/price", 2),
        ("/items/2/price", MISSING),
        ("/items/-", MISSING),
        ("/items/01/price", MISSING),
        ("/items/-1/price", MISSING),
        ("/items/¹/price", MISSING),
        ("/items/99999999999999999999", MISSING),
        ("/0", "a member"),
        ("/a.b", "dotted"),
        ("/a~1b~0c", "escaped"),
        ("/deep/er/", "blank"),
        ("/amount/0", MISSING),
        ("/agent/name", MISSING),
    ],
)
def test_a_path_finds(path: str, found: object) -> None:
    assert compile_path(path).find(FACTS) == found


@pytest.mark.parametrize("path", ["/0", "/items"])
def test_arguments_that_are_a_list_are_entered_by_pointers_alone(path: str) -> None:
    found = compile_path(path).find({"args": ["first"]})
    assert found == ("first" if path == "/0" else MISSING)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("amount", "starts with none of args, agent, tool, server"),
        ("args", "has an empty part"),
        ("args.", "has an empty part"),
        ("args..a", "has an empty part"),
        ("agent.token", "there is agent.groups, agent.name, agent.owner"),
        ("agent.name.first", "there is no 'agent.name.first'"),
        ("tool.title", "there is tool.name"),
        ("spend.price", "there is spend.amount"),
        ("grant.uses", "not built yet"),
        ("call.repeats", "not built yet"),
        ("time.hour", "not built yet"),
        ("state.buy.count", "not built yet"),
        ("/a~b", "~ is written ~0"),
        ("/a~2", "~ is written ~0"),
    ],
)
def test_a_path_that_leads_nowhere_does_not_load(path: str, told: str) -> None:
    with pytest.raises(Unreadable) as failure:
        compile_path(path)
    assert told in str(failure.value)


def known(truth: bool | None) -> Condition:
    return Condition(path=compile_path("args.amount"), test=lambda _: truth)


@pytest.mark.parametrize(
    ("truths", "both", "either"),
    [
        ((), T, F),
        ((T,), T, T),
        ((F,), F, F),
        ((U,), U, U),
        ((T, T), T, T),
        ((T, F), F, T),
        ((F, T), F, T),
        ((T, U), U, T),
        ((U, T), U, T),
        ((F, U), F, U),
        ((U, F), F, U),
        ((U, U), U, U),
    ],
)
def test_truths_join_as_kleene_says(
    truths: tuple[bool | None, ...], both: bool | None, either: bool | None
) -> None:
    assert holds([known(truth) for truth in truths], FACTS) is both
    assert any_of(truths) is either


def test_a_glob_of_many_stars_takes_no_longer_on_a_hostile_text() -> None:
    # A backtracking engine needs more steps for this than there are atoms.
    assert compile_glob("*a" * 60 + "b")("a" * 100_000) is False


@pytest.mark.parametrize(
    "value", [True, "5", None, [], {}, MISSING, float("-inf"), Number("1e9" * 9)]
)
def test_only_a_finite_number_is_a_number(value: object) -> None:
    assert number(value) is None


def test_an_address_too_long_to_be_one_is_no_host() -> None:
    assert host_of("1" * 100_000) is None
