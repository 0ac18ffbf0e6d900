"""Live updates: a stream that says which call changed, and nothing of what is in it.

The page fetches what it shows, so that authority is looked at again each time. A stream begins
with everything that waits, so a page that was away catches up without being loaded again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Final

from aiohttp import web

from approval.core import canonical
from approval.core.call import Call, CallId, Status
from approval.core.canonical import JSON
from approval.errors import ApprovalError, NotFound
from approval.service import Service
from approval.web.auth import Door, Visitor
from approval.web.pages import HARDENING
from approval.web.present import stamp
from approval.web.problems import Problem
from approval.web.waiting import Waiting

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS: Final = 15.0
SNAPSHOT: Final = 200


class Events:
    """Tells browsers that something changed."""

    def __init__(
        self,
        service: Service,
        door: Door,
        waiting: Waiting,
        now: Callable[[], Awaitable[datetime]],
    ) -> None:
        self._service = service
        self._door = door
        self._waiting = waiting
        self._now = now
        self.keep_alive_seconds = KEEP_ALIVE_SECONDS

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/events", self._stream, allow_head=False),
            web.get("/snapshot", self._poll),
        ]

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        body = canonical.write(await self._snapshot(visitor))
        return web.Response(body=body, content_type="application/json")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise Problem(403, "cross_site", "Events are for this site's own pages.")
        response = web.StreamResponse(
            headers={
                **HARDENING,
                "Content-Type": "text/event-stream; charset=utf-8",
                "X-Accel-Buffering": "no",
            }
        )
        async with self._waiting.held(visitor.key):
            await response.prepare(request)
            await response.write(b"retry: 2000\n\n")
            try:
                async for name, value in self._happenings(visitor):
                    await response.write(event(name, value))
            except ApprovalError:
                # Too late for another answer: the page comes back and is told then.
                log.warning("a stream of events ended early", exc_info=True)
        return response

    async def _happenings(self, visitor: Visitor) -> AsyncIterator[tuple[str, JSON]]:
        # Subscribed first, read second: what changes in between is told twice, never missed.
        with self._service.wakeups.subscribed() as changed:
            yield "snapshot", await self._snapshot(visitor)
            while True:
                call_id = await self._next(changed)
                # Looked at every time: a session that was taken back hears nothing more.
                if await self._service.keyring.session(visitor.session) is None:
                    return
                call = await self._visible(visitor, call_id) if call_id is not None else None
                if call is not None:
                    yield "call", line(call)
                elif call_id is None:
                    yield "clock", {"now": stamp(await self._now())}

    async def _next(self, changed: asyncio.Queue[CallId]) -> CallId | None:
        """Wait for the next change, or answer None when it is time for a sign of life."""
        try:
            async with asyncio.timeout(self.keep_alive_seconds):
                return await changed.get()
        except TimeoutError:
            return None

    async def _snapshot(self, visitor: Visitor) -> JSON:
        """List what waits. A page compares, and fetches what it shows differently."""
        waiting = {Status.PENDING, Status.IN_DOUBT}
        page = await self._service.find(visitor.person.name, states=waiting, limit=SNAPSHOT)
        calls: list[JSON] = [line(call) for call in page.calls]
        return {"now": stamp(await self._now()), "calls": calls}

    async def _visible(self, visitor: Visitor, call_id: CallId) -> Call | None:
        try:
            call = await self._service.get(call_id)
        except NotFound:
            return None
        return call if self._service.may_see(visitor.person.name, call) else None


def line(call: Call) -> JSON:
    return {"id": call.id, "version": call.version, "state": str(call.status)}


def event(name: str, value: JSON) -> bytes:
    """Write one event. The comment keeps proxies from closing a stream they think is idle."""
    return b": \nevent: " + name.encode() + b"\ndata: " + canonical.write(value) + b"\n\n"
