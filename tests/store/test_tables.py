"""The tables repeat in the database what the core promises, and keep time exactly."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite as dialects
from sqlalchemy.exc import IntegrityError

from approval.core.call import UNENDED
from approval.store.store import SqlStore
from approval.store.tables import LIVE, Instant, from_microseconds, metadata, to_microseconds
from tests.factories import NOW
from tests.store.conftest import Database, hold


@settings(deadline=None)
@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_comes_back_to_the_microsecond(moment: datetime) -> None:
    assert from_microseconds(to_microseconds(moment)) == moment


def test_moments_are_kept_as_whole_numbers_and_nothing_stays_nothing() -> None:
    instant, dialect = Instant(), dialects.dialect()
    assert instant.process_bind_param(NOW, dialect) == 1_795_262_400_000_000
    assert instant.process_result_value(1_795_262_400_000_001, dialect) == NOW + timedelta(
        microseconds=1
    )
    assert instant.process_bind_param(None, dialect) is None
    assert instant.process_result_value(None, dialect) is None


def test_what_counts_as_live_is_what_the_core_says_has_not_ended() -> None:
    assert LIVE.startswith("status IN (")
    assert {str(status) for status in UNENDED} == set(LIVE.split("'")[1::2])


def test_every_table_is_named_once_and_has_a_key() -> None:
    assert sorted(metadata.tables) == [
        "attempt",
        "audit",
        "audit_head",
        "call",
        "call_body",
        "credential",
        "freeze",
        "ledger_entry",
        "meter",
        "meter_window",
        "notice",
        "process",
        "rate_count",
        "rate_slot",
        "reservation",
        "standing_grant",
        "vote",
    ]
    assert all(len(table.primary_key) for table in metadata.tables.values())


REFUSED = (sqlite3.IntegrityError, IntegrityError)
COPY = "INSERT INTO call (id, {columns}) SELECT 'apr_2', {columns} FROM call"
AN_ATTEMPT = "INSERT INTO attempt VALUES ('{}', {}, 'me', 0, 0, {})"


async def test_the_database_itself_refuses_a_second_live_call_for_the_same_request(
    store: SqlStore, database: Database
) -> None:
    await hold(store)
    columns = ", ".join(c.name for c in metadata.tables["call"].c if c.name != "id")
    with pytest.raises(REFUSED, match=r"UNIQUE|unique"):
        await database.execute(COPY.format(columns=columns))
    await database.execute("UPDATE call SET status = 'expired'")
    await database.execute(COPY.format(columns=columns))


async def test_the_database_itself_refuses_a_second_open_attempt_and_a_second_equal_vote(
    store: SqlStore, database: Database
) -> None:
    call = await hold(store)
    a_vote = (
        "INSERT INTO vote (call_id, person, choice, digest, at, via, reason)"
        f" VALUES ('{call.id}', 'ann', 'approve', 'd', 0, 'web', '')"
    )
    await database.execute(AN_ATTEMPT.format(call.id, 1, "NULL"))
    await database.execute(a_vote)
    for twice in (AN_ATTEMPT.format(call.id, 2, "NULL"), a_vote):
        with pytest.raises(REFUSED, match=r"UNIQUE|unique"):
            await database.execute(twice)
    await database.execute("UPDATE attempt SET outcome = 'lost'")
    await database.execute(AN_ATTEMPT.format(call.id, 2, "NULL"))
