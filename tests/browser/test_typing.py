"""Typing what a call costs, in a real browser: a form that explains itself, script or not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from approval.core.call import Call, Choice, Listener, Status
from approval.core.money import Money
from tests.browser.driving import SOON, card, opened, ready, small_targets, until
from tests.factories import Clock
from tests.web.serving import Site, serve
from tests.web.test_typing import doubtful, typing

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serve(tmp_path, rules=typing()) as served:
        yield served


def field(page: Page) -> Locator:
    return page.get_by_label("What it costs, in USD: at most $500.00")


async def test_an_amount_is_typed_and_a_wrong_one_is_explained_where_it_was_typed(
    site: Site, browser: Browser
) -> None:
    call = await site.hold()
    async with opened(browser, site, f"/calls/{call.id}", complaints=("422",)) as page:
        await ready(page)
        approve = page.get_by_role("button", name="Approve")
        await approve.click()  # the browser itself asks for the amount
        await expect(field(page)).to_be_focused()
        assert await field(page).evaluate("each => each.validity.valueMissing")
        await field(page).fill("600")
        await page.get_by_label("Reason, which the agent reads").fill("as quoted")
        await approve.click()
        told = card(page, call).get_by_role("alert")
        await expect(told).to_contain_text("Nothing was changed: 600.00 USD is above 500.00 USD")
        await expect(field(page)).to_have_value("600")
        assert (await site.service.get(call.id)).status is Status.PENDING
        # A form that just came under the pointer ignores clicks.
        since = 'Number(document.querySelector("[data-page]").dataset.since)'
        await until(page, f"performance.now() - {since} > 500")
        await field(page).fill("12.34")
        await page.get_by_role("button", name="Approve").click()
        await expect(page.get_by_text("You approved this").first).to_be_visible(timeout=SOON)
        await expect(page.get_by_text("and typed $12.34")).to_be_visible()
    approved = await site.service.get(call.id)
    assert (approved.cost, approved.note) == (Money(1234, "USD"), "as quoted")


async def test_an_amount_is_typed_in_the_inbox_and_each_card_keeps_its_own(
    site: Site, browser: Browser
) -> None:
    first, second = await site.hold({"n": 1}), await site.hold({"n": 2})
    async with opened(browser, site, complaints=("422",)) as page:
        await ready(page)

        def amount(call: Call) -> Locator:
            return card(page, call).get_by_label("What it costs, in USD: at most $500.00")

        approve = card(page, first).get_by_role("button", name="Approve")
        await amount(second).fill("7.00")
        await approve.click()  # the browser itself asks for the amount
        await expect(amount(first)).to_be_focused()
        await amount(first).fill("600")
        await approve.click()
        told = card(page, first).get_by_role("alert")
        await expect(told).to_contain_text("Nothing was changed: 600.00 USD is above 500.00 USD")
        await expect(amount(first)).to_have_value("600")
        await site.store.listen(second.id, Listener.GONE, site.service.instance)
        await site.service.poll()
        await expect(card(page, second)).to_contain_text("The agent has gone", timeout=SOON)
        await expect(amount(second)).to_have_value("7.00")
        # A card that just came under the pointer ignores clicks.
        await until(page, "document.querySelectorAll('[data-since]').length === 2")
        await page.wait_for_timeout(500)
        await amount(first).fill("12.34")
        await amount(first).press("Enter")
        await expect(card(page, first)).to_contain_text("You approved this", timeout=SOON)
        await expect(page).to_have_url(f"{site.url}/")
        await card(page, second).get_by_role("button", name="Deny").click()
        await expect(card(page, second)).to_contain_text("You rejected this", timeout=SOON)
    assert (await site.service.get(first.id)).cost == Money(1234, "USD")
    assert (await site.service.get(second.id)).status is Status.REJECTED


async def test_what_was_typed_survives_an_update(site: Site, browser: Browser) -> None:
    call = await site.hold()
    async with opened(browser, site, f"/calls/{call.id}") as page:
        await ready(page)
        await field(page).fill("12.34")
        await site.store.listen(call.id, Listener.GONE, site.service.instance)
        await site.service.poll()
        await expect(card(page, call)).to_contain_text("The agent has gone", timeout=SOON)
        await expect(field(page)).to_have_value("12.34")
        await expect(field(page)).to_be_focused()


async def test_without_script_the_same_can_be_said(site: Site, browser: Browser) -> None:
    first, second = await site.hold({"n": 1}), await site.hold({"n": 2})
    async with opened(browser, site, script=False, complaints=("422",)) as page:
        amount = card(page, first).get_by_label("What it costs, in USD")
        await amount.fill("12.5")
        await card(page, first).get_by_role("button", name="Approve").click()
        await expect(page.get_by_role("alert")).to_contain_text("could be two sums")
        await expect(field(page)).to_have_value("12.5")
        await field(page).fill("12.50")
        await page.get_by_role("button", name="Approve").click()
        await expect(page.get_by_text("You approved this").first).to_be_visible()
        await page.goto("/")
        await card(page, second).get_by_role("button", name="Deny").click()  # needs no amount
        await expect(card(page, second)).to_contain_text("You rejected this")
    assert (await site.service.get(first.id)).cost == Money(1250, "USD")


@pytest.mark.parametrize(("width", "phone"), [(320, True), (375, True), (640, False)])
async def test_the_form_fits_a_phone(
    site: Site, browser: Browser, width: int, *, phone: bool
) -> None:
    call = await site.hold()
    for path in (f"/calls/{call.id}", "/"):
        async with opened(browser, site, path, phone=phone, width=width) as page:
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            assert await small_targets(page) == []


async def test_a_doubt_is_settled_at_what_it_took(tmp_path: Path, browser: Browser) -> None:
    clock = Clock()
    async with serve(tmp_path, rules=typing(), clock=clock) as site:
        call = await doubtful(site, clock)
        async with opened(browser, site, f"/calls/{call.id}", person="dora") as page:
            await ready(page)
            await page.get_by_label("What shows it").fill("order 7")
            await page.get_by_label("What it took, in USD").fill("12.00")
            await page.get_by_role("button", name="It was executed").click()
            await expect(page.get_by_text("You settled this").first).to_be_visible(timeout=SOON)
        [pot] = await site.service.budgets.pots()
        assert (pot.held.minor, pot.spent.minor) == (0, 1200)


async def test_the_second_of_two_sees_what_the_first_typed(
    tmp_path: Path, browser: Browser
) -> None:
    async with serve(tmp_path, rules=typing(approvals=2)) as site:
        call = await site.hold()
        await site.decide(call, "bob", Choice.APPROVE, typed="12.34 USD")
        async with opened(browser, site, f"/calls/{call.id}", complaints=("409",)) as page:
            await ready(page)
            label = "$12.34 was typed before, and all must type the same"
            await page.get_by_label(label).fill("12.00")
            await page.get_by_role("button", name="Approve").click()
            told = card(page, call).get_by_role("alert")
            await expect(told).to_contain_text("Nothing was changed: bob typed 12.34 USD")
