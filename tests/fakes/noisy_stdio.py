"""A standard-stream MCP server that misbehaves on demand, as published servers have been seen to.

Standard library alone, both eras. Two tools, `echo` and `effect`, and with `--tools N` so many
more. `--log FILE` gets one line per call that had its effect, with the process that had it.
"""

import argparse
import json
import os
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any

LATEST_LEGACY = "2025-11-25"
MODERN = "2026-07-28"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
GARBAGE = (b"starting up ...\n", b"\n", b'{"jsonrpc": \n', b"\xff\xfe\n", b"[]\n", b"42\nnull\n")
LINGER_SECONDS = 60


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A misbehaving MCP server.")
    parser.add_argument("--log", type=Path, help="one line per effect")
    parser.add_argument("--tools", type=int, default=0, help="list so many more tools")
    parser.add_argument("--long-line", type=int, default=0, help="results of so many bytes")
    parser.add_argument("--stderr", type=int, default=0, help="so many bytes of it per message")
    parser.add_argument("--crash-on", help="end on this tool's call, without its effect")
    parser.add_argument("--hang-on", help="never answer this tool's calls")
    for flag, meaning in (
        ("--log-before-initialize", "precede every answer with a request named log"),
        ("--crash-before-initialize", "end on the first message"),
        ("--execute-and-crash", "have the effect, then end without an answer"),
        ("--garbage", "lines that are no messages between the others"),
        ("--duplicate-answer", "answer every call twice"),
        ("--wrong-id", "answer calls under an id that nobody asked with"),
        ("--linger", "ignore the end of input and SIGTERM for a minute"),
    ):
        parser.add_argument(flag, action="store_true", help=meaning)
    return parser.parse_args()


class Noisy:
    """One connection."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options

    def serve(self) -> None:
        for line in sys.stdin.buffer:
            if self.options.crash_before_initialize:
                os._exit(3)
            sys.stderr.write("n" * self.options.stderr)
            sys.stderr.flush()
            message = json.loads(line)
            if "method" in message and "id" in message:
                self.answer(message)

    def answer(self, message: dict[str, Any]) -> None:
        modern = VERSION_KEY in message.get("params", {}).get("_meta", {})
        body = self.body(message["method"], message.get("params", {}))
        if body is None:
            return
        if modern and "result" in body:
            body["result"] |= {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        answer = {"jsonrpc": "2.0", "id": message["id"], **body}
        calls = message["method"] == "tools/call"
        if calls and self.options.wrong_id:
            answer["id"] = str(uuid.uuid4())
        self.noise()
        self.write(answer)
        if calls and self.options.duplicate_answer:
            self.write(answer)

    def body(self, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        info = {"name": "noisy", "version": "1"}
        match method:
            case "initialize":
                version = params["protocolVersion"]
                version = LATEST_LEGACY if version == MODERN else version
                facts = {"capabilities": {"tools": {}}, "serverInfo": info}
                return {"result": {"protocolVersion": version, **facts}}
            case "server/discover":
                facts = {"capabilities": {"tools": {}}, "_meta": {"serverInfo": info}}
                return {"result": {"supportedVersions": [MODERN], **facts}}
            case "ping":
                return {"result": {}}
            case "tools/list":
                names = ["echo", "effect", *(f"tool_{n}" for n in range(self.options.tools))]
                schema = {"type": "object"}
                tools = [
                    {"name": n, "description": "n" * 500, "inputSchema": schema} for n in names
                ]
                return {"result": {"tools": tools}}
            case "tools/call":
                return self.call(params)
            case _:
                return {"error": {"code": -32601, "message": f"No method {method}"}}

    def call(self, params: dict[str, Any]) -> dict[str, Any] | None:
        if params["name"] == self.options.crash_on:
            os._exit(4)
        if params["name"] == self.options.hang_on:
            return None
        self.effect(params)
        if self.options.execute_and_crash:
            os._exit(5)
        text = "x" * self.options.long_line or json.dumps(params.get("arguments", {}))
        return {"result": {"content": [{"type": "text", "text": text}]}}

    def effect(self, params: dict[str, Any]) -> None:
        if self.options.log is None:
            return
        line = {
            "tool": params["name"],
            "arguments": params.get("arguments", {}),
            "pid": os.getpid(),
        }
        with self.options.log.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def noise(self) -> None:
        if self.options.log_before_initialize:
            params = {"level": "info", "message": "about to answer"}
            log = {"jsonrpc": "2.0", "id": str(uuid.uuid4()), "method": "log", "params": params}
            self.write(log)
        if self.options.garbage:
            for line in GARBAGE:
                sys.stdout.buffer.write(line)

    def write(self, message: dict[str, Any]) -> None:
        sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
        sys.stdout.buffer.flush()


def main() -> None:
    options = parse()
    if options.linger:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Noisy(options).serve()
    if options.linger:
        time.sleep(LINGER_SECONDS)


if __name__ == "__main__":
    main()
