"""The relay's tables.

``mailbox`` has one row for each device, ``inbox`` one for each waiting message, ``sent_ids`` one for each
message id that a retry may still bring. ``mailbox_days`` says which numbers were accepted and acknowledged
until the end of each day, so that expiry is a range delete below a sequence number and never a scan by time.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from securechat.sql.types import RowId, blob_type, device_type, message_id_type, millis_type, user_type
from securechat.wire.frames import EPOCH_BYTES

NODE_CHARS: Final = 64

metadata: Final = MetaData()

mailbox: Final = Table(
    "mailbox",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("user", user_type(), nullable=False),
    Column("device", device_type(), nullable=False),
    Column("epoch", LargeBinary(EPOCH_BYTES), nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("acked_seq", BigInteger, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("node", String(NODE_CHARS)),
    UniqueConstraint("user", "device", name="mailbox_address"),
)
Index("mailbox_node", mailbox.c.node)

inbox: Final = Table(
    "inbox",
    metadata,
    Column("mailbox", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("message_id", message_id_type(), nullable=False),
    Column("sender", BigInteger, nullable=False),
    Column("accepted_ms", millis_type(), nullable=False),
    Column("flags", Integer, nullable=False),
    Column("bytes_through", BigInteger, nullable=False),
    Column("body", blob_type(), nullable=False),
)

sent_ids: Final = Table(
    "sent_ids",
    metadata,
    Column("mailbox", BigInteger, primary_key=True),
    Column("sender", BigInteger, primary_key=True),
    Column("message_id", message_id_type(), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("accepted_ms", millis_type(), nullable=False),
    sqlite_with_rowid=False,
)
Index("sent_ids_seq", sent_ids.c.mailbox, sent_ids.c.seq)

mailbox_days: Final = Table(
    "mailbox_days",
    metadata,
    Column("day", Integer, primary_key=True),
    Column("mailbox", BigInteger, primary_key=True),
    Column("accepted_seq", BigInteger, nullable=False),
    Column("acked_seq", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
