"""Upstreams on standard streams: one program for each agent's session, or one shared by all.

What such a server says has no address. In the older protocol a session is a program of its own, so
nobody else's words can reach its agent. In the newer one every agent talks to one program: ids and
progress tokens are replaced by ours on the way out and put back on the way in, and what still has
no address is dropped.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack, suppress
from itertools import count
from typing import Self

import orjson

from approval.core import canonical
from approval.core.canonical import JSON, quoted
from approval.errors import AnswerLost, NeverSent, Unreadable
from approval.gateway import protocol
from approval.gateway.child import Child, Hear
from approval.gateway.exchange import Exchange, Outlet
from approval.gateway.protocol import (
    CAPABILITIES_KEY,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MODERN_VERSIONS,
    UNSUPPORTED_VERSION,
    VERSION_KEY,
    Kind,
    Message,
)
from approval.gateway.settings import GatewaySettings, UpstreamSettings
from approval.gateway.upstream import (
    JSON_TYPE,
    MAX_ANSWER,
    STREAM_TYPE,
    Conversation,
    Reply,
    Sent,
)

log = logging.getLogger(__name__)

SUBSCRIPTION_KEY = "io.modelcontextprotocol/subscriptionId"
LOG_LEVEL_KEY = "io.modelcontextprotocol/logLevel"
PROGRESS = "notifications/progress"
MAX_UNHEARD = 100
ACCEPTED = Reply(status=202)

SERVER_REQUESTS = frozenset({"elicitation/create", "ping", "roots/list", "sampling/createMessage"})
SERVER_NOTIFICATIONS = frozenset(
    {
        *("notifications/cancelled", "notifications/elicitation/complete"),
        *("notifications/message", PROGRESS, "notifications/prompts/list_changed"),
        *("notifications/resources/list_changed", "notifications/resources/updated"),
        *("notifications/tasks/status", "notifications/tools/list_changed"),
    }
)


class StdioUpstream:
    """A server that is a command."""

    def __init__(self, name: str, settings: UpstreamSettings, gateway: GatewaySettings) -> None:
        self.name = name
        self.keep_alive = gateway.keep_alive.total_seconds()
        self.probe_seconds = gateway.probe_timeout.total_seconds()
        self._grace = gateway.stop_grace.total_seconds()
        self._settings = settings
        self._children: set[Child] = set()
        self._shared = SharedLine(self)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
            stack.push_async_callback(self._stop)
            self._exit = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._exit.aclose()

    async def _stop(self) -> None:
        async with asyncio.TaskGroup() as stopping:
            for child in tuple(self._children):
                stopping.create_task(child.stop())

    def begin(self) -> Conversation:
        return OwnLine(self)

    def shared(self) -> Conversation:
        return self._shared

    async def start(self, hear: Hear, ended: Callable[[], None]) -> Child:
        """Start the program once more; it ends with this upstream at the latest."""
        child = Child(self.name, self._settings, grace=self._grace, hear=hear, ended=ended)
        # Ended programs are kept until the next start: one that lingers must still be stopped.
        self._children = {each for each in self._children if not each.gone} | {child}
        await child.start(self._tasks)
        return child

    def knows(self, method: str, known: Collection[str]) -> bool:
        return method in known or method in self._settings.methods


class OwnLine:
    """One agent's session: a program of its own, which ids and tokens reach unchanged."""

    def __init__(self, upstream: StdioUpstream) -> None:
        self._upstream = upstream
        self._child: Child | None = None
        self._established = False
        self._over = False
        self._exchanges: dict[str | int, Exchange] = {}
        self._listener: Outlet | None = None
        self._unheard: deque[bytes] = deque(maxlen=MAX_UNHEARD)

    @property
    def established(self) -> bool:
        return self._established

    @property
    def over(self) -> bool:
        return self._over

    @property
    def has_headers(self) -> bool:
        return False

    async def post(self, sent: Sent) -> Reply:
        message = sent.message
        if self._child is None and message.method == "initialize":
            return await self._initialize(sent)
        if self._child is None:
            return _error(message, INVALID_REQUEST, "there is no session: send initialize first")
        if message.kind is not Kind.REQUEST:
            self._child.send(sent.write())
            return ACCEPTED
        if message.id in self._exchanges:
            return _error(message, INVALID_REQUEST, "a request with this id is being answered")
        return await self._ask(self._child, sent).reply()

    async def _initialize(self, sent: Sent) -> Reply:
        self._child = await self._upstream.start(self._hear, self._lost)
        try:
            line = await self._ask(self._child, sent).result()
            code = _error_code(orjson.loads(line))
            self._established = code is None
            if code not in {None, UNSUPPORTED_VERSION} and await self._is_modern(self._child):
                return _too_new(sent.message)
            return Reply(status=200, content_type=JSON_TYPE, body=line)
        finally:
            if not self._established:
                await self.end()

    async def _is_modern(self, child: Child) -> bool:
        return await _probe(self._upstream, lambda sent: self._ask(child, sent))

    def _ask(self, child: Child, sent: Sent) -> Exchange:
        exchange = Exchange(sent.message, self._upstream.keep_alive, self._done)
        child.send(sent.write())
        if sent.message.id is not None:
            self._exchanges[sent.message.id] = exchange
        return exchange

    def _done(self, exchange: Exchange) -> None:
        name = exchange.message.id
        if name is not None and self._exchanges.get(name) is exchange:
            del self._exchanges[name]

    async def listen(self, last_event_id: str) -> Reply:
        if self._child is None:
            return Reply(status=400)
        if self._listener is not None:
            return Reply(status=409)
        outlet = Outlet(self._upstream.keep_alive)
        self._listener = outlet
        while self._unheard:
            outlet.put(self._unheard.popleft())
        if self._over:
            outlet.end()

        async def close() -> None:
            self._listener = None

        return Reply(status=200, content_type=STREAM_TYPE, chunks=outlet.chunks(), close=close)

    async def end(self) -> int:
        if self._child is not None:
            await self._child.stop()
        self._lost()
        return 200

    def _lost(self) -> None:
        self._over = True
        for exchange in self._exchanges.values():
            exchange.outlet.end()
        if self._listener is not None:
            self._listener.end()

    def _hear(self, line: bytes, message: dict[str, object]) -> None:
        method, name = message.get("method"), message.get("id")
        if not isinstance(method, str):
            # Taken out at once: what is said after the answer must not be put behind it.
            exchange = self._exchanges.pop(name, None) if isinstance(name, str | int) else None
            if exchange is None:
                log.debug("an answer to nothing", extra={"upstream": self._upstream.name})
            else:
                exchange.settle(line)
        elif name is not None and not self._upstream.knows(method, SERVER_REQUESTS):
            # Twilio's server sends its log as requests, before it has answered initialize.
            _refuse(self._child, name, method)
        elif name is not None or self._upstream.knows(method, SERVER_NOTIFICATIONS):
            self._say(line, _progress_token(method, message))

    def _say(self, line: bytes, token: object) -> None:
        """Hand on what the server says unasked, where its agent is most likely to hear it.

        With one request open its stream keeps the order: what was said before the answer arrives
        before the answer.
        """
        outlet = self._listener
        asking = tuple(self._exchanges.values())
        for exchange in asking:
            if token is not None and exchange.message.progress_token == token:
                outlet = exchange.outlet
                break
        else:
            if len(asking) == 1 or (asking and outlet is None):
                outlet = asking[-1].outlet
        if outlet is None:
            self._unheard.append(line)
        else:
            outlet.put(line)


