"""JSON-RPC and MCP messages of both protocol eras, read strictly into values. Pure.

A message whose members two readers could take differently is refused here, whatever its upstream
would do with it: an SDK in the field once matched `Method`, and a name with a NUL behind it, so
that gateways judged another call than the one that ran. Hence exact names only, and near-twins of
names that decide anything are refused, not ignored. What is forwarded is the object that was read,
never the bytes.
"""

import enum
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from approval.core import canonical
from approval.core.canonical import JSON, MAX_SAFE_INTEGER, quoted
from approval.errors import Unreadable

LEGACY_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions entered by `initialize`, with sessions."""

MODERN_VERSIONS = ("2026-07-28",)
"""Revisions where every request carries its own envelope in `params._meta`."""

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
CLIENT_KEY = "io.modelcontextprotocol/clientInfo"
SEPARATE_KEY = "dev.approval/key"
"""The agent's own word in `_meta` that makes two equal calls two calls."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022

MAX_NAME = 128
MAX_ID = 1024
MAX_KEY = 200


class BadMessage(Unreadable):
    """A message that is answered with a JSON-RPC error and goes nowhere."""

    def __init__(
        self, reason: str, text: str, *, code: int, status: int = 400, data: JSON = None
    ) -> None:
        super().__init__(reason, text)
        self.code = code
        self.status = status
        self.data = data
        self.id: str | int | None = None

    def about(self, request_id: str | int | None) -> Self:
        """Say which request it answers, so that its sender can tell."""
        self.id = request_id
        return self

    def body(self) -> bytes:
        return error_body(self.id, self.code, str(self), self.data)


