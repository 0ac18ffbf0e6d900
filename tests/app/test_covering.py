"""What is met: rules that object, limits that refuse or hold, and meters that are looked at."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from approval.app.covering import Coverage
from approval.core import admission
from approval.core.admission import Admitted
from approval.core.demand import Holdings
from approval.core.explaining import trace
from approval.core.meters import SHARED
from approval.core.rulebook import Rulebook
from tests.factories import NOW, make_call, make_policy, make_rulebook

DOLLARS = {"argument": "/n", "unit": "major", "currency": "USD"}
SOFT = {"override_by": "finance", "up_to": "5.00 USD"}
RULES: Mapping[str, object] = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {
        "buy": {
            "spend": {"amount": DOLLARS, "per_call": "20.00 USD", "meters": ["pot"]},
            "deny_if": [{"conditions": [{"path": "args.bad", "op": "eq", "value": True}]}],
            "rate_limit": {"max": 2, "window": 60},
        },
    },
    "meters": {
        "pot": {"limit": "10.00 USD", "window": {"all_time": True}, "soft": SOFT, "over": "ask"},
        "idle": {"limit": "10.00 USD", "window": {"all_time": True}},
    },
}
ALL = (
    "test.json: /tools/buy/deny_if/0",
    "test.json: /tools/buy/spend/per_call",
    "test.json: /tools/buy/rate_limit",
    "test.json: /meters/pot",
)


def met(coverage: Coverage) -> set[str]:
    return set(ALL) - set(coverage.unmet)


def test_rules_caps_rates_and_meters_that_are_drawn_on_can_be_met() -> None:
    coverage = Coverage(make_rulebook(RULES))
    assert (coverage.unmet, len(coverage)) == (ALL, 4)


@pytest.mark.parametrize(
    ("arguments", "places"),
    [
        ({"n": 1, "bad": False}, set()),
        ({"n": 1, "bad": True}, {ALL[0]}),
        ({"n": 20, "bad": False}, set()),
        ({"n": 21, "bad": False}, {ALL[1]}),
        ({"bad": False}, set()),
    ],
)
def test_a_rule_is_met_where_it_objects_and_a_cap_above_it(
    arguments: dict[str, int], places: set[str]
) -> None:
    rules = make_rulebook(RULES)
    coverage = Coverage(rules)
    coverage.judged(trace(rules, "ops-agent", "shop", "buy", dict(arguments)))
    assert met(coverage) == places


def test_a_limit_is_met_by_the_name_that_its_refusal_gives() -> None:
    coverage = Coverage(make_rulebook(RULES))
    coverage.refused(None)
    coverage.refused(("another.json", "pot"))
    assert met(coverage) == set()
    coverage.refused(("test.json", "/tools/buy/rate_limit"))
    coverage.refused(("test.json", "pot"))
    assert met(coverage) == {ALL[2], ALL[3]}


@pytest.mark.parametrize(("n", "places"), [(10, set()), (11, {ALL[3]})])
def test_a_soft_meter_is_met_where_a_call_is_held_beyond_it(n: int, places: set[str]) -> None:
    rules = make_rulebook(RULES)
    verdict = rules.judge("ops-agent", "shop", "buy", {"n": n, "bad": False})
    admitted = admission.admit(verdict, Holdings(), NOW)
    assert isinstance(admitted, Admitted)
    reservations = tuple(each.reservation for each in admitted.bookings)
    coverage = Coverage(rules)
    coverage.held(make_call(reservations=reservations), verdict.demand)
    assert met(coverage) == places


def test_a_meter_that_upstreams_share_is_one() -> None:
    policy = make_policy(RULES)
    [charge] = policy.charges
    shared = replace(policy.meters["pot"], origin=SHARED)
    policies = {
        name: replace(policy, source=name, charges=(replace(charge, meters=(shared,)),))
        for name in ("a", "b")
    }
    coverage = Coverage(Rulebook(directory=make_rulebook().directory, policies=policies))
    assert [each for each in coverage.unmet if "pot" in each] == ["[meters]: /meters/pot"]
    coverage.looked(shared)
    assert not [each for each in coverage.unmet if "pot" in each]
