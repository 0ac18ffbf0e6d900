"""Commands on tokens: issue one for an agent or a person, make a login link, take them back."""

import enum
from pathlib import Path
from typing import Final

import typer

from approval.app.addresses import public_url
from approval.app.opening import login_link
from approval.cli.session import Session, run, session
from approval.cli.terminal import Declined, hint, say, write_json, write_line
from approval.config.problems import unknown
from approval.core.canonical import quoted

ACTOR: Final = "operator"
"""Whoever may read and write the database's file: no person is proven here."""


class Kind(enum.StrEnum):
    """What a secret lets its bearer be."""

    AGENT = "agent"
    PERSON = "person"
    LOGIN = "login"
    SESSION = "session"


def issue(config: Path, kind: Kind, name: str, *, as_json: bool) -> None:
    """Issue a token, print it once, and keep its hash."""
    run(_issue(config, kind, name, as_json=as_json))


async def _issue(config: Path, kind: Kind, name: str, *, as_json: bool) -> None:
    async with session(config) as here:
        directory = here.service.rules.directory
        known = directory.agents if kind is Kind.AGENT else directory.people
        _check(name, list(known), str(kind))
        token = await here.service.keyring.issue(kind, name, actor=ACTOR)
    if as_json:
        write_json({"kind": str(kind), "name": name, "token": token})
        return
    write_line(token)
    hint(f"Shown once. It proves {kind} {name}; `approval token revoke {name}` takes it back.")


def login(config: Path, name: str) -> None:
    """Make a one-time link that signs a person in to the console."""
    run(_login(config, name))


async def _login(config: Path, name: str) -> None:
    async with session(config) as here:
        _check(name, list(here.service.rules.directory.people), "person")
        link = await login_link(here.service, _url(here), name, actor=ACTOR)
    write_line(link)
    hint(f"Works once, for 15 minutes, and signs in as {name}. Give it to nobody else.")


def _url(here: Session) -> str:
    server = here.config.server
    if server.public_url is None and server.listen.port == 0:
        raise Declined("The port is chosen at each start. Set [server] public_url for a link.")
    return public_url(server, server.listen.port)


def revoke(config: Path, name: str, kind: str | None, *, as_json: bool) -> None:
    """Take back what was issued to a name: tokens, and for people links and sessions too."""
    if kind is not None and kind not in list(Kind):
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(Kind)}")
    run(_revoke(config, name, tuple(Kind) if kind is None else (Kind(kind),), as_json=as_json))


async def _revoke(config: Path, name: str, kinds: tuple[Kind, ...], *, as_json: bool) -> None:
    async with session(config) as here:
        keyring = here.service.keyring
        # A name that has left the configuration may still bear secrets: it is not looked for there.
        counts = {each: await keyring.revoke(each, name, actor=ACTOR) for each in kinds}
        directory = here.service.rules.directory
    if as_json:
        write_json({"name": name, "revoked": {str(each): count for each, count in counts.items()}})
    else:
        told = ", ".join(f"{count} {each}" for each, count in counts.items() if count)
        say(f"Revoked of {name}: {told or 'nothing, for nothing was issued'}.")
    bearer = directory.agents.get(name) or directory.people.get(name)
    if bearer is not None and bearer.token_digests:
        hint(f"The configuration itself gives {name} a token; remove it there as well.")


def _check(name: str, known: list[str], what: str) -> None:
    if name not in known:
        raise Declined(f"{quoted(name)} {unknown(name, known, f'a known {what}')}")
