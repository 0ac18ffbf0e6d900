"""*Run now* in a real browser: pressed once, told at once, also in the browser beside it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from approval.core.audit import Tag
from approval.core.call import Choice, Listener
from tests.browser.driving import SOON, opened, ready
from tests.web.serving import Site, serve, tags

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serve(tmp_path) as served:
        yield served


@pytest.mark.parametrize("script", [True, False])
async def test_a_parked_call_is_run_by_one_button(
    site: Site, browser: Browser, script: bool
) -> None:
    call = await site.hold()
    await site.store.listen(call.id, Listener.GONE, site.service.instance)
    await site.decide(call, "bob", Choice.APPROVE)
    path = f"/calls/{call.id}"
    async with (
        opened(browser, site, path, script=script) as ann,
        opened(browser, site, path, person="bob") as bob,
    ):
        await expect(bob.get_by_role("button", name="Run now")).to_be_visible()
        if script:
            await ready(ann)
        await ann.get_by_role("button", name="Run now").click()
        for page in (ann, bob):
            await expect(page.locator("main")).to_contain_text("It is about to run", timeout=SOON)
            await expect(page.get_by_role("button", name="Run now")).to_have_count(0)
    assert (await site.service.get(call.id)).released_by == "ann"
    assert (await tags(site)).count(Tag.CALL_RELEASE) == 1
