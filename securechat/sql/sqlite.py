"""SQLite connections that are durable or refused, and what its failures mean.

A row counts as accepted once its COMMIT has been fsynced, so nothing weaker than WAL with
``synchronous=FULL`` is ever used (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

import sqlite3
from typing import Final

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from securechat.errors import SettingsError, StoreError, StoreFullError, StoreLockedError

PAGE_BYTES: Final = 8192
BUSY_MS: Final = 5000  # how long a statement waits for another process's lock
CACHE_KIB: Final = 65536
CHECKPOINT_PAGES: Final = 4000  # 32 MiB of write-ahead log between two checkpoints
READERS: Final = 4  # connections that read beside the writer
_FULL: Final = 2  # PRAGMA synchronous: 0 off, 1 normal, 2 full, 3 extra


def create_sqlite_engine(url: str, *, quota_bytes: int | None = None) -> Engine:
    """Return an engine whose every connection is in WAL mode, fully synchronous and checks foreign keys.

    ``quota_bytes`` caps the size of the database file; past it writes raise StoreFullError.
    Transactions begin with BEGIN IMMEDIATE. Raises SettingsError when ``url`` is no SQLite file.
    """
    parsed = _file_url(url)
    engine = create_engine(
        parsed,
        poolclass=QueuePool,
        pool_size=READERS + 1,
        max_overflow=READERS,
        pool_reset_on_return="rollback",
        connect_args={"check_same_thread": False, "timeout": BUSY_MS / 1000},
    )

    def connected(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        configure(connection, quota_bytes)

    event.listen(engine, "connect", connected)
    return engine


def configure(connection: DBAPIConnection, quota_bytes: int | None) -> None:
    """Bring one new driver connection to our settings and check that they took.

    Raises SettingsError when the file system or the build does not give them.
    """
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        for pragma in (
            f"page_size={PAGE_BYTES}",
            f"busy_timeout={BUSY_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            f"cache_size=-{CACHE_KIB}",
            f"wal_autocheckpoint={CHECKPOINT_PAGES}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        if quota_bytes is not None:
            page = cursor.execute("PRAGMA page_size").fetchone()[0]
            cursor.execute(f"PRAGMA max_page_count={max(1, quota_bytes // page)}")
        check_durable(
            journal_mode=cursor.execute("PRAGMA journal_mode").fetchone()[0],
            synchronous=cursor.execute("PRAGMA synchronous").fetchone()[0],
            foreign_keys=cursor.execute("PRAGMA foreign_keys").fetchone()[0],
        )
    finally:
        cursor.close()


def check_durable(*, journal_mode: str, synchronous: int, foreign_keys: int) -> None:
    """Raise SettingsError unless a commit with these settings survives the loss of power."""
    if journal_mode != "wal":
        raise SettingsError(
            f"the journal mode is {journal_mode}, not wal: is the database on a network drive?"
        )
    if synchronous < _FULL:
        raise SettingsError(f"the setting synchronous is {synchronous}, weaker than FULL ({_FULL})")
    if not foreign_keys:
        raise SettingsError("this build of SQLite does not check foreign keys")


def store_error(error: Exception) -> StoreError:
    """Return what the failure of a transaction means to a caller, by the driver's error behind it."""
    code = _sqlite_code(error)
    primary = None if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return StoreFullError("the disk or the database's quota is full; nothing was changed")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreLockedError("another process holds the database's write lock")
    if primary is not None:
        return StoreError(f"the database failed with SQLite error {code}; nothing was changed")
    return StoreError("the transaction was refused before its commit; nothing was changed")


def is_driver_error(error: BaseException) -> bool:
    """Tell a failure of the database from an exception of the work itself."""
    return isinstance(error, (sqlite3.Error, DBAPIError))


def _sqlite_code(error: BaseException | None) -> int | None:
    """Return the first extended result code along the chain of causes."""
    while error is not None:
        native = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(native, sqlite3.Error):
            return getattr(native, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        error = error.__cause__
    return None


def _file_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SettingsError("the database's address is no URL such as sqlite:////path/server.db") from error
    if parsed.get_backend_name() != "sqlite":
        raise SettingsError(f"the database's address names {parsed.get_backend_name()}, not sqlite")
    if not parsed.database or parsed.database == ":memory:" or parsed.query:
        raise SettingsError("the database's address must be a plain file: memory and options are not durable")
    return parsed
