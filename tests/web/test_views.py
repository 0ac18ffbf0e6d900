import asyncio
from pathlib import Path

import pytest

from approval.core.audit import Entry, Tag
from approval.core.call import Choice, Listener, Status
from approval.core.canonical import JSON
from tests.factories import PRICE_PURCHASES, Clock, make_rulebook
from tests.web.serving import Browser, Site, serve, tags, trail

# --- the inbox ---


async def test_an_empty_inbox_says_that_nothing_waits(ann: Browser) -> None:
    page = await ann.get("/")
    assert page.status == 200
    assert "Nothing waits for you." in page.words
    assert "<title>Inbox · approval</title>" in page.text


async def test_the_inbox_shows_what_waits_oldest_first_and_then_what_was_decided(
    site: Site, ann: Browser, clock: Clock
) -> None:
    first = await site.hold({"phone_number": "+1"})
    clock.advance(seconds=1)
    second = await site.hold({"phone_number": "+2"})
    clock.advance(seconds=1)
    decided = await site.hold({"phone_number": "+3"})
    await site.decide(decided, "bob", Choice.REJECT, "too dear")
    clock.advance(seconds=12)
    page = await ann.get("/")
    places = [page.text.index(f'id="{call.id}"') for call in (first, second, decided)]
    assert places == sorted(places)
    assert "<title>(2) Inbox · approval</title>" in page.text
    assert "ops-agent wants to buy a phone number" in page.words
    assert "create_incoming_phone_number on shop" in page.words
    assert "Bob rejected this 12 s ago. too dear" in page.words
    assert page.text.count('value="approve"') == 2


async def test_who_may_not_decide_sees_no_button_and_who_does(site: Site) -> None:
    call = await site.hold()
    async with site.browser("dora") as dora:
        page = await dora.get("/")
        assert "Waits for Ann, Bob." in page.words
        assert "<button class=" not in page.text.partition(call.id)[2].partition("</article>")[0]


async def test_who_may_not_see_a_call_is_not_told_of_it(site: Site) -> None:
    await site.hold(agent="other-agent")
    async with site.browser("carl") as carl:
        assert "Nothing waits for you." in (await carl.get("/")).words


async def test_what_a_card_cannot_show_whole_is_not_approved_from_it(
    site: Site, ann: Browser
) -> None:
    call = await site.hold({"body": "x" * 601})
    card = await ann.get(f"/calls/{call.id}/card")
    assert 'value="approve"' not in card.text
    assert 'value="reject"' in card.text
    assert "601 characters" in card.words
    assert 'value="approve"' in (await ann.get(f"/calls/{call.id}")).text


async def test_a_card_names_how_many_arguments_it_leaves_out(site: Site, ann: Browser) -> None:
    call = await site.hold({f"name_{number:02}": number for number in range(15)})
    assert "3 more arguments" in (await ann.get(f"/calls/{call.id}/card")).words


async def test_a_call_in_doubt_asks_for_somebody_who_settles_it(site: Site) -> None:
    call = await site.hold()
    await site.decide(call, "ann", Choice.APPROVE)
    await site.lose(call)
    async with site.browser("dora") as dora:
        page = await dora.get("/")
        assert "In doubt" in page.words
        assert "nobody knows what became of it" in page.words
        assert "Say what became of it" in page.words


# --- one call ---


async def test_a_calls_page_tells_everything_a_decision_needs(site: Site, ann: Browser) -> None:
    call = await site.hold({"phone_number": "+14155550100", "quantity": 2})
    page = await ann.get(f"/calls/{call.id}")
    for words in (
        "ops-agent wants to buy a phone number",
        "create_incoming_phone_number on shop",
        "phone_number +14155550100",
        "quantity number 2",
        '{"phone_number":"+14155550100","quantity":2}',
        f"Digest {call.digest}",
        "1 approval from finance Ann, Bob · 0 given",
        "The agent is waiting. It holds the line and runs this when approved.",
        "The agent ops-agent asked; the call is held for people to decide",
        "Decide before 12:15:00 UTC",
        "require_approval:true at /tools/create_incoming_phone_number/require_approval/0",
        f"Id {call.id}",
    ):
        assert words in page.words


