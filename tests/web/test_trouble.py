"""A store that cannot be written: probes and every page say so, and why, until it can again."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from approval.errors import StoreUnavailable
from approval.store.sqlite import SqliteEngine
from tests.factories import ANN_TOKEN
from tests.store.conftest import database_of
from tests.web.serving import Browser, Site

LOCKED = "the database could not be written: database is locked"
FULL = "the database could not be written: database or disk is full"
BANNER = "Nothing can be decided now: "


def engine(site: Site) -> SqliteEngine:
    assert isinstance(site.store._engine, SqliteEngine)
    return site.store._engine


@contextmanager
def locked(site: Site, folder: Path) -> Iterator[None]:
    """Let somebody else write, and not come to an end."""
    database_of(engine(site)).execute("PRAGMA busy_timeout=20")
    with closing(sqlite3.connect(folder / "approval.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def full(site: Site, folder: Path) -> Iterator[None]:
    """Leave SQLite no page more than it has: it refuses with the words for a full disk."""
    database = database_of(engine(site))
    (room,) = database.execute("PRAGMA max_page_count").fetchone()
    database.execute("PRAGMA max_page_count=1")
    yield
    database.execute(f"PRAGMA max_page_count={room}")


Away = Callable[[Site, Path], AbstractContextManager[None]]


async def write_on(site: Site) -> None:
    """Write until a page more is needed than there is."""
    for number in range(200):
        await site.store.heartbeat(f"{number:>0400}")


@pytest.mark.parametrize(("away", "why"), [(locked, LOCKED), (full, FULL)])
async def test_what_keeps_the_store_from_writing_is_told_everywhere(
    site: Site, ann: Browser, stranger: Browser, tmp_path: Path, away: Away, why: str
) -> None:
    call = await site.hold()
    pages = ("/", f"/calls/{call.id}", "/history", "/budgets", "/grants", "/trail", "/nowhere")
    with away(site, tmp_path):
        assert (await stranger.get("/readyz")).text == "ready\n"
        with pytest.raises(StoreUnavailable, match=why):
            await write_on(site)
        ready = await stranger.get("/readyz")
        assert (ready.status, ready.text) == (503, f"{why}\n")
        assert (await stranger.get("/healthz")).status == 200
        for path in pages:
            assert f"{BANNER}{why}." in (await ann.get(path)).words, path
        assert BANNER in (await stranger.get("/login")).words
        # Scripts that only read are served, and told nothing but what they asked for.
        answer = await ann.get("/v1/calls", Authorization=f"Bearer {ANN_TOKEN}")
        assert (answer.status, BANNER in answer.text) == (200, False)
    await site.service.heartbeat()
    assert (await stranger.get("/readyz")).text == "ready\n"
    for path in pages:
        assert BANNER not in (await ann.get(path)).words


async def test_a_decision_that_cannot_be_written_is_enough_to_know(
    site: Site, ann: Browser, tmp_path: Path
) -> None:
    call = await site.hold()
    fields = (await ann.get("/")).form(f"/calls/{call.id}/decision")
    with locked(site, tmp_path):
        page = await ann.post(f"/calls/{call.id}/decision", {**fields, "decision": "approve"})
        assert (page.status, BANNER in page.words) == (503, True)
        assert f"{BANNER}{LOCKED}." in (await ann.get("/")).words
    await ann.post(f"/calls/{call.id}/decision", {**fields, "decision": "approve"})
    assert BANNER not in (await ann.get("/")).words
