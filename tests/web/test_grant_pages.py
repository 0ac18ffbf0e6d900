"""The console's page of grants: who sees and may what, and how a refusal changes nothing."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from approval.core.audit import Tag
from approval.core.call import Choice, Status
from approval.core.grantable import Wish
from approval.core.grants import Origin
from approval.core.identity import Agent, Right
from approval.core.issued import Issued, read_issue
from approval.core.money import Money
from approval.core.steps import Ballot
from tests.factories import AGENT_TOKEN, ANN_TOKEN, Clock, make_directory, make_rulebook
from tests.web.scripting import script
from tests.web.serving import Browser, Page, Site, serve, tags, trail
from tests.web.test_giving import giving

BUY: Final = "create_incoming_phone_number"
TYPED: Final = {"agent": "ops-agent", "tools": BUY, "uses": "2", "lasts": "24h"}
TRICK: Final = '"><script>alert(1)</script>\u202e\u200b'


@pytest.fixture
async def town(tmp_path: Path, clock: Clock) -> AsyncIterator[Site]:
    """Serve a town: ann is an admin, dora reads all, carl owns ops-agent; the file gives one."""
    rights = {Right.ADMIN: frozenset({"ann"}), Right.READ_ALL: frozenset({"dora"})}
    rules = make_rulebook(directory=make_directory(rights=rights))
    words = {"agent": "other-agent", "tools": ["search_*"], "uses": 5}
    own = replace(read_issue(words, source="test"), id="file:a/b", path="/grants/0")
    async with serve(tmp_path, rules=replace(rules, grants=(own,)), clock=clock) as site:
        yield site


@pytest.fixture
async def ann(town: Site) -> AsyncIterator[Browser]:
    async with town.browser("ann") as browser:
        yield browser


async def give(browser: Browser, **changes: str) -> Page:
    fields = (await browser.get("/grants")).form("/grants")
    return await browser.post("/grants", {**fields, **TYPED, **changes})


async def given(browser: Browser, **changes: str) -> str:
    page = await give(browser, **changes)
    assert page.status == 303, page.words
    return page.headers["Location"].removeprefix("/grants?done=")


async def revoke(browser: Browser, grant_id: str, **fields: str) -> Page:
    """Send the form as the page of this grant has it."""
    path = f"/grants/{grant_id}/revoke"
    return await browser.post(path, {**(await browser.get("/grants")).form(path), **fields})


async def csrf(browser: Browser) -> dict[str, str]:
    return {"csrf": (await browser.get("/grants")).form("/logout")["csrf"]}


async def issued(site: Site) -> list[Issued]:
    return list((await site.store.grants()).grants)


def of(page: Page, grant_id: str) -> str:
    """Cut out what the page says of one grant."""
    [found] = [
        each for each in page.text.split("<article") if f"<bdi>{grant_id}</bdi></code>" in each
    ]
    return Page(status=200, headers={}, text="<article" + found.partition("</article>")[0]).words


# --- giving and revoking ---


async def test_a_grant_is_given_used_and_revoked_at_once(town: Site, ann: Browser) -> None:
    done = await give(ann, max_per_call="2.00 USD", upstream="shop", reason="the move")
    assert done.status == 303
    [kept] = await issued(town)
    assert (kept.grant.origin, kept.grant.granted_by) == (Origin.CONSOLE, "person:ann")
    page = await ann.get(done.headers["Location"])
    assert f"{kept.grant.id} is in force." in page.words
    said = of(page, kept.grant.id)
    for words in (
        "ops-agent in force may run create_incoming_phone_number on shop without asking",
        "2 of 2 uses left 0 used",
        "Per call at most $2.00",
        "Until 2026-11-22 12:00 UTC 1 d left",
        "Given by You just now",
        "Why the move",
        "Revoke",
    ):
        assert words in said
    taken = await revoke(ann, kept.grant.id)
    assert taken.headers["Location"] == f"/grants?done={kept.grant.id}"
    assert (await town.hold({"n": 1})).status is Status.PENDING
    page = await ann.get(taken.headers["Location"])
    assert f"{kept.grant.id} is revoked. Nothing more passes under it." in page.words
    said = of(page, kept.grant.id)
    assert "Revoked by You just now" in said
    assert f'action="/grants/{kept.grant.id}/revoke"' not in page.text
    entries = [each for each in await trail(town) if each["subject"] == kept.grant.id]
    assert [(each["tag"], each["actor"], each["facts"]["via"]) for each in entries] == [
        (Tag.GRANT_ISSUE, "person:ann", "web"),
        (Tag.GRANT_REVOKE, "person:ann", "web"),
    ]


async def test_calls_run_under_it_and_what_is_left_is_told(town: Site, ann: Browser) -> None:
    grant_id = await given(ann)
    ran = await town.hold({"n": 1})
    assert (ran.status, ran.grant) == (Status.EXECUTING, grant_id)
    assert "1 of 2 uses left 0 used, 1 by calls under way" in of(await ann.get("/grants"), grant_id)
    await town.hold({"n": 2})
    said = of(await ann.get("/grants"), grant_id)
    assert ("used up" in said, "Revoke" in said) == (True, True)
    assert (await town.hold({"n": 3})).status is Status.PENDING


async def test_one_of_the_file_is_marked_and_revoked_there(town: Site, ann: Browser) -> None:
    page = await ann.get("/grants")
    said = of(page, "file:a/b")
    assert "Given by the configuration" in said
    assert "It stands in the configuration file, at /grants/0. To end it, take it out" in said
    assert "Revoke" not in said
    refused = await ann.post("/grants/file:a%2Fb/revoke", await csrf(ann))
    assert (refused.status, "remove it there" in refused.words) == (403, True)


async def test_conditions_come_through_the_form(town: Site, ann: Browser) -> None:
    condition = '{"path": "args.phone_number", "op": "glob", "value": "+49*"}'
    grant_id = await given(ann, conditions=condition)
    assert 'Only if args.phone_number matches the pattern "+49*"' in of(
        await ann.get("/grants"), grant_id
    )
    assert (await town.hold({"phone_number": "+1"})).status is Status.PENDING
    assert (await town.hold({"phone_number": "+491"})).status is Status.EXECUTING


async def test_one_out_of_a_decision_leads_to_its_call(tmp_path: Path, clock: Clock) -> None:
    async with serve(tmp_path, rules=giving(), clock=clock) as site:
        call = await site.hold({"n": 1})
        wish = Wish(uses=3, within=timedelta(hours=12), total=Money(1000, "USD"))
        vote = Ballot(person="ann", choice=Choice.APPROVE, digest=call.digest, via="test")
        await site.service.decide(call.id, replace(vote, grant=wish))
        async with site.browser("dora") as dora:
            page = await dora.get("/grants")
    [name] = re.findall(r"grt_\w+", page.text)[:1]
    said = of(page, name)
    assert "Given by Ann just now, deciding this call" in said
    assert f'<a href="/calls/{call.id}">this call</a>' in page.text
    assert "Arguments" in said


# --- who may ---


async def test_whoever_may_see_less_sees_less_and_no_form(town: Site, ann: Browser) -> None:
    mine, other = await given(ann), await given(ann, agent="other-agent")
    sees = {"ann": {mine, other, "file:a/b"}, "dora": {mine, other, "file:a/b"}, "carl": {mine}}
    for person in ("ann", "bob", "carl", "dora"):
        async with town.browser(person) as browser:
            page = await browser.get("/grants")
        assert page.status == 200
        found = {name for name in (mine, other, "file:a/b") if name in page.words}
        assert found == sees.get(person, set()), person
        assert ("Give a grant" in page.words) is (person == "ann")
        assert ("Revoke" in page.words) is (person in {"ann", "carl"})
        assert ("No grant for you to see." in page.words) is (person == "bob")


async def test_who_sees_none_is_told_so(town: Site) -> None:
    async with town.browser("bob") as bob:
        page = await bob.get("/grants")
    assert "No grant for you to see." in page.words
    assert '<a href="/grants" aria-current="page">Grants</a>' in page.text


async def test_whoever_is_not_signed_in_is_asked_to(town: Site) -> None:
    async with town.browser() as stranger:
        for page in (
            await stranger.get("/grants"),
            await stranger.post("/grants", TYPED),
            await stranger.post("/grants/grt_1/revoke", {}),
        ):
            assert (page.status, page.form("/login")["next"]) == (401, "/grants")
        headers = {"Authorization": f"Bearer {AGENT_TOKEN}"}
        assert (await stranger.get("/grants", **headers)).status == 403
    assert await issued(town) == []


@pytest.mark.parametrize("person", ["bob", "carl", "dora"])
@pytest.mark.parametrize("changes", [{}, {"uses": "x"}])
async def test_only_an_admin_gives_one_whatever_the_form_says(
    town: Site, person: str, changes: dict[str, str]
) -> None:
    async with town.browser(person) as browser:
        page = await browser.post("/grants", {**await csrf(browser), **TYPED, **changes})
    assert (page.status, "has no right to give grants" in page.words) == (403, True)
    assert await issued(town) == []


async def test_the_owner_takes_one_back_and_others_do_not(town: Site, ann: Browser) -> None:
    grant_id = await given(ann)
    for person, status in {"bob": 404, "dora": 403, "carl": 303}.items():
        assert (await issued(town))[0].revoked_at is None
        async with town.browser(person) as browser:
            path = f"/grants/{grant_id}/revoke"
            assert (await browser.post(path, await csrf(browser))).status == status
    assert (await issued(town))[0].revoked_by == "person:carl"


# --- what is refused ---

ELSEWHERE: Final = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
)


@pytest.mark.parametrize("headers", ELSEWHERE)
async def test_a_form_from_elsewhere_does_nothing(
    town: Site, ann: Browser, headers: dict[str, str]
) -> None:
    grant_id = await given(ann)
    before = await trail(town)
    held = await csrf(ann)
    for path, fields in (("/grants", TYPED), (f"/grants/{grant_id}/revoke", {})):
        page = await ann.post(path, {**held, **fields}, **headers)
        assert (page.status, "another site" in page.words) == (403, True)
        page = await ann.ask(
            "POST", path, headers={"Origin": "https://evil.example"}, data={**held, **fields}
        )
        assert (page.status, "another site" in page.words) == (403, True)
        page = await ann.ask("POST", path, headers={}, data={**held, **fields})
        assert page.status == 403
    assert await trail(town) == before


@pytest.mark.parametrize("token", [{}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "é"}])
async def test_a_form_without_this_sessions_token_does_nothing(
    town: Site, ann: Browser, token: dict[str, str]
) -> None:
    grant_id = await given(ann)
    before = await trail(town)
    for path, fields in (("/grants", TYPED), (f"/grants/{grant_id}/revoke", {})):
        page = await ann.post(path, {**fields, **token})
        assert (page.status, "another session" in page.words) == (403, True)
    assert await trail(town) == before


async def test_a_form_that_is_sent_twice_gives_one_grant(town: Site, ann: Browser) -> None:
    fields = (await ann.get("/grants")).form("/grants")
    assert len(fields["once"]) > 20
    pages = await asyncio.gather(*[ann.post("/grants", {**fields, **TYPED}) for _ in range(3)])
    assert sorted(page.status for page in pages) == [303, 409, 409]
    [kept] = await issued(town)
    late = await ann.post("/grants", {**fields, **TYPED, "uses": "9"})
    assert (late.status, f"{kept.grant.id} was given by this very order" in late.words) == (409, 1)
    assert [each.grant for each in await issued(town)] == [kept.grant]
    assert (await tags(town)).count(Tag.GRANT_ISSUE) == 1
    # A refused form gave nothing, and each page brings a form of its own.
    wrong = await give(ann, uses="0")
    assert len({fields["once"], wrong.form("/grants")["once"], late.form("/grants")["once"]}) == 3
    assert (await ann.post("/grants", {**wrong.form("/grants"), **TYPED})).status == 303
    assert len(await issued(town)) == 2


async def test_opening_an_address_revokes_nothing(town: Site, ann: Browser) -> None:
    grant_id = await given(ann)
    assert (await ann.get(f"/grants/{grant_id}/revoke")).status == 405
    assert (await issued(town))[0].revoked_at is None


@pytest.mark.parametrize("name", ["grt_none", "grt_%00", "x", "%ED%A0%80", "grt_" + "a" * 2000])
async def test_what_is_no_grant_is_not_revoked(town: Site, ann: Browser, name: str) -> None:
    page = await ann.post(f"/grants/{name}/revoke", await csrf(ann))
    assert page.status == 404
    assert Tag.GRANT_REVOKE not in await tags(town)


async def test_twice_and_too_late_are_refused_and_the_page_says_why(
    town: Site, ann: Browser, clock: Clock
) -> None:
    grant_id, other = await given(ann), await given(ann, lasts="1h")
    asked = f"/grants/{grant_id}/revoke"
    fields = (await ann.get("/grants")).form(asked)
    await revoke(ann, grant_id)
    late = await ann.post(asked, fields)
    assert (late.status, "Nothing was changed." in late.words) == (409, True)
    assert "the grant was revoked already, by person:ann" in late.words
    told = await ann.post(asked, fields, Accept="application/problem+json")
    assert (told.status, "revoked already" in told.text) == (409, True)

    fields = (await ann.get("/grants")).form(f"/grants/{other}/revoke")
    clock.advance(hours=1)
    late = await ann.post(f"/grants/{other}/revoke", fields)
    assert (late.status, "ended at 2026-11-21T13:00:00Z, by itself" in late.words) == (409, True)
    said = of(late, other)
    assert ("expired" in said, "Revoke" in said) == (True, False)
    assert (await tags(town)).count(Tag.GRANT_REVOKE) == 1


@pytest.mark.parametrize(
    ("changes", "field", "told"),
    [
        ({"uses": "0"}, "uses", "this is 0"),
        ({"tools": " "}, "tools", "name a tool"),
        ({"total": "5"}, "total", "no currency"),
        ({"max_per_call": "1.5 USD"}, "max_per_call", "no amount"),
        ({"lasts": "soon"}, "lasts", "is no time"),
        ({"conditions": "{"}, "conditions", "line 1: "),
        ({"reason": "\u202e"}, "reason", "invisible"),
        ({"agent": ""}, "agent", "blank"),
        ({"uses": "", "lasts": ""}, "form", "would never end"),
        ({"agent": "zoe"}, "form", "there is no agent zoe"),
        ({"upstream": "mall"}, "form", "there is no upstream mall"),
    ],
)
async def test_what_is_wrong_stands_beside_the_form_with_what_was_typed(
    town: Site, ann: Browser, changes: dict[str, str], field: str, told: str
) -> None:
    page = await give(ann, **changes)
    assert (page.status, "Nothing was given." in page.words) == (422, True)
    assert told in page.words
    assert '<details class="panel give-one" open>' in page.text
    if field != "form":
        assert f'name="{field}" aria-invalid="true" aria-describedby="wrong-{field}"' in page.text
        assert page.text.count("aria-invalid") == 1
    for name in ("uses", "lasts", "total"):
        value = {**TYPED, **changes}.get(name, "")
        assert re.search(rf'<input name="{name}"[^>]* value="{re.escape(value)}">', page.text)
    assert await issued(town) == []


async def test_what_is_typed_into_long_fields_and_lists_is_kept(town: Site, ann: Browser) -> None:
    page = await give(ann, uses="x", tools="a_*\r\nb", conditions="{", upstream="shop")
    assert re.search(r"<textarea name=\"tools\"[^>]*>a_\*\s+b</textarea>", page.text)
    assert re.search(r"<textarea name=\"conditions\"[^>]*>{</textarea>", page.text)
    assert '<option value="ops-agent" selected>' in page.text
    assert '<option value="shop" selected>' in page.text


async def test_an_admin_frees_no_agent_of_their_own(tmp_path: Path) -> None:
    directory = make_directory(rights={Right.ADMIN: frozenset({"carl"})})
    async with (
        serve(tmp_path, rules=make_rulebook(directory=directory)) as site,
        site.browser("carl") as carl,
    ):
        assert '<option value="ops-agent"' not in (await carl.get("/grants")).text
        page = await give(carl)
        assert (page.status, "carl owns ops-agent" in page.words) == (422, True)
        assert await issued(site) == []


# --- hostile text ---


async def test_hostile_text_is_drawn_and_never_obeyed(tmp_path: Path, clock: Clock) -> None:
    evil = Agent(name=TRICK, upstreams=frozenset({"shop"}))
    directory = make_directory(rights={Right.ADMIN: frozenset({"ann"})})
    directory = replace(directory, agents={**directory.agents, TRICK: evil})
    words = {"agent": TRICK, "tools": [TRICK], "upstream": TRICK, "uses": 5, "reason": TRICK}
    words["conditions"] = [{"path": "args.n", "op": "eq", "value": TRICK}]
    own = replace(read_issue(words, source="test"), id=f"file:{TRICK}", path=f"/grants/{TRICK}")
    rules = replace(make_rulebook(directory=directory, upstream=TRICK), grants=(own,))
    async with (
        serve(tmp_path, rules=rules, clock=clock) as site,
        site.browser("ann") as ann,
        script(site, ANN_TOKEN) as api,
    ):
        reply = await api.post("/v1/grants", words)
        assert reply.status == 200
        shown = await ann.get("/grants")
        refused = await give(ann, **dict.fromkeys(TYPED, TRICK), conditions=TRICK, total=TRICK)
        assert refused.status == 422
        done = await ann.get("/grants?done=%3Cscript%3Ealert(1)%3C/script%3E")
        assert 'role="status"' not in done.text.partition("<main")[2].partition("</main")[0]
    for page in (shown, refused, done):
        assert "<script>alert" not in page.text
        body = page.text.partition("<main")[2].partition("</main")[0]
        assert body.count("U+202E") >= 12
        # Only what fields hold for the browser to send back may be raw, and is quoted.
        bare = re.sub(r'value="[^"]*"|<textarea[^>]*>[^<]*</textarea>', "", body)
        assert not {"\u202e", "\u200b"} & set(bare)
        assert " style=" not in page.text
        assert re.search(r"\son\w+=", body) is None


async def test_the_address_names_a_grant_and_the_store_says_what_became_of_it(
    town: Site, ann: Browser
) -> None:
    grant_id = await given(ann)
    async with town.browser("bob") as bob:
        assert "in force" not in (await bob.get(f"/grants?done={grant_id}")).words
    for name in ("grt_none", "file:a/b", "", "%00"):
        page = await ann.get(f"/grants?done={name}")
        assert (page.status, '<p class="news"' in page.text) == (200, False)


# --- pages ---


async def test_the_page_is_read_on_to_the_end(
    town: Site, ann: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("approval.web.grant_pages.PAGE", 2)
    names = {"file:a/b"} | {await given(ann, tools=f"tool_{number}") for number in range(4)}
    path, page = "/grants", await ann.get("/grants")
    found: list[str] = []
    for length in (2, 2, 1):
        page = await ann.get(path)
        shown = [name for name in names if f"<bdi>{name}</bdi></code>" in page.text]
        assert len(shown) == length
        found += shown
        following = re.findall(r'href="(\?after=[^"]+)">More grants', page.text)
        assert len(following) == (0 if length == 1 else 1)
        assert ("First page" in page.words) is (path != "/grants")
        path = f"/grants{following[0]}" if following else path
    assert (sorted(found), len(found)) == (sorted(names), 5)
    # Revoking on a later page leads back to it.
    last = found[-1]
    fields = page.form(f"/grants/{last}/revoke")
    assert fields["after"] in names
    taken = await ann.post(f"/grants/{last}/revoke", fields)
    page = await ann.get(taken.headers["Location"])
    assert f"{last} is revoked." in page.words
    assert "Revoked by You" in of(page, last)
    again = await ann.post(f"/grants/{last}/revoke", fields)
    assert again.status == 409
    assert "Revoked by You" in of(again, last)


async def test_what_is_no_grant_to_read_on_after_begins_anew(town: Site, ann: Browser) -> None:
    for after in ("grt_none", "%00", "x", ""):
        page = await ann.get(f"/grants?after={after}")
        assert (page.status, "file:a/b" in page.words) == (200, True)
        assert "First page" not in page.words
