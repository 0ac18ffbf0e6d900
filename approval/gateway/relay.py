"""Handing an upstream's answer on to the agent: whole bodies as they are, streams as they come."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

import orjson
from aiohttp import web

from approval.core import canonical
from approval.core.canonical import JSON
from approval.errors import AnswerLost, Unreadable
from approval.gateway import protocol, sse
from approval.gateway.entry import NAMED
from approval.gateway.protocol import INTERNAL_ERROR, Kind, Message
from approval.gateway.upstream import JSON_TYPE, MAX_ANSWER, Reply
from approval.gateway.waiting import STREAM_HEADERS
from approval.gateway.whole import HEADERS, Whole

log = logging.getLogger(__name__)

Watch = Callable[[dict[str, object]], None]
"""Looks at the answer before the agent has it."""

Edit = Callable[[dict[str, JSON]], dict[str, JSON]]
"""Makes another result of the upstream's."""

PLAIN_TYPE = "text/plain"
BAD_GATEWAY = 502


def plain(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with a JSON body."""
    if status == 200 and not headers:
        return Whole(body)
    return web.Response(body=body, status=status, headers={**HEADERS, **(headers or {})})


def failure(message: Message | None, text: str, status: int = BAD_GATEWAY) -> web.Response:
    """Answer that the upstream could not be asked, or did not answer."""
    name = None if message is None or message.kind is not Kind.REQUEST else message.id
    return plain(protocol.error_body(name, INTERNAL_ERROR, text), status)


async def relay(
    request: web.Request,
    message: Message,
    reply: Reply,
    *,
    headers: Mapping[str, str] | None = None,
    watch: Watch | None = None,
    edit: Edit | None = None,
) -> web.StreamResponse:
    """Hand on the answer to one request.

    Raises:
        AnswerLost: If it is none to this request; nothing has been sent to the agent then.
    """
    async with reply:
        if reply.chunks is not None:
            stream = _Stream(request, message, watch, edit)
            return await stream.run(reply, headers or {})
        reply = fit(reply, message)
        body = reply.body
        if message.kind is Kind.REQUEST and reply.status == 200:
            body = _checked(body, message, watch, edit)
        if not body:
            return web.Response(status=reply.status, headers={**NAMED, **(headers or {})})
        kind = {"Content-Type": reply.content_type} if reply.content_type != JSON_TYPE else {}
        return plain(body, reply.status, {**(headers or {}), **kind})


def fit(reply: Reply, message: Message) -> Reply:
    """Keep what an agent must not be given: pages, redirects, and quarrels about credentials."""
    if reply.status in {401, 403}:
        # An agent that is told 401 would begin to sign in, and at the wrong place.
        log.error("an upstream refuses its credentials", extra={"status": reply.status})
        text = (
            "The upstream refused the gateway's own credentials"
            f" (HTTP status {reply.status}). Its operator must set them anew."
        )
        return _instead(message, BAD_GATEWAY, text)
    if not 300 <= reply.status < 400 and _is_fit(reply):
        return reply
    status = reply.status if 400 <= reply.status < 500 else BAD_GATEWAY
    return _instead(message, status, f"The upstream answered with HTTP status {reply.status}.")


def _is_fit(reply: Reply) -> bool:
    if reply.content_type == PLAIN_TYPE:
        return 400 <= reply.status < 500
    return not reply.body or reply.content_type == JSON_TYPE


def _instead(message: Message, status: int, text: str) -> Reply:
    name = message.id if message.kind is Kind.REQUEST else None
    body = protocol.error_body(name, INTERNAL_ERROR, text)
    return Reply(status=status, content_type=JSON_TYPE, body=body)


def _checked(body: bytes, message: Message, watch: Watch | None, edit: Edit | None) -> bytes:
    answer = _object(body)
    if answer is None or not _answers(answer, message):
        raise AnswerLost("the upstream answered something else than it was asked")
    if watch is not None:
        watch(answer)
    return _edited(body, edit) if edit is not None and "result" in answer else body


def _edited(body: bytes, edit: Edit) -> bytes:
    """Edit the result in an answer whose numbers and order stay as they came."""
    try:
        answer = canonical.read(body, limit=MAX_ANSWER)
    except Unreadable as error:
        raise AnswerLost(f"the upstream's answer is unreadable: {error}") from error
    result = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(result, dict):
        return body
    edited = edit(result)
    return body if edited is result else canonical.write({**answer, "result": edited})


class _Stream:
    """An upstream's event stream on its way to an agent."""

    def __init__(
        self, request: web.Request, message: Message, watch: Watch | None, edit: Edit | None
    ) -> None:
        self._request = request
        self._message = message
        self._watch = watch
        self._edit = edit
        self._reader = sse.Reader()
        self._answered = message.kind is not Kind.REQUEST
        self._resumable = False

    async def run(self, reply: Reply, headers: Mapping[str, str]) -> web.StreamResponse:
        response = web.StreamResponse(status=reply.status, headers={**STREAM_HEADERS, **headers})
        await response.prepare(self._request)
        try:
            if reply.chunks is not None:
                async for chunk in reply.chunks:
                    if passed := self._pass(chunk):
                        await response.write(passed)
        except (AnswerLost, Unreadable) as error:
            log.debug("an upstream's stream broke off: %s", error)
        if not self._answered and not self._resumable:
            # Without this a client that cannot resume the stream would wait for ever.
            text = "The upstream's answer was lost: what it did is not known."
            body = protocol.error_body(self._message.id, INTERNAL_ERROR, text)
            await response.write(sse.write_event(sse.Event(event="message", data=body)))
        await response.write_eof()
        return response

    def _pass(self, chunk: bytes) -> bytes:
        events = self._reader.feed(chunk)
        if self._edit is not None:
            chunk = b"".join(sse.write_event(self._changed(event)) for event in events)
        for event in events:
            self._look(event)
        return chunk

    def _look(self, event: sse.Event) -> None:
        if event.id and not self._message.modern:
            self._resumable = True
        if self._answered or not event.data or not (answer := _object(event.data)):
            return
        if "method" not in answer and _answers(answer, self._message):
            self._answered = True
            if self._watch is not None:
                self._watch(answer)

    def _changed(self, event: sse.Event) -> sse.Event:
        if self._edit is None or not event.data or b'"result"' not in event.data:
            return event
        answer = _object(event.data)
        if answer is None or "method" in answer or "result" not in answer:
            return event
        return replace(event, data=_edited(event.data, self._edit))


def _object(body: bytes) -> dict[str, object] | None:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _answers(answer: dict[str, object], message: Message) -> bool:
    name = answer.get("id")
    return name == message.id and type(name) is type(message.id)
