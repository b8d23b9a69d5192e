"""Faults around a whole client: a full disk, a directory that is down, and what errors and logs may show."""

import logging
import os
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.clients import KEY, next_of, open_client, retrying_store, texts, until
from support.fake_server import FakeServer
from support.server_parts import HandClock

from securechat.client import DecryptFailed, Message
from securechat.client.store.engine import SqlStorage
from securechat.client.store.sqlcipher import EncryptedFile
from securechat.errors import SecureChatError, StoreFullError

CANARY = "canary-4711"
LONG = 30_000  # characters; a few such texts fill what is free


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(HandClock())


class Quota:
    """A file store whose size can be limited, as by a disk that is full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: list[EncryptedFile] = []
        self.storage = SqlStorage(self._open)

    def _open(self) -> EncryptedFile:
        self._files.append(EncryptedFile(self._path, KEY, os.urandom))
        return self._files[0]

    async def limit(self, more_pages: int) -> None:
        """Let the file grow by so many pages of 4,096 bytes, and no further."""
        database = self._files[0].database
        row = await self.storage.read(lambda tx: database.one("PRAGMA page_count"))
        assert row is not None
        await self.storage.read(lambda tx: database.run(f"PRAGMA max_page_count = {row[0] + more_pages}"))


@asynccontextmanager
async def quota(path: Path) -> AsyncIterator[Quota]:
    made = Quota(path)
    await made.storage.open()
    yield made
    await made.storage.close()


async def test_a_sender_with_a_full_disk_is_told_and_goes_on(server: FakeServer, tmp_path: Path) -> None:
    async with (
        quota(tmp_path / "ana.db") as disk,
        open_client(server, "ana", disk.storage) as ana,
        open_client(server, "lee") as lee,
    ):
        await (await ana.send("lee", "before")).accepted()
        await ana.disconnect()
        await disk.limit(0)
        stored = 0

        async def fill_up() -> None:
            nonlocal stored
            while stored < 50:
                await ana.send("lee", f"{stored:02}" * LONG, idempotency_key=str(stored))
                stored += 1

        with pytest.raises(StoreFullError):
            await fill_up()
        await disk.limit(1_000)
        await ana.connect()
        await ana.send("lee", f"{stored:02}" * LONG, idempotency_key=str(stored))
        wanted = [f"{number:02}" * LONG for number in range(stored + 1)]
        assert await texts(lee.events(), stored + 2) == ["before", *wanted]


async def test_a_receiver_with_a_full_disk_waits_and_loses_nothing(
    server: FakeServer, tmp_path: Path
) -> None:
    async with (
        quota(tmp_path / "lee.db") as disk,
        open_client(server, "lee", disk.storage) as lee,
        open_client(server, "ana") as ana,
    ):
        await ana.send("lee", "before")
        events = lee.events()
        assert await texts(events, 1) == ["before"]
        await disk.limit(0)
        wanted = [f"{number}" * LONG for number in range(9)]
        for text in wanted:
            await (await ana.send("lee", text)).accepted()
        await until(lambda: server.links[lee.user].attempts >= 4)
        assert server.mailboxes[server.address_of("lee")].acked < 10
        await disk.limit(1_000)
        assert await texts(events, 9) == wanted


async def test_a_directory_that_is_down_holds_a_new_senders_message_back(server: FakeServer) -> None:
    async with open_client(server, "lee") as lee, open_client(server, "ana") as ana:
        await lee.disconnect()
        await (await ana.send("lee", "first contact")).accepted()
        server.directory_online = False
        await lee.connect()
        await until(lambda: server.links[lee.user].attempts >= 4)
        assert server.mailboxes[server.address_of("lee")].acked == 0
        server.directory_online = True
        assert await texts(lee.events(), 1) == ["first contact"]


async def test_errors_logs_and_reprs_show_no_text_name_or_key(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    store = await retrying_store()
    async with open_client(server, "canary.ana", store) as ana, open_client(server, "canary.lee") as lee:
        secret = await store.read(lambda tx: tx.account.load())
        assert secret is not None
        shown.append(repr(secret))
        await ana.send("canary.lee", CANARY, idempotency_key="key")
        message = await next_of(lee.events(), Message)
        shown += [repr(message), repr(ana), repr(lee)]
        server.deliver(
            server.address_of("canary.ana"), server.address_of("canary.lee"), b"r" * 16, b"\x01\x01"
        )
        shown.append(repr(await next_of(lee.events(), DecryptFailed)))
        for user, text, key in (
            ("canary.nobody", CANARY, None),
            ("canary.lee", CANARY + "\ud800", None),
            ("canary.lee", CANARY * 10_000, None),
            ("canary.lee", CANARY + "other", "key"),
            ("canary.ana", CANARY, None),
            ("canary user", CANARY, None),
        ):
            with pytest.raises(SecureChatError) as caught:
                await ana.send(user, text, idempotency_key=key)
            shown.append("".join(traceback.format_exception(caught.value, chain=True)).split("Error")[-1])
        server.drop_connections()
        await until(lambda: ana.is_connected)
    shown += [record.getMessage() for record in caplog.records if record.name.startswith("securechat")]
    assert not [line for line in shown if "canary" in line]