async def test_the_page_says_whether_the_agent_knows_or_has_gone(site: Site, ann: Browser) -> None:
    call = await site.hold()
    await site.service.told(call)
    assert "The agent was told." in (await ann.get(f"/calls/{call.id}")).words
    another = await site.hold({"phone_number": "+2"})
    await site.store.listen(another.id, Listener.GONE, site.service.instance)
    assert "The agent has gone." in (await ann.get(f"/calls/{another.id}")).words


async def test_what_came_back_is_shown(site: Site, ann: Browser) -> None:
    call = await site.hold()
    await site.decide(call, "ann", Choice.APPROVE)
    await site.run(call, '{"result":{"text":"Bought \u202e!"}}'.encode())
    page = await ann.get(f"/calls/{call.id}")
    assert '{"result":{"text":"Bought U+202E!"}}' in page.words
    assert "You approved this just now. The upstream executed it just now." in page.words


HOSTILE: JSON = {
    "a": "<script>alert(1)</script>",
    "b": "javascript:alert(1)",
    "c": '"><img src=x onerror=alert(1)>',
    "<b>d</b>": "{{ 7 * 7 }}",
    "e": "abc\u202edef\u200b",
    "f": "</pre></details><form action=//evil>",
}


async def test_markup_in_arguments_is_inert(site: Site, ann: Browser) -> None:
    call = await site.hold(HOSTILE, tool="create_incoming_phone_number")
    for path in ("/", f"/calls/{call.id}", f"/calls/{call.id}/card", "/history", "/trail"):
        text = (await ann.get(path)).text
        for tag in (
            "<script>alert",
            "<img",
            "<b>d",
            "evil>",
            'href="javascript',
            "onerror=alert(1)>",
        ):
            assert tag not in text.replace("&lt;", "").replace("onerror=alert(1)&gt;", "")
        assert "49" not in text.partition("<dl")[2].partition("</dl>")[0]
        assert "\u202e" not in text
        assert "\u200b" not in text
    page = await ann.get(f"/calls/{call.id}")
    assert "<script>alert(1)</script>" in page.words
    assert '<span class="box odd" title="U+202E right-to-left override">U+202E</span>' in page.text
    assert "Look twice." in page.words


async def test_markup_in_a_reason_is_inert(site: Site, ann: Browser) -> None:
    call = await site.hold()
    await ann.decide(call, "reject", reason="<img src=x onerror=alert(1)>")
    for path in ("/", f"/calls/{call.id}", "/trail"):
        page = await ann.get(path)
        assert "<img" not in page.text
        assert "<img src=x onerror=alert(1)>" in page.words


async def test_credentials_are_covered_until_somebody_reveals_them(
    site: Site, ann: Browser
) -> None:
    call = await site.hold({"api_key": "sk-live-0123", "deep": {"password": "hunter2"}})
    for path in ("/", f"/calls/{call.id}", f"/calls/{call.id}/card"):
        page = await ann.get(path)
        assert "sk-live-0123" not in page.text
        assert "hunter2" not in page.text
    shown = await ann.get(f"/calls/{call.id}?reveal=1")
    assert '{"api_key":"sk-live-0123","deep":{"password":"hunter2"}}' in shown.words


@pytest.mark.parametrize("suffix", ["", "?reveal=1", "/card"])
async def test_a_call_of_others_looks_like_none(site: Site, suffix: str) -> None:
    call = await site.hold(agent="other-agent")
    async with site.browser("carl") as carl:
        foreign = await carl.get(f"/calls/{call.id}{suffix}")
        unknown = await carl.get(f"/calls/apr_{'0' * 26}{suffix}")
        odd = await carl.get(f"/calls/../x{suffix}")
    assert (foreign.status, unknown.status, odd.status) == (404, 404, 404)
    assert foreign.text.replace(call.id, "") == unknown.text.replace("apr_" + "0" * 26, "")


# --- deciding ---


