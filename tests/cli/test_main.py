"""The commands as a whole: what there is, how fast the help comes, and as a program."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from approval.cli.main import app
from approval.cli.terminal import Exit
from tests.cli.desk import desk

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("aiohttp", "sqlalchemy", "alembic", "pydantic", "re2", "jinja2", "uvloop", "ruamel")


def program(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "approval", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['approval', '--help']; sys.stdout.reconfigure(encoding='utf-8')\n"
        "from approval.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.endswith("loaded: []\n")
    names = (
        *(
            "serve",
            "demo",
            "check",
            "pending",
            "show",
            "approve",
            "reject",
            "settle",
            "correct",
            "cancel",
        ),
        *("audit", "token", "db", "import", "explain", "lint", "test", "backtest"),
    )
    assert all(name in ended.stdout for name in names)


def test_a_command_works_as_a_program(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    ended = program("pending", "--config", str(at.config))
    assert (ended.returncode, call.id in ended.stdout, ended.stderr) == (0, True, "")
    refused = program("approve", call.id, "--config", str(at.config))
    assert refused.returncode == Exit.REFUSED
    assert "Deciding needs your own token" in refused.stderr


@pytest.mark.parametrize(
    "words", [("approve",), ("settle", "apr_1"), ("nonsense",), ("show", "--x")]
)
def test_what_is_no_command_is_a_usage_error(words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, list(words)).exit_code == Exit.USAGE


@pytest.mark.parametrize("group", ["audit", "token", "db"])
def test_a_group_alone_explains_itself(group: str) -> None:
    assert "Usage" in CliRunner().invoke(app, [group]).output
