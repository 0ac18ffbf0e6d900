"""A real gateway on loopback with a real store, and agents that speak to it byte by byte."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from approval.core.call import Call, CallId, Choice, Listener, Status
from approval.core.parking import Word
from approval.core.steps import Ballot
from approval.gateway.http import Gateway
from approval.gateway.settings import GatewaySettings, UpstreamSettings
from approval.gateway.sse import Event, Reader
from approval.sending import Settings as ServiceSettings
from approval.service import Service
from tests.factories import AGENT_TOKEN, Clock, make_rulebook, make_service

LEGACY = "2025-11-25"
MODERN = "2026-07-28"
ERAS = (LEGACY, MODERN)
DEADLINE_SECONDS = 30

GATE_EFFECTS: Mapping[str, object] = {
    "dialect": "approval-1",
    "version": "1",
    "default": "allow",
    "hide": ["hidden_*"],
    "tools": {
        "forbidden": {"deny_if": [{"conditions": [], "on_deny": "Never."}]},
        **{
            tool: {"require_approval": [{"approvers": "finance", "timeout": "15m"}]}
            for tool in ("effect", "count", "elicit", "progress", "sample", "slow", "fault", "fail")
        },
    },
}
"""Everything passes but the tools of the fakes that have effects, which ann and bob decide."""

BRIEF = GatewaySettings(
    wait=timedelta(seconds=20),
    wait_with_progress=timedelta(seconds=20),
    keep_alive=timedelta(milliseconds=50),
    stop_grace=timedelta(milliseconds=500),
)


def settings(**changes: Any) -> GatewaySettings:
    return BRIEF.model_copy(update=changes)


def command(argv: list[str], **more: Any) -> UpstreamSettings:
    return UpstreamSettings(command=tuple(argv), **more)


@dataclass(kw_only=True)
class Wire:
    """A running gateway. Its one upstream is `shop` unless a test says otherwise."""

    service: Service
    gateway: Gateway
    port: int
    http: aiohttp.ClientSession
    changes: asyncio.Queue[CallId]
    clock: Clock

    def url(self, upstream: str = "shop") -> str:
        return f"http://127.0.0.1:{self.port}/mcp/{upstream}"

    async def until(self, *statuses: Status) -> Call:
        """Wait for a call to have one of these states; the newest, if several have."""
        while True:
            page = await self.service._store.find(states=statuses, limit=1)
            if page.calls:
                return page.calls[0]
            await self.changes.get()

    async def listener(self, call: Call, listener: Listener) -> None:
        """Wait until it is noted what the agent knows of a call: that is no change of the call."""
        while (await self.service.get(call.id)).listener is not listener:
            await self.service._store.heartbeat("test")

    async def settled(self, call: Call) -> Call:
        """Read a call once everything that was on its way to the store is there."""
        await self.service._store.heartbeat("test")  # writes are in order
        return await self.service.get(call.id)

    async def held(self) -> Call:
        return await self.until(Status.PENDING)

    async def decide(
        self, call: Call, choice: Choice = Choice.APPROVE, *, reason: str = "", person: str = "ann"
    ) -> Call:
        ballot = Ballot(person=person, choice=choice, digest=call.digest, via="test", reason=reason)
        return await self.service.decide(call.id, ballot)

    def word(self, call: Call, person: str = "ann") -> Word:
        """Make a person's word that this call is to run now."""
        return Word(person=person, digest=call.digest, via="test")

    async def approve(self) -> Call:
        """Wait for a held call and approve it."""
        return await self.decide(await self.held())

    async def calls(self) -> list[Call]:
        return list((await self.service._store.find(limit=200)).calls)

    async def outcomes(self) -> list[str]:
        """Read what became of the allowed calls, as the trail has it."""
        await self.service._store.heartbeat("test")  # outcomes ride the next commit
        entries = [json.loads(each.body) for each in await self.service.trail(limit=1000)]
        return [each["facts"]["outcome"] for each in entries if each["tag"] == "call:answer"]

    async def trail(self) -> list[str]:
        entries = await self.service.trail(limit=1000)
        return [json.loads(each.body)["tag"] for each in entries]

    @asynccontextmanager
    async def sdk(
        self, era: str, *, token: str = AGENT_TOKEN, **callbacks: Any
    ) -> AsyncIterator[Client]:
        """Connect the official client, bearing a token."""
        headers = {"Authorization": f"Bearer {token}"}
        async with create_mcp_http_client(headers=headers) as http:
            transport = streamable_http_client(self.url(), http_client=http)
            mode = "legacy" if era == LEGACY else era
            async with Client(transport, mode=mode, cache=None, **callbacks) as client:
                yield client


