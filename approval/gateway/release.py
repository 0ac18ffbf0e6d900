"""Sending an approved call upstream, once, and reading what became of it.

Nothing here ever sends twice. Whatever is not a readable answer to this very request, and does not
prove that nothing happened, is an `AnswerLost`: a person looks then.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

import orjson
from multidict import MultiMapping

from approval.core import canonical
from approval.core.call import Answer, Call, Status
from approval.core.canonical import JSON
from approval.errors import AnswerLost, NeverSent, Unreadable
from approval.gateway import answers, mirroring, protocol
from approval.gateway.protocol import (
    CAPABILITIES_KEY,
    CLIENT_KEY,
    INTERNAL_ERROR,
    LEGACY_VERSIONS,
    METHOD_NOT_FOUND,
    MODERN_VERSIONS,
    VERSION_KEY,
    Message,
)
from approval.gateway.sse import Reader
from approval.gateway.upstream import (
    JSON_TYPE,
    MAX_ANSWER,
    STREAM_TYPE,
    Conversation,
    Reply,
    Sent,
    Upstream,
)

log = logging.getLogger(__name__)

PassOn = Callable[[bytes, dict[str, object]], Awaitable[bool]]
"""Hands on what the upstream says before its answer; False when nobody is there to hear it."""

MAX_PAGES = 100

LIST_SECONDS = 10.0
"""How long an upstream may take at most to list its tools before a call that waits for that."""

CLIENT: JSON = {"name": "approval", "version": "1"}

REFUSED_UNREAD = frozenset({400, 401, 403, 404, 405, 406, 411, 413, 414, 415, 421, 426, 429, 431})
"""HTTP statuses that say: not taken, for what it is or who asks. A server that has acted answers
otherwise. 408, 409 and the 5xx say no such thing, and neither does a redirect other than 307 or
308: a form that was processed answers 302."""

_NOT_FOLLOWED = frozenset({307, 308})

_KEPT_META = frozenset({"progressToken", "traceparent", "tracestate", "baggage"})
_SPEC_META = "io.modelcontextprotocol/"


def as_approved(call: Call, message: Message, request_id: str | int) -> Message:
    """Make the request that runs this call for an agent whose own request is `message`.

    Name and arguments are the approved ones. Of `_meta` only what the protocol and tracing need is
    kept: a server may read anything else in it as well, and nobody was shown that.
    """
    meta = message.params.get("_meta")
    kept: dict[str, JSON] = {}
    if isinstance(meta, dict):
        kept = {
            name: value
            for name, value in meta.items()
            if name in _KEPT_META or name.startswith(_SPEC_META)
        }
    return _request(request_id, call, kept)


async def send(
    far: Conversation, sent: Sent, pass_on: PassOn | None = None, *, modern: bool
) -> Answer:
    """Send a claimed call and wait for its answer: a `ports.Send` once it is bound to a line.

    Raises:
        NeverSent: If it provably did not leave.
        AnswerLost: If it may have, and nothing readable came back.
    """
    async with await far.post(sent) as reply:
        if reply.status != 200:
            return _refused(reply, sent, modern=modern)
        if reply.content_type == JSON_TYPE:
            return _answer(reply.body, sent, modern=modern)
        if reply.chunks is None or reply.content_type != STREAM_TYPE:
            raise AnswerLost(f"the upstream answered with {reply.content_type or 'nothing'}")
        async for data, message in _messages(reply.chunks):
            if "method" not in message:
                return _answer(data, sent, modern=modern)
            heard = pass_on is not None and await pass_on(data, message)
            if not heard and "id" in message:
                await _decline(far, sent, message)
    raise AnswerLost("the upstream ended the stream before it answered")


async def send_detached(upstream: Upstream, call: Call, *, within: timedelta) -> Answer:
    """Run an approved call that no agent waits for, in an upstream session of its own.

    `within` is the time that its caller gives it.
    """
    version = call.asked.protocol_version or LEGACY_VERSIONS[-1]
    modern = version in MODERN_VERSIONS
    meta: dict[str, JSON] = _envelope(version) if modern else {}
    message = _request(1, call, meta)
    async with fresh(upstream, version) as (far, agreed):
        sent = Sent(
            message=message,
            version=agreed,
            arguments=call.asked.arguments,
            received=await repeated(far, call, agreed, within=within),
            careful=True,
        )
        return await send(far, sent, modern=modern)


async def repeated(
    far: Conversation, call: Call, version: str, *, within: timedelta
) -> MultiMapping[str] | None:
    """Write the headers in which the call's tool wants arguments repeated, as it is listed now.

    Its agent may have sent them with its own request, which nobody kept. `within` is the time for
    the list and the call together: where it runs out over the list, the call has not left.

    Raises:
        NeverSent: If the upstream's list of tools cannot be had.
    """
    if version not in MODERN_VERSIONS or not far.has_headers:
        return None
    arguments = canonical.read(call.asked.arguments)
    if not arguments:
        return None
    try:
        async with asyncio.timeout(min(LIST_SECONDS, within.total_seconds() / 2)):
            schema = await _schema(far, call.asked.tool, version)
    except (AnswerLost, Unreadable, TimeoutError) as error:
        why = str(error) or "it did not answer in time"
        raise NeverSent(f"the upstream did not say what headers it wants: {why}") from error
    return mirroring.mirrored(schema, arguments)


async def _schema(far: Conversation, tool: str, version: str) -> JSON:
    async with aclosing(_listed(far, version)) as pages:
        async for page in pages:
            for each in page:
                if each.get("name") == tool:
                    return each.get("inputSchema")
    return None


async def list_tools(upstream: Upstream) -> list[dict[str, JSON]]:
    """Ask an upstream for all its tools, in a session of its own.

    Raises:
        NeverSent: If it cannot be reached or serves no version that we know.
        AnswerLost: If it answers in no readable way.
    """
    try:
        return await _list_tools(upstream, LEGACY_VERSIONS[-1])
    except NeverSent:
        # A server of the newer protocol alone refuses `initialize` in ways of its own.
        return await _list_tools(upstream, MODERN_VERSIONS[-1])


async def _list_tools(upstream: Upstream, version: str) -> list[dict[str, JSON]]:
    async with fresh(upstream, version) as (far, agreed), aclosing(_listed(far, agreed)) as pages:
        return [tool async for page in pages for tool in page]


async def _listed(far: Conversation, version: str) -> AsyncGenerator[list[dict[str, JSON]], None]:
    """Give the upstream's list of tools, page by page."""
    params: dict[str, JSON] = {"_meta": _envelope(version)} if version in MODERN_VERSIONS else {}
    for page in range(MAX_PAGES):
        result = await _ask(far, "tools/list", params, version=version, request_id=page + 1)
        listed = result.get("tools")
        if not isinstance(listed, list):
            raise AnswerLost("the upstream's answer to tools/list holds no list of tools")
        yield [tool for tool in listed if isinstance(tool, dict)]
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str):
            return
        params = params | {"cursor": cursor}
    raise AnswerLost(f"the upstream lists its tools on more than {MAX_PAGES} pages")


