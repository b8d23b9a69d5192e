"""Reading a server's database as an auditor: with the standard library, and without leaving a trace in it.

A database in use is read in one snapshot beside the running server. A database at rest is opened as
immutable, so that SQLite creates no ``-wal`` and ``-shm`` files next to the evidence; one that was copied
together with its write-ahead log is read from a temporary copy.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from audit.errors import SourceError
from audit.report import LogCopy, StoredCheckpoint, StoredHead, StoredRow

_SQLITE_MAGIC: Final = b"SQLite format 3\x00"

_ROWS: Final = (
    "SELECT seq, body, leaf, chain, "
    "seq, t, id, type, outcome, actor, patient, object_kind, object_id, org "
    "FROM audit_entries ORDER BY seq"
)
_CHECKPOINTS: Final = "SELECT number, size, t, note FROM audit_checkpoints ORDER BY number"
_NEWEST: Final = "SELECT number, size, t, note FROM audit_checkpoints ORDER BY number DESC LIMIT 1"
_HEAD: Final = "SELECT origin, vkey, size, checkpoints, t, chain, edge FROM audit_head"


def is_database(path: Path) -> bool:
    """Whether the file starts like a SQLite database. Raises SourceError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
    except OSError as exc:
        raise SourceError(f"the file cannot be read ({exc.strerror})") from exc


@contextmanager
def connect_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a SQLite file for one consistent reading and alter nothing.

    Raises SourceError if it is no database, is damaged, or was written to in a way that a reader at rest
    cannot see.
    """
    if not is_database(path):
        raise SourceError("the file is no SQLite database")
    wal, shm = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    if not wal.exists():
        yield from _immutable(path, wal)
    elif shm.exists():
        with closing(_open(path, "mode=ro")) as connection:
            yield connection
    else:
        with tempfile.TemporaryDirectory(prefix="audit-") as folder:
            copy = Path(folder, "copy.db")
            shutil.copyfile(path, copy)
            shutil.copyfile(wal, copy.with_name("copy.db-wal"))
            with closing(_open(copy, "mode=rw")) as connection:
                yield connection


def _immutable(path: Path, wal: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that takes no locks, and make sure afterwards that nobody wrote meanwhile."""
    before = path.stat()
    with closing(_open(path, "mode=ro&immutable=1")) as connection:
        yield connection
    after = path.stat()
    if wal.exists() or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise SourceError("the database was written to while it was read; run the command again")


def _open(path: Path, mode: str) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)
        connection.text_factory = _lenient_text
        connection.execute("BEGIN")
    except sqlite3.Error as exc:
        raise SourceError(f"the database cannot be opened ({exc})") from exc
    return connection


def _lenient_text(data: bytes) -> str:
    """Damaged text must be reported as a difference, not end the reading."""
    return data.decode("utf-8", "replace")


def read_log(connection: sqlite3.Connection) -> LogCopy:
    """Return the log in a database, its rows still to be read. Raises SourceError if there is none."""
    try:
        heads = connection.execute(_HEAD).fetchall()
        connection.execute(_CHECKPOINTS).close()
        connection.execute(_ROWS).close()
    except sqlite3.Error as exc:
        raise SourceError(f"the database holds no audit log that can be read ({exc})") from exc
    origin, vkey, head = _head(heads[0]) if len(heads) == 1 else ("", "", None)
    return LogCopy(origin, vkey, _rows(connection), _checkpoints(connection), head, is_database=True)


def _rows(connection: sqlite3.Connection) -> Iterator[StoredRow]:
    try:
        for seq, body, leaf, chain, *columns in connection.execute(_ROWS):
            yield StoredRow(seq, _bytes(body), _bytes(chain), _bytes(leaf), tuple(columns))
    except sqlite3.Error as exc:
        raise SourceError(f"the database is damaged ({exc})") from exc


def _checkpoints(connection: sqlite3.Connection) -> Iterator[StoredCheckpoint]:
    try:
        for row in connection.execute(_CHECKPOINTS):
            yield _checkpoint(row)
    except sqlite3.Error as exc:
        raise SourceError(f"the database is damaged ({exc})") from exc


def newest_checkpoint(connection: sqlite3.Connection) -> StoredCheckpoint | None:
    """Return the newest checkpoint as stored, unverified. Raises SourceError if there is no log."""
    try:
        row = connection.execute(_NEWEST).fetchone()
    except sqlite3.Error as exc:
        raise SourceError(f"the database holds no audit log that can be read ({exc})") from exc
    return None if row is None else _checkpoint(row)


def _checkpoint(row: tuple[object, ...]) -> StoredCheckpoint:
    number, size, t, note = row
    return StoredCheckpoint(_int(size), _bytes(note), _int(number), _int(t))


def _head(row: tuple[object, ...]) -> tuple[str, str, StoredHead]:
    origin, vkey, size, checkpoints, t, chain, edge = row
    head = StoredHead(_int(size), _int(checkpoints), _int(t), _bytes(chain), _bytes(edge))
    return _text(origin), _text(vkey), head


def _bytes(value: object) -> bytes:
    """SQLite lets any column hold any type; what is not bytes is a difference, so it reads as nothing."""
    return value if isinstance(value, bytes) else b""


def _int(value: object) -> int:
    return value if isinstance(value, int) else -1


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
