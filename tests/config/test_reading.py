"""Reading a configuration: what a good one comes to, and that a bad one says everything at once."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest

from approval.config import load
from approval.config.sections import Listen, Local, OnStoreDown
from approval.core.call import Outcome
from approval.core.identity import Agent, Person, Right, token_digest
from tests.config.files import PEOPLE, SHOP, TOKEN, VALID, problems, read, write

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_loads_as_it_stands_and_gates_the_purchase() -> None:
    config = load(ROOT / "config.example.toml", {})
    rules = config.rulebook()

    verdict = rules.judge("ops-agent", "shop", "create_incoming_phone_number", {})
    assert verdict.outcome is Outcome.GATE
    assert verdict.title == "buy a phone number"
    allowed = rules.judge("ops-agent", "shop", "search_available_numbers", {})
    assert allowed.outcome is Outcome.ALLOW
    assert rules.judge("ops-agent", "shop", "anything_else", {}).outcome is Outcome.DENY
    assert rules.directory.has_right("ann", Right.READ_ALL)
    assert config.database.url == f"sqlite:///{ROOT}/approval.db"
    assert config.warnings == ()


def test_what_is_left_out_has_a_good_default(tmp_path: Path) -> None:
    config = read(tmp_path)

    assert config.server.listen == Listen("127.0.0.1", 8080)
    assert config.server.public_url is None
    assert config.server.trusted_proxies == ()
    assert str(config.database) == f"{tmp_path}/approval.db"
    assert config.audit.on_store_down is OnStoreDown.REFUSE
    assert config.local is Local.TOKEN
    assert config.files == {tmp_path / "config.toml"}


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:hunter2-hunter2@h/db", "postgresql://me@h/db?password=hunter2-hunter2"],
)
def test_a_database_address_with_a_password_comes_from_outside_the_file(
    tmp_path: Path, url: str
) -> None:
    text = f'{VALID}\n[database]\nurl = "{url}"\n'
    remedy = 'looks like a secret in the file itself; write { env = "NAME" } or { file = "path" }'
    assert problems(tmp_path, text) == [f"config.toml: database.url: {remedy} instead"]
    config = read(tmp_path, f'{VALID}\n[database]\nurl = {{ env = "URL" }}\n', URL=url)
    assert config.database.url == url
    assert "hunter2" not in f"{config} {config.database}"
    (wrong,) = problems(tmp_path, f'{VALID}\n[database]\nurl = {{ env = "URL" }}\n', URL=f"x{url}")
    assert "is no database this release knows" in wrong
    assert "hunter2" not in wrong


def test_everybody_is_read_with_tokens_as_hashes_alone(tmp_path: Path) -> None:
    (tmp_path / "bob.token").write_text("b" * 20 + "0123456789ab\n")
    (tmp_path / "bob.token").chmod(0o600)
    text = (
        SHOP
        + """
[people.ann]
name = "Ann Example"
email = "ann@example.com"
slack = "U012AB3CD"
token = { env = "ANN" }
[people.bob]
token = { file = "bob.token" }
[groups]
finance = ["ann", "bob"]
[agents.ops-agent]
upstreams = ["shop"]
owner = "ann"
groups = ["nightly"]
tokens = [{ sha256 = "%s" }, { env = "OPS" }]
[rights]
settle = "finance"
read_all = ["ann"]
"""
        % ("0" * 64)
    )
    config = read(tmp_path, text, ANN=TOKEN, OPS=TOKEN + "2")

    directory = config.rulebook().directory
    assert directory.people["ann"] == Person(
        name="ann",
        title="Ann Example",
        email="ann@example.com",
        slack="U012AB3CD",
        token_digests=frozenset({token_digest(TOKEN)}),
    )
    assert directory.people["bob"].title == "bob"
    assert directory.people_by_digest()[token_digest("b" * 20 + "0123456789ab")].name == "bob"
    assert directory.agents["ops-agent"] == Agent(
        name="ops-agent",
        upstreams=frozenset({"shop"}),
        owner="ann",
        groups=("nightly",),
        token_digests=frozenset({"0" * 64, token_digest(TOKEN + "2")}),
    )
    assert directory.rights == {
        Right.ADMIN: frozenset(),
        Right.SETTLE: frozenset({"ann", "bob"}),
        Right.READ_ALL: frozenset({"ann"}),
    }
    assert TOKEN not in repr(config)
    assert tmp_path / "bob.token" in config.files


def test_upstreams_get_secrets_by_name_and_paths_from_the_file(tmp_path: Path) -> None:
    text = (
        VALID
        + """
