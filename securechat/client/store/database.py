"""One SQLCipher connection: statements, transactions, and the driver's errors as ours."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlcipher3 import dbapi2

from securechat.client.store.schema import MIGRATIONS
from securechat.errors import StoreError, StoreFullError, StoreLockedError, WrongKeyError

Value = bytes | str | int | None
Row = tuple[Any, ...]  # the driver is untyped; each repository states its columns once

SQLITE_BUSY: Final = 5
SQLITE_CORRUPT: Final = 11
SQLITE_FULL: Final = 13
SQLITE_NOTADB: Final = 26
_PRIMARY_CODE: Final = 0xFF  # the low byte of an extended result code


class Database:
    """A connection, used by one thread. Every call raises StoreError."""

    def __init__(self, path: str, key_hex: str | None) -> None:
        """Open ``path``; ``key_hex`` is SQLCipher's raw key and salt, 96 hexadecimal digits, or None.

        Raises WrongKeyError if the file is no store of that key, StoreLockedError if another has it open.
        """
        with _translated():
            self._connection = dbapi2.connect(path, isolation_level=None)
        try:
            self._prepare(key_hex)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, key_hex: str | None) -> None:
        if key_hex is not None:
            self.run(f"PRAGMA key = \"x'{key_hex}'\"")
            self.run("PRAGMA cipher_log_level = NONE")
        self.run("PRAGMA temp_store = MEMORY")
        self.run("PRAGMA locking_mode = EXCLUSIVE")  # also keeps the WAL's index in memory, not in a file
        self.run("SELECT count(*) FROM sqlite_master")
        self.run("PRAGMA journal_mode = WAL")
        self.run("PRAGMA synchronous = FULL")
        self.run("PRAGMA secure_delete = ON")

    def run(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Execute one statement and return all its rows."""
        with _translated():
            rows: list[Row] = self._connection.execute(sql, values).fetchall()
        return rows

    def one(self, sql: str, values: Sequence[Value] = ()) -> Row | None:
        """Execute one statement and return its first row."""
        rows = self.run(sql, values)
        return rows[0] if rows else None

    def change(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Execute one statement and return the number of rows it changed."""
        with _translated():
            count: int = self._connection.execute(sql, values).rowcount
        return count

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open; the database may end one itself when the disk is full."""
        return bool(self._connection.in_transaction)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block does, or undo all of it."""
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            self.roll_back()
            raise

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Keep what the block does for the transaction's commit, or undo the block alone."""
        self.run("SAVEPOINT work")
        try:
            yield
        except BaseException:
            if self.in_transaction:
                self.run("ROLLBACK TO work")
                self.run("RELEASE work")
            raise
        self.run("RELEASE work")

    def roll_back(self) -> None:
        """Undo the open transaction, if there is one."""
        if self.in_transaction:
            self.run("ROLLBACK")

    def migrate(self) -> None:
        """Bring the schema up to date, one transaction for each step. Raises StoreError if it is newer."""
        row = self.one("PRAGMA user_version")
        version = int(row[0]) if row is not None else 0
        if version > len(MIGRATIONS):
            raise StoreError(f"the store has schema {version}, this program knows {len(MIGRATIONS)}")
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            with self.transaction():
                for statement in filter(str.strip, script.split(";")):
                    self.run(statement)
                self.run(f"PRAGMA user_version = {number}")

    def close(self) -> None:
        """Close the connection; the last one out folds the WAL into the file."""
        with _translated():
            self._connection.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except dbapi2.Error as error:
        # INVARIANT: the driver's text goes no further: it may quote a statement's values.
        raise _translate(int(getattr(error, "sqlite_errorcode", 0))) from None


def _translate(code: int) -> StoreError:
    primary = code & _PRIMARY_CODE
    if primary == SQLITE_FULL:
        return StoreFullError("the disk is full; nothing was changed")
    if primary == SQLITE_BUSY:
        return StoreLockedError("the store is open elsewhere")
    if primary in (SQLITE_NOTADB, SQLITE_CORRUPT):
        return WrongKeyError("the key does not open the store, or the file is not a whole store")
    return StoreError(f"the store failed with SQLite result {code}")
