"""Keeping the line to an agent whose call is held, and telling it how the call went.

A held call is durable; the request is only a listener. While it listens it gets a comment or
progress now and then, and when its budget ends it is told that the call is pending and how to
collect it: before most clients give up by themselves. Ten thousand lines cost one timer.
"""

import asyncio
import heapq
import logging
import math
from collections.abc import Callable
from contextlib import suppress

import orjson
from aiohttp import web

from approval.core.call import Answer, Call, CallId, Status
from approval.core.canonical import quoted
from approval.errors import StoreUnavailable
from approval.gateway import answers, protocol, sse
from approval.gateway.entry import NAMED
from approval.ports import Send
from approval.service import Service

log = logging.getLogger(__name__)

STREAM_HEADERS = {
    **NAMED,
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}
RESTART_SECONDS = 2.0
"""How soon an approved call is started again: its first start may have found the store away."""

GRAINS = 60
"""A sign of life comes late by one part in so many of the time between two: 250 ms of 15 s."""


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_PROGRESS_STEP = 1e-6
HELD = frozenset({Status.PENDING, Status.APPROVED, Status.EXECUTING})


class Line:
    """The open answer to one request whose call is held."""

    def __init__(
        self,
        request: web.Request,
        *,
        request_id: str | int,
        token: str | int | None,
        modern: bool,
        lasts: float,
        ours: bool = True,
    ) -> None:
        self.request_id = request_id
        self.modern = modern
        self.ours = ours
        """Whether its agent may be sent to our own tools."""
        self.closed = False
        self.deadline = asyncio.get_running_loop().time() + lasts
        self.call_id: CallId | None = None
        self.left = ""
        """Why the line is given up, if it is: `budget`, `drain` or `cancelled`."""
        self.response = web.StreamResponse(headers=STREAM_HEADERS)
        self._request = request
        self._token = token
        self._comment = self._framed(sse.write_comment())
        self._transport: asyncio.Transport | None = None
        self._ticks = 0
        self._progress = 0.0
        self._says = ""
        self._clock: asyncio.Timeout | None = None

    async def open(self, call: Call) -> None:
        """Send the headers and a first sign of life."""
        names = sorted({name for each in call.requirement.factors for name in each.approvers})
        until = call.decide_before.isoformat(timespec="seconds").replace("+00:00", "Z")
        self._says = f"waiting for approval by {quoted(', '.join(names), 200)} until {until}"
        await self.response.prepare(self._request)
        self._transport = self._request.transport
        self.tick()

    async def changed(self, service: Service, call: Call, *, within: float | None) -> Call:
        """Wait until the call is no longer as it is here.

        Raises:
            TimeoutError: If the line is left first, or `within` seconds pass.
        """
        try:
            async with asyncio.timeout(0 if self.left else within) as self._clock:
                return await service.changed(call)
        finally:
            self._clock = None

    async def rest(self, seconds: float) -> None:
        """Wait for so long, or until the line is left."""
        with suppress(TimeoutError):
            try:
                async with asyncio.timeout(0 if self.left else None) as self._clock:
                    await asyncio.sleep(seconds)
            finally:
                self._clock = None

    def leave(self, why: str) -> None:
        """Stop waiting. The call stays as it is; whoever waits here tells the agent so."""
        self.left = self.left or why
        if self._clock is not None and not self._clock.expired():
            self._clock.reschedule(asyncio.get_running_loop().time())

    def tick(self) -> None:
        """Say that the line still stands, without waiting for anybody."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size():
            return  # gone, or slow: what is still unsent keeps the line open as well
        # Straight to the transport: `StreamResponse.write` may wait for a slow reader, and the one
        # timer that serves every line must not.
        self._ticks += 1
        if self._token is None:
            transport.write(self._comment)
            return
        note = self._progress_note()
        transport.write(self._comment if note is None else self._framed(note))

    def _framed(self, data: bytes) -> bytes:
        return data if self._request.version < (1, 1) else _chunk(data)

    def _progress_note(self) -> bytes | None:
        """Word the wait as progress, unless the upstream's own has gone beyond it."""
        # Tiny steps without a total: the upstream may count from 1 later, and must be ahead.
        progress = self._ticks * _PROGRESS_STEP
        if progress <= self._progress:
            return None
        self._progress = progress
        params = {"progressToken": self._token, "progress": progress, "message": self._says}
        note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        return _event(orjson.dumps(note))

    async def pass_on(self, data: bytes, message: dict[str, object]) -> bool:
        """Hand on what the upstream says while it runs the call; False if nobody listens."""
        if self.closed or self.left:
            return False
        if message.get("method") == "notifications/progress" and not self._is_ahead(message):
            return True
        try:
            await self.response.write(_event(data))
        except ConnectionError:
            return False
        return True

    def _is_ahead(self, message: dict[str, object]) -> bool:
        """Progress must grow over the whole request, ours and the upstream's together."""
        params = message.get("params")
        progress = params.get("progress") if isinstance(params, dict) else None
        if not isinstance(progress, int | float) or progress <= self._progress:
            return False
        self._progress = progress
        return True

    async def finish(self, body: bytes | None) -> None:
        """Send the answer, if there is one, and close the line."""
        self.closed = True
        if body is not None:
            await self.response.write(_event(body))
        await self.response.write_eof()


