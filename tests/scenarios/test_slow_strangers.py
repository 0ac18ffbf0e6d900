"""The service as a program: who opens a connection and does not ask is cut off, and nobody else."""

import asyncio
import json
from pathlib import Path

from approval.core.call import Choice
from tests.app.test_newcomers import DRIP, lasts
from tests.scenarios.test_run_now import call_of, headers, purchase
from tests.scenarios.town import ANN_TOKEN, command, found, serving


async def test_only_strangers_that_do_not_ask_lose_their_connection(tmp_path: Path) -> None:
    town = found(tmp_path)
    text = town.config.read_text()
    town.config.write_text(text.replace("[server]\n", '[server]\nhead_timeout = "1s"\n'))
    async with serving(town) as service, asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        host, port = service.url.removeprefix("http://").split(":")
        address = (host, int(port))
        silent = tasks.create_task(lasts(asyncio.open_connection(*address)))
        dripping = tasks.create_task(lasts(asyncio.open_connection(*address), drip=DRIP))
        held = tasks.create_task(ask(address))
        idle = tasks.create_task(ask_twice(address))
        for stranger in (silent, dripping):
            assert await stranger >= 1
        waiting = await call_of(service.url, state="pending", listener="waiting")
        code, told = await command(town, "approve", waiting["id"], "--yes")
        assert (code, str(Choice.APPROVE) in told) == (0, True), told
        assert b'"result"' in await held
        assert await idle == 2
    assert town.bought() == ["+14155550100"]


async def ask(address: tuple[str, int]) -> bytes:
    """Buy a number, and read until the stream ends."""
    reader, writer = await asyncio.open_connection(*address)
    body = json.dumps(purchase()).encode()
    lines = [f"{name}: {value}" for name, value in headers().items()]
    head = "\r\n".join(["POST /mcp/shop HTTP/1.1", f"Host: {address[0]}:{address[1]}", *lines])
    writer.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    said = await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.close()
    return said


async def ask_twice(address: tuple[str, int]) -> int:
    """Ask, idle for longer than a newcomer may, and ask again on the same connection."""
    reader, writer = await asyncio.open_connection(*address)
    host = f"{address[0]}:{address[1]}"
    request = f"GET /v1/calls HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {ANN_TOKEN}\r\n\r\n"
    answered = 0
    for pause in (2, 0):
        writer.write(request.encode())
        answered += b" 200 " in await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"}")
        await asyncio.sleep(pause)
    writer.close()
    return answered
