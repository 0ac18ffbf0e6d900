"""Upstreams over Streamable HTTP: one client each, for the life of the process.

A client for every call would cost a TLS context each time, thirty times all other work together.
Credentials are this upstream's own; nothing of the agent's goes on, and redirects are not followed:
a call must not be carried to where nobody decided to send it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Self

from approval.errors import AnswerLost, NeverSent
from approval.gateway import headers
from approval.gateway.client import HttpClient
from approval.gateway.connection import Response
from approval.gateway.protocol import MODERN_VERSIONS, Kind
from approval.gateway.settings import UpstreamSettings
from approval.gateway.upstream import MAX_ANSWER, STREAM_TYPE, Conversation, Reply, Sent

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
END_SECONDS = 5.0


class HttpUpstream:
    """A server at an address."""

    def __init__(self, name: str, settings: UpstreamSettings) -> None:
        self._name = name
        own = {key: secret.get_secret_value() for key, secret in settings.headers.items()}
        own |= {"Accept-Encoding": "identity", "User-Agent": "approval"}
        self._client = HttpClient(settings.url, connect_timeout=CONNECT_SECONDS, headers=own)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.__aexit__(*exc)

    def begin(self) -> Conversation:
        return HttpConversation(self)

    def shared(self) -> Conversation:
        return HttpConversation(self)

    async def request(
        self, method: str, sent: dict[str, str], body: bytes | None = None, *, careful: bool = False
    ) -> tuple[Reply, str]:
        """Make one request, and answer with the session id that came back beside it.

        Raises:
            NeverSent: If no connection came about.
            AnswerLost: If one did, and then no whole answer.
        """
        try:
            response = await self._client.request(method, sent, body, fresh=careful)
        except NeverSent as error:
            raise NeverSent(f'the upstream "{self._name}" cannot be reached: {error}') from error
        except AnswerLost as error:
            raise self._lost(error) from error
        session_id = response.headers.get(headers.SESSION, "")
        try:
            return await self._reply(response), session_id
        except BaseException:
            response.close()
            raise

    async def _reply(self, response: Response) -> Reply:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == STREAM_TYPE:

            async def close() -> None:
                response.close()

            chunks = self._chunks(response)
            return Reply(status=response.status, content_type=kind, chunks=chunks, close=close)
        try:
            body = await response.read(MAX_ANSWER)
        except AnswerLost as error:
            raise self._lost(error) from error
        return Reply(status=response.status, content_type=kind, body=body)

    async def _chunks(self, response: Response) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.chunks():
                yield chunk
        except AnswerLost as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> AnswerLost:
        return AnswerLost(
            f'the connection to "{self._name}" broke before its answer was whole: {error}'
        )


class HttpConversation:
    """One agent's session with the server, or none where the server keeps none.

    The server's session id never leaves this object: agents are given ids of ours.
    """

    def __init__(self, upstream: HttpUpstream) -> None:
        self._upstream = upstream
        self._session_id = ""
        self._version = ""
        self._over = False

    @property
    def established(self) -> bool:
        return bool(self._session_id)

    @property
    def over(self) -> bool:
        return self._over

    @property
    def has_headers(self) -> bool:
        return True

    async def post(self, sent: Sent) -> Reply:
        modern = sent.version in MODERN_VERSIONS
        built = headers.upstream_headers(
            sent.message,
            version=sent.version,
            session_id="" if modern else self._session_id,
            received=sent.received,
        )
        reply, session_id = await self._upstream.request(
            "POST", built, sent.write(), careful=sent.careful
        )
        if sent.message.method == "initialize" and reply.status == 200:
            self._session_id = session_id
        if sent.message.kind is not Kind.RESPONSE and not modern:
            self._version = sent.version
            self._over = self._over or (reply.status == 404 and self.established)
        return reply

    async def listen(self, last_event_id: str) -> Reply:
        built = headers.upstream_headers(
            None,
            version=self._version,
            session_id=self._session_id,
            last_event_id=last_event_id,
        )
        return (await self._upstream.request("GET", built))[0]

    async def end(self) -> int:
        if not self.established or self._over:
            return 200
        self._over = True
        built = headers.upstream_headers(None, version=self._version, session_id=self._session_id)
        with suppress(NeverSent, AnswerLost, TimeoutError):
            reply = await self._ended(built)
            # A server that ends no sessions says 405, and the agent may know.
            return reply.status if reply.status in {200, 202, 204, 405} else 200
        log.debug("an upstream's session could not be ended")
        return 200

    async def _ended(self, built: dict[str, str]) -> Reply:
        async with asyncio.timeout(END_SECONDS):
            return (await self._upstream.request("DELETE", built))[0]