async def test_an_approval_by_form_stands(site: Site, ann: Browser) -> None:
    call = await site.hold()
    page = await ann.decide(call, "approve", reason="fine\r\nby me")
    assert (page.status, page.headers["Location"]) == (303, f"/calls/{call.id}")
    found = await site.service.get(call.id)
    assert (found.status, found.note, found.votes[0].via) == (
        Status.APPROVED,
        "fine\nby me",
        "web",
    )


async def test_a_form_of_the_inbox_leads_back_to_it(site: Site, ann: Browser) -> None:
    call = await site.hold()
    path = f"/calls/{call.id}/decision"
    page = await ann.post(path, {**(await ann.get("/")).form(path), "decision": "reject"})
    assert page.headers["Location"] == f"/#{call.id}"
    assert (await site.service.get(call.id)).status is Status.REJECTED


async def test_a_double_click_decides_once(site: Site, ann: Browser) -> None:
    call = await site.hold()
    pages = await asyncio.gather(*(ann.decide(call, "approve") for _ in range(2)))
    assert [page.status for page in pages] == [303, 303]
    assert (await tags(site)).count(Tag.CALL_APPROVE) == 1


async def test_who_comes_late_is_told_who_was_first(site: Site, ann: Browser, clock: Clock) -> None:
    call = await site.hold()
    path = f"/calls/{call.id}/decision"
    fields = (await ann.get("/")).form(path)
    await site.decide(call, "bob", Choice.REJECT)
    clock.advance(seconds=12)
    page = await ann.post(path, {**fields, "decision": "approve"})
    assert page.status == 409
    assert "Nothing was changed. Bob rejected this 12 s ago." in page.words
    assert (await site.service.get(call.id)).status is Status.REJECTED
    assert (await tags(site))[-1] == Tag.DECISION_REFUSE


async def test_a_decision_after_the_deadline_finds_the_call_expired(
    site: Site, ann: Browser, clock: Clock
) -> None:
    call = await site.hold()
    fields = (await ann.get("/")).form(f"/calls/{call.id}/decision")
    clock.advance(minutes=15, seconds=1)
    page = await ann.post(f"/calls/{call.id}/decision", {**fields, "decision": "approve"})
    assert (page.status, "Nobody decided in time." in page.words) == (409, True)
    assert (await site.service.get(call.id)).status is Status.EXPIRED


async def test_a_stale_digest_decides_nothing(site: Site, ann: Browser) -> None:
    call = await site.hold()
    page = await ann.decide(call, "approve", digest="0" * 64)
    assert (page.status, "not the one that was shown" in page.words) == (409, True)
    assert (await site.service.get(call.id)).version == call.version


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"decision": "deny"}, 422),
        ({"decision": ""}, 422),
        ({"decision": "approve", "digest": ""}, 422),
        ({"decision": "approve", "digest": "x"}, 422),
        ({"decision": "reject", "reason": "x" * 1001}, 422),
        ({"decision": "reject", "reason": "\x1b[2J"}, 422),
        ({"decision": "reject", "reason": "\u202e"}, 422),
    ],
)
async def test_an_odd_decision_is_refused_with_the_way_back(
    site: Site, ann: Browser, fields: dict[str, str], status: int
) -> None:
    call = await site.hold()
    sent = {"decision": "approve", **fields}
    page = await ann.decide(call, sent.pop("decision"), **sent)
    assert page.status == status
    assert f'href="/calls/{call.id}"' in page.text
    assert (await site.service.get(call.id)).version == call.version


async def test_who_may_see_and_not_decide_learns_who_may(site: Site) -> None:
    call = await site.hold()
    async with site.browser("dora") as dora:
        fields = (await dora.get("/")).form("/logout")
        sent = {**fields, "decision": "approve", "digest": call.digest}
        page = await dora.post(f"/calls/{call.id}/decision", sent)
    assert page.status == 403
    assert "You may not decide this call. Those who may: Ann, Bob." in page.words
    assert (await trail(site))[-1]["actor"] == "person:dora"


async def test_an_approver_takes_the_approval_back_while_it_has_not_run(
    site: Site, ann: Browser
) -> None:
    call = await site.hold()
    await ann.decide(call, "approve")
    page = await ann.get(f"/calls/{call.id}")
    assert 'value="approve"' not in page.text
    assert "denying it now takes that back" in page.words
    await ann.decide(call, "reject")
    assert (await site.service.get(call.id)).status is Status.REJECTED


