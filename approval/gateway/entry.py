"""What every request to the gateway must pass before it is read as a message. No network here.

Web pages can send requests to a local service, so `Host` and `Origin` are checked even with a valid
token. A token counts in the `Authorization` header alone: addresses end up in logs.
"""

import asyncio
import re
from typing import Final

from aiohttp import web

from approval.gateway import headers
from approval.gateway.protocol import INVALID_REQUEST, BadMessage
from approval.gateway.settings import GatewaySettings

NAMED: Final = {"Server": "approval"}
"""What every answer bears: aiohttp would tell its version, and Python's, to whoever asks."""

_BEARER = re.compile(r"bearer +([\x21-\x7e]{1,512})", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://([^/@?#\s]+)")

EXTRA_HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    405: {"Allow": "POST, GET, DELETE"},
    429: {"Retry-After": "5"},
}
"""What a status must or should bring along."""


def check(request: web.Request, settings: GatewaySettings) -> None:
    """Check where a request says it goes and comes from.

    Raises:
        BadMessage: With the HTTP status that says what is wrong.
    """
    headers.check_any(request.headers)
    host = request.headers.get("Host", "").lower()
    if not _is_among(host, settings.allowed_hosts):
        raise refusal(
            421,
            "host",
            "the Host of this request is not one that is served here; the operator may add it to"
            " allowed_hosts",
        )
    origin = request.headers.get("Origin")
    if origin is not None and not _is_allowed(origin.lower(), settings):
        raise refusal(
            403,
            "origin",
            "web pages of this Origin may not ask here; the operator may add it to allowed_origins",
        )


def _is_allowed(origin: str, settings: GatewaySettings) -> bool:
    if origin in settings.allowed_origins:
        return True
    page = _ORIGIN.fullmatch(origin)
    return page is not None and _is_among(page[1], settings.allowed_hosts)


def _is_among(host: str, allowed: tuple[str, ...]) -> bool:
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        return host in allowed or name in allowed
    return host in allowed


def bearer(request: web.Request) -> str:
    """Give the token that the request bears.

    Raises:
        BadMessage: If it bears none in a form that is known.
    """
    found = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    if found is None:
        raise refusal(401, "no_token", 'an agent\'s token is needed: "Authorization: Bearer …"')
    return found[1]


async def body(request: web.Request, settings: GatewaySettings) -> bytes:
    """Read the body whole, within its limits of size and time.

    Raises:
        BadMessage: If it is too long, or comes too slowly.
    """
    limit = settings.max_body
    if (request.content_length or 0) > limit:
        raise _too_long(limit)
    if request.content.is_eof():
        whole = request.content.read_nowait(-1)  # came with its headers: no need for a timer
    else:
        try:
            async with asyncio.timeout(settings.body_timeout.total_seconds()):
                whole = await _read(request, limit)
        except TimeoutError:
            raise refusal(408, "slow_body", "the body took too long to arrive") from None
    if len(whole) > limit:
        raise _too_long(limit)
    return whole


async def _read(request: web.Request, limit: int) -> bytes:
    whole = bytearray()
    async for chunk in request.content.iter_any():
        whole += chunk
        if len(whole) > limit:
            break
    return bytes(whole)


def refusal(status: int, reason: str, text: str) -> BadMessage:
    return BadMessage(reason, text, code=INVALID_REQUEST, status=status)


def _too_long(limit: int) -> BadMessage:
    return refusal(413, "too_large", f"a body may have {limit} bytes at most")
