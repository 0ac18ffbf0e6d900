"""A desk for command line tests: a configuration, calls on file, and commands run in-process."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from approval.app.opening import opened
from approval.cli.main import app
from approval.config import load
from approval.core.call import Call, CallId
from approval.core.canonical import JSON
from approval.core.identity import token_digest
from tests.factories import make_asked

ANN = "anns-own-token-for-the-command-line"
BOB = "bobs-own-token-for-the-command-line"
CARL = "carls-own-token-for-the-command-lin"
AGENT = "an-agents-token-for-the-command-lin"

CONFIG = f"""
[upstreams.shop]
command = ["python", "-m", "approval.demo.shop"]
[upstreams.shop.policy]
dialect = "approval-1"
version = "1"
default = "deny"
[upstreams.shop.policy.tools]
search_available_numbers = {{}}
[upstreams.shop.policy.tools.create_incoming_phone_number]
title = "buy a phone number"
require_approval = [{{ approvers = ["ann", "bob"] }}]
[agents.ops-agent]
upstreams = ["shop"]
owner = "carl"
token = {{ sha256 = "{token_digest(AGENT)}" }}
[people.ann]
token = {{ sha256 = "{token_digest(ANN)}" }}
[people.bob]
token = {{ sha256 = "{token_digest(BOB)}" }}
[people.carl]
token = {{ sha256 = "{token_digest(CARL)}" }}
[rights]
admin = "bob"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.out)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One service's files, and whoever sits at the terminal."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    def run(self, *words: str, token: str | None = None, extra: str = "") -> Ended:
        """Run a command as whoever bears this token."""
        if extra:
            self.config.write_text(self.config.read_text() + extra)
        environment: Mapping[str, str | None] = {
            "APPROVAL_CONFIG": str(self.config),
            "APPROVAL_TOKEN": token,
            "COLUMNS": "200",
        }
        ended = CliRunner().invoke(app, list(words), env=environment)
        if ended.exception is not None and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        return Ended(code=ended.exit_code, out=ended.stdout, err=ended.stderr)

    def apart(self, *words: str, token: str, extra: str = "") -> Ended:
        """Run a command as a process of its own: with its log, and no test's handler on it."""
        if extra:
            self.config.write_text(self.config.read_text() + extra)
        command = [sys.executable, "-m", "approval", *words]
        variables = {
            **os.environ,
            "APPROVAL_CONFIG": str(self.config),
            "APPROVAL_TOKEN": token,
            "COLUMNS": "200",
        }
        ended = subprocess.run(
            command, env=variables, check=False, capture_output=True, text=True, timeout=60
        )
        return Ended(code=ended.returncode, out=ended.stdout, err=ended.stderr)

    def price(self, amount: str) -> None:
        """Give the purchase a price, counted in a meter."""
        text = self.config.read_text()
        priced = f"""spend = {{ amount = {amount}, meters = ["numbers"] }}
[upstreams.shop.policy.meters]
numbers = {{ limit = "5000.00 USD", window = {{ calendar = "month" }}, scope = ["agent"] }}
[approvals]
approvers = ["ann", "bob"]
[agents.ops-agent]"""
        self.config.write_text(text.replace("[agents.ops-agent]", priced))

    def hold(self, arguments: JSON = None, **changes: object) -> Call:
        """Put a call on file that waits for ann or bob."""
        return asyncio.run(self._hold(arguments, changes))

    async def _hold(self, arguments: JSON, changes: Mapping[str, object]) -> Call:
        async with opened(load(self.config)) as (_, service), service:
            asked = make_asked(arguments, **changes)
            verdict = service.rules.judge(asked.agent, asked.upstream, asked.tool, {})
            return (await service.submit(asked, verdict)).call

    def call(self, call_id: str) -> Call:
        """Read a call as it is on file."""

        async def read() -> Call:
            async with opened(load(self.config)) as (store, _):
                return await store.get(CallId(call_id))

        return asyncio.run(read())


def desk(folder: Path) -> Desk:
    made = Desk(folder=folder)
    made.config.write_text(CONFIG)
    return made
