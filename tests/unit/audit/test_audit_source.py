"""Reading as an auditor: beside a running server, from evidence at rest, and never leaving a trace."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from unit.audit.support import Server, check, running_server

from audit.errors import SourceError
from audit.report import Kind
from audit.source import connect_read_only, newest_checkpoint, read_log


def _state(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_a_database_at_rest_is_left_exactly_as_it_was(log: Path) -> None:
    before = _state(log.parent)
    assert check(log).intact
    assert _state(log.parent) == before


def test_a_database_in_a_folder_that_cannot_be_written_is_read(log: Path) -> None:
    log.chmod(0o400)
    log.parent.chmod(0o500)
    try:
        assert check(log).intact
    finally:
        log.parent.chmod(0o700)


def test_a_running_server_is_read_beside_its_writes(tmp_path: Path) -> None:
    with running_server(tmp_path / "server.db") as server:
        server.fill(5)
        with connect_read_only(server.path) as connection:
            copy = read_log(connection)
            server.fill(5, first=100)  # commits while the auditor reads
            assert len(list(copy.rows)) == 5
        assert check(server.path).entries == 10
        server.fill(1, first=200)
        assert check(server.path).intact


def test_the_files_of_a_running_server_are_not_altered(tmp_path: Path) -> None:
    with running_server(tmp_path / "server.db") as server:
        server.fill(5)
        before = _state(tmp_path)
        assert check(server.path).intact
        after = _state(tmp_path)
        assert before.keys() == after.keys()
        # The -shm file is the lock memory of the running server: a reader takes its place in it and leaves.
        assert {name: data for name, data in before.items() if not name.endswith("-shm")} == {
            name: data for name, data in after.items() if not name.endswith("-shm")
        }


def test_a_copy_with_its_write_ahead_log_is_read_whole_and_left_alone(tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    with running_server(tmp_path / "server.db") as server:
        server.fill(5)
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{server.path}{suffix}", evidence / f"server.db{suffix}")
    before = _state(evidence)
    report = check(evidence / "server.db")
    assert report.intact
    assert report.entries == 5
    assert _state(evidence) == before


def _read_while(log: Path, meanwhile: Callable[[], object]) -> None:
    with connect_read_only(log) as connection:
        read_log(connection)
        meanwhile()


def test_a_write_to_a_database_at_rest_during_the_reading_is_noticed(log: Path) -> None:
    with pytest.raises(SourceError, match="written to"):
        _read_while(log, lambda: os.utime(log, ns=(0, 0)))


def test_a_server_that_starts_during_the_reading_is_noticed(log: Path) -> None:
    server = Server(log)
    with pytest.raises(SourceError, match="written to"):
        _read_while(log, lambda: server.fill(1, first=500))
    server.close()


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"SQLite format 3", b"SQLite format 3\x00", b"PK\x03\x04"]
)
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(SourceError), connect_read_only(path) as connection:
        read_log(connection)


def test_a_missing_file_or_a_folder_is_refused_and_not_created(tmp_path: Path) -> None:
    for path in (tmp_path / "none.db", tmp_path):
        with pytest.raises(SourceError), connect_read_only(path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_a_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
    for read in (read_log, newest_checkpoint):
        with pytest.raises(SourceError, match="no audit log"), connect_read_only(path) as connection:
            read(connection)


def test_an_overwritten_page_ends_the_reading_with_the_entry_named(log: Path) -> None:
    with closing(sqlite3.connect(log)) as connection:
        (page,) = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'audit_entries' AND pagetype = 'leaf' ORDER BY path DESC"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    raw = bytearray(log.read_bytes())
    raw[(page - 1) * size : page * size] = b"\xff" * size
    log.write_bytes(raw)
    report = check(log)
    assert not report.intact
    assert Kind.ENTRY_UNREADABLE in {each.kind for each in report.findings}
    assert report.first_bad is not None
    assert 0 < report.first_bad < 60