[upstreams.remote]
url = "https://mcp.example.com/mcp"
headers = { Authorization = { env = "REMOTE" }, X-Tenant = "acme" }
timeout = "2m"
policy = "policies/remote.json"
[upstreams.local]
command = ["./serve", "--fast"]
cwd = "servers"
env = { MODE = "fast", LOCAL_KEY = { env = "LOCAL" } }
[upstreams.local.policy]
dialect = "approval-1"
version = "1"
default = "allow"
"""
    )
    (tmp_path / "policies").mkdir()
    policy = tmp_path / "policies" / "remote.json"
    policy.write_text('{"version": "1", "default": "deny"}')
    config = read(tmp_path, text, REMOTE="Bearer abcdef", LOCAL="12345678")

    remote, local = config.upstreams["remote"], config.upstreams["local"]
    assert {name: value.get_secret_value() for name, value in remote.headers.items()} == {
        "Authorization": "Bearer abcdef",
        "X-Tenant": "acme",
    }
    assert remote.timeout == timedelta(minutes=2)
    assert local.command == ("./serve", "--fast")
    assert local.cwd == str(tmp_path / "servers")
    assert local.env["LOCAL_KEY"].get_secret_value() == "12345678"
    assert config.upstreams["shop"].command == (sys.executable, "-m", "approval.demo.shop")
    assert policy in config.files
    assert "abcdef" not in repr(config)
    assert config.rulebook().policies["remote"].source == str(policy)


def test_an_agents_own_policy_narrows_its_upstream(tmp_path: Path) -> None:
    text = VALID + '[agents.ops-agent.policy]\nshop = "narrow.json"\n'
    document = '{"version": "1", "default": "allow", "hide": ["buy"]}'
    (tmp_path / "narrow.json").write_text(document)
    rules = read(tmp_path, text).rulebook()

    assert rules.judge("ops-agent", "shop", "buy", {}).outcome is Outcome.DENY
    assert ("ops-agent", "shop") in rules.narrowing


def test_everything_wrong_is_said_at_once_with_file_key_and_remedy(tmp_path: Path) -> None:
    text = """
