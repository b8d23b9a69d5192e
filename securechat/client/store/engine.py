"""The store's one thread: works in the order of the calls, those that pile up committed together.

INVARIANT: one thread owns the connection and runs one work at a time, so nobody can load a session, lose the
turn, and save it over a newer one. INVARIANT: a write's caller hears of it only after the commit is on disk.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from securechat.client.ports import Transaction
from securechat.client.store.database import Database
from securechat.client.store.repositories import SqlTransaction
from securechat.errors import StoreError

T = TypeVar("T")
MAX_GROUP: Final = 256  # works in one commit


class Backing(Protocol):
    """A database that is open, and what must happen around its commits."""

    @property
    def database(self) -> Database: ...
    def before_commit(self) -> None: ...
    def after_commit(self) -> None: ...
    def close(self) -> None: ...


@dataclass(eq=False, slots=True)
class _Job(Generic[T]):
    work: Callable[[Transaction], T]
    writes: bool
    future: asyncio.Future[T]
    then: Callable[[T], None] | None = None
    result: T | None = None
    error: BaseException | None = None

    def settle(self) -> None:
        self._announce()
        if self.future.done():
            return  # its caller was cancelled; the work stands all the same
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]  # T may itself be None

    def _announce(self) -> None:
        if self.then is None or self.error is not None:
            return
        try:
            self.then(self.result)  # type: ignore[arg-type]  # T may itself be None
        except BaseException as error:
            self.error = error


@dataclass(eq=False, slots=True)
class SqlStorage:
    """The Storage port on SQLite. ``rerun`` makes works run twice, as the port allows (tests)."""

    _opener: Callable[[], Backing]
    _rerun: Callable[[], bool] = field(default=lambda: False)
    _jobs: "queue.SimpleQueue[_Job[object] | None]" = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _ended: "asyncio.Future[None] | None" = None
    _closed: bool = False

    async def open(self) -> None:
        """Start the thread and open the database in it. Raises StoreError and its kinds."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._main, args=(opened,), name="securechat-store", daemon=True
        )
        self._thread.start()
        try:
            await opened
        except BaseException:
            await self.close()
            raise

    async def write(self, work: Callable[[Transaction], T], then: Callable[[T], None] | None = None) -> T:
        """Run ``work`` and return its result once it is committed; see Storage for ``then``."""
        return await self._submit(work, writes=True, then=then)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` on committed data; it sees every write that was called before."""
        return await self._submit(work, writes=False)

    async def close(self) -> None:
        """Finish the works already called, close the file and end the thread. May be called again."""
        if self._thread is None or self._ended is None:
            return
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    async def _submit(
        self, work: Callable[[Transaction], T], *, writes: bool, then: Callable[[T], None] | None = None
    ) -> T:
        if self._closed or self._loop is None:
            raise StoreError("the store is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, writes, future, then))  # type: ignore[arg-type]  # the queue forgets T
        return await future

    def _main(self, opened: "asyncio.Future[None]") -> None:
        try:
            self._serve(opened)
        finally:
            self._call_back(_settle_future, self._ended, None)

    def _serve(self, opened: "asyncio.Future[None]") -> None:
        try:
            backing = self._opener()
        except BaseException as error:
            self._call_back(_settle_future, opened, error)
            return
        self._call_back(_settle_future, opened, None)
        try:
            while (group := self._next_group()) is not None:
                self._run_group(backing, group)
        finally:
            backing.close()

    def _next_group(self) -> "list[_Job[object]] | None":
        first = self._jobs.get()
        if first is None:
            return None
        group = [first]
        while len(group) < MAX_GROUP:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            group.append(job)
        return group

    def _run_group(self, backing: Backing, group: "Sequence[_Job[object]]") -> None:
        try:
            self._run_jobs(backing, group)
        except BaseException as error:  # the thread goes on: a caller must never wait for ever
            for job in group:
                job.error = job.error or error
        self._call_back(_settle_all, group)

    def _run_jobs(self, backing: Backing, group: "Sequence[_Job[object]]") -> None:
        writes = [job for job in group if job.writes]
        transaction = SqlTransaction(backing.database)
        if writes:
            self._commit_group(backing, transaction, writes)
        for job in group:
            if not job.writes:
                _run(job, transaction)

    def _commit_group(
        self, backing: Backing, transaction: Transaction, jobs: "Sequence[_Job[object]]"
    ) -> None:
        database = backing.database
        try:
            with database.transaction():
                for job in jobs:
                    self._run_write(database, transaction, job)
                backing.before_commit()
        except StoreError as error:
            for job in jobs:
                job.error = job.error or error
            return
        backing.after_commit()

    def _run_write(self, database: Database, transaction: Transaction, job: "_Job[object]") -> None:
        try:
            if self._rerun():
                _undone(database, transaction, job)
            with database.savepoint():
                job.result = job.work(transaction)
        except BaseException as error:
            job.error = error
            if not database.in_transaction:
                undone = StoreError("the transaction was undone by the database")
                raise error if isinstance(error, StoreError) else undone from None

    def _call_back(self, function: Callable[..., None], *args: object) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            return  # the loop was closed without closing the client; what is committed stays committed


class _UndoneError(Exception):
    """Ends a first run whose effects are thrown away."""


def _undone(database: Database, transaction: Transaction, job: "_Job[object]") -> None:
    try:
        with database.savepoint():
            job.work(transaction)
            raise _UndoneError
    except _UndoneError:
        return


def _run(job: "_Job[object]", transaction: Transaction) -> None:
    try:
        job.result = job.work(transaction)
    except BaseException as error:
        job.error = error


def _settle_all(jobs: "Sequence[_Job[object]]") -> None:
    for job in jobs:
        job.settle()


def _settle_future(future: "asyncio.Future[None]", error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
