"""The web room, really served on loopback over a real store: what its tests knock at."""

import asyncio
import html
import io
import json
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from approval.core.call import Answer, Call, Choice, Status
from approval.core.canonical import JSON
from approval.core.identity import Right
from approval.core.rulebook import Rulebook
from approval.core.steps import Ballot
from approval.errors import AnswerLost
from approval.service import Service
from approval.store.store import SqlStore
from approval.web.server import Web
from approval.web.settings import WebSettings
from tests.factories import Clock, make_asked, make_directory, make_rulebook

PURCHASE: JSON = {"phone_number": "+14155550100", "friendly_name": "Support line"}
FORM = "application/x-www-form-urlencoded"


def make_rules() -> Rulebook:
    """Ann may read everything besides; the rest is as the factories say."""
    rights = {Right.SETTLE: frozenset({"dora"}), Right.READ_ALL: frozenset({"dora", "ann"})}
    return make_rulebook(directory=make_directory(rights=rights))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A running console and API."""

    url: str
    web: Web
    service: Service
    store: SqlStore
    clock: Clock | None
    settings: WebSettings
    gone: asyncio.Event

    async def take_store_away(self) -> None:
        await self.store.close()
        self.gone.set()

    async def hold(self, arguments: JSON = None, **changes: object) -> Call:
        """Let the agent ask for something that needs a person."""
        asked = make_asked(PURCHASE if arguments is None else arguments, **changes)
        rules = self.service.rules
        given: JSON = PURCHASE if arguments is None else arguments
        verdict = rules.judge(asked.agent, asked.upstream, asked.tool, given)
        return (await self.service.submit(asked, verdict)).call

    async def decide(
        self,
        call: Call,
        person: str,
        choice: Choice,
        reason: str = "",
        *,
        typed: str | None = None,
    ) -> Call:
        cast = Ballot(
            person=person,
            choice=choice,
            digest=call.digest,
            via="test",
            reason=reason,
            amount=typed,
        )
        return await self.service.decide(call.id, cast)

    async def run(self, call: Call, body: bytes = b'{"result":{"content":[]}}') -> Call:
        async def send(call: Call) -> Answer:
            return Answer(status=Status.EXECUTED, body=body)

        return await self.service.execute(call.id, send)

    async def lose(self, call: Call) -> Call:
        async def send(call: Call) -> Answer:
            raise AnswerLost("the connection was reset")

        return await self.service.execute(call.id, send)

    async def login(self, person: str, lifetime: timedelta = timedelta(minutes=10)) -> str:
        return await self.service.keyring.issue(
            "login", person, actor="operator", lifetime=lifetime
        )

    async def session(self, person: str) -> str:
        return await self.service.keyring.issue(
            "session", person, actor=f"person:{person}", lifetime=timedelta(hours=12)
        )

    @asynccontextmanager
    async def browser(self, person: str | None = None) -> AsyncIterator["Browser"]:
        session = await self.session(person) if person else None
        cookies = {self.settings.cookie: session} if session else {}
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(self.url, cookies=cookies, cookie_jar=jar) as client:
            yield Browser(client=client, origin=self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def words(self) -> str:
        """The page's text as a person reads it: without markup, entities resolved."""
        bare = re.sub(r"<[^>]+>", "", re.sub(r"<br>|</dt>", " ", self.text))
        return re.sub(r"\s+", " ", html.unescape(bare)).strip()

    def form(self, action: str) -> dict[str, str]:
        """Read the hidden fields of the form that goes to this address."""
        found = re.search(
            rf'<form[^>]*action="{re.escape(action)}".*?</form>', self.text, re.DOTALL
        )
        assert found is not None, self.words
        inputs = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', found.group())
        return {name: html.unescape(value) for name, value in inputs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """Sends what a browser sends: cookies, and where a form comes from."""

    client: aiohttp.ClientSession
    origin: str

    async def get(self, path: str, **headers: str) -> Page:
        return await self.ask("GET", path, headers=headers)

    async def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Page:
        sent = {"Sec-Fetch-Site": "same-origin", "Origin": self.origin, **headers}
        return await self.ask("POST", path, headers=sent, data=dict(fields))

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        data: dict[str, str] | bytes | io.BytesIO | None = None,
    ) -> Page:
        async with self.client.request(
            method, path, headers=headers, data=data, allow_redirects=False
        ) as response:
            return Page(
                status=response.status, headers=response.headers, text=await response.text()
            )

    async def decide(self, call: Call, decision: str, **changes: str) -> Page:
        """Open the call's page and send its form."""
        path = f"/calls/{call.id}/decision"
        fields = (await self.get(f"/calls/{call.id}")).form(path)
        return await self.post(path, {**fields, "decision": decision, **changes})


@asynccontextmanager
async def serve(
    folder: Path,
    *,
    rules: Rulebook | None = None,
    clock: Clock | None = None,
    settings: WebSettings | None = None,
) -> AsyncIterator[Site]:
    """Serve the room as `app` does: a bound socket first, so that the port is known."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    chosen = settings or WebSettings(public_url=url)
    timed: Mapping[str, Clock] = {"clock": clock} if clock else {}
    store = await SqlStore.open("sqlite:///approval.db", base=folder, **timed)
    gone = asyncio.Event()
    try:
        async with Service(store, rules or make_rules()) as service:
            room = Web(service, chosen, now=store.now, trouble=store.trouble)
            app = web.Application()
            room.install(app)
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
            await runner.setup()
            await web.SockSite(runner, listener).start()
            try:
                yield Site(
                    url=url,
                    web=room,
                    service=service,
                    store=store,
                    clock=clock,
                    settings=chosen,
                    gone=gone,
                )
            finally:
                await runner.cleanup()
    finally:
        listener.close()
        if not gone.is_set():
            await store.close()


async def trail(site: Site) -> list[dict[str, Any]]:
    """Read the whole trail, as it was hashed."""
    return [json.loads(entry.body) for entry in await site.service.trail(limit=1000)]


async def tags(site: Site) -> list[str]:
    return [entry["tag"] for entry in await trail(site)]
