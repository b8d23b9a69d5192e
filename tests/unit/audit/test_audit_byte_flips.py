"""Every byte of every stored value of a small log, flipped one at a time, is seen."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from unit.audit.support import SIGNER, running_server

from audit.errors import SourceError
from audit.source import connect_read_only, read_log
from audit.verify import verify

_KEYS = {"audit_entries": "seq", "audit_checkpoints": "number", "audit_head": "one"}


@pytest.fixture(scope="module")
def small_log(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a log of four entries in three commits as a serialized database without triggers."""
    path = tmp_path_factory.mktemp("flips") / "server.db"
    with running_server(path) as server:
        server.fill(1)
        server.fill(2, group=2, first=1)
        server.fill(1, first=3)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        for kind, name in connection.execute(
            "SELECT type, name FROM sqlite_master WHERE type = 'trigger' OR type = 'index'"
        ).fetchall():
            connection.execute(f"DROP {kind} {name}")
        connection.commit()
        return connection.serialize()


def _intact(connection: sqlite3.Connection) -> bool:
    return verify(read_log(connection), key=SIGNER.key).intact


def _flipped(value: object, at: int) -> object:
    if isinstance(value, int):
        return value ^ (1 << at)
    raw = bytearray(value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else b"")
    raw[at] ^= 1
    return raw.decode() if isinstance(value, str) else bytes(raw)


def _positions(value: object) -> range:
    if value is None:
        return range(0)
    return range(60) if isinstance(value, int) else range(len(value) if isinstance(value, str | bytes) else 0)


@pytest.mark.parametrize("table", list(_KEYS))
def test_every_flipped_byte_is_seen(small_log: bytes, table: str) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.deserialize(small_log)
        connection.execute("PRAGMA ignore_check_constraints = ON")
        assert _intact(connection)
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        flips = 0
        for key, *_ in connection.execute(f"SELECT {_KEYS[table]}, * FROM {table}").fetchall():
            for column in columns:
                if column == _KEYS[table] == "one":
                    continue  # the constant by which the single head row is found holds nothing
                flips += _flip_all(connection, table, column, key)
        assert flips > 300
        assert _intact(connection)


def _flip_all(connection: sqlite3.Connection, table: str, column: str, key: int) -> int:
    """Flip each position of one value in turn, verify, and put it back; return how many there were."""
    where = f"WHERE {_KEYS[table]} = ?"
    (value,) = connection.execute(f"SELECT {column} FROM {table} {where}", (key,)).fetchone()
    for at in _positions(value):
        connection.execute("BEGIN")
        connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ? {where}", (_flipped(value, at), key))
        assert not _intact(connection), f"{table}.{column} of {key}, position {at}"
        connection.execute("ROLLBACK")
    return len(_positions(value))


def test_every_added_byte_is_seen(small_log: bytes) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.deserialize(small_log)
        for column in ("body", "leaf", "chain"):
            for expression in (f"{column} || x'0a'", f"x'20' || {column}", f"substr({column}, 2)", "NULL"):
                connection.execute("BEGIN")
                if expression == "NULL":
                    connection.execute(f"UPDATE audit_entries SET {column} = zeroblob(0) WHERE seq = 1")
                else:
                    connection.execute(
                        f"UPDATE audit_entries SET {column} = CAST({expression} AS BLOB) WHERE seq = 1"
                    )
                assert not _intact(connection), f"{column} = {expression}"
                connection.execute("ROLLBACK")


def _contents(connection: sqlite3.Connection) -> list[list[object]]:
    return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in _KEYS]


def test_a_damaged_file_is_never_taken_for_an_intact_log(small_log: bytes, tmp_path: Path) -> None:
    """One flipped byte anywhere in the file: it verifies only if every stored value still reads the same."""
    path = tmp_path / "server.db"
    with closing(sqlite3.connect(":memory:")) as memory:
        memory.deserialize(small_log)
        before = _contents(memory)
    for at in range(100, len(small_log), 97):
        path.write_bytes(small_log[:at] + bytes([small_log[at] ^ 1]) + small_log[at + 1 :])
        try:
            with connect_read_only(path) as connection:
                intact = verify(read_log(connection), key=SIGNER.key).intact
                assert not intact or _contents(connection) == before
        except SourceError:
            continue
