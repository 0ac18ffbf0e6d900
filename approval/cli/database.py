"""Commands on the database: its schema, and a copy of it."""

import sqlite3
from pathlib import Path

from approval.cli.session import run, session
from approval.cli.terminal import Declined, say, write_json
from approval.config import load
from approval.store import schema
from approval.store.tables import SCHEMA


def version(config: Path, *, as_json: bool) -> None:
    """Say which schema the database has, and which one this version knows."""
    path = load(config).database
    try:
        found = schema.version(path)
    except sqlite3.Error as error:
        raise Declined(f"{path} cannot be read as a database: {error}.") from error
    if as_json:
        write_json({"database": str(path), "schema": found, "known": SCHEMA})
    elif found == 0:
        say(f"{path} does not exist yet; `approval serve` or `approval db upgrade` makes it.")
    else:
        say(f"{path} has schema {found}; this version knows {SCHEMA}.")


def upgrade(config: Path) -> None:
    """Bring the schema up to date."""
    run(_upgrade(config))


async def _upgrade(config: Path) -> None:
    async with session(config) as here:
        say(f"{here.config.database} has schema {SCHEMA}.")


def backup(config: Path, target: Path) -> None:
    """Copy the database into a new file, while it is in use."""
    run(_backup(config, target))


async def _backup(config: Path, target: Path) -> None:
    async with session(config) as here:
        await here.store.backup(target)
    say(f"{target} holds everything up to now.")
