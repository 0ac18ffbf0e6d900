"""Measure the gateway against a plain aiohttp reverse proxy, in the same minutes.

    python -m tests.bench [--rounds 5] [--seconds 3] [--held 10000]
        [--only calls|held|release|admission]

Rounds are interleaved and every ratio is taken within a round, so that a machine that slows down
slows both. Read the ratios and the processor time a call; absolute figures are the machine's.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop

from tests.bench import held
from tests.bench.admission import admission
from tests.bench.load import LEGACY, MODERN, Measured, Target, drive
from tests.bench.processes import cpu_seconds, free_port, resident_mib, running

TOKEN = "apv_bench_agent_token_00000000000000000000"
CONFIG = """
[server]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
[database]
url = "sqlite:///bench.db"
[upstreams.bench]
url = "http://127.0.0.1:{upstream}/mcp"
[upstreams.bench.policy]
dialect = "approval-1"
version = "1"
default = "deny"
[[upstreams.bench.policy.tools.echo.deny_if]]
conditions = [{{ path = "args.text", op = "contains", value = "forbidden" }}]
[agents.bench]
token = {{ file = "token" }}
upstreams = ["bench"]
[people.ann]
name = "Ann"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One pair of measurements: the gateway's processor time is in milliseconds a call."""

    proxy: Measured
    gateway: Measured
    cpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What runs: where to call, and which process is the gateway."""

    proxy: Target
    gateway: Target
    pid: int
    idle_mib: float


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    """Start the upstream, the plain proxy and the gateway."""
    upstream, plain, port = free_port(), free_port(), free_port()
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    config = folder / "config.toml"
    config.write_text(CONFIG.format(port=port, upstream=upstream))
    servers = "tests.bench.servers"
    target = f"http://127.0.0.1:{upstream}/mcp"
    serve = ("-m", "approval", "serve", "--config", str(config))
    # A first start migrates the new file and has loaded what a running service never needs.
    async with running(*serve, port=port):
        pass
    async with (
        running("-m", servers, "upstream", str(upstream), port=upstream),
        running("-m", servers, "proxy", str(plain), target, port=plain),
        running(*serve, port=port) as pid,
    ):
        await asyncio.sleep(2)
        yield Bench(
            proxy=Target(port=plain, path="/mcp"),
            gateway=Target(port=port, path="/mcp/bench", token=TOKEN),
            pid=pid,
            idle_mib=resident_mib(pid),
        )


async def one_round(bench: Bench, connections: int, seconds: float, era: str) -> Round:
    """Measure both, one after the other."""
    proxy = await drive(bench.proxy, connections=connections, seconds=seconds, era=era)
    before = cpu_seconds(bench.pid)
    gateway = await drive(bench.gateway, connections=connections, seconds=seconds, era=era)
    cpu = (cpu_seconds(bench.pid) - before) / (gateway.rate * seconds) * 1000
    return Round(proxy=proxy, gateway=gateway, cpu=cpu)


async def calls(options: argparse.Namespace, folder: Path) -> None:
    """Print the table of allowed calls: policy and an fsynced audit entry for each."""
    async with bench(folder) as running_bench:
        print(f"idle memory of the gateway: {running_bench.idle_mib:.0f} MiB\n")
        print(
            "| era | connections | plain proxy, calls/s | gateway, calls/s | ratio "
            "| added p50, ms | gateway p99, ms | CPU, ms a call |"
        )
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for era in (LEGACY, MODERN):
            for connections in (1, 16, 64):
                rounds = [
                    await one_round(running_bench, connections, options.seconds, era)
                    for _ in range(options.rounds)
                ]
                print(row(era, connections, rounds), flush=True)


def row(era: str, connections: int, rounds: list[Round]) -> str:
    """Write the medians of these rounds as a table row."""
    ratio = median(each.gateway.rate / each.proxy.rate for each in rounds)
    added = median(each.gateway.p50 - each.proxy.p50 for each in rounds)
    return (
        f"| {era} | {connections} "
        f"| {median(each.proxy.rate for each in rounds):.0f} "
        f"| {median(each.gateway.rate for each in rounds):.0f} "
        f"| {ratio:.2f} | {added:.2f} | {median(each.gateway.p99 for each in rounds):.1f} "
        f"| {median(each.cpu for each in rounds):.3f} |"
    )


async def main(options: argparse.Namespace) -> None:
    """Run what was asked for, each part on a fresh folder."""
    with tempfile.TemporaryDirectory(prefix="approval-bench-") as name:
        folder = Path(name)
        if options.only in (None, "calls"):
            await calls(options, folder)
    with tempfile.TemporaryDirectory(prefix="approval-bench-") as name:
        if options.only in (None, "release"):
            await held.release(Path(name), count=options.releases)
    with tempfile.TemporaryDirectory(prefix="approval-bench-") as name:
        if options.only in (None, "held"):
            await held.memory(Path(name), count=options.held)
    if options.only in (None, "admission"):
        await admission(count=options.admissions, rounds=options.rounds)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--held", type=int, default=10_000)
    parser.add_argument("--releases", type=int, default=200)
    parser.add_argument("--admissions", type=int, default=1500)
    parser.add_argument("--only", choices=["calls", "held", "release", "admission"])
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    sys.exit(asyncio.run(main(arguments())))
