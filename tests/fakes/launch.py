"""Starts the fakes that are programs: their commands, and the HTTP one with its address."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

HERE = Path(__file__).parent
START_SECONDS = 30


def fixture_command(*flags: str) -> list[str]:
    """The command of the fixture server on the official SDK; add `--stdio` or `--port`."""
    return [sys.executable, str(HERE / "mcp_server.py"), *flags]


def noisy_command(*flags: str) -> list[str]:
    """The command of the misbehaving stdio server."""
    return [sys.executable, str(HERE / "noisy_stdio.py"), *flags]


def shop_command() -> list[str]:
    """The command of the demo's shop; it runs from anywhere the package is installed."""
    return [sys.executable, "-m", "approval.demo.shop"]


def effects(log: Path) -> list[dict[str, object]]:
    """Read a witness file: one entry per call that really ran. No file means that none did."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@asynccontextmanager
async def fixture_over_http(*flags: str) -> AsyncIterator[str]:
    """Run the fixture server on a free port and give its address."""
    command = fixture_command("--port", "0", *flags)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
        yield json.loads(line)["url"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
