"""The database of one server: one writer with group commit, and readers beside it.

A write is a synchronous function ``work(tx)``. What piled up while the last commit was on its way to the disk
is the next transaction, without a timer. Works run in the order of their submission, each in its own
savepoint, and their callers hear of the result only after the fsynced COMMIT.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from audit.event import AuditEvent
from securechat.errors import StoreError
from securechat.ports import FaultHook, no_fault
from securechat.sql.sqlite import READERS, create_sqlite_engine, store_error
from securechat.sql.writer import BeforeCommit, FutureJob, Limits, Tx, Writer

__all__ = ["BeforeCommit", "Database", "Limits", "Tx", "open_database", "seal_nothing"]

T = TypeVar("T")


class Database:
    """Group-committed writes and concurrent reads. Made by ``open_database``; used from event loops."""

    def __init__(self, engine: Engine, writer: Writer) -> None:
        self._engine = engine
        self._writer = writer
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sql-reader")
        self._closed = False

    @property
    def engine(self) -> Engine:
        """The engine, for migrations and tools; never write through it while the server runs."""
        return self._engine

    def submit(self, work: Callable[[Tx], T], *, size: int = 0) -> "asyncio.Future[T]":
        """Queue ``work``, in order from this moment; the future ends after the fsynced COMMIT.

        ``work`` must be a function of its transaction alone, since it may be run again, and must not keep
        ``tx``. Its own exception undoes it alone and ends the future. ``size`` is about how many bytes it
        writes. Other failures are StoreError, with nothing changed. Cancelling the future does not undo
        the work. Must be called from a running event loop.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._writer.put(FutureJob(work, future, size))
        return future

    async def write(self, work: Callable[[Tx], T], *, size: int = 0) -> T:
        """Run ``work`` in the next transaction and return its result once that is on the disk."""
        return await self.submit(work, size=size)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` on a reader's connection, in a thread, on what is committed now.

        Raises StoreError when the database fails.
        """
        if self._closed:
            raise StoreError("the database is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    async def close(self) -> None:
        """Commit what was submitted, end the threads and close every connection."""
        self._closed = True
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._writer.close)
        await loop.run_in_executor(None, self._readers.shutdown)
        self._engine.dispose()

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except DBAPIError as error:
            raise store_error(error) from error


def open_database(
    url: str,
    *,
    before_commit: BeforeCommit,
    fault: FaultHook = no_fault,
    limits: Limits | None = None,
    quota_bytes: int | None = None,
) -> Database:
    """Open the database at ``url`` (``sqlite:////absolute/path``) and start its writer.

    ``before_commit`` gets the connection and all events of a transaction just before its COMMIT; if it
    raises, the whole transaction is undone. The steps ``commit.sealed`` and ``commit.done`` are told to
    ``fault``. Raises SettingsError when the database cannot promise durability, StoreError when it does
    not open.
    """
    engine = create_sqlite_engine(url, quota_bytes=quota_bytes)
    try:
        writer = Writer(engine.connect(), before_commit, fault, limits or Limits())
    except DBAPIError as error:
        engine.dispose()
        raise store_error(error) from error
    writer.start()
    return Database(engine, writer)


def seal_nothing(connection: Connection, events: Sequence[AuditEvent]) -> None:
    """A ``before_commit`` for a database without an audit log, such as a tool's or a test's."""
