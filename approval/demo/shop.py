"""A small shop for phone numbers: a real MCP server on standard streams, for demo and tests.

It speaks both protocol eras and needs nothing but the standard library, so it starts at once. Two
environment variables serve the tests: `SHOP_LEDGER` names a file that gets one line for each
purchase or release that was asked for, on disk before the answer leaves (shops on one ledger sell
from one stock), and `SHOP_DELAY` holds back every tool's answer, never its effect, for so many
seconds.
"""

import contextlib
import fcntl
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

Json = Mapping[str, object]

MODERN_VERSION = "2026-07-28"
LEGACY_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
META_PREFIX = "io.modelcontextprotocol/"
SERVER = {"name": "phone-number-shop", "version": "1.0.0"}
INSTRUCTIONS = "Search first, then buy by number. A number costs 1.15 USD a month."
LIST_LIFE_MS = 60_000

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
UNSUPPORTED_VERSION = -32022

# The shop owns the exchange 555 of every area. Its search shows numbers from 0100 on, which North
# America keeps for fiction, so that no demonstration shows a real person's number.
NUMBER = r"^\+1[2-9][0-9]{2}555[0-9]{4}$"
AREA = r"^[2-9][0-9]{2}$"
SEARCH_SHOWS = 5
MONTHLY_PRICE = {"amount": "1.15", "currency": "USD"}
RECORD = {
    "type": "object",
    "properties": {
        "sid": {"type": "string"},
        "phone_number": {"type": "string"},
        "friendly_name": {"type": "string"},
        "monthly_price": {
            "type": "object",
            "properties": {"amount": {"type": "string"}, "currency": {"type": "string"}},
            "required": ["amount", "currency"],
        },
    },
    "required": ["sid", "phone_number", "friendly_name", "monthly_price"],
}


