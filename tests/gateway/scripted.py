"""HTTP upstreams whose every answer a test writes, on a real socket."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse | None]]
"""Answers a request and the message in it (`{}` if it has none); None: as a plain server would."""


@dataclass(kw_only=True)
class Scripted:
    url: str
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    """What came: the HTTP method, the headers, the message."""
    peers: list[object] = field(default_factory=list)
    """The connection that each request came on."""

    def messages(self, method: str) -> list[dict[str, Any]]:
        return [message for _, _, message in self.requests if message.get("method") == method]


def answer(message: dict[str, Any], result: object, /, **headers: str) -> web.Response:
    body = {"jsonrpc": "2.0", "id": message.get("id"), "result": result}
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    return web.json_response(body, headers=sent)


def text(said: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}]}


async def stream(request: web.Request, *parts: dict[str, Any] | bytes) -> web.StreamResponse:
    """Answer with a stream: messages as events, bytes as they are."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for part in parts:
        data = part if isinstance(part, bytes) else b"data: %b\n\n" % json.dumps(part).encode()
        await response.write(data)
    return response


@asynccontextmanager
async def scripted(handler: Handler, *, session: str = "theirs") -> AsyncIterator[Scripted]:
    """Run an upstream that shakes hands by itself and leaves the rest to `handler`."""
    upstream = Scripted(url="")

    async def handle(request: web.Request) -> web.StreamResponse:
        message = json.loads(await request.read() or b"{}")
        upstream.requests.append((request.method, dict(request.headers), message))
        upstream.peers.append(request.transport and request.transport.get_extra_info("peername"))
        response = await handler(request, message)
        return plainly(request, message, session) if response is None else response

    app = web.Application()
    app.router.add_route("*", "/mcp", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
    try:
        yield upstream
    finally:
        await runner.cleanup()


def plainly(request: web.Request, message: dict[str, Any], session: str) -> web.Response:
    if request.method != "POST":
        return web.Response(status=405 if request.method == "GET" else 200)
    method = message.get("method", "notifications/")
    if method.startswith("notifications/"):
        return web.Response(status=202)
    if method != "initialize":
        return answer(message, RESULTS.get(method, {}))
    facts = {"capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
    result = {"protocolVersion": message["params"]["protocolVersion"], **facts}
    return answer(message, result, Mcp_Session_Id=session) if session else answer(message, result)


RESULTS: dict[str, dict[str, Any]] = {
    "tools/list": {"tools": [{"name": "echo", "inputSchema": {}}]},
    "tools/call": text("done"),
}


async def nothing_special(request: web.Request, message: dict[str, Any]) -> None:
    return None
