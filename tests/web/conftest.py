"""A served web room for each test, with a clock that the test sets."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.factories import Clock
from tests.web.serving import Browser, Site, serve


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def site(tmp_path: Path, clock: Clock) -> AsyncIterator[Site]:
    async with serve(tmp_path, clock=clock) as served:
        yield served


@pytest.fixture
async def ann(site: Site) -> AsyncIterator[Browser]:
    async with site.browser("ann") as browser:
        yield browser


@pytest.fixture
async def stranger(site: Site) -> AsyncIterator[Browser]:
    async with site.browser() as browser:
        yield browser
