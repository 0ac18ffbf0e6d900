import asyncio
import json
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters

from tests.fakes.launch import effects, noisy_command

LIMIT = 8 << 20
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Wire:
    """Raw lines to and from the fake."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self.stdin, self.stdout = process, process.stdin, process.stdout

    async def send(self, identity: int, method: str, **params: object) -> None:
        message = {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}
        self.stdin.write(json.dumps(message).encode() + b"\n")
        await self.stdin.drain()

    async def call(self, identity: int, tool: str, **arguments: object) -> None:
        await self.send(identity, "tools/call", name=tool, arguments=arguments)

    async def read(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.stdout.readline())
        return message


@asynccontextmanager
async def noisy(*flags: str) -> AsyncIterator[Wire]:
    command = noisy_command(*flags)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=LIMIT)
    try:
        async with asyncio.timeout(30):
            yield Wire(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_without_flags_it_serves_both_eras(tmp_path: Path) -> None:
    log = tmp_path / "effects"
    async with noisy("--log", str(log)) as wire:
        await wire.send(1, "initialize", **HELLO)
        assert (await wire.read())["result"]["protocolVersion"] == "2025-11-25"
        await wire.call(2, "effect", n=1)
        content = [{"type": "text", "text": '{"n": 1}'}]
        assert await wire.read() == {"jsonrpc": "2.0", "id": 2, "result": {"content": content}}
        await wire.send(3, "server/discover", _meta=ENVELOPE)
        assert (await wire.read())["result"]["supportedVersions"] == ["2026-07-28"]
        await wire.send(4, "no/such")
        assert (await wire.read())["error"]["code"] == -32601
        pid = wire.process.pid
    assert effects(log) == [{"tool": "effect", "arguments": {"n": 1}, "pid": pid}]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_the_sdk_client_survives_the_noise_of_real_servers(mode: str) -> None:
    command, *arguments = noisy_command("--log-before-initialize", "--tools", "400")
    server = StdioServerParameters(command=command, args=arguments)
    async with asyncio.timeout(30), Client(server, mode=mode) as client:
        assert len((await client.list_tools()).tools) == 402
        result = await client.call_tool("echo", {"a": 1})
    assert result.content == [types.TextContent(text='{"a": 1}')]


async def test_a_log_request_comes_before_the_initialize_answer() -> None:
    async with noisy("--log-before-initialize") as wire:
        await wire.send(1, "initialize", **HELLO)
        log = await wire.read()
        assert (log["method"], type(log["id"])) == ("log", str)
        assert (await wire.read())["id"] == 1


async def test_one_line_may_be_longer_than_a_mebibyte() -> None:
    async with noisy("--long-line", "2000000", "--stderr", "200000") as wire:
        await wire.call(1, "echo")
        assert len((await wire.read())["result"]["content"][0]["text"]) == 2_000_000


async def test_garbage_stands_between_the_messages() -> None:
    async with noisy("--garbage") as wire:
        await wire.call(1, "echo")
        lines = [await wire.stdout.readline() for _ in range(8)]
    assert lines[0] == b"starting up ...\n"
    assert json.loads(lines[-1])["id"] == 1


@pytest.mark.parametrize(
    ("flags", "code", "effective"),
    [
        (["--crash-before-initialize"], 3, False),
        (["--crash-on", "effect"], 4, False),
        (["--execute-and-crash"], 5, True),
    ],
)
async def test_it_dies_without_an_answer(
    flags: list[str], code: int, effective: bool, tmp_path: Path
) -> None:
    log = tmp_path / "effects"
    async with noisy("--log", str(log), *flags) as wire:
        await wire.call(1, "effect")
        assert await wire.stdout.read() == b""
        assert await wire.process.wait() == code
    assert len(effects(log)) == effective


async def test_it_answers_twice_or_under_a_wrong_id_or_not_at_all() -> None:
    async with noisy("--duplicate-answer", "--hang-on", "effect") as wire:
        await wire.call(1, "effect")
        await wire.call(2, "echo")
        assert [(await wire.read())["id"] for _ in range(2)] == [2, 2]
    async with noisy("--wrong-id") as wire:
        await wire.call(1, "echo")
        assert (await wire.read())["id"] != 1


async def test_it_may_outlive_the_end_of_its_input_and_a_polite_request() -> None:
    async with noisy("--linger") as wire:
        await wire.send(1, "ping")
        await wire.read()
        wire.process.terminate()
        await wire.send(2, "ping")
        assert (await wire.read())["id"] == 2
        wire.process.kill()
        assert await wire.process.wait() == -signal.SIGKILL
