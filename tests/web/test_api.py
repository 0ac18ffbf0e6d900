import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from approval.core.audit import Tag
from approval.core.call import Choice, Status
from tests.factories import (
    ANN_TOKEN,
    BOB_TOKEN,
    CARL_TOKEN,
    PRICE_PURCHASES,
    Clock,
    make_rulebook,
)
from tests.web.scripting import Script, script
from tests.web.serving import Site, serve, tags, trail

NOBODY = "apr_" + "0" * 26


@pytest.fixture
async def ann_script(site: Site) -> AsyncIterator[Script]:
    async with script(site, ANN_TOKEN) as given:
        yield given


@pytest.fixture
async def carl_script(site: Site) -> AsyncIterator[Script]:
    async with script(site, CARL_TOKEN) as given:
        yield given


# --- reading ---


async def test_a_waiting_call_is_answered_whole(site: Site, ann_script: Script) -> None:
    call = await site.hold({"phone_number": "+1", "quantity": 2})
    reply = await ann_script.get("/v1/calls?state=pending")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.json == {
        "calls": [
            {
                "id": call.id,
                "state": "pending",
                "version": 1,
                "agent": "ops-agent",
                "upstream": "shop",
                "tool": "create_incoming_phone_number",
                "title": "buy a phone number",
                "arguments": {"phone_number": "+1", "quantity": 2},
                "arguments_digest": call.asked.arguments_digest,
                "digest": call.digest,
                "amount": None,
                "up_to": None,
                "created_at": "2026-11-21T12:00:00.000Z",
                "decide_before": "2026-11-21T12:15:00.000Z",
                "run_before": None,
                "decided_at": None,
                "ended_at": None,
                "delivered_at": None,
                "decided_by": None,
                "ended_by": None,
                "released_by": None,
                "reason": "",
                "votes": [],
                "may_decide": True,
                "listener": "waiting",
                "requirement": {
                    "factors": [{"approvals": 1, "approvers": ["finance"]}],
                    "timeout_seconds": 900,
                    "run_within_seconds": 600,
                    "distinct": False,
                    "not_owner": True,
                    "run": "auto",
                    "on_disconnect": "detach",
                    "notify": [],
                },
                "policy": {
                    "digest": call.policy_digest,
                    "reasons": [
                        {"code": reason.code, "path": reason.path, "text": reason.text}
                        for reason in call.reasons
                    ],
                },
            }
        ],
        "next": None,
    }


async def test_arguments_keep_their_tokens(site: Site, ann_script: Script) -> None:
    call = await site.hold({"big": 9007199254740991, "zero": 0})
    reply = await ann_script.get(f"/v1/calls/{call.id}")
    assert '"arguments":{"big":9007199254740991,"zero":0}' in reply.text


async def test_pages_follow_each_other(site: Site, ann_script: Script, clock: Clock) -> None:
    calls = []
    for number in range(3):
        clock.advance(seconds=1)
        calls.append(await site.hold({"phone_number": f"+{number}"}))
    first = await ann_script.get("/v1/calls?limit=2")
    assert [call["id"] for call in first.json["calls"]] == [calls[2].id, calls[1].id]
    second = await ann_script.get(f"/v1/calls?limit=2&after={first.json['next']}")
    assert [call["id"] for call in second.json["calls"]] == [calls[0].id]
    assert second.json["next"] is None


async def test_states_may_repeat(site: Site, ann_script: Script) -> None:
    pending = await site.hold({"phone_number": "+1"})
    rejected = await site.hold({"phone_number": "+2"})
    await site.decide(rejected, "bob", Choice.REJECT)
    await site.decide(await site.hold({"phone_number": "+3"}), "bob", Choice.APPROVE)
    reply = await ann_script.get("/v1/calls?state=pending&state=rejected")
    assert {call["id"] for call in reply.json["calls"]} == {pending.id, rejected.id}


