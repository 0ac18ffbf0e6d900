"""What the gateway asks of a server behind it, whatever carries the messages there.

A `Conversation` is one line of talk with an upstream: that of one agent's session, which nobody
else ever uses, or the shared one of the newer protocol, which has no sessions.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, Self

from multidict import MultiMapping

from approval.core import canonical
from approval.core.canonical import JSON
from approval.gateway.protocol import Message

JSON_TYPE = "application/json"
STREAM_TYPE = "text/event-stream"

MAX_ANSWER = 16 * 1024 * 1024
"""The longest answer, in bytes, that is taken from an upstream in one piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message on its way upstream: the object that was judged, not the bytes that came.

    `arguments` are those of a `tools/call` as they were put on disk. Of `received`, headers that
    came with it or were written for it, the `Mcp-Param-*` go on. `careful` is a message that is not
    simply sent again: it travels on a connection of its own, because one that the upstream is about
    to close would leave a needless doubt.
    """

    message: Message
    version: str = ""
    arguments: bytes | None = None
    received: MultiMapping[str] | None = None
    careful: bool = False

    def write(
        self, *, request_id: str | int | None = None, params: dict[str, JSON] | None = None
    ) -> bytes:
        """Write the message, with another id or other params where a shared line needs them."""
        raw = self.message.raw
        if request_id is not None:
            raw = raw | {"id": request_id}
        if self.arguments is None:
            return canonical.write(raw if params is None else raw | {"params": params})
        given = self.message.params if params is None else params
        outer = canonical.write({name: raw[name] for name in raw if name != "params"})
        inner = canonical.write({name: given[name] for name in given if name != "arguments"})
        return b'%b,"params":%b,"arguments":%b}}' % (outer[:-1], inner[:-1], self.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an upstream answered: a whole body, or the chunks of an event stream.

    Call `close` when done with the chunks, also when they were not read to their end. Reading them
    raises `AnswerLost` when the upstream breaks off.
    """

    status: int
    content_type: str = ""
    body: bytes = b""
    chunks: AsyncIterator[bytes] | None = None
    close: Callable[[], Awaitable[None]] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self.close is not None:
            await self.close()


class Conversation(Protocol):
    """One line of talk with an upstream."""

    @property
    def established(self) -> bool:
        """Say whether the upstream has opened a session in it, which later messages belong to."""
        ...

    @property
    def over(self) -> bool:
        """Say whether the upstream has ended it: nothing can be sent any more."""
        ...

    @property
    def has_headers(self) -> bool:
        """Say whether messages travel under headers, which may have to repeat what is in them."""
        ...

    async def post(self, sent: Sent) -> Reply:
        """Send one message and answer how the upstream takes it.

        Raises:
            NeverSent: If not a byte of it left.
            AnswerLost: If it may have arrived, and no answer came.
        """
        ...

    async def listen(self, last_event_id: str) -> Reply:
        """Open the stream of what the upstream says unasked; raises as `post` does."""
        ...

    async def end(self) -> int:
        """End it, and answer the HTTP status that says how. Never raises."""
        ...


class Upstream(Protocol):
    """A server behind the gateway. Enter it before use; leaving it ends all that it started."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    def begin(self) -> Conversation:
        """Give a new conversation, which an `initialize` may turn into a session."""
        ...

    def shared(self) -> Conversation:
        """Give the one conversation of the newer protocol."""
        ...
