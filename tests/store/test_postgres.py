"""PostgreSQL as an engine: what is refused at the door, what is told, and who has the duty."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from approval.core.call import CallId
from approval.errors import Misconfigured, NotFound, StoreUnavailable
from approval.store import postgres, schema, sql
from approval.store.postgres import PostgresEngine
from approval.store.store import SqlStore, schema_version, upgrade
from approval.store.tables import SCHEMA, metadata
from tests.factories import NOW, Clock, make_asked
from tests.postgres import Server, execute
from tests.store.conftest import entry, hold

pytestmark = pytest.mark.postgres

SECRET = "hunter2-hunter2"


@pytest.fixture
def bare_url(postgres_server: Server) -> Iterator[str]:
    """Give the URL of a database that nobody has used yet."""
    with postgres_server.database(migrated=False) as url:
        yield url


@pytest.fixture
def second_url(postgres_server: Server) -> Iterator[str]:
    with postgres_server.database() as url:
        yield url


async def refusal(url: str) -> str:
    with pytest.raises(Misconfigured) as refused:
        await SqlStore.open(url)
    (problem,) = refused.value.problems
    return problem


# --- the door ---


def test_what_is_shown_of_an_address_holds_no_password() -> None:
    assert postgres.shown(f"postgres://me:{SECRET}@host/a?x=1") == "postgresql://me@host/a"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        (f"postgresql://me:{SECRET}@127.0.0.1:1/approval", StoreUnavailable),
        (f"postgresql://me:{SECRET}@127.0.0.1:1/approval?sslmode=never", Misconfigured),
        (f"postgresql://me@127.0.0.1:1/approval?password={SECRET}", StoreUnavailable),
    ],
)
async def test_a_server_that_cannot_be_reached_is_named_without_its_password(
    url: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=r"postgresql://me@127\.0\.0\.1:1/approval: ") as refused:
        await SqlStore.open(url)
    assert SECRET not in str(refused.value)


async def test_a_database_that_is_not_there_is_refused(postgres_server: Server) -> None:
    url = postgres_server.named("nowhere")
    expected = f"{postgres.shown(url)}: cannot be used: InvalidCatalogNameError (3D000)"
    assert await refusal(url) == expected
    with pytest.raises(Misconfigured):
        await upgrade(url)


def test_without_its_driver_the_remedy_is_said() -> None:
    code = """
import asyncio, sys
sys.modules["asyncpg"] = None
from approval.errors import Misconfigured
from approval.store.store import SqlStore
try:
    asyncio.run(SqlStore.open("postgresql://me@host/approval"))
except Misconfigured as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    remedy = "PostgreSQL needs its driver; run: pip install 'approval[postgres]'"
    assert run.stdout == f"database.url: {remedy}\n"