async def test_who_may_not_see_a_call_gets_the_answer_of_an_unknown_one(
    site: Site, carl_script: Script
) -> None:
    call = await site.hold(agent="other-agent")
    assert (await carl_script.get("/v1/calls")).json == {"calls": [], "next": None}
    body = {"decision": "approve", "digest": call.digest}
    for path, sent in (
        ("", None),
        ("/decision", body),
        ("/cancel", {}),
        ("/settle", {"outcome": "failed", "evidence": "x"}),
        ("/correct", {"amount": "1.15 USD", "evidence": "x"}),
    ):
        replies = [
            await (
                carl_script.get(f"/v1/calls/{call_id}{path}")
                if sent is None
                else carl_script.post(f"/v1/calls/{call_id}{path}", sent)
            )
            for call_id in (call.id, NOBODY, "x")
        ]
        assert [reply.code for reply in replies] == ["not_found"] * 3
        assert len({reply.json["detail"] for reply in replies}) == 1
    assert (await site.service.get(call.id)).version == call.version
    refused = (await trail(site))[-1]
    assert (refused["tag"], refused["actor"]) == (Tag.DECISION_REFUSE, "person:carl")


async def test_the_result_is_answered_while_it_is_kept(site: Site, ann_script: Script) -> None:
    call = await site.hold()
    assert (await ann_script.get(f"/v1/calls/{call.id}")).json["result"] is None
    await site.decide(call, "ann", Choice.APPROVE, "fine")
    await site.run(call, b'{"result":{"price":1.50}}')
    reply = await ann_script.get(f"/v1/calls/{call.id}")
    assert '"result":{"result":{"price":1.50}}' in reply.text
    told = {name: reply.json[name] for name in ("state", "decided_by", "ended_by", "decided_at")}
    assert told == {
        "state": "executed",
        "decided_by": "ann",
        "ended_by": "upstream:shop",
        "decided_at": "2026-11-21T12:00:00.000Z",
    }
    assert reply.json["votes"] == [
        {
            "person": "ann",
            "decision": "approve",
            "digest": call.digest,
            "at": "2026-11-21T12:00:00.000Z",
            "via": "test",
            "reason": "fine",
            "amount": None,
            "grant": None,
        }
    ]


async def test_money_is_digits_and_a_currency(tmp_path: Path, clock: Clock) -> None:
    rules = make_rulebook(PRICE_PURCHASES)
    async with serve(tmp_path, clock=clock, rules=rules) as site, script(site, ANN_TOKEN) as ann:
        call = await site.hold()
        reply = await ann.get(f"/v1/calls/{call.id}")
        assert reply.json["amount"] == {"amount": "1.15", "currency": "USD"}


# --- waiting ---


async def test_a_reader_that_waits_hears_of_the_change(site: Site, ann_script: Script) -> None:
    call = await site.hold()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(ann_script.get(f"/v1/calls/{call.id}?wait=60s"))
        other = tasks.create_task(ann_script.get(f"/v1/calls/{call.id}?wait=60s&version=0"))
        assert (await other).json["version"] == 1  # knew less: answered at once
        await site.decide(call, "bob", Choice.REJECT)
        # The decision may come before the request: then it is the state the reader begins with.
        assert (await reader).json["state"] == "rejected"


async def test_waiting_for_an_ended_call_does_not_wait(site: Site, ann_script: Script) -> None:
    call = await site.hold()
    await site.decide(call, "bob", Choice.REJECT)
    async with asyncio.timeout(5):
        assert (await ann_script.get(f"/v1/calls/{call.id}?wait=60s")).status == 200


async def test_waiting_ends_with_its_time_and_tells_the_state(
    site: Site, ann_script: Script
) -> None:
    call = await site.hold()
    async with asyncio.timeout(5):
        reply = await ann_script.get(f"/v1/calls/{call.id}?wait=1s")
    assert reply.json["state"] == "pending"
    assert (await ann_script.get(f"/v1/calls/{call.id}?wait=0s")).json["state"] == "pending"


async def test_waiting_ends_when_the_service_stops(site: Site, ann_script: Script) -> None:
    call = await site.hold()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(ann_script.get(f"/v1/calls/{call.id}?wait=60s"))
        while not site.web._waiting._open:
            await ann_script.get("/v1/calls")
        site.web.close()
        assert (await reader).json["state"] == "pending"


