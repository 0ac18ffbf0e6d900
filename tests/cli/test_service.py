"""Whether the service could run: everything wrong at once, upstreams included."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from approval.app.opening import approvers
from approval.app.running import running
from approval.cli.service import announce
from approval.cli.terminal import Exit
from approval.config import load
from approval.config.sections import Listen
from tests.cli.desk import desk


def test_a_good_configuration_is_said_to_be_one_and_nothing_is_made(tmp_path: Path) -> None:
    ended = desk(tmp_path).run("check")
    assert ended.code == 0, ended.err
    assert "shop: 4 tools" in ended.out
    assert "The configuration can be served." in ended.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml"]


def test_nothing_is_started_offline(tmp_path: Path) -> None:
    at = desk(tmp_path)
    at.config.write_text(at.config.read_text().replace("approval.demo.shop", "approval.no.shop"))
    assert "shop: not asked" in at.run("check", "--offline").out
    ended = at.run("check", "--json")
    assert ended.code == Exit.REFUSED
    problems = ended.document["problems"]
    assert isinstance(problems, list)
    assert len(problems) == 1
    assert problems[0].startswith("upstreams.shop: does not answer: ")


def test_a_rule_for_a_tool_that_is_not_there_guards_nothing(tmp_path: Path) -> None:
    at = desk(tmp_path)
    extra = """
[agents.ops-agent.policy.shop]
dialect = "approval-1"
version = "1"
default = "allow"
hide = ["delete_*"]
[agents.ops-agent.policy.shop.tools."*_phone_number"]
[agents.ops-agent.policy.shop.tools.create_incoming_phone_numbr]
"""
    document = at.run("check", "--json", extra=extra).document
    assert document["upstreams"] == {"shop": 4}
    where = f"{at.config}: agents.ops-agent.policy.shop"
    assert document["problems"] == [
        (
            f"{where}: /tools/create_incoming_phone_numbr: create_incoming_phone_numbr names no"
            f" tool that shop lists; correct the name, or remove the rule"
        ),
        (
            f"{where}: /hide/0: delete_* names no tool that shop lists; correct the name, or remove"
            f" the rule"
        ),
    ]


def test_mistakes_in_the_files_end_a_check_with_their_own_code(tmp_path: Path) -> None:
    ended = desk(tmp_path).run("check", extra="[slack]\n[people.zoe]\nnick = 1\n")
    assert ended.code == Exit.MISCONFIGURED
    assert ended.err.count("error: ") == 2


def test_serving_ends_before_it_begins_where_the_files_are_wrong(tmp_path: Path) -> None:
    at = desk(tmp_path)
    assert at.run("serve", extra="[slack]\n").code == Exit.MISCONFIGURED
    (tmp_path / "config.toml").unlink()
    assert "copy config.example.toml" in at.run("serve").err


async def test_no_login_link_is_printed_where_nobody_sits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(desk(tmp_path).config)
    server = config.server.model_copy(update={"listen": Listen("127.0.0.1", 0)})
    async with running(replace(config, server=server)) as service:
        await announce(service)
        entries = [json.loads(entry.body)["tag"] for entry in await service.store.trail()]
    printed = capsys.readouterr().out
    assert f"agents:  {service.url}/mcp/shop" in printed
    assert "sign in as ann: run `approval token login ann`" in printed
    assert "token=" not in printed
    assert "token:issue" not in entries
    assert approvers(config.rules) == ("ann", "bob")
