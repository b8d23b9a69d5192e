"""Queries: what a filter means, paging at any depth, and no report from a row that lies."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, create_engine, event
from unit.audit import insider
from unit.audit.support import START_US, make_engine, running_server

from audit.catalogue import EventType, types_matching
from audit.entry import Entry
from audit.errors import EntryNotFoundError, InconsistentLogError, QueryError
from audit.event import Outcome
from audit.reader import LoggedEntry, LogReader, Order, Query

_SIZE = 60


@pytest.fixture(scope="module")
def engine(pristine: tuple[Path, bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = tmp_path_factory.mktemp("reader") / "server.db"
    path.write_bytes(pristine[0].read_bytes())
    engine = create_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


@pytest.fixture
def reader(engine: Engine) -> Iterator[LogReader]:
    with engine.connect() as connection:
        yield LogReader(connection)


def _seqs(items: tuple[LoggedEntry, ...]) -> list[int]:
    return [each.entry.seq for each in items]


def _matches(query: Query, entry: Entry) -> bool:
    """Say what ``Query`` means, in plain words: the oracle."""
    did = entry.event
    return (
        query.actor in (None, did.actor.id)
        and query.patient in (None, did.patient)
        and query.org in (None, did.org)
        and query.outcome in (None, did.outcome)
        and (query.object_id is None or (did.object is not None and did.object.id == query.object_id))
        and (not query.types or did.type in query.types)
        and (query.since is None or entry.t >= query.since)
        and (query.until is None or entry.t < query.until)
    )


_TIMES = st.none() | st.integers(START_US - 2000, START_US + 63_000)
_QUERIES = st.builds(
    Query,
    actor=st.none() | st.sampled_from(["usr_0", "usr_3", "usr_9"]),
    types=st.sampled_from([frozenset(), types_matching("message.*"), types_matching("audit.query")]),
    object_id=st.none() | st.sampled_from(["mbx_1", "mbx_4"]),
    patient=st.none() | st.sampled_from(["pat_0", "pat_1"]),
    outcome=st.none() | st.sampled_from(Outcome),
    org=st.none() | st.sampled_from(["org_0", "org_1"]),
    since=_TIMES,
    until=_TIMES,
    order=st.sampled_from(Order),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=_QUERIES, limit=st.integers(1, 20))
def test_pages_of_any_size_together_are_exactly_what_matches(
    reader: LogReader, query: Query, limit: int
) -> None:
    everything = [each.entry for each in reader.query(Query(order=query.order), limit=1000).items]
    expected = [each.seq for each in everything if _matches(query, each)]
    found: list[int] = []
    cursor: int | None = None
    while True:
        page = reader.query(query, cursor=cursor, limit=limit)
        assert len(page.items) <= limit
        found += _seqs(page.items)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == expected


def test_entries_come_newest_first_unless_asked_otherwise(reader: LogReader) -> None:
    assert _seqs(reader.query(Query(), limit=3).items) == [59, 58, 57]
    assert _seqs(reader.query(Query(order=Order.OLDEST), limit=3).items) == [0, 1, 2]


def test_the_last_page_has_no_cursor(reader: LogReader) -> None:
    assert reader.query(Query(), limit=_SIZE).next_cursor is None
    assert reader.query(Query(), limit=_SIZE - 1).next_cursor == 1
    assert reader.query(Query(), cursor=1, limit=10).next_cursor is None


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_limit_out_of_range_is_refused(reader: LogReader, limit: int) -> None:
    with pytest.raises(QueryError, match="limit"):
        reader.query(Query(), limit=limit)


def test_one_entry_is_found_by_its_number(reader: LogReader) -> None:
    assert reader.entry(7).entry.seq == 7
    assert b'"seq":7' in reader.entry(7).body
    for seq in (-1, 60):
        with pytest.raises(EntryNotFoundError):
            reader.entry(seq)


def test_rows_come_in_order_and_within_bounds(reader: LogReader) -> None:
    assert [row.seq for row in reader.rows()] == list(range(60))
    assert [row.seq for row in reader.rows(57)] == [57, 58, 59]
    assert [row.seq for row in reader.rows(3, 5)] == [3, 4]


def test_head_and_checkpoint_are_those_of_the_last_commit(reader: LogReader) -> None:
    head, newest = reader.head(), reader.newest_checkpoint()
    assert head is not None
    assert newest is not None
    assert (head.size, head.checkpoints, head.t) == (60, 61, START_US + 60_000)
    assert (newest.size, newest.number, newest.t) == (60, 60, START_US + 60_000)
    assert reader.origin() == "clinic.example/audit"
    assert (reader.vkey() or "").startswith("clinic.example/audit+")


def test_no_query_reports_a_row_that_is_filed_under_something_else(log: Path) -> None:
    insider.run(log, "UPDATE audit_entries SET actor = 'usr_9' WHERE seq = 23")
    engine = create_engine(f"sqlite:///{log}")
    with engine.connect() as connection, pytest.raises(InconsistentLogError, match="entry 23"):
        LogReader(connection).query(Query(actor="usr_9"))
    engine.dispose()


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (Query(actor="usr_1"), "audit_entries_actor"),
        (Query(types=frozenset({EventType.AUDIT_QUERY})), "audit_entries_type"),
        (Query(object_id="mbx_1"), "audit_entries_object"),
        (Query(patient="pat_1"), "audit_entries_patient"),
        (Query(org="org_1"), "audit_entries_org"),
        (Query(outcome=Outcome.DENY), "audit_entries_refused"),
        (Query(actor="usr_1", since=START_US, until=START_US + 50_000), "audit_entries_actor"),
    ],
)
def test_every_filter_is_answered_from_an_index(engine: Engine, query: Query, index: str) -> None:
    statements: list[tuple[str, tuple[object, ...]]] = []

    def keep(_c: object, _u: object, sql: str, parameters: tuple[object, ...], *_: object) -> None:
        statements.append((sql, parameters))

    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", keep)
        LogReader(connection).query(query)
        sql, parameters = statements[-1]
        plan = _plan(connection, sql, parameters)
    assert index in plan
    assert "TEMP B-TREE" not in plan


def _plan(connection: Connection, sql: str, parameters: tuple[object, ...]) -> str:
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)
    return "\n".join(str(row[3]) for row in rows)


def test_a_reader_sees_one_moment_while_the_writer_goes_on(tmp_path: Path) -> None:
    with running_server(tmp_path / "server.db") as server:
        server.fill(5)
        engine = make_engine(server.path)
        with closing(sqlite3.connect(server.path, isolation_level=None)) as raw:
            raw.execute("BEGIN")
            before = raw.execute("SELECT count(*) FROM audit_entries").fetchone()
            server.fill(5, first=50)
            assert raw.execute("SELECT count(*) FROM audit_entries").fetchone() == before
        engine.dispose()
