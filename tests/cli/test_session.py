"""Which call is meant, and the prompt for a token."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from approval.cli.terminal import Exit
from tests.cli.desk import ANN, desk


def test_a_unique_beginning_names_a_call(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    for text in (call.id, call.id.upper(), f" {call.id[:8]} ", call.id[:-1]):
        assert at.run("show", text, "--json").document["id"] == call.id


def test_a_beginning_that_several_share_names_none(tmp_path: Path) -> None:
    at = desk(tmp_path)
    ids = {at.hold({"phone_number": str(n)}).id for n in range(2)}
    ended = at.run("show", min(ids)[:8])
    assert ended.code == Exit.REFUSED
    assert all(call_id in ended.err for call_id in ids)
    assert "Give more of the id." in ended.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("apr_0", "is too short: give at least 8 characters"),
        ("apr_zzzzzzzz", "No call begins with apr_zzzzzzzz"),
        ("apr_" + "z" * 26, "There is no call apr_zzz"),
        ("\x1b[2Jxxxxxxxx", r"No call begins with \x1b[2Jxxxxxxxx"),
    ],
)
def test_what_names_no_call_is_said(tmp_path: Path, text: str, told: str) -> None:
    ended = desk(tmp_path).run("show", text)
    assert ended.code == Exit.REFUSED
    assert told in ended.err
    assert ended.out == ""


def test_a_database_that_cannot_be_used_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    at = desk(tmp_path)
    (tmp_path / "approval.db").write_text("this is no database, and says so at some length")
    ended = at.run("pending")
    assert ended.code == Exit.MISCONFIGURED
    assert "approval.db" in ended.err


@contextmanager
def held_by_another(folder: Path) -> Iterator[None]:
    """Let another connection write to the database, and not come to an end."""
    with closing(sqlite3.connect(folder / "approval.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_while_another_holds_the_database_reading_goes_on(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    with held_by_another(tmp_path):
        for words in (
            ("pending",),
            ("show", call.id),
            ("audit", "verify"),
            ("audit", "tail"),
            ("budgets",),
            ("freezes",),
            ("grants",),
            ("db", "backup", str(tmp_path / "copy.db")),
        ):
            ended = at.run(*words)
            assert (words, ended.code) == (words, Exit.DONE), ended.err


WRITING = [("token", "agent", "ops-agent"), ("token", "login", "ann"), ("approve",), ("serve",)]


@pytest.mark.parametrize("words", WRITING, ids=" ".join)
def test_while_another_holds_the_database_writing_says_so_in_one_sentence(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    at = desk(tmp_path)
    call = at.hold()
    if words == ("approve",):
        words = ("approve", call.id, "--yes", "--json")
    extra = '[server]\nlisten = "127.0.0.1:8090"\n'
    with held_by_another(tmp_path):
        ended = at.apart(*words, token=ANN, extra=extra)
    assert (ended.code, ended.out) == (Exit.STORE, "")
    *before, last = ended.err.splitlines()
    assert last == "error: the database could not be written: database is locked"
    assert len(before) == (words == ("serve",))  # a service logs it as well


def test_a_command_that_reads_leaves_no_sign_of_life(tmp_path: Path) -> None:
    at = desk(tmp_path)
    assert at.run("pending").code == Exit.DONE
    with closing(sqlite3.connect(tmp_path / "approval.db")) as database:
        assert database.execute("SELECT count(*) FROM process").fetchone() == (0,)
