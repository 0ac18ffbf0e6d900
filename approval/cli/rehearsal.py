"""`approval test` and `approval backtest`: play cases, or the recorded past, under the rules."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from approval.app.backtesting import Backtest, backtest
from approval.app.opening import approvers
from approval.app.rehearsing import Report, rehearse
from approval.cli.terminal import Declined, progress, say, write_json
from approval.config import Config, load
from approval.config.suites import read_suite
from approval.core.dialects import load_text
from approval.core.rulebook import Rulebook
from approval.core.spans import read_duration
from approval.core.terms import RequirementDefaults
from approval.errors import Misconfigured
from approval.store.store import SqlStore

SUFFIX: Final = ".tests.toml"
SHOWN: Final = 20
NOT_REPLAYED: Final = "calls that were denied or cost nothing, which are not kept"


def play(config: Path, files: list[Path], *, least_coverage: float, as_json: bool) -> None:
    """Play every case of these files, or of those beside the configuration.

    Raises:
        Declined: If a case failed, or too few rules and limits were met.
    """
    rules = load(config).rules
    reports = {
        str(file): asyncio.run(rehearse(rules, read_suite(file)))
        for file in files or _beside(config)
    }
    if as_json:
        write_json({"files": {name: _facts(report) for name, report in reports.items()}})
    else:
        for name, report in reports.items():
            _tell(name, report)
    failed = sum(len(report.failures) for report in reports.values())
    if failed:
        raise Declined(f"{failed} step(s) went otherwise than their cases say.")
    covered = min(report.coverage for report in reports.values())
    if covered < least_coverage:
        raise Declined(
            f"The cases met {covered:.0f} % of the rules and limits; {least_coverage:.0f} % wanted."
        )


def backtest_policy(
    config: Path, file: Path, *, upstream: str, since: timedelta, as_json: bool
) -> None:
    """Replay an upstream's recorded calls under the policy in a file, and say what changes."""
    loaded = load(config)
    name = _upstream(loaded, upstream)
    found = asyncio.run(_backtested(loaded, _with(loaded, name, file), name, since))
    if as_json:
        write_json(_backtest_facts(found))
        return
    say(f"{found.calls} recorded calls of {name} since {found.since:%Y-%m-%dT%H:%MZ}")
    for (then, now), times in sorted(found.matrix.items()):
        style = "yellow" if then is not now else ""
        say(f"  {times:6d}  {then} then, {now} under {file}", style=style)
    for each in found.changed[:SHOWN]:
        say(f"  {each.call.id} {each.call.asked.tool}: {each.then} → {each.now} ({each.code})")
    if len(found.changed) > SHOWN:
        say(f"  … and {len(found.changed) - SHOWN} more; --json lists them all")
    others = f"{found.granted} of these calls ran under one"
    say(f"  not replayed: {NOT_REPLAYED}; grants that are not in the configuration ({others})")


def span(text: str) -> timedelta:
    """Read how far back to go."""
    found = read_duration(text)
    if found is None:
        raise Declined("That is no span of time; write --since 24h, or 30d.")
    return found


def _upstream(config: Config, wanted: str) -> str:
    if not wanted and len(config.upstreams) == 1:
        return next(iter(config.upstreams))
    if wanted not in config.upstreams:
        known = ", ".join(sorted(config.upstreams))
        raise Declined(f"Which upstream's policy is it? --upstream names one of {known}.")
    return wanted


def _with(config: Config, upstream: str, file: Path) -> Rulebook:
    """Give the rules in force with this one policy instead of the upstream's own."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise Misconfigured((f"{file}: cannot be read: {error.strerror}",)) from error
    # Who is asked changes no verdict: a gate that names nobody asks those whom others ask.
    defaults = RequirementDefaults(approvers=approvers(config.rules))
    policy = load_text(text, suffix=file.suffix, source=str(file), defaults=defaults)
    return replace(config.rules, policies={**config.rules.policies, upstream: policy})


async def _backtested(config: Config, rules: Rulebook, upstream: str, since: timedelta) -> Backtest:
    store = await SqlStore.open(config.database.url)
    try:
        with progress("replaying") as told:
            return await backtest(
                rules, store, since=await store.now() - since, upstream=upstream, told=told
            )
    finally:
        await store.close()


def _backtest_facts(found: Backtest) -> dict[str, object]:
    return {
        "since": found.since.isoformat(),
        "calls": found.calls,
        "under_other_grants": found.granted,
        "matrix": [
            {"then": str(then), "now": str(now), "calls": times}
            for (then, now), times in sorted(found.matrix.items())
        ],
        "changed": [
            {
                "id": each.call.id,
                "tool": each.call.asked.tool,
                "then": str(each.then),
                "now": str(each.now),
                "code": each.code,
                "text": each.text,
            }
            for each in found.changed
        ],
    }


def _beside(config: Path) -> list[Path]:
    found = sorted(config.parent.glob(f"*{SUFFIX}"))
    if not found:
        raise Misconfigured(
            (f"{config.parent}: has no file *{SUFFIX}; write one, or name the files to play",)
        )
    return found


def _tell(name: str, report: Report) -> None:
    for failure in report.failures:
        say(f"FAILED  {failure.case}, step {failure.step}: {failure.text}", style="red")
    style = "red" if report.failures else "bold green"
    ended = f"{len(report.failures)} failed" if report.failures else "all as expected"
    say(f"{name}: {report.cases} cases, {report.steps} steps, {ended}", style=style)
    for code, times in report.codes.items():
        say(f"  {times:5d}  {code}")
    met = report.rules - len(report.unused)
    say(f"  rules and limits met by some case: {met} of {report.rules}")
    for path in report.unused:
        say(f"  never met: {path}", style="yellow")


def _facts(report: Report) -> dict[str, object]:
    return {
        "cases": report.cases,
        "steps": report.steps,
        "failures": [
            {"case": each.case, "step": each.step, "text": each.text} for each in report.failures
        ],
        "rules": report.rules,
        "unused": list(report.unused),
        "codes": dict(report.codes),
    }
