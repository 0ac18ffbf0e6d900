"""The check of the trail: whatever is done to it behind its back is found."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Connection, create_engine

from approval.core import intake, steps
from approval.core.audit import Entry, Tag
from approval.core.call import Answer, Call, Choice, Listener, Status
from approval.core.lifecycle import Change
from approval.ports import TrailReport
from approval.store import trail
from approval.store.store import SqlStore
from approval.store.trail import CHUNK, MAX_PROBLEMS
from tests.factories import NOW, Clock, make_asked
from tests.store.conftest import Database, cancel, decide, entry, hold, opened
from tests.store.test_sql import FOUND, executed


async def small_trail(store: SqlStore) -> Call:
    """Tell a little of everything: two calls, a plain line, six entries."""
    held = await hold(store)
    await decide(store, held, Choice.REJECT)
    await store.journal(entry(9, outcome="ok"))
    other = await hold(store, make_asked({"number": 2}), 2)
    await store.deliver(held.id)
    await cancel(store, other.id)
    return held


async def problems(store: SqlStore) -> tuple[str, ...]:
    return (await store.verify()).problems


async def test_an_empty_trail_holds(store: SqlStore) -> None:
    assert await store.verify() == TrailReport(
        entries=0, calls=0, head=f"0:{'00' * 32}", problems=()
    )


async def test_a_whole_trail_holds_and_says_where_it_ends(store: SqlStore) -> None:
    await small_trail(store)
    await executed(store, 3)
    last = (await store.trail())[-1]
    report = await store.verify()
    assert report == TrailReport(entries=10, calls=3, head=f"10:{last.hash.hex()}", problems=())


async def test_the_head_is_the_hash_over_everything_before_it(store: SqlStore) -> None:
    await small_trail(store)
    digest = bytes(32)
    for line in await store.trail():
        digest = hashlib.sha256(b"\x01" + digest + line.body).digest()
    assert (await store.verify()).head == f"6:{digest.hex()}"


async def test_a_trail_longer_than_one_reading_holds(store: SqlStore) -> None:
    for n in range(CHUNK + 1):
        store.journal_later(entry(n))
    await store.journal(entry())
    report = await store.verify()
    assert (report.entries, report.problems) == (CHUNK + 2, ())


async def test_a_version_among_the_facts_of_something_else_is_just_a_fact(
    store: SqlStore,
) -> None:
    for tag in (Tag.SERVICE_START, Tag.POLICY_LOAD, Tag.CALL_ANSWER):
        await store.journal(Entry(tag=tag, subject="x", actor="service", facts={"version": "1"}))
    assert await problems(store) == ()


# --- tampering ---


async def test_a_flipped_bit_anywhere_in_any_entry_is_found(store: SqlStore, file: Path) -> None:
    """52: every byte of every column of every entry, one after the other."""
    await small_trail(store)
    flips = [
        (line.seq, column, value, place)
        for line, subject in zip(await store.trail(), await subjects(store), strict=True)
        for column, value in (("subject", subject), ("body", line.body), ("hash", line.hash))
        for place in range(len(value))
    ]
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        missed = [flip for flip in flips if not found_after(connection, *flip)]
        assert trail.verify(connection).problems == ()
    engine.dispose()
    assert len(flips) > 2000
    assert missed == []


async def subjects(store: SqlStore) -> list[bytes]:
    return [orjson.loads(line.body)["subject"].encode() for line in await store.trail()]


def found_after(connection: Connection, seq: int, column: str, value: bytes, place: int) -> bool:
    """Flip one bit, check, and undo it."""
    spoilt = bytearray(value)
    spoilt[place] ^= 1
    kept = spoilt.decode() if column == "subject" else bytes(spoilt)
    connection.exec_driver_sql(f"UPDATE audit SET {column} = ? WHERE seq = ?", (kept, seq))
    found = trail.verify(connection).problems != ()
    connection.rollback()
    return found


@pytest.mark.parametrize("seq", range(1, 7))
@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM audit WHERE seq = {seq}",
        "UPDATE audit SET seq = seq + 100 WHERE seq = {seq}",
        "UPDATE audit SET seq = -seq WHERE seq = {seq}",
        "UPDATE audit SET body = CAST(body AS TEXT) WHERE seq = {seq}",
        "UPDATE audit SET body = 7 WHERE seq = {seq}",
        "UPDATE audit SET body = x'' WHERE seq = {seq}",
        "UPDATE audit SET body = x'5b5d' WHERE seq = {seq}",
        "UPDATE audit SET hash = 'text' WHERE seq = {seq}",
        "UPDATE audit SET subject = x'00' WHERE seq = {seq}",
        "INSERT INTO audit SELECT seq + 100, subject, body, hash FROM audit WHERE seq = {seq}",
        "DELETE FROM audit WHERE seq >= {seq}",
    ],
)
async def test_a_row_that_is_removed_moved_copied_or_mangled_is_found(
    store: SqlStore, file: Path, damage: str, seq: int
) -> None:
    await small_trail(store)
    with opened(file) as database:
        database.execute(damage.format(seq=seq))
    assert await problems(store) != ()


@pytest.mark.parametrize(("one", "two"), [(a, b) for b in range(1, 7) for a in range(1, b)])
async def test_two_entries_that_changed_places_are_found(
    store: SqlStore, database: Database, one: int, two: int
) -> None:
    await small_trail(store)
    await database.execute(f"UPDATE audit SET seq = -1 WHERE seq = {one}")
    await database.execute(f"UPDATE audit SET seq = {one} WHERE seq = {two}")
    await database.execute(f"UPDATE audit SET seq = {two} WHERE seq = -1")
    assert any("stands in another's place" in problem for problem in await problems(store))


async def test_a_tail_that_was_cut_off_with_its_calls_is_missed_by_the_head(
    store: SqlStore, database: Database
) -> None:
    await small_trail(store)
    await database.execute("DELETE FROM audit WHERE seq > 5")
    await database.execute(
        "UPDATE call SET status = 'pending', version = 1 WHERE status = 'cancelled'"
    )
    assert await problems(store) == (
        "the trail ends at 5, but its head says 6: entries are missing",
    )


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE audit_head SET seq = seq + 1",
        "UPDATE audit_head SET hash = 'text'",
        "UPDATE audit_head SET at = at + 3600000000",
        "UPDATE audit_head SET at = 9223372036854775807",
        "DELETE FROM audit_head",
        "INSERT INTO audit_head SELECT 2, seq, hash, at, schema FROM audit_head",
    ],
)
async def test_a_head_that_does_not_fit_its_trail_is_found(
    store: SqlStore, database: Database, damage: str
) -> None:
    await small_trail(store)
    await database.execute(damage)
    assert len(await problems(store)) == 1


@pytest.mark.parametrize(
    "damage",
    ["UPDATE audit_head SET hash = zeroblob(32)", "UPDATE audit_head SET at = 'soon'"],
)
async def test_a_head_of_another_kind_is_found(store: SqlStore, file: Path, damage: str) -> None:
    await small_trail(store)
    with opened(file) as database:
        database.execute(damage)
    assert len(await problems(store)) == 1


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE call SET status = 'approved' WHERE status = 'rejected'", "approved at version 2"),
        ("UPDATE call SET version = 3 WHERE status = 'rejected'", "rejected at version 3"),
        ("UPDATE call SET id = 'apr_x' WHERE status = 'rejected'", "nothing"),
        ("DELETE FROM call WHERE status = 'rejected'", "nothing"),
    ],
)
async def test_a_call_that_is_not_what_the_trail_says_is_found(
    store: SqlStore, file: Path, damage: str, found: str
) -> None:
    held = await small_trail(store)
    with opened(file) as database:
        database.execute(damage)
    expected = f"{held.id}: the trail says rejected at version 2, the database {found}"
    assert expected in await problems(store)


async def test_a_call_that_the_trail_does_not_tell_of_is_found(store: SqlStore, file: Path) -> None:
    held = await small_trail(store)
    with opened(file) as database:
        database.execute("CREATE TEMP TABLE c AS SELECT * FROM call WHERE status = 'rejected'")
        database.execute("UPDATE c SET id = 'apr_x'")
        database.execute("INSERT INTO call SELECT * FROM c")
    assert await problems(store) == (
        "apr_x: the trail says nothing, the database rejected at version 2",
    )
    assert held.id != "apr_x"


# --- impossible stories, told in an unbroken chain ---


def story(subject: str, tag: Tag, version: object, to: object) -> Entry:
    return Entry(tag=tag, subject=subject, actor="x", facts={"version": version, "to": to})


@pytest.mark.parametrize(
    ("tag", "version", "to", "expected"),
    [
        (Tag.CALL_CLAIM, 2, "executing", "the trail leads from pending by claim"),
        (Tag.CALL_HOLD, 2, "pending", "the trail leads from pending by hold"),
        (Tag.CALL_APPROVE, 3, "approved", "version 3 does not follow 1"),
        (Tag.CALL_APPROVE, 1, "approved", "version 1 does not follow 1"),
        (Tag.CALL_APPROVE, "2", "approved", "version 2 does not follow 1"),
        (Tag.CALL_APPROVE, 2, "executed", "version 2 does not follow 1"),
        (Tag.CALL_CLAIM, 2, "nowhere", "entry 2 cannot be read"),
    ],
)
async def test_a_story_that_cannot_happen_is_found_although_the_chain_is_whole(
    store: SqlStore, tag: Tag, version: object, to: object, expected: str
) -> None:
    held = await hold(store)
    await store.journal(story(held.id, tag, version, to))
    assert any(expected in problem for problem in await problems(store))


async def test_a_trail_that_tells_of_a_call_from_its_middle_is_found(store: SqlStore) -> None:
    await store.journal(story("apr_x", Tag.CALL_APPROVE, 1, "approved"))
    assert await problems(store) == (
        "apr_x: the trail leads from None by approve, which cannot happen",
        "apr_x: the trail says approved at version 1, the database nothing",
    )


async def test_an_entry_older_than_the_one_before_it_is_found(store: SqlStore, file: Path) -> None:
    await store.journal(entry(1))
    await store.journal(entry(2))
    with opened(file) as database:
        body = orjson.loads((await store.trail())[1].body)
        body["at"] = (NOW - timedelta(hours=1)).isoformat(timespec="microseconds")
        forged = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        digest = hashlib.sha256(b"\x01" + (await store.trail())[0].hash + forged).digest()
        database.execute("UPDATE audit SET body = ?, hash = ? WHERE seq = 2", (forged, digest))
        database.execute("UPDATE audit_head SET hash = ?", (digest,))
    found = await problems(store)
    assert "entry 2 is older than the one before it" in found


async def test_a_ruined_trail_is_not_described_for_ever(store: SqlStore, file: Path) -> None:
    for n in range(MAX_PROBLEMS + 50):
        store.journal_later(entry(n))
    await store.journal(entry())
    with opened(file) as database:
        database.execute("UPDATE audit SET body = x'00'")
    assert len(await problems(store)) == MAX_PROBLEMS


async def test_every_way_through_a_life_verifies(store: SqlStore, clock: Clock) -> None:
    ways: list[Callable[[Call, datetime], Change]] = [
        lambda call, now: steps.expire(call, now=call.decide_before + timedelta(seconds=1)),
        lambda call, now: steps.invalidate(call, "x", now=now),
        lambda call, now: intake.join(call, owner="other"),
    ]
    for number, way in enumerate(ways):
        held = await hold(store, make_asked({"way": number}), number)
        await store.advance(held.id, way)
        await store.listen(held.id, Listener.GONE, "me")
    done = await executed(store, 9)
    assert done.status is Status.EXECUTED
    assert await store.answer(done.id) == Answer(status=Status.EXECUTED, body=FOUND.body)
    assert (await store.get(done.id)) == replace(done)
    assert await problems(store) == ()


async def test_entries_of_calls_without_a_record_are_filed_under_nothing(store: SqlStore) -> None:
    await store.journal(entry(1))
    call = await hold(store)
    assert await store.trail(subject="apr_1") == ()
    assert len(await store.trail(subject=call.id)) == 1
    assert len(await store.trail()) == 2
    assert (await store.verify()).problems == ()


async def test_an_entry_of_a_kept_call_that_is_filed_under_nothing_is_found(
    store: SqlStore, file: Path
) -> None:
    await hold(store)
    with opened(file) as database:
        database.execute("UPDATE audit SET subject = ''")
    assert "entry 1 stands in another's place" in (await store.verify()).problems
