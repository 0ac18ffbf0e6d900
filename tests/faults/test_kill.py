"""`kill -9` at any moment: nothing runs twice, nothing is lost, and the trail holds.

An agent of the newer protocol and an upstream over HTTP, without money. The run is held against the
laws of `tests/faults/laws.py`: 1 to 9, 12, 14 to 17 and 19 of the design's, that nothing is lost,
and that what agents and people were told stands. `approval audit verify` replays the trail for 11
and 13. Of 18 little is seen: who is killed answers no more, and nobody settles here.
"""

import asyncio
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import aiohttp

from tests.fakes.launch import effects, fixture_over_http
from tests.faults.killing import (
    AGENT_TOKEN,
    PERSON_TOKEN,
    Agent,
    Person,
    Service,
    hurry,
    is_rejected,
    under_fire,
)
from tests.faults.laws import LIVE, Entries, Run, broken
from tests.faults.witness import Witness, witnessed

CALLS = int(os.environ.get("APPROVAL_TEST_KILL_CALLS", "200"))
KILLS = max(2, CALLS // 20)
WORKERS = 8
LEASE_SECONDS = 2 + 15
CONFIG = """
[server]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
[database]
url = "sqlite:///approval.db"
[upstreams.fixture]
url = "{url}"
timeout = "2s"
[upstreams.fixture.policy]
dialect = "approval-1"
version = "1"
default = "deny"
[upstreams.fixture.policy.defaults.require_approval]
approvers = "ann"
[upstreams.fixture.policy.tools.count]
require_approval = [
  {{ timeout = "5m" }},
  {{ conditions = [{{ path = "args.hurry", op = "eq", value = "decide" }}], timeout = "1s" }},
  {{ conditions = [{{ path = "args.hurry", op = "eq", value = "run" }}], run_within = "1s" }},
]
[agents.bot]
token = {{ file = "agent" }}
upstreams = ["fixture"]
[people.ann]
name = "Ann"
token = {{ file = "ann" }}
"""


async def test_no_call_runs_twice_and_none_is_lost_however_often_the_service_is_killed(
    tmp_path: Path,
) -> None:
    log = tmp_path / "effects.jsonl"
    async with (
        fixture_over_http("--log", str(log), "--delay", "0.02") as beyond,
        witnessed(beyond, tmp_path / "approval.db") as witness,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as client,
    ):
        service = Service(config=write_config(tmp_path), port=free_port())
        service.config.write_text(CONFIG.format(port=service.port, url=witness.url))
        agent, person = Agent(service, client), Person(service, client)
        await service.start()
        try:
            await fire(service, agent, person)
            await quiet(person)
            seen = await look_around(agent, person, witness)
        finally:
            await service.stop()
    seen.effects = Counter(_number(effect) for effect in effects(log))
    seen.trail = await exported(service.config)
    assert broken(seen) == []
    as_scripted(seen.states)
    assert service.kills >= KILLS
    await command(service.config, "verify")


async def fire(service: Service, agent: Agent, person: Person) -> None:
    """Let the agents ask for everything while a person decides and the killer fires."""

    async def work(numbers: Iterator[int]) -> None:
        # A short run is soon through: it goes on until it has been killed often enough.
        for number in numbers:
            if number >= CALLS and service.kills >= KILLS:
                return
            await agent.want(number)

    async with asyncio.timeout(600), asyncio.TaskGroup() as group:
        deciding = group.create_task(person.decide_for_ever())
        async with under_fire(service, least=0.05, most=0.7), asyncio.TaskGroup() as workers:
            numbers = count()
            for _ in range(WORKERS):
                workers.create_task(work(numbers))
        deciding.cancel()


async def quiet(person: Person) -> None:
    """Wait until nothing goes on any more, and at most the longest lease: the laws say the rest."""
    async with asyncio.timeout(LEASE_SECONDS + 30):
        while True:
            if not any(call["state"] in LIVE for call in await person.all_calls()):
                return
            await asyncio.sleep(0.5)


async def look_around(agent: Agent, person: Person, witness: Witness) -> Run:
    """Put together what everybody saw; the upstream's log and the trail are read at the end."""
    return Run(
        asked=frozenset(agent.asked),
        calls=[await person.whole(call["id"]) for call in await person.all_calls()],
        read_at=datetime.now(UTC),  # noqa: TID251  # the service under fire has the real clock
        trail=[],
        arrivals=witness.arrivals,
        effects=Counter(),
        acknowledged=agent.acknowledged,
        final=agent.final,
        results=agent.results,
        doubts=agent.doubts,
        answered=person.answered,
        undone=person.undone,
    )


def as_scripted(states: dict[int, str]) -> None:
    """Hold that the run went as it was meant to, or its laws would hold of too little."""
    for number, state in states.items():
        if is_rejected(number):
            assert state == "rejected" or (hurry(number) == "decide" and state == "expired")
    executed = sum(state == "executed" for state in states.values())
    assert executed >= len(states) // 3, f"too few ran to mean anything: {Counter(states.values())}"


async def exported(config: Path) -> Entries:
    """Read the whole trail with the command that operators use."""
    lines = (await command(config, "export")).splitlines()
    return [json.loads(json.loads(line)["body"]) for line in lines if line.startswith("{")]


async def command(config: Path, name: str) -> str:
    """Run `approval audit …`, which must end well, and give what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "approval", "audit", name, "--config", str(config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


def write_config(folder: Path) -> Path:
    for name, token in {"agent": AGENT_TOKEN, "ann": PERSON_TOKEN}.items():
        (folder / name).write_text(token)
        (folder / name).chmod(0o600)
    return folder / "config.toml"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _number(effect: dict[str, object]) -> int:
    arguments = effect["arguments"]
    assert isinstance(arguments, dict)
    return int(arguments["n"])
