"""A call's values: its id, its envelope, what has ended."""

import base64
import hashlib
import re
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from approval.core.call import (
    UNENDED,
    Call,
    CallPage,
    Choice,
    Factor,
    Listener,
    OnDisconnect,
    Run,
    Status,
    Vote,
    new_call_id,
    requirement_facts,
)
from tests.factories import NOW, make_asked, make_call, make_requirement

A_VOTE = Vote(person="ann", choice=Choice.APPROVE, digest="d", at=NOW, via="web")


def test_only_four_states_are_not_ends() -> None:
    assert {status for status in Status if not status.ended} == UNENDED
    assert {str(status) for status in UNENDED} == {"pending", "approved", "executing", "in_doubt"}


def test_the_arguments_digest_is_that_of_the_bytes_that_are_sent() -> None:
    assert make_asked().arguments == b'{"phone_number":"+14155550100"}'
    digest = hashlib.sha256(b'{"phone_number":"+14155550100"}').hexdigest()
    assert make_asked().arguments_digest == digest


def test_the_envelope_is_the_hash_of_one_written_down_form() -> None:
    text = (
        '{"agent":"ops-agent","arguments":"' + make_asked().arguments_digest + '",'
        '"decide_before":"2026-11-21T12:15:00+00:00","id":"apr_00000000000000000000000000",'
        '"key":"","policy":"' + "p" * 64 + '","requirement":{"distinct":false,"factors":'
        '[{"approvals":1,"approvers":["finance"]}],"not_owner":true,"notify":[],'
        '"on_disconnect":"detach","run":"auto","run_within_seconds":600,"timeout_seconds":900},'
        '"tool":"create_incoming_phone_number","upstream":"shop"}'
    )
    expected = hashlib.sha256(b"approval/call/1\n" + text.encode()).hexdigest()
    assert make_call().digest == expected


@pytest.mark.parametrize(
    "changed",
    [
        make_call(id="apr_1"),
        make_call(asked=make_asked({"phone_number": "+14155550101"})),
        make_call(asked=make_asked(agent="other-agent")),
        make_call(asked=make_asked(upstream="other")),
        make_call(asked=make_asked(tool="other")),
        make_call(asked=make_asked(key="2")),
        make_call(policy_digest="q" * 64),
        make_call(decide_before=NOW),
        make_call(requirement=make_requirement(factors=(Factor(approvers=("everybody",)),))),
        make_call(
            requirement=make_requirement(factors=(Factor(approvers=("finance",), approvals=2),))
        ),
        make_call(requirement=make_requirement(timeout=timedelta(minutes=1))),
        make_call(requirement=make_requirement(run_within=timedelta(minutes=1))),
        make_call(requirement=make_requirement(distinct=True)),
        make_call(requirement=make_requirement(not_owner=False)),
        make_call(requirement=make_requirement(run=Run.WHEN_ASKED)),
        make_call(requirement=make_requirement(on_disconnect=OnDisconnect.CANCEL)),
    ],
)
def test_whatever_an_approval_depends_on_changes_the_envelope(changed: Call) -> None:
    assert changed.digest != make_call().digest


def test_what_happens_to_a_call_does_not_change_its_envelope() -> None:
    lived = replace(
        make_call(),
        status=Status.APPROVED,
        version=7,
        listener=Listener.GONE,
        votes=(A_VOTE,),
        run_before=NOW,
        decided_at=NOW,
        note="fine",
    )
    assert lived.digest == make_call().digest


def test_a_requirement_is_written_as_plain_json() -> None:
    assert requirement_facts(make_requirement(notify=("email:finance",))) == {
        "factors": [{"approvals": 1, "approvers": ["finance"]}],
        "timeout_seconds": 900,
        "run_within_seconds": 600,
        "distinct": False,
        "not_owner": True,
        "run": "auto",
        "on_disconnect": "detach",
        "notify": ["email:finance"],
    }


def test_only_approvals_are_approvals() -> None:
    no = replace(A_VOTE, choice=Choice.REJECT)
    assert make_call(votes=(A_VOTE, no)).approvals == (A_VOTE,)


def test_an_id_is_a_uuid_of_version_seven_written_in_lower_case() -> None:
    call_id = new_call_id(NOW, bytes(range(1, 11)))
    assert re.fullmatch("apr_[0-9a-v]{26}", call_id)
    raw = base64.b32hexdecode(call_id.removeprefix("apr_").upper() + "======")
    value = uuid.UUID(bytes=raw)
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert int.from_bytes(raw[:6]) == int(NOW.timestamp() * 1000)


@settings(deadline=None)
@given(st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_ids_sort_by_time_whatever_the_randomness(first: bytes, second: bytes) -> None:
    later = NOW + timedelta(milliseconds=1)
    assert new_call_id(NOW, first) < new_call_id(later, second)


@settings(deadline=None)
@given(st.binary(min_size=10, max_size=10))
def test_every_id_has_its_version_and_variant(randomness: bytes) -> None:
    text = new_call_id(NOW, randomness)
    raw = base64.b32hexdecode(text.removeprefix("apr_").upper() + "======")
    assert (len(text), raw[6] >> 4, raw[8] >> 6) == (30, 7, 2)


def test_a_page_ends_where_there_is_no_next() -> None:
    assert CallPage(calls=()).next is None
