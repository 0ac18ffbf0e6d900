"""The commands that start something: run the service, or look whether it could run."""

import asyncio
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from approval.app.opening import approvers, opened
from approval.app.running import Running
from approval.app.serving import serve as serve_until_stopped
from approval.cli import logs
from approval.cli.session import run
from approval.cli.terminal import Declined, complain, hint, is_person, say, write_json
from approval.config import Config, load
from approval.config.sections import Location
from approval.core.policy import Mention, Policy, tool_pattern
from approval.errors import AnswerLost, NeverSent
from approval.gateway.http import Gateway


def serve(config: Path, *, verbose: bool) -> None:
    """Run the service until it is stopped."""
    logs.set_up(verbose=verbose)
    found = load(config)
    for warning in found.warnings:
        hint(f"warning: {warning}")
    serve_until_stopped(found, announce)


async def announce(running: Running) -> None:
    """Say where the service is. A login link goes to a terminal only, never into a log."""
    for name in running.config.upstreams:
        say(f"agents:  {running.url}/mcp/{name}")
    say(f"people:  {running.url}/")
    for person in approvers(running.service.rules):
        if is_person():
            say(f"sign in as {person}: {await running.login_link(person)}")
        else:
            say(f"sign in as {person}: run `approval token login {person}`")


@dataclass(slots=True)
class Findings:
    """What `check` found: problems fail it, remarks do not."""

    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    tools: dict[str, int | None] = field(default_factory=dict)


def check(config: Path, *, offline: bool, as_json: bool) -> None:
    """Read everything, start every upstream, and say what would not work."""
    found = load(config)
    findings = Findings(remarks=list(found.warnings))
    if not offline:
        run(_ask_upstreams(found, findings))
    if as_json:
        write_json(
            {
                "problems": findings.problems,
                "remarks": findings.remarks,
                "upstreams": {name: findings.tools.get(name) for name in found.upstreams},
            }
        )
    else:
        _tell(found, findings)
    if findings.problems:
        raise Declined(f"{len(findings.problems)} problem(s) found.")


def _tell(config: Config, findings: Findings) -> None:
    for name in config.upstreams:
        count = findings.tools.get(name)
        say(f"{name}: {'not asked' if count is None else f'{count} tools'}")
    for remark in findings.remarks:
        say(f"remark: {remark}", style="yellow")
    complain(findings.problems)
    if not findings.problems:
        say("The configuration can be served.", style="bold green")


async def _ask_upstreams(config: Config, findings: Findings) -> None:
    with tempfile.TemporaryDirectory(prefix="approval-check-") as folder:
        # A store of its own: a check must not create or migrate the real one.
        aside = replace(config, database=Location(f"sqlite:///{folder}/check.db"))
        async with opened(aside) as (_, service):
            gateway = Gateway(service, config.upstreams, config.gateway)
            async with gateway, service:
                for name in config.upstreams:
                    await _ask(name, gateway, config, findings)


async def _ask(name: str, gateway: Gateway, config: Config, findings: Findings) -> None:
    try:
        async with asyncio.timeout(config.upstreams[name].timeout.total_seconds()):
            listed = await gateway.list_tools(name)
    except (NeverSent, AnswerLost) as error:
        findings.problems.append(f"upstreams.{name}: does not answer: {error}")
        return
    except TimeoutError:
        findings.problems.append(f"upstreams.{name}: does not list its tools in time")
        return
    tools = [tool["name"] for tool in listed if isinstance(tool.get("name"), str)]
    names = [str(tool) for tool in tools]
    findings.tools[name] = len(names)
    narrowing = [p for (_, upstream), p in config.rules.narrowing.items() if upstream == name]
    for policy in (config.rules.policies[name], *narrowing):
        findings.problems += _idle(policy, names, name)


def _idle(policy: Policy, tools: list[str], upstream: str) -> list[str]:
    """Name rules for tools that are not there: a misspelt gate guards nothing."""
    return [
        f"{policy.source}: {rule.path}: {rule.text} names no tool that {upstream} lists; correct"
        " the name, or remove the rule"
        for rule in policy.tool_patterns()
        if not _meets(rule, tools)
    ]


def _meets(rule: Mention, tools: list[str]) -> bool:
    matches = tool_pattern(rule.text, rule.path).matches
    return any(matches(tool) for tool in tools)
