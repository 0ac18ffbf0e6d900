"""A grant out of a decision: it comes with the approval that is enough, narrow, or not at all."""

from dataclasses import replace
from datetime import timedelta

import pytest

from approval.core import grants, issued, steps
from approval.core.call import Call, Choice, Factor, Outcome, Requirement, Verdict
from approval.core.demand import Demand, Terms
from approval.core.giving import bounds_of
from approval.core.grantable import Bounds, Wish
from approval.core.grants import Decided, Grant, Origin, covers, stands_in
from approval.core.identity import Agent
from approval.core.lifecycle import Change, Event
from approval.core.money import Money
from approval.core.price import Asking
from approval.core.subject import Subject
from approval.errors import Conflict, Forbidden
from tests.factories import (
    NOW,
    make_asked,
    make_call,
    make_directory,
    make_requirement,
    make_verdict,
)

DAY = timedelta(hours=24)
LATER = NOW + timedelta(minutes=1)
PRICE = Money(115, "USD")
BOUNDS = Bounds(uses=10, within=DAY, total=Money(2000, "USD"), vary=("phone_number",))
WISH = Wish(uses=10, within=DAY, total=Money(2000, "USD"))
ONE = make_requirement(grantable=BOUNDS)
TWO = replace(ONE, factors=(Factor(approvers=("finance",), approvals=2),))


def held(requirement: Requirement = ONE, **changes: object) -> Call:
    return make_call(requirement=requirement, **{"amount": PRICE, **changes})


def decide(
    call: Call,
    person: str = "ann",
    wish: Wish | None = WISH,
    *,
    choice: Choice = Choice.APPROVE,
    verdict: Verdict | None = None,
    **changes: object,
) -> Change:
    cast = steps.Ballot(person=person, choice=choice, digest=call.digest, via="web", grant=wish)
    now = verdict or make_verdict(requirement=call.requirement, demand=Demand(amount=call.amount))
    at = {"directory": make_directory(), "now": LATER} | changes
    return steps.decide(call, cast, verdict=now, **at)  # type: ignore[arg-type]


def made(change: Change) -> Grant:
    assert change.issue is not None
    return change.issue.grant


def test_an_approval_gives_a_grant_for_the_very_call_and_what_may_vary() -> None:
    change = decide(held())
    grant = made(change)
    assert change.event is Event.APPROVE
    assert replace(grant, tools=()) == Grant(
        id="grt_00000000000000000000000000",
        agent="ops-agent",
        tools=(),
        upstream="shop",
        pinned=grants.pin({}, ("phone_number",)),
        max_per_call=PRICE,
        total=Money(2000, "USD"),
        uses=10,
        expires=LATER + DAY,
        granted_by="person:ann",
        origin=Origin.DECISION,
        decided=Decided(call=held().id, people=("ann",), factors=ONE.factors),
    )
    assert [tools.text for tools in grant.tools] == ["create_incoming_phone_number"]


def test_the_trail_of_call_and_grant_name_each_other() -> None:
    change = decide(held())
    assert change.issue is not None
    assert change.entry().facts["granted"] == change.issue.grant.id
    assert change.entry().facts["grant"] == "10 uses within 24h up to 20.00 USD"
    entry = change.issue.entry
    assert (entry.tag, entry.actor, entry.subject) == (
        "grant:issue",
        "person:ann",
        change.issue.grant.id,
    )
    assert entry.facts["call"] == held().id
    assert entry.facts["people"] == ["ann"]
    assert (entry.facts["uses"], entry.facts["total"]) == (10, "20.00 USD")


def test_a_grant_is_kept_and_read_back_as_it_was_made() -> None:
    grant = made(decide(held(TWO, votes=decide(held(TWO), "bob").call.votes)))
    again = issued.read(grant.id, issued.write(grant))
    assert replace(again, tools=()) == replace(grant, tools=())
    assert [tools.text for tools in again.tools] == [tools.text for tools in grant.tools]


