"""Giving a grant and taking it back in a real browser, with the page's script and without any."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from approval.core.call import Status
from approval.core.identity import Right
from approval.core.issued import read_issue
from tests.browser.driving import opened, small_targets
from tests.factories import make_directory, make_rulebook
from tests.web.serving import Site, serve

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

BUY = "create_incoming_phone_number"
NASTY = {
    "agent": "other-agent",
    "tools": [
        "a" * 200,
        "<script>alert(1)</script>\u202e\u200b",
        *(f"tool_{n}" for n in range(20)),
    ],
    "conditions": [{"path": "args." + "n" * 100, "op": "eq", "value": "x" * 300}],
    "uses": 10**9,
    "total": "999999999999.99 USD",
    "max_per_call": "999999999999.99 USD",
    "reason": "word " * 100,
    "not_before": "2026-12-01T00:00:00Z",
    "expires": "2036-12-01T00:00:00Z",
}


@pytest_asyncio.fixture(loop_scope="module")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    rights = {Right.ADMIN: frozenset({"ann"}), Right.READ_ALL: frozenset({"dora"})}
    own = replace(read_issue(NASTY, source="test"), id="file:" + "i" * 100, path="/grants/0")
    rules = make_rulebook(directory=make_directory(rights=rights))
    async with serve(tmp_path, rules=replace(rules, grants=(own,))) as served:
        yield served


def field(page: Page, name: str) -> Locator:
    return page.locator(f'.fields [name="{name}"]')


@pytest.mark.parametrize("script", [True, False])
async def test_a_grant_is_given_and_taken_back(
    site: Site, browser: Browser, *, script: bool
) -> None:
    async with opened(browser, site, script=script, complaints=("422",)) as page:
        await page.get_by_role("link", name="Grants").click()
        await page.get_by_text("Give a grant").click()
        give = page.get_by_role("button", name="Give this grant")
        await give.click()  # the browser itself asks for the agent
        await expect(field(page, "agent")).to_be_focused()
        await field(page, "agent").select_option("ops-agent")
        await field(page, "tools").fill(BUY)
        await field(page, "total").fill("20")
        await field(page, "reason").fill("the move")
        await give.click()
        await expect(page.get_by_text("Nothing was given.")).to_be_visible()
        await expect(page.get_by_text("there is no currency in")).to_be_visible()
        await expect(field(page, "reason")).to_have_value("the move")
        await expect(field(page, "agent")).to_have_value("ops-agent")
        await field(page, "total").fill("")
        await field(page, "uses").fill("5")
        await give.click()
        await expect(page.locator("p.news")).to_contain_text("is in force.")
        assert (await site.hold({"n": 1})).status is Status.EXECUTING
        await page.reload()
        [issued] = (await site.store.grants()).grants
        await expect(page.get_by_text("4 of 5 uses left")).to_be_visible()
        await page.get_by_role("button", name="Revoke").click()
        await expect(page.locator("p.news")).to_contain_text(f"{issued.grant.id} is revoked.")
        await expect(page.get_by_role("button", name="Revoke")).to_have_count(0)
        assert (await site.hold({"n": 2})).status is Status.PENDING


async def test_two_who_revoke_at_once_are_both_told(site: Site, browser: Browser) -> None:
    words = {"agent": "ops-agent", "tools": BUY, "uses": 5}
    await site.service.granting.issue(read_issue(words, source="x"), person="ann", via="test")
    async with (
        opened(browser, site, "/grants") as ann,
        opened(browser, site, "/grants", person="carl", complaints=("409",)) as carl,
    ):
        await ann.get_by_role("button", name="Revoke").click()
        await expect(ann.locator("p.news")).to_contain_text("is revoked.")
        await carl.get_by_role("button", name="Revoke").click()
        await expect(carl.get_by_role("alert")).to_contain_text("revoked already, by person:ann")


@pytest.mark.parametrize(("width", "phone"), [(320, True), (375, True), (640, False)])
async def test_the_page_fits_a_phone_whatever_stands_in_it(
    site: Site, browser: Browser, width: int, *, phone: bool
) -> None:
    async with opened(
        browser, site, "/grants", phone=phone, width=width, complaints=("422",)
    ) as page:
        await page.get_by_text("Give a grant").click()
        await field(page, "agent").select_option("ops-agent")
        for name in ("tools", "uses", "total", "lasts", "conditions"):
            await field(page, name).fill("x" * 40)
        await page.get_by_role("button", name="Give this grant").click()
        await expect(page.get_by_text("Nothing was given.")).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        assert await small_targets(page) == []
        assert await page.evaluate("document.scripts.length") == 1
