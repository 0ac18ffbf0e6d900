"""A kept statement, run by the driver, does and answers what SQLAlchemy's connection would."""

import gc
import sqlite3
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from functools import partial
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
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from approval.store.prepared import MOST_JOINED, PreparedConnection, Result, Statements, Write
from approval.store.tables import Instant
from tests.store.conftest import prepared_of

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


# --- writes that go together ---

PUT = text(
    "INSERT INTO thing (id, key) VALUES (:id, :key) ON CONFLICT (id) DO UPDATE SET key = :key"
)


def writes(turn: int) -> list[Write]:
    """Changes of rows of which no two are the same, and how many rows each meets."""
    return [
        Write(INSERT, ROW | {"id": turn, "key": f"{turn}"}),
        Write(SAVE, {"b_id": 1, "key": f"one, {turn}"}),
        Write(SAVE, {"b_id": 99, "key": "nobody"}),
        Write(INSERT, [ROW | {"id": turn + n, "key": f"{turn + n}"} for n in (100, 200)]),
        Write(PUT, {"id": 2, "key": f"two, {turn}"}),
        Write(DROP, {"b_id": turn - 1}),
    ]


MET = [1, 1, 0, 1, 1]
"""What each of them meets, but the one that is run many times."""


def met(found: list[int]) -> list[int]:
    return found[:3] + found[4:]


def begin(prepared: PreparedConnection) -> None:
    prepared.execute(INSERT, [ROW, ROW | {"id": 2, "key": "two"}, ROW | {"id": 9, "key": "9"}])


def test_writes_together_do_what_they_do_one_by_one(connection: Connection) -> None:
    prepared = prepared_of(connection)
    begin(prepared)
    for turn in range(10, 15):
        assert met(prepared.together(writes(turn))) == MET
    assert prepared.together([]) == []
    found = shown(connection.execute(select(THINGS.c.id, THINGS.c.key).order_by(THINGS.c.id)))
    assert found[:3] == [(1, "one, 14"), (2, "two, 14"), (14, "14")]
    assert len(found) == 3 + 2 * 5


@pytest.fixture
async def server(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine("postgresql+asyncpg://", connect_args={"dsn": postgres_url})
    yield engine
    await engine.dispose()


@pytest.mark.postgres
async def test_on_postgresql_they_are_one_way_to_the_server(
    server: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways, found = list[int](), list[object]()

    def run(connection: Connection, *, joins: bool) -> None:
        THINGS.metadata.create_all(connection)
        prepared = PreparedConnection(connection, Statements(connection.dialect, joins=joins))
        begin(prepared)
        driver = type(prepared._driver)
        cursor = driver.cursor

        def counted(own: Any) -> object:
            ways[-1] += 1
            return cursor(own)

        with monkeypatch.context() as patch:
            patch.setattr(driver, "cursor", counted)
            for turn in range(10, 15):
                ways.append(0)
                assert met(prepared.together(writes(turn))) == MET
        found.append(shown(connection.execute(select(THINGS).order_by(THINGS.c.id))))

    for joins in (True, False):
        async with server.connect() as connection:
            await connection.run_sync(partial(run, joins=joins))
            await connection.rollback()
    assert found[0] == found[1]
    assert (ways[4], ways[9]) == (1, len(writes(0)))


@pytest.mark.postgres
async def test_what_postgresql_refuses_of_one_it_refuses_of_all(server: AsyncEngine) -> None:
    def run(connection: Connection) -> None:
        THINGS.metadata.create_all(connection)
        prepared = PreparedConnection(connection, Statements(connection.dialect, joins=True))
        begin(prepared)
        for turn in range(10, 13):
            prepared.together(writes(turn))
        twice = [Write(SAVE, {"b_id": 2, "key": "x"}), Write(INSERT, ROW | {"id": 1, "key": "y"})]
        with pytest.raises(IntegrityError, match="thing_pkey"), connection.begin_nested():
            prepared.together(twice)
        kept = connection.execute(select(THINGS.c.key).where(THINGS.c.id == 2)).scalar()
        assert kept == "two, 12"
        many = [ROW | {"id": n, "key": f"many {n}"} for n in range(1000, 1001 + MOST_JOINED)]
        assert prepared.together([Write(INSERT, many[:1]), Write(INSERT, many[1:])])
        assert connection.execute(COUNT).scalar() == 3 + 2 * 3 + len(many)

    async with server.connect() as connection:
        await connection.run_sync(run)
        await connection.rollback()
