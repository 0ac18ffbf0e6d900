"""`approval test`: play the cases beside a configuration, and say which rules none of them met."""

import asyncio
from pathlib import Path
from typing import Final

from approval.app.rehearsing import Report, rehearse
from approval.cli.terminal import Declined, say, write_json
from approval.config import load
from approval.config.suites import read_suite
from approval.errors import Misconfigured

SUFFIX: Final = ".tests.toml"


def test_policies(config: Path, files: list[Path], *, least_coverage: float, as_json: bool) -> None:
    """Play every case of these files, or of those beside the configuration.

    Raises:
        Declined: If a case failed, or too few rules were met.
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
            f"The cases met {covered:.0f} % of the rules; {least_coverage:.0f} % wanted."
        )


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
    say(f"  rules met by some case: {report.rules - len(report.unused)} of {report.rules}")
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
