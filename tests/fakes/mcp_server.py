"""A fixture upstream on the official MCP SDK, in both eras, so that tests meet a server not ours.

    python tests/fakes/mcp_server.py --stdio
    python tests/fakes/mcp_server.py --port 0        prints {"port": …, "url": …} when it listens

`--log FILE` gets one line per `tools/call` that ran (the exactly-once witness), `--delay SECONDS`
holds every tool's answer back after its effect, `--json` answers with JSON in place of streams.
"""

import argparse
import asyncio
import json
import socket
import sys
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.session import ServerSession
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourceUpdated, ToolsListChanged
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

Context = ServerRequestContext[Any, Any]
ToolResult = types.CallToolResult | types.InputRequiredResult
Run = Callable[["Fixture", Context, types.CallToolRequestParams], Awaitable[ToolResult]]

NOTE = "memo://note"
MEBIBYTE = 1 << 20
NAME_FORM: types.ElicitRequestedSchema = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
}


@dataclass(kw_only=True)
class Fixture:
    """What the server remembers: its effects, its subscribers, and the tools it grew."""

    log: Path | None = None
    delay: float = 0
    counted: int = 0
    grown: int = 0
    revision: int = 0
    bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)
    watchers: dict[str, list[ServerSession]] = field(default_factory=dict)

    def witness(self, params: types.CallToolRequestParams) -> None:
        if self.log is None:
            return
        meta = dict(params.meta) if params.meta else None
        line = {"tool": params.name, "arguments": params.arguments or {}, "meta": meta}
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")


def modern(ctx: Context) -> bool:
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def told(text: str, *, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=is_error)