# --- deciding ---


async def test_an_approval_names_what_was_seen_and_stands(site: Site, ann_script: Script) -> None:
    call = await site.hold()
    body = {"decision": "approve", "reason": "fine", "digest": call.digest}
    reply = await ann_script.post(f"/v1/calls/{call.id}/decision", body)
    assert (reply.status, reply.json["state"], reply.json["reason"]) == (200, "approved", "fine")
    again = await ann_script.post(f"/v1/calls/{call.id}/decision", body)
    assert (again.status, again.json["version"]) == (200, reply.json["version"])
    assert (await site.service.get(call.id)).votes[0].via == "api"


async def test_a_rejection_needs_no_digest(site: Site, ann_script: Script) -> None:
    call = await site.hold()
    reply = await ann_script.post(f"/v1/calls/{call.id}/decision", {"decision": "reject"})
    assert (reply.status, reply.json["state"], reply.json["decided_by"]) == (200, "rejected", "ann")


async def test_a_conflict_carries_the_call_as_it_is_now(site: Site, ann_script: Script) -> None:
    call = await site.hold()
    await site.decide(call, "bob", Choice.REJECT, "no")
    body = {"decision": "approve", "digest": call.digest}
    reply = await ann_script.post(f"/v1/calls/{call.id}/decision", body)
    assert reply.code == "conflict"
    assert (reply.status, reply.json["call"]["state"], reply.json["call"]["reason"]) == (
        409,
        "rejected",
        "no",
    )
    assert (await tags(site))[-1] == Tag.DECISION_REFUSE


async def test_a_stale_digest_conflicts(site: Site, ann_script: Script) -> None:
    call = await site.hold()
    body = {"decision": "approve", "digest": "0" * 64}
    reply = await ann_script.post(f"/v1/calls/{call.id}/decision", body)
    assert (reply.code, reply.json["call"]["digest"]) == ("conflict", call.digest)


async def test_of_opposite_decisions_at_once_one_stands(site: Site, ann_script: Script) -> None:
    async with script(site, BOB_TOKEN) as bob:
        for number in range(20):
            call = await site.hold({"phone_number": f"+{number}"})
            path = f"/v1/calls/{call.id}/decision"
            approve, reject = await asyncio.gather(
                ann_script.post(path, {"decision": "approve", "digest": call.digest}),
                bob.post(path, {"decision": "reject"}),
            )
            found = await site.service.get(call.id)
            # Until it runs a rejection beats an approval; an approval never beats a rejection.
            assert (found.status, reject.status) == (Status.REJECTED, 200)
            assert approve.status in {200, 409}


async def test_who_may_see_and_not_decide_is_told_who_may(site: Site, carl_script: Script) -> None:
    call = await site.hold()
    body = {"decision": "approve", "digest": call.digest}
    reply = await carl_script.post(f"/v1/calls/{call.id}/decision", body)
    assert (reply.code, reply.status) == ("forbidden", 403)
    assert reply.json["detail"] == "You may not decide this call. Those who may: Ann, Bob."
    assert not (await carl_script.get(f"/v1/calls/{call.id}")).json["may_decide"]


