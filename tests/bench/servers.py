"""The two yardsticks, each a process of its own: a bare upstream and a plain reverse proxy.

    python -m tests.bench.servers upstream PORT
    python -m tests.bench.servers proxy PORT UPSTREAM_URL

The upstream answers every `tools/call` with the same small result and remembers when each argument
`n` arrived (CLOCK_MONOTONIC, which all processes of a machine share). The proxy is what a Python
programmer would write in ten lines: no parsing, one client session, keep-alive.
"""

import asyncio
import sys
import time

import aiohttp
import orjson
import uvloop
from aiohttp import web

RESULT = {"content": [{"type": "text", "text": "x" * 80}], "isError": False}


def upstream() -> web.Application:
    """Answer MCP requests as shortly as possible, in either era."""
    arrived: dict[str, float] = {}

    async def answer(request: web.Request) -> web.Response:
        message = orjson.loads(await request.read())
        if "id" not in message:
            return web.Response(status=202)
        result: dict[str, object] = {"resultType": "complete", **RESULT}
        if message["method"] == "tools/call":
            arrived[str(message["params"]["arguments"].get("n"))] = time.monotonic()
        elif message["method"] == "initialize":
            result = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "bench", "version": "1"},
            }
        body = orjson.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
        return web.Response(body=body, content_type="application/json")

    async def arrival(request: web.Request) -> web.Response:
        return web.json_response({"at": arrived.get(request.query["n"])})

    app = web.Application()
    app.router.add_post("/mcp", answer)
    app.router.add_get("/arrived", arrival)
    return app


def proxy(target: str) -> web.Application:
    """Hand each POST to the target and its answer back, unread."""
    client = web.AppKey("client", aiohttp.ClientSession)

    async def forward(request: web.Request) -> web.Response:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name not in {"Host", "Content-Length"}
        }
        body = await request.read()
        async with request.app[client].post(target, data=body, headers=headers) as answer:
            return web.Response(
                status=answer.status,
                body=await answer.read(),
                headers={"Content-Type": answer.headers.get("Content-Type", "")},
            )

    async def session(app: web.Application) -> None:
        app[client] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def close(app: web.Application) -> None:
        await app[client].close()

    app = web.Application()
    app.on_startup.append(session)
    app.on_cleanup.append(close)
    app.router.add_post("/mcp", forward)
    return app


def main() -> None:
    """Serve one of the two until killed."""
    kind, port, *rest = sys.argv[1:]
    app = upstream() if kind == "upstream" else proxy(*rest)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    web.run_app(app, host="127.0.0.1", port=int(port), access_log=None, print=None)


if __name__ == "__main__":
    main()
