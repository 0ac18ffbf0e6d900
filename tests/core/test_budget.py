"""The budget of a policy: meters, prices, and who draws on them."""

from datetime import timedelta

import pytest

from approval.core.call import Factor, Requirement
from approval.core.dialects import Shared, read_policy
from approval.core.document import Place
from approval.core.limits import read_meters
from approval.core.terms import RequirementDefaults
from approval.errors import Misconfigured

METER = {"limit": "5.00 USD", "window": {"calendar": "day"}}


def document(**more: object) -> dict[str, object]:
    return {"dialect": "approval-1", "version": "1", "default": "deny", **more}


def test_a_tool_names_meters_of_the_document_and_of_the_configuration() -> None:
    shared = Shared(
        meters=read_meters(
            Place(source="c", pointer="/meters", value={"all": METER}), origin="c", people=[]
        )
    )
    spend = {"amount": {"fixed": "1.00 USD"}, "meters": ["own", "all"]}
    policy = read_policy(
        document(tools={"buy": {"spend": spend}}, meters={"own": METER}),
        source="p",
        defaults=RequirementDefaults(),
        shared=shared,
    )
    [charge] = policy.charges
    assert [meter.name for meter in charge.meters] == ["own", "all"]
    assert sorted(policy.meters) == ["all", "own"]
    clash = document(meters={"all": METER})
    with pytest.raises(Misconfigured, match="all upstreams share"):
        read_policy(clash, source="p", defaults=RequirementDefaults(), shared=shared)


def test_a_meter_that_is_misspelt_is_told_with_the_one_that_was_meant() -> None:
    spend = {"amount": {"fixed": "1.00 USD"}, "meters": ["pots"]}
    with pytest.raises(Misconfigured, match="did you mean pot"):
        read_policy(
            document(tools={"buy": {"spend": spend}}, meters={"pot": METER}),
            source="p",
            defaults=RequirementDefaults(),
        )


@pytest.mark.parametrize(
    ("spend", "pointer"),
    [
        ({"amount": {"ask": True, "up_to": "5.00 USD"}}, "/tools/buy/spend/amount"),
        (
            {
                "amount": {"argument": "/amount", "unit": "minor", "currency": "USD"},
                "per_call": "5.00 USD",
                "on_unknown": "gate",
            },
            "/tools/buy/spend/on_unknown",
        ),
    ],
)
def test_an_amount_that_approvers_type_needs_approvers(
    spend: dict[str, object], pointer: str
) -> None:
    tools = {"buy": {"spend": spend}}
    with pytest.raises(Misconfigured) as refusal:
        read_policy(document(tools=tools), source="p", defaults=RequirementDefaults())
    [problem] = refusal.value.problems
    assert problem.startswith(f"p: {pointer}: an approver types this amount, and nobody is named")
    gate = RequirementDefaults(approvers=("finance",), quorum=2)
    [charge] = read_policy(document(tools=tools), source="p", defaults=gate).charges
    assert charge.asks == Requirement(factors=(Factor(approvers=("finance",), approvals=2),))
    own = {"require_approval": {"approvers": "cfo", "timeout": "5m"}}
    policy = read_policy(document(tools=tools, defaults=own), source="p", defaults=gate)
    assert policy.charges[0].asks == Requirement(
        factors=(Factor(approvers=("cfo",), approvals=2),), timeout=timedelta(minutes=5)
    )


def test_a_price_that_is_known_asks_nobody() -> None:
    spend = {"amount": {"fixed": "1.00 USD"}}
    gate = RequirementDefaults(approvers=("finance",))
    policy = read_policy(document(tools={"buy": {"spend": spend}}), source="p", defaults=gate)
    assert [charge.asks for charge in policy.charges] == [None]


def test_money_is_kept_after_an_error_only_where_there_is_money() -> None:
    with pytest.raises(Misconfigured, match="without spend there is no money to keep"):
        read_policy(
            document(tools={"buy": {"on_error": "void"}}),
            source="p",
            defaults=RequirementDefaults(),
        )


@pytest.mark.parametrize(
    ("said", "on_error"),
    [({}, "keep"), *(({"on_error": word}, word) for word in ("keep", "post", "void"))],
)
def test_a_tool_says_what_an_error_costs(said: dict[str, str], on_error: str) -> None:
    spend = {"amount": {"fixed": "1.00 USD"}, "meters": []}
    policy = read_policy(
        document(tools={"buy": {"spend": spend, **said}}),
        source="p",
        defaults=RequirementDefaults(),
    )
    assert [charge.spend.on_error for charge in policy.charges] == [on_error]


def test_every_limit_of_a_tool_is_its_own() -> None:
    """Two tools with equal limits count apart, and so do two limits of one tool."""
    once = {"rate_limit": {"max": 1, "window": "1m"}}
    policy = read_policy(
        document(tools={"buy": once, "sell": once}), source="p", defaults=RequirementDefaults()
    )
    assert len(policy.limits) == 2
    assert len({(limit.rate.origin, limit.rate.name) for limit in policy.limits}) == 2
