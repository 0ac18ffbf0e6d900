"""A small MCP client over Streamable HTTP: the demo's agent, which knows nothing of approvals.

It speaks 2025-11-25 and just enough of it: a session, the list of tools, calls, and answers that
come as JSON or as an event stream that stays silent for as long as people think.
"""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
import orjson

from approval.errors import ApprovalError
from approval.gateway.sse import Reader

VERSION: Final = "2025-11-25"
META_KEY: Final = "dev.approval/call"

Json = dict[str, object]


class AgentFailed(ApprovalError):
    """The agent was not served: a fault of the gateway or of the demo, never a person's no."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a tool answered: text for the model, and the gateway's own word where it gave one."""

    text: str
    is_error: bool
    structured: Json
    state: str = ""
    call_id: str = ""


class Agent:
    """One session with one upstream, through the gateway."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._url = url
        self._numbers = itertools.count(1)
        self._headers = {
            "Accept": "application/json, text/event-stream",
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
        }

    async def begin(self) -> None:
        """Shake hands."""
        params: Json = {
            "protocolVersion": VERSION,
            "capabilities": {},
            "clientInfo": {"name": "demo-agent", "version": "1.0.0"},
        }
        await self._ask("initialize", params)
        self._headers["MCP-Protocol-Version"] = VERSION
        await self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def tools(self) -> tuple[str, ...]:
        """List the tools by name."""
        result = await self._ask("tools/list", {})
        tools = result.get("tools")
        return tuple(str(tool["name"]) for tool in tools) if isinstance(tools, list) else ()

    async def call(self, tool: str, arguments: Json) -> Result:
        """Call a tool, and wait for as long as the gateway holds the line."""
        result = await self._ask("tools/call", {"name": tool, "arguments": arguments})
        structured = result.get("structuredContent")
        meta = result.get("_meta")
        word = meta.get(META_KEY) if isinstance(meta, dict) else None
        word = word if isinstance(word, dict) else {}
        return Result(
            text=_text(result),
            is_error=result.get("isError") is True,
            structured=structured if isinstance(structured, dict) else {},
            state=str(word.get("state", "")),
            call_id=str(word.get("id", "")),
        )

    async def _ask(self, method: str, params: Json) -> Json:
        number = next(self._numbers)
        message: Json = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        for answer in await self._send(message):
            if answer.get("id") == number:
                result = answer.get("result")
                if isinstance(result, dict):
                    return result
                raise AgentFailed(f"{method} was refused: {answer.get('error')}")
        raise AgentFailed(f"{method} was not answered")

    async def _send(self, message: Json) -> list[Json]:
        async with self._session.post(
            self._url, data=orjson.dumps(message), headers=self._headers
        ) as response:
            if response.status >= 400:
                raise AgentFailed(f"HTTP {response.status}: {await response.text()}")
            session = response.headers.get("Mcp-Session-Id")
            if session is not None:
                self._headers["Mcp-Session-Id"] = session
            if response.content_type == "text/event-stream":
                return await _events(response)
            body = await response.read()
            return [orjson.loads(body)] if body else []


async def _events(response: aiohttp.ClientResponse) -> list[Json]:
    reader, messages = Reader(), []
    async for chunk in response.content.iter_any():
        messages += [orjson.loads(event.data) for event in reader.feed(chunk) if event.data]
    return messages


def _text(result: Json) -> str:
    content = result.get("content")
    blocks = content if isinstance(content, list) else []
    return "\n".join(str(block.get("text", "")) for block in blocks if isinstance(block, dict))


@asynccontextmanager
async def agent(url: str, token: str) -> AsyncIterator[Agent]:
    """Begin a session that ends with this context."""
    # No limit of its own: the gateway says when it tells an agent that a call is still pending.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        client = Agent(session, url, token)
        await client.begin()
        yield client
