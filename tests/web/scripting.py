"""A script that uses the API with a person's token."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.web.serving import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    json: Any
    text: str

    @property
    def code(self) -> str:
        """Name the problem, which must be a proper problem document."""
        assert self.headers["Content-Type"].startswith("application/problem+json")
        assert self.json["status"] == self.status
        assert self.json["title"]
        assert self.json["detail"].endswith((".", "…", "NAME"))
        return str(self.json["type"]).removeprefix("/problems/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    client: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.ask("GET", path, headers=headers)

    async def post(self, path: str, body: object, **headers: str) -> Reply:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.ask(
            "POST", path, headers={"Content-Type": "application/json", **headers}, data=sent
        )

    async def ask(
        self, method: str, path: str, *, headers: Mapping[str, str], data: bytes | None = None
    ) -> Reply:
        async with self.client.request(method, path, headers=headers, data=data) as response:
            text = await response.text()
            return Reply(
                status=response.status,
                headers=response.headers,
                text=text,
                json=json.loads(text) if text else None,
            )


@asynccontextmanager
async def script(site: Site, token: str | None) -> AsyncIterator[Script]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(site.url, headers=headers) as client:
        yield Script(client=client)
