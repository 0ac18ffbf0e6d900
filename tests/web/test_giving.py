"""Grants out of a decision: over the API, and in the form of the console."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from approval.core.audit import Entry, Tag
from approval.core.call import Call, Status
from approval.core.grants import Grant, Origin
from approval.core.rulebook import Rulebook
from tests.factories import ANN_TOKEN, BOB_TOKEN, NOW, Clock, make_rulebook
from tests.web.scripting import Reply, Script, script
from tests.web.serving import Browser, Site, serve, trail

TOOL = "create_incoming_phone_number"
WISH = {"uses": 3, "within": "12h", "total": "10.00 USD"}
FORM = {"grant": "yes", "uses": "3", "within": "12h", "total": "10.00 USD"}


def giving(approvals: int = 1, *, grantable: bool = True) -> Rulebook:
    bounds = {"uses": 10, "within": "24h", "total": "20.00 USD", "vary": ["n"]}
    gate = {"approvers": "finance", "quorum": approvals} | (
        {"grantable": bounds} if grantable else {}
    )
    document = {
        "dialect": "approval-1",
        "version": "1",
        "default": "deny",
        "tools": {
            TOOL: {
                "spend": {"amount": {"fixed": "1.15 USD"}, "meters": ["pot"]},
                "require_approval": [gate],
            }
        },
        "meters": {"pot": {"limit": "50.00 USD", "window": {"calendar": "day"}}},
    }
    return make_rulebook(document)


@pytest.fixture
async def generous(tmp_path: Path, clock: Clock) -> AsyncIterator[Site]:
    async with serve(tmp_path, rules=giving(), clock=clock) as served:
        yield served


async def approve(given: Script, call: Call, **body: object) -> Reply:
    sent = {"decision": "approve", "digest": call.digest, **body}
    return await given.post(f"/v1/calls/{call.id}/decision", sent)


async def given(site: Site) -> list[Grant]:
    return [each.grant for each in (await site.store.grants()).grants]


# --- the API ---


async def test_an_approval_gives_a_grant_that_lets_the_next_ones_run(generous: Site) -> None:
    call = await generous.hold({"n": 1})
    async with script(generous, ANN_TOKEN) as ann:
        reply = await approve(ann, call, grant=WISH)
        assert (reply.status, reply.json["state"]) == (200, "approved")
        assert [vote["grant"] for vote in reply.json["votes"]] == [WISH]
    [grant] = await given(generous)
    assert (grant.agent, grant.uses, str(grant.total)) == ("ops-agent", 3, "10.00 USD")
    assert (grant.origin, grant.granted_by) == (Origin.DECISION, "person:ann")
    assert grant.expires == (NOW + timedelta(hours=12)).replace(microsecond=0)
    later = [await generous.hold({"n": number}) for number in range(2, 7)]
    assert [each.status for each in later] == [Status.EXECUTING] * 3 + [Status.PENDING] * 2
    assert {each.grant for each in later[:3]} == {grant.id}
    [told] = [each for each in await trail(generous) if each["tag"] == Tag.GRANT_ISSUE]
    assert (told["subject"], told["facts"]["call"]) == (grant.id, call.id)


async def test_revoked_it_lets_nothing_more_run(generous: Site) -> None:
    call = await generous.hold({"n": 1})
    async with script(generous, ANN_TOKEN) as ann:
        await approve(ann, call, grant=WISH)
    [grant] = await given(generous)
    revoked = Entry(tag=Tag.GRANT_REVOKE, subject=grant.id, actor="operator", facts={})
    await generous.store.revoke_grant(grant.id, revoked)
    assert (await generous.hold({"n": 2})).status is Status.PENDING


@pytest.mark.parametrize("rules", [giving(approvals=2), giving(grantable=False)])
async def test_once_the_rule_asks_for_more_it_stands_in_for_nobody(
    generous: Site, rules: Rulebook
) -> None:
    call = await generous.hold({"n": 1})
    async with script(generous, ANN_TOKEN) as ann:
        await approve(ann, call, grant=WISH)
    loaded = Entry(tag=Tag.POLICY_LOAD, subject="", actor="operator", facts={})
    await generous.service.adopt(rules, loaded)
    assert (await generous.hold({"n": 2})).status is Status.PENDING
    await generous.service.adopt(giving(), loaded)
    assert (await generous.hold({"n": 3})).status is Status.EXECUTING


async def test_it_covers_nothing_that_the_rule_does_not_let_vary(generous: Site) -> None:
    call = await generous.hold({"n": 1, "city": "Berlin"})
    async with script(generous, ANN_TOKEN) as ann:
        await approve(ann, call, grant=WISH)
    assert (await generous.hold({"n": 2, "city": "Berlin"})).status is Status.EXECUTING
    assert (await generous.hold({"n": 2, "city": "Paris"})).status is Status.PENDING
    assert (await generous.hold({"n": 2})).status is Status.PENDING
    other = await generous.hold({"n": 2, "city": "Berlin"}, agent="other-agent")
    assert other.status is Status.PENDING


@pytest.mark.parametrize(
    ("wish", "status", "code"),
    [
        ("yes", 422, "grant"),
        ({"uses": 3}, 422, "grant"),
        ({**WISH, "uses": 0}, 422, "grant"),
        ({**WISH, "uses": True}, 422, "grant"),
        ({**WISH, "within": "soon"}, 422, "grant"),
        ({**WISH, "total": "10"}, 422, "grant"),
        ({**WISH, "vary": ["city"]}, 422, "grant"),
        ({**WISH, "uses": 11}, 409, "conflict"),
        ({**WISH, "within": "25h"}, 409, "conflict"),
        ({**WISH, "total": "20.01 USD"}, 409, "conflict"),
        ({**WISH, "total": "10.00 EUR"}, 409, "conflict"),
    ],
)
async def test_a_wish_that_is_odd_or_too_wide_decides_nothing(
    generous: Site, wish: object, status: int, code: str
) -> None:
    call = await generous.hold({"n": 1})
    async with script(generous, ANN_TOKEN) as ann:
        reply = await approve(ann, call, grant=wish)
    assert (reply.status, reply.code) == (status, code)
    assert await generous.service.get(call.id) == call
    assert await given(generous) == []


async def test_of_two_approvers_both_ask_and_the_narrower_is_given(tmp_path: Path) -> None:
    async with (
        serve(tmp_path, rules=giving(approvals=2)) as site,
        script(site, ANN_TOKEN) as ann,
        script(site, BOB_TOKEN) as bob,
    ):
        call = await site.hold({"n": 1})
        await approve(ann, call, grant=WISH)
        assert await given(site) == []
        await approve(bob, call, grant={**WISH, "uses": 2, "total": "20.00 USD"})
        [grant] = await given(site)
        assert (grant.uses, str(grant.total)) == (2, "10.00 USD")
        call = await site.hold({"n": 1, "more": True})
        await approve(ann, call)
        reply = await approve(bob, call, grant=WISH)
        assert reply.json["state"] == "approved"
        assert await given(site) == [grant], "one of the two has given nothing"


# --- the form ---


@pytest.fixture
async def ann(generous: Site) -> AsyncIterator[Browser]:
    async with generous.browser("ann") as signed_in:
        yield signed_in


async def test_the_form_offers_what_the_rule_allows_and_gives_it(
    generous: Site, ann: Browser
) -> None:
    call = await generous.hold({"n": 1})
    page = await ann.get(f"/calls/{call.id}")
    assert "Also let the agent do this again without asking" in page.words
    assert 'max="10" value="10"' in page.text
    await ann.decide(call, "approve", **FORM)
    page = await ann.get(f"/calls/{call.id}")
    [grant] = await given(generous)
    assert grant.uses == 3
    assert f"and gave the grant {grant.id}" in page.words
    assert "with a grant of 3 uses within 12h up to 10.00 USD" in page.words


async def test_unticked_or_denied_it_gives_none(generous: Site, ann: Browser) -> None:
    call = await generous.hold({"n": 1})
    await ann.decide(call, "approve", **{**FORM, "grant": ""})
    other = await generous.hold({"n": 2})
    page = await ann.decide(other, "reject", **FORM)
    assert (await generous.service.get(other.id)).status is Status.REJECTED, page.words
    assert await given(generous) == []


async def test_too_wide_it_is_refused_and_the_page_says_why(generous: Site, ann: Browser) -> None:
    call = await generous.hold({"n": 1})
    page = await ann.decide(call, "approve", **{**FORM, "uses": "11"})
    assert page.status == 409
    assert "reach too far: the rule lets it be used 10 times at most" in page.words
    assert await generous.service.get(call.id) == call