class SharedLine:
    """The newer protocol's one program, spoken to by every agent."""

    def __init__(self, upstream: StdioUpstream) -> None:
        self._upstream = upstream
        self._child: Child | None = None
        self._legacy = False
        self._starting = asyncio.Lock()
        self._exchanges: dict[str, Exchange] = {}
        # Nobody can guess an id and so be taken for its owner.
        self._prefix = secrets.token_hex(8)
        self._numbers = count(1)

    @property
    def established(self) -> bool:
        return False

    @property
    def over(self) -> bool:
        return False

    @property
    def has_headers(self) -> bool:
        return False

    async def post(self, sent: Sent) -> Reply:
        child = await self._ready()
        if child is None:
            # Not one of the newer protocol's errors: that is how its clients know to fall back.
            text = f'Unsupported protocol version: "{self._upstream.name}" needs initialize'
            return _error(sent.message, INVALID_REQUEST, text)
        if sent.message.kind is not Kind.REQUEST:
            # Over HTTP this revision has no notifications of clients: they are taken and dropped.
            return ACCEPTED
        return await self._ask(child, sent).reply()

    async def listen(self, last_event_id: str) -> Reply:
        return Reply(status=405)

    async def end(self) -> int:
        return 405

    async def _ready(self) -> Child | None:
        """Give the running program, or None if it speaks only the older protocol."""
        async with self._starting:
            if self._legacy or (self._child is not None and self._child.alive):
                return self._child
            child = await self._upstream.start(self._hear, self._lost)
            self._child = child
            if await _probe(self._upstream, lambda sent: self._ask(child, sent)):
                return child
            self._child = None
            if not child.alive:
                raise NeverSent(f'the upstream "{self._upstream.name}" ended at its start')
            self._legacy = True
            await child.stop()
            return None

    def _ask(self, child: Child, sent: Sent) -> Exchange:
        mapped = f"{self._prefix}-{next(self._numbers)}"

        def done(exchange: Exchange) -> None:
            if self._exchanges.pop(mapped, None) is not None and exchange.answer is None:
                _cancel(child, mapped)

        exchange = Exchange(sent.message, self._upstream.keep_alive, done)
        child.send(sent.write(request_id=mapped, params=_renamed_token(sent.message, mapped)))
        self._exchanges[mapped] = exchange
        return exchange

    def _lost(self) -> None:
        for exchange in self._exchanges.values():
            exchange.outlet.end()

    def _hear(self, line: bytes, message: dict[str, object]) -> None:
        method, name = message.get("method"), message.get("id")
        if not isinstance(method, str):
            self._settle(line, message)
        elif name is not None:
            _refuse(self._child, name, method)
        elif method == "notifications/message":
            # Logs name nobody. Who asked for logs may have them, if that is one request alone.
            asked = [key for key, each in self._exchanges.items() if _wants_logs(each.message)]
            self._pass(line, asked[0] if len(asked) == 1 else None)
        else:
            token = _progress_token(method, message)
            subscription = _meta(message.get("params")).get(SUBSCRIPTION_KEY)
            self._pass(line, subscription if token is None else token, by_token=token is not None)

    def _settle(self, line: bytes, message: dict[str, object]) -> None:
        mapped = message.get("id")
        exchange = self._exchanges.get(mapped) if isinstance(mapped, str) else None
        if exchange is None or not isinstance(mapped, str):
            log.debug("an answer to nothing", extra={"upstream": self._upstream.name})
            return
        code = _error_code(message)
        status = 200 if code is None else protocol.http_status(code, modern=True)
        try:
            exchange.settle(_swap(line, mapped, exchange.message.id), status)
        except Unreadable as error:
            log.warning("an answer was unreadable: %s", error)
            exchange.outlet.end()

    def _pass(self, line: bytes, mapped: object, *, by_token: bool = False) -> None:
        exchange = self._exchanges.get(mapped) if isinstance(mapped, str) else None
        if exchange is None or not isinstance(mapped, str):
            return
        message = exchange.message
        try:
            theirs = message.progress_token if by_token else message.id
            exchange.outlet.put(_swap(line, mapped, theirs))
        except Unreadable as error:
            log.warning("a message was unreadable: %s", error)


