"""The schema: made once and whole, upgraded with a copy kept, refused where it is not ours."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from approval.errors import Misconfigured
from approval.store import schema
from approval.store.store import SqlStore
from approval.store.tables import SCHEMA, metadata
from tests.store.conftest import entry, hold, opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "approval.db"


def contents(file: Path) -> list[str]:
    with opened(file) as database:
        return list(database.iterdump())


def problem(file: Path) -> str:
    with pytest.raises(Misconfigured) as refused:
        schema.upgrade(file)
    (text,) = refused.value.problems
    return text


@pytest.mark.parametrize("empty", [False, True])
def test_a_new_file_gets_the_whole_schema_and_only_its_owner_reads_it(
    file: Path, empty: bool
) -> None:
    if empty:
        file.touch(mode=0o644)
    assert schema.version(file) == 0
    schema.upgrade(file)
    assert schema.version(file) == SCHEMA
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in file.parent.iterdir()) == ["approval.db"]


def test_upgrading_again_changes_nothing(file: Path) -> None:
    schema.upgrade(file)
    before = file.read_bytes()
    schema.upgrade(file)
    assert file.read_bytes() == before


def test_the_migrations_make_exactly_the_tables_of_the_code(file: Path) -> None:
    schema.upgrade(file)
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(schema.migrations()))
        config.attributes["connection"] = connection
        command.check(config)
    engine.dispose()


def test_the_migrations_also_make_the_conditions_of_the_partial_indexes(file: Path) -> None:
    # Alembic compares columns and uniqueness of an index, but not its WHERE.
    schema.upgrade(file)
    made = create_engine("sqlite://")
    metadata.create_all(made)
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    with made.connect() as connection, opened(file) as database:
        wanted = {name: sql for name, sql in connection.exec_driver_sql(query)}  # noqa: C416
        assert dict(database.execute(query).fetchall()) == wanted
    made.dispose()


def test_the_number_in_the_code_is_that_of_the_newest_migration(file: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.migrations()))
    head = ScriptDirectory.from_config(config).get_current_head()
    assert head == f"{SCHEMA:04}"
    schema.upgrade(file)
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == head
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing_of_itself(file: Path) -> None:
    with opened(file) as database:
        database.execute("CREATE TABLE process (mine TEXT)")  # the last table the first one makes
    before = contents(file)
    with pytest.raises(OperationalError, match="already exists"):
        schema._migrate(file)
    assert contents(file) == before


def test_a_newer_file_is_refused_and_left_alone(file: Path) -> None:
    schema.upgrade(file)
    with opened(file) as database:
        database.execute("UPDATE audit_head SET schema = 99")
    before = file.read_bytes()
    expected = f"{file}: has schema 99, this version knows {SCHEMA}; upgrade approval"
    assert problem(file) == expected
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE wallet (coins INTEGER)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE audit_head (schema INTEGER)",
    ],
)
def test_another_programs_database_is_refused_and_left_alone(file: Path, statement: str) -> None:
    with opened(file) as database:
        database.execute(statement)
    before = file.read_bytes()
    assert problem(file) == f"{file}: is another program's database; name a new file"
    assert file.read_bytes() == before


def test_what_is_no_database_is_refused_and_left_alone(file: Path) -> None:
    file.write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        schema.upgrade(file)
    assert file.read_bytes() == b"Dear diary, " * 1000


async def test_an_older_file_is_upgraded_and_a_copy_of_it_kept(tmp_path: Path, file: Path) -> None:
    store = await SqlStore.open("sqlite:///approval.db", base=tmp_path)
    call = await hold(store)
    await store.close()
    with opened(file) as database:
        database.execute("UPDATE audit_head SET schema = -1")  # older than any there was
    before = contents(file)
    copies = [tmp_path / "approval.db.schema--1", tmp_path / "approval.db.schema--1-1"]
    for copy in copies:
        schema.upgrade(file)
        assert contents(copy) == before
        assert copy.stat().st_mode & 0o777 == 0o600
    assert contents(file) == before
    with opened(copies[0]) as database:
        assert database.execute("SELECT id FROM call").fetchall() == [(call.id,)]


async def test_a_copy_of_a_database_in_use_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "odd ?#% é"
    folder.mkdir()
    store = await SqlStore.open("sqlite:///approval.db", base=folder)
    await store.journal(entry())
    schema.copy(folder / "approval.db", tmp_path / "copy.db")
    await store.journal(entry())
    await store.close()
    with opened(tmp_path / "copy.db") as database:
        assert database.execute("SELECT count(*) FROM audit").fetchone() == (1,)
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600


def test_a_copy_replaces_nothing_and_leaves_nothing_when_it_fails(
    file: Path, tmp_path: Path
) -> None:
    schema.upgrade(file)
    there = tmp_path / "there.db"
    there.write_text("mine")
    failures = {
        (file, there): f"{there}: exists already; name a new file",
        (file, tmp_path / "no" / "x.db"): f"{tmp_path}/no/x.db: cannot be written: "
        "No such file or directory",
        (tmp_path / "none.db", tmp_path / "x.db"): f"{tmp_path}/x.db: the copy failed: "
        "unable to open database file",
    }
    for (source, target), text in failures.items():
        with pytest.raises(Misconfigured) as refused:
            schema.copy(source, target)
        assert refused.value.problems == (text,)
    assert there.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["approval.db", "there.db"]


def test_the_migrations_are_found_inside_a_package_or_beside_it() -> None:
    beside = schema.PACKAGE.parent / "migrations"
    inside = schema.PACKAGE / "migrations"
    assert schema.migrations() == (inside if inside.is_dir() else beside)
    assert (schema.migrations() / "env.py").is_file()


def test_a_file_that_vanished_has_no_schema(file: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        file.unlink()
    assert schema.version(file) == 0
    assert not file.exists()