BODIES: list[tuple[object, int, str]] = [
    ({"decision": "deny"}, 422, "decision"),
    ({"decision": None}, 422, "decision"),
    ({}, 422, "decision"),
    ({"decision": "approve"}, 422, "digest_required"),
    ({"decision": "approve", "digest": "abc"}, 422, "digest"),
    ({"decision": "approve", "digest": 5}, 422, "digest"),
    ({"decision": "reject", "reason": ["x"]}, 422, "reason"),
    ({"decision": "reject", "reason": "x" * 1001}, 422, "reason_too_long"),
    ({"decision": "reject", "reason": "\u0000"}, 422, "reason"),
    ({"decision": "reject", "reason": "\u202e"}, 422, "reason"),
    ({"decision": "reject", "amount": 1}, 422, "amount"),
    ({"decision": "reject", "amount": "1.00 USD"}, 422, "amount:not_asked"),
    ({"decision": "reject", "arguments": {}}, 422, "not_built"),
    ({"decision": "reject", "grant": "1h"}, 422, "grant"),
    ({"decision": "reject", "grant": {"uses": 1, "within": "1h"}}, 422, "grant"),
    ({"decision": "reject", "override": True}, 422, "not_built"),
    ({"decision": "reject", "Decision": "approve"}, 422, "unknown_member"),
    ([], 422, "body"),
    (b"", 400, "empty"),
    (b"{", 400, "syntax"),
    (b'{"decision":"reject","decision":"approve"}', 400, "duplicate_member"),
    (b'\xef\xbb\xbf{"decision":"reject"}', 400, "bom"),
    (b'{"decision":NaN}', 400, "not_a_number"),
    (b'{"decision":"' + b"x" * 70_000 + b'"}', 400, "too_large"),
]


@pytest.mark.parametrize(("body", "status", "code"), BODIES)
async def test_an_odd_decision_is_refused_and_changes_nothing(
    site: Site, ann_script: Script, body: object, status: int, code: str
) -> None:
    call = await site.hold()
    reply = await ann_script.post(f"/v1/calls/{call.id}/decision", body)
    assert (reply.status, reply.code) == (status, code)
    assert (await site.service.get(call.id)).version == call.version


KINDS: list[dict[str, str]] = [
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/json; charset=utf-16"},
    {"Content-Type": "application/jsonx"},
    {"Content-Encoding": "gzip"},
]


@pytest.mark.parametrize("headers", KINDS)
async def test_a_body_is_plain_json(
    site: Site, ann_script: Script, headers: dict[str, str]
) -> None:
    call = await site.hold()
    body = b'{"decision":"reject"}'
    sent = {"Content-Type": "application/json", **headers}
    reply = await ann_script.ask("POST", f"/v1/calls/{call.id}/decision", headers=sent, data=body)
    assert reply.status in {400, 415}
    assert (await site.service.get(call.id)).status is Status.PENDING


# --- cancelling and settling ---


async def test_the_owner_cancels(site: Site, carl_script: Script, ann_script: Script) -> None:
    call = await site.hold()
    refused = await ann_script.post(f"/v1/calls/{call.id}/cancel", {})
    assert (refused.code, refused.status) == ("forbidden", 403)
    reply = await carl_script.post(f"/v1/calls/{call.id}/cancel", {"reason": "a mistake"})
    assert (reply.status, reply.json["state"], reply.json["ended_by"]) == (
        200,
        "cancelled",
        "person:carl",
    )
    late = await carl_script.post(f"/v1/calls/{call.id}/cancel", {})
    assert (late.code, late.json["call"]["state"]) == ("conflict", "cancelled")
    odd = await carl_script.post(f"/v1/calls/{call.id}/cancel", {"why": "x"})
    assert odd.code == "unknown_member"


async def test_settling(site: Site, ann_script: Script, clock: Clock) -> None:
    token = await site.service.keyring.issue("person", "dora", actor="operator")
    call = await site.hold()
    await site.decide(call, "ann", Choice.APPROVE)
    await site.lose(call)
    path = f"/v1/calls/{call.id}/settle"
    body = {"outcome": "executed", "evidence": "Ledger line 7."}
    assert (await ann_script.post(path, body)).code == "forbidden"
    async with script(site, token) as dora:
        early = await dora.post(path, body)
        assert (early.code, early.json["call"]["state"]) == ("conflict", "in_doubt")
        clock.advance(minutes=10)
        assert (await dora.post(path, {"outcome": "executed"})).code == "evidence"
        assert (await dora.post(path, {"evidence": "x"})).code == "outcome"
        reply = await dora.post(path, body)
    assert (reply.status, reply.json["state"], reply.json["reason"]) == (
        200,
        "executed",
        "Ledger line 7.",
    )


# --- the trail ---