async def _probe(upstream: StdioUpstream, ask: Callable[[Sent], Exchange]) -> bool:
    """Ask a program whether it speaks the newer protocol. Silence means that it does not."""
    meta: JSON = {VERSION_KEY: MODERN_VERSIONS[-1], CAPABILITIES_KEY: {}}
    question = protocol.message(
        {
            "jsonrpc": "2.0",
            "id": "approval-probe",
            "method": "server/discover",
            "params": {"_meta": meta},
        }
    )
    with suppress(TimeoutError, AnswerLost, NeverSent):
        async with asyncio.timeout(upstream.probe_seconds):
            line = await ask(Sent(message=question, version=MODERN_VERSIONS[-1])).result()
        result = orjson.loads(line).get("result")
        served = result.get("supportedVersions") if isinstance(result, dict) else None
        return isinstance(served, list) and any(each in MODERN_VERSIONS for each in served)
    return False


def _refuse(child: Child | None, name: object, method: str) -> None:
    """Answer a request that no agent may be asked, in its place."""
    if child is None or not isinstance(name, str | int):
        return
    text = f"the client has no method {quoted(method)}"
    with suppress(NeverSent):
        child.send(protocol.error_body(name, METHOD_NOT_FOUND, text))


def _cancel(child: Child, mapped: str) -> None:
    """Tell the server that nobody waits any more: a hang-up is this protocol's way to cancel."""
    note: JSON = {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": mapped, "reason": "the client closed the request"},
    }
    with suppress(NeverSent):
        child.send(canonical.write(note))


