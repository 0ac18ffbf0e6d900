"""A call goes into its rows and comes out as it was, whatever is in it."""

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import RowMapping, create_engine, insert, select

from approval.core.call import (
    Attempt,
    Call,
    CallId,
    Choice,
    Factor,
    Listener,
    OnDisconnect,
    Reason,
    Requirement,
    Run,
    Status,
    ToolCall,
    Vote,
)
from approval.core.demand import Terms
from approval.core.money import CAP, Money
from approval.core.price import Asking
from approval.store import rows
from approval.store.tables import attempts, call_bodies, calls, metadata, votes
from tests.factories import NOW, make_call

# SQLite's text is UTF-8, so half a surrogate pair has no place in it; everything else has.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
spans = st.timedeltas(timedelta(0), timedelta(days=400))
factors = st.builds(
    Factor, approvers=st.lists(texts, max_size=3).map(tuple), approvals=st.integers(1, 9)
)
requirements = st.builds(
    Requirement,
    factors=st.lists(factors, max_size=3).map(tuple),
    timeout=spans,
    run_within=spans,
    distinct=st.booleans(),
    not_owner=st.booleans(),
    run=st.sampled_from(Run),
    on_disconnect=st.sampled_from(OnDisconnect),
    notify=st.lists(texts, max_size=2).map(tuple),
)
moneys = st.builds(Money, st.integers(0, CAP), st.sampled_from(["USD", "JPY"]))
given_votes = st.builds(
    Vote,
    person=texts,
    choice=st.sampled_from(Choice),
    digest=texts,
    at=moments,
    via=texts,
    reason=texts,
    amount=st.none() | moneys,
)
given_attempts = st.builds(
    Attempt,
    number=st.integers(1, 9),
    owner=texts,
    claimed_at=moments,
    lease_until=moments,
    outcome=st.none() | texts,
)
asked = st.builds(
    ToolCall,
    agent=texts,
    upstream=texts,
    tool=texts,
    arguments=st.binary(max_size=40),
    key=texts,
    protocol_version=texts,
)
given_calls = st.builds(
    Call,
    id=texts.map(CallId),
    asked=asked,
    status=st.sampled_from(Status),
    version=st.integers(1, 2**31),
    requirement=requirements,
    reasons=st.lists(st.builds(Reason, code=texts, path=texts, text=texts), max_size=2).map(tuple),
    policy_digest=texts,
    created_at=moments,
    decide_before=moments,
    title=st.none() | texts,
    run_before=st.none() | moments,
    decided_at=st.none() | moments,
    ended_at=st.none() | moments,
    delivered_at=st.none() | moments,
    listener=st.sampled_from(Listener),
    listener_owner=texts,
    ended_by=texts,
    note=texts,
    votes=st.lists(given_votes, max_size=3, unique_by=lambda v: (v.person, v.choice)).map(tuple),
    attempt=st.none() | given_attempts,
)
engine = create_engine("sqlite://")


def kept(call: Call) -> Call:
    """Write the call's rows into a database of nothing else and read them back."""
    with engine.connect() as connection:
        metadata.create_all(connection)
        connection.execute(insert(calls), rows.call_row(call))
        body = {"call_id": call.id, "arguments": call.asked.arguments}
        connection.execute(insert(call_bodies), body)
        for vote in call.votes:
            connection.execute(insert(votes), rows.vote_row(call.id, vote))
        if call.attempt is not None:
            connection.execute(insert(attempts), rows.attempt_row(call.id, call.attempt))
        joined = select(calls, call_bodies.c.arguments).join(call_bodies)
        row = connection.execute(joined).mappings().one()
        given: Sequence[RowMapping] = connection.execute(select(votes)).mappings().all()
        attempt = connection.execute(select(attempts)).mappings().one_or_none()
        back = rows.to_call(row, given, attempt)
        connection.rollback()
    return back


@given(moneys, st.none() | st.builds(Asking, up_to=moneys, allow_zero=st.booleans()))
def test_a_price_comes_back_with_whether_and_up_to_what_it_is_typed(
    amount: Money, asking: Asking | None
) -> None:
    call = make_call(amount=amount, terms=Terms(asking=asking))
    assert kept(call) == call


@settings(deadline=None)
@given(given_calls)
def test_a_call_comes_back_as_it_went_in_with_the_same_digest(call: Call) -> None:
    back = kept(call)
    assert set(back.votes) == set(call.votes)
    assert replace(back, votes=call.votes) == call
    assert back.digest == call.digest


def test_every_field_of_a_call_has_its_place_in_the_rows() -> None:
    row = rows.call_row(make_call())
    elsewhere = {"asked", "votes", "attempt", "reservations"}
    named = {"grant_id" if name == "grant" else name for name in (f.name for f in fields(Call))}
    assert named - elsewhere <= row.keys()
    assert row.keys() == {column.name for column in calls.c}


LEASED = Attempt(number=1, owner="me", claimed_at=NOW, lease_until=NOW + timedelta(seconds=75))
TIMED = make_call(run_before=NOW + timedelta(minutes=10), attempt=LEASED)


@pytest.mark.parametrize("status", Status)
def test_the_clock_looks_at_a_call_when_it_next_has_a_say_in_it(status: Status) -> None:
    due = {
        Status.PENDING: NOW + timedelta(minutes=15),
        Status.APPROVED: NOW + timedelta(minutes=10),
        Status.EXECUTING: NOW + timedelta(seconds=75),
    }
    assert rows.call_row(replace(TIMED, status=status))["timer_at"] == due.get(status)


def test_an_executing_call_without_an_attempt_has_no_timer() -> None:
    call = make_call(status=Status.EXECUTING)
    assert rows.call_row(call)["timer_at"] is None
