"""Configuration files for tests: a small valid one, and what a test puts in place of its parts."""

from pathlib import Path

from approval.config import Config, load
from approval.errors import Misconfigured

TOKEN = "a-token-for-tests-of-34-characters"

SHOP = """
[upstreams.shop]
command = ["python", "-m", "approval.demo.shop"]
[upstreams.shop.policy]
dialect = "approval-1"
version = "1"
default = "deny"
[upstreams.shop.policy.tools.buy]
require_approval = [{ approvers = "finance" }]
"""
PEOPLE = """
[people.ann]
[people.bob]
[groups]
finance = ["ann", "bob"]
"""
AGENT = """
[agents.ops-agent]
upstreams = ["shop"]
owner = "bob"
"""
VALID = SHOP + PEOPLE + AGENT


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def read(folder: Path, text: str = VALID, **environment: str) -> Config:
    return load(write(folder, text), environment)


def problems(folder: Path, text: str, **environment: str) -> list[str]:
    """Read a file that must be refused, and answer its problems without the folder."""
    try:
        read(folder, text, **environment)
    except Misconfigured as error:
        return [problem.replace(f"{folder}/", "") for problem in error.problems]
    raise AssertionError("the configuration was accepted")
