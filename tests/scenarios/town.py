"""A town for scenarios: a configuration with the shop, the service as a program, its commands."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from approval.core.call import Call, Choice
from approval.core.identity import token_digest

ROOT = Path(__file__).resolve().parents[2]
AGENT_TOKEN = "an-agents-token-for-the-scenarios-1"
ANN_TOKEN = "anns-own-token-for-the-scenarios-01"

CONFIG = """
[server]
listen = "127.0.0.1:0"

[upstreams.shop]
command = ["python", "-m", "approval.demo.shop"]
env = {{ SHOP_LEDGER = {ledger}, PYTHONPATH = {root}, SHOP_DELAY = "{delay}" }}
policy = "policy.json"

[agents.ops-agent]
upstreams = ["shop"]
token = {{ sha256 = "{agent}" }}

[people.ann]
token = {{ sha256 = "{ann}" }}

[approvals]
approvers = "ann"
local = "trust"

[rights]
admin = "ann"

[gateway]
wait = "{wait}"
"""
POLICY = {
    "dialect": "approval-1",
    "version": "1",
    "default": "deny",
    "tools": {
        "search_available_numbers": {},
        "create_incoming_phone_number": {"require_approval": [{"timeout": "15m"}]},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """A folder with everything of one service in it."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def policy(self) -> Path:
        return self.folder / "policy.json"

    def bought(self) -> list[str]:
        """Read the shop's ledger: what really happened, in order."""
        ledger = self.folder / "ledger.jsonl"
        lines = ledger.read_text().splitlines() if ledger.exists() else []
        return [json.loads(line)["arguments"]["phone_number"] for line in lines]


def found(folder: Path, *, wait: str = "50s", delay: str = "0") -> Town:
    """Write a town's files."""
    town = Town(folder=folder)
    town.policy.write_text(json.dumps(POLICY))
    town.config.write_text(
        CONFIG.format(
            ledger=json.dumps(str(folder / "ledger.jsonl")),
            root=json.dumps(str(ROOT)),
            delay=delay,
            agent=token_digest(AGENT_TOKEN),
            ann=token_digest(ANN_TOKEN),
            wait=wait,
        )
    )
    return town


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """`approval serve`, running as a program of its own."""

    process: asyncio.subprocess.Process
    url: str

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end, which after SIGTERM must come within ten seconds."""
        async with asyncio.timeout(10):
            return await self.process.wait()

    async def logged(self, text: str) -> str:
        """Wait until it logs a line that holds this text."""
        assert self.process.stderr is not None
        async with asyncio.timeout(10):
            while True:
                line = (await self.process.stderr.readline()).decode()
                if text in line or not line:
                    return line


async def decided(url: str, call: Call, decision: Choice, **body: object) -> tuple[int, Any]:
    """Have Ann decide through the API; answer the status and what it told."""
    address = f"{url}/v1/calls/{call.id}/decision"
    sent = {"decision": str(decision), "digest": call.digest, **body}
    headers = {"Authorization": f"Bearer {ANN_TOKEN}"}
    async with (
        ClientSession(headers=headers) as session,
        session.post(address, json=sent) as response,
    ):
        return response.status, await response.json()


@asynccontextmanager
async def serving(town: Town) -> AsyncIterator[Program]:
    """Run the service as a program until this context ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "approval", "serve", "--config", str(town.config)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
        assert "/mcp/shop" in line, (await process.communicate())[1].decode()
        yield Program(process=process, url=line.split()[1].removesuffix("/mcp/shop"))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def command(town: Town, *words: str) -> tuple[int, str]:
    """Run a command as Ann, on the same files, as a program of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "approval", *words, "--config", str(town.config)),
        cwd=ROOT,
        env={**os.environ, "APPROVAL_TOKEN": ANN_TOKEN},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (out or err).decode()
