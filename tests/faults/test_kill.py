"""`kill -9` at any moment: nothing runs twice, nothing is lost, and the trail holds.

Properties 1 to 9 and 11 to 19 of the project's list, as far as they need no money, checked from
outside: the upstream's own witness file, the API, and `approval audit verify`.
"""

import asyncio
import os
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.launch import effects, fixture_over_http
from tests.faults.killing import AGENT_TOKEN, PERSON_TOKEN, Agent, Person, Service, under_fire

CALLS = int(os.environ.get("APPROVAL_TEST_KILL_CALLS", "200"))
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
[upstreams.fixture.policy.tools.count]
require_approval = [{{ approvers = "ann", timeout = "5m" }}]
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
    witness = tmp_path / "witness.jsonl"
    async with (
        fixture_over_http("--log", str(witness), "--delay", "0.02") as url,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as client,
    ):
        service = Service(config=write_config(tmp_path, url), port=free_port())
        service.config.write_text(CONFIG.format(port=service.port, url=url))
        agent, person = Agent(service, client), Person(service, client)
        await service.start()
        try:
            await run(service, agent, person)
            calls = await settled(person)
        finally:
            await service.stop()
        ran = Counter(_number(effect) for effect in effects(witness))
    check(calls, agent, ran)
    assert service.kills >= CALLS // 20, "the killer slept"
    await verified(service.config)


async def run(service: Service, agent: Agent, person: Person) -> None:
    """Let the agents ask for everything while a person decides and the killer fires."""
    numbers = iter(range(CALLS))

    async def work() -> None:
        for number in numbers:
            await agent.want(number)

    async with asyncio.timeout(600), asyncio.TaskGroup() as group:
        deciding = group.create_task(person.decide_for_ever())
        async with under_fire(service, least=0.05, most=0.7), asyncio.TaskGroup() as workers:
            for _ in range(WORKERS):
                workers.create_task(work())
        deciding.cancel()


async def settled(person: Person) -> list[dict[str, Any]]:
    """Wait out the longest lease: then nothing may be executing any more (property 16)."""
    async with asyncio.timeout(LEASE_SECONDS + 30):
        while True:
            calls = await person.all_calls()
            if not any(call["state"] in {"executing", "approved", "pending"} for call in calls):
                return calls
            await asyncio.sleep(0.5)


def check(calls: list[dict[str, Any]], agent: Agent, ran: Counter[int]) -> None:
    """Hold what the service says against what the upstream did and what the agents were told."""
    by_number = Counter(call["arguments"]["n"] for call in calls)
    assert by_number == Counter(range(CALLS)), "a call was lost, or asked for twice"
    assert max(ran.values(), default=0) <= 1, "a call ran twice"
    states = {call["arguments"]["n"]: call["state"] for call in calls}
    for number, state in states.items():
        if state == "executed":
            assert ran[number] == 1, f"{number} is executed and never ran"
        elif state not in {"errored", "in_doubt"}:
            assert ran[number] == 0, f"{number} is {state} and ran"
        if number % 7 == 0:
            assert state == "rejected"
    ids = {call["arguments"]["n"]: call["id"] for call in calls}
    assert agent.acknowledged.items() <= ids.items(), "an agent was told of a call that is gone"
    told = {number: state for number, state in agent.final.items() if state != "in_doubt"}
    assert told.items() <= states.items(), "an agent was told otherwise"
    executed = sum(state == "executed" for state in states.values())
    assert executed >= CALLS // 2, f"too few ran to mean anything: {Counter(states.values())}"


async def verified(config: Path) -> None:
    """Check the trail with the command that operators use."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "approval", "audit", "verify", "--config", str(config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


def write_config(folder: Path, url: str) -> Path:
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