class Kind(enum.StrEnum):
    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of an agent. `raw` is the whole object as read, which is what is forwarded.

    `protocol_version` is the envelope's: None on the legacy wire. Client name and capabilities are
    the client's own word, from the modern envelope or from `initialize`.
    """

    kind: Kind
    raw: dict[str, JSON]
    id: str | int | None = None
    method: str = ""
    params: dict[str, JSON] = field(default_factory=dict)
    protocol_version: str | None = None
    capabilities: dict[str, JSON] = field(default_factory=dict)
    client_name: str = ""
    progress_token: str | int | None = None

    @property
    def modern(self) -> bool:
        return self.protocol_version is not None

    @property
    def tool(self) -> str:
        name = self.params.get("name")
        return name if self.method == "tools/call" and isinstance(name, str) else ""

    @property
    def arguments(self) -> dict[str, JSON]:
        """The arguments of a `tools/call`; absent ones are the empty object (legal MCP)."""
        return _object(self.params.get("arguments"))

    @property
    def subject(self) -> str | None:
        """What the message is about, as the header `Mcp-Name` repeats it; None if nothing."""
        value = self.params.get(SUBJECTS.get(self.method, ""))
        return value if isinstance(value, str) else None

    @property
    def key(self) -> str:
        key = _object(self.params.get("_meta")).get(SEPARATE_KEY)
        return key if isinstance(key, str) else ""


SUBJECTS: Mapping[str, str] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/result": "taskId",
    "tasks/cancel": "taskId",
    "tasks/update": "taskId",
}
"""The parameter of a method that the header `Mcp-Name` repeats."""


def parse(body: bytes) -> Message:
    """Read one message from the body of a POST.

    Raises:
        BadMessage: If it is not one message that every reader reads alike.
    """
    try:
        raw = canonical.read(body)
    except Unreadable as error:
        raise BadMessage(error.reason, str(error), code=PARSE_ERROR) from error
    return message(raw)


def message(raw: JSON) -> Message:
    """Check an object that was already read and make a message of it.

    Raises:
        BadMessage: As for `parse`.
    """
    if isinstance(raw, list):
        raise _invalid("batch", "batches are not taken: send each message in a POST of its own")
    if not isinstance(raw, dict):
        raise _invalid("not_an_object", "a message is a JSON object")
    try:
        return _asked(raw) if "method" in raw else _answered(raw)
    except BadMessage as bad:
        raise bad.about(_readable_id(raw.get("id"))) from None


def is_known(message: Message, version: str) -> bool:
    """Say whether the revision has the message's method; `""` stands for any legacy revision.

    A response is known: whom it answers is the session's business.
    """
    table = REQUESTS if message.kind is Kind.REQUEST else NOTIFICATIONS
    return message.kind is Kind.RESPONSE or message.method in table.get(version, _NOTHING)


def error_body(request_id: str | int | None, code: int, text: str, data: JSON = None) -> bytes:
    error: dict[str, JSON] = {"code": code, "message": text}
    if data is not None:
        error["data"] = data
    return canonical.write({"jsonrpc": "2.0", "id": request_id, "error": error})


def result_body(request_id: str | int, result: dict[str, JSON]) -> bytes:
    return canonical.write({"jsonrpc": "2.0", "id": request_id, "result": result})


def http_status(code: int, *, modern: bool) -> int:
    """Give the HTTP status of an error that is answered alone; on the legacy wire most are 200."""
    if code in {PARSE_ERROR, INVALID_REQUEST}:
        return 400
    return _MODERN_STATUS.get(code, 200) if modern else 200


_MODERN_STATUS = {
    METHOD_NOT_FOUND: 404,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
}


# Which methods a client may use in which revision. Another one needs the operator's word.

_EVERY_ERA = frozenset(
    {
        "completion/complete",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/templates/list",
        "tools/call",
        "tools/list",
    }
)
_LEGACY = _EVERY_ERA | {
    "initialize",
    "logging/setLevel",
    "ping",
    "resources/subscribe",
    "resources/unsubscribe",
}
# Experimental in 2025-11-25, an extension since: the official tables have neither.
_LEGACY_TASKS = frozenset({"tasks/cancel", "tasks/get", "tasks/list", "tasks/result"})
_MODERN_TASKS = frozenset({"tasks/cancel", "tasks/get", "tasks/update"})

REQUESTS: Mapping[str, frozenset[str]] = {
    "": _LEGACY | _LEGACY_TASKS,
    "2024-11-05": _LEGACY,
    "2025-03-26": _LEGACY,
    "2025-06-18": _LEGACY,
    "2025-11-25": _LEGACY | _LEGACY_TASKS,
    "2026-07-28": _EVERY_ERA | _MODERN_TASKS | {"server/discover", "subscriptions/listen"},
}

_LEGACY_NOTIFICATIONS = frozenset(
    {
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/progress",
        "notifications/roots/list_changed",
    }
)
_TASK_STATUS = "notifications/tasks/status"

NOTIFICATIONS: Mapping[str, frozenset[str]] = {
    "": _LEGACY_NOTIFICATIONS | {_TASK_STATUS},
    "2024-11-05": _LEGACY_NOTIFICATIONS,
    "2025-03-26": _LEGACY_NOTIFICATIONS,
    "2025-06-18": _LEGACY_NOTIFICATIONS,
    "2025-11-25": _LEGACY_NOTIFICATIONS | {_TASK_STATUS},
    "2026-07-28": frozenset({"notifications/cancelled"}),
}

_NOTHING: frozenset[str] = frozenset()
_METHODS = _NOTHING.union(*REQUESTS.values(), *NOTIFICATIONS.values())
_FOLDED_METHODS = frozenset(method.lower() for method in _METHODS)
_METHOD = re.compile(r"[A-Za-z][A-Za-z0-9_.$-]*(?:/[A-Za-z0-9_.$-]+)*")


# Requests and notifications.


def _asked(raw: dict[str, JSON]) -> Message:
    _check_envelope(raw, _ASKING)
    method = _method(raw["method"])
    kind = _kind(raw, method)
    params = raw.get("params", {})
    if not isinstance(params, dict):
        raise _invalid("params", '"params" must be an object')
    _check_twins(params, _PARAMS, "params")
    meta = params.get("_meta", {})
    if not isinstance(meta, dict):
        raise _wrong("meta", '"params._meta" must be an object')
    _check_twins(meta, _META, "params._meta")
    _check_key(meta)
    _check_subject(method, params)
    version = _version(meta, kind)
    capabilities, client = _client(method, params, meta)
    return Message(
        kind=kind,
        raw=raw,
        id=_id(raw) if kind is Kind.REQUEST else None,
        method=method,
        params=params,
        protocol_version=version,
        capabilities=capabilities,
        client_name=client,
        progress_token=_progress_token(meta),
    )


def _check_envelope(raw: dict[str, JSON], allowed: frozenset[str]) -> None:
    _check_twins(raw, _ENVELOPE, "the message")
    if unknown := [name for name in raw if name not in allowed]:
        raise _invalid(
            "unknown_member", f'the message has a member "{quoted(unknown[0])}" it must not have'
        )
    if raw.get("jsonrpc") != "2.0":
        raise _invalid("jsonrpc", '"jsonrpc" must be exactly the text "2.0"')


def _method(method: JSON) -> str:
    if not isinstance(method, str) or len(method) > MAX_NAME or not _METHOD.fullmatch(method):
        raise _invalid("method", '"method" must be a plain ASCII method name such as "tools/call"')
    if method not in _METHODS and method.lower() in _FOLDED_METHODS:
        raise _invalid("method_twin", f'"{method}" is not a method, but looks like one')
    return method


def _kind(raw: dict[str, JSON], method: str) -> Kind:
    # A request without an id would act and never be answered; servers disagree on what it is.
    notification = method.startswith("notifications/")
    if notification and "id" in raw:
        raise _invalid("id_unexpected", f'the notification "{method}" must not have an "id"')
    if not notification and "id" not in raw:
        raise _invalid("id_missing", f'the request "{method}" must have an "id"')
    return Kind.NOTIFICATION if notification else Kind.REQUEST


def _id(raw: dict[str, JSON]) -> str | int:
    value = _readable_id(raw.get("id"))
    if value is None:
        raise _invalid(
            "id",
            f'"id" must be a text of at most {MAX_ID} characters or an integer within ±(2^53-1)',
        )
    return value


def _readable_id(value: JSON) -> str | int | None:
    match value:
        case str() if len(value) <= MAX_ID:
            return value
        case int() if not isinstance(value, bool) and abs(value) <= MAX_SAFE_INTEGER:
            return value
        case _:
            return None


def _check_subject(method: str, params: dict[str, JSON]) -> None:
    name = SUBJECTS.get(method, "")
    subject = params.get(name, "")
    if not isinstance(subject, str):
        raise _wrong("subject", f'"params.{name}" of {method} must be text')
    if method == "tools/call":
        _check_tool(subject)
        if not isinstance(params.get("arguments", {}), dict):
            raise _wrong("arguments", '"params.arguments" must be an object, or be left out')


def _check_tool(name: str) -> None:
    # A server that trims or drops invisible characters would run another tool than was judged.
    if not 1 <= len(name) <= MAX_NAME or name != name.strip() or not name.isprintable():
        raise _wrong(
            "tool_name",
            f'"params.name" must be 1 to {MAX_NAME} visible characters, without space around them',
        )


def _version(meta: dict[str, JSON], kind: Kind) -> str | None:
    if VERSION_KEY not in meta:
        return None
    version = meta[VERSION_KEY]
    if not isinstance(version, str):
        raise _wrong("version", f'"params._meta[{VERSION_KEY}]" must be text')
    if kind is Kind.REQUEST and not isinstance(meta.get(CAPABILITIES_KEY), dict):
        raise _wrong("capabilities", f'"params._meta[{CAPABILITIES_KEY}]" must be an object')
    return version


def _client(
    method: str, params: dict[str, JSON], meta: dict[str, JSON]
) -> tuple[dict[str, JSON], str]:
    """Find what the client says of itself. Nothing hangs on it but how long it is let wait."""
    if method == "initialize":
        capabilities, info = params.get("capabilities"), params.get("clientInfo")
    else:
        capabilities, info = meta.get(CAPABILITIES_KEY), meta.get(CLIENT_KEY)
    name = _object(info).get("name")
    return _object(capabilities), name if isinstance(name, str) else ""


def _progress_token(meta: dict[str, JSON]) -> str | int | None:
    token = _readable_id(meta.get("progressToken"))
    if token is None and "progressToken" in meta:
        raise _wrong("progress_token", '"params._meta.progressToken" must be a text or an integer')
    return token


def _check_key(meta: dict[str, JSON]) -> None:
    key = meta.get(SEPARATE_KEY, "none")
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY or not key.isprintable():
        raise _wrong(
            "key", f'"params._meta[{SEPARATE_KEY}]" must be 1 to {MAX_KEY} visible characters'
        )


# Responses: what a client answers to an upstream's own request.


def _answered(raw: dict[str, JSON]) -> Message:
    _check_envelope(raw, _ANSWERING)
    if ("result" in raw) == ("error" in raw):
        raise _invalid("response", 'a message has a "method", or else one of "result" and "error"')
    if "result" in raw and not isinstance(raw["result"], dict):
        raise _invalid("result", '"result" must be an object')
    if "error" in raw and not _is_error(raw["error"]):
        raise _invalid("error", '"error" must have an integer "code" and a text "message"')
    return Message(kind=Kind.RESPONSE, raw=raw, id=_id(raw))


def _is_error(error: JSON) -> bool:
    if not isinstance(error, dict):
        return False
    return type(error.get("code")) is int and isinstance(error.get("message"), str)


# Near-twins of names that decide something.


@dataclass(frozen=True, slots=True)
class _Names:
    exact: frozenset[str]
    folded: Mapping[str, str]

    @classmethod
    def of(cls, names: Iterable[str]) -> Self:
        exact = frozenset(names)
        return cls(exact, {_fold(name): name for name in exact})


def _check_twins(members: dict[str, JSON], policed: _Names, where: str) -> None:
    for name in members:
        if name not in policed.exact and (twin := policed.folded.get(_fold(name))):
            raise _invalid(
                "twin_member",
                f'the member "{quoted(name)}" of {where} could be read as "{twin}": use that'
                " name exactly, or another",
            )


def _fold(name: str) -> str:
    """Fold a name as far as any reader is known to: case, width, and everything invisible."""
    if name.isascii() and name.isprintable():
        return name.replace(" ", "").lower()
    # `upper` first: it takes the long s and the dotless i to letters that `casefold` then finds.
    whole = unicodedata.normalize("NFKD", name).upper().casefold()
    return "".join(each for each in whole if unicodedata.category(each)[0] not in "CMZ")


_ASKING = frozenset({"jsonrpc", "id", "method", "params"})
_ANSWERING = frozenset({"jsonrpc", "id", "result", "error"})
_ENVELOPE = _Names.of(_ASKING | _ANSWERING)
_PARAMS = _Names.of(
    (
        *("name", "arguments", "_meta", "task", "inputResponses", "requestState", "uri", "taskId"),
        *("requestId", "cursor", "protocolVersion", "capabilities", "clientInfo", "progressToken"),
        *("ref", "argument", "level", "notifications"),
    )
)
_META = _Names.of(
    (
        *(VERSION_KEY, CAPABILITIES_KEY, CLIENT_KEY, SEPARATE_KEY, "progressToken"),
        *("io.modelcontextprotocol/logLevel", "io.modelcontextprotocol/related-task"),
    )
)


def _object(value: JSON) -> dict[str, JSON]:
    return value if isinstance(value, dict) else {}


def _invalid(reason: str, text: str) -> BadMessage:
    return BadMessage(reason, text, code=INVALID_REQUEST)


def _wrong(reason: str, text: str) -> BadMessage:
    return BadMessage(reason, text, code=INVALID_PARAMS)
