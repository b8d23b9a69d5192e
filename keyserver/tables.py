"""The key server's tables. Public keys, dates and counts; no name and no secret has a column."""

from typing import Final

from sqlalchemy import CheckConstraint, Column, Index, Integer, MetaData, String, Table

from securechat.sql.types import blob_type, device_type, millis_type, org_type, user_type

DIGEST_BYTES: Final = 32
KEY_BYTES: Final = 32
MAX_ROLES_CHARS: Final = 1100
MAX_KEY_CHARS: Final = 128

metadata: Final = MetaData()

accounts: Final = Table(
    "keyserver_accounts",
    metadata,
    Column("user", user_type(), primary_key=True),
    Column("org", org_type(), nullable=False),
    Column("roles", String(MAX_ROLES_CHARS), nullable=False),  # sorted, with single spaces between
    Column("roles_issued_ms", millis_type(), nullable=False),
    Column("status", String(16), nullable=False),
    Column("device_list", blob_type(), nullable=False),  # the signed list as it was received
    Column("created_ms", millis_type(), nullable=False),
    CheckConstraint("status in ('active', 'suspended')", name="keyserver_accounts_status"),
)

# A removed device keeps its row, so that its id can never stand for other keys.
devices: Final = Table(
    "keyserver_devices",
    metadata,
    Column("user", user_type(), primary_key=True),
    Column("device", device_type(), primary_key=True, autoincrement=False),
    Column("signing", blob_type(KEY_BYTES), nullable=False),
    Column("agreement", blob_type(KEY_BYTES), nullable=False),
    Column("enrolled_ms", millis_type(), nullable=False),
    Column("removed_ms", millis_type()),
)

# Prekeys that can still be handed out; taking a one-time prekey deletes its row.
prekeys: Final = Table(
    "keyserver_prekeys",
    metadata,
    Column("user", user_type(), primary_key=True),
    Column("device", device_type(), primary_key=True, autoincrement=False),
    Column("kind", Integer, primary_key=True, autoincrement=False),
    Column("id", millis_type(), primary_key=True, autoincrement=False),
    Column("body", blob_type(), nullable=False),
    Column("created_ms", millis_type(), nullable=False),
    Column("expires_ms", millis_type(), nullable=False),
)

# Every id that was ever published, until its prekey expires: a prekey that was handed out does not come back.
prekey_ids: Final = Table(
    "keyserver_prekey_ids",
    metadata,
    Column("user", user_type(), primary_key=True),
    Column("device", device_type(), primary_key=True, autoincrement=False),
    Column("kind", Integer, primary_key=True, autoincrement=False),
    Column("id", millis_type(), primary_key=True, autoincrement=False),
    Column("digest", blob_type(DIGEST_BYTES), nullable=False),
    Column("expires_ms", millis_type(), nullable=False),
)

# Answers of the last ten minutes, by who asked and under which Idempotency-Key.
claims: Final = Table(
    "keyserver_claims",
    metadata,
    Column("user", user_type(), primary_key=True),
    Column("device", device_type(), primary_key=True, autoincrement=False),
    Column("key", String(MAX_KEY_CHARS), primary_key=True),
    Column("target_user", user_type(), nullable=False),
    Column("target_device", device_type(), nullable=False),
    Column("bundle", blob_type(), nullable=False),
    Column("expires_ms", millis_type(), nullable=False),
)

Index("keyserver_prekeys_expires", prekeys.c.expires_ms)
Index("keyserver_prekey_ids_expires", prekey_ids.c.expires_ms)
Index("keyserver_claims_expires", claims.c.expires_ms)
