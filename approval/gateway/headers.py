"""HTTP headers of the agent's side and towards the upstream: what must agree, what goes on. Pure.

Headers that repeat what the body says are for machines that route without reading bodies; whoever
can make the two differ can have one call judged and another one run. So they are compared here,
and those sent upstream are built from the body. Nothing else of the agent's headers goes on.
"""

import base64
import binascii
import re
from functools import lru_cache

from multidict import MultiMapping

from approval.core.canonical import quoted
from approval.gateway.protocol import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LEGACY_VERSIONS,
    MODERN_VERSIONS,
    UNSUPPORTED_VERSION,
    VERSION_KEY,
    BadMessage,
    Kind,
    Message,
    is_known,
)

VERSION = "MCP-Protocol-Version"
METHOD = "Mcp-Method"
NAME = "Mcp-Name"
SESSION = "Mcp-Session-Id"
LAST_EVENT = "Last-Event-ID"
PARAM_PREFIX = "mcp-param-"

_ROUTING = frozenset(name.lower() for name in (VERSION, METHOD, NAME))
_ONCE = _ROUTING | {
    *("authorization", "content-encoding", "content-length", "content-type", "host"),
    *("last-event-id", "mcp-session-id", "origin"),
}
# ASCII: without it the long s (U+017F) counts as an s, and "application/json" has a look-alike.
_CONTENT_TYPE = re.compile(
    r"application/json(?:[ \t]*;[ \t]*charset=(?:utf-8|\"utf-8\"))?", re.IGNORECASE | re.ASCII
)
_VALUE = re.compile(r"[\x20-\x7e]*")
_SESSION_ID = re.compile(r"[\x21-\x7e]{1,1024}")
_PARAM_NAME = re.compile(r"mcp-param-[!#$%&'*+.^`|~0-9a-z-]{1,128}")
_BASE64 = re.compile(r"=\?base64\?(.*)\?=")


def check_any(headers: MultiMapping[str]) -> None:
    """Check what holds for every request: no twins, no repeats, no odd values of our own headers.

    Raises:
        BadMessage: If one reader could take them otherwise than the next.
    """
    seen = set()
    for name, value in headers.items():
        lower = name.lower()
        # `X_Auth_User` and `X-Auth-User` are one variable to servers that speak CGI.
        if "_" in lower:
            raise _refused("header_name", f'the header name "{quoted(name)}" has an underscore')
        if lower in seen and (lower in _ONCE or lower.startswith(PARAM_PREFIX)):
            code = HEADER_MISMATCH if lower.startswith("mcp-") else INVALID_REQUEST
            raise _refused("header_repeated", f'the header "{quoted(name)}" is repeated', code)
        seen.add(lower)
        if lower.startswith("mcp-") or lower == "last-event-id":
            _check_own(lower, name, value)


def check_body_headers(headers: MultiMapping[str]) -> None:
    """Check, before a POST's body is read, that it is plain JSON and how it may be answered.

    Raises:
        BadMessage: With status 415 or 406.
    """
    if not _CONTENT_TYPE.fullmatch(headers.get("Content-Type", "").strip(" \t")):
        raise _refused("media_type", 'Content-Type must be exactly "application/json"', status=415)
    if headers.get("Content-Encoding", "identity").strip(" \t").lower() != "identity":
        raise _refused("content_coding", "the body must not be compressed", status=415)
    if not _accepts_both(",".join(headers.getall("Accept", []))):
        raise _refused(
            "not_acceptable",
            "Accept must name both application/json and text/event-stream",
            status=406,
        )


def check_post(headers: MultiMapping[str], message: Message) -> str:
    """Check that the headers of a POST say what its body says.

    Returns:
        The protocol version in force, or `""`: legacy, and the session knows which.

    Raises:
        BadMessage: If they differ, or the version is not one we speak.
    """
    try:
        if message.modern or headers.get(VERSION, "") in MODERN_VERSIONS:
            return _check_modern(headers, message)
        return _check_legacy(headers, message)
    except BadMessage as bad:
        raise bad.about(None if message.kind is Kind.RESPONSE else message.id) from None


def upstream_headers(
    message: Message | None,
    *,
    version: str = "",
    session_id: str = "",
    last_event_id: str = "",
    received: MultiMapping[str] | None = None,
) -> dict[str, str]:
    """Build the headers of a request to an upstream; `message` is None for a GET or DELETE.

    Of what the agent sent (`received`) only `Mcp-Param-*` go on: an intermediary must hand on
    those it does not know.
    """
    built = {"Accept": "text/event-stream"}
    if message is not None:
        built = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        }
    optional = {VERSION: version, SESSION: session_id, LAST_EVENT: last_event_id}
    built |= {name: value for name, value in optional.items() if value}
    if message is not None and version in MODERN_VERSIONS:
        built |= _routing(message, received)
    return built


