"""Commands on freezes: list them, and lift one with a person's own proof."""

from pathlib import Path

from approval.cli.orders import Proof
from approval.cli.session import decider, run, session
from approval.cli.terminal import Declined, say, table, write_json
from approval.errors import Forbidden, NotFound


def show(config: Path, *, as_json: bool) -> None:
    """List the tools that spend nothing until somebody has looked into an overrun."""
    run(_show(config, as_json=as_json))


async def _show(config: Path, *, as_json: bool) -> None:
    async with session(config) as here:
        found = await here.service.freezing.listed()
    if as_json:
        names = ("call_id", "agent", "upstream", "tool")
        rows = [{name: getattr(each, name) for name in names} for each in found]
        since = [each.at.isoformat() for each in found]
        write_json({"freezes": [row | {"at": at} for row, at in zip(rows, since, strict=True)]})
    elif not found:
        say("No tool is frozen.")
    else:
        headings = ("ID", "AGENT", "UPSTREAM", "TOOL", "SINCE")
        table(
            headings,
            [(e.call_id, e.agent, e.upstream, e.tool, f"{e.at:%Y-%m-%dT%H:%M:%SZ}") for e in found],
        )


def lift(config: Path, call_id: str, proof: Proof, evidence: str) -> None:
    """Let a tool spend again, on the proof of somebody who may settle."""
    run(_lift(config, call_id, proof, evidence))


async def _lift(config: Path, call_id: str, proof: Proof, evidence: str) -> None:
    async with session(config) as here:
        who = decider(here, proof)
        try:
            await here.service.freezing.lift(
                call_id, person=who.person, via=who.via, evidence=evidence
            )
        except (Forbidden, NotFound) as refusal:
            raise Declined(f"Not lifted: {refusal}.") from refusal
    say(f"The tool that {call_id} froze may spend again.", style="bold green")
