"""`approval freezes`, as a person runs it."""

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.desk import desk


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "approval", "freezes", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_where_nothing_is_frozen_it_says_so(tmp_path: Path) -> None:
    config = str(desk(tmp_path).config)
    assert run("--config", config).stdout == "No tool is frozen.\n"
    assert json.loads(run("--config", config, "--json").stdout) == {"freezes": []}


def test_lifting_takes_a_persons_own_proof(tmp_path: Path) -> None:
    config = str(desk(tmp_path).config)
    ended = run("lift", "apr_1", "--evidence", "x", "--config", config)
    assert ended.returncode == 1
    assert "needs your own token" in ended.stderr
