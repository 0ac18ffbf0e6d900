"""What calls cost, meters and what they hold, the ledger, rates, grants.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FILED = sa.text("subject <> ''")
FROZEN = sa.text("lifted_at IS NULL")
COUNTED = sa.text("state <> 'void'")
IN_FORCE = sa.text("revoked_at IS NULL")
PENDING = sa.text("status = 'pending'")


def upgrade() -> None:
    op.add_column("call", sa.Column("amount", sa.BigInteger))
    op.add_column("call", sa.Column("currency", sa.Text))
    op.add_column("call", sa.Column("per", sa.Text))
    op.add_column("call", sa.Column("terms", sa.Text))
    op.add_column("call", sa.Column("grant_id", sa.Text))
    op.add_column("call", sa.Column("released_by", sa.Text))
    op.add_column("vote", sa.Column("amount", sa.BigInteger))
    op.add_column("vote", sa.Column("currency", sa.Text))
    op.add_column("vote", sa.Column("wish", sa.Text))
    op.create_table(
        "meter",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
    )
    op.create_table(
        "meter_window",
        sa.Column("meter_id", sa.Text, sa.ForeignKey("meter.id"), primary_key=True),
        sa.Column("window_start", sa.BigInteger, primary_key=True),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.Column("posted", sa.BigInteger, nullable=False),
        sa.Column("overridden", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "held >= 0 AND posted >= 0 AND overridden >= 0", name="sums_are_not_negative"
        ),
    )
    op.create_table(
        "reservation",
        sa.Column("call_id", sa.Text, sa.ForeignKey("call.id"), primary_key=True),
        sa.Column("meter_id", sa.Text, sa.ForeignKey("meter.id"), primary_key=True),
        sa.Column("window_start", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("override", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("posted", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "reservation_counted",
        "reservation",
        ["meter_id", "window_start", "at"],
        sqlite_where=COUNTED,
        postgresql_where=COUNTED,
    )
    op.create_table(
        "ledger_entry",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("meter_id", sa.Text, nullable=False),
        sa.Column("window_start", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("override", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("ledger_entry_meter", "ledger_entry", ["meter_id", "at"])
    op.create_table(
        "freeze",
        sa.Column("call_id", sa.Text, sa.ForeignKey("call.id"), primary_key=True),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("upstream", sa.Text, nullable=False),
        sa.Column("tool", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("lifted_at", sa.BigInteger),
        sa.Column("lifted_by", sa.Text, nullable=False),
    )
    op.create_index(
        "freeze_in_force",
        "freeze",
        ["agent", "upstream", "tool"],
        sqlite_where=FROZEN,
        postgresql_where=FROZEN,
    )
    op.create_table(
        "rate_count",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("family", sa.Text, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("start_at", sa.BigInteger),
        sa.Column("used_at", sa.BigInteger, nullable=False),
        sa.Column("family_size", sa.Integer, nullable=False),
    )
    op.create_index("rate_count_family", "rate_count", ["family", "used_at"])
    op.create_table(
        "rate_slot",
        sa.Column("count_id", sa.Text, sa.ForeignKey("rate_count.id"), primary_key=True),
        sa.Column("slot", sa.Integer, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "standing_grant",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("issued_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("revoked_by", sa.Text, nullable=False),
    )
    op.create_index(
        "standing_grant_of_agent",
        "standing_grant",
        ["agent"],
        sqlite_where=IN_FORCE,
        postgresql_where=IN_FORCE,
    )
    op.drop_index("audit_subject", "audit")
    op.create_index(
        "audit_filed",
        "audit",
        ["subject", "seq"],
        sqlite_where=FILED,
        postgresql_where=FILED,
    )
    op.create_index(
        "call_pending",
        "call",
        ["agent", "status"],
        sqlite_where=PENDING,
        postgresql_where=PENDING,
    )
    op.execute("UPDATE audit_head SET schema = 2")
