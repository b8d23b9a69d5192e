"""Column types that every SQL store uses, so that a column says what it holds.

Plain types only, so that the same tables serve SQLite and engines that speak PostgreSQL.
"""

from sqlalchemy import BigInteger, Integer, LargeBinary, String

from securechat.ids import MAX_ID_CHARS, MESSAGE_ID_BYTES

RowId = BigInteger().with_variant(Integer(), "sqlite")  # SQLite's rowid alias must be spelled INTEGER


def user_type() -> String:
    """A user id."""
    return String(MAX_ID_CHARS)


def org_type() -> String:
    """An organisation id."""
    return String(MAX_ID_CHARS)


def device_type() -> Integer:
    """A device id, 1 to 2**31 - 1."""
    return Integer()


def millis_type() -> BigInteger:
    """Milliseconds since 1970."""
    return BigInteger()


def message_id_type() -> LargeBinary:
    """A message id, 16 bytes."""
    return LargeBinary(MESSAGE_ID_BYTES)


def blob_type(limit: int | None = None) -> LargeBinary:
    """Bytes, at most ``limit`` where the engine counts them."""
    return LargeBinary(limit)
