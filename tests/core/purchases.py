"""What is bought at random: amounts sound and unsound, at policies with meters to spend from."""

from collections.abc import Mapping
from datetime import timedelta

from hypothesis import strategies as st

from approval.core.dialects import read_policy
from approval.core.meters import USES, Meter
from approval.core.money import Money
from approval.core.policy import Policy
from approval.core.price import OnError
from approval.core.terms import RequirementDefaults
from approval.core.windows import AllTime

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


def document(on_error: OnError, price: Mapping[str, object], *meters: str) -> dict[str, object]:
    return {
        "spend": {
            "amount": price,
            "meters": list(meters),
            "on_overrun": "alert",
            "actual": {"result": "/structuredContent/took", "unit": "minor"},
        },
        "on_error": on_error.value,
        "require_approval": [{"conditions": [{"path": "args.ask", "op": "eq", "value": True}]}],
        "rate_limit": {"max": 2, "window": "10m"},
    }


def policy(price: Mapping[str, object], *meters: str) -> Policy:
    return read_policy(
        {
            "dialect": "approval-1",
            "version": "1",
            "default": "deny",
            "tools": {each.value: document(each, price, *meters) for each in OnError},
            "meters": {"day": DAY, "week": WEEK, "rolling": ROLLING, "extra": EXTRA},
        },
        source="p",
        defaults=RequirementDefaults(
            approvers=("finance",), timeout=timedelta(hours=36), run_within=timedelta(hours=24)
        ),
    )


POLICIES = {
    "plain": policy(STATED, "day", "week", "rolling"),
    "one more meter": policy(STATED, "day", "week", "rolling", "extra"),
    "one less": policy(STATED, "day", "rolling"),
    "one price": policy({"fixed": "0.03 USD"}, "day", "week", "rolling"),
    "typed": policy({"ask": True, "up_to": "0.06 USD"}, "day", "week", "rolling"),
    "typed, less": policy({"ask": True, "up_to": "0.04 USD"}, "day", "week", "extra"),
}
