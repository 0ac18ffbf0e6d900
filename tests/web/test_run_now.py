"""*Run now*: on a call's page, and over the API."""

import pytest

from approval.core.audit import Tag
from approval.core.call import Call, Choice, Listener, Status
from approval.core.identity import Right
from tests.factories import (
    ANN_TOKEN,
    BOB_TOKEN,
    CARL_TOKEN,
    GATE_PURCHASES,
    make_directory,
    make_rulebook,
)
from tests.web.scripting import script
from tests.web.serving import Site, tags

OFFER = "Run it now?"


async def park(site: Site, listener: Listener = Listener.GONE) -> Call:
    call = await site.hold()
    await site.store.listen(call.id, listener, site.service.instance)
    return await site.decide(call, "bob", Choice.APPROVE)


async def test_an_approver_runs_a_parked_call_from_its_page(site: Site) -> None:
    call = await park(site)
    path = f"/calls/{call.id}"
    async with site.browser("ann") as ann:
        page = await ann.get(path)
        assert f"{OFFER} It is approved, and waits until its agent asks again." in page.words
        assert "The agent hung up before it was told anything" in page.words
        assert "This is approved and has not run; denying it now takes that back." in page.words
        assert "Run it now" in (await ann.get("/")).words
        pressed = await ann.post(f"{path}/run", page.form(f"{path}/run"))
        assert (pressed.status, pressed.headers["Location"]) == (303, path)
        released = await site.service.get(call.id)
        assert (released.status, released.released_by) == (Status.APPROVED, "ann")
        after = (await ann.get(path)).words
        assert OFFER not in after
        assert "It is about to run." in after
        assert "You said that it is to run now through web" in after
        # A double click arrives twice.
        assert (await ann.post(f"{path}/run", page.form(f"{path}/run"))).status == 303
    assert (await tags(site)).count(Tag.CALL_RELEASE) == 1


async def test_nobody_else_is_offered_it_or_gets_it(site: Site) -> None:
    call = await park(site)
    path = f"/calls/{call.id}"
    async with site.browser("ann") as ann, site.browser("carl") as carl:
        fields = (await ann.get(path)).form(f"{path}/run")
        seen = await carl.get(path)
        assert OFFER not in seen.words
        csrf = (await carl.get(path)).form("/logout")["csrf"]
        refused = await carl.post(f"{path}/run", {**fields, "csrf": csrf})
        assert refused.status == 403
        assert "Those who may: Ann, Bob" in refused.words
        # Ann's form, sent by another site or without its token, does nothing.
        for broken, headers in (
            ({**fields, "csrf": "x"}, {}),
            (fields, {"Sec-Fetch-Site": "cross-site"}),
        ):
            assert (await ann.post(f"{path}/run", broken, **headers)).status == 403
        assert (await ann.post(f"{path}/run", {**fields, "digest": ""})).status == 422
        stale = await ann.post(f"{path}/run", {**fields, "digest": "0" * 64})
        assert (stale.status, "Nothing was changed." in stale.words) == (409, True)
    assert (await site.service.get(call.id)).released_by is None


@pytest.mark.parametrize("listener", [Listener.TOLD, Listener.WAITING])
async def test_what_runs_by_itself_is_not_offered(site: Site, listener: Listener) -> None:
    call = await park(site, listener)
    async with site.browser("ann") as ann:
        assert OFFER not in (await ann.get(f"/calls/{call.id}")).words
        assert "Run it now" not in (await ann.get("/")).words


async def test_a_line_that_fell_with_its_process_is_said_so(site: Site) -> None:
    call = await site.hold()
    await site.store.listen(call.id, Listener.WAITING, "a-process-that-is-no-more")
    await site.decide(call, "bob", Choice.APPROVE)
    async with site.browser("ann") as ann:
        page = await ann.get(f"/calls/{call.id}")
        assert "line was lost when a process of this service ended" in page.words
        path = f"/calls/{call.id}/run"
        assert (await ann.post(path, page.form(path))).status == 303
    assert (await site.service.get(call.id)).released_by == "ann"


async def test_where_the_rule_says_when_asked_it_is_not_offered(site: Site) -> None:
    gate = {"approvers": "finance", "run": "when_asked"}
    tool = "create_incoming_phone_number"
    rules = make_rulebook(
        {**GATE_PURCHASES, "tools": {tool: {"require_approval": [gate]}}},
        directory=make_directory(rights={Right.READ_ALL: frozenset({"ann"})}),
    )
    site.service._rules = rules
    call = await park(site)
    async with site.browser("ann") as ann, script(site, ANN_TOKEN) as api:
        assert OFFER not in (await ann.get(f"/calls/{call.id}")).words
        reply = await api.post(f"/v1/calls/{call.id}/run", {"digest": call.digest})
        assert (reply.status, reply.code) == (409, "conflict")
        assert "only when its agent asks" in reply.json["detail"]


async def test_a_script_runs_a_parked_call_and_says_it_twice(site: Site) -> None:
    call = await park(site)
    path, body = f"/v1/calls/{call.id}/run", {"digest": call.digest}
    async with script(site, ANN_TOKEN) as ann, script(site, BOB_TOKEN) as bob:
        reply = await ann.post(path, body)
        assert (reply.status, reply.json["state"]) == (200, "approved")
        assert (reply.json["released_by"], reply.json["version"]) == ("ann", 3)
        for again in (await ann.post(path, body), await bob.post(path, body)):
            assert (again.status, again.json["released_by"], again.json["version"]) == (
                *(200, "ann"),
                3,
            )
        await site.run(await site.service.get(call.id))
        assert (await ann.post(path, body)).json["state"] == "executed"
        late = await bob.post(path, body)
        assert (late.status, late.code, late.json["call"]["state"]) == (
            409,
            "conflict",
            "executed",
        )


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "digest_required"),
        ({"digest": None}, 422, "digest"),
        ({"digest": "abc"}, 422, "digest"),
        ({"digest": "A" * 64}, 422, "digest"),
        ({"digest": "0" * 64}, 409, "conflict"),
        ({"digest": "0" * 64, "reason": "x"}, 422, "unknown_member"),
        ([], 422, "body"),
        (b"{", 400, "syntax"),
    ],
)
async def test_an_odd_word_is_named_and_runs_nothing(
    site: Site, body: object, status: int, code: str
) -> None:
    call = await park(site)
    async with script(site, ANN_TOKEN) as ann:
        reply = await ann.post(f"/v1/calls/{call.id}/run", body)
    assert (reply.status, reply.code) == (status, code)
    assert (await site.service.get(call.id)).released_by is None


async def test_who_may_not_decide_may_not_run(site: Site) -> None:
    call = await park(site)
    foreign = await site.hold(agent="other-agent")
    body = {"digest": call.digest}
    async with script(site, CARL_TOKEN) as carl:
        reply = await carl.post(f"/v1/calls/{call.id}/run", body)
        assert (reply.status, reply.code) == (403, "forbidden")
        for unseen in (foreign.id, "apr_" + "0" * 26, "x"):
            hidden = await carl.post(f"/v1/calls/{unseen}/run", body)
            assert (hidden.status, hidden.code) == (404, "not_found")
    async with script(site, None) as nobody:
        assert (await nobody.post(f"/v1/calls/{call.id}/run", body)).status == 401
    assert (await site.service.get(call.id)).released_by is None
