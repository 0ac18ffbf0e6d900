"""What a grant covers, what it takes, and how far one made from a decision may reach."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from approval.core.canonical import Number
from approval.core.conditions import Condition, compile_test
from approval.core.demand import Demand, Terms
from approval.core.grantable import Bounds
from approval.core.grants import (
    Grant,
    Origin,
    Pinned,
    Shown,
    covers,
    grant_draws,
    meters,
    narrower,
    offers,
    pin,
)
from approval.core.meters import USES, Usage, admits
from approval.core.money import Money
from approval.core.paths import compile_path
from approval.core.policy import tool_pattern
from approval.core.price import Asking
from approval.core.subject import Subject
from approval.core.windows import AllTime

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def usd(minor: int) -> Money:
    return Money(minor, "USD")


def where(path: str, op: str, value: object) -> Condition:
    return Condition(path=compile_path(path), test=compile_test(op, value))


TWENTY = usd(2000)
REFUND = Subject(
    agent="billing",
    upstream="bank",
    tool="create_refund",
    arguments={"reason": "late", "amount": 20},
    owner="ann",
    groups=("night",),
)
GRANT = Grant(
    id="g",
    agent="billing",
    tools=(tool_pattern("create_refund", ""),),
    conditions=(where("args.reason", "exists", value=True),),
    max_per_call=usd(2000),
    total=usd(20000),
    uses=20,
    expires=NOW + HOUR,
)


def code(grant: Grant, subject: Subject = REFUND, amount: Money | None = TWENTY) -> str | None:
    refusal = covers(grant, subject, amount, NOW)
    return None if refusal is None else refusal.code


# --- covering ---


def test_a_grant_covers_a_call_within_all_its_bounds() -> None:
    assert code(GRANT) is None
    assert code(replace(GRANT, upstream="bank", not_before=NOW)) is None
    assert code(replace(GRANT, tools=(tool_pattern("x", ""), tool_pattern("create_*", "")))) is None


@pytest.mark.parametrize(
    ("grant", "refused"),
    [
        (replace(GRANT, agent="other"), "grant:agent"),
        (replace(GRANT, upstream="shop"), "grant:upstream"),
        (replace(GRANT, tools=(tool_pattern("create_charge", ""),)), "grant:tool"),
        (replace(GRANT, tools=()), "grant:tool"),
        (replace(GRANT, not_before=NOW + SECOND), "grant:not_before"),
        (replace(GRANT, expires=NOW), "grant:expired"),
        (replace(GRANT, expires=NOW - HOUR), "grant:expired"),
        (replace(GRANT, max_per_call=usd(1999)), "grant:amount"),
        (replace(GRANT, total=usd(1999)), "grant:amount"),
        (replace(GRANT, max_per_call=Money(2000, "EUR")), "grant:currency"),
        (replace(GRANT, total=Money(2000, "EUR")), "grant:currency"),
        (replace(GRANT, conditions=(where("args.reason", "eq", "x"),)), "grant:conditions"),
        (
            replace(GRANT, conditions=(where("args.amount", "eq", "20"),)),
            "grant:unknown_conditions",
        ),
        (replace(GRANT, conditions=(where("args.no", "lt", 5),)), "grant:unknown_conditions"),
        (replace(GRANT, pinned=pin({"reason": "late"})), "grant:arguments"),
        (replace(GRANT, pinned=Pinned(digest="")), "grant:arguments"),
    ],
)
def test_a_grant_does_not_cover_a_call_beyond_any_of_its_bounds(grant: Grant, refused: str) -> None:
    assert code(grant) == refused


@pytest.mark.parametrize(
    ("path", "op", "value"),
    [
        ("agent.name", "eq", "billing"),
        ("agent.owner", "eq", "ann"),
        ("agent.groups", "contains", "night"),
        ("tool.name", "eq", "create_refund"),
        ("server.name", "eq", "bank"),
        ("/amount", "lte", 20),
    ],
)
def test_conditions_judge_the_facts_that_rules_judge(path: str, op: str, value: object) -> None:
    assert code(replace(GRANT, conditions=(where(path, op, value),))) is None


def test_whoever_has_no_owner_meets_no_condition_on_one() -> None:
    grant = replace(GRANT, conditions=(where("agent.owner", "neq", "bob"),))
    assert code(grant, replace(REFUND, owner=None)) == "grant:unknown_conditions"


def test_an_unknown_amount_is_never_covered() -> None:
    for bounded in (GRANT, replace(GRANT, total=None), replace(GRANT, max_per_call=None)):
        assert code(bounded, amount=None) == "grant:unknown_amount"
    unbounded = replace(GRANT, total=None, max_per_call=None)
    assert code(unbounded, amount=None) == "grant:unknown_amount"
    assert code(unbounded, amount=usd(10**9)) is None


def test_only_a_call_that_spends_nothing_needs_no_amount() -> None:
    unbounded = replace(GRANT, total=None, max_per_call=None)
    assert covers(unbounded, REFUND, None, NOW, spends=False) is None
    refusal = covers(GRANT, REFUND, None, NOW, spends=False)
    assert refusal is not None
    assert refusal.code == "grant:unknown_amount"


def test_a_grant_that_is_not_in_force_yet_says_until_when() -> None:
    refusal = covers(replace(GRANT, not_before=NOW + SECOND), REFUND, usd(1), NOW)
    assert refusal is not None
    assert refusal.text == "The grant is not in force before 2026-11-25T12:00:01Z."
    assert refusal.retry_after == SECOND


def test_none_covers_a_call_whose_price_an_approver_types() -> None:
    known = Demand(amount=TWENTY)
    asked = replace(known, terms=Terms(asking=Asking(up_to=TWENTY)))
    for grant in (GRANT, replace(GRANT, max_per_call=None, total=None, uses=None)):
        assert [each.grant for each in offers([grant], REFUND, known)] == ["g"]
        assert offers([grant], REFUND, asked) == ()


# --- what it takes ---


def test_uses_and_total_are_meters_of_the_grant_over_all_time() -> None:
    uses, total = meters(GRANT)
    assert (uses.limit, total.limit) == (Money(20, USES), usd(20000))
    assert (uses.window, total.window) == (AllTime(), AllTime())
    assert meters(replace(GRANT, uses=None, total=None)) == ()


def test_a_call_takes_one_use_and_its_amount() -> None:
    found = grant_draws(GRANT, REFUND, usd(2000))
    assert {draw.meter.name: draw.amount for draw in found} == {
        "uses of the grant": Money(1, USES),
        "total of the grant": usd(2000),
    }
    assert [draw.meter_id for draw in found] == sorted(draw.meter_id for draw in found)
    by_unit = {draw.amount.currency: draw for draw in found}
    assert admits(by_unit[USES], Usage(posted=19))
    assert not admits(by_unit[USES], Usage(posted=20))
    assert not admits(by_unit["USD"], Usage(posted=18001))


def test_each_grant_has_meters_of_its_own_whatever_the_call() -> None:
    ids = {draw.meter_id for draw in grant_draws(GRANT, REFUND, usd(1))}
    other = {draw.meter_id for draw in grant_draws(replace(GRANT, id="h"), REFUND, usd(1))}
    again = {d.meter_id for d in grant_draws(GRANT, replace(REFUND, tool="x"), usd(2))}
    raised = grant_draws(replace(GRANT, uses=99, total=usd(9)), REFUND, usd(1))
    assert len(ids | other) == 4
    assert ids == again == {draw.meter_id for draw in raised}


def test_a_call_without_an_amount_takes_nothing_from_a_total() -> None:
    with pytest.raises(ValueError, match="without an amount"):
        grant_draws(GRANT, REFUND, None)
    [use] = grant_draws(replace(GRANT, total=None), REFUND, None)
    assert use.amount == Money(1, USES)


# --- pinned arguments ---


@pytest.mark.parametrize(
    ("arguments", "free", "same"),
    [
        ({"a": 1, "b": 2}, (), True),
        ({"b": 2, "a": 1}, (), True),
        ({"a": Number("1.0"), "b": 2}, (), True),
        ({"a": 1, "b": 3}, (), False),
        ({"a": 1, "b": 3}, ("b",), True),
        ({"a": 1}, ("b",), True),
        ({"a": 2, "b": 2}, ("b",), False),
        ({"a": "1", "b": 2}, (), False),
        ({"a": 1, "b": 2, "c": None}, (), False),
        ({"a": {"b": 1}, "b": 2}, ("b",), False),
    ],
)
def test_pinned_arguments_are_the_same_but_for_the_free_ones(
    arguments: object, free: tuple[str, ...], same: bool
) -> None:
    assert (pin({"a": 1, "b": 2}, free) == pin(arguments, free)) is same


def test_what_has_no_exact_form_cannot_be_pinned() -> None:
    inexact: list[object] = [None, [], "x", {"a": Number("1e400")}, {"a": 2**60}]
    for arguments in inexact:
        assert pin(arguments) is None
        pinned = replace(GRANT, conditions=(), pinned=pin({}))
        assert code(pinned, replace(REFUND, arguments=arguments)) == "grant:arguments"


# --- made from a decision ---

SHOWN = Shown(subject=REFUND, amount=usd(2000), at=NOW)
BOUNDS = Bounds(uses=5, within=timedelta(days=7), total=usd(5000), vary=("amount", "order"))
MADE = Grant(
    id="d",
    agent="billing",
    upstream="bank",
    tools=(tool_pattern("create_refund", ""),),
    pinned=pin(REFUND.arguments, ("amount",)),
    max_per_call=usd(2000),
    total=usd(5000),
    uses=5,
    expires=NOW + timedelta(days=7),
    granted_by="ann",
    origin=Origin.DECISION,
)


def test_a_grant_may_be_as_wide_as_what_was_shown_times_the_bounds() -> None:
    assert narrower(MADE, SHOWN, BOUNDS) is None
    tighter = replace(
        MADE, uses=1, total=usd(1), max_per_call=usd(1), expires=NOW, not_before=NOW + HOUR
    )
    assert narrower(tighter, SHOWN, BOUNDS) is None
    assert narrower(replace(MADE, conditions=GRANT.conditions), SHOWN, BOUNDS) is None
    assert narrower(replace(MADE, pinned=pin(REFUND.arguments)), SHOWN, BOUNDS) is None
    widest = replace(MADE, pinned=pin(REFUND.arguments, BOUNDS.vary))
    assert narrower(widest, SHOWN, BOUNDS) is None


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (replace(MADE, agent="other"), "the agent and the upstream"),
        (replace(MADE, upstream="shop"), "the agent and the upstream"),
        (replace(MADE, upstream=None), "the agent and the upstream"),
        (replace(MADE, tools=(tool_pattern("create_*", ""),)), "the one tool"),
        (replace(MADE, tools=(*MADE.tools, tool_pattern("x", ""))), "the one tool"),
        (replace(MADE, tools=()), "the one tool"),
        (replace(MADE, pinned=None), "of which only amount, order may differ"),
        (replace(MADE, pinned=pin(REFUND.arguments, ("reason",))), "only amount, order"),
        (replace(MADE, pinned=pin({"reason": "x"}, ("amount",))), "must be those shown"),
        (replace(MADE, pinned=Pinned(digest="", free=("amount",))), "must be those shown"),
        (replace(MADE, uses=6), "5 times at most"),
        (replace(MADE, uses=None), "5 times at most"),
        (replace(MADE, expires=NOW + timedelta(days=7, seconds=1)), "until 2026-12-02T12:00:00Z"),
        (replace(MADE, expires=None), "until 2026-12-02T12:00:00Z"),
        (replace(MADE, max_per_call=usd(2001)), "at most the 20.00 USD shown"),
        (replace(MADE, max_per_call=Money(1, "EUR")), "at most the 20.00 USD shown"),
        (replace(MADE, max_per_call=None), "at most the 20.00 USD shown"),
        (replace(MADE, total=usd(5001)), "spend 50.00 USD in all"),
        (replace(MADE, total=Money(1, "EUR")), "spend 50.00 USD in all"),
        (replace(MADE, total=None), "spend 50.00 USD in all"),
    ],
)
def test_a_grant_that_reaches_further_is_refused(wanted: Grant, told: str) -> None:
    refusal = narrower(wanted, SHOWN, BOUNDS)
    assert refusal is not None
    assert refusal.code == "grant:too_wide"
    assert told in refusal.text


def test_a_tool_whose_name_reads_as_a_pattern_is_granted_to_nobody() -> None:
    shown = replace(SHOWN, subject=replace(REFUND, tool="create_*"))
    wanted = replace(MADE, tools=(tool_pattern("create_*", ""),))
    assert narrower(wanted, shown, BOUNDS) is not None


def test_without_bounds_on_arguments_none_may_differ() -> None:
    refusal = narrower(MADE, SHOWN, replace(BOUNDS, vary=()))
    assert refusal is not None
    assert "of which none may differ" in refusal.text


def test_where_no_money_was_shown_none_needs_a_bound() -> None:
    free = replace(MADE, max_per_call=None, total=None)
    assert narrower(free, replace(SHOWN, amount=None), replace(BOUNDS, total=None)) is None


names = st.sampled_from(["billing", "bank", "create_refund", "create_*", "other"])
moneys = st.builds(Money, st.integers(0, 4), st.sampled_from(["USD", "EUR"]))
arguments_ = st.fixed_dictionaries(
    {"reason": st.sampled_from(["late", "x"]), "amount": st.integers(0, 3)}
)
subjects = st.builds(
    Subject,
    agent=st.sampled_from(["billing", "other"]),
    upstream=st.sampled_from(["bank", "shop"]),
    tool=st.sampled_from(["create_refund", "create_charge"]),
    arguments=arguments_,
)
made = st.builds(
    Grant,
    id=st.just("d"),
    agent=st.sampled_from(["billing", "other"]),
    upstream=st.sampled_from(["bank", "shop"]) | st.none(),
    tools=st.lists(
        st.sampled_from([tool_pattern("create_refund", ""), tool_pattern("create_*", "")]),
        min_size=1,
        max_size=2,
    ).map(tuple),
    pinned=st.builds(pin, arguments_, st.sets(st.sampled_from(["reason", "amount"]))) | st.none(),
    max_per_call=moneys | st.none(),
)
within_bounds = made.map(lambda grant: replace(grant, uses=1, expires=NOW + HOUR))


@settings(max_examples=1000, deadline=None)
@given(wanted=within_bounds, asked=subjects, amount=moneys, shown=moneys)
def test_whatever_a_grant_from_a_decision_covers_differs_only_where_the_rule_says(
    wanted: Grant, asked: Subject, amount: Money, shown: Money
) -> None:
    bounds = replace(BOUNDS, total=None, vary=("amount",))
    card = Shown(subject=replace(REFUND, owner=None, groups=()), amount=shown, at=NOW)
    covered = narrower(wanted, card, bounds) is None and covers(wanted, asked, amount, NOW) is None
    event(f"covered: {covered}")
    if covered:
        assert replace(asked, arguments=None) == replace(card.subject, arguments=None)
        assert pin(asked.arguments, ("amount",)) == pin(REFUND.arguments, ("amount",))
        assert amount <= shown
