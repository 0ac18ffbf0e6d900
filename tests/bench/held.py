"""What a held call costs while it waits, and how fast a decision releases it."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import aiohttp

from tests.bench.load import LEGACY, Target, request
from tests.bench.processes import cpu_seconds, free_port, resident_mib, running

AGENTS = 10
PERSON_TOKEN = "apv_bench_person_token_0000000000000000000"
IDLE_SECONDS = 30
"""Two whole rounds of signs of life, so that each line is counted as often as every other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What runs: the gateway's process and port, the upstream's port, a target for each agent."""

    pid: int
    port: int
    upstream: int
    targets: tuple[Target, ...]


def config(port: int, upstream: int) -> str:
    """Write a configuration in which everything is held, for several agents and one person."""
    agents = "\n".join(
        f'[agents.bench{n}]\ntoken = {{ file = "token{n}" }}\nupstreams = ["bench"]\n'
        for n in range(AGENTS)
    )
    return f"""
[server]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
[database]
url = "sqlite:///bench.db"
[gateway]
wait = "1h"
wait_with_progress = "1h"
[upstreams.bench]
url = "http://127.0.0.1:{upstream}/mcp"
[upstreams.bench.policy]
dialect = "approval-1"
version = "1"
default = "deny"
[upstreams.bench.policy.tools.echo]
require_approval = [{{ approvers = "ann", timeout = "2h" }}]
[people.ann]
name = "Ann"
token = {{ file = "person" }}
{agents}
"""


@asynccontextmanager
async def holding(folder: Path) -> AsyncIterator[Held]:
    """Start the upstream and a gateway that holds every call."""
    upstream, port = free_port(), free_port()
    tokens = [f"apv_bench_agent_token_{number:020d}" for number in range(AGENTS)]
    for number, token in enumerate(tokens):
        secret(folder / f"token{number}", token)
    secret(folder / "person", PERSON_TOKEN)
    path = folder / "config.toml"
    path.write_text(config(port, upstream))
    serve = ("-m", "approval", "serve", "--config", str(path))
    async with running(*serve, port=port):
        pass
    async with (
        running("-m", "tests.bench.servers", "upstream", str(upstream), port=upstream),
        running(*serve, port=port) as pid,
    ):
        targets = tuple(Target(port=port, path="/mcp/bench", token=token) for token in tokens)
        yield Held(pid=pid, port=port, upstream=upstream, targets=targets)


def secret(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


async def hold(held: Held, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send one call that will be held, and wait until the stream is open."""
    target = held.targets[number % AGENTS]
    reader, writer = await asyncio.open_connection("127.0.0.1", held.port)
    writer.write(request(target, number, LEGACY))
    head = await reader.readuntil(b"\r\n\r\n")
    if b"text/event-stream" not in head.lower():
        raise RuntimeError(f"not held: {head[:300]!r}")
    return reader, writer


async def memory(folder: Path, *, count: int) -> None:
    """Hold `count` calls at once; print memory a call and processor time while they wait."""
    wanted = 2 * count + 1000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    async with holding(folder) as held:
        await asyncio.sleep(2)
        before = resident_mib(held.pid)
        start = time.perf_counter()
        streams = []
        for first in range(0, count, 50):
            batch = range(first, min(first + 50, count))
            streams += await asyncio.gather(*[hold(held, number) for number in batch])
        accepted = time.perf_counter() - start
        await asyncio.sleep(5)
        each = (resident_mib(held.pid) - before) * 1024 / count
        busy = cpu_seconds(held.pid)
        await asyncio.sleep(IDLE_SECONDS)
        share = (cpu_seconds(held.pid) - busy) / IDLE_SECONDS * 100
        print(
            f"\n{count} held calls: {each:.1f} KiB each, accepted in {accepted:.1f} s, "
            f"{share:.2f} % of one processor while they wait"
        )
        for _, writer in streams:
            writer.close()


async def release(folder: Path, *, count: int) -> None:
    """Hold and approve one call after another; print the time from decision to upstream."""
    async with holding(folder) as held, aiohttp.ClientSession() as client:
        waits = [await one_release(held, client, number) for number in range(count)]
    print(
        f"\nfrom sending a decision to the upstream's receipt: {median(waits):.1f} ms at the "
        f"median, {quantiles(waits, n=100)[98]:.1f} ms at p99 ({count} calls)"
    )


async def one_release(held: Held, client: aiohttp.ClientSession, number: int) -> float:
    """Hold one call, approve it, and measure until the upstream has it, in milliseconds."""
    reader, writer = await hold(held, number)
    api = f"http://127.0.0.1:{held.port}/v1/calls"
    headers = {"Authorization": f"Bearer {PERSON_TOKEN}"}
    async with client.get(f"{api}?state=pending", headers=headers) as answer:
        (call,) = (await answer.json())["calls"]
    decision = {"decision": "approve", "digest": call["digest"]}
    decided = time.monotonic()
    async with client.post(f"{api}/{call['id']}/decision", headers=headers, json=decision) as done:
        done.raise_for_status()
    async with asyncio.timeout(10):
        # The agent's own answer says that it is over: asking the upstream meanwhile, again and
        # again, would keep from the gateway one of the two processors that are measured.
        await reader.readuntil(b'"result"')
    url = f"http://127.0.0.1:{held.upstream}/arrived?n={number}"
    async with client.get(url) as answer:
        arrived = (await answer.json())["at"]
    writer.close()
    return float((arrived - decided) * 1000)