async def echo(fixture: Fixture, ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    return told(str((params.arguments or {}).get("text", "")))


async def count(fixture: Fixture, ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    fixture.counted += 1
    return told(str(fixture.counted))


async def progress(
    fixture: Fixture, ctx: Context, params: types.CallToolRequestParams
) -> ToolResult:
    for step in (1, 2, 3):
        await ctx.session.report_progress(step, 3, f"step {step}")
    return told("done")


async def log(fixture: Fixture, ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    for word in ("one", "two"):
        await ctx.session.send_log_message("info", word, related_request_id=ctx.request_id)
    return told("logged")


async def elicit(fixture: Fixture, ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    """Ask the person at the agent for a name: a server request, or a round trip when modern."""
    if not modern(ctx):
        answer = await ctx.session.elicit_form("Who?", NAME_FORM, related_request_id=ctx.request_id)
        return told(f"{answer.action} {(answer.content or {}).get('name')}")
    got = (params.input_responses or {}).get("name")
    if not isinstance(got, types.ElicitResult):
        ask = types.ElicitRequestFormParams(message="Who?", requested_schema=NAME_FORM)
        return types.InputRequiredResult(input_requests={"name": types.ElicitRequest(params=ask)})
    return told(f"{got.action} {(got.content or {}).get('name')}")


async def sample(fixture: Fixture, ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    if modern(ctx):
        return told("Sampling by request belongs to the older era.", is_error=True)
    message = types.SamplingMessage(role="user", content=types.TextContent(text="Say a word."))
    answer = await ctx.session.create_message(
        [message], max_tokens=10, related_request_id=ctx.request_id
    )
    return told(answer.content.text if isinstance(answer.content, types.TextContent) else "?")


async def grow(fixture: Fixture, ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    """Add a tool and say so to whoever listens, in the manner of either era."""
    fixture.grown += 1
    await fixture.bus.publish(ToolsListChanged())
    if not modern(ctx):
        await ctx.session.send_tool_list_changed()
    return told(f"{fixture.grown} more")


async def touch(fixture: Fixture, ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    """Change the note and tell its subscribers."""
    fixture.revision += 1
    await fixture.bus.publish(ResourceUpdated(uri=NOTE))
    for session in fixture.watchers.get(NOTE, []):
        await session.send_resource_updated(NOTE)
    return told(f"revision {fixture.revision}")


async def slow(fixture: Fixture, ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    await asyncio.sleep(float((params.arguments or {}).get("seconds", 1)))
    return told("slow, but here")


async def fail(fixture: Fixture, ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    return told("The tool failed.", is_error=True)


async def fault(fixture: Fixture, ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    raise MCPError(types.INTERNAL_ERROR, "The protocol failed.", {"why": "asked for"})


async def big(fixture: Fixture, ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    return told("x" * int((params.arguments or {}).get("size", MEBIBYTE)))


async def measure(
    fixture: Fixture, ctx: Context, params: types.CallToolRequestParams
) -> ToolResult:
    length = len(str((params.arguments or {}).get("text", "")))
    text = types.TextContent(text=json.dumps({"length": length}))
    return types.CallToolResult(content=[text], structured_content={"length": length})


async def ship(fixture: Fixture, ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    return told(f"to {(params.arguments or {}).get('region')}")


TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NOTHING = {"type": "object", "properties": {}}
# The SDK refuses a call in the newer era whose `Mcp-Param-*` headers do not repeat these.
ADDRESS = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "parcel": {
            "type": "object",
            "properties": {"grams": {"type": "integer", "x-mcp-header": "Grams"}},
        },
        "fragile": {"type": "boolean", "x-mcp-header": "Fragile"},
    },
}
LENGTH = {"type": "object", "properties": {"length": {"type": "integer"}}, "required": ["length"]}
TOOLS: dict[str, tuple[Run, str, dict[str, Any]]] = {
    "echo": (echo, "Says what it is told.", TEXT),
    "count": (count, "Counts its own calls.", NOTHING),
    "progress": (progress, "Reports three steps.", NOTHING),
    "log": (log, "Logs two words.", NOTHING),
    "elicit": (elicit, "Asks the person at the agent for a name.", NOTHING),
    "sample": (sample, "Asks the agent's model for a word.", NOTHING),
    "grow": (grow, "Adds a tool.", NOTHING),
    "touch": (touch, "Changes the note.", NOTHING),
    "slow": (
        slow,
        "Takes its time.",
        {"type": "object", "properties": {"seconds": {"type": "number"}}},
    ),
    "fail": (fail, "Answers that it failed.", NOTHING),
    "fault": (fault, "Answers with a JSON-RPC error.", NOTHING),
    "big": (
        big,
        "Answers at length.",
        {"type": "object", "properties": {"size": {"type": "integer"}}},
    ),
    "measure": (measure, "Measures a text, with an output schema.", TEXT),
    "ship": (ship, "Wants arguments repeated in headers.", ADDRESS),
}


class Handlers:
    """The fixture's methods in the form the SDK wants them."""

    def __init__(self, fixture: Fixture) -> None:
        self.fixture = fixture

    async def call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
        if params.name not in TOOLS:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        self.fixture.witness(params)
        result = await TOOLS[params.name][0](self.fixture, ctx, params)
        await asyncio.sleep(self.fixture.delay)
        return result

    async def list_tools(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        tools = [
            types.Tool(
                name=name,
                description=description,
                input_schema=schema,
                output_schema=LENGTH if name == "measure" else None,
            )
            for name, (_, description, schema) in TOOLS.items()
        ]
        grown = (f"grown_{number}" for number in range(self.fixture.grown))
        tools += [types.Tool(name=name, input_schema=NOTHING) for name in grown]
        return types.ListToolsResult(tools=tools, ttl_ms=0, cache_scope="private")

    async def list_resources(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        note = types.Resource(uri=NOTE, name="note", mime_type="text/plain")
        return types.ListResourcesResult(resources=[note], ttl_ms=0, cache_scope="private")

    async def read_resource(
        self, ctx: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        if str(params.uri) != NOTE:
            raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": str(params.uri)})
        text = types.TextResourceContents(uri=NOTE, text=f"revision {self.fixture.revision}")
        return types.ReadResourceResult(contents=[text], ttl_ms=0, cache_scope="private")

    async def subscribe(
        self, ctx: Context, params: types.SubscribeRequestParams
    ) -> types.EmptyResult:
        self.fixture.watchers.setdefault(str(params.uri), []).append(ctx.session)
        return types.EmptyResult()

    async def unsubscribe(
        self, ctx: Context, params: types.UnsubscribeRequestParams
    ) -> types.EmptyResult:
        self.fixture.watchers.pop(str(params.uri), None)
        return types.EmptyResult()

    async def list_prompts(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        argument = types.PromptArgument(name="name", required=True)
        prompt = types.Prompt(name="greeting", arguments=[argument])
        return types.ListPromptsResult(prompts=[prompt], ttl_ms=0, cache_scope="private")

    async def get_prompt(
        self, ctx: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult:
        text = types.TextContent(text=f"Greet {(params.arguments or {}).get('name')}.")
        return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=text)])

    async def set_level(
        self, ctx: Context, params: types.SetLevelRequestParams
    ) -> types.EmptyResult:
        return types.EmptyResult()


def build(fixture: Fixture) -> Server[Any]:
    handlers = Handlers(fixture)
    return Server(
        "fixture",
        version="1.0.0",
        instructions="A fixture: nothing here is real.",
        on_call_tool=handlers.call_tool,
        on_list_tools=handlers.list_tools,
        on_list_resources=handlers.list_resources,
        on_read_resource=handlers.read_resource,
        on_subscribe_resource=handlers.subscribe,
        on_unsubscribe_resource=handlers.unsubscribe,
        on_subscriptions_listen=ListenHandler(fixture.bus),
        on_list_prompts=handlers.list_prompts,
        on_get_prompt=handlers.get_prompt,
        on_set_logging_level=handlers.set_level,
        get_tool_input_schema=lambda name: TOOLS[name][2] if name in TOOLS else None,
    )


async def run_stdio(server: Server[Any]) -> None:
    options = server.create_initialization_options(NotificationOptions(tools_changed=True))
    async with stdio_server() as (read, write):
        await server.run(read, write, options)


def run_http(server: Server[Any], port: int, *, json_response: bool) -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    # Whoever reads the line may connect at once: the kernel queues until the loop accepts.
    listener.listen(128)
    port = listener.getsockname()[1]
    ready = {"port": port, "url": f"http://127.0.0.1:{port}/mcp"}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    app = server.streamable_http_app(json_response=json_response)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


def main() -> None:
    warnings.simplefilter("ignore")  # the SDK deprecates the older era, which we serve on purpose
    parser = argparse.ArgumentParser(description="A fixture MCP server.")
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--delay", type=float, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    server = build(Fixture(log=options.log, delay=options.delay))
    if options.stdio:
        asyncio.run(run_stdio(server))
    else:
        run_http(server, options.port, json_response=options.json)


if __name__ == "__main__":
    main()