title = 1
[server]
lisen = "127.0.0.1:8080"
[database]
url = "mysql://u@h/db"
[slack]
team = "T1"
[upstreams.shop]
command = ["shop"]
url = "https://shop.example.com"
[agents.ops-agent]
upstreams = ["shpo"]
owner = "anne"
token = "literal"
[people.ann]
nick = "A"
[groups]
ann = ["zoe"]
[approvals]
aprovers = "ann"
[gateway]
allowed_hosts = ["x"]
"""
    found = problems(tmp_path, text)
    assert found == [
        (
            "config.toml: title: is not a section; known: agents, approvals, audit, database,"
            " gateway, grants, groups, meters, people, rights, server, upstreams"
        ),
        (
            "config.toml: slack: Slack comes with a later release; people decide in the console, on"
            " the command line and through the API. Remove the section until then"
        ),
        "config.toml: groups.ann: is a person's name too; rename one of them",
        "config.toml: server.lisen: is not a key of this section; did you mean listen?",
        (
            "config.toml: database.url: is no database this release knows; write"
            " sqlite:///approval.db or postgresql://user@host/approval"
        ),
        (
            "config.toml: gateway.allowed_hosts: stands in another section; write [server]"
            " allowed_hosts"
        ),
        'config.toml: upstreams.shop: give either "command" or "url"',
        "config.toml: /approvals/aprovers: " + found[7].split(": ", 2)[2],
        (
            "config.toml: upstreams.shop.policy: is missing, and nothing is served without one;"
            " name a policy file, or write the policy as a table"
        ),
        (
            "config.toml: agents.ops-agent.token: holds a secret in the file itself; write { env ="
            ' "NAME" } or { file = "path" } instead'
        ),
        "config.toml: agents.ops-agent.upstreams[0]: shpo is not an upstream; did you mean shop?",
        "config.toml: agents.ops-agent.owner: anne is not a person; did you mean ann?",
        "config.toml: people.ann.nick: is not a key of this section; known: email, name, slack",
        "config.toml: groups.ann[0]: zoe is not a person, and groups hold people only; known: ann",
    ]


def test_nothing_is_served_without_an_upstream(tmp_path: Path) -> None:
    assert problems(tmp_path, PEOPLE) == [
        (
            "config.toml: upstreams: names no server to stand in front of; add [upstreams.NAME]"
            " with a command or a url, and its policy"
        )
    ]


BEYOND = '[server]\nlisten = "0.0.0.0:8080"\n'


def test_listening_beyond_this_machine_needs_encryption_and_a_name(tmp_path: Path) -> None:
    assert problems(tmp_path, BEYOND + VALID) == [
        (
            "config.toml: server.listen: reaches beyond this machine without encryption; give"
            " [server] tls, or name the proxy in front in trusted_proxies, or listen on 127.0.0.1"
        ),
        (
            "config.toml: server.public_url: is missing; say what links to the service start with,"
            " as others reach it"
        ),
    ]


def test_a_trusted_proxy_is_encryption_enough_and_plain_http_is_warned_of(tmp_path: Path) -> None:
    proxied = BEYOND + 'trusted_proxies = ["10.0.0.5"]\npublic_url = "%s"\n' + VALID

    assert read(tmp_path, proxied % "https://approval.example.com").warnings == ()
    assert read(tmp_path, proxied % "http://approval.example.com").warnings == (
        (
            "server.public_url: http://approval.example.com is not https; sessions and tokens"
            " travel in the open"
        ),
    )


def test_certificates_that_cannot_be_used_are_a_problem(tmp_path: Path) -> None:
    tls = '[server]\ntls = { cert = "c.pem", key = "k.pem" }\n' + VALID
    assert problems(tmp_path, tls) == [
        "config.toml: server.tls: cannot be read: no such file or directory"
    ]
    (tmp_path / "c.pem").write_text("nothing")
    (tmp_path / "k.pem").write_text("nothing")
    assert problems(tmp_path, tls) == [
        (
            "config.toml: server.tls: cannot be used: cert and key are not PEM files that belong"
            " together"
        )
    ]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ('env = { SHOP_KEY = "abc" }', "upstreams.x.env.SHOP_KEY: looks like a secret in the file"),
        ('env = { DB = "pg://u:p@h/d" }', "upstreams.x.env.DB: looks like a secret in the file"),
        ("env = { A = 1 }", "upstreams.x.env.A: is not a secret; write"),
        ('transport = "sse"', "upstreams.x.transport: the transport follows from"),
        ('tools = ["a"]', "upstreams.x.tools: is not a key of this section"),
        ('timeout = "soon"', 'upstreams.x.timeout: write a duration such as "50s"'),
    ],
)
def test_an_upstreams_faults_are_named_by_key(tmp_path: Path, entry: str, told: str) -> None:
    text = VALID + f'[upstreams.x]\ncommand = ["x"]\n{entry}\n'
    found = problems(tmp_path, text)
    assert any(problem.startswith(f"config.toml: {told}") for problem in found), found


def test_a_table_in_the_wrong_shape_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    text = "[upstreams]\nshop = 1\n[agents]\nops = 2\n[people]\nann = 3\n[groups]\nfinance = 4\n"
    assert problems(tmp_path, text) == [
        "config.toml: upstreams.shop: is not a table; write [upstreams.shop]",
        "config.toml: agents.ops: is not a table; write [agents.ops]",
        "config.toml: people.ann: is not a table; write [people.ann]",
        'config.toml: groups.finance: is not a list of names; write ["ann", "bob"]',
    ]


def test_the_environment_of_the_process_is_the_default(tmp_path: Path) -> None:
    assert load(write(tmp_path, VALID)).rulebook().directory.agents.keys() == {"ops-agent"}