class Ticker:
    """Gives every held line its signs of life, and its end, from one timer.

    Lines that are due at about the same time share an instant and are served in one go: waking the
    loop for each of ten thousand, or keeping them sorted, costs more than what is then sent.
    """

    def __init__(self, every: Callable[[], float]) -> None:
        self._every = every
        self._due: dict[float, list[Line]] = {}
        self._instants: list[float] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, line: Line) -> None:
        every = self._every()
        self._push(line, asyncio.get_running_loop().time() + every, every / GRAINS)
        if self._timer is None or self._instants[0] < self._timer.when():
            self._set()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due.clear()
        self._instants.clear()

    def _push(self, line: Line, due: float, grain: float) -> None:
        instant = math.ceil((min(line.deadline, due)) / grain) * grain
        lines = self._due.get(instant)
        if lines is None:
            heapq.heappush(self._instants, instant)
            self._due[instant] = lines = []
        lines.append(line)

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._instants[0], self._run) if self._instants else None

    def _run(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._instants and self._instants[0] <= now:
            self._serve(self._due.pop(heapq.heappop(self._instants)), now)
        self._timer = None
        self._set()

    def _serve(self, lines: list[Line], now: float) -> None:
        every = self._every()
        due, grain = now + every, every / GRAINS
        for line in lines:
            if line.closed:
                continue
            if now < line.deadline:
                line.tick()
                self._push(line, due, grain)
            else:
                line.leave("budget")


class Waiting:
    """Holds the lines, and says on each how its call went."""

    def __init__(self, service: Service, every: Callable[[], float]) -> None:
        self._service = service
        self._ticker = Ticker(every)
        self._lines: set[Line] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def close(self) -> None:
        self._ticker.close()

    async def hold(self, line: Line, call: Call, *, joined: bool, send: Send) -> None:
        """Keep the line until the call has ended, is in doubt, or the line is left.

        Leaving by an exception (the agent hung up) detaches: the call stays as it is.
        """
        line.call_id = call.id
        self._lines.add(line)
        self._empty.clear()
        try:
            with self._service.attached(call):
                await line.open(call)
                self._ticker.add(line)
                call = await self._settled(line, call, send)
                if call.status in HELD:
                    await self._told(line, call)
                await self._answer(line, call, joined=joined)
        finally:
            line.closed = True
            self._lines.discard(line)
            if not self._lines:
                self._empty.set()

    async def _settled(self, line: Line, call: Call, send: Send) -> Call:
        """Run the call once it is approved, and wait until there is something to say."""
        while call.status in HELD and not line.left:
            within = None
            if call.status is Status.APPROVED:
                self._service.start(call.id, send)
                within = RESTART_SECONDS
            try:
                call = await line.changed(self._service, call, within=within)
            except TimeoutError:
                continue
            except StoreUnavailable as error:
                # Its decision may come all the same: the line is kept, and looked after later.
                log.warning("a held call cannot be read: %s", error, extra={"call": call.id})
                await line.rest(RESTART_SECONDS)
        return call

    async def _told(self, line: Line, call: Call) -> None:
        if line.left == "cancelled":
            return  # whoever cancelled a request reads nothing of it any more
        try:
            await self._service.told(call)
        except StoreUnavailable:
            log.exception("that an agent was told could not be noted", extra={"call": call.id})

    async def _answer(self, line: Line, call: Call, *, joined: bool) -> None:
        if line.left == "cancelled" and call.status in HELD:
            await line.finish(None)
            return
        body = await self.outcome(
            call, line.request_id, modern=line.modern, joined=joined, ours=line.ours
        )
        await line.finish(body)
        await self.delivered(call)

    async def outcome(
        self, call: Call, request_id: str | int, *, modern: bool, joined: bool, ours: bool
    ) -> bytes:
        """Word the answer to a request about this call: the upstream's own if there is one."""
        answer = await self._stored(call)
        if answer is not None:
            # The bytes that were stored are the bytes that go out: only the id is this request's.
            return b'{"jsonrpc":"2.0","id":%b,%b' % (orjson.dumps(request_id), answer.body[1:])
        told = answers.tell(call, joined=joined, ours=ours)
        return protocol.result_body(request_id, answers.tool_result(told, modern=modern))

    async def _stored(self, call: Call) -> Answer | None:
        if call.status not in {Status.EXECUTED, Status.ERRORED}:
            return None
        try:
            return await self._service.answer(call)
        except StoreUnavailable:
            log.exception("a kept answer cannot be read", extra={"call": call.id})
            return None

    async def delivered(self, call: Call) -> None:
        """Note that the agent has had the outcome, if there is one."""
        if not call.status.ended:
            return
        try:
            await self._service.delivered(call)
        except StoreUnavailable:
            log.exception("a delivery could not be noted", extra={"call": call.id})

    async def drain(self, seconds: float) -> None:
        """Tell every agent whose call is held that it is pending, and wait until all are told."""
        for line in tuple(self._lines):
            line.leave("drain")
        async with asyncio.timeout(seconds):
            await self._empty.wait()


def _event(data: bytes) -> bytes:
    return sse.write_event(sse.Event(event="message", data=data))
