"""Servers that others wrote, as they are published: they list, answer, and hold as ours do."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import mcp_types as types
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from approval.core.call import Choice, Status
from approval.gateway.settings import UpstreamSettings
from tests.gateway.wire import LEGACY, Wire, command, serve

pytestmark = [
    pytest.mark.npm,
    pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning"),
]

Command = Callable[[str], list[str]]
OURS = ["approval_wait", "approval_status", "approval_cancel"]
GATE_WRITES = {
    "dialect": "approval-1",
    "version": "1",
    "default": "allow",
    "hide": ["move_file"],
    "tools": {
        tool: {"require_approval": [{"approvers": "finance"}]}
        for tool in ("write_file", "echo", "get-sum")
    },
}


@asynccontextmanager
async def everything(npm_command: Command, carrier: str) -> AsyncIterator[UpstreamSettings]:
    """Run server-everything, on standard streams or over Streamable HTTP."""
    program = npm_command("server-everything")
    if carrier == "stdio":
        yield command([*program, "stdio"])
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *program,
        "streamableHttp",
        env={**os.environ, "PORT": str(port)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await _listens(port, process)
        yield UpstreamSettings(url=f"http://127.0.0.1:{port}/mcp")
    finally:
        process.kill()
        await process.wait()


async def _listens(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(20):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
    raise AssertionError("the server ended before it listened")


async def directly(program: list[str]) -> list[types.Tool]:
    """List a server's tools with nothing between."""
    server = StdioServerParameters(command=program[0], args=program[1:])
    async with Client(stdio_client(server), mode="legacy") as client:
        return (await client.list_tools()).tools


async def text(client: Client, tool: str, **arguments: object) -> str:
    result = await client.call_tool(tool, arguments)
    assert isinstance(result.content[0], types.TextContent)
    return result.content[0].text


@pytest.mark.parametrize("carrier", ["stdio", "http"])
async def test_server_everything_lists_and_answers_as_without_a_gateway(
    npm_command: Command, tmp_path: Path, carrier: str
) -> None:
    known = await directly([*npm_command("server-everything"), "stdio"])
    async with (
        everything(npm_command, carrier) as upstream,
        serve(tmp_path, upstream, GATE_WRITES) as wire,
        wire.sdk(LEGACY) as client,
    ):
        listed = (await client.list_tools()).tools
        resources = (await client.list_resources()).resources
        prompts = (await client.list_prompts()).prompts
    by_name = {tool.name: tool for tool in listed}
    assert [name for name in by_name if name in OURS] == OURS
    assert {tool.name: tool for tool in known}.items() <= by_name.items()
    assert resources
    assert prompts


@pytest.mark.parametrize("carrier", ["stdio", "http"])
async def test_a_gated_call_to_server_everything_runs_once_approved(
    npm_command: Command, tmp_path: Path, carrier: str
) -> None:
    async with (
        everything(npm_command, carrier) as upstream,
        serve(tmp_path, upstream, GATE_WRITES) as wire,
        wire.sdk(LEGACY) as client,
    ):
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(text(client, "echo", message="hello"))
            call = await wire.approve()
        assert asked.result() == "Echo: hello"
        assert (await wire.settled(call)).status is Status.EXECUTED


async def test_a_file_is_written_when_a_person_says_so_and_not_before(
    npm_command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    upstream = command([*npm_command("server-filesystem"), str(folder)])
    async with serve(tmp_path, upstream, GATE_WRITES) as wire, wire.sdk(LEGACY) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert "write_file" in names
        assert "move_file" not in names
        kept = await decided(wire, client, folder / "kept.txt", Choice.APPROVE)
        refused = await decided(wire, client, folder / "refused.txt", Choice.REJECT)
        read = await text(client, "read_text_file", path=str(folder / "kept.txt"))
    assert not kept.is_error
    assert refused.is_error
    assert read == "exactly this ✓"
    assert names_in(folder) == ["kept.txt"]


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def decided(wire: Wire, client: Client, path: Path, choice: Choice) -> types.CallToolResult:
    """Ask to write a file, look that nothing is written, and decide."""
    arguments = {"path": str(path), "content": "exactly this ✓"}
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(client.call_tool("write_file", arguments))
        call = await wire.held()
        assert path.name not in names_in(path.parent)
        await wire.decide(call, choice)
    return asked.result()
