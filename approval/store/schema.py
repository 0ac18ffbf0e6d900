"""The schema's number, and bringing a SQLite file up to it.

Alembic is imported only when there is something to do: it costs ten megabytes, and a running
service never needs it.
"""

import contextlib
import sqlite3
from itertools import count
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Connection, NullPool, create_engine, event

from approval.errors import Misconfigured
from approval.store.tables import SCHEMA

PACKAGE = Path(__file__).resolve().parent.parent


def version(path: Path) -> int:
    """Read a file's schema number; 0 for a new one, and for another program's.

    Raises:
        sqlite3.Error: If it is no SQLite database.
    """
    if not path.exists() or path.stat().st_size == 0:
        return 0
    with contextlib.closing(sqlite3.connect(path)) as database:
        known = "SELECT 1 FROM sqlite_master WHERE name = 'audit_head'"
        if database.execute(known).fetchone() is None:
            return 0
        head: tuple[int] | None = database.execute("SELECT schema FROM audit_head").fetchone()
        return head[0] if head is not None else 0


def upgrade(path: Path) -> None:
    """Migrate the file to the schema this code knows, keeping a copy of what it was.

    The caller holds the file's lock.

    Raises:
        Misconfigured: If the file is newer than this code, or belongs to another program.
    """
    found = version(path)
    if found > SCHEMA:
        raise Misconfigured(
            (f"{path}: has schema {found}, this version knows {SCHEMA}; upgrade approval",)
        )
    if found == SCHEMA:
        return
    if found == 0 and path.exists() and _has_tables(path):
        raise Misconfigured((f"{path}: is another program's database; name a new file",))
    if found:
        copy(path, _free_name(path, found))
    else:
        path.touch(mode=0o600)
        path.chmod(0o600)
    _migrate(path)


def _has_tables(path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT 1 FROM sqlite_master").fetchone() is not None


def _free_name(path: Path, found: int) -> Path:
    """Name the copy. One of an earlier try stays: it may be the better one."""
    names = (f"{path.name}.schema-{found}" + (f"-{n}" if n else "") for n in count())
    return next(copy for name in names if not (copy := path.with_name(name)).exists())


def _migrate(path: Path) -> None:
    # One transaction of our own: the driver's would leave half a schema behind after a crash.
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        connect_args={"isolation_level": None},
    )
    event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        migrate(connection)


def migrate(connection: Connection) -> None:
    """Run every migration that the database has not seen, within the connection's transaction."""
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def migrations() -> Path:
    """Find the migrations: inside an installed package, beside an editable one."""
    inside = PACKAGE / "migrations"
    return inside if inside.is_dir() else PACKAGE.parent / "migrations"


def copy(source: Path, target: Path) -> None:
    """Copy a database in use, consistently, into a new file only its owner can read.

    Raises:
        Misconfigured: If the target exists or cannot be written; nothing is left of it then.
    """
    try:
        target.touch(mode=0o600, exist_ok=False)
    except FileExistsError as error:
        raise Misconfigured((f"{target}: exists already; name a new file",)) from error
    except OSError as error:
        raise Misconfigured((f"{target}: cannot be written: {error.strerror}",)) from error
    try:
        _copy(source, target)
    except sqlite3.Error as error:
        target.unlink()
        raise Misconfigured((f"{target}: the copy failed: {error}",)) from error


def _copy(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
