"""Commands on the database: its schema, and a copy of it."""

import sqlite3
from pathlib import Path

from approval.cli.session import run, session
from approval.cli.terminal import Declined, say, write_json
from approval.config import load
from approval.store import store
from approval.store.tables import SCHEMA


def version(config: Path, *, as_json: bool) -> None:
    """Say which schema the database has, and which one this version knows."""
    at = load(config).database
    try:
        found = run(store.schema_version(at.url))
    except sqlite3.Error as error:
        raise Declined(f"{at} cannot be read as a database: {error}.") from error
    if as_json:
        write_json({"database": str(at), "schema": found, "known": SCHEMA})
    elif found:
        say(f"{at} has schema {found}; this version knows {SCHEMA}.")
    elif at.is_file:
        say(f"{at} does not exist yet; `approval serve` or `approval db upgrade` makes it.")
    else:
        say(f"{at} has no schema yet; `approval db upgrade` makes it.")


def upgrade(config: Path) -> None:
    """Bring the schema up to date."""
    run(_upgrade(config))


async def _upgrade(config: Path) -> None:
    await store.upgrade(load(config).database.url)
    async with session(config) as here:
        say(f"{here.config.database} has schema {SCHEMA}.")


def backup(config: Path, target: Path) -> None:
    """Copy the database into a new file, while it is in use."""
    run(_backup(config, target))


async def _backup(config: Path, target: Path) -> None:
    async with session(config) as here:
        await here.store.backup(target)
    say(f"{target} holds everything up to now.")
