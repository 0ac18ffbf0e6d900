import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from approval.core.call import CallId, Choice, Listener
from approval.web.events import event
from tests.factories import Clock
from tests.web.serving import Browser, Site


class Stream:
    """Reads the events of one connection."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def block(self) -> str:
        async with asyncio.timeout(5):
            return (await self.response.content.readuntil(b"\n\n")).decode()

    async def next(self) -> tuple[str, Any]:
        lines = (await self.block()).splitlines()
        fields = dict(line.split(": ", 1) for line in lines if line and line[0] != ":")
        return fields["event"], json.loads(fields["data"])

    async def ended(self) -> bool:
        async with asyncio.timeout(5):
            return b"event: call" not in await self.response.content.read()


@asynccontextmanager
async def listening(site: Site, person: str) -> AsyncIterator[tuple[Browser, Stream]]:
    async with site.browser(person) as browser, browser.client.get("/events") as response:
        assert response.status == 200
        stream = Stream(response)
        assert await stream.block() == "retry: 2000\n\n"
        yield browser, stream


async def test_a_stream_begins_with_what_waits_and_tells_each_change(site: Site) -> None:
    call = await site.hold()
    async with listening(site, "ann") as (_, stream):
        name, snapshot = await stream.next()
        known = {"id": call.id, "version": 1, "state": "pending"}
        assert (name, snapshot) == (
            "snapshot",
            {"now": "2026-11-21T12:00:00.000Z", "calls": [known]},
        )
        await site.decide(call, "bob", Choice.APPROVE)
        assert await stream.next() == ("call", {"id": call.id, "version": 2, "state": "approved"})
        another = await site.hold({"phone_number": "+2"})
        assert (await stream.next())[1]["id"] == another.id


async def test_a_stream_tells_of_what_the_agent_knows_too(site: Site) -> None:
    call = await site.hold()
    async with listening(site, "ann") as (_, stream):
        await stream.next()
        await site.store.listen(call.id, Listener.GONE, site.service.instance)
        await site.service.poll()
        assert (await stream.next())[1]["id"] == call.id


async def test_nothing_is_told_of_calls_that_one_may_not_see(site: Site) -> None:
    foreign = await site.hold(agent="other-agent")
    async with listening(site, "carl") as (_, stream):
        assert (await stream.next())[1]["calls"] == []
        await site.decide(foreign, "ann", Choice.REJECT)
        own = await site.hold()
        assert (await stream.next())[1]["id"] == own.id


async def test_a_call_that_is_no_more_is_passed_over(site: Site) -> None:
    async with listening(site, "ann") as (_, stream):
        await stream.next()
        site.service.wakeups.wake(CallId("apr_" + "0" * 26), None)
        call = await site.hold()
        assert (await stream.next())[1]["id"] == call.id


async def test_a_stream_carries_no_argument(site: Site) -> None:
    async with listening(site, "ann") as (_, stream):
        await stream.next()
        call = await site.hold({"phone_number": "+14155550100"})
        _, told = await stream.next()
        assert set(told) == {"id", "version", "state"}
        assert told["id"] == call.id


async def test_a_quiet_stream_gives_a_sign_of_life_with_the_time(site: Site) -> None:
    site.web.events.keep_alive_seconds = 0.01
    async with listening(site, "ann") as (_, stream):
        await stream.next()
        block = await stream.block()
        assert block == ': \nevent: clock\ndata: {"now":"2026-11-21T12:00:00.000Z"}\n\n'


async def test_signing_out_ends_the_stream(site: Site) -> None:
    async with listening(site, "ann") as (browser, stream):
        await stream.next()
        await browser.post("/logout", (await browser.get("/")).form("/logout"))
        assert await stream.ended()


async def test_a_session_taken_back_hears_nothing_more(site: Site) -> None:
    async with listening(site, "ann") as (_, stream):
        await stream.next()
        await site.service.keyring.revoke("session", "ann", actor="operator")
        await site.hold()
        assert await stream.ended()


async def test_a_session_that_runs_out_ends_a_quiet_stream(site: Site, clock: Clock) -> None:
    site.web.events.keep_alive_seconds = 0.05
    async with listening(site, "ann") as (_, stream):
        await stream.next()
        clock.advance(hours=12)
        while not stream.response.content.at_eof():
            async with asyncio.timeout(5):
                await stream.response.content.readany()


async def test_a_store_that_goes_away_ends_the_stream(site: Site) -> None:
    site.web.events.keep_alive_seconds = 0.05
    async with listening(site, "ann") as (_, stream):
        await stream.next()
        await site.take_store_away()
        assert await stream.ended()


async def test_streams_are_served_as_streams(site: Site) -> None:
    async with listening(site, "ann") as (_, stream):
        headers = stream.response.headers
        assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["Cache-Control"] == "no-store"


async def test_another_site_gets_no_events(ann: Browser) -> None:
    page = await ann.get("/events", **{"Sec-Fetch-Site": "cross-site"})
    assert page.status == 403


@pytest.mark.parametrize("method", ["HEAD", "POST"])
async def test_events_are_only_got(ann: Browser, method: str) -> None:
    assert (await ann.ask(method, "/events", headers={})).status == 405


async def test_one_session_holds_no_endless_number_of_streams(site: Site, ann: Browser) -> None:
    opened = []
    for _ in range(8):
        response = await ann.client.get("/events")
        await response.content.readuntil(b"\n\n")
        opened.append(response)
    assert (await ann.get("/events")).status == 429
    for response in opened:
        response.close()


async def test_who_gets_no_stream_asks_for_the_same(site: Site, ann: Browser) -> None:
    call = await site.hold()
    page = await ann.get("/snapshot")
    assert json.loads(page.text) == {
        "now": "2026-11-21T12:00:00.000Z",
        "calls": [{"id": call.id, "version": 1, "state": "pending"}],
    }


def test_an_event_is_one_block() -> None:
    assert event("call", {"id": "a\nb"}) == b': \nevent: call\ndata: {"id":"a\\nb"}\n\n'
