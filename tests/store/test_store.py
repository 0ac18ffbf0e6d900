"""The store as its users see it: a contract kept, races with one winner, two processes."""

import asyncio
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from approval.core import steps
from approval.core.call import Answer, Call, Choice, Status
from approval.core.lifecycle import Change
from approval.core.steps import Ballot
from approval.errors import Conflict, Misconfigured
from approval.ports import Credential, Store
from approval.service import Service
from approval.store.sqlite import SqliteEngine
from approval.store.store import SqlStore, wall_clock
from tests.factories import NOW, Clock, make_asked, make_directory, make_rulebook, make_verdict
from tests.sending import OK, Upstream
from tests.store.conftest import URL, Database, decide, entry, hold
from tests.store.test_sql import ISSUE, claim
from tests.store.test_writer import until

ROOT = Path(__file__).parents[2]


def test_the_store_keeps_the_contract_of_its_port() -> None:
    def as_port(store: SqlStore) -> Store:
        return store  # mypy proves it

    assert as_port.__annotations__["return"] is Store


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:hunter2-hunter2@host/approval",
        "sqlite:///",
        "sqlite://",
        "sqlite:///:memory:",
        "approval.db",
        "",
    ],
)
async def test_a_url_that_names_no_database_is_refused_and_not_repeated(
    url: str, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match=r"database\.url: names no database .*; write") as no:
        await SqlStore.open(url, base=tmp_path)
    assert "hunter2" not in str(no.value)
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_a_file_may_be_named_absolutely(tmp_path: Path) -> None:
    store = await SqlStore.open(f"sqlite:///{tmp_path}/here.db", base=Path("elsewhere"))
    await store.close()
    assert (tmp_path / "here.db").exists()


async def test_without_a_clock_the_store_has_the_machines(tmp_path: Path) -> None:
    store = await SqlStore.open(URL, base=tmp_path)
    before = wall_clock()
    assert before <= await store.now() <= wall_clock()
    assert before.utcoffset() == timedelta(0)
    await store.close()


async def test_the_store_tells_the_time_it_writes_with(store: SqlStore) -> None:
    assert await store.now() == NOW
    assert (await hold(store)).created_at == NOW


async def test_everything_survives_closing_and_opening(database: Database) -> None:
    store = await database.open()
    approved = await decide(store, await hold(store))
    await store.close()
    again = await database.open()
    assert await again.get(approved.id) == approved
    assert (await again.verify()).problems == ()
    await again.close()


# --- races ---


async def outcomes(*work: Awaitable[Call]) -> Counter[str]:
    found = await asyncio.gather(*work, return_exceptions=True)
    return Counter(
        str(each.status) if isinstance(each, Call) else type(each).__name__ for each in found
    )


async def test_of_many_equal_requests_at_once_one_call_is_made(
    store: SqlStore, other: SqlStore
) -> None:
    stores = [store, other] * 15
    held = await asyncio.gather(*(hold(s, number=n) for n, s in enumerate(stores)))
    assert len({call.id for call in held}) == 1
    assert sorted(call.version for call in held) == list(range(1, 31))
    assert len((await store.find()).calls) == 1


async def test_of_many_claims_at_once_one_has_it(store: SqlStore, other: SqlStore) -> None:
    approved = await decide(store, await hold(store))
    claims = (claim(s, approved) for s in [store, other] * 10)
    assert await outcomes(*claims) == {"executing": 1, "Conflict": 19}
    assert (await other.get(approved.id)).version == 3


async def test_of_many_answers_at_once_only_the_first_stands(
    store: SqlStore, other: SqlStore
) -> None:
    held = await hold(store)
    cast = (
        decide(s, held, choice, person)
        for s in (store, other)
        for person in ("ann", "bob")
        for choice in Choice
    )
    await outcomes(*cast)
    call = await store.get(held.id)
    assert call.status is Status.REJECTED
    lines = await store.trail(subject=held.id)
    assert len(lines) == call.version
    assert (await other.verify()).problems == ()


async def test_clicking_many_times_counts_once(store: SqlStore, other: SqlStore) -> None:
    held = await hold(store)
    clicks = (decide(s, held) for s in [store, other] * 10)
    assert await outcomes(*clicks) == {"approved": 20}
    assert len((await store.get(held.id)).votes) == 1
    assert len(await store.trail()) == 2


