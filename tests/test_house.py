"""The house's own rules: layers, sizes, mirrors, documents and tools, held by the suite itself."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE_WALL = 500
FUNCTION_WALL = 60
SHORT_FUNCTION = 30

# A module without a test file of its own, and why.
UNMIRRORED = {
    "approval/__main__.py": "two lines; tests/cli/test_main.py starts it as a program",
    "approval/cli/groups.py": "options alone; tests of cli/grants and cli/freezes run its commands",
    "approval/cli/options.py": "types alone; every command's test uses them",
    "approval/errors.py": "classes without behaviour; whoever raises one tests it",
    "approval/ports.py": "protocols; whatever implements one is tested",
}

# What a service with SQLite must not load: importing what is not used costs most of the memory.
HEAVY = ("alembic", "asyncpg", "joserfc", "slack_bolt", "mcp", "ruamel")


@cache
def tracked() -> tuple[Path, ...]:
    """List every file of the project: what git tracks, and what it would if it were added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        names = listed.stdout.split("\0")
        return tuple(path for name in names if name and (path := ROOT / name).is_file())
    parts = ("approval", "tests", "migrations", "docs")  # an unpacked archive, without git
    files = (path for part in parts for path in (ROOT / part).rglob("*") if path.is_file())
    return tuple(path for path in files if "__pycache__" not in path.parts)


def sources(*folders: str) -> list[Path]:
    roots = [ROOT / folder for folder in folders]
    return [
        path
        for path in tracked()
        if path.suffix == ".py" and any(path.is_relative_to(root) for root in roots)
    ]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def modules() -> list[str]:
    return sorted(name_of(path) for path in sources("approval"))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name every function of a file with its length in lines, its decorators not counted."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name_of(path)}: {node.name}", (node.end_lineno or 0) - node.lineno + 1


def tool(*command: str) -> None:
    """Run a tool of this interpreter's environment over the checkout; it must be content."""
    run = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_rooms_import_only_to_their_right() -> None:
    # In a process of its own: it sets up logging, and would silence every logger of this one.
    lint = "import importlinter.cli as it; raise SystemExit(it.lint_imports(no_cache=True))"
    run = subprocess.run(
        [sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_code_is_formatted() -> None:
    tool("ruff", "format", "--check", "--no-cache", ".")


def test_code_is_linted() -> None:
    tool("ruff", "check", "--no-cache", ".")


def test_code_and_tests_are_typed(tmp_path: Path) -> None:
    tool("mypy", "--cache-dir", str(tmp_path), "approval", "tests")


def test_every_module_has_its_test_file() -> None:
    lacking = []
    for module in modules():
        path = Path(module)
        folder = ROOT / "tests" / path.parent.relative_to("approval")
        if path.name == "__init__.py" or module in UNMIRRORED:
            continue
        if not any(folder.glob(f"test_{path.stem}*.py")):
            lacking.append(module)
    assert lacking == []


def test_the_list_of_modules_without_a_test_file_is_not_stale() -> None:
    assert set(UNMIRRORED) <= set(modules())


def test_every_module_opens_with_what_it_is_for() -> None:
    silent = [
        name_of(path)
        for path in sources("approval")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_no_file_is_longer_than_the_wall() -> None:
    lengths = {
        name_of(path): len(path.read_text().splitlines())
        for path in sources("approval", "tests", "migrations")
    }
    assert {name: lines for name, lines in lengths.items() if lines > FILE_WALL} == {}


def test_no_function_is_longer_than_the_wall_and_nine_in_ten_are_short() -> None:
    everywhere = [f for path in sources("approval", "tests") for f in functions(path)]
    assert [named for named in everywhere if named[1] > FUNCTION_WALL] == []
    ours = [lines for path in sources("approval") for _, lines in functions(path)]
    assert sum(lines < SHORT_FUNCTION for lines in ours) >= 0.9 * len(ours)


def test_nothing_is_left_to_do_in_the_code() -> None:
    # Written apart, here and below, so that this file does not find itself.
    marks = "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "NotImplemented" + "Error"))
    found = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in sources("approval", "migrations")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(rf"\b({marks})\b", line)
    ]
    assert found == []


def test_no_file_names_a_path_of_one_machine_or_a_package_registry() -> None:
    paths = ("/ro" + "ot/", "/wo" + "rk/", "/ho" + "me/[a-z]", "/Us" + "ers/[A-Za-z]")
    scratch = "/t" + "mp/(brief|npm|bash_jobs|mypy|conf)"
    hosts = (r"pypi\.o" + "rg", r"pythonho" + r"sted\.org", r"npm" + r"js\.(org|com)")
    proxies = (r"proxy\.gol" + r"ang\.org", r"deb\.deb" + r"ian\.org", r"crates\.i" + "o")
    pattern = re.compile("|".join((*paths, scratch, *hosts, *proxies)))
    found = [
        f"{name_of(path)}: {match.group()}"
        for path in tracked()
        if (match := pattern.search(path.read_bytes().decode("latin-1")))
    ]
    assert found == []


def test_the_example_configuration_loads() -> None:
    config = importlib.import_module("approval.config")
    assert config.load(ROOT / "config.example.toml") is not None


def between(text: str, start: str, end: str) -> str:
    assert text.count(start) == text.count(end) == 1, f"{start} … {end} must be there once"
    return text.partition(start)[2].partition(end)[0]


def test_the_diagram_of_the_readme_is_the_table_of_the_code() -> None:
    lifecycle = importlib.import_module("approval.core.lifecycle")
    shown = between((ROOT / "README.md").read_text(), "<!-- diagram -->", "<!-- /diagram -->")
    assert shown.strip() == f"```mermaid\n{lifecycle.diagram()}\n```"


def test_the_page_on_the_architecture_names_every_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = (module.removeprefix("approval/") for module in modules())
    missing = [
        module
        for module in rooms
        if not module.endswith("__init__.py") and not re.search(rf"\b{re.escape(module)}\b", page)
    ]
    assert missing == []


def test_every_audit_tag_is_explained() -> None:
    audit = importlib.import_module("approval.core.audit")
    page = (ROOT / "docs" / "reference.md").read_text()
    assert [tag for tag in audit.Tag if f"`{tag}`" not in page] == []
    assert all(re.fullmatch(r"[a-z]+:[a-z_]+", tag) for tag in audit.Tag)


@pytest.mark.parametrize("module", ["approval", "approval.app", "approval.demo.shop"])
def test_importing_loads_no_more_than_is_used(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    loaded = {name.partition(".")[0] for name in json.loads(run.stdout)}
    assert loaded.isdisjoint(HEAVY)


def test_every_module_imports_without_a_warning() -> None:
    names = [
        module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for module in modules()
    ]
    code = f"import importlib; [importlib.import_module(name) for name in {names!r}]"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