@asynccontextmanager
async def serve(
    folder: Path,
    upstream: UpstreamSettings | Mapping[str, UpstreamSettings],
    document: Mapping[str, object] = GATE_EFFECTS,
    *,
    gateway_settings: GatewaySettings = BRIEF,
    service_settings: ServiceSettings | None = None,
) -> AsyncIterator[Wire]:
    """Run everything; whatever a test forgets ends with it."""
    upstreams = {"shop": upstream} if isinstance(upstream, UpstreamSettings) else upstream
    clock = Clock()
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        make_service(
            folder, rules=make_rulebook(document), clock=clock, settings=service_settings
        ) as service,
        Gateway(service, upstreams, gateway_settings) as gateway,
        listening(gateway) as port,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        with service.wakeups.subscribed() as changes:
            yield Wire(
                service=service,
                gateway=gateway,
                port=port,
                http=http,
                changes=changes,
                clock=clock,
            )


@contextmanager
def store_away(folder: Path) -> Iterator[None]:
    """Let the store refuse every write, as it does when a newer version has taken its file over."""
    with closing(sqlite3.connect(folder / "approval.db", isolation_level=None)) as database:
        before = database.execute("SELECT schema FROM audit_head").fetchone()
        database.execute("UPDATE audit_head SET schema = 1000000")
        try:
            yield
        finally:
            database.execute("UPDATE audit_head SET schema = ?", before)