@asynccontextmanager
async def fresh(upstream: Upstream, version: str) -> AsyncIterator[tuple[Conversation, str]]:
    """Open a session without any client capability, and end it afterwards.

    Raises:
        NeverSent: If it does not come about.
    """
    if version in MODERN_VERSIONS:
        yield upstream.shared(), version
        return
    far = upstream.begin()
    try:
        try:
            agreed = await _shake_hands(far, version)
        except AnswerLost as lost:
            # Whatever was lost was not the call: that has not been sent yet.
            raise NeverSent(f"no session came about: {lost}") from lost
        yield far, agreed
    finally:
        await far.end()


async def _shake_hands(far: Conversation, version: str) -> str:
    params: dict[str, JSON] = {
        "protocolVersion": version,
        "capabilities": {},
        "clientInfo": CLIENT,
    }
    result = await _ask(far, "initialize", params, version="", request_id=0)
    agreed = result.get("protocolVersion")
    if not isinstance(agreed, str) or agreed not in LEGACY_VERSIONS:
        raise NeverSent("the upstream answered initialize with a version that is not known")
    note = protocol.message({"jsonrpc": "2.0", "method": "notifications/initialized"})
    async with await far.post(Sent(message=note, version=agreed)):
        return agreed


async def _ask(
    far: Conversation, method: str, params: dict[str, JSON], *, version: str, request_id: int
) -> dict[str, JSON]:
    """Ask the upstream something for ourselves."""
    raw: JSON = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    sent = Sent(message=protocol.message(raw), version=version, careful=True)
    answer = await send(far, sent, modern=version in MODERN_VERSIONS)
    body = canonical.read(answer.body, limit=MAX_ANSWER + 64)
    result = body.get("result") if isinstance(body, dict) else None
    if not isinstance(result, dict):
        shown = canonical.quoted(answer.body.decode(errors="replace"), 300)
        raise NeverSent(f"the upstream refused {method}: {shown}")
    return result