def encode_value(text: str) -> str:
    """Write a text as a header value: as it is where every reader keeps it, in base64 otherwise."""
    if _VALUE.fullmatch(text) and text == text.strip() and not _BASE64.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def decode_value(value: str) -> str | None:
    """Read what `encode_value` wrote; None for a base64 form that is not exactly one of its own."""
    coded = _BASE64.fullmatch(value)
    if coded is None:
        return value
    try:
        text = base64.b64decode(coded[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    # Loose trailing bits would be a second spelling of the same text.
    return text if base64.b64encode(text.encode()).decode() == coded[1] else None


def _check_own(lower: str, name: str, value: str) -> None:
    form = _SESSION_ID if lower == "mcp-session-id" else _VALUE
    odd_name = lower.startswith(PARAM_PREFIX) and not _PARAM_NAME.fullmatch(lower)
    if odd_name or not form.fullmatch(value):
        raise _refused(
            "header_value",
            f'the header "{quoted(name)}" must be visible ASCII; other text is written'
            ' in the form "=?base64?…?="',
            HEADER_MISMATCH,
        )


@lru_cache(maxsize=256)
def _accepts_both(accept: str) -> bool:
    """Say whether an answer may come as JSON and as a stream. Agents say the same every time."""
    ranges = set()
    for each in accept.lower().split(","):
        media, _, parameters = each.partition(";")
        if not re.search(r"(?:^|;)\s*q=0(?:\.0*)?\s*(?:;|$)", parameters):
            ranges.add(media.strip(" \t"))
    return not (
        ranges.isdisjoint({"application/json", "application/*", "*/*"})
        or ranges.isdisjoint({"text/event-stream", "text/*", "*/*"})
    )


def _check_modern(headers: MultiMapping[str], message: Message) -> str:
    version = headers.get(VERSION)
    if message.kind is Kind.RESPONSE:
        raise _refused(
            "response", "from 2026-07-28 on a client answers in a request, not in a response"
        )
    if message.kind is Kind.NOTIFICATION:
        # That revision says nothing of a notification's envelope: the header is enough.
        _check_agreement(VERSION, version, message.protocol_version or version)
        _check_present(headers, message, version or "")
    else:
        _check_modern_request(headers, message)
    return _supported(message.protocol_version or version or "")


def _check_modern_request(headers: MultiMapping[str], message: Message) -> None:
    version = headers.get(VERSION)
    if message.protocol_version is None:
        raise _refused(
            "envelope",
            f'{VERSION} is {version}, so "params._meta[{VERSION_KEY}]" must be given',
            INVALID_PARAMS,
        )
    _check_agreement(VERSION, version, message.protocol_version)
    _check_agreement(METHOD, headers.get(METHOD), message.method)
    _check_name(headers.get(NAME), message, version or "", required=True)


def _check_legacy(headers: MultiMapping[str], message: Message) -> str:
    version = headers.get(VERSION, "")
    if version and version not in LEGACY_VERSIONS:
        raise _refused(
            "version",
            f'{VERSION} "{quoted(version)}" is not a version that goes without an envelope;'
            f" those are {', '.join(LEGACY_VERSIONS)}",
            INVALID_PARAMS,
        )
    _check_present(headers, message, version)
    return version


def _check_present(headers: MultiMapping[str], message: Message, version: str) -> None:
    """Compare routing headers where they need not be, but must not lie."""
    if METHOD in headers:
        _check_agreement(METHOD, headers[METHOD], message.method)
    _check_name(headers.get(NAME), message, version, required=False)


def _check_name(value: str | None, message: Message, version: str, *, required: bool) -> None:
    if message.subject is not None and (required or value is not None):
        given = None if value is None else decode_value(value)
        _check_agreement(NAME, given, message.subject)
    # A method that only the operator knows may be about something that only its upstream knows.
    if message.subject is None and value is not None and is_known(message, version):
        raise _refused(
            "header_mismatch", f"{NAME} must be left out: the body names nothing", HEADER_MISMATCH
        )


def _check_agreement(header: str, value: str | None, body: str | None) -> None:
    if value is None or value != body:
        said = "is missing or unreadable" if value is None else f'is "{quoted(value)}"'
        wanted = "" if body is None else f', which says "{quoted(body)}"'
        raise _refused(
            "header_mismatch", f"{header} {said}; it must repeat the body{wanted}", HEADER_MISMATCH
        )


def _supported(version: str) -> str:
    if version not in MODERN_VERSIONS:
        raise BadMessage(
            "version",
            f'the protocol version "{quoted(version)}" is not supported',
            code=UNSUPPORTED_VERSION,
            data={"supported": [*MODERN_VERSIONS], "requested": version},
        )
    return version


def _routing(message: Message, received: MultiMapping[str] | None) -> dict[str, str]:
    routing = {METHOD: message.method} if message.method else {}
    if message.subject is not None:
        routing[NAME] = encode_value(message.subject)
    if received is not None:
        routing |= {
            name: value for name, value in received.items() if name.lower().startswith(PARAM_PREFIX)
        }
    return routing


def _refused(
    reason: str, text: str, code: int = INVALID_REQUEST, *, status: int = 400
) -> BadMessage:
    return BadMessage(reason, text, code=code, status=status)
