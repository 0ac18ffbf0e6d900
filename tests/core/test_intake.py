"""How a call begins: held, run at once, denied, or joined to an equal one."""

from dataclasses import replace

import pytest

from approval.core import intake
from approval.core.audit import Entry, Tag
from approval.core.call import (
    CallId,
    Outcome,
    Reason,
    Verdict,
)
from approval.core.lifecycle import Change, Event, Funds
from tests.core.lives import (
    ALLOW,
    DENY,
    GATE,
)
from tests.factories import (
    NOTHING,
    NOW,
    make_asked,
    make_call,
    make_lease,
    make_verdict,
)


def test_a_gated_call_is_held_with_everything_its_verdict_said() -> None:
    asked = make_asked(key="k")
    change = intake.begin(
        asked, GATE, NOTHING, call_id=CallId("apr_1"), lease=make_lease(), now=NOW
    )
    call = make_call(id="apr_1", asked=asked, listener_owner="me")
    assert change == Change(
        call=call,
        event=Event.HOLD,
        funds=Funds.RESERVE,
        actor="agent:ops-agent",
        facts={
            "agent": "ops-agent",
            "arguments": asked.arguments_digest,
            "digest": call.digest,
            "policy": "p" * 64,
            "tool": "create_incoming_phone_number",
            "upstream": "shop",
        },
    )


@pytest.mark.parametrize("verdict", [ALLOW, DENY, replace(GATE, requirement=None)])
def test_nothing_begins_but_a_gate_that_requires_something(verdict: Verdict) -> None:
    with pytest.raises(ValueError, match=r"says what it requires|gated or spends"):
        intake.begin(
            make_asked(), verdict, NOTHING, call_id=CallId("apr_1"), lease=make_lease(), now=NOW
        )


def test_a_denial_is_a_line_in_the_trail_with_digests_and_codes_alone() -> None:
    verdict = make_verdict(
        Outcome.DENY, reasons=(Reason(code="deny_if:true", path="/x", text="secret-text"),)
    )
    assert intake.denial(make_asked(), verdict, "apr_1") == Entry(
        tag=Tag.CALL_DENY,
        subject="apr_1",
        actor="policy",
        facts={
            "agent": "ops-agent",
            "arguments": make_asked().arguments_digest,
            "codes": ["deny_if:true"],
            "policy": "p" * 64,
            "to": "denied",
            "tool": "create_incoming_phone_number",
            "upstream": "shop",
        },
    )
