"""The console in a real browser: live updates, keys, phones, and no script at all."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from approval.core.audit import Tag
from approval.core.call import Choice, Listener, Status
from tests.browser.driving import SOON, card, opened, ready, signed_in, small_targets, until
from tests.browser.screenshots import NASTY
from tests.web.serving import Site, serve, tags

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serve(tmp_path) as served:
        yield served


async def shifts(page: Page) -> float:
    """Add up how far anything moved without a person's doing (cumulative layout shift)."""
    return float(
        await page.evaluate(
            """() => new Promise((resolve) => {
                let sum = 0;
                new PerformanceObserver((list) => {
                    for (const entry of list.getEntries())
                        if (!entry.hadRecentInput) sum += entry.value;
                }).observe({type: "layout-shift", buffered: true});
                requestAnimationFrame(() => requestAnimationFrame(() => resolve(sum)));
            })"""
        )
    )


# --- live updates ---


async def test_a_decision_in_one_browser_is_in_the_other_at_once_and_nothing_moves(
    site: Site, browser: Browser
) -> None:
    first, second = await site.hold({"phone_number": "+1"}), await site.hold({"phone_number": "+2"})
    async with opened(browser, site) as ann, opened(browser, site, person="bob") as bob:
        await ready(ann)
        await ready(bob)
        before = await card(bob, second).bounding_box()
        await card(ann, first).get_by_role("button", name="Approve").click()
        told = card(bob, first)
        await expect(told).to_contain_text("Ann approved this", timeout=SOON)
        await expect(told.get_by_role("button")).to_have_count(0)
        await expect(card(ann, first)).to_contain_text("You approved this", timeout=SOON)
        await expect(bob.locator("#say")).to_contain_text("Ann approved this")
        assert await card(bob, second).bounding_box() == before
        assert await shifts(bob) == 0
        await expect(bob).to_have_title("(1) Inbox · approval")
    assert (await site.service.get(first.id)).status is Status.APPROVED
    assert (await site.service.get(second.id)).status is Status.PENDING


async def test_what_comes_while_somebody_reads_stands_behind_a_line_until_wanted(
    site: Site, browser: Browser
) -> None:
    first = await site.hold({"phone_number": "+1"})
    async with opened(browser, site) as page:
        await ready(page)
        second = await site.hold({"phone_number": "+2"})
        pill = page.get_by_role("button", name="1 new")
        await expect(pill).to_be_visible(timeout=SOON)
        await expect(page).to_have_title("(2) Inbox · approval")
        await expect(card(page, second)).to_have_count(0)
        assert await shifts(page) == 0
        await pill.click()
        await expect(card(page, second)).to_be_focused()
        await expect(pill).to_be_hidden()
        shown = await page.locator("#pending [data-call]").evaluate_all(
            "cards => cards.map(card => card.id)"
        )
        assert shown == [first.id, second.id]


async def test_in_an_empty_inbox_a_call_appears_by_itself(site: Site, browser: Browser) -> None:
    async with opened(browser, site) as page:
        await expect(page.get_by_text("Nothing waits for you.")).to_be_visible()
        await ready(page)
        call = await site.hold()
        await expect(card(page, call)).to_be_visible(timeout=SOON)
        await expect(page.get_by_text("Nothing waits for you.")).to_be_hidden()
        await expect(page).to_have_title("(1) Inbox · approval")


async def test_a_new_call_decided_before_it_was_wanted_is_not_counted(
    site: Site, browser: Browser
) -> None:
    await site.hold({"phone_number": "+1"})
    async with opened(browser, site) as page:
        await ready(page)
        second = await site.hold({"phone_number": "+2"})
        await expect(page.get_by_role("button", name="1 new")).to_be_visible(timeout=SOON)
        await site.decide(second, "bob", Choice.REJECT)
        await expect(page.get_by_role("button", name="1 new")).to_be_hidden(timeout=SOON)
        await expect(page).to_have_title("(1) Inbox · approval")


async def test_a_page_that_lost_its_stream_catches_up(site: Site, browser: Browser) -> None:
    call = await site.hold()
    async with opened(browser, site) as page:
        await ready(page)
        await page.evaluate("stream.close()")  # as a proxy or a sleeping laptop would
        await site.decide(call, "bob", Choice.REJECT, "no")
        await page.evaluate("listen()")
        await expect(card(page, call)).to_contain_text("Bob rejected this", timeout=SOON)


async def test_a_page_without_a_stream_asks_instead(site: Site, browser: Browser) -> None:
    call = await site.hold()
    async with opened(browser, site) as page:
        await ready(page)
        await page.evaluate("stream.close()")
        await site.decide(call, "bob", Choice.REJECT)
        await page.evaluate("poll()")
        await expect(card(page, call)).to_contain_text("Bob rejected this", timeout=SOON)
        await until(page, "stream.readyState === 1")


