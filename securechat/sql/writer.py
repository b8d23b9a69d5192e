"""The one thread that writes: takes what has piled up, runs it, seals it, commits it, tells the callers."""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPICursor

from audit.event import AuditEvent
from securechat.errors import StoreError
from securechat.ports import FaultHook
from securechat.sql.sqlite import is_driver_error, store_error

T = TypeVar("T")

BeforeCommit = Callable[[Connection, Sequence[AuditEvent]], object]
_JOIN_SECONDS: Final = 60.0


class Tx:
    """What a work gets: the running transaction.

    ``connection`` is SQLAlchemy's, ``cursor`` the driver's own in the same transaction, for hot statements.
    A work neither commits nor rolls back.
    """

    __slots__ = ("_events", "connection", "cursor")

    def __init__(self, connection: Connection, cursor: DBAPICursor) -> None:
        self.connection = connection
        self.cursor = cursor
        self._events: list[AuditEvent] = []

    def record(self, event: AuditEvent) -> None:
        """Write ``event`` into the audit log with this transaction or not at all."""
        self._events.append(event)

    @property
    def events(self) -> tuple[AuditEvent, ...]:
        """What was recorded so far."""
        return tuple(self._events)

    def forget(self, kept: int) -> None:
        """Drop all events but the first ``kept``: their work was undone."""
        del self._events[kept:]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one transaction takes at most; a single larger work still gets its own."""

    works: int = 2000
    bytes: int = 8 * 2**20


class Job(Protocol):
    """A submitted work, without the type of its result."""

    @property
    def size(self) -> int:
        """About how many bytes it writes."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where its caller waits."""
        ...

    def run(self, tx: Tx) -> None:
        """Run the work and keep its result. Raises what it raises."""
        ...

    def fail(self, error: BaseException) -> None:
        """Note that nothing of this work was committed."""
        ...

    def tell(self) -> None:
        """End the caller's future. Called in the caller's event loop."""
        ...


class FutureJob(Generic[T]):
    """The Job behind one ``asyncio.Future``."""

    __slots__ = ("_error", "_future", "_result", "_work", "loop", "size")

    def __init__(self, work: Callable[[Tx], T], future: "asyncio.Future[T]", size: int) -> None:
        self._work = work
        self._future = future
        self._error: BaseException | None = None
        self._result: tuple[T] | None = None
        self.loop = future.get_loop()
        self.size = size

    def run(self, tx: Tx) -> None:
        """See Job."""
        self._error = None
        self._result = (self._work(tx),)

    def fail(self, error: BaseException) -> None:
        """See Job."""
        self._error = error
        self._result = None

    def tell(self) -> None:
        """See Job; a future that was cancelled meanwhile stays so, and the work stands all the same."""
        if self._future.done():
            return
        if self._result is not None:
            self._future.set_result(self._result[0])
        else:
            self._future.set_exception(self._error or StoreError("the writer ended"))


class Writer:
    """Owns the writing connection. ``put`` may be called from any thread; the rest happens in its own."""

    def __init__(
        self, connection: Connection, before_commit: BeforeCommit, fault: FaultHook, limits: Limits
    ) -> None:
        self._connection = connection
        self._before_commit = before_commit
        self._fault = fault
        self._limits = limits
        self._queue: deque[Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sql-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, job: Job) -> None:
        """Queue ``job`` behind all earlier ones. Raises StoreError once closed."""
        with self._wake:
            if self._closing:
                raise StoreError("the database is closed")
            self._queue.append(job)
            self._wake.notify()

    def close(self) -> None:
        """Commit what is queued and end the thread; blocks, and may be called twice."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(_JOIN_SECONDS)
        self._connection.close()

    def _run(self) -> None:
        while group := self._take():
            try:
                self._commit(group)
            except Exception as error:  # INVARIANT: the writer outlives every failure of a transaction
                for job in group:
                    job.fail(_translated(error))
            _tell(group)

    def _take(self) -> list[Job]:
        """Wait for work; return what has piled up, within the limits. Empty once closed and drained."""
        with self._wake:
            while not self._queue and not self._closing:
                self._wake.wait()
            group: list[Job] = []
            size = 0
            while self._queue and len(group) < self._limits.works:
                size += self._queue[0].size
                if group and size > self._limits.bytes:
                    break
                group.append(self._queue.popleft())
            return group

    def _commit(self, group: list[Job]) -> None:
        """Run ``group`` in one transaction, again without any work whose failure ended it."""
        pending = group
        while pending:
            broken = self._attempt(pending)
            if broken is None:
                return
            pending = [job for job in pending if job is not broken]

    def _attempt(self, jobs: list[Job]) -> Job | None:
        """Commit ``jobs``, or return the one whose failure ended the transaction. Raises if COMMIT fails."""
        connection = self._connection
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            cursor = connection.connection.cursor()
            tx = Tx(connection, cursor)
            for job in jobs:
                if not _run_in_savepoint(job, tx):
                    return job
            self._before_commit(connection, tx.events)
            self._fault("commit.sealed")
            cursor.execute("COMMIT")
            self._fault("commit.done")
            return None
        finally:
            connection.rollback()  # after COMMIT this only ends SQLAlchemy's own notion of a transaction


def _run_in_savepoint(job: Job, tx: Tx) -> bool:
    """Run ``job`` and undo it alone if it fails. Return False if the transaction did not survive that."""
    kept = len(tx.events)
    tx.cursor.execute("SAVEPOINT work")
    try:
        job.run(tx)
        tx.cursor.execute("RELEASE work")
    except Exception as error:
        tx.forget(kept)
        job.fail(_translated(error) if is_driver_error(error) else error)
        return _undo(tx)
    return True


def _undo(tx: Tx) -> bool:
    """Roll back to the savepoint; False if there is none left: a full disk may end the whole transaction."""
    try:
        tx.cursor.execute("ROLLBACK TO work")
        tx.cursor.execute("RELEASE work")
    except sqlite3.OperationalError:
        return False
    return True


def _translated(error: Exception) -> StoreError:
    """Return a new StoreError for one caller; a shared one would gather every caller's traceback."""
    found = store_error(error)
    found.__cause__ = error
    return found


def _tell(group: list[Job]) -> None:
    """End all futures, with one wake-up for each event loop."""
    for loop in {job.loop for job in group}:
        jobs = [job for job in group if job.loop is loop]
        try:
            loop.call_soon_threadsafe(_tell_here, jobs)
        except RuntimeError:  # that loop is closed: nobody waits there any more
            continue


def _tell_here(jobs: list[Job]) -> None:
    for job in jobs:
        job.tell()
