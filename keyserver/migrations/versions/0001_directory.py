"""Accounts, devices, prekeys, their ids, and recent claims."""

import sqlalchemy as sa
from alembic import op

revision = "keyserver_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the five tables and their indexes."""
    op.create_table(
        "keyserver_accounts",
        sa.Column("user", sa.String(64), primary_key=True),
        sa.Column("org", sa.String(64), nullable=False),
        sa.Column("roles", sa.String(1100), nullable=False),
        sa.Column("roles_issued_ms", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("device_list", sa.LargeBinary, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.CheckConstraint("status in ('active', 'suspended')", name="keyserver_accounts_status"),
    )
    op.create_table(
        "keyserver_devices",
        *_device_key(),
        sa.Column("signing", sa.LargeBinary(32), nullable=False),
        sa.Column("agreement", sa.LargeBinary(32), nullable=False),
        sa.Column("enrolled_ms", sa.BigInteger, nullable=False),
        sa.Column("removed_ms", sa.BigInteger),
    )
    op.create_table(
        "keyserver_prekeys",
        *_prekey_key(),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "keyserver_prekey_ids",
        *_prekey_key(),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "keyserver_claims",
        *_device_key(),
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("target_user", sa.String(64), nullable=False),
        sa.Column("target_device", sa.Integer, nullable=False),
        sa.Column("bundle", sa.LargeBinary, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
    )
    for table in ("keyserver_prekeys", "keyserver_prekey_ids", "keyserver_claims"):
        op.create_index(f"{table}_expires", table, ["expires_ms"])


def _device_key() -> tuple[sa.Column[str], sa.Column[int]]:
    return (
        sa.Column("user", sa.String(64), primary_key=True),
        sa.Column("device", sa.Integer, primary_key=True, autoincrement=False),
    )


def _prekey_key() -> tuple[sa.Column[str], sa.Column[int], sa.Column[int], sa.Column[int]]:
    return (
        *_device_key(),
        sa.Column("kind", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    )