def _error(message: Message, code: int, text: str) -> Reply:
    body = protocol.error_body(message.id, code, text)
    return Reply(status=400, content_type=JSON_TYPE, body=body)


def _too_new(message: Message) -> Reply:
    asked = message.params.get("protocolVersion")
    data: JSON = {"supported": [*MODERN_VERSIONS], "requested": asked}
    text = f"this upstream serves {', '.join(MODERN_VERSIONS)}, which needs no initialize"
    body = protocol.error_body(message.id, UNSUPPORTED_VERSION, text, data)
    return Reply(status=400, content_type=JSON_TYPE, body=body)


def _error_code(message: dict[str, object]) -> int | None:
    error = message.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else None


def _progress_token(method: str, message: dict[str, object]) -> object:
    params = message.get("params")
    return params.get("progressToken") if method == PROGRESS and isinstance(params, dict) else None


def _meta(params: object) -> dict[str, object]:
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta if isinstance(meta, dict) else {}


def _wants_logs(message: Message) -> bool:
    return LOG_LEVEL_KEY in _meta(message.params)


def _renamed_token(message: Message, mapped: str) -> dict[str, JSON] | None:
    meta = message.params.get("_meta")
    if message.progress_token is None or not isinstance(meta, dict):
        return None
    return message.params | {"_meta": meta | {"progressToken": mapped}}


def _swap(line: bytes, mapped: str, theirs: str | int | None) -> bytes:
    """Put the agent's own name back in the place of ours, and change no other byte.

    Raises:
        Unreadable: If ours stands there more than once, and the line has no one reading.
    """
    ours = canonical.write(mapped)
    if line.count(ours) <= 1:
        return line.replace(ours, canonical.write(theirs))
    value = canonical.read(line, limit=MAX_ANSWER)
    for path in _NAMED:
        _rename(value, path, mapped, theirs)
    return canonical.write(value)


_NAMED = (
    ("id",),
    ("params", "progressToken"),
    ("params", "_meta", SUBSCRIPTION_KEY),
    ("result", "_meta", SUBSCRIPTION_KEY),
)


def _rename(value: JSON, path: tuple[str, ...], mapped: str, theirs: str | int | None) -> None:
    *outer, last = path
    for name in outer:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, dict) and value.get(last) == mapped:
        value[last] = theirs