async def _messages(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[bytes, dict[str, object]]]:
    reader = Reader()
    async for chunk in chunks:
        try:
            events = reader.feed(chunk)
        except Unreadable as error:
            raise AnswerLost(f"the upstream's stream is unreadable: {error}") from error
        for event in events:
            message = _object(event.data) if event.data else None
            if event.data and message is not None:
                yield event.data, message


def _object(data: bytes) -> dict[str, object] | None:
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return message if isinstance(message, dict) else None


def _answer(data: bytes, sent: Sent, *, modern: bool) -> Answer:
    """Read the answer to this very request; another one's is none."""
    try:
        response = canonical.read(data, limit=MAX_ANSWER)
        if not isinstance(response, dict):
            raise AnswerLost("the upstream's answer is no message")
        name = response.get("id")
        if name != sent.message.id or isinstance(name, bool):
            raise AnswerLost("the upstream answered another request than the one it was sent")
        return answers.classify(response, modern=modern)
    except Unreadable as error:
        raise AnswerLost(f"the upstream's answer is unreadable: {error}") from error


def _refused(reply: Reply, sent: Sent, *, modern: bool) -> Answer:
    """Read an answer that is an HTTP refusal: an error of the protocol, or the status alone."""
    if reply.status in {401, 403}:
        log.error("an upstream refuses its credentials", extra={"status": reply.status})
    message = _object(reply.body)
    if message is not None and "error" in message and message.get("id") == sent.message.id:
        return _answer(reply.body, sent, modern=modern)
    if reply.status not in REFUSED_UNREAD | _NOT_FOLLOWED:
        raise AnswerLost(f"the upstream answered with HTTP status {reply.status}")
    text = f"The upstream refused the call with HTTP status {reply.status}."
    error: JSON = {"code": INTERNAL_ERROR, "message": text}
    return Answer(status=Status.FAILED, body=canonical.write({"error": error}))


async def _decline(far: Conversation, sent: Sent, request: dict[str, object]) -> None:
    """Tell the upstream that there is nobody whom it could ask."""
    name = request.get("id")
    if isinstance(name, bool) or not isinstance(name, str | int):
        return
    error: JSON = {"code": METHOD_NOT_FOUND, "message": "no client is there to be asked"}
    message = protocol.message({"jsonrpc": "2.0", "id": name, "error": error})
    try:
        async with await far.post(Sent(message=message, version=sent.version)):
            pass
    except (NeverSent, AnswerLost):
        log.debug("an upstream's request could not be declined")


def _request(request_id: str | int, call: Call, meta: dict[str, JSON]) -> Message:
    params: dict[str, JSON] = {"name": call.asked.tool}
    if meta:
        params["_meta"] = meta
    raw: JSON = {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}
    return protocol.message(raw)


def _envelope(version: str) -> dict[str, JSON]:
    return {VERSION_KEY: version, CAPABILITIES_KEY: {}, CLIENT_KEY: CLIENT}