async def test_the_trail_is_read_in_order(site: Site, ann_script: Script) -> None:
    call, _, third = [await site.hold({"phone_number": f"+{number}"}) for number in range(3)]
    first = await ann_script.get("/v1/audit?limit=2")
    assert first.json["entries"][0]["subject"] == call.id
    assert [entry["seq"] for entry in first.json["entries"]] == [1, 2]
    assert first.json["next"] == 2
    rest = await ann_script.get("/v1/audit?after=2")
    assert rest.json["next"] is None
    assert rest.json["entries"][0]["subject"] == third.id
    written = (await site.service.trail(after=2))[0]
    assert rest.json["entries"][0] == {**json.loads(written.body), "hash": written.hash.hex()}


async def test_the_whole_trail_needs_its_right_and_a_calls_own_does_not(
    site: Site, carl_script: Script
) -> None:
    call = await site.hold()
    foreign = await site.hold(agent="other-agent")
    refused = await carl_script.get("/v1/audit")
    assert (refused.code, refused.status) == ("forbidden", 403)
    own = await carl_script.get(f"/v1/audit?subject={call.id}")
    assert [entry["tag"] for entry in own.json["entries"]] == ["call:hold"]
    assert (await carl_script.get(f"/v1/audit?subject={foreign.id}")).code == "not_found"
    assert (await carl_script.get("/v1/audit?subject=ann")).code == "not_found"


# --- refusals ---

PATHS = [
    "/v1/calls",
    f"/v1/calls/{NOBODY}",
    "/v1/audit",
    "/v1/budgets",
    "/v1/tools",
    "/v1/grants",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", [None, "apv_unknown", "x" * 600])
async def test_without_a_persons_token_nothing_is_answered(
    site: Site, path: str, token: str | None
) -> None:
    async with script(site, token) as given:
        reply = await given.get(path)
    assert (reply.status, reply.code) == (401, "no_person")
    assert reply.headers["WWW-Authenticate"] == "Bearer"


async def test_a_session_cookie_is_no_key_to_the_api(site: Site) -> None:
    async with site.browser("ann") as browser:
        assert (await browser.get("/v1/calls")).status == 401


async def test_two_tokens_are_none(site: Site) -> None:
    async with script(site, None) as given:
        headers = [("Authorization", f"Bearer {ANN_TOKEN}")] * 2
        async with given.client.get("/v1/calls", headers=headers) as response:
            assert response.status in {400, 401}


@pytest.mark.parametrize("path", ["/v1/tools"])
async def test_what_is_not_built_says_so(ann_script: Script, path: str) -> None:
    reply = await ann_script.get(path)
    assert (reply.status, reply.code) == (404, "not_built")


QUERIES = [
    ("/v1/calls?state=nonsense", "state"),
    ("/v1/calls?state=", "state"),
    ("/v1/calls?limit=0", "limit"),
    ("/v1/calls?limit=201", "limit"),
    ("/v1/calls?limit=x", "limit"),
    ("/v1/calls?limit=-1", "limit"),
    ("/v1/calls?limit=²", "limit"),
    ("/v1/calls?after=x", "after"),
    ("/v1/calls?status=pending", "unknown_parameter"),
    ("/v1/calls?limit=1&limit=2", "repeated_parameter"),
    ("/v1/calls/CALL?wait=soon", "wait"),
    ("/v1/calls/CALL?wait=30", "wait"),
    ("/v1/calls/CALL?version=x", "version"),
    ("/v1/audit?after=x", "after"),
    ("/v1/audit?limit=201", "limit"),
]


@pytest.mark.parametrize(("path", "code"), QUERIES)
async def test_an_odd_parameter_is_refused_by_name(
    site: Site, ann_script: Script, path: str, code: str
) -> None:
    call = await site.hold()
    reply = await ann_script.get(path.replace("CALL", call.id))
    assert (reply.status, reply.code) == (400, code)


async def test_a_long_wait_is_cut_and_not_refused(site: Site, ann_script: Script) -> None:
    call = await site.hold()
    await site.decide(call, "bob", Choice.REJECT)
    assert (await ann_script.get(f"/v1/calls/{call.id}?wait=9999s")).status == 200