async def test_the_calls_own_page_follows_too(site: Site, browser: Browser) -> None:
    call = await site.hold({"api_key": "sk-live"})
    async with opened(browser, site, f"/calls/{call.id}?reveal=1") as page:
        await ready(page)
        await site.decide(call, "bob", Choice.APPROVE)
        await expect(page.get_by_text("Bob approved this").first).to_be_visible(timeout=SOON)
        await expect(page.locator(".args").get_by_text("sk-live")).to_be_visible()
        await expect(page.get_by_role("button", name="Approve")).to_have_count(0)


async def test_words_already_typed_survive_an_update(site: Site, browser: Browser) -> None:
    call = await site.hold()
    async with opened(browser, site) as page:
        await ready(page)
        await card(page, call).get_by_text("Add a reason").click()
        words = card(page, call).get_by_role("textbox")
        await words.fill("Not this")
        await site.store.listen(call.id, Listener.GONE, site.service.instance)
        await site.service.poll()
        await expect(card(page, call)).to_contain_text("The agent has gone", timeout=SOON)
        await expect(words).to_have_value("Not this")
        await expect(words).to_be_focused()
        await until(page, "performance.now() - loaded > 1500")
        await card(page, call).get_by_role("button", name="Deny").click()
        await expect(card(page, call)).to_contain_text("You rejected this", timeout=SOON)
    assert (await site.service.get(call.id)).note == "Not this"


# --- deciding with care ---


async def test_a_double_click_decides_once(site: Site, browser: Browser) -> None:
    call = await site.hold()
    async with opened(browser, site) as page:
        await ready(page)
        await card(page, call).get_by_role("button", name="Approve").dblclick()
        await expect(card(page, call)).to_contain_text("You approved this", timeout=SOON)
    found = await tags(site)
    assert found.count(Tag.CALL_APPROVE) == 1
    assert Tag.DECISION_REFUSE not in found


async def test_a_card_that_just_appeared_ignores_the_click(site: Site, browser: Browser) -> None:
    async with opened(browser, site) as page:
        await ready(page)
        await page.evaluate(
            """() => new MutationObserver((_, observer) => {
                const button = document.querySelector("button.yes");
                if (!button) return;
                observer.disconnect();
                button.click();
                window.clicked = true;
            }).observe(document.getElementById("pending"), {childList: true})"""
        )
        call = await site.hold()
        await until(page, "window.clicked && performance.now() - loaded > 1500")
        assert (await site.service.get(call.id)).status is Status.PENDING
        await card(page, call).get_by_role("button", name="Approve").click()
        await expect(card(page, call)).to_contain_text("You approved this", timeout=SOON)


async def test_a_click_on_what_was_decided_elsewhere_changes_nothing(
    site: Site, browser: Browser
) -> None:
    call = await site.hold()
    async with opened(browser, site, script=False, complaints=("409",)) as page:
        await site.decide(call, "bob", Choice.REJECT)
        await card(page, call).get_by_role("button", name="Approve").click()
        await expect(page.get_by_role("alert")).to_contain_text(
            re.compile("Nothing was changed. Bob rejected this")
        )
    assert (await site.service.get(call.id)).status is Status.REJECTED


async def test_an_ended_session_leads_to_the_door_and_decides_nothing(
    site: Site, browser: Browser
) -> None:
    call = await site.hold()
    async with opened(browser, site, complaints=("401",)) as page:
        await ready(page)
        await site.service.keyring.revoke("session", "ann", actor="operator")
        await card(page, call).get_by_role("button", name="Approve").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await page.get_by_label("One-time login").fill(await site.login("ann"))
        await page.get_by_role("button", name="Sign in").click()
        await expect(page).to_have_url(f"{site.url}/calls/{call.id}")
        await expect(page.get_by_text("This is waiting for a decision.")).to_be_visible()
    assert (await site.service.get(call.id)).version == call.version


async def test_what_could_not_be_done_is_said_where_it_was_tried(
    site: Site, browser: Browser
) -> None:
    call = await site.hold()
    async with opened(browser, site, complaints=("503", "ERR_", "EventSource")) as page:
        await ready(page)
        await site.take_store_away()
        await card(page, call).get_by_role("button", name="Approve").click()
        told = card(page, call).get_by_role("alert")
        await expect(told).to_contain_text("The store is away and nothing was changed.")
        await expect(card(page, call).get_by_role("button", name="Approve")).to_be_enabled()


async def test_a_wrong_clock_of_the_browser_does_not_matter(site: Site, browser: Browser) -> None:
    call = await site.hold()
    context = await signed_in(browser, site)
    page = await context.new_page()
    await page.clock.install(time="2031-01-01T00:00:00Z")
    await page.goto("/")
    left = card(page, call).get_by_role("timer")
    await expect(left).to_have_text(re.compile(r"^1[45]:\d\d left$"))
    await context.close()


