"""The ``query`` command: a server's database, read only, through the same reader as the server's own API."""

import argparse
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from audit.errors import SourceError
from audit.filters import FILTERS, parse_limit, parse_number, parse_query
from audit.printing import print_entries, to_stdout
from audit.reader import LogReader
from audit.source import connect_read_only


def run_query(arguments: argparse.Namespace) -> int:
    """Print the entries that the arguments ask for. Raises QueryError or SourceError."""
    given: dict[str, str | None] = vars(arguments)
    query = parse_query({name: value for name in FILTERS if (value := given[name]) is not None})
    limit = parse_limit(given["limit"])
    cursor_text = given["cursor"]
    cursor = None if cursor_text is None else parse_number("cursor", cursor_text)
    with connect_read_only(arguments.path) as raw, _wrapped(raw) as connection:
        try:
            page = LogReader(connection).query(query, cursor=cursor, limit=limit)
        except DBAPIError as exc:
            raise SourceError(f"the database holds no audit log that can be read ({exc.orig})") from exc
    if arguments.json:
        to_stdout(page.to_json() + b"\n")
    else:
        print_entries([each.entry for each in page.items], page.next_cursor)
    return 0


@contextmanager
def _wrapped(raw: sqlite3.Connection) -> Iterator[Connection]:
    """Give a connection of the standard library to SQLAlchemy."""
    engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool, hide_parameters=True)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
