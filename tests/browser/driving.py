"""A real Chromium, found on the machine and driven through playwright."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from playwright.async_api import (
    Browser,
    BrowserContext,
    Locator,
    Page,
    ViewportSize,
    async_playwright,
)

from approval.core.call import Call
from tests.conftest import find_chromium
from tests.web.serving import Site

Scheme = Literal["light", "dark"]

SOON = 2000
"""Milliseconds within which a decision elsewhere is on the page: the project's own promise."""
TARGETS = "button, .button, nav a, .brand, summary, select, textarea, input:not([type=hidden])"

DESKTOP: ViewportSize = {"width": 1180, "height": 860}
PHONE: ViewportSize = {"width": 375, "height": 780}


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # Without its sandbox, because builds run as root, where Chromium has none.
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            await browser.close()


async def signed_in(
    browser: Browser,
    site: Site,
    person: str = "ann",
    *,
    phone: bool = False,
    scheme: Scheme = "light",
    script: bool = True,
    width: int | None = None,
) -> BrowserContext:
    """Open a browser of its own for one person, signed in as by a one-time link."""
    size = PHONE if phone else DESKTOP
    context = await browser.new_context(
        viewport={"width": width or size["width"], "height": size["height"]},
        device_scale_factor=1,
        is_mobile=phone,
        has_touch=phone,
        color_scheme=scheme,
        java_script_enabled=script,
        base_url=site.url,
    )
    session = await site.session(person)
    await context.add_cookies(
        [{"name": site.settings.cookie, "value": session, "url": site.url, "httpOnly": True}]
    )
    return context


@asynccontextmanager
async def opened(
    browser: Browser,
    site: Site,
    path: str = "/",
    *,
    person: str = "ann",
    phone: bool = False,
    scheme: Scheme = "light",
    script: bool = True,
    width: int | None = None,
    complaints: tuple[str, ...] = (),
) -> AsyncIterator[Page]:
    """Open a page; when it is left, the browser must have had nothing to complain about."""
    context = await signed_in(
        browser, site, person, phone=phone, scheme=scheme, script=script, width=width
    )
    page = await context.new_page()
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    await page.goto(path)
    yield page
    await context.close()
    assert [text for text in heard if not any(each in text for each in complaints)] == []


def card(page: Page, call: Call) -> Locator:
    return page.locator(f'[data-call="{call.id}"]')


async def until(page: Page, condition: str) -> None:
    """Wait for something in the page; its own content policy forbids playwright's way."""
    async with asyncio.timeout(10):
        await page.evaluate(
            f"async () => {{ while (!({condition})) await new Promise(requestAnimationFrame) }}"
        )


async def ready(page: Page) -> None:
    """Wait until the stream has told what waits, and cards have stood for longer than 400 ms."""
    await until(page, "stream.readyState === 1 && performance.now() - loaded > 500")


async def small_targets(page: Page) -> list[str]:
    """Name what a finger would miss: everything that can be pressed and is too low for it."""
    found: list[str] = await page.locator(TARGETS).evaluate_all(
        """all => all.filter(each => each.offsetParent && each.type !== "checkbox"
            && each.getBoundingClientRect().height < 44).map(each => each.outerHTML)"""
    )
    return found
