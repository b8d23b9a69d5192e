"""Reading the log of a running server: entries by number, queries by who, what, whom and when, checkpoints.

Queries page by sequence number, never by OFFSET, so that a page costs the same at any depth.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, Connection, Select, literal_column, select

from audit.catalogue import EventType
from audit.entry import QUERY_COLUMNS, Entry, parse_entry
from audit.errors import EntryNotFoundError, InconsistentLogError, QueryError
from audit.event import Outcome
from audit.merkle import Edge
from audit.report import StoredCheckpoint, StoredRow
from audit.sequencing import Head
from audit.tables import checkpoints, entries
from audit.tables import head as head_table

MAX_LIMIT: Final = 1000  # entries in one page
_ROWS_AT_ONCE: Final = 1000

_COLUMNS: Final = tuple(entries.c[name] for name in QUERY_COLUMNS)


class Order(StrEnum):
    """Which end of the log a query starts from."""

    NEWEST = "newest"
    OLDEST = "oldest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for: all that is given must hold. Times in microseconds, ``until`` not included.

    An empty ``types`` set means any type.
    """

    actor: str | None = None
    types: frozenset[EventType] = frozenset()
    object_id: str | None = None
    patient: str | None = None
    outcome: Outcome | None = None
    org: str | None = None
    since: int | None = None
    until: int | None = None
    order: Order = Order.NEWEST


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry and the stored bytes that it was read from."""

    entry: Entry
    body: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """One page of an answer; ``next_cursor`` is None on the last."""

    items: tuple[LoggedEntry, ...]
    next_cursor: int | None

    def to_json(self) -> bytes:
        """Return ``{"items": [...], "next_cursor": "seq" or null}``; items are the stored bytes."""
        items = b",".join(each.body for each in self.items)
        cursor = b"null" if self.next_cursor is None else b'"%d"' % self.next_cursor
        return b'{"items":[' + items + b'],"next_cursor":' + cursor + b"}"


class LogReader:
    """Reads the log in the transaction of ``connection``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def head(self) -> Head | None:
        """Return where the log stands, None if it was never opened. Raises InconsistentLogError."""
        columns = head_table.c
        statement = select(columns.size, columns.checkpoints, columns.t, columns.chain, columns.edge)
        row = self._connection.execute(statement).one_or_none()
        if row is None:
            return None
        size, count, t, chain, edge = row
        return Head(Edge.decode(size, edge), chain, t, count)

    def origin(self) -> str | None:
        """Return the log's name, None if it was never opened."""
        return self._connection.execute(select(head_table.c.origin)).scalar_one_or_none()

    def vkey(self) -> str | None:
        """Return the verifier key that the log names as its own."""
        return self._connection.execute(select(head_table.c.vkey)).scalar_one_or_none()

    def newest_checkpoint(self) -> StoredCheckpoint | None:
        """Return the newest signed checkpoint."""
        statement = select(checkpoints).order_by(checkpoints.c.number.desc()).limit(1)
        row = self._connection.execute(statement).one_or_none()
        if row is None:
            return None
        number, size, t, note = row
        return StoredCheckpoint(size, note, number, t)

    def newest(self) -> LoggedEntry | None:
        """Return the last entry."""
        page = self.query(Query(), limit=1)
        return page.items[0] if page.items else None

    def entry(self, seq: int) -> LoggedEntry:
        """Return entry ``seq``. Raises EntryNotFoundError."""
        row = self._connection.execute(
            select(*_COLUMNS, entries.c.body).where(entries.c.seq == seq)
        ).one_or_none()
        if row is None:
            raise EntryNotFoundError(f"there is no entry {seq}")
        return _logged(tuple(row))

    def rows(self, first: int = 0, end: int | None = None) -> Iterator[StoredRow]:
        """Yield stored rows from ``first`` up to, not including, ``end``, unparsed."""
        statement = select(entries.c.seq, entries.c.body, entries.c.chain, entries.c.leaf, *_COLUMNS)
        statement = statement.where(entries.c.seq >= first).order_by(entries.c.seq)
        if end is not None:
            statement = statement.where(entries.c.seq < end)
        with self._connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(statement) as result:
            for seq, body, chain, leaf, *columns in result:
                yield StoredRow(seq, body, chain, leaf, tuple(columns))

    def query(self, query: Query, *, cursor: int | None = None, limit: int = 100) -> Page:
        """Return the next ``limit`` (1 to 1000) entries after ``cursor`` in the order of ``query``.

        Raises QueryError for a limit out of range, InconsistentLogError if a row does not say what it is
        filed under.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise QueryError("limit", f"is not within 1 and {MAX_LIMIT}")
        statement = self._filtered(query)
        if statement is None:
            return Page((), None)
        newest_first = query.order is Order.NEWEST
        if cursor is not None:
            statement = statement.where(entries.c.seq < cursor if newest_first else entries.c.seq > cursor)
        statement = statement.order_by(entries.c.seq.desc() if newest_first else entries.c.seq).limit(
            limit + 1
        )
        found = [_logged(tuple(row)) for row in self._connection.execute(statement)]
        items = tuple(found[:limit])
        return Page(items, items[-1].entry.seq if len(found) > limit else None)

    def _filtered(self, query: Query) -> Select[tuple[object, ...]] | None:
        """Return the selection without order and limit; None if no entry lies in the time range."""
        conditions: list[ColumnElement[bool]] = []
        for column, value in (
            (entries.c.actor, query.actor),
            (entries.c.object_id, query.object_id),
            (entries.c.patient, query.patient),
            (entries.c.org, query.org),
        ):
            if value is not None:
                conditions.append(column == value)
        if query.types:
            conditions.append(entries.c.type.in_(sorted(each.value for each in query.types)))
        if query.outcome is not None:
            conditions.append(entries.c.outcome == query.outcome.value)
            if query.outcome is not Outcome.OK:
                conditions.append(literal_column("outcome <> 'ok'"))  # lets the partial index serve
        if query.since is not None or query.until is not None:
            # Time never goes back along the log, so a time range is a range of numbers.
            first = self._first_from(query.since)
            end = self._first_from(query.until)
            if query.since is not None and first is None:
                return None
            if first is not None and query.since is not None:
                conditions.append(entries.c.seq >= first)
            if end is not None and query.until is not None:
                conditions.append(entries.c.seq < end)
        return select(*_COLUMNS, entries.c.body).where(*conditions)

    def _first_from(self, t: int | None) -> int | None:
        """Return the number of the first entry at or after ``t``; None if there is none."""
        if t is None:
            return None
        statement = (
            select(entries.c.seq).where(entries.c.t >= t).order_by(entries.c.t, entries.c.seq).limit(1)
        )
        return self._connection.execute(statement).scalar_one_or_none()


def _logged(row: tuple[object, ...]) -> LoggedEntry:
    """Return the entry of a row, unless the row is filed under something else than its bytes say."""
    *columns, body = row
    if not isinstance(body, bytes):
        raise InconsistentLogError(f"entry {columns[0]} holds no bytes")
    entry = parse_entry(body)
    if entry.columns() != tuple(columns):
        raise InconsistentLogError(
            f"entry {columns[0]} is filed under something else than it says; verify the log"
        )
    return LoggedEntry(entry, body)
