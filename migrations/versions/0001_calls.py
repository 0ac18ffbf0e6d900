"""Calls, votes, attempts, the trail, credentials.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LIVE = sa.text("status IN ('pending', 'approved', 'executing', 'in_doubt')")


def upgrade() -> None:
    op.create_table(
        "call",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("upstream", sa.Text, nullable=False),
        sa.Column("tool", sa.Text, nullable=False),
        sa.Column("arguments_digest", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("protocol_version", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("requirement", sa.Text, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("policy_digest", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("decide_before", sa.BigInteger, nullable=False),
        sa.Column("run_before", sa.BigInteger),
        sa.Column("decided_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("delivered_at", sa.BigInteger),
        sa.Column("timer_at", sa.BigInteger),
        sa.Column("listener", sa.Text, nullable=False),
        sa.Column("listener_owner", sa.Text, nullable=False),
        sa.Column("ended_by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    equal = ["agent", "upstream", "tool", "arguments_digest", "key"]
    op.create_index(
        "call_live_once", "call", equal, unique=True, sqlite_where=LIVE, postgresql_where=LIVE
    )
    op.create_index("call_equal", "call", [*equal, "id"])
    keyed = sa.text("key <> ''")
    op.create_index(
        "call_key",
        "call",
        ["agent", "key", "created_at"],
        sqlite_where=keyed,
        postgresql_where=keyed,
    )
    timed = sa.text("timer_at IS NOT NULL")
    op.create_index("call_timer", "call", ["timer_at"], sqlite_where=timed, postgresql_where=timed)
    op.create_index("call_status", "call", ["status", "id"])
    op.create_table(
        "call_body",
        sa.Column("call_id", sa.Text, sa.ForeignKey("call.id"), primary_key=True),
        sa.Column("arguments", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary),
        sa.Column("answer_status", sa.Text),
    )
    op.create_table(
        "vote",
        sa.Column("call_id", sa.Text, sa.ForeignKey("call.id"), primary_key=True),
        sa.Column("person", sa.Text, primary_key=True),
        sa.Column("choice", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("via", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "attempt",
        sa.Column("call_id", sa.Text, sa.ForeignKey("call.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("claimed_at", sa.BigInteger, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.Text),
    )
    still = sa.text("outcome IS NULL")
    op.create_index(
        "attempt_open_once",
        "attempt",
        ["call_id"],
        unique=True,
        sqlite_where=still,
        postgresql_where=still,
    )
    op.create_table(
        "notice",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_index("audit_subject", "audit", ["subject", "seq"])
    head = op.create_table(
        "audit_head",
        sa.Column("only", sa.Integer, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("schema", sa.Integer, nullable=False),
    )
    op.bulk_insert(head, [{"only": 1, "seq": 0, "hash": bytes(32), "at": 0, "schema": 1}])
    op.create_table(
        "credential",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
    )
    op.create_index("credential_kind", "credential", ["kind"])
    op.create_table(
        "process",
        sa.Column("instance", sa.Text, primary_key=True),
        sa.Column("heartbeat_at", sa.BigInteger, nullable=False),
    )
