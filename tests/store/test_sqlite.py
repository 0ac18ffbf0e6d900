"""SQLite opened safely: where it may lie, who may read it, who has the duty."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from approval.errors import Misconfigured, StoreUnavailable
from approval.store.sqlite import (
    NETWORK_FILE_SYSTEMS,
    SqliteEngine,
    check_disk,
    file_system,
    kind_of,
)
from approval.store.store import SqlStore
from approval.store.tables import SCHEMA
from tests.factories import Clock
from tests.store.conftest import URL, entry, opened

MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:20 / /data rw - nfs4 server:/export rw
23 21 0:21 / /data/local rw shared:2 master:3 - xfs /dev/sdb1 rw
24 21 0:22 / /with\040space rw - cifs //server/share rw
25 21 0:23 / /back\134slash\011tab rw - 9p host rw
26 21 0:24 / /donn\303\251es rw - nfs server:/x rw
27 21 0:25 / /données rw - nfs server:/x rw
28 21 0:26 / /over rw - ext4 /dev/sdc1 rw
29 21 0:27 / /over rw - fuse.sshfs me@host: rw
30 21 0:28 / /literal\134040 rw - lustre x rw

a line that is none
31 21 0:29 / /short
- - -
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/home", "ext4"),
        ("/data", "nfs4"),
        ("/data/x/y", "nfs4"),
        ("/database", "ext4"),
        ("/data/local", "xfs"),
        ("/data/local/x", "xfs"),
        ("/with space/x", "cifs"),
        ("/with", "ext4"),
        ("/back\\slash\ttab", "9p"),
        ("/données/x", "nfs"),
        ("/over/x", "fuse.sshfs"),
        ("/literal\\040", "lustre"),
    ],
)
def test_the_nearest_mount_says_what_kind_of_file_system_it_is(folder: str, kind: str) -> None:
    assert kind_of(Path(folder), MOUNTS) == kind


def test_where_the_machine_does_not_say_nothing_is_claimed() -> None:
    assert kind_of(Path("/x"), "") == ""


def test_the_file_system_of_this_test_is_none_of_a_network(tmp_path: Path) -> None:
    assert file_system(tmp_path) not in NETWORK_FILE_SYSTEMS


@pytest.mark.parametrize("kind", sorted(NETWORK_FILE_SYSTEMS))
def test_a_network_file_system_is_refused_by_name(kind: str) -> None:
    with pytest.raises(Misconfigured, match=f"a network file system .{kind}. does not hold"):
        check_disk(Path("/data/approval.db"), kind)


@pytest.mark.parametrize("kind", ["", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "apfs"])
def test_a_local_file_system_is_not(kind: str) -> None:
    check_disk(Path("/data/approval.db"), kind)


# --- opening ---


async def refusal(folder: Path, url: str = URL) -> str:
    with pytest.raises(Misconfigured) as refused:
        await SqlStore.open(url, base=folder)
    (problem,) = refused.value.problems
    return problem


async def test_what_cannot_be_opened_is_refused_with_its_name_and_a_reason(
    tmp_path: Path,
) -> None:
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "locked.db.lock").mkdir()
    (tmp_path / "diary.db").write_text("Dear diary, " * 1000)
    (tmp_path / "logged.db-wal").mkdir()
    with opened(tmp_path / "foreign.db") as database:
        database.execute("CREATE TABLE wallet (coins)")
    texts = {
        "no/approval.db": "its folder does not exist; make it first",
        "diary.db": "is no usable SQLite database: file is not a database",
        "folder.db": "is no usable SQLite database: unable to open database file",
        "foreign.db": "is another program's database; name a new file",
        "locked.db": "cannot be written: Is a directory",
        "logged.db": "is no usable SQLite database: disk I/O error",
    }
    for name, reason in texts.items():
        problem = await refusal(tmp_path, f"sqlite:///{name}")
        assert problem.startswith(f"{tmp_path / name}: ")
        assert problem.endswith(reason)


async def test_a_newer_file_is_refused(store: SqlStore, file: Path, tmp_path: Path) -> None:
    with opened(file) as database:
        database.execute(f"UPDATE audit_head SET schema = {SCHEMA + 1}")
    assert f"has schema {SCHEMA + 1}, this version knows {SCHEMA}" in await refusal(tmp_path)


async def test_a_file_opens_whatever_its_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "a b?c#d%20e&mode=ro é"
    folder.mkdir()
    store = await SqlStore.open(URL, base=folder)
    await store.journal(entry())
    assert len(await store.trail()) == 1
    assert (folder / "approval.db").exists()
    await store.close()
    assert os.listdir(tmp_path) == [folder.name]  # noqa: PTH208


async def test_two_names_of_one_file_share_its_locks(store: SqlStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.db").symlink_to(tmp_path / "approval.db")
    linked = await SqlStore.open("sqlite:///elsewhere/link.db", base=tmp_path)
    assert await store.take_duty()
    assert not await linked.take_duty()
    await linked.journal(entry())
    await linked.close()
    assert os.listdir(tmp_path / "elsewhere") == ["link.db"]  # noqa: PTH208


async def test_every_file_is_its_owners_alone(store: SqlStore, tmp_path: Path) -> None:
    await store.take_duty()
    await store.journal(entry())
    await store.backup(tmp_path / "backup.db")
    modes = {each.name: each.stat().st_mode & 0o777 for each in os.scandir(tmp_path)}
    assert modes.keys() >= {
        *("approval.db", "approval.db-wal", "approval.db-shm"),
        *("approval.db.lock", "approval.db.duty", "backup.db"),
    }
    assert set(modes.values()) == {0o600}


# --- reading ---


@pytest.fixture
async def engine(tmp_path: Path, clock: Clock) -> SqliteEngine:
    return await SqliteEngine.open(tmp_path / "approval.db", clock, wait_seconds=0.05)


async def test_reading_cannot_write(engine: SqliteEngine) -> None:
    await engine.journal(entry())
    for statement in ("DELETE FROM audit", "PRAGMA user_version=7", "CREATE TABLE t (x)"):
        with pytest.raises(StoreUnavailable, match="readonly"):
            await engine.read(lambda c, statement=statement: c.execute(text(statement)))  # type: ignore[misc]
    assert await engine.read(lambda c: c.execute(text("SELECT count(*) FROM audit")).scalar()) == 1
    await engine.close()


async def test_what_is_read_together_is_of_one_moment(engine: SqliteEngine) -> None:
    loop = asyncio.get_running_loop()
    count = text("SELECT count(*) FROM audit")

    def twice(connection: Connection) -> tuple[object, object]:
        first = connection.execute(count).scalar()
        asyncio.run_coroutine_threadsafe(engine.journal(entry()), loop).result(10)
        return first, connection.execute(count).scalar()

    assert await engine.read(twice) == (0, 0)
    assert await engine.read(lambda c: c.execute(count).scalar()) == 1
    await engine.close()


async def test_verifying_while_others_write_raises_no_false_alarm(
    store: SqlStore, other: SqlStore
) -> None:
    async def write() -> None:
        for n in range(100):
            await other.journal(entry(n))

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        problems: list[str] = []
        while not writing.done():
            problems += (await store.verify()).problems
    assert problems == []


async def test_a_query_that_fails_says_what_and_not_with_which_values(
    engine: SqliteEngine,
) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        await engine.read(lambda c: c.execute(text("SELECT :v FROM nowhere"), {"v": "secret"}))
    assert str(refused.value) == "the database could not be read: no such table: nowhere"
    await engine.close()


async def test_a_closed_store_answers_nothing(tmp_path: Path) -> None:
    store = await SqlStore.open(URL, base=tmp_path)
    await store.close()
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        await store.trail()
    with pytest.raises(StoreUnavailable):
        await store.journal(entry())


# --- backup ---


async def test_a_backup_made_while_others_write_is_whole(store: SqlStore, tmp_path: Path) -> None:
    async def write() -> None:
        for n in range(100):
            await store.journal(entry(n))

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        await store.backup(tmp_path / "backup.db")
    copy = await SqlStore.open("sqlite:///backup.db", base=tmp_path)
    report = await copy.verify()
    await copy.close()
    assert report.problems == ()
    assert (await store.verify()).entries == 100


async def test_a_backup_replaces_nothing(store: SqlStore, tmp_path: Path) -> None:
    (tmp_path / "there.db").write_text("mine")
    with pytest.raises(Misconfigured, match=r"there\.db: exists already; name a new file"):
        await store.backup(tmp_path / "there.db")
    assert (tmp_path / "there.db").read_text() == "mine"


# --- duty ---


TAKE_DUTY = """
import asyncio, sys
from pathlib import Path
from approval.store.store import SqlStore

async def main():
    store = await SqlStore.open("sqlite:///approval.db", base=Path(sys.argv[1]))
    print(await store.take_duty(), flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


def test_a_process_that_is_killed_leaves_the_duty_to_another(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", TAKE_DUTY, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )

    with start() as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "True\n"
        with start() as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "False\n"
            second.communicate()
        first.send_signal(signal.SIGKILL)
    with start() as third:
        assert third.stdout is not None
        assert re.fullmatch("True\n", third.stdout.readline())
        third.communicate()