class Fault(Exception):
    """A JSON-RPC error: the message could not be served at all."""

    def __init__(self, code: int, text: str, data: Json | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.data = data


class Stock:
    """What the shop has sold. With a ledger file, all shops on that file share one stock."""

    def __init__(self, ledger: BinaryIO | None = None) -> None:
        self.sold: dict[str, Json] = {}
        self._sales = 0
        self._ledger = ledger

    @contextlib.contextmanager
    def latest(self) -> Iterator[None]:
        """Keep other shops out of the ledger while this one looks, decides and writes."""
        if self._ledger is None:
            yield
            return
        fcntl.flock(self._ledger, fcntl.LOCK_EX)
        try:
            # The file's position is how far this shop has read; what follows is others' business.
            for line in self._ledger:
                entry = json.loads(line)
                self._apply(entry["arguments"], entry["outcome"])
            yield
        finally:
            fcntl.flock(self._ledger, fcntl.LOCK_UN)

    def record(self, tool: str, arguments: Json, meta: object, outcome: str) -> None:
        """Note what was asked for and what came of it; a refusal too, for it shows a repeat."""
        entry = {"tool": tool, "arguments": arguments, "meta": meta, "outcome": outcome}
        if self._ledger is not None:
            self._ledger.write(json.dumps(entry).encode() + b"\n")
            self._ledger.flush()
            os.fsync(self._ledger.fileno())
        self._apply(arguments, outcome)

    def _apply(self, arguments: Json, outcome: str) -> None:
        number = str(arguments["phone_number"])
        if outcome == "bought":
            self._sales += 1
            self.sold[number] = {
                "sid": f"PN{self._sales:06d}",
                "phone_number": number,
                "friendly_name": arguments.get("friendly_name", number),
                "monthly_price": MONTHLY_PRICE,
            }
        elif outcome == "released":
            del self.sold[number]


def search(stock: Stock, arguments: Json, meta: object) -> Json:
    area = arguments.get("area_code", "415")
    numbers = (f"+1{area}555{line:04d}" for line in range(100, 10_000))
    with stock.latest():
        free = list(
            islice((number for number in numbers if number not in stock.sold), SEARCH_SHOWS)
        )
    return told(
        {"numbers": [{"phone_number": number, "monthly_price": MONTHLY_PRICE} for number in free]}
    )


def buy(stock: Stock, arguments: Json, meta: object) -> Json:
    number = str(arguments["phone_number"])
    with stock.latest():
        taken = number in stock.sold
        stock.record(
            "create_incoming_phone_number", arguments, meta, "refused" if taken else "bought"
        )
        if taken:
            return refused(f"{number} has been sold already. Search for another number.")
        return told(stock.sold[number])


def show(stock: Stock, arguments: Json, meta: object) -> Json:
    with stock.latest():
        return told({"numbers": list(stock.sold.values())})


def release(stock: Stock, arguments: Json, meta: object) -> Json:
    number = str(arguments["phone_number"])
    with stock.latest():
        held = number in stock.sold
        stock.record("release_phone_number", arguments, meta, "released" if held else "refused")
    if not held:
        return refused(f"{number} is not one of your numbers. List your numbers first.")
    return told({"released": number})


def told(value: Json) -> Json:
    """Give a result in both forms: structured, and as text for agents that know only text."""
    text = {"type": "text", "text": json.dumps(value)}
    return {"content": [text], "structuredContent": value, "isError": False}


def refused(text: str) -> Json:
    return {"content": [{"type": "text", "text": text}], "isError": True}


class Tool(NamedTuple):
    """A tool, its arguments (all strings, each with a description and a pattern) and its work."""

    name: str
    title: str
    description: str
    takes: Mapping[str, tuple[str, str]]
    required: tuple[str, ...]
    annotations: Json
    run: Callable[[Stock, Json, object], Json]
    output_schema: Json | None = None

    @property
    def definition(self) -> Json:
        properties = {
            name: {"type": "string", "description": description, "pattern": pattern}
            for name, (description, pattern) in self.takes.items()
        }
        schema = {"type": "object", "properties": properties, "required": list(self.required)}
        facts = {"name": self.name, "title": self.title, "description": self.description}
        output = {"outputSchema": self.output_schema} if self.output_schema else {}
        inputs = {"inputSchema": {**schema, "additionalProperties": False}}
        return {**facts, **inputs, **output, "annotations": self.annotations}


READ_ONLY = {"readOnlyHint": True, "openWorldHint": False}
TOOLS = (
    Tool(
        name="search_available_numbers",
        title="Search numbers",
        description="List phone numbers that can be bought.",
        takes={
            "country": ("Country; the shop sells in the United States only.", "^US$"),
            "area_code": ("Three digits; 415 when left out.", AREA),
        },
        required=(),
        annotations=READ_ONLY,
        run=search,
    ),
    Tool(
        name="create_incoming_phone_number",
        title="Buy a phone number",
        description="Buy a phone number. It costs 1.15 USD now and each month until its release.",
        takes={
            "phone_number": ("The number to buy, as the search shows it.", NUMBER),
            "friendly_name": ("A name of your own for the number.", "^[^\\x00-\\x1f]{1,64}$"),
        },
        required=("phone_number",),
        annotations={"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False},
        run=buy,
        output_schema=RECORD,
    ),
    Tool(
        name="list_incoming_phone_numbers",
        title="Your numbers",
        description="List the phone numbers that were bought here and not released.",
        takes={},
        required=(),
        annotations=READ_ONLY,
        run=show,
    ),
    Tool(
        name="release_phone_number",
        title="Release a phone number",
        description="Give a bought phone number back. It may be sold to somebody else at once.",
        takes={"phone_number": ("The number to give back.", NUMBER)},
        required=("phone_number",),
        annotations={"readOnlyHint": False, "destructiveHint": True, "idempotentHint": True},
        run=release,
    ),
)
BY_NAME: Mapping[str, Tool] = {tool.name: tool for tool in TOOLS}


def misfit(tool: Tool, arguments: Json) -> str | None:
    """Say in what way the arguments do not fit the tool, if in any."""
    for name in tool.required:
        if name not in arguments:
            return f"The argument {name} is missing."
    for name, value in arguments.items():
        if name not in tool.takes:
            return f"There is no argument {name!r}. Known: {', '.join(tool.takes)}."
        _, pattern = tool.takes[name]
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
            return f"The argument {name} must be a string that matches {pattern}"
    return None


class Server:
    """One connection's conversation: JSON-RPC messages in, answers out."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock
        self._initialized = False

    def answer(self, line: bytes) -> Json | None:
        """Serve one line. Notifications and answers to requests we never sent get no answer."""
        identity: object = None
        try:
            message = read(line)
            identity = message.get("id")
            if "method" not in message or "id" not in message:
                return None
            return {"jsonrpc": "2.0", "id": identity, "result": self._serve(message)}
        except Fault as fault:
            error: dict[str, object] = {"code": fault.code, "message": str(fault)}
            if fault.data is not None:
                error["data"] = fault.data
            return {"jsonrpc": "2.0", "id": identity, "error": error}

    def _serve(self, message: Json) -> Json:
        method, params = message["method"], members(message.get("params", {}), "params")
        meta = members(params.get("_meta", {}), "params._meta")
        modern = method != "initialize" and META_PREFIX + "protocolVersion" in meta
        if modern or method == "server/discover":
            return self._serve_modern(method, params, meta)
        return self._serve_legacy(method, params)

    def _serve_modern(self, method: object, params: Json, meta: Json) -> Json:
        """Serve the era without sessions, where each request says what it speaks."""
        check_envelope(meta)
        extra: dict[str, object] = {"resultType": "complete"}
        extra["_meta"] = {META_PREFIX + "serverInfo": SERVER}
        lasting = {"ttlMs": LIST_LIFE_MS, "cacheScope": "public"}
        match method:
            case "server/discover":
                offer = {"supportedVersions": [MODERN_VERSION], "capabilities": {"tools": {}}}
                return {**offer, "instructions": INSTRUCTIONS, **lasting, **extra}
            case "tools/list":
                return {**list_tools(params), **lasting, **extra}
            case "tools/call":
                return {**self._call(params), **extra}
            case _:
                raise Fault(METHOD_NOT_FOUND, f"{MODERN_VERSION} has no method {method!r} here.")

    def _serve_legacy(self, method: object, params: Json) -> Json:
        """Serve the era of the handshake."""
        match method:
            case "initialize":
                self._initialized = True
                return greet(params)
            case "ping":
                return {}
            case _ if not self._initialized:
                raise Fault(INVALID_REQUEST, "Nothing is served before initialize. Send it first.")
            case "tools/list":
                return list_tools(params)
            case "tools/call":
                return self._call(params)
            case _:
                raise Fault(METHOD_NOT_FOUND, f"There is no method {method!r}.")

    def _call(self, params: Json) -> Json:
        name = params.get("name")
        arguments = members(params.get("arguments", {}), "params.arguments")
        if not isinstance(name, str) or name not in BY_NAME:
            raise Fault(INVALID_PARAMS, f"Unknown tool: {name!r}. Known: {', '.join(BY_NAME)}.")
        tool = BY_NAME[name]
        problem = misfit(tool, arguments)
        if problem is not None:
            return refused(problem)
        return tool.run(self._stock, arguments, params.get("_meta"))


def read(line: bytes) -> Json:
    """Read a message, or raise the fault that JSON-RPC has for what it is instead."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Fault(PARSE_ERROR, f"The line is not JSON: {error}") from error
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Fault(INVALID_REQUEST, "The line is not one JSON-RPC 2.0 message.")
    if "id" in message and type(message["id"]) not in (str, int):
        raise Fault(INVALID_REQUEST, "The id is neither a string nor a whole number.")
    return message


def members(value: object, where: str) -> Json:
    if not isinstance(value, dict):
        raise Fault(INVALID_PARAMS, f"{where} is not an object.")
    return value


def check_envelope(meta: Json) -> None:
    version = meta.get(META_PREFIX + "protocolVersion")
    if not isinstance(version, str):
        raise Fault(INVALID_PARAMS, f"params._meta lacks {META_PREFIX}protocolVersion.")
    if version != MODERN_VERSION:
        data = {"supported": [MODERN_VERSION, *LEGACY_VERSIONS], "requested": version}
        raise Fault(UNSUPPORTED_VERSION, f"Version {version} is not served this way.", data)
    if not isinstance(meta.get(META_PREFIX + "clientCapabilities"), dict):
        raise Fault(INVALID_PARAMS, f"params._meta lacks {META_PREFIX}clientCapabilities.")


def greet(params: Json) -> Json:
    wanted = params.get("protocolVersion")
    if not isinstance(wanted, str):
        raise Fault(INVALID_PARAMS, "params.protocolVersion is missing.")
    return {
        "protocolVersion": wanted if wanted in LEGACY_VERSIONS else LEGACY_VERSIONS[0],
        "capabilities": {"tools": {}},
        "serverInfo": SERVER,
        "instructions": INSTRUCTIONS,
    }


def list_tools(params: Json) -> Json:
    if "cursor" in params:
        raise Fault(INVALID_PARAMS, "Unknown cursor: the list has one page.")
    return {"tools": [tool.definition for tool in TOOLS]}


def serve(lines: BinaryIO, out: BinaryIO, stock: Stock, delay_seconds: float) -> None:
    """Answer until the agent closes its end, and what was taken until then."""
    server, lock = Server(stock), threading.Lock()
    waiting: list[threading.Timer] = []

    def write(message: Json) -> None:
        # An agent that has gone does not read: its effects stand in the ledger all the same.
        with lock, contextlib.suppress(BrokenPipeError):
            out.write(json.dumps(message).encode() + b"\n")
            out.flush()

    for line in lines:
        message = server.answer(line)
        if message is None:
            continue
        result = message.get("result")
        if delay_seconds and isinstance(result, dict) and "content" in result:
            # Only the answer waits, and beside the others: the effect is done and on disk.
            waiting.append(threading.Timer(delay_seconds, write, (message,)))
            waiting[-1].start()
        else:
            write(message)
    for timer in waiting:
        timer.join()


def run(environment: Mapping[str, str], lines: BinaryIO, out: BinaryIO) -> None:
    """Open the shop as the environment wants it."""
    path = environment.get("SHOP_LEDGER")
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(Path(path).open("a+b")) if path else None
        if ledger:
            ledger.seek(0)
        serve(lines, out, Stock(ledger), float(environment.get("SHOP_DELAY", "0")))


def main() -> None:
    """Run the shop on this process's standard streams."""
    with contextlib.suppress(KeyboardInterrupt):
        run(os.environ, sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
