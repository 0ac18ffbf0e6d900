"""What the whole suite shares: the parts a machine may lack, found or loudly missed.

Tests marked `npm`, `browser` or `postgres` are skipped where their part is missing, and the last
lines of the run say so. On a build machine (`CI=true`) a missing part is an error: nothing hides
there.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import postgres

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NPM_SERVERS = "@modelcontextprotocol"

Command = Callable[[str], list[str]]

missed = pytest.StashKey[set[str]]()


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, CHROMIUMS)), None)


def missing_npm() -> str | None:
    folder = os.environ.get("APPROVAL_TEST_NPM")
    if folder is None:
        return "APPROVAL_TEST_NPM names no folder with node_modules; .ci/run shows how to make one"
    if not (Path(folder) / "node_modules" / NPM_SERVERS).is_dir():
        return f"the folder of APPROVAL_TEST_NPM has no node_modules/{NPM_SERVERS}"
    return None if shutil.which("node") else "there is no node on the PATH"


def missing_browser() -> str | None:
    return None if find_chromium() else f"none of {', '.join(CHROMIUMS)} is on the PATH"


MISSING = {"npm": missing_npm, "browser": missing_browser, "postgres": postgres.missing}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, find in MISSING.items():
        reason = find() if item.get_closest_marker(marker) else None
        if reason is None:
            continue
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must not skip tests marked {marker}: {reason}", pytrace=False)
        item.config.stash.setdefault(missed, set()).add(f"{marker}: {reason}")
        pytest.skip(f"{marker}: {reason}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    reasons: set[str] = config.stash.get(missed, set())
    if reasons:
        terminalreporter.section("NOT TESTED ON THIS MACHINE", sep="!", red=True, bold=True)
    for reason in sorted(reasons):
        terminalreporter.write_line(reason)


@pytest.fixture(scope="session")
def npm_command() -> Command:
    """Give the command of a server package of the marker `npm`, without any download."""
    modules = Path(os.environ["APPROVAL_TEST_NPM"]) / "node_modules" / NPM_SERVERS

    def command(package: str) -> list[str]:
        folder = modules / package
        binary = json.loads((folder / "package.json").read_text())["bin"]
        script = binary if isinstance(binary, str) else next(iter(binary.values()))
        node = shutil.which("node")
        assert node is not None
        return [node, str(folder / script)]

    return command


@pytest.fixture(scope="session")
def chromium() -> str:
    """Give the path of the Chromium that tests marked `browser` drive."""
    path = find_chromium()
    assert path is not None
    return path


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """Run a PostgreSQL for the tests marked `postgres`."""
    with postgres.running() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: postgres.Server) -> Iterator[str]:
    """Give the URL of a database with our schema, and nobody else's."""
    with postgres_server.database() as url:
        yield url
