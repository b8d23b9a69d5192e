"""The encrypted store: who may open it, what lies on the disk, a full disk, an older copy."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.clients import KEY, file_store

from securechat.client.ports import Transaction
from securechat.client.records import EventKind, EventRecord
from securechat.client.store.database import Database
from securechat.client.store.engine import SqlStorage
from securechat.client.store.schema import MIGRATIONS
from securechat.client.store.sqlcipher import EncryptedFile, StoreKey, open_store
from securechat.crypto.passphrase import TESTING
from securechat.errors import (
    SettingsError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    WrongKeyError,
)
from securechat.ids import DeviceId, ProtocolAddress, UserId

LEE = ProtocolAddress(UserId("lee"), DeviceId(4))
CANARY = "canary-4711-plaintext"


def passphrase(text: str) -> StoreKey:
    return StoreKey.of(passphrase=text, key=None, profile=TESTING)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def modes(folder: Path) -> set[int]:
    return {file.stat().st_mode & 0o777 for file in folder.iterdir()}


async def fill(path: Path, count: int = 3) -> None:
    storage = await file_store(path)
    for number in range(count):
        await storage.write(lambda tx: tx.inbox.add(EventRecord(EventKind.MESSAGE, text=CANARY)))
        await storage.write(lambda tx, number=number: tx.sessions.save(LEE, bytes([number]) * 4_000))  # type: ignore[misc]
    await storage.close()


async def test_a_passphrase_opens_its_own_store_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    storage = await open_store(path, passphrase("one"), random_bytes=os.urandom)
    await storage.write(lambda tx: tx.sessions.save(LEE, b"body"))
    await storage.close()
    with pytest.raises(WrongKeyError):
        await open_store(path, passphrase("two"), random_bytes=os.urandom)
    storage = await open_store(path, passphrase("one"), random_bytes=os.urandom)
    assert await storage.read(lambda tx: tx.sessions.load(LEE)) == b"body"
    await storage.close()


@pytest.mark.parametrize(
    ("word", "key"), [(None, None), ("", None), ("p", b"k" * 32), (None, b"k" * 31), (None, b"k" * 33)]
)
def test_a_key_of_another_form_is_refused(word: str | None, key: bytes | None) -> None:
    with pytest.raises(SettingsError):
        StoreKey.of(passphrase=word, key=key)


def test_a_store_key_does_not_print() -> None:
    assert "secret-words" not in repr(StoreKey.of(passphrase="secret-words", key=None))


@pytest.mark.parametrize("content", [b"", b"short", b"a text file of some length\n" * 400])
async def test_a_foreign_file_is_not_a_store(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    path.write_bytes(content)
    with pytest.raises(WrongKeyError):
        await file_store(path)
    assert path.read_bytes() == content


async def test_an_unencrypted_database_is_not_a_store(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    plain = sqlite3.connect(path)
    plain.execute("CREATE TABLE a (b)")
    plain.commit()
    plain.close()
    with pytest.raises(WrongKeyError):
        await file_store(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
async def test_a_truncated_file_is_not_a_store(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "a.db"
    await fill(path, count=20)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(WrongKeyError):
        await file_store(path)


async def test_a_changed_byte_is_noticed_where_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    raw = bytearray(path.read_bytes())
    raw[200] ^= 1
    path.write_bytes(raw)
    with pytest.raises(WrongKeyError):
        await file_store(path)


async def test_a_store_is_open_once_in_a_process(tmp_path: Path) -> None:
    storage = await file_store(tmp_path / "a.db")
    with pytest.raises(StoreLockedError):
        await file_store(tmp_path / "a.db")
    await storage.close()
    await (await file_store(tmp_path / "a.db")).close()


async def test_a_store_is_open_once_on_the_machine(tmp_path: Path) -> None:
    storage = await file_store(tmp_path / "a.db")
    script = f"""
import asyncio, os, sys
from pathlib import Path
from securechat.client.store.sqlcipher import StoreKey, open_store
from securechat.errors import StoreLockedError
key = StoreKey.of(passphrase=None, key=bytes([5]) * 32)
try:
    asyncio.run(open_store(Path({str(tmp_path / "a.db")!r}), key, random_bytes=os.urandom))
except StoreLockedError:
    sys.exit(42)