async def test_a_decision_that_waited_for_the_lock_meets_the_deadline_after_it(
    store: SqlStore, other: SqlStore, clock: Clock, file: Path
) -> None:
    held = await hold(store)
    begun, go_on = threading.Event(), threading.Event()

    def slow(call: Call, now: datetime) -> Change:
        begun.set()
        go_on.wait(10)
        return Change(call=call)

    ballot = Ballot(person="ann", choice=Choice.APPROVE, digest=held.digest, via="web")

    def vote(call: Call, now: datetime) -> Change:
        return steps.decide(
            call, ballot, directory=make_directory(), verdict=make_verdict(), now=now
        )

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(store.advance(held.id, slow))
        await asyncio.to_thread(begun.wait, 10)
        voted = group.create_task(other.advance(held.id, vote))
        assert isinstance(other._engine, SqliteEngine)
        writer = other._engine._writer
        await until(lambda: writer._under_way == 1 and writer._handed.empty())
        clock.now = held.decide_before + timedelta(microseconds=1)
        go_on.set()
    assert voted.result().call.status is Status.EXPIRED
    assert (await store.get(held.id)).votes == ()


# --- two processes ---

SPEND = """
import asyncio, os, sys
from pathlib import Path
from approval.core.audit import Entry, Tag
from approval.store.store import SqlStore

async def main():
    store = await SqlStore.open(os.environ["URL"], base=Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    entry = Entry(tag=Tag.LOGIN_OPEN, subject="login", actor="web")
    for n in range(40):
        if await store.spend_credential("login", f"digest-{n}", entry) is not None:
            print(n, flush=True)
    await store.close()

asyncio.run(main())
"""


def start(database: Database) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SPEND, str(database.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "URL": database.url},
    )


async def test_of_two_processes_that_present_a_secret_one_has_it(database: Database) -> None:
    store = await database.open()
    for n in range(40):
        secret = Credential(digest=f"digest-{n}", kind="login", subject="ann", created_at=NOW)
        await store.keep_credential(secret, ISSUE)
    with start(database) as one, start(database) as two:
        for process in (one, two):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        spent = [process.communicate(timeout=60)[0].split() for process in (one, two)]
        assert [one.returncode, two.returncode] == [0, 0]
    assert sorted(int(n) for each in spent for n in each) == list(range(40))
    assert await store.credentials("login") == ()
    report = await store.verify()
    await store.close()
    assert (report.entries, report.problems) == (80, ())


async def test_a_conflict_is_not_the_end_of_the_store(store: SqlStore) -> None:
    held = await hold(store)
    rejected = await decide(store, held, Choice.REJECT)
    with pytest.raises(Conflict):
        await claim(store, rejected)
    await store.journal(entry())
    assert (await hold(store, make_asked({"next": True}), 2)).status is Status.PENDING


async def test_readers_with_marks_of_their_own_all_hear_of_a_change(
    store: SqlStore, other: SqlStore
) -> None:
    _, mark = await store.changes(-1)
    assert await store.changes(mark) == ((), mark)
    held = await hold(other)
    found, after = await store.changes(mark)
    assert found == ((held.id, 1),)
    assert await store.changes(mark) == (found, after)
    assert await store.changes(after) == ((), after)
    assert await store.changes(after) == ((), after)


async def test_a_timer_comes_due_though_nothing_was_written_meanwhile(
    store: SqlStore, clock: Clock
) -> None:
    assert await store.due() == ()
    held = await hold(store)
    assert await store.due() == ()
    assert await store.due() == ()
    clock.advance(minutes=15, seconds=1)
    assert await store.due() == (held.id,)
    assert await store.due() == (held.id,)
    await store.advance(held.id, lambda call, now: steps.expire(call, now=now))
    assert await store.due() == ()


async def test_one_store_has_the_duty_until_it_closes(database: Database, clock: Clock) -> None:
    store, second = await database.open(clock), await database.open(clock)
    assert [await second.take_duty(), await second.take_duty()] == [True, True]
    assert [await store.take_duty(), await store.take_duty()] == [False, False]
    await second.close()
    assert await store.take_duty()
    await store.close()


async def test_two_services_on_one_database_run_an_approved_call_once(
    store: SqlStore, other: SqlStore
) -> None:
    rules, upstream = make_rulebook(), Upstream()
    async with Service(store, rules) as one, Service(other, rules) as two:
        held = (await one.submit(make_asked(), make_verdict())).call
        ballot = Ballot(person="ann", choice=Choice.APPROVE, digest=held.digest, via="web")
        await two.decide(held.id, ballot)
        sent = await asyncio.gather(
            *(each.execute(held.id, upstream.send) for each in (one, two) * 10),
            return_exceptions=True,
        )
        assert upstream.received == [held.asked.arguments]
        assert [type(each) for each in sent].count(Call) >= 1
        assert (await one.get(held.id)).status is Status.EXECUTED
    assert (await store.verify()).problems == ()


async def test_a_claim_is_on_disk_before_its_call_is_sent(store: SqlStore, other: SqlStore) -> None:
    found: list[Status] = []

    async def send(call: Call) -> Answer:
        found.append((await other.get(call.id)).status)
        return OK

    async with Service(store, make_rulebook()) as service:
        await service.execute((await decide(store, await hold(store))).id, send)
    assert found == [Status.EXECUTING]
