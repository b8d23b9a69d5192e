"""Mailboxes, their messages, the ids for late retries, and the days of sequence numbers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "mailbox",
        sa.Column("id", row_id, primary_key=True),
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("device", sa.Integer, nullable=False),
        sa.Column("epoch", sa.LargeBinary(16), nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("acked_seq", sa.BigInteger, nullable=False),
        sa.Column("bytes_in", sa.BigInteger, nullable=False),
        sa.Column("bytes_out", sa.BigInteger, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("node", sa.String(64)),
        sa.UniqueConstraint("user", "device", name="mailbox_address"),
    )
    op.create_index("mailbox_node", "mailbox", ["node"])
    op.create_table(
        "inbox",
        sa.Column("mailbox", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("message_id", sa.LargeBinary(16), nullable=False),
        sa.Column("sender", sa.BigInteger, nullable=False),
        sa.Column("accepted_ms", sa.BigInteger, nullable=False),
        sa.Column("flags", sa.Integer, nullable=False),
        sa.Column("bytes_through", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "sent_ids",
        sa.Column("mailbox", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("sender", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("message_id", sa.LargeBinary(16), primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("accepted_ms", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("sent_ids_seq", "sent_ids", ["mailbox", "seq"])
    op.create_table(
        "mailbox_days",
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("mailbox", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("accepted_seq", sa.BigInteger, nullable=False),
        sa.Column("acked_seq", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