# --- keys ---


async def test_the_keyboard_alone_is_enough(site: Site, browser: Browser) -> None:
    first, second = await site.hold({"phone_number": "+1"}), await site.hold({"phone_number": "+2"})
    async with opened(browser, site) as page:
        await ready(page)
        await page.keyboard.press("j")
        await expect(card(page, first)).to_be_focused()
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await expect(card(page, second)).to_be_focused()
        await page.keyboard.press("k")
        await page.keyboard.press("a")
        await expect(card(page, first).get_by_role("button", name="Approve")).to_be_focused()
        await page.keyboard.press("d")
        await expect(card(page, first).get_by_role("button", name="Deny")).to_be_focused()
        assert (await site.service.get(first.id)).status is Status.PENDING
        await page.keyboard.press("Enter")
        await expect(card(page, first)).to_contain_text("You rejected this", timeout=SOON)
    assert (await site.service.get(second.id)).status is Status.PENDING


async def test_keys_are_explained_can_be_switched_off_and_leave_typing_alone(
    site: Site, browser: Browser
) -> None:
    call = await site.hold()
    async with opened(browser, site) as page:
        await ready(page)
        await card(page, call).get_by_text("Add a reason").click()
        words = card(page, call).get_by_role("textbox")
        await words.press_sequentially("jad?")
        await expect(words).to_have_value("jad?")
        await page.locator("h1").click()
        await page.keyboard.press("?")
        await page.get_by_role("checkbox", name="Use these keys").uncheck()
        await page.get_by_role("button", name="Close").click()
        await page.keyboard.press("a")
        await expect(card(page, call).get_by_role("button", name="Approve")).not_to_be_focused()
        await page.reload()
        await page.keyboard.press("j")
        await expect(card(page, call)).not_to_be_focused()


# --- every screen ---


async def test_without_script_everything_can_be_done(site: Site, browser: Browser) -> None:
    first, second = await site.hold({"phone_number": "+1"}), await site.hold({"phone_number": "+2"})
    async with opened(browser, site, script=False) as page:
        await card(page, first).get_by_role("button", name="Approve").click()
        await expect(card(page, first)).to_contain_text("You approved this")
        await card(page, second).get_by_role("heading").get_by_role("link").click()
        await page.get_by_label("Reason, which the agent reads").fill("Not now")
        await page.get_by_role("button", name="Deny").click()
        await expect(page.get_by_text("You rejected this").first).to_be_visible()
        await page.get_by_role("link", name="History").click()
        await page.get_by_label("State").select_option("rejected")
        await page.get_by_role("button", name="Search").click()
        await expect(page.locator(".rows li")).to_have_count(1)
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert (await site.service.get(first.id)).status is Status.APPROVED
    assert (await site.service.get(second.id)).note == "Not now"


async def test_a_login_link_signs_in_by_its_button(site: Site, browser: Browser) -> None:
    token = await site.login("bob")
    context = await browser.new_context(base_url=site.url)
    page = await context.new_page()
    await page.goto(f"/login?token={token}")
    await page.reload()
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_text("Bob")).to_be_visible()
    await expect(page).to_have_url(f"{site.url}/")
    await context.close()


async def everywhere(site: Site) -> list[str]:
    call = await site.hold(NASTY)
    await site.decide(await site.hold({"phone_number": "+1"}), "bob", Choice.REJECT, "x" * 900)
    paths = ["/", f"/calls/{call.id}", f"/calls/{call.id}?reveal=1", "/history", "/trail"]
    return [*paths, "/login"]


@pytest.mark.parametrize(("width", "phone"), [(375, True), (320, True), (640, False)])
async def test_no_page_scrolls_sideways_and_fingers_find_their_targets(
    site: Site, browser: Browser, width: int, phone: bool
) -> None:
    for path in await everywhere(site):
        async with opened(browser, site, path, phone=phone, width=width) as page:
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert await small_targets(page) == [], path


async def test_hostile_text_runs_nowhere(site: Site, browser: Browser) -> None:
    for path in await everywhere(site):
        async with opened(browser, site, path, scheme="dark") as page:
            assert await page.evaluate("document.querySelectorAll('main script').length") == 0
            assert await page.evaluate("document.scripts.length") == 1


ATTEMPTS = [
    "document.body.innerHTML = '<b>x</b>'",
    "document.write('<b>x</b>')",
    "document.createElement('script').text = '1'",
]


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_the_browser_itself_refuses_text_as_markup_or_code(
    site: Site, browser: Browser, attempt: str
) -> None:
    refusals = ("TrustedHTML", "TrustedScript", "Content Security Policy", "unsafe-eval")
    async with opened(browser, site, complaints=refusals) as page:
        script = (
            f"() => {{ try {{ {attempt}; return 'done' }} catch (error) {{ return error.name }} }}"
        )
        assert await page.evaluate(script) != "done"