# --- cancelling and settling ---


async def test_the_owner_cancels_for_the_agent(site: Site) -> None:
    call = await site.hold()
    async with site.browser("carl") as carl:
        path = f"/calls/{call.id}/cancel"
        fields = (await carl.get(f"/calls/{call.id}")).form(path)
        assert (await carl.post(path, fields)).status == 303
        found = await site.service.get(call.id)
        assert (found.status, found.ended_by) == (Status.CANCELLED, "person:carl")
        late = await carl.post(path, fields)
        assert (late.status, "You cancelled this" in late.words) == (409, True)


async def test_an_approver_does_not_cancel(site: Site, ann: Browser) -> None:
    call = await site.hold()
    fields = (await ann.get("/")).form("/logout")
    page = await ann.post(f"/calls/{call.id}/cancel", fields)
    assert (page.status, "owner and admins" in page.words) == (403, True)
    assert (await site.service.get(call.id)).status is Status.PENDING


async def test_who_may_settle_says_what_became_of_a_call(site: Site, clock: Clock) -> None:
    call = await site.hold()
    await site.decide(call, "ann", Choice.APPROVE)
    await site.lose(call)
    async with site.browser("dora") as dora:
        path = f"/calls/{call.id}/settle"
        fields = (await dora.get(f"/calls/{call.id}")).form(path)
        sent = {**fields, "outcome": "failed", "evidence": "The shop's ledger has no line."}
        early = await dora.post(path, sent)
        assert (early.status, "may still be at work" in early.words) == (409, True)
        clock.advance(minutes=10)
        assert (await dora.post(path, {**sent, "evidence": " "})).status == 422
        assert (await dora.post(path, {**sent, "outcome": "denied"})).status == 422
        assert (await dora.post(path, sent)).status == 303
        page = await dora.get(f"/calls/{call.id}")
    assert "You settled this just now: nothing happened." in page.words
    assert (await site.service.get(call.id)).note == "The shop's ledger has no line."


async def test_settling_needs_its_right(site: Site, ann: Browser) -> None:
    call = await site.hold()
    await site.decide(call, "ann", Choice.APPROVE)
    await site.lose(call)
    fields = (await ann.get("/")).form("/logout")
    sent = {**fields, "outcome": "executed", "evidence": "I saw it."}
    page = await ann.post(f"/calls/{call.id}/settle", sent)
    assert (page.status, "no right to settle" in page.words) == (403, True)


# --- history and trail ---


async def test_history_is_searched_by_state_agent_and_tool(site: Site, ann: Browser) -> None:
    mine = await site.hold({"phone_number": "+1"})
    other = await site.hold({"phone_number": "+2"}, agent="other-agent")
    await site.decide(other, "bob", Choice.REJECT)

    async def found(query: str) -> set[str]:
        page = await ann.get(f"/history{query}")
        assert page.status == 200
        return {call.id for call in (mine, other) if call.id in page.text}

    assert await found("") == {mine.id, other.id}
    assert await found("?state=&agent=&tool=") == {mine.id, other.id}
    assert await found("?state=rejected") == {other.id}
    assert await found("?agent=OPS") == {mine.id}
    assert await found("?tool=create&agent=agent") == {mine.id, other.id}
    assert await found("?tool=delete") == set()
    assert "No call like that." in (await ann.get("/history?tool=delete")).words


async def test_history_goes_on_where_the_page_ends(site: Site, ann: Browser, clock: Clock) -> None:
    calls = []
    for number in range(51):
        clock.advance(seconds=1)
        calls.append(await site.hold({"phone_number": f"+{number}"}))
    page = await ann.get("/history?agent=ops")
    assert calls[50].id in page.text
    assert calls[0].id not in page.text
    older = page.text.partition('<p class="more"><a href="')[2].partition('"')[0]
    assert older == f"?agent=ops&amp;after={calls[1].id}"
    page = await ann.get(f"/history?agent=ops&after={calls[1].id}")
    assert calls[0].id in page.text
    assert 'class="more"' not in page.text


