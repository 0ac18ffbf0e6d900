"""Commands on the database."""

import sqlite3
from pathlib import Path

import pytest

from approval.cli.terminal import Exit
from approval.store.tables import SCHEMA
from tests.cli.desk import desk
from tests.postgres import Server


def test_the_schema_is_told_before_and_after_there_is_one(tmp_path: Path) -> None:
    at = desk(tmp_path)
    assert "does not exist yet" in at.run("db", "version").out
    assert not (tmp_path / "approval.db").exists()
    assert at.run("db", "upgrade").code == 0
    assert f"has schema {SCHEMA}" in at.run("db", "version").out
    document = at.run("db", "version", "--json").document
    assert (document["schema"], document["known"]) == (SCHEMA, SCHEMA)


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    at = desk(tmp_path)
    (tmp_path / "approval.db").write_text("this is no database, and says so at some length")
    ended = at.run("db", "version")
    assert ended.code == Exit.REFUSED
    assert "cannot be read as a database" in ended.err


@pytest.mark.postgres
def test_a_server_is_migrated_when_asked_to_and_copied_by_its_own_tools(
    tmp_path: Path, postgres_server: Server
) -> None:
    with postgres_server.database(migrated=False) as url:
        at = desk(tmp_path)
        text = at.config.read_text().replace("[database]", "")
        at.config.write_text(f'{text}\n[database]\nurl = "{url.replace(":@", "@")}"\n')
        assert "has no schema yet; `approval db upgrade` makes it" in at.run("db", "version").out
        refused = at.run("pending")
        assert refused.code == Exit.MISCONFIGURED
        assert "has no schema yet; run `approval db upgrade`" in refused.err
        for _ in range(2):
            assert f"has schema {SCHEMA}" in at.run("db", "upgrade").out
        assert at.run("db", "version", "--json").document["schema"] == SCHEMA
        assert at.run("audit", "verify").code == 0
        copied = at.run("db", "backup", str(tmp_path / "copy.db"))
        assert copied.code == Exit.MISCONFIGURED
        assert "pg_dump" in copied.err


def test_a_backup_is_a_whole_database_and_overwrites_nothing(tmp_path: Path) -> None:
    at = desk(tmp_path)
    at.hold()
    copy = tmp_path / "copy.db"
    assert at.run("db", "backup", str(copy)).code == 0
    database = sqlite3.connect(copy)
    assert database.execute("SELECT count(*) FROM call").fetchone() == (1,)
    database.close()
    before = copy.read_bytes()
    assert at.run("db", "backup", str(copy)).code == Exit.MISCONFIGURED
    assert copy.read_bytes() == before
