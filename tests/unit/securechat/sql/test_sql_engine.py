"""The writer: group commit, order, isolation of works, failures, and what survives them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection

from audit.catalogue import EventType
from audit.event import Actor, AuditEvent, Outcome, uuid7
from securechat.errors import SettingsError, StoreError, StoreFullError, StoreLockedError
from securechat.sql.engine import Database, Limits, Tx, open_database, seal_nothing
from securechat.sql.sqlite import check_durable, create_sqlite_engine


def event(number: int) -> AuditEvent:
    ident = uuid7(number, lambda n: number.to_bytes(n, "big"))
    return AuditEvent(id=ident, type=EventType.MESSAGE_SEND, outcome=Outcome.OK, actor=Actor(id=f"u{number}"))


def insert(number: int) -> Callable[[Tx], int]:
    def work(tx: Tx) -> int:
        tx.cursor.execute("INSERT INTO t VALUES (?)", (number,))
        tx.record(event(number))
        return number

    return work


def executes(statement: str) -> Callable[[Tx], int]:
    def work(tx: Tx) -> int:
        tx.cursor.execute(statement)
        return 0

    return work


def numbers(connection: Connection) -> list[int]:
    return [row[0] for row in connection.exec_driver_sql("SELECT n FROM t ORDER BY rowid")]


class Seal:
    """A before_commit that keeps what it was given, group by group, and can be told to fail."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.error: Exception | None = None

    def __call__(self, connection: Connection, events: Sequence[AuditEvent]) -> None:
        if self.error is not None and events:
            raise self.error
        self.groups.append([e.actor.id for e in events])


@pytest.fixture
def seal() -> Seal:
    return Seal()


@pytest.fixture
async def database(tmp_path: Path, seal: Seal) -> AsyncIterator[Database]:
    opened = await opened_at(tmp_path, seal)
    yield opened
    await opened.close()


async def opened_at(folder: Path, seal: Seal, quota_bytes: int | None = None, works: int = 2000) -> Database:
    url = f"sqlite:///{folder / 'server.db'}"
    limits = Limits(works=works)
    opened = open_database(url, before_commit=seal, quota_bytes=quota_bytes, limits=limits)
    await opened.write(executes("CREATE TABLE t (n INTEGER UNIQUE CHECK (n >= 0))"))
    seal.groups.clear()
    return opened


