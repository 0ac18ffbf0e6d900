"""Judges the gateway from outside: the MCP conformance suite against a fixture upstream behind it.

    python tests/conformance/through_gateway.py --suite conformance.sh --upstream fixture.py

Starts the fixture (over HTTP, or with `--stdio` as a child of the gateway) and `approval serve`
with a policy that allows everything, and fails unless every required scenario of both protocol
revisions passes. It is no test of the suite: it needs programs that lie outside the checkout.
"""

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
EXPECTED = "RESULT 67/67"
START_SECONDS = 30
STOP_SECONDS = 15

CONFIGURATION = """
[server]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"

[database]
url = "sqlite:///approval.db"

[upstreams.fixture]
{source}

[upstreams.fixture.policy]
dialect = "approval-1"
version = "1"
default = "allow"

[agents.suite]
token = {{ env = "SUITE_TOKEN" }}
upstreams = ["fixture"]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    command = process.args
    sys.exit(f"{command!r} does not listen on port {port} (exit status: {process.poll()})")


@contextmanager
def running(command: Sequence[str], port: int, **environment: str) -> Iterator[None]:
    """Run a server until the block ends, and enter the block when it listens."""
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment)
    try:
        await_listening(port, process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def judge(suite: Path, url: str, token: str) -> bool:
    header = f"Authorization: Bearer {token}"
    command = ["bash", str(suite), "-H", header, url]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(run.stdout)
    lines = run.stdout.split("\n")
    return run.returncode == 0 and EXPECTED in lines


def serve_and_judge(suite: Path, upstream: Path, *, stdio: bool) -> bool:
    token = secrets.token_urlsafe(32)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if stdio:
            source = f"command = {json.dumps([sys.executable, str(upstream), '--stdio'])}"
        else:
            behind = free_port()
            source = f'url = "http://127.0.0.1:{behind}/mcp"'
            fixture = [sys.executable, str(upstream), "--port", str(behind)]
            stack.enter_context(running(fixture, behind))
        port = free_port()
        configuration = folder / "config.toml"
        configuration.write_text(CONFIGURATION.format(port=port, source=source))
        gateway = [sys.executable, "-m", "approval", "serve", "--config", str(configuration)]
        stack.enter_context(running(gateway, port, SUITE_TOKEN=token))
        return judge(suite, f"http://127.0.0.1:{port}/mcp/fixture", token)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the conformance suite through the gateway.")
    parser.add_argument("--suite", type=Path, required=True)
    parser.add_argument("--upstream", type=Path, required=True)
    parser.add_argument("--stdio", action="store_true")
    options = parser.parse_args()
    good = serve_and_judge(options.suite.resolve(), options.upstream.resolve(), stdio=options.stdio)
    sys.exit(0 if good else f"the suite did not print {EXPECTED}")


if __name__ == "__main__":
    main()
