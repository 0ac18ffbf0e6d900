"""The tables, as SQLAlchemy knows them. `migrations/` makes them; a test holds the two together.

Constraints and unique indexes repeat in the database what the core promises: one live call for
equal requests, one open attempt per call, one vote per person and choice.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    text,
)
from typing_extensions import override

SCHEMA: Final = 2
"""The number of the newest migration this code knows. A writer refuses a higher one."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware UTC time as whole microseconds since 1970: exact, sortable, alike everywhere."""

    impl = BigInteger
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_microseconds(value)

    @override
    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_microseconds(value)


def to_microseconds(value: datetime) -> int:
    return (value - _EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    return _EPOCH + value * _MICROSECOND


metadata = MetaData()

FILED: Final = "subject <> ''"
"""The entries that can be looked up by subject, in the words that find their partial index."""

LIVE: Final = "status IN ('pending', 'approved', 'executing', 'in_doubt')"
"""The calls that have not ended. A query that says it in these words finds the partial index."""

PENDING: Final = "status = 'pending'"
"""The calls that wait for a decision, in the words that find their partial index."""

calls = Table(
    "call",
    metadata,
    Column("id", Text, primary_key=True),
    Column("agent", Text, nullable=False),
    Column("upstream", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("arguments_digest", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("protocol_version", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("title", Text),
    Column("requirement", Text, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("policy_digest", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("decide_before", Instant, nullable=False),
    Column("run_before", Instant),
    Column("decided_at", Instant),
    Column("ended_at", Instant),
    Column("delivered_at", Instant),
    Column("timer_at", Instant),
    Column("listener", Text, nullable=False),
    Column("listener_owner", Text, nullable=False),
    Column("ended_by", Text, nullable=False),
    Column("note", Text, nullable=False),
    # Minor units of the currency; both are null for a call that spends nothing.
    Column("amount", BigInteger),
    Column("currency", Text),
    Column("per", Text),
    Column("terms", Text),
    # The grant under which the call ran without asking.
    Column("grant_id", Text),
    # The person who said that it is to run although its agent has gone.
    Column("released_by", Text),
    Index(
        "call_live_once",
        "agent",
        "upstream",
        "tool",
        "arguments_digest",
        "key",
        unique=True,
        sqlite_where=text(LIVE),
        postgresql_where=text(LIVE),
    ),
    Index("call_equal", "agent", "upstream", "tool", "arguments_digest", "key", "id"),
    Index(
        "call_key",
        "agent",
        "key",
        "created_at",
        sqlite_where=text("key <> ''"),
        postgresql_where=text("key <> ''"),
    ),
    Index(
        "call_timer",
        "timer_at",
        sqlite_where=text("timer_at IS NOT NULL"),
        postgresql_where=text("timer_at IS NOT NULL"),
    ),
    Index("call_status", "status", "id"),
    # The status is in it so that counting reads the index alone.
    Index(
        "call_pending",
        "agent",
        "status",
        sqlite_where=text(PENDING),
        postgresql_where=text(PENDING),
    ),
)

call_bodies = Table(
    "call_body",
    metadata,
    Column("call_id", Text, ForeignKey("call.id"), primary_key=True),
    # Bytes, not text: PostgreSQL's text cannot hold U+0000, which is legal in JSON.
    Column("arguments", LargeBinary, nullable=False),
    Column("answer", LargeBinary),
    Column("answer_status", Text),
)

votes = Table(
    "vote",
    metadata,
    Column("call_id", Text, ForeignKey("call.id"), primary_key=True),
    Column("person", Text, primary_key=True),
    Column("choice", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("via", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("amount", BigInteger),
    Column("currency", Text),
    # The grant that they would give along with their approval, as JSON.
    Column("wish", Text),
)

attempts = Table(
    "attempt",
    metadata,
    Column("call_id", Text, ForeignKey("call.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("claimed_at", Instant, nullable=False),
    Column("lease_until", Instant, nullable=False),
    Column("outcome", Text),
    Index(
        "attempt_open_once",
        "call_id",
        unique=True,
        sqlite_where=text("outcome IS NULL"),
        postgresql_where=text("outcome IS NULL"),
    ),
)

meters = Table(
    "meter",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("currency", Text, nullable=False),
    # Whose sums these are: JSON pairs of a scope and its value.
    Column("key", Text, nullable=False),
)

meter_windows = Table(
    "meter_window",
    metadata,
    Column("meter_id", Text, ForeignKey("meter.id"), primary_key=True),
    Column("window_start", BigInteger, primary_key=True),
    Column("held", BigInteger, nullable=False),
    Column("posted", BigInteger, nullable=False),
    Column("overridden", BigInteger, nullable=False),
    CheckConstraint("held >= 0 AND posted >= 0 AND overridden >= 0", name="sums_are_not_negative"),
)

reservations = Table(
    "reservation",
    metadata,
    Column("call_id", Text, ForeignKey("call.id"), primary_key=True),
    Column("meter_id", Text, ForeignKey("meter.id"), primary_key=True),
    Column("window_start", BigInteger, nullable=False),
    Column("at", Instant, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("override", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("posted", BigInteger, nullable=False),
    Index(
        "reservation_counted",
        "meter_id",
        "window_start",
        "at",
        sqlite_where=text("state <> 'void'"),
        postgresql_where=text("state <> 'void'"),
    ),
)

ledger_entries = Table(
    "ledger_entry",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("call_id", Text, nullable=False),
    Column("meter_id", Text, nullable=False),
    Column("window_start", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("override", BigInteger, nullable=False),
    Column("at", Instant, nullable=False),
    Index("ledger_entry_meter", "meter_id", "at"),
)

grants = Table(
    "standing_grant",
    metadata,
    Column("id", Text, primary_key=True),
    Column("agent", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("issued_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("revoked_by", Text, nullable=False),
    Index(
        "standing_grant_of_agent",
        "agent",
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
)

freezes = Table(
    "freeze",
    metadata,
    Column("call_id", Text, ForeignKey("call.id"), primary_key=True),
    Column("agent", Text, nullable=False),
    Column("upstream", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("lifted_at", Instant),
    Column("lifted_by", Text, nullable=False),
    Index(
        "freeze_in_force",
        "agent",
        "upstream",
        "tool",
        sqlite_where=text("lifted_at IS NULL"),
        postgresql_where=text("lifted_at IS NULL"),
    ),
)

rate_counts = Table(
    "rate_count",
    metadata,
    Column("id", Text, primary_key=True),
    Column("family", Text, nullable=False),
    Column("n", BigInteger, nullable=False),
    # Since when a calendar counter counts; a ring needs no start.
    Column("start_at", Instant),
    Column("used_at", Instant, nullable=False),
    # How many counts its family had when the last was made: who waited for this row reads it here.
    Column("family_size", Integer, nullable=False),
    Index("rate_count_family", "family", "used_at"),
)

rate_slots = Table(
    "rate_slot",
    metadata,
    Column("count_id", Text, ForeignKey("rate_count.id"), primary_key=True),
    Column("slot", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
)

notices = Table(
    "notice",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("subject", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("subject", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    # Empty where nobody looks: see `Entry.filed_under`.
    Index(
        "audit_filed",
        "subject",
        "seq",
        sqlite_where=text(FILED),
        postgresql_where=text(FILED),
    ),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("only", Integer, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("schema", Integer, nullable=False),
)

credentials = Table(
    "credential",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Index("credential_kind", "kind"),
)

processes = Table(
    "process",
    metadata,
    Column("instance", Text, primary_key=True),
    Column("heartbeat_at", Instant, nullable=False),
)
