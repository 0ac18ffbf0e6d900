"""A lean load generator: raw connections, prepared bytes, and nothing else."""

import asyncio
import time
from dataclasses import dataclass
from statistics import median, quantiles

MODERN = "2026-07-28"
LEGACY = "2025-11-25"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to call: `token` is the agent's, or empty for the yardstick."""

    port: int
    path: str
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Calls a second, and one call's time in milliseconds."""

    rate: float
    p50: float
    p99: float


def request(target: Target, number: int, era: str, *, tool: str = "echo") -> bytes:
    """Prepare one `tools/call` with about 120 bytes of arguments."""
    meta = ""
    headers = f"MCP-Protocol-Version: {era}\r\n"
    if era == MODERN:
        headers += f"Mcp-Method: tools/call\r\nMcp-Name: {tool}\r\n"
        meta = (
            ',"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
            '"io.modelcontextprotocol/clientCapabilities":{}}'
        )
    if target.token:
        headers += f"Authorization: Bearer {target.token}\r\n"
    body = (
        f'{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":'
        f'{{"name":"{tool}","arguments":{{"n":"{number}","text":"{"y" * 80}"}}{meta}}}}}'
    )
    return (
        f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n"
        f"Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
        f"{headers}Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Read one answer with a Content-Length; anything but 200 is the benchmark's end."""
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"unexpected answer: {head[:300]!r}")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)


async def drive(target: Target, *, connections: int, seconds: float, era: str) -> Measured:
    """Call as fast as this many connections can, one call at a time on each."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def work(worker: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        prepared = request(target, worker, era)
        while (start := time.perf_counter()) < end:
            writer.write(prepared)
            await answer(reader)
            times.append(time.perf_counter() - start)
        writer.close()

    async with asyncio.TaskGroup() as group:
        for worker in range(connections):
            group.create_task(work(worker))
    return Measured(
        rate=len(times) / seconds,
        p50=median(times) * 1000,
        p99=quantiles(times, n=100)[98] * 1000,
    )
