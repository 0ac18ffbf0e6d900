"""One request to a program on standard streams, and what comes back for it in order."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from approval.errors import AnswerLost
from approval.gateway import sse
from approval.gateway.protocol import Message
from approval.gateway.upstream import JSON_TYPE, STREAM_TYPE, Reply

MAX_QUEUED = 1000


class Outlet:
    """Messages on their way to one open stream of an agent."""

    def __init__(self, keep_alive: float) -> None:
        self.dropped = 0
        self._keep_alive = keep_alive
        self._lines: deque[bytes] = deque()
        self._more = asyncio.Event()
        self._ended = False

    def put(self, line: bytes, *, last: bool = False) -> None:
        """Add a message. A reader far behind loses some, but never the last."""
        if self._ended:
            return
        if last or len(self._lines) < MAX_QUEUED:
            self._lines.append(line)
        else:
            self.dropped += 1
        self._ended = last
        self._more.set()

    def end(self) -> None:
        self._ended = True
        self._more.set()

    async def next(self) -> bytes | None:
        """Wait for a message; None when there will be no more."""
        while not self._lines:
            if self._ended:
                return None
            self._more.clear()
            await self._more.wait()
        return self._lines.popleft()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the messages as events, and a comment at first and whenever there was none."""
        # Headers alone may stay unseen on their way: say something at once.
        yield sse.write_comment()
        while True:
            try:
                async with asyncio.timeout(self._keep_alive):
                    line = await self.next()
            except TimeoutError:
                yield sse.write_comment()
                continue
            if line is None:
                return
            yield event(line)


class Exchange:
    """A request that waits for its answer; `done` is called once nobody waits any more."""

    def __init__(
        self, message: Message, keep_alive: float, done: Callable[["Exchange"], None]
    ) -> None:
        self.message = message
        self.answer: bytes | None = None
        self.outlet = Outlet(keep_alive)
        self._status = 200
        self._keep_alive = keep_alive
        self._done = done

    def settle(self, line: bytes, status: int = 200) -> None:
        """Take the answer. Only the first counts."""
        if self.answer is None:
            self.answer, self._status = line, status
            self.outlet.put(line, last=True)

    async def result(self) -> bytes:
        """Wait for the answer alone.

        Raises:
            AnswerLost: If the program ended first.
        """
        try:
            while await self.outlet.next() is not None:
                if self.answer is not None:
                    return self.answer
            raise _lost()
        finally:
            self._done(self)

    async def reply(self) -> Reply:
        """Answer plainly if the answer is the first thing that comes, else with a stream.

        Raises:
            AnswerLost: If the program ended first.
        """
        first, silent = None, False
        try:
            async with asyncio.timeout(self._keep_alive):
                first = await self.outlet.next()
        except TimeoutError:
            silent = True  # clients give up on a request that has no headers for long
        except BaseException:
            self._done(self)
            raise
        if silent or (first is not None and first is not self.answer):
            return Reply(
                status=200, content_type=STREAM_TYPE, chunks=self._chunks(first), close=self._close
            )
        self._done(self)
        if first is None:
            raise _lost()
        return Reply(status=self._status, content_type=JSON_TYPE, body=first)

    async def _chunks(self, first: bytes | None) -> AsyncIterator[bytes]:
        if first is not None:
            yield event(first)
        async for chunk in self.outlet.chunks():
            yield chunk
        if self.answer is None:
            raise _lost()

    async def _close(self) -> None:
        self._done(self)


def event(line: bytes) -> bytes:
    return sse.write_event(sse.Event(event="message", data=line))


def _lost() -> AnswerLost:
    return AnswerLost("the upstream's program ended before it answered")
