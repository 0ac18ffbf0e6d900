"""A kept statement, run by the driver, does and answers what SQLAlchemy's connection would."""

import gc
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Connection,
    Executable,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DataError, IntegrityError

from approval.store.prepared import PreparedConnection, Result, Statements
from approval.store.tables import Instant

THINGS = Table(
    "thing",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("key", Text, unique=True),
    Column("at", Instant),
    Column("body", LargeBinary),
)
AT = datetime(2026, 11, 25, 13, 54, 0, 123456, tzinfo=UTC)
ROW = {"id": 1, "key": "one", "at": AT, "body": b"\x00\xff"}

INSERT = insert(THINGS)
BY_KEY = select(THINGS).where(THINGS.c.key == bindparam("key"))
LATEST = select(THINGS).where(THINGS.c.at <= bindparam("now")).order_by(THINGS.c.id.desc()).limit(1)
COUNT = select(func.count()).select_from(THINGS)
SAVE = update(THINGS).where(THINGS.c.id == bindparam("b_id"))
DROP = delete(THINGS).where(THINGS.c.id == bindparam("b_id"))
CHANGES: set[Executable] = {SAVE, DROP}
AS_TEXT = text("SELECT id, at AS since FROM thing WHERE key = :key")
AMONG = select(THINGS.c.id).where(THINGS.c.key.in_(bindparam("keys", expanding=True)))


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://", hide_parameters=True)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        THINGS.metadata.create_all(connection)
        yield connection
    engine.dispose()


@pytest.fixture
def through_sqlalchemy(connection: Connection) -> list[str]:
    """The statements that SQLAlchemy runs."""
    run = list[str]()

    def note(*told: Any) -> None:
        run.append(told[2])

    event.listen(connection, "before_cursor_execute", note)
    return run


@pytest.fixture
def prepared(connection: Connection) -> PreparedConnection:
    return prepared_of(connection)


def prepared_of(connection: Connection) -> PreparedConnection:
    return PreparedConnection(connection, Statements(connection.dialect))


def shown(result: Result) -> list[tuple[object, ...]]:
    return [tuple(row) for row in result]


def test_a_row_comes_back_as_it_was_put_in_however_often(
    prepared: PreparedConnection, through_sqlalchemy: list[str]
) -> None:
    for number in range(5):
        prepared.execute(INSERT, ROW | {"id": number, "key": f"{number}"})
        row = prepared.execute(BY_KEY, {"key": f"{number}"}).one()
        assert (row.id, row.key, row.at, row.body) == (number, f"{number}", AT, b"\x00\xff")
    assert prepared.execute(COUNT).scalar() == 5
    assert len(through_sqlalchemy) == 2 + 2 + 1, "twice each, then the driver alone"


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        pytest.param(BY_KEY, {"key": "one"}, id="found"),
        pytest.param(BY_KEY, {"key": "none such"}, id="not found"),
        pytest.param(LATEST, {"now": AT}, id="a value that the statement itself brings"),
        pytest.param(COUNT, None, id="no values"),
        pytest.param(AS_TEXT, {"key": "one"}, id="a text"),
        pytest.param(AMONG, {"keys": ["one", "two"]}, id="as many places as values"),
        pytest.param(SAVE, {"b_id": 1, "key": "1"}, id="an update that meets a row"),
        pytest.param(SAVE, {"b_id": 9, "key": "9"}, id="an update that meets none"),
        pytest.param(DROP, {"b_id": 1}, id="a deletion"),
    ],
)
def test_it_answers_as_sqlalchemy_does_every_time(
    connection: Connection, statement: Executable, values: dict[str, Any] | None
) -> None:
    expected, found = list[object](), list[object]()
    for target, answers in ((connection, expected), (prepared_of(connection), found)):
        connection.execute(delete(THINGS))
        for number, key in enumerate(("one", "two")):
            connection.execute(INSERT, ROW | {"id": number + 1, "key": key})
        for _ in range(4):
            result = target.execute(statement, values)
            answers.append(result.rowcount if statement in CHANGES else shown(result))
    assert found == expected


