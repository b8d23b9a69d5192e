"""The writer: entries and checkpoint in the transaction of the act, or no act."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from unit.audit.support import (
    ORIGIN,
    SIGNER,
    START_US,
    Server,
    check,
    event_id,
    make_event,
    make_events,
    running_server,
    system_event,
)

from audit.catalogue import EventType
from audit.checkpoint import Checkpoint, Ed25519Signer, open_checkpoint
from audit.errors import AuditUnavailableError, EventError, InconsistentLogError
from audit.event import Outcome
from audit.merkle import EMPTY_ROOT, root_of
from audit.note import VerifierKey
from audit.reader import LogReader, Order, Query
from audit.store import START_UP_ROWS, AuditLog
from audit.tables import install_triggers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path / "server.db") as running:
        yield running


def _types(server: Server) -> list[EventType]:
    with server.engine.connect() as connection:
        page = LogReader(connection).query(Query(order=Order.OLDEST), limit=1000)
    return [each.entry.event.type for each in page.items]


def _count(server: Server, table: str) -> int:
    with closing(sqlite3.connect(server.path)) as connection:
        count: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return count


def test_a_new_log_begins_with_a_checkpoint_over_nothing(server: Server) -> None:
    assert server.open() == Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert check(server.path).intact


def test_every_commit_carries_a_signed_checkpoint_over_all_entries(server: Server) -> None:
    for size in range(1, 20):
        server.fill(1, first=size)
        with server.engine.connect() as connection:
            reader = LogReader(connection)
            stored = reader.newest_checkpoint()
            leaves = [row.leaf for row in reader.rows() if row.leaf is not None]
        assert stored is not None
        opened = open_checkpoint(stored.note, SIGNER.key)
        assert (opened.size, opened.root) == (size, root_of(leaves))


def test_sealing_returns_the_checkpoint_of_the_commit(server: Server) -> None:
    checkpoint = server.seal(make_events(3))
    assert checkpoint is not None
    assert checkpoint == server.open()
    assert server.seal([]) is None


def test_groups_of_any_size_verify(server: Server) -> None:
    first = 0
    for group in (1, 2, 3, 5, 8, 13, 600, 1):
        server.fill(group, group=group, first=first)
        first += group
    report = check(server.path)
    assert report.intact
    assert report.entries == first
    assert report.checkpoints == 9


def test_the_act_and_its_entry_roll_back_together(server: Server) -> None:
    with server.engine.begin() as connection:
        connection.execute(text("CREATE TABLE acts (id INTEGER)"))
    server.fill(3)
    with server.engine.connect() as connection, connection.begin() as transaction:
        connection.execute(text("INSERT INTO acts VALUES (1)"))
        server.log.seal(connection, make_events(2, 100))
        transaction.rollback()
    assert _count(server, "acts") == 0
    assert _count(server, "audit_entries") == 3
    server.fill(2, first=200)
    assert check(server.path).intact
    assert server.open().size == 5


def test_a_savepoint_that_rolls_back_takes_its_entries_with_it(server: Server) -> None:
    with server.engine.begin() as connection:
        server.log.seal(connection, make_events(2))
        savepoint = connection.begin_nested()
        server.log.seal(connection, make_events(2, 10))
        savepoint.rollback()
        server.log.seal(connection, make_events(2, 20))
    assert check(server.path).intact
    assert server.open().size == 4


def test_a_retry_is_not_a_second_entry(server: Server) -> None:
    events = make_events(4)
    server.seal(events)
    assert server.seal(events) is None
    checkpoint = server.seal([*events, make_event(9)])
    assert checkpoint is not None
    assert checkpoint.size == 5
    assert check(server.path).intact


def test_a_retry_in_a_large_group_is_found(server: Server) -> None:
    server.seal(make_events(1200))
    checkpoint = server.seal(make_events(1201))
    assert checkpoint is not None
    assert checkpoint.size == 1201


def test_an_id_that_comes_back_for_another_act_is_refused(server: Server) -> None:
    server.seal(make_events(2))
    with pytest.raises(AuditUnavailableError, match="EventError") as caught:
        server.seal([make_event(1, outcome=Outcome.ERROR)])
    assert isinstance(caught.value.__cause__, EventError)
    assert server.open().size == 2


def test_equal_messages_of_one_commit_are_one_entry(server: Server) -> None:
    same = {"type": EventType.MESSAGE_DELIVER, "object": None, "request_id": None}
    server.seal([make_event(4, **same, id=event_id(number)) for number in range(50)])
    with server.engine.connect() as connection:
        newest = LogReader(connection).newest()
    assert newest is not None
    assert (newest.entry.seq, newest.entry.event.n) == (0, 50)


def test_the_log_names_its_node_where_the_event_does_not(server: Server) -> None:
    server.seal([make_event(1), make_event(2, node="n7")])
    with server.engine.connect() as connection:
        reader = LogReader(connection)
        assert [reader.entry(seq).entry.event.node for seq in (0, 1)] == ["n1", "n7"]
    assert server.seal([make_event(1), make_event(2, node="n7")]) is None


class _BrokenSigner:
    """A signer whose hardware went away."""

    key: VerifierKey = SIGNER.key

    def sign(self, text: bytes) -> bytes:
        raise OSError("gone")


def test_a_log_that_cannot_sign_refuses_the_act(server: Server) -> None:
    server.fill(2)
    broken = AuditLog(ORIGIN, _BrokenSigner(), server.clock, "n1")
    with pytest.raises(AuditUnavailableError, match="OSError"), server.engine.begin() as connection:
        broken.seal(connection, make_events(1, 50))
    assert server.open().size == 2
    assert check(server.path).intact


def test_a_log_whose_tables_are_gone_refuses_the_act(server: Server) -> None:
    server.fill(1)
    with closing(sqlite3.connect(server.path)) as connection:
        connection.execute("ALTER TABLE audit_checkpoints RENAME TO elsewhere")
    with pytest.raises(AuditUnavailableError, match="OperationalError"):
        server.seal(make_events(1, 50))
    assert _count(server, "audit_entries") == 1


def test_a_log_that_was_never_opened_refuses_the_act(tmp_path: Path) -> None:
    with running_server(tmp_path / "a.db") as server:
        with closing(sqlite3.connect(server.path)) as connection:
            connection.execute("DROP TRIGGER audit_head_no_delete")
            connection.execute("DELETE FROM audit_head")
            connection.commit()
        with pytest.raises(AuditUnavailableError, match="InconsistentLogError"):
            server.seal(make_events(1))


def test_an_error_of_the_database_does_not_print_entries(server: Server) -> None:
    server.seal(make_events(1))
    refusal = "CREATE TRIGGER no BEFORE INSERT ON audit_entries BEGIN SELECT RAISE(ABORT, 'no'); END"
    with closing(sqlite3.connect(server.path)) as connection:
        connection.execute(refusal)
    with pytest.raises(AuditUnavailableError) as caught:
        server.seal([make_event(7, patient="pat_secret_tag")])
    assert "pat_secret_tag" not in f"{caught.value}{caught.value.__cause__}"


def test_a_second_writer_is_noticed(server: Server) -> None:
    """The head is moved by compare-and-swap: a lost race changes nothing."""
    server.fill(3)
    race = (
        "CREATE TRIGGER race AFTER INSERT ON audit_entries BEGIN UPDATE audit_head SET size = size + 1; END"
    )
    with server.engine.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql(race)
        with pytest.raises(AuditUnavailableError, match="InconsistentLogError"):
            server.log.seal(connection, make_events(1, 10))
        transaction.rollback()
    assert check(server.path).intact


def test_a_log_of_another_origin_is_not_written_to(server: Server) -> None:
    other = Ed25519Signer("other.example/audit", b"\x09" * 32)
    stranger = AuditLog("other.example/audit", other, server.clock, "n1")
    with pytest.raises(AuditUnavailableError), server.engine.begin() as connection:
        stranger.seal(connection, make_events(1))
    with pytest.raises(InconsistentLogError, match="origin"), server.engine.begin() as connection:
        stranger.open_log(connection)


def test_origin_and_key_must_have_one_name() -> None:
    with pytest.raises(InconsistentLogError):
        AuditLog("another.example/audit", SIGNER, lambda: START_US, "n1")
    with pytest.raises(EventError):
        AuditLog(ORIGIN, SIGNER, lambda: START_US, "node one")


def test_a_clock_that_goes_back_is_recorded_once_and_time_stands_still(server: Server) -> None:
    server.seal([system_event(0, EventType.SERVICE_START)])
    server.clock.advance(-60_000_000)
    for number in range(1, 4):
        server.clock.advance(1000)
        server.seal([system_event(number, EventType.AUDIT_HEARTBEAT)])
    assert _types(server) == [
        EventType.SERVICE_START,
        EventType.CLOCK_STEP,
        *[EventType.AUDIT_HEARTBEAT] * 3,
    ]
    with server.engine.connect() as connection:
        reader = LogReader(connection)
        assert {reader.entry(seq).entry.t for seq in range(5)} == {START_US}
        assert reader.entry(1).entry.event.te == START_US - 60_000_000 + 1000
    assert check(server.path).intact


def test_a_second_step_back_is_a_second_entry_and_a_small_one_is_none(server: Server) -> None:
    server.seal([system_event(0, EventType.SERVICE_START)])
    for number, step in enumerate((-4_000_000, -60_000_000, -60_000_000, 200_000_000, -4_900_000), 1):
        server.clock.advance(step)
        server.seal([system_event(number, EventType.AUDIT_HEARTBEAT)])
    assert _types(server).count(EventType.CLOCK_STEP) == 2
    assert check(server.path).intact


def test_a_step_that_was_rolled_back_is_recorded_again(server: Server) -> None:
    server.seal([system_event(0, EventType.SERVICE_START)])
    server.clock.advance(-60_000_000)
    with server.engine.connect() as connection, connection.begin() as transaction:
        server.log.seal(connection, [system_event(1, EventType.AUDIT_HEARTBEAT)])
        transaction.rollback()
    server.seal([system_event(2, EventType.AUDIT_HEARTBEAT)])
    assert _types(server) == [EventType.SERVICE_START, EventType.CLOCK_STEP, EventType.AUDIT_HEARTBEAT]


_REST = (
    "type, outcome, actor, patient, object_kind, object_id, org, body, leaf, chain "
    "FROM audit_entries WHERE seq = 2"
)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET actor = 'usr_x'",
        "UPDATE audit_checkpoints SET t = 0",
        "UPDATE audit_head SET size = 1",
        "UPDATE audit_head SET size = size",
        "UPDATE audit_head SET size = 99, origin = 'x'",
        "DELETE FROM audit_entries WHERE seq = 4",
        "DELETE FROM audit_checkpoints",
        "DELETE FROM audit_head",
        "INSERT OR REPLACE INTO audit_entries SELECT * FROM audit_entries WHERE seq = 2",
        f"INSERT OR REPLACE INTO audit_entries SELECT 5, t, id, {_REST}",
        f"INSERT INTO audit_entries SELECT 7, t, 'x', {_REST}",
        "INSERT OR REPLACE INTO audit_checkpoints SELECT * FROM audit_checkpoints WHERE number = 2",
        "INSERT OR REPLACE INTO audit_checkpoints SELECT 6, size, t, note FROM audit_checkpoints",
        "INSERT OR REPLACE INTO audit_checkpoints SELECT 9, size + 9, t, note FROM audit_checkpoints",
        "INSERT OR REPLACE INTO audit_head SELECT * FROM audit_head",
        "INSERT INTO audit_entries SELECT * FROM audit_entries WHERE seq = 2 ON CONFLICT DO UPDATE SET t = 1",
    ],
)
def test_triggers_stop_every_statement_that_rewrites(server: Server, statement: str) -> None:
    server.fill(5)
    with pytest.raises(IntegrityError, match="audit log"), server.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert check(server.path).intact


def test_triggers_are_known_for_sqlite_only() -> None:
    class _Dialect:
        name = "oracle"

    class _Connection:
        dialect = _Dialect()

    with pytest.raises(InconsistentLogError, match="oracle"):
        install_triggers(_Connection())  # type: ignore[arg-type]  # only its dialect is asked


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 100, START_UP_ROWS + 3, 2 * START_UP_ROWS])
def test_an_untouched_log_opens(server: Server, size: int) -> None:
    server.fill(size, group=500)
    assert server.open().size == size


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_head SET size = size - 1",
        "UPDATE audit_head SET size = size + 1",
        "UPDATE audit_head SET chain = zeroblob(32)",
        "UPDATE audit_head SET edge = zeroblob(length(edge))",
        "UPDATE audit_head SET edge = x''",
        "UPDATE audit_head SET t = t - 1",
        "UPDATE audit_head SET checkpoints = checkpoints + 1",
        "UPDATE audit_head SET origin = 'other.example/audit'",
        "DELETE FROM audit_head",
        "DELETE FROM audit_entries WHERE seq = 12",
        "DELETE FROM audit_entries WHERE seq = 5",
        "DELETE FROM audit_entries",
        "DELETE FROM audit_checkpoints",
        "DELETE FROM audit_checkpoints WHERE size = 13",
        "UPDATE audit_checkpoints SET note = (SELECT min(note) FROM audit_checkpoints) WHERE size = 13",
        "UPDATE audit_checkpoints SET note = zeroblob(9) WHERE size = 13",
        "UPDATE audit_entries SET leaf = zeroblob(32) WHERE seq = 3",
        "UPDATE audit_entries SET chain = zeroblob(32) WHERE seq = 3",
        "UPDATE audit_entries SET chain = zeroblob(32) WHERE seq = 12",
        "UPDATE audit_entries SET body = x'7b7d' WHERE seq = 3",
        "UPDATE audit_entries SET body = x'7b7d' WHERE seq = 12",
        "UPDATE audit_entries SET actor = 'usr_x' WHERE seq = 12",
    ],
)
def test_the_server_does_not_start_on_a_log_whose_end_does_not_hold(server: Server, statement: str) -> None:
    server.fill(13)
    with closing(sqlite3.connect(server.path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)
        connection.commit()
    with pytest.raises(InconsistentLogError):
        server.open()


def test_the_server_does_not_start_with_another_key(server: Server) -> None:
    server.fill(3)
    other = AuditLog(ORIGIN, Ed25519Signer(ORIGIN, b"\x09" * 32), server.clock, "n1")
    with pytest.raises(InconsistentLogError), server.engine.begin() as connection:
        other.open_log(connection)