async def test_a_rare_call_is_found_behind_many_others(
    site: Site, ann: Browser, clock: Clock
) -> None:
    rare = await site.hold(agent="other-agent")
    clock.advance(seconds=1)
    for number in range(110):
        await site.hold({"phone_number": f"+{number}"})
    assert rare.id in (await ann.get("/history?agent=other")).text


@pytest.mark.parametrize("query", ["?state=nonsense", "?after=x", "?after=' OR 1=1"])
async def test_an_odd_search_is_refused(ann: Browser, query: str) -> None:
    assert (await ann.get(f"/history{query}")).status == 400


async def test_the_trail_is_read_newest_first_page_by_page(site: Site, ann: Browser) -> None:
    call = await site.hold({"phone_number": "last"})
    for number in range(69):
        call = await site.hold({"phone_number": f"+{number}"})
    page = await ann.get("/trail")
    assert f'href="/calls/{call.id}"' in page.text
    assert "The agent ops-agent asked" in page.words
    assert page.text.count("<li>") == 50
    assert '<p class="more"><a href="?before=22">Older</a></p>' in page.text
    older = await ann.get("/trail?before=22")
    assert older.text.count("<li>") == 21
    assert '<p class="more"><a href="?before=72">Newer</a> </p>' in older.text
    assert (await ann.get("/trail?before=x")).status == 400
    assert (await ann.get("/trail?before=0")).text.count("<li>") == 0


async def test_the_trail_needs_its_right(site: Site) -> None:
    async with site.browser("bob") as bob:
        page = await bob.get("/trail")
        assert (page.status, "read_all" in page.words) == (403, True)
        assert 'href="/trail"' not in (await bob.get("/")).text


# --- nothing is done by looking ---


async def test_looking_changes_nothing(site: Site, ann: Browser) -> None:
    call = await site.hold()
    await site.service.told(call)
    before = await trail(site)
    paths = ["/", f"/calls/{call.id}", f"/calls/{call.id}?reveal=1", f"/calls/{call.id}/card"]
    paths += ["/history", "/trail", "/snapshot", "/login?token=x", "/healthz", "/readyz"]
    for path in paths:
        for method in ("GET", "HEAD"):
            assert (await ann.ask(method, path, headers={})).status == 200
    for action in ("decision", "cancel", "settle"):
        for method in ("GET", "HEAD"):
            page = await ann.ask(method, f"/calls/{call.id}/{action}", headers={})
            assert (page.status, page.headers["Allow"]) == (405, "POST")
    assert await trail(site) == before
    assert await site.service.get(call.id) == await site.store.get(call.id)
    assert (await site.service.get(call.id)).version == call.version


async def test_an_untitled_tool_is_named(site: Site, ann: Browser) -> None:
    policy = {
        "dialect": "approval-1",
        "version": "1",
        "default": "deny",
        "tools": {"wipe*": {"require_approval": [{"approvers": "finance"}]}},
    }
    entry = Entry(tag=Tag.POLICY_LOAD, subject="policy", actor="operator")
    await site.service.adopt(make_rulebook(policy), entry)
    call = await site.hold({}, tool="wipe\u202eksid")
    page = await ann.get(f"/calls/{call.id}")
    assert "ops-agent wants to run wipeU+202Eksid" in page.words
    assert "no arguments" in page.words
    assert "<title>ops-agent wants to run wipe[U+202E]ksid · approval</title>" in page.text


async def test_card_and_page_show_the_price_and_what_it_would_leave(
    tmp_path: Path, clock: Clock
) -> None:
    rules = make_rulebook(PRICE_PURCHASES)
    async with serve(tmp_path, clock=clock, rules=rules) as site, site.browser("ann") as ann:
        call = await site.hold()
        for path in ("/", f"/calls/{call.id}", f"/calls/{call.id}/card"):
            told = (await ann.get(path)).words
            assert "Costs $1.15/month numbers-" in told
            assert "$50.00 of $50.00 left this month, $48.85 after this" in told
        await site.decide(call, "ann", Choice.REJECT)
        told = (await ann.get(f"/calls/{call.id}")).words
        assert "$1.15/month" in told
        assert "after this" not in told
