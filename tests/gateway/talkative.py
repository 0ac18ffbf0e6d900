"""A program on standard streams that says what its tools are asked to make it say.

Standard library alone. `--only legacy|modern` serves one era; `--deaf` never answers
`server/discover`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
SUBSCRIPTION_KEY = "io.modelcontextprotocol/subscriptionId"
MODERN = "2026-07-28"

only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else ""
heard: list[dict[str, Any]] = []
later: list[dict[str, Any]] = []


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def hear() -> dict[str, Any]:
    message: dict[str, Any] = json.loads(sys.stdin.readline())
    return message


def say_all(message: dict[str, Any]) -> str:
    for each in message["params"]["arguments"]["messages"]:
        say(each)
    return "said"


def say_after(message: dict[str, Any]) -> str:
    later.extend(message["params"]["arguments"]["messages"])
    return "said"


def ask(message: dict[str, Any]) -> object:
    say({"id": "theirs", "method": message["params"]["arguments"]["method"], "params": {}})
    return hear()


def progress(message: dict[str, Any]) -> object:
    token = message["params"]["_meta"]["progressToken"]
    say({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
    return token


def spawn(message: dict[str, Any]) -> int:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(["sleep", "600"], stdin=quiet, stdout=quiet, stderr=quiet).pid


def hang(message: dict[str, Any]) -> None:
    say_all(message)


TOOLS: dict[str, Callable[[dict[str, Any]], object]] = {
    "ask": ask,
    "environment": lambda message: dict(os.environ),
    "exit": lambda message: sys.exit(0),
    "hang": hang,
    "heard": lambda message: heard,
    "id": lambda message: message["id"],
    "pid": lambda message: os.getpid(),
    "progress": progress,
    "say": say_all,
    "say_after": say_after,
    "spawn": spawn,
}


def call(message: dict[str, Any]) -> dict[str, Any] | None:
    said = TOOLS[message["params"]["name"]](message)
    if said is None:
        return None
    content = [{"type": "text", "text": said if isinstance(said, str) else json.dumps(said)}]
    return {"result": {"content": content}}


def initialize(message: dict[str, Any]) -> dict[str, Any]:
    version = message["params"]["protocolVersion"]
    facts = {"capabilities": {}, "serverInfo": {"name": "talkative", "version": "1"}}
    return {"result": {"protocolVersion": version, **facts}}


def discover(message: dict[str, Any]) -> dict[str, Any] | None:
    if "--deaf" in sys.argv:
        return None
    return {"result": {"supportedVersions": [MODERN], "capabilities": {}}}


def listen(message: dict[str, Any]) -> None:
    meta = {SUBSCRIPTION_KEY: message["id"]}
    say({"method": "notifications/subscriptions/acknowledged", "params": {"_meta": meta}})


METHODS: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
    "initialize": initialize,
    "server/discover": discover,
    "subscriptions/listen": listen,
    "tools/call": call,
}


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    modern = VERSION_KEY in message.get("params", {}).get("_meta", {})
    if only and modern != (only == "modern"):
        return {"error": {"code": -32601, "message": "Method not found"}}
    method = METHODS.get(message["method"])
    return {"result": {}} if method is None else method(message)


def main() -> None:
    while line := sys.stdin.readline():
        message = json.loads(line)
        heard.append(message)
        if "method" in message and "id" in message and (body := answer(message)) is not None:
            say({"id": message["id"], **body})
        while later:
            say(later.pop(0))


if __name__ == "__main__":
    main()
