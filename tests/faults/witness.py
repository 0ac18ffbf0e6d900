"""The witness before the upstream: what arrived, when, and what was on disk at that moment.

It hands every request on to the real MCP server and the answer back, and keeps both. For a
`tools/call` it first looks into the service's database as a stranger would, through a connection of
its own that only reads: what it finds there was committed before the call arrived.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

LOOK_SECONDS = 5
STORY = """
SELECT audit.body FROM audit JOIN call ON call.id = audit.subject
WHERE call.arguments_digest = ? ORDER BY audit.seq
"""


@dataclass(slots=True, kw_only=True)
class Arrival:
    """One call as it arrived. `committed` are the tags of its entries in the trail by then."""

    at: float
    tool: str
    arguments: bytes
    committed: tuple[str, ...] = ()
    result: dict[str, Any] | None = None

    @property
    def number(self) -> int:
        return int(json.loads(self.arguments)["n"])


@dataclass(slots=True, kw_only=True)
class Witness:
    """Stands at `url` before the upstream that is really at `beyond`."""

    beyond: str
    database: Path
    client: aiohttp.ClientSession
    url: str = ""
    arrivals: list[Arrival] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        arrived = time.time()  # noqa: TID251  # the service under fire has the real clock
        body = await request.read()
        arrival = None
        if json.loads(body or b"{}").get("method") == "tools/call":
            arrival = arrival_of(body, arrived)
            self.arrivals.append(arrival)
            arrival.committed = await self._committed(sha256(arrival.arguments).hexdigest())
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        async with self.client.request(
            request.method, self.beyond, data=body, headers=headers
        ) as answer:
            told = await answer.read()
        if arrival is not None:
            arrival.result = result_of(told)
        return web.Response(
            status=answer.status,
            body=told,
            headers={"Content-Type": answer.headers["Content-Type"]},
        )

    async def _committed(self, arguments_digest: str) -> tuple[str, ...]:
        """Read the call's story; a database that was just left by a dead process may be busy."""
        async with asyncio.timeout(LOOK_SECONDS):
            while True:
                try:
                    return self._look(arguments_digest)
                except sqlite3.OperationalError:
                    await asyncio.sleep(0.02)

    def _look(self, arguments_digest: str) -> tuple[str, ...]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            rows = database.execute(STORY, [arguments_digest]).fetchall()
        return tuple(json.loads(body)["tag"] for (body,) in rows)


def arrival_of(body: bytes, at: float) -> Arrival:
    """Read a `tools/call`; its arguments are cut out as they stand there, byte for byte."""
    text = body.decode()
    start = text.index('"arguments":') + len('"arguments":')
    _, end = json.JSONDecoder().raw_decode(text, start)
    tool = json.loads(text)["params"]["name"]
    return Arrival(at=at, tool=tool, arguments=text[start:end].encode())


def result_of(told: bytes) -> dict[str, Any] | None:
    """Find the result in a JSON body or in a stream of events."""
    for line in told.decode().splitlines():
        message = line.removeprefix("data:").strip()
        if message.startswith("{") and "result" in (read := json.loads(message)):
            result: dict[str, Any] = read["result"]
            return result
    return None


@asynccontextmanager
async def witnessed(beyond: str, database: Path) -> AsyncIterator[Witness]:
    """Let a witness stand before an upstream."""
    async with aiohttp.ClientSession() as client:
        witness = Witness(beyond=beyond, database=database, client=client)
        app = web.Application()
        app.router.add_route("*", "/mcp", witness.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            witness.url = f"http://{host}:{port}/mcp"
            yield witness
        finally:
            await runner.cleanup()
