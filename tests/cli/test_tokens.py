"""Tokens: shown once, kept as hashes, taken back."""

import asyncio
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from approval.app.opening import opened
from approval.cli.terminal import Exit
from approval.config import load
from approval.core.audit import Tag
from tests.cli.desk import Desk, desk


def bearer(at: Desk, token: str) -> str | None:
    """Find who bears a token, as another process does."""

    async def look() -> str | None:
        async with opened(load(at.config)) as (_, service), service:
            found = service.keyring.agent(token) or service.keyring.person(token)
            return found.name if found is not None else None

    return asyncio.run(look())


@pytest.mark.parametrize(("kind", "name"), [("agent", "ops-agent"), ("person", "ann")])
def test_a_token_is_printed_alone_and_works_until_it_is_revoked(
    tmp_path: Path, kind: str, name: str
) -> None:
    at = desk(tmp_path)
    ended = at.run("token", kind, name)
    assert ended.code == 0
    token = ended.out.strip()
    assert ended.out == f"{token}\n"
    assert "Shown once" in ended.err
    assert token not in ended.err
    assert bearer(at, token) == name
    assert token.encode() not in (tmp_path / "approval.db").read_bytes()

    revoked = at.run("token", "revoke", name)
    assert f"Revoked of {name}: 1 {kind}." in revoked.out
    assert "The configuration itself gives" in revoked.err
    assert bearer(at, token) is None


def test_a_token_for_scripts_is_json(tmp_path: Path) -> None:
    document = desk(tmp_path).run("token", "agent", "ops-agent", "--json").document
    assert (document["kind"], document["name"]) == ("agent", "ops-agent")


def test_nobody_unknown_gets_a_token(tmp_path: Path) -> None:
    at = desk(tmp_path)
    for words in (("agent", "ops-agnt"), ("person", "ops-agent"), ("login", "zoe")):
        ended = at.run("token", *words)
        assert ended.code == Exit.REFUSED
        assert "is not a known" in ended.err
        assert ended.out == ""
    assert "did you mean ops-agent?" in at.run("token", "agent", "ops-agnt").err


def test_a_login_link_works_once(tmp_path: Path) -> None:
    at = desk(tmp_path)
    link = urlsplit(at.run("token", "login", "ann").out.strip())
    assert f"{link.scheme}://{link.netloc}{link.path}" == "http://127.0.0.1:8080/login"
    (token,) = parse_qs(link.query)["token"]

    async def spend() -> list[str | None]:
        async with opened(load(at.config)) as (_, service), service:
            spending = service.keyring.spend
            return [
                await spending("login", token, tag=Tag.LOGIN_OPEN, actor="test") for _ in range(2)
            ]

    assert asyncio.run(spend()) == ["ann", None]


def test_a_link_needs_a_port_that_is_known(tmp_path: Path) -> None:
    at = desk(tmp_path)
    ended = at.run("token", "login", "ann", extra='[server]\nlisten = "127.0.0.1:0"\n')
    assert ended.code == Exit.REFUSED
    assert "Set [server] public_url" in ended.err


def test_one_kind_alone_can_be_revoked(tmp_path: Path) -> None:
    at = desk(tmp_path)
    token = at.run("token", "person", "ann").out.strip()
    at.run("token", "login", "ann")
    document = at.run("token", "revoke", "ann", "--kind", "login", "--json").document
    assert document == {"name": "ann", "revoked": {"login": 1}}
    assert bearer(at, token) == "ann"
    assert at.run("token", "revoke", "ann", "--kind", "cookie").code == Exit.USAGE
    assert "nothing was issued" in at.run("token", "revoke", "nobody").out