@pytest.mark.parametrize(
    ("arguments", "amount", "covered"),
    [
        ({"phone_number": "+1"}, PRICE, True),
        ({}, PRICE, True),
        ({"phone_number": "+1", "sms": True}, PRICE, False),
        ({"phone_number": "+1"}, Money(116, "USD"), False),
        ({"phone_number": "+1"}, Money(115, "EUR"), False),
        ({"phone_number": "+1"}, None, False),
    ],
)
def test_it_covers_what_was_shown_but_for_what_may_vary(
    arguments: dict[str, object], amount: Money | None, covered: bool
) -> None:
    subject = Subject(
        agent="ops-agent",
        upstream="shop",
        tool="create_incoming_phone_number",
        arguments=arguments,
    )
    grant = made(decide(held()))
    assert (covers(grant, subject, amount, LATER) is None) is covered
    for other in (
        replace(subject, agent="other-agent"),
        replace(subject, upstream="mall"),
        replace(subject, tool="create_incoming_phone_numbers"),
    ):
        assert covers(grant, other, amount, LATER) is not None
    assert covers(grant, subject, amount, LATER + DAY) is not None


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (replace(WISH, uses=11), "used 10 times at most"),
        (replace(WISH, within=DAY + timedelta(seconds=1)), "last until"),
        (replace(WISH, total=Money(2001, "USD")), "20.00 USD in all"),
        (replace(WISH, total=None), "20.00 USD in all"),
        (replace(WISH, total=Money(1, "EUR")), "not paid in EUR"),
    ],
)
def test_a_wider_grant_is_refused_and_nothing_is_decided(wish: Wish, told: str) -> None:
    with pytest.raises(Conflict, match=told):
        decide(held(), wish=wish)
    with pytest.raises(Conflict, match=told):
        decide(held(TWO), wish=wish)


def test_a_narrower_grant_is_given() -> None:
    grant = made(decide(held(), wish=Wish(uses=1, within=DAY / 2, total=Money(1, "USD"))))
    assert (grant.uses, grant.total, grant.expires) == (1, Money(1, "USD"), LATER + DAY / 2)


@pytest.mark.parametrize(
    "call",
    [
        held(make_requirement()),
        held(amount=None),
        held(amount=Money(1, "EUR")),
        held(asked=make_asked(agent="gone")),
        held(asked=make_asked(tool="create_*")),
    ],
)
def test_some_calls_give_no_grant_whoever_asks(call: Call) -> None:
    with pytest.raises(Conflict, match=r"no grant comes out|reach too far"):
        decide(call)


def test_a_total_means_nothing_where_nothing_is_spent() -> None:
    call = held(make_requirement(grantable=replace(BOUNDS, total=None)), amount=None)
    with pytest.raises(Conflict, match="not paid in USD"):
        decide(call)
    assert made(decide(call, wish=replace(WISH, total=None))).max_per_call is None


def test_without_a_wish_no_grant_comes_of_it() -> None:
    change = decide(held(), wish=None)
    assert (change.event, change.issue) == (Event.APPROVE, None)
    assert "granted" not in change.facts


# --- what makes none ---


def test_a_rejection_gives_none() -> None:
    change = decide(held(), choice=Choice.REJECT)
    assert (change.event, change.issue) == (Event.REJECT, None)
    assert change.call.votes[-1].grant is None


def test_an_expired_call_gives_none() -> None:
    change = decide(held(), now=NOW + timedelta(hours=1))
    assert (change.event, change.issue) == (Event.EXPIRE, None)


def test_a_call_that_policy_denies_now_gives_none() -> None:
    change = decide(held(), verdict=make_verdict(Outcome.DENY))
    assert (change.event, change.issue) == (Event.INVALIDATE, None)


@pytest.mark.parametrize("person", ["carl", "dora", "ops-agent", "stranger"])
def test_who_may_not_approve_gives_none(person: str) -> None:
    with pytest.raises(Forbidden):
        decide(held(), person)


def test_a_policy_that_was_tightened_meanwhile_counts() -> None:
    now = make_verdict(requirement=make_requirement(grantable=replace(BOUNDS, uses=2)))
    with pytest.raises(Conflict, match="used 2 times"):
        decide(held(), verdict=now)
    with pytest.raises(Conflict, match="no grant comes out"):
        decide(held(), verdict=make_verdict(requirement=make_requirement()))