@asynccontextmanager
async def listening(gateway: Gateway) -> AsyncIterator[int]:
    app = web.Application()
    app.add_routes(gateway.routes())
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@dataclass(kw_only=True)
class Answered:
    """What came back for one POST, whole: the answer, and what came before it on its stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def streamed(self) -> bool:
        return self.headers["Content-Type"] == "text/event-stream"

    @property
    def message(self) -> dict[str, Any]:
        return self.messages[-1]

    @property
    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = self.message["result"]
        return result

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.message["error"]
        return error

    @property
    def text(self) -> str:
        text: str = self.result["content"][0]["text"]
        return text

    @property
    def told(self) -> dict[str, Any]:
        """What the gateway itself says of the call."""
        told: dict[str, Any] = self.result["_meta"]["dev.approval/call"]
        return told


class RawAgent:
    """An agent that writes its own messages, in either era."""

    def __init__(
        self, wire: Wire, era: str, *, token: str = AGENT_TOKEN, name: str = "raw"
    ) -> None:
        self.wire = wire
        self.era = era
        self.token = token
        self.name = name
        self.session = ""
        self.capabilities: dict[str, Any] = {}
        self._ids = count(1)

    @classmethod
    async def connected(cls, wire: Wire, era: str, **more: Any) -> Self:
        agent = cls(wire, era, **more)
        if era == LEGACY:
            await agent.initialize()
        return agent

    async def initialize(self) -> Answered:
        params = {
            "protocolVersion": LEGACY,
            "capabilities": self.capabilities,
            "clientInfo": {"name": self.name, "version": "1"},
        }
        answered = await self.ask("initialize", params)
        self.session = answered.headers.get("Mcp-Session-Id", "")
        if self.session:
            await self.notify("notifications/initialized")
        return answered

    def message(
        self, method: str, params: Mapping[str, Any] | None = None, *, request_id: object = None
    ) -> dict[str, Any]:
        given = dict(params or {})
        if self.era == MODERN and request_id is not None:
            envelope = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": self.capabilities,
                "io.modelcontextprotocol/clientInfo": {"name": self.name, "version": "1"},
            }
            given["_meta"] = envelope | given.get("_meta", {})
        message = {"jsonrpc": "2.0", "method": method, "params": given}
        return message if request_id is None else {"id": request_id, **message}

    def headers(self, message: Mapping[str, Any]) -> dict[str, str]:
        built = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        }
        if self.era == MODERN:
            params = message.get("params", {})
            built |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": message.get("method", "")}
            subject = params.get("uri" if message.get("method") == "resources/read" else "name")
            if isinstance(subject, str):
                built["Mcp-Name"] = subject
        elif self.session:
            built |= {"Mcp-Session-Id": self.session, "MCP-Protocol-Version": LEGACY}
        return built

    @asynccontextmanager
    async def opened(
        self, message: Mapping[str, Any], *, upstream: str = "shop", **headers: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Post a message and give the response with its headers, its body unread."""
        sent = self.headers(message) | {key.replace("_", "-"): headers[key] for key in headers}
        async with self.wire.http.post(
            self.wire.url(upstream), data=json.dumps(message), headers=sent
        ) as response:
            yield response

    async def post(self, message: Mapping[str, Any], **more: str) -> Answered:
        async with self.opened(message, **more) as response:
            return await whole(response)

    async def ask(self, method: str, params: Mapping[str, Any] | None = None) -> Answered:
        return await self.post(self.message(method, params, request_id=next(self._ids)))

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> Answered:
        return await self.post(self.message(method, params))

    def call_message(
        self, tool: str, arguments: object = None, *, meta: object = None, request_id: object = None
    ) -> dict[str, Any]:
        params: dict[str, Any] = {"name": tool, "arguments": arguments or {}}
        if meta is not None:
            params["_meta"] = meta
        return self.message(
            "tools/call", params, request_id=next(self._ids) if request_id is None else request_id
        )

    async def call(self, tool: str, arguments: object = None, *, meta: object = None) -> Answered:
        return await self.post(self.call_message(tool, arguments, meta=meta))

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Stream"]:
        """Open the stream of what the upstream says unasked."""
        headers = self.headers({}) | {"Accept": "text/event-stream"}
        async with self.wire.http.get(self.wire.url(), headers=headers) as response:
            assert response.status == 200, await response.text()
            yield Stream(response)

    async def delete(self) -> int:
        headers = self.headers({})
        async with self.wire.http.delete(self.wire.url(), headers=headers) as response:
            return response.status


class Stream:
    """The events of an open response, one by one."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.raw = b""
        self._reader = Reader()
        self._events: list[Event] = []

    async def next(self) -> dict[str, Any]:
        """Wait for the next message."""
        while not self._events:
            chunk = await self.response.content.readany()
            if not chunk:
                raise EOFError
            self.raw += chunk
            self._events += [event for event in self._reader.feed(chunk) if event.data]
        data = self._events.pop(0).data
        message: dict[str, Any] = json.loads(data or b"")
        return message

    async def until(self, wanted: Callable[[bytes], bool]) -> None:
        """Wait for the bytes so far to be as wanted."""
        while not wanted(self.raw):
            chunk = await self.response.content.readany()
            assert chunk, "the stream ended"
            self.raw += chunk
            self._events += [event for event in self._reader.feed(chunk) if event.data]


async def whole(response: aiohttp.ClientResponse) -> Answered:
    body = await response.read()
    answered = Answered(status=response.status, headers=response.headers, body=body)
    if response.content_type == "text/event-stream":
        events = Reader().feed(body)
        answered.messages = [json.loads(event.data) for event in events if event.data]
    elif response.content_type == "application/json" and body:
        answered.messages = [json.loads(body)]
    return answered
