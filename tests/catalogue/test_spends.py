"""Prices that nothing bounds or nothing lets pass, and meters that count nothing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from approval.catalogue.linting import lint
from approval.core.meters import SHARED
from approval.core.rulebook import Rulebook
from tests.catalogue.test_linting import DEAR, PEOPLE, found, of, policy, remarks

STATED = {"argument": "/n", "unit": "minor", "currency": "USD"}
ANY_CURRENCY = {"argument": "/n", "unit": "minor", "currency_argument": "/currency"}
LISTED = {"each": "/items", "price": "/price", "unit": "minor", "currency": "USD"}
FIXED = {"fixed": "5.00 USD"}
BOUND = {"at_most": "5.00 USD"}
TOOK = {"result": "/cents", "unit": "minor"}
DAY = {"calendar": "day"}
ROLLING = {"rolling": "24h"}
SOFT = {"override_by": "finance", "up_to": "2.00 USD"}
CODES = {"unbounded", "uncapped", "other_currency", "above_limit", "idle_meter"}


def buying(amount: object, *meters: str, **more: object) -> dict[str, object]:
    spend = {"amount": amount, "meters": list(meters)}
    spend |= {key: more.pop(key) for key in ("per_call", "actual") if key in more}
    return {"spend": spend, **more}


def document(
    buy: Mapping[str, object], limit: str = "9.00 USD", window: object = ROLLING, **more: object
) -> dict[str, Any]:
    return {
        "tools": {"buy": buy},
        "meters": {"pot": {"limit": limit, "window": window, **more}},
        "defaults": {"require_approval": {"approvers": "finance"}},
    }


def bare(buy: Mapping[str, object], **tools: object) -> dict[str, Any]:
    return {"tools": {"buy": buy, **tools}}


def told(policy_document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [each for each in found(policy_document) if each[1] in CODES]


@pytest.mark.parametrize(
    ("policy_document", "expected"),
    [
        # a calendar window and what one call may take of it
        (document(buying(STATED, "pot"), window=DAY), ("note", "uncapped", "/tools/buy/spend")),
        (document(buying(LISTED, "pot"), window=DAY), ("note", "uncapped", "/tools/buy/spend")),
        (
            document(buying(STATED, "pot", require_approval=[of(DEAR)]), window=DAY),
            ("note", "uncapped", "/tools/buy/spend"),
        ),
        (document(buying(STATED, "pot", per_call="5.00 USD"), window=DAY), None),
        (document(buying(STATED, "pot", deny_if=[of(DEAR)]), window=DAY), None),
        (document(buying(STATED, "pot")), None),
        (document(buying(FIXED, "pot"), window=DAY), None),
        # neither a meter nor a cap
        (bare(buying(STATED)), ("warning", "unbounded", "/tools/buy/spend")),
        (bare(buying(LISTED)), ("warning", "unbounded", "/tools/buy/spend")),
        (bare(buying(FIXED)), ("note", "unbounded", "/tools/buy/spend")),
        (bare(buying(BOUND, actual=TOOK)), ("note", "unbounded", "/tools/buy/spend")),
        (bare(buying(STATED, per_call="5.00 USD")), None),
        (bare(buying(STATED, require_approval=[of(DEAR)])), None),
        (bare(buying(STATED, require_approval=[{}])), None),
        # a price that its meter never lets pass
        (
            document(buying({"fixed": "5.00 EUR"}, "pot")),
            ("warning", "other_currency", "/tools/buy/spend"),
        ),
        (
            document(buying(STATED, "pot"), "9.00 EUR"),
            ("warning", "other_currency", "/tools/buy/spend"),
        ),
        (document(buying(ANY_CURRENCY, "pot"), "9.00 EUR"), None),
        (
            document(buying({"fixed": "9.01 USD"}, "pot")),
            ("warning", "above_limit", "/tools/buy/spend"),
        ),
        (
            document(buying({"at_most": "9.01 USD"}, "pot", actual=TOOK)),
            ("warning", "above_limit", "/tools/buy/spend"),
        ),
        (
            document(buying({"ask": True, "up_to": "9.01 USD"}, "pot")),
            ("warning", "above_limit", "/tools/buy/spend"),
        ),
        (
            document(buying({"table": {"a": "1.00 USD", "b": "9.01 USD"}, "key": "/a"}, "pot")),
            ("warning", "above_limit", "/tools/buy/spend"),
        ),
        (document(buying({"fixed": "9.00 USD"}, "pot")), None),
        (document(buying({"fixed": "11.00 USD"}, "pot"), soft=SOFT), None),
        (
            document(buying({"fixed": "11.01 USD"}, "pot"), soft=SOFT),
            ("warning", "above_limit", "/tools/buy/spend"),
        ),
        # a meter that nobody draws on
        (document({}), ("warning", "idle_meter", "/meters/pot")),
    ],
)
def test_prices_and_meters_that_were_hardly_meant_are_remarked(
    policy_document: Mapping[str, Any], expected: tuple[str, str, str] | None
) -> None:
    assert told(policy_document) == ([expected] if expected else [])


def test_a_rolling_meter_beside_the_calendars_bounds_a_call() -> None:
    both = document(buying(STATED, "pot", "day"))
    both["meters"]["day"] = {"limit": "9.00 USD", "window": DAY}
    assert told(both) == []


def test_a_wider_patterns_price_counts_a_narrower_ones() -> None:
    star = {"spend": {"amount": STATED, "meters": ["pot"]}}
    wide = document(buying(STATED)) | {"tools": {"*": star, "buy": buying(STATED)}}
    assert told(wide) == []


def test_a_price_that_narrows_is_held_against_the_upstreams_meters() -> None:
    narrower = {"default": "allow", **bare(buying(STATED))}
    codes = [each.code for each in remarks(document(buying(STATED, "pot")), narrower)]
    assert not set(codes) & CODES
    codes = [each.code for each in remarks(bare({}), narrower)]
    assert "unbounded" in codes


def test_a_shared_meter_is_idle_only_where_no_policy_draws_on_it() -> None:
    drawing = policy(document(buying(FIXED, "pot")))
    shared = replace(drawing.meters["pot"], origin=SHARED)
    [charge] = drawing.charges
    drawing = replace(drawing, meters={"pot": shared}, charges=(replace(charge, meters=(shared,)),))
    other = replace(policy(bare({})), meters={"pot": shared})
    assert lint(Rulebook(directory=PEOPLE, policies={"shop": drawing, "two": other})) == ()
    [remark] = lint(Rulebook(directory=PEOPLE, policies={"two": other}))
    assert (remark.source, remark.code, remark.path) == (SHARED, "idle_meter", "/meters/pot")


def test_the_remark_says_which_price_and_which_meter() -> None:
    [remark] = remarks(document(buying({"fixed": "12.00 USD"}, "pot")))
    assert remark.what == (
        "never passes: 12.00 USD is more than all that the meter pot allows, 9.00 USD"
    )
    [remark] = remarks(document(buying({"fixed": "1.00 EUR"}, "pot")))
    assert remark.what == (
        "costs EUR, which the meter pot cannot count: it is in USD, and such a call is always"
        " denied"
    )
