"""The demo: a real service, a real shop, and an agent that tries to buy a phone number.

Everything is what `approval serve` runs: the service on loopback, SQLite in a temporary folder, the
shop as a process on standard streams. Only the agent is scripted. The shop's ledger, which no part
of the service writes, says in the end what was really bought.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import aiohttp
from rich.console import Console
from rich.text import Text

from approval.app.running import Running, running
from approval.config import load
from approval.core.canonical import quoted
from approval.demo.agent import Agent, Result, agent
from approval.errors import ApprovalError

AGENT: Final = "ops-agent"
PERSON: Final = "ann"
BUY: Final = "create_incoming_phone_number"
SEARCH: Final = "search_available_numbers"
OFFERS: Final = 3
"""Purchases that a reader decides: enough to approve one, deny one and let one wait."""

SHOWN: Final = 5
"""Numbers that the story without a reader needs."""

DECIDE_SECONDS: Final = 5.0
"""How long the demo waits for a call to turn up where people see it."""

CONFIGURATION: Final = """
[server]
listen = "127.0.0.1:{port}"

[database]
url = "sqlite:///approval.db"

[upstreams.shop]
command = ["python", "-m", "approval.demo.shop"]
env = {{ SHOP_LEDGER = {ledger} }}

[upstreams.shop.policy]
dialect = "approval-1"
version = "1"
default = "deny"

[upstreams.shop.policy.tools.search_available_numbers]

[upstreams.shop.policy.tools.create_incoming_phone_number]
title = "buy a phone number"
spend.amount = {{ fixed = "1.15 USD", per = "month" }}
spend.meters = ["numbers-day", "numbers-month"]
require_approval = [
  {{ timeout = "{patience}" }},
  {{ timeout = "{hurry}", conditions = [
    {{ path = "args.friendly_name", op = "eq", value = "Nobody answers" }},
  ] }},
]

[upstreams.shop.policy.meters]
numbers-day = {{ limit = "5.00 USD", window = {{ calendar = "day" }}, scope = ["agent"] }}
numbers-month = {{ limit = "50.00 USD", window = {{ calendar = "month" }}, scope = ["agent"] }}

[agents.ops-agent]
upstreams = ["shop"]

[people.ann]
name = "Ann Example"

[approvals]
approvers = "ann"

[rights]
admin = "ann"
"""


class StoryFailed(ApprovalError):
    """The demo did not end as it must. This is a fault; please report it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a story plays on: the service, its store's folder, and the agent."""

    service: Running
    agent: Agent
    ledger: Path

    def bought(self) -> list[str]:
        """Read from the shop's own ledger what was bought."""
        if not self.ledger.exists():
            return []
        lines = [json.loads(line) for line in self.ledger.read_text().splitlines()]
        return [str(e["arguments"]["phone_number"]) for e in lines if e["outcome"] == "bought"]


def show(*, by_itself: bool, port: int = 0) -> None:
    """Tell the story on this terminal.

    Raises:
        StoryFailed: If the shop sold anything but what was approved.
    """
    console = Console(highlight=False)
    try:
        asyncio.run(_by_itself(console, port) if by_itself else _with_reader(console, port))
    except BaseExceptionGroup as group:
        raise _first(group) from group
    except KeyboardInterrupt:
        # How a reader ends it; whoever runs it by itself wants the exit code instead.
        if by_itself:
            raise
        console.print("\n  The demo has ended; nothing of it is left behind.", style="dim")


def _first(error: BaseException) -> BaseException:
    """Find what went wrong first among things that went wrong together."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def stage(port: int, *, patience: str = "10m", hurry: str = "2s") -> AsyncIterator[Stage]:
    """Start the service, the shop and the agent in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="approval-demo-") as folder:
        ledger = Path(folder) / "ledger.jsonl"
        file = Path(folder) / "config.toml"
        # A JSON string is a TOML string: no path can break out of it.
        where = json.dumps(str(ledger))
        file.write_text(
            CONFIGURATION.format(port=port, ledger=where, patience=patience, hurry=hurry)
        )
        async with running(load(file, {})) as service:
            keyring = service.service.keyring
            token = await keyring.issue("agent", AGENT, actor="demo")
            async with agent(f"{service.url}/mcp/shop", token) as client:
                yield Stage(service=service, agent=client, ledger=ledger)