# --- several approvers ---


def test_the_first_of_two_gives_none_and_both_give_the_narrower() -> None:
    first = decide(held(TWO), "ann", Wish(uses=3, within=DAY, total=Money(2000, "USD")))
    assert (first.event, first.issue) == (Event.ENDORSE, None)
    assert first.facts["wish"] == "3 uses within 24h up to 20.00 USD"
    second = Wish(uses=5, within=timedelta(hours=1), total=Money(500, "USD"))
    change = decide(held(TWO, votes=first.call.votes), "bob", second)
    grant = made(change)
    assert (grant.uses, grant.total) == (3, Money(500, "USD"))
    assert grant.expires == LATER + timedelta(hours=1)
    assert grant.granted_by == "person:bob"
    assert grant.decided is not None
    assert grant.decided.people == ("ann", "bob")


@pytest.mark.parametrize(("first", "second"), [(None, WISH), (WISH, None)])
def test_one_of_two_who_asks_for_none_gives_none(first: Wish | None, second: Wish | None) -> None:
    votes = decide(held(TWO), "ann", first).call.votes
    change = decide(held(TWO, votes=votes), "bob", second)
    assert (change.event, change.issue) == (Event.APPROVE, None)
    assert change.facts["granted"] is None


def test_a_repeated_approval_changes_nothing_and_another_wish_is_refused() -> None:
    voted = held(TWO, votes=decide(held(TWO)).call.votes)
    assert decide(voted).event is None
    for other in (None, replace(WISH, uses=1)):
        with pytest.raises(Conflict, match="those stand"):
            decide(voted, wish=other)


# --- in whose place it stands ---


OPS, LEGAL = Factor(approvers=("ops",)), Factor(approvers=("legal",))


@pytest.mark.parametrize(
    ("required", "stands"),
    [
        (Requirement(factors=(OPS,), grantable=BOUNDS), True),
        (Requirement(factors=(OPS,), grantable=replace(BOUNDS, vary=("a", "phone_number"))), True),
        (Requirement(factors=(OPS,), grantable=replace(BOUNDS, uses=1)), True),
        (Requirement(factors=(OPS,), grantable=replace(BOUNDS, vary=())), False),
        (Requirement(factors=(OPS,)), False),
        (Requirement(factors=(OPS, LEGAL), grantable=BOUNDS), False),
        (Requirement(factors=(LEGAL,), grantable=BOUNDS), False),
        (Requirement(factors=(replace(OPS, approvals=2),), grantable=BOUNDS), False),
        (Requirement(factors=(OPS,), grantable=BOUNDS, distinct=True), False),
    ],
)
def test_it_stands_in_for_those_who_gave_it_and_nobody_else(
    required: Requirement, stands: bool
) -> None:
    grant = replace(
        made(decide(held())),
        decided=Decided(call="apr_1", people=("ann",), factors=(OPS,)),
    )
    assert stands_in(grant, required) is stands
    assert stands_in(replace(grant, decided=None), required)


def test_bounds_are_those_of_the_rule_where_a_grant_can_cover_anything() -> None:
    assert bounds_of(held(), ONE) == BOUNDS
    assert bounds_of(held(amount=None), ONE) is None


def test_a_call_whose_price_is_typed_gives_none() -> None:
    asked = held(terms=Terms(asking=Asking(up_to=PRICE)))
    assert bounds_of(asked, ONE) is None
    verdict = make_verdict(requirement=ONE, demand=Demand(amount=PRICE, terms=asked.terms))
    cast = steps.Ballot(
        person="ann",
        choice=Choice.APPROVE,
        digest=asked.digest,
        via="web",
        amount="1.00 USD",
        grant=WISH,
    )
    with pytest.raises(Conflict, match="no grant comes out"):
        steps.decide(asked, cast, directory=make_directory(), verdict=verdict, now=LATER)


def test_an_agent_that_is_gone_is_given_nothing() -> None:
    directory = make_directory(agents={"x": Agent(name="x", upstreams=frozenset())})
    with pytest.raises(Conflict, match="no grant comes out"):
        decide(held(), directory=directory)
