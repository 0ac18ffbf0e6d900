"""A scripted run under fire: agents that repeat themselves, people who decide, and a killer.

The service is a real process, killed with SIGKILL at moments nobody chose and started again each
time. The upstream is a real MCP server in a process of its own, which writes a line for every call
it really performs: the witness. Agents and people are clients that know nothing but the wire; they
lose their connections all the time and simply go on, as theirs do.
"""

import asyncio
import contextlib
import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

AGENT_TOKEN = "apv_fault_agent_token_000000000000000000"
PERSON_TOKEN = "apv_fault_person_token_00000000000000000"
MODERN = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}
ENDED = frozenset(
    {"executed", "errored", "failed", "rejected", "expired", "cancelled", "invalidated"}
)
RESTART_SECONDS = 30
DOUBTS = 3
"""How often an agent hears of a doubt before it leaves it at that."""


@dataclass(slots=True)
class Service:
    """The service under fire: its address stays, its process does not."""

    config: Path
    port: int
    kills: int = 0
    process: asyncio.subprocess.Process | None = None
    up: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start the process and wait until it answers."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "approval", "serve", "--config", str(self.config),
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(RESTART_SECONDS):
            while not await self._listens():
                assert self.process.returncode is None, "the service ended by itself"
                await asyncio.sleep(0.02)
        self.up.set()

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def kill(self) -> None:
        """End the process at once, wherever it is."""
        assert self.process is not None
        self.up.clear()
        self.process.kill()
        await self.process.wait()
        self.kills += 1

    async def stop(self) -> None:
        """End the process as an operator would."""
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()


@asynccontextmanager
async def under_fire(service: Service, *, least: float, most: float) -> AsyncIterator[None]:
    """Kill and restart the service again and again, at random moments between these seconds."""

    async def killer() -> None:
        while True:
            span = least + (most - least) * secrets.randbelow(1000) / 1000
            await asyncio.sleep(span)
            await service.kill()
            await service.start()

    async with asyncio.TaskGroup() as group:
        firing = group.create_task(killer())
        try:
            yield
        finally:
            firing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await firing
    if not service.up.is_set():
        await service.start()


def hurry(number: int) -> str:
    """Say for which of its two deadlines a call leaves a second only."""
    return {3: "run", 5: "decide"}.get(number % 10, "none")


def is_rejected(number: int) -> bool:
    return number % 7 == 0


def tool_call(number: int) -> dict[str, Any]:
    """Write one gated call; its number tells it from all others, and its repeats join it.

    It goes out in other bytes than the canonical ones: those that are approved and sent on.
    """
    arguments = {"note": f"größer als {number} €", "n": number, "hurry": hurry(number)}
    params = {"name": "count", "arguments": arguments, "_meta": ENVELOPE}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


class Agent:
    """Asks for one thing, and asks again until it has a final answer."""

    def __init__(self, service: Service, client: aiohttp.ClientSession) -> None:
        self._service = service
        self._client = client
        self.asked: set[int] = set()
        self.acknowledged: dict[int, str] = {}
        self.final: dict[int, str] = {}
        self.results: dict[int, dict[str, Any]] = {}
        self.doubts: dict[int, list[tuple[str, str]]] = {}

    async def want(self, number: int) -> None:
        """Repeat the identical call until its outcome is known, and a doubt some times more."""
        self.asked.add(number)
        while number not in self.final or len(self.doubts.get(number, [])) in range(1, DOUBTS):
            await self._service.up.wait()
            try:
                await self._ask(number)
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                await asyncio.sleep(0.02)

    async def _ask(self, number: int) -> None:
        headers = {
            "Authorization": f"Bearer {AGENT_TOKEN}",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": "tools/call",
            "Mcp-Name": "count",
        }
        url = f"{self._service.url}/mcp/fixture"
        async with self._client.post(url, json=tool_call(number), headers=headers) as answer:
            body = await answer.text()
        for line in body.splitlines():
            message = line.removeprefix("data:").strip()
            if message.startswith("{"):
                self._read(number, json.loads(message))

    def _read(self, number: int, message: dict[str, Any]) -> None:
        if message.get("id") != number:
            return
        result = message.get("result", {})
        about = result.get("_meta", {}).get("dev.approval/call")
        if about is None:
            self.final[number] = "executed"
            self.results[number] = result
        elif "id" in about:
            self.acknowledged[number] = about["id"]
            if about["state"] in ENDED | {"in_doubt"}:
                self.final[number] = about["state"]
        if self.final.get(number) == "in_doubt" or number in self.doubts:
            told = (str(about and about.get("id")), self._state(about))
            self.doubts.setdefault(number, []).append(told)

    @staticmethod
    def _state(about: dict[str, Any] | None) -> str:
        return "executed" if about is None else str(about.get("state"))


class Person:
    """Decides whatever is pending: rejects every seventh, approves the others.

    Remembers what was acknowledged, and whether it ever saw such a call pending again.
    """

    def __init__(self, service: Service, client: aiohttp.ClientSession) -> None:
        self._service = service
        self._client = client
        self.answered: dict[str, tuple[str, str]] = {}
        self.undone: set[str] = set()

    async def decide_for_ever(self) -> None:
        while True:
            await self._service.up.wait()
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
                for call in (await self._get("?state=pending&limit=50"))["calls"]:
                    if call["id"] in self.answered:
                        self.undone.add(call["id"])
                    await self._decide(call)
            await asyncio.sleep(0.02)

    async def all_calls(self) -> list[dict[str, Any]]:
        """Read every call there is."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            page = await self._get(f"?limit=200{after}")
            found += page["calls"]
            if page["next"] is None:
                return found
            after = f"&after={page['next']}"

    async def whole(self, call_id: str) -> dict[str, Any]:
        """Read one call with its result."""
        return await self._get(f"/{call_id}")

    async def _get(self, query: str) -> dict[str, Any]:
        url = f"{self._service.url}/v1/calls{query}"
        async with self._client.get(url, headers=self._headers) as answer:
            answer.raise_for_status()
            found: dict[str, Any] = await answer.json()
            return found

    async def _decide(self, call: dict[str, Any]) -> None:
        choice = "reject" if is_rejected(call["arguments"]["n"]) else "approve"
        body = {"decision": choice, "digest": call["digest"], "reason": "as scripted"}
        url = f"{self._service.url}/v1/calls/{call['id']}/decision"
        async with self._client.post(url, json=body, headers=self._headers) as answer:
            if answer.status == 200:
                self.answered[call["id"]] = (choice, call["digest"])

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {PERSON_TOKEN}"}
