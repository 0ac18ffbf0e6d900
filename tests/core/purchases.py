"""What is bought at random: amounts sound and unsound, at policies with meters to spend from."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st

from approval.core.call import Call
from approval.core.demand import Demand
from approval.core.dialects import read_policy
from approval.core.meters import USES, Meter
from approval.core.money import Money
from approval.core.policy import Policy
from approval.core.price import OnError
from approval.core.rulebook import Rulebook
from approval.core.terms import RequirementDefaults
from approval.core.windows import AllTime
from tests.factories import make_directory

AGENTS = {"ops-agent": ("red",), "other-agent": ("red", "blue")}
HOSTILE: tuple[object, ...] = (0, -5, 2 * 10**15, 1.5, "5", True, None, [5], {"amount": 5})
# What is named more often happens more often.
AMOUNTS = st.sampled_from((*range(1, 8), *range(1, 8), *range(1, 8), *HOSTILE))
# The last three can never be typed.
TYPED = st.sampled_from([*(f"0.0{cents} USD" for cents in range(1, 7)), "0 USD", "3", "0.03 EUR"])
TOOK = st.sampled_from((*range(1, 10), *range(1, 10), *HOSTILE))

DAY = {"limit": "0.10 USD", "window": {"calendar": "day"}, "scope": ["agent"]}
WEEK = {
    "limit": "0.12 USD",
    "window": {"calendar": "week", "zone": "America/Havana"},
    "scope": ["group"],
    "soft": {"override_by": ["ann"], "up_to": "0.09 USD"},
}
ROLLING = {
    "limit": "0.14 USD",
    "window": {"rolling": "24h"},
    "scope": [],
    "soft": {"override_by": ["bob"], "up_to": "0.05 USD"},
    "over": "ask",
}
EXTRA = {"limit": "0.12 USD", "window": {"calendar": "day", "zone": "Asia/Tokyo"}, "scope": []}
STATED = {"argument": "/amount", "unit": "minor", "currency": "USD"}
GRANT = "g"
USES_LEFT = Meter(name="uses", origin=GRANT, limit=Money(3, USES), window=AllTime())


def document(
    on_error: OnError, price: Mapping[str, object] | None, *meters: str
) -> dict[str, object]:
    spend = {
        "amount": price,
        "meters": list(meters),
        "on_overrun": "alert",
        "actual": {"result": "/structuredContent/took", "unit": "minor"},
    }
    charge = {"spend": spend, "on_error": on_error.value} if price is not None else {}
    return {
        **charge,
        "require_approval": [{"conditions": [{"path": "args.ask", "op": "eq", "value": True}]}],
        # Two rates: whoever is told to wait for one has waited for the other.
        "rate_limit": {"max": 2, "window": "10m"},
        "limits": [{"counter": "each hour", "max": 3, "window": "hour", "scope": ["tool"]}],
    }


def policy(price: Mapping[str, object] | None, *meters: str, **changed: object) -> Policy:
    """Draw on these meters at a price, or on none without one; `changed` are other limits."""
    limits = {"day": DAY, "week": WEEK, "rolling": ROLLING, "extra": EXTRA}
    return read_policy(
        {
            "dialect": "approval-1",
            "version": "1",
            "default": "deny",
            "tools": {each.value: document(each, price, *meters) for each in OnError},
            "meters": {
                name: {**meter, **({"limit": changed[name]} if name in changed else {})}
                for name, meter in limits.items()
            },
        },
        source="p",
        defaults=RequirementDefaults(
            approvers=("finance",), timeout=timedelta(hours=36), run_within=timedelta(hours=24)
        ),
    )


POLICIES: Mapping[str, Policy] = {
    "plain": policy(STATED, "day", "week", "rolling"),
    "one more meter": policy(STATED, "day", "week", "rolling", "extra"),
    "one less": policy(STATED, "day", "rolling"),
    "one price": policy({"fixed": "0.03 USD"}, "day", "week", "rolling"),
    "typed": policy({"ask": True, "up_to": "0.06 USD"}, "day", "week", "rolling"),
    "typed, less": policy({"ask": True, "up_to": "0.04 USD"}, "day", "rolling", "extra"),
    "lower limits": policy(
        STATED, "day", "week", "rolling", day="0.05 USD", week="0.08 USD", rolling="0.06 USD"
    ),
    "no price": policy(None),
}

_PEOPLE = make_directory()
DIRECTORY = replace(
    _PEOPLE,
    agents={name: replace(_PEOPLE.agents[name], groups=AGENTS[name]) for name in AGENTS},
)
RULES = {
    name: Rulebook(directory=DIRECTORY, policies={"shop": rules})
    for name, rules in POLICIES.items()
}


def as_typed(demand: Demand | None, call: Call) -> Demand:
    """Give what a call takes at the price that was typed for it, where that may still be typed."""
    now = demand.terms.asking if demand is not None else None
    if demand is None or now is None or call.typed is None or not now.admits(call.typed):
        return demand or Demand()
    return demand.at(call.typed)
