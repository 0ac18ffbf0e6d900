"""A real Chromium, found on the machine and driven through playwright."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from playwright.async_api import Browser, BrowserContext, ViewportSize, async_playwright

from tests.conftest import find_chromium
from tests.web.serving import Site

Scheme = Literal["light", "dark"]

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