def test_results_are_read_in_every_way_that_the_store_reads_them(
    prepared: PreparedConnection,
) -> None:
    for _ in range(3):
        assert prepared.execute(BY_KEY, {"key": "one"}).first() is None
        assert prepared.execute(BY_KEY, {"key": "one"}).one_or_none() is None
        assert prepared.execute(BY_KEY, {"key": "one"}).scalar() is None
        assert list(prepared.execute(BY_KEY, {"key": "one"}).mappings()) == []
    prepared.execute(INSERT, [ROW, ROW | {"id": 2, "key": "two", "at": None, "body": None}])
    for _ in range(3):
        found = prepared.execute(BY_KEY, {"key": "one"}).mappings().one_or_none()
        assert found is not None
        assert dict(ROW) == {name: found[name] for name in ROW}
        late = prepared.execute(BY_KEY, {"key": "two"}).first()
        assert late is not None
        assert (late.at, late.body) == (None, None)
        assert len(prepared.execute(AMONG, {"keys": ["one", "two"]}).all()) == 2


def test_many_rows_are_written_at_once(prepared: PreparedConnection) -> None:
    for turn in range(4):
        prepared.execute(INSERT, [ROW | {"id": n, "key": f"{n}"} for n in (2 * turn, 2 * turn + 1)])
    assert prepared.execute(COUNT).scalar() == 8


def test_other_values_than_it_was_prepared_for_are_not_lost(prepared: PreparedConnection) -> None:
    for number in range(3):
        prepared.execute(INSERT, {"id": number, "key": f"{number}"})
    prepared.execute(INSERT, ROW | {"id": 9})
    assert prepared.execute(BY_KEY, {"key": "one"}).one().body == ROW["body"]
    with pytest.raises(Exception, match="key"):
        prepared.execute(BY_KEY, {})


def test_what_the_database_refuses_is_said_in_the_same_exceptions(
    prepared: PreparedConnection,
) -> None:
    prepared.execute(INSERT, ROW)
    for _ in range(3):
        with pytest.raises(IntegrityError, match=r"UNIQUE constraint failed: thing\.") as refused:
            prepared.execute(INSERT, ROW)
        assert "one" not in str(refused.value), "values must not end up in a log"
    driver = prepared._driver
    assert isinstance(driver, sqlite3.Connection)
    limit = driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000)
    for number in range(3):
        with pytest.raises(DataError, match="too big"):
            prepared.execute(SAVE, {"b_id": 1, "key": "x" * (2000 + number)})
    driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)


def test_a_statement_for_the_occasion_is_neither_prepared_nor_kept(
    prepared: PreparedConnection, through_sqlalchemy: list[str]
) -> None:
    for number in range(50):
        prepared.execute(select(THINGS).where(THINGS.c.id == number))
    gc.collect()
    known = prepared._statements._known.values()
    assert {each.prepared for each in known} <= {None}
    assert len(known) <= 1, "SQLAlchemy keeps the first of its form"
    assert len(through_sqlalchemy) == 50


KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.tuples(KEYS, st.datetimes(timezones=st.just(UTC)), st.binary(max_size=9))))
def test_whatever_is_written_through_it_sqlalchemy_reads_alike(
    given_rows: list[tuple[str, datetime, bytes]],
) -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        THINGS.metadata.create_all(connection)
        prepared = prepared_of(connection)
        unique = {key: (at, body) for key, at, body in given_rows}
        for number, (key, (at, body)) in enumerate(unique.items()):
            prepared.execute(INSERT, {"id": number, "key": key, "at": at, "body": body})
        for key, (at, body) in unique.items():
            ours, theirs = (
                target.execute(BY_KEY, {"key": key}).one() for target in (prepared, connection)
            )
            assert tuple(ours) == tuple(theirs)
            assert (ours.key, ours.at, ours.body) == (key, at, body)
    engine.dispose()
