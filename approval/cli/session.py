"""What commands on calls share: the service's parts, the call that is meant, and who decides."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import typer

from approval.app.opening import opened
from approval.cli import logs
from approval.cli.orders import Proof
from approval.cli.terminal import Declined
from approval.config import Config, load
from approval.config.sections import Local
from approval.core.call import UNENDED, Call, CallId, Status
from approval.core.canonical import quoted
from approval.errors import NotFound
from approval.service import Service
from approval.store.store import SqlStore

T = TypeVar("T")

ID_LENGTH: Final = len("apr_") + 26
MIN_PREFIX: Final = 8
TOKEN_VARIABLE: Final = "APPROVAL_TOKEN"
MAX_TOKEN_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An open store and a service on it, as any process on the same file has them."""

    config: Config
    store: SqlStore
    service: Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """Who decides, and by which way the trail says they did."""

    person: str
    via: str

    @property
    def actor(self) -> str:
        return f"person:{self.person}"


def run(work: Coroutine[object, object, T]) -> T:
    """Run a command's work to its end."""
    logs.only_errors()
    return asyncio.run(work)


@asynccontextmanager
async def session(config: Path) -> AsyncIterator[Session]:
    """Open what the configuration names, whether or not the service runs meanwhile.

    The service is not entered: a command sends nothing, and one that reads writes nothing.
    """
    found = load(config)
    async with opened(found) as (store, service):
        await service.keyring.refresh()
        yield Session(config=found, store=store, service=service)


async def find(store: SqlStore, text: str) -> Call:
    """Find a call by its id, or by the beginning of it.

    Raises:
        Declined: If there is no such call, or more than one.
    """
    prefix = text.strip().lower()
    if len(prefix) >= ID_LENGTH:
        try:
            return await store.get(CallId(prefix))
        except NotFound as error:
            raise Declined(f"There is no call {quoted(text)}. See `approval pending`.") from error
    if len(prefix) < MIN_PREFIX:
        raise Declined(f"{quoted(text)} is too short: give at least {MIN_PREFIX} characters.")
    matches = await _matching(store, prefix)
    if not matches:
        raise Declined(f"No call begins with {quoted(text)}. See `approval pending`.")
    if len(matches) > 1:
        listed = ", ".join(call.id for call in matches)
        raise Declined(f"Several calls begin with {quoted(text)}: {listed}. Give more of the id.")
    return matches[0]


async def _matching(store: SqlStore, prefix: str) -> tuple[Call, ...]:
    """Read at most a few calls whose id begins so. Ids are in order, so no others are read."""
    # `~` sorts after every character of an id: the page begins with the last that can match.
    page = await store.find(after=prefix + "~", limit=5)
    return tuple(call for call in page.calls if call.id.startswith(prefix))


async def waiting(store: SqlStore, states: frozenset[Status], limit: int) -> tuple[Call, ...]:
    """Read calls in these states, the oldest first: it has waited longest."""
    page = await store.find(states=states or UNENDED, limit=limit)
    return tuple(reversed(page.calls))


def decider(opened_session: Session, proof: Proof) -> Decider:
    """Find out who is deciding, by a token or, where the configuration trusts it, by their word.

    Raises:
        Declined: If nobody is proven.
    """
    if proof.claimed is not None:
        return _claimed(opened_session, proof.claimed)
    token = _token(proof.token_file)
    keyring = opened_session.service.keyring
    person = keyring.person(token)
    if person is not None:
        return Decider(person=person.name, via="cli")
    if keyring.agent(token) is not None:
        raise Declined("That token is an agent's, and agents do not decide. Use a person's own.")
    raise Declined(
        "That token belongs to nobody here. `approval token person NAME` issues one; check that"
        " --config names the service's own configuration."
    )


def _claimed(opened_session: Session, name: str) -> Decider:
    if opened_session.config.local is not Local.TRUST:
        raise Declined(
            "--as proves nothing, and the configuration does not trust it. Give your own token, or"
            ' set local = "trust" in [approvals].'
        )
    if name not in opened_session.service.rules.directory.people:
        raise Declined(f"There is no person {quoted(name)} in the configuration.")
    return Decider(person=name, via="cli-claimed")


def _token(file: Path | None) -> str:
    if file is not None:
        return _first_line(file)
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if token:
        return token
    if not sys.stdin.isatty():
        raise Declined(
            f"Deciding needs your own token: set {TOKEN_VARIABLE}, or name its file: --token-file."
        )
    entered: str = typer.prompt("Your token", hide_input=True, err=True)
    return entered.strip()


def _first_line(file: Path) -> str:
    try:
        with file.open("rb") as opened_file:
            token = opened_file.read(MAX_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Declined(f"The token file {file} cannot be read: {error}.") from error
    if not token:
        raise Declined(f"The token file {file} is empty.")
    return token