class _Told:
    """Prints a story: short lines, and nothing an agent said can move the cursor."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def scene(self, title: str) -> None:
        self._console.print()
        self._console.print(Text(title, style="bold cyan"))

    def line(self, text: str, style: str = "") -> None:
        self._console.print(Text(f"  {quoted(text, 400)}", style=style), soft_wrap=True)

    def answer(self, result: Result) -> None:
        style = "green" if not result.is_error else "yellow"
        self.line(f"answer    {result.text}", style)


class _Api:
    """A person's side of the service, through the API that anybody's script could use."""

    def __init__(self, url: str, token: str) -> None:
        self._session = aiohttp.ClientSession(
            base_url=url, headers={"Authorization": f"Bearer {token}"}
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def pending(self) -> dict[str, object]:
        """Find the one call that waits."""
        async with asyncio.timeout(DECIDE_SECONDS):
            while True:
                async with self._session.get("/v1/calls?state=pending") as response:
                    found = await response.json()
                if found["calls"]:
                    call: dict[str, object] = found["calls"][0]
                    return call
                await asyncio.sleep(0.02)

    async def decide(self, call: dict[str, object], decision: str, reason: str) -> None:
        body = {"decision": decision, "digest": call["digest"], "reason": reason}
        path = f"/v1/calls/{call['id']}/decision"
        async with self._session.post(path, json=body) as response:
            if response.status != 200:
                raise StoryFailed(f"deciding was refused: {await response.text()}")


# --- without a reader ---


async def _by_itself(console: Console, port: int) -> None:
    async with stage(port) as on:
        told = _Told(console)
        told.scene("An agent, a shop, and a policy that holds every purchase")
        told.line(f"service   {on.service.url}")
        numbers = await _search(on, told)
        token = await on.service.service.keyring.issue("person", PERSON, actor="demo")
        async with _Api(on.service.url, token) as api:
            bought = await _decided(on, api, told, numbers[0], "approve")
            refused = await _decided(on, api, told, numbers[1], "reject")
            ignored = await _ignored(on, told, numbers[2])
            spent = await _spent(on, api, told, numbers[2:5])
            limited = await _limited(on, told, numbers[1])
        results = (bought, refused, ignored, *spent, limited)
        await _reckon(on, told, [numbers[0], *numbers[2:5]], results)


async def _decided(on: Stage, api: _Api, told: _Told, number: str, decision: str) -> Result:
    told.scene(f"The agent wants to buy {number} for $1.15 a month; Ann says {decision}")
    result = await _bought(on, api, number, decision, told)
    told.answer(result)
    return result


async def _bought(
    on: Stage, api: _Api, number: str, decision: str, told: _Told | None = None
) -> Result:
    """Let the agent buy, and a person decide."""
    async with asyncio.TaskGroup() as tasks:
        buying = tasks.create_task(on.agent.call(BUY, {"phone_number": number}))
        call = await api.pending()
        if told is not None:
            told.line(f"held      {call['id']}")
        await api.decide(call, decision, "" if decision == "approve" else "not this month")
        return await buying


async def _ignored(on: Stage, told: _Told, number: str) -> Result:
    told.scene(f"The agent buys {number}; nobody answers, and silence is no")
    arguments: dict[str, object] = {"phone_number": number, "friendly_name": "Nobody answers"}
    result = await on.agent.call(BUY, arguments)
    told.answer(result)
    return result


async def _spent(on: Stage, api: _Api, told: _Told, numbers: list[str]) -> list[Result]:
    told.scene(f"Ann approves {len(numbers)} more: $4.60 of the agent's $5.00 a day are spent")
    results = []
    for number in numbers:
        results.append(await _bought(on, api, number, "approve"))
        told.line(f"bought    {number} for $1.15")
    return results


async def _limited(on: Stage, told: _Told, number: str) -> Result:
    told.scene("The fifth of the day: 4.60 + 1.15 > 5.00, so nobody is even asked")
    result = await on.agent.call(BUY, {"phone_number": number, "friendly_name": "The fifth"})
    told.answer(result)
    return result


async def _reckon(on: Stage, told: _Told, approved: list[str], results: tuple[Result, ...]) -> None:
    told.scene("What the shop's own ledger says")
    bought = on.bought()
    told.line(f"bought    {', '.join(bought) or 'nothing'}")
    report = await on.service.store.verify()
    told.line(f"trail     {report.entries} entries, {report.calls} calls, head {report.head[:20]}…")
    told.line(
        f"verified  {'the trail holds' if not report.problems else 'THE TRAIL DOES NOT HOLD'}"
    )
    states = [result.state for result in results]
    wanted = ["", "rejected", "expired", "", "", "", "denied"]
    if bought != approved or report.problems or states != wanted:
        raise StoryFailed(f"bought {bought} and ended {states}: {report.problems}")
    told.line("One rejected, one expired, one beyond the limit, four approved:", "bold green")
    told.line("exactly those four were bought.", "bold green")


# --- with a reader ---


async def _with_reader(console: Console, port: int, patience: str = "5m") -> None:
    async with stage(port, patience=patience) as on:
        told = _Told(console)
        told.scene("An agent, a shop, and a policy that holds every purchase")
        told.line(f"Sign in as Ann: {await on.service.login_link(PERSON)}", "bold")
        told.line("Ctrl-C ends the demo.", "dim")
        numbers = await _search(on, told)
        for number in numbers[:OFFERS]:
            await _offered(on, told, number)
        told.scene("What the shop's own ledger says")
        told.line(f"bought    {', '.join(on.bought()) or 'nothing'}")


async def _offered(on: Stage, told: _Told, number: str) -> None:
    told.scene(f"The agent wants to buy {number}: approve it, deny it, or wait")
    result = await on.agent.call(BUY, {"phone_number": number})
    while result.state == "pending":
        told.line("The agent was told that the call is pending; it asks again.", "dim")
        result = await on.agent.call("approval_wait", {"id": result.call_id})
    told.answer(result)
    told.line(f"ledger    {', '.join(on.bought()) or 'nothing bought yet'}")


async def _search(on: Stage, told: _Told) -> list[str]:
    tools = [name for name in await on.agent.tools() if not name.startswith("approval_")]
    told.line(f"tools     {', '.join(tools)}")
    result = await on.agent.call(SEARCH, {"area_code": "415"})
    numbers = result.structured.get("numbers")
    found = [str(each["phone_number"]) for each in numbers] if isinstance(numbers, list) else []
    if len(found) < SHOWN:
        raise StoryFailed(f"the shop offers nothing: {result.text}")
    told.line(f"search    allowed at once: {', '.join(found[:OFFERS])} …")
    return found