"""
    run = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], check=False)
    assert run.returncode == 42
    await storage.close()


async def test_a_missing_folder_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        await file_store(tmp_path / "nowhere" / "a.db")


async def test_nothing_on_the_disk_can_be_read(tmp_path: Path) -> None:
    storage = await file_store(tmp_path / "a.db")
    event = EventRecord(EventKind.MESSAGE, user="canary.person", text=CANARY * 200)
    for _ in range(20):
        await storage.write(lambda tx: tx.inbox.add(event))
    open_files = contents(tmp_path)
    assert sorted(open_files) == ["a.db", "a.db-wal", "a.db.lock"]
    await storage.close()
    closed_files = contents(tmp_path)
    for raw in (*open_files.values(), *closed_files.values()):
        assert CANARY.encode() not in raw
        assert b"canary.person" not in raw
        assert b"SQLite format" not in raw
        assert b"CREATE TABLE" not in raw


async def test_the_files_are_the_owners_alone(tmp_path: Path) -> None:
    storage = await file_store(tmp_path / "a.db")
    assert modes(tmp_path) == {0o600}
    await storage.close()


async def test_a_commit_is_synced_and_the_wal_is_on(tmp_path: Path) -> None:
    files: list[EncryptedFile] = []
    storage = await _kept_open(tmp_path, files)
    for pragma, value in (
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("temp_store", 2),
        ("secure_delete", 1),
    ):
        row = await storage.read(lambda tx, pragma=pragma: files[0].database.one(f"PRAGMA {pragma}"))  # type: ignore[misc]
        assert row == (value,)
    await storage.close()


async def test_a_full_disk_changes_nothing_and_passes(tmp_path: Path) -> None:
    files: list[EncryptedFile] = []
    storage = await _kept_open(tmp_path, files)
    await storage.write(lambda tx: tx.sessions.save(LEE, b"before"))
    pages = await storage.read(lambda tx: files[0].database.one("PRAGMA page_count"))
    assert pages is not None
    await storage.read(lambda tx: files[0].database.run(f"PRAGMA max_page_count = {pages[0] + 1}"))

    def too_much(tx: Transaction) -> None:
        tx.sessions.save(LEE, b"x" * 100_000)

    results = await asyncio.gather(*(storage.write(too_much) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [StoreFullError] * 3
    assert await storage.read(lambda tx: tx.sessions.load(LEE)) == b"before"
    await storage.read(lambda tx: files[0].database.run("PRAGMA max_page_count = 100000"))
    await storage.write(too_much)
    assert await storage.read(lambda tx: tx.sessions.load(LEE)) == b"x" * 100_000
    await storage.close()


async def test_an_older_copy_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    shutil.copy(path, tmp_path / "backup")
    await fill(path)
    shutil.copy(tmp_path / "backup", path)
    storage = await file_store(path)
    assert await storage.read(lambda tx: tx.account.is_restored())
    await storage.close()
    storage = await file_store(path)
    assert await storage.read(lambda tx: tx.account.is_restored()), "it is remembered until it is dealt with"
    await storage.write(lambda tx: tx.account.set_restored(False))
    await storage.close()
    storage = await file_store(path)
    assert not await storage.read(lambda tx: tx.account.is_restored())
    await storage.close()


async def test_a_copy_without_its_side_file_is_noticed(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    shutil.copy(tmp_path / "a.db", tmp_path / "b.db")
    storage = await file_store(tmp_path / "b.db")
    assert await storage.read(lambda tx: tx.account.is_restored())
    await storage.close()


async def test_a_side_file_left_behind_by_a_power_cut_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await fill(path)
    side = (tmp_path / "a.db.lock").read_bytes()
    await fill(path)
    (tmp_path / "a.db.lock").write_bytes(side)
    storage = await file_store(path)
    assert not await storage.read(lambda tx: tx.account.is_restored())
    await storage.close()


async def test_a_store_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    await fill(tmp_path / "a.db")
    files: list[EncryptedFile] = []
    storage = await _kept_open(tmp_path, files)
    await storage.read(lambda tx: files[0].database.run(f"PRAGMA user_version = {len(MIGRATIONS) + 1}"))
    await storage.close()
    with pytest.raises(StoreError, match="schema"):
        await file_store(tmp_path / "a.db")


def test_an_interrupted_migration_starts_again() -> None:
    database = Database(":memory:", None)

    def interrupted() -> None:
        with database.transaction():
            database.run("CREATE TABLE store (id)")
            raise LookupError

    with pytest.raises(LookupError):
        interrupted()
    database.migrate()
    database.migrate()
    assert database.one("PRAGMA user_version") == (len(MIGRATIONS),)
    database.close()


async def test_closing_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    storage = await file_store(tmp_path / "a.db")
    assert threading.active_count() == before + 1
    await storage.close()
    assert threading.active_count() == before
    with pytest.raises(WrongKeyError):
        await open_store(tmp_path / "a.db", passphrase("other"), random_bytes=os.urandom)
    assert threading.active_count() == before


async def test_a_damaged_driver_error_names_no_values(tmp_path: Path) -> None:
    storage = await file_store(tmp_path / "a.db")
    with pytest.raises(StoreError) as caught:
        await storage.write(lambda tx: tx.inbox.add(EventRecord(EventKind.MESSAGE, text=None)))  # type: ignore[arg-type]
    assert "event" not in str(caught.value)
    assert caught.value.__cause__ is None
    await storage.close()


async def _kept_open(tmp_path: Path, files: list[EncryptedFile]) -> SqlStorage:
    """Open ``a.db`` and keep the file at hand, for what no repository offers."""

    def opener() -> EncryptedFile:
        files.append(EncryptedFile(tmp_path / "a.db", KEY, os.urandom))
        return files[0]

    storage = SqlStorage(opener)
    await storage.open()
    return storage


def test_a_store_of_the_first_schema_keeps_its_rows() -> None:
    database = Database(":memory:", None)
    with database.transaction():
        for statement in filter(str.strip, MIGRATIONS[0].split(";")):
            database.run(statement)
        database.run("INSERT INTO peer_device VALUES ('lee', 1, 3, 9, 1)")
        database.run("PRAGMA user_version = 1")
    database.migrate()
    assert database.run("SELECT * FROM peer_device") == [("lee", 1, 3, 9, 1, 0, 0)]
    database.close()