def test_a_service_on_a_file_does_not_load_the_driver(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from approval.store.store import SqlStore
async def main():
    store = await SqlStore.open("sqlite:///{tmp_path}/a.db")
    await store.close()
asyncio.run(main())
assert "asyncpg" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_commits_that_are_not_durable_are_refused_at_the_door(
    postgres_url: str,
) -> None:
    name = urlsplit(postgres_url).path[1:]
    await execute(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    problem = await refusal(postgres_url)
    assert "synchronous_commit is off" in problem
    assert problem.endswith("set it to on for this role or database")


# --- the schema ---


async def test_a_new_database_is_only_migrated_when_that_is_asked_for(
    bare_url: str,
) -> None:
    expected = f"{postgres.shown(bare_url)}: has no schema yet; run `approval db upgrade`"
    assert await refusal(bare_url) == expected
    assert await schema_version(bare_url) == 0
    await asyncio.gather(upgrade(bare_url), upgrade(bare_url))  # the second finds it done
    assert await schema_version(bare_url) == SCHEMA
    await upgrade(bare_url)
    await (await SqlStore.open(bare_url)).close()


@pytest.mark.parametrize(
    ("found", "remedy"),
    [
        (SCHEMA + 1, f"this version knows {SCHEMA}; upgrade approval"),
        (-1, f"this version knows {SCHEMA}; run `approval db upgrade`"),
    ],
)
async def test_another_schema_is_refused_with_its_remedy(
    postgres_url: str, found: int, remedy: str
) -> None:
    await execute(postgres_url, f"UPDATE audit_head SET schema = {found}")
    name = postgres.shown(postgres_url)
    assert await refusal(postgres_url) == f"{name}: has schema {found}, {remedy}"
    if found > SCHEMA:
        with pytest.raises(Misconfigured, match="upgrade approval"):
            await upgrade(postgres_url)
    assert await schema_version(postgres_url) == found


async def test_another_programs_database_is_refused_and_left_alone(
    bare_url: str,
) -> None:
    await execute(bare_url, "CREATE TABLE wallet (coins int)")
    with pytest.raises(Misconfigured, match="holds another program's tables; name a database"):
        await upgrade(bare_url)
    tables = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert await execute(bare_url, tables) == [("wallet",)]


async def test_a_migration_that_fails_leaves_nothing_of_itself(
    bare_url: str,
) -> None:
    # In the way of the last table that the first migration makes, and no table itself.
    await execute(bare_url, "CREATE TYPE process AS (mine text)")
    with pytest.raises(Misconfigured, match="cannot be used: Duplicate"):
        await upgrade(bare_url)
    assert await schema_version(bare_url) == 0
    found = await execute(bare_url, "SELECT count(*) FROM pg_class WHERE relname = 'call'")
    assert found[0][0] == 0


async def test_the_migrations_make_exactly_the_tables_of_the_code(postgres_url: str) -> None:
    def check(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(schema.migrations()))
        config.attributes["connection"] = connection
        command.check(config)

    async with postgres.connected(postgres_url) as connection:
        await connection.run_sync(check)


async def test_the_migrations_also_make_the_conditions_of_the_partial_indexes(
    bare_url: str, postgres_url: str
) -> None:
    query = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
    ours = "SELECT count(*) FROM alembic_version"
    assert (await execute(postgres_url, ours))[0][0] == 1
    made = [row[0] for row in await execute(postgres_url, query)]
    async with postgres.connected(bare_url) as connection:
        await connection.run_sync(metadata.create_all)
        await connection.commit()
    wanted = [row[0] for row in await execute(bare_url, query)]
    assert [line for line in made if "alembic_version" not in str(line)] == wanted


# --- reading, telling ---


async def test_without_a_clock_the_time_is_the_servers(postgres_url: str) -> None:
    store = await SqlStore.open(postgres_url)
    (row,) = await execute(postgres_url, "SELECT clock_timestamp()")
    assert row[0] <= await store.now()  # type: ignore[operator]
    held = await hold(store)
    assert held.created_at <= await store.now()
    await store.close()


async def test_a_clock_set_back_does_not_turn_back_the_stores_time(
    store: SqlStore, clock: Clock
) -> None:
    await store.journal(entry())
    clock.advance(hours=-1)
    assert await store.now() == NOW
    assert (await hold(store)).created_at == NOW
    assert (await store.verify()).problems == ()


async def test_reading_cannot_write(store: SqlStore) -> None:
    def write(connection: Connection) -> None:
        connection.execute(text("DELETE FROM audit"))

    with pytest.raises(StoreUnavailable, match=r"could not be read: ReadOnly\w+ \(25006\)"):
        await store._engine.read(write)


async def test_what_is_read_together_is_of_one_moment(store: SqlStore, postgres_url: str) -> None:
    await store.journal(entry())

    async def meanwhile() -> None:
        await execute(postgres_url, "UPDATE audit_head SET seq = 7")

    engine = store._engine
    assert isinstance(engine, PostgresEngine)
    async with engine._read.connect() as connection:
        before = await connection.scalar(text("SELECT seq FROM audit_head"))
        await meanwhile()
        assert await connection.scalar(text("SELECT seq FROM audit_head")) == before == 1


async def test_a_reader_misses_nothing_however_writers_overlap(
    store: SqlStore, postgres_url: str
) -> None:
    """Notices are numbered in the order of commits: none comes in below a mark already read."""
    heard: list[str] = []
    done = asyncio.Event()

    async def listen() -> None:
        mark = 0
        while True:
            last = done.is_set()
            found, mark = await store.changes(mark)
            heard.extend(name for name, _ in found)
            if last:
                return

    async def write(number: int) -> CallId:
        return (await hold(store, make_asked({"number": number}), number)).id

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(listen())
        held = await asyncio.gather(*(write(number) for number in range(100)))
        done.set()
    assert sorted(heard) == sorted(held)
    assert heard == [row[0] for row in await execute(postgres_url, BY_TRAIL)]


BY_TRAIL = "SELECT subject FROM audit ORDER BY seq"


async def test_the_version_stands_still_when_there_is_nothing_to_hear(store: SqlStore) -> None:
    versions = [await store._engine.version()]
    for write in (store.journal(entry()), hold(store)):
        await write
        versions.append(await store._engine.version())
    assert versions[0] == versions[1] < versions[2]


async def test_a_restart_of_the_server_is_survived(store: SqlStore, postgres_url: str) -> None:
    held = await hold(store)
    assert await store.get(held.id) == held
    await execute(postgres_url, KILL)
    assert await store.get(held.id) == held
    await store.journal(entry())
    await execute(postgres_url, KILL)
    await asyncio.gather(*(hold(store, make_asked({"n": n}), n) for n in range(10, 20)))
    assert (await store.verify()).entries == 12


KILL = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE application_name = 'approval' AND datname = current_database()
"""


async def test_a_closed_store_answers_nothing(postgres_url: str) -> None:
    store = await SqlStore.open(postgres_url)
    await store.close()
    for work in (
        store.get(CallId("apr_x")),
        store.now(),
        store.changes(0),
        store.journal(entry()),
        store.heartbeat("me"),
    ):
        with pytest.raises(StoreUnavailable):
            await work
    store.journal_later(entry())


async def test_an_error_of_a_query_passes_through(store: SqlStore) -> None:
    with pytest.raises(NotFound):
        await store._engine.read(lambda connection: sql.get(connection, CallId("apr_x")))


async def test_a_backup_is_left_to_the_servers_own_tools(store: SqlStore, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"pg_dump"):
        await store.backup(tmp_path / "copy.db")


# --- duty ---


async def test_who_is_no_longer_connected_has_lost_the_duty(
    store: SqlStore, postgres_url: str, clock: Clock
) -> None:
    other = await SqlStore.open(postgres_url, clock=clock)
    assert await store.take_duty()
    await execute(postgres_url, KILL)
    assert await other.take_duty()
    assert not await store.take_duty()
    await other.close()
    assert await store.take_duty()


async def test_duties_that_ask_at_once_share_one_connection(store: SqlStore) -> None:
    assert await asyncio.gather(*(store.take_duty() for _ in range(5))) == [True] * 5


async def test_two_databases_of_one_server_have_a_duty_each(
    store: SqlStore, second_url: str
) -> None:
    other = await SqlStore.open(second_url)
    assert [await store.take_duty(), await other.take_duty()] == [True, True]
    await other.close()
