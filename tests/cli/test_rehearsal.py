"""`approval test`, as a person runs it."""

import json
import subprocess
import sys
from pathlib import Path

from tests.app.test_rehearsing import CONFIG
from tests.cli.desk import desk

ROOT = Path(__file__).parents[2]


def run(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "approval", "test", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def suite(folder: Path, steps: str) -> None:
    (folder / "config.toml").write_text(CONFIG)
    (folder / "policy.tests.toml").write_text(
        f'[[case]]\nname = "a"\nagent = "bot"\nsteps = [{steps}]\n'
    )


def test_the_example_passes_and_says_what_was_met() -> None:
    ended = run("--config", "config.example.toml", "docs/config.example.tests.toml")
    assert ended.returncode == 0, ended.stderr
    assert "4 cases, 18 steps, all as expected" in ended.stdout
    assert "rules and limits met by some case: 3 of 3" in ended.stdout


def test_a_case_that_fails_ends_with_1_and_is_named(tmp_path: Path) -> None:
    suite(tmp_path, '{ call = "buy", args = { n = 1 }, expect = "deny" }')
    ended = run("--config", str(tmp_path / "config.toml"))
    assert ended.returncode == 1
    assert "FAILED  a, step 1: buy is allowed" in ended.stdout
    assert "1 step(s) went otherwise" in ended.stderr


def test_too_few_rules_met_end_with_1(tmp_path: Path) -> None:
    suite(tmp_path, '{ call = "ask", expect = "gate" }')
    where = ("--config", str(tmp_path / "config.toml"))
    assert run(*where, "--least-coverage", "25").returncode == 0
    ended = run(*where, "--least-coverage", "26")
    assert ended.returncode == 1
    assert "The cases met 25 % of the rules and limits" in ended.stderr


def test_for_programs_it_is_one_object(tmp_path: Path) -> None:
    suite(tmp_path, '{ call = "ask", expect = "gate" }')
    ended = run("--config", str(tmp_path / "config.toml"), "--json")
    [found] = json.loads(ended.stdout)["files"].values()
    assert (found["cases"], found["steps"], found["failures"]) == (1, 1, [])


def test_without_any_case_it_says_where_to_put_them(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    ended = run("--config", str(tmp_path / "config.toml"))
    assert ended.returncode == 3
    assert "has no file *.tests.toml" in ended.stderr


def test_the_past_is_replayed_under_another_policy(tmp_path: Path) -> None:
    at = desk(tmp_path)
    at.hold()
    strict = tmp_path / "strict.toml"
    strict.write_text('dialect = "approval-1"\nversion = "1"\ndefault = "deny"\n')
    command = [sys.executable, "-m", "approval", "backtest", str(strict), "--config"]
    ended = subprocess.run(
        [*command, str(at.config)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "1 recorded calls of" in ended.stdout
    assert "gate then, deny under" in ended.stdout
    assert (
        "not replayed: calls that were denied or cost nothing, which are not kept; grants that are"
        " not in the configuration (0 of these calls ran under one)"
    ) in ended.stdout
    ended = subprocess.run(
        [*command, str(at.config), "--json"], capture_output=True, text=True, check=False
    )
    found = json.loads(ended.stdout)
    assert found["under_other_grants"] == 0
    assert found["matrix"] == [{"then": "gate", "now": "deny", "calls": 1}]
    assert [each["code"] for each in found["changed"]] == ["unlisted"]
    ended = subprocess.run(
        [*command, str(at.config), "--since", "soon"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, "--since 24h" in ended.stderr) == (1, True)