class Gate:
    """A work that holds the writer until it is opened, so that the next works pile up behind it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self, tx: Tx) -> None:
        self.begun.set()
        assert self.go.wait(10)


async def piled_up(database: Database, works: Sequence[Callable[[Tx], int]]) -> list[int | BaseException]:
    gate = Gate()
    first = database.submit(gate)
    await asyncio.get_running_loop().run_in_executor(None, gate.begun.wait, 10)
    futures = [database.submit(work) for work in works]
    gate.go.set()
    await first
    return await asyncio.gather(*futures, return_exceptions=True)


async def test_a_write_returns_its_result_and_readers_see_it(database: Database) -> None:
    assert await database.write(insert(7)) == 7
    assert await database.read(numbers) == [7]


async def test_what_piled_up_during_a_commit_is_one_transaction(database: Database, seal: Seal) -> None:
    assert await piled_up(database, [insert(n) for n in range(50)]) == list(range(50))
    assert await database.read(numbers) == list(range(50))
    assert seal.groups == [[], [f"u{n}" for n in range(50)]]


async def test_a_transaction_is_capped_in_works(tmp_path: Path, seal: Seal) -> None:
    database = await opened_at(tmp_path, seal, works=20)
    await piled_up(database, [insert(n) for n in range(50)])
    assert [len(group) for group in seal.groups] == [0, 20, 20, 10]
    await database.close()


async def test_a_transaction_is_capped_in_bytes_or_one_larger_work(database: Database, seal: Seal) -> None:
    gate = Gate()
    first = database.submit(gate)
    await asyncio.get_running_loop().run_in_executor(None, gate.begun.wait, 10)
    sizes = [3 * 2**20, 3 * 2**20, 3 * 2**20, 2**30, 1]
    futures = [database.submit(insert(n), size=size) for n, size in enumerate(sizes)]
    gate.go.set()
    await asyncio.gather(first, *futures)
    assert seal.groups == [[], ["u0", "u1"], ["u2"], ["u3"], ["u4"]]


async def test_a_failed_work_is_undone_alone_with_its_events(database: Database, seal: Seal) -> None:
    def fails(tx: Tx) -> int:
        insert(99)(tx)
        raise ValueError("a rule of the work")

    results = await piled_up(database, [insert(1), fails, insert(2)])
    assert results[0] == 1
    assert isinstance(results[1], ValueError)
    assert results[2] == 2
    assert await database.read(numbers) == [1, 2]
    assert seal.groups == [[], ["u1", "u2"]]


async def test_a_violated_constraint_is_a_store_error_of_that_work_alone(database: Database) -> None:
    results = await piled_up(database, [insert(1), insert(1), insert(2)])
    assert [type(result) for result in results] == [int, StoreError, int]
    assert await database.read(numbers) == [1, 2]


async def test_if_the_audit_log_refuses_nothing_of_the_group_happens(database: Database, seal: Seal) -> None:
    seal.error = RuntimeError("no audit")
    results = await piled_up(database, [insert(1), insert(2)])
    assert [type(result) for result in results] == [StoreError, StoreError]
    seal.error = None
    assert await database.write(insert(3)) == 3
    assert await database.read(numbers) == [3]


async def test_a_full_disk_is_told_apart_and_the_writer_goes_on_when_there_is_space(
    tmp_path: Path, seal: Seal
) -> None:
    database = await opened_at(tmp_path, seal, quota_bytes=80_000)
    await database.write(executes("CREATE TABLE b (x BLOB)"))
    fill = executes("INSERT INTO b VALUES (zeroblob(200000))")

    results = await piled_up(database, [insert(1), fill, insert(2)])
    assert [type(result) for result in results] == [int, StoreFullError, int]
    assert await database.read(numbers) == [1, 2]
    with pytest.raises(StoreFullError):
        await database.write(fill)
    assert await database.write(executes("DELETE FROM t")) == 0
    assert await database.write(insert(5)) == 5
    await database.close()


async def test_a_cancelled_caller_neither_loses_nor_doubles_its_work(database: Database) -> None:
    gate = Gate()
    first = database.submit(gate)
    waiting = asyncio.create_task(database.write(insert(1)))
    await asyncio.get_running_loop().run_in_executor(None, gate.begun.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.go.set()
    await first
    assert await database.write(insert(2)) == 2
    assert await database.read(numbers) == [1, 2]


async def test_closing_commits_what_was_submitted_and_refuses_the_rest(tmp_path: Path, seal: Seal) -> None:
    database = await opened_at(tmp_path, seal)
    futures = [database.submit(insert(n)) for n in range(20)]
    await database.close()
    assert await asyncio.gather(*futures) == list(range(20))
    with pytest.raises(StoreError):
        database.submit(insert(1))
    with pytest.raises(StoreError):
        await database.read(numbers)
    await database.close()


async def test_a_lock_held_by_another_process_is_told_apart(
    tmp_path: Path, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securechat.sql.sqlite.BUSY_MS", 50)
    database = await opened_at(tmp_path, seal)
    other = create_sqlite_engine(f"sqlite:///{tmp_path / 'server.db'}")
    with other.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(StoreLockedError):
            await database.write(insert(1))
        connection.rollback()
    assert await database.write(insert(2)) == 2
    other.dispose()
    await database.close()


async def test_readers_cannot_see_a_running_transaction(database: Database) -> None:
    seen: list[list[int]] = []
    loop = asyncio.get_running_loop()

    def work(tx: Tx) -> None:
        insert(1)(tx)
        seen.append(asyncio.run_coroutine_threadsafe(database.read(numbers), loop).result(10))

    await database.write(work)
    assert seen == [[]]


@pytest.mark.parametrize(
    "settings",
    [
        {"journal_mode": "delete", "synchronous": 2, "foreign_keys": 1},
        {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1},
        {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 0},
    ],
)
def test_weaker_settings_than_wal_and_full_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        check_durable(
            journal_mode=str(settings["journal_mode"]),
            synchronous=settings["synchronous"],
            foreign_keys=settings["foreign_keys"],
        )


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite://", "sqlite:///:memory:", "postgresql://h/db", "sqlite:////x.db?mode=memory"]
)
def test_an_address_that_is_no_plain_sqlite_file_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        open_database(url, before_commit=seal_nothing)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StoreError):
        open_database(f"sqlite:///{path}", before_commit=seal_nothing)


async def test_every_connection_is_durable(database: Database) -> None:
    def settings(connection: Connection) -> tuple[str, int, int]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        mode, synchronous, keys = (connection.exec_driver_sql(f"PRAGMA {n}").scalar_one() for n in names)
        return mode, synchronous, keys

    assert await database.read(settings) == ("wal", 2, 1)
    assert await database.write(lambda tx: settings(tx.connection)) == ("wal", 2, 1)
