"""A store that turns out to be an older copy of itself: the conversation heals, nothing is read twice."""

import shutil
from pathlib import Path

import pytest
from support.clients import file_store, next_of, open_client, texts, until
from support.fake_server import FakeServer
from support.server_parts import HandClock

from securechat.client import Message, StoreRestored
from securechat.client.prekey_rows import load_whole_pool


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(HandClock())


def snapshot(path: Path, folder: Path) -> None:
    """Copy a closed store, as a backup of the file alone would."""
    folder.mkdir(exist_ok=True)
    shutil.copy(path, folder / path.name)


@pytest.mark.parametrize("side_file_too", [False, True])
async def test_a_restored_store_heals_in_one_round_trip(
    server: FakeServer, tmp_path: Path, side_file_too: bool
) -> None:
    """With the side file restored as well, the server's cursor is what gives the old copy away."""
    path = tmp_path / "lee.db"
    async with open_client(server, "ana") as ana:
        async with open_client(server, "lee", await file_store(path)) as lee:
            await ana.send("lee", "one")
            assert await texts(lee.events(), 1) == ["one"]
            await lee.send("ana", "two")
            assert await texts(ana.events(), 1) == ["two"]
        for file in (path, path.with_name("lee.db.lock")):
            snapshot(file, tmp_path / "backup")
        async with open_client(server, "lee", await file_store(path)) as lee:
            await ana.send("lee", "three")
            assert await texts(lee.events(), 1) == ["three"]
            for text in ("four", "and more", "than the old copy counts"):
                await lee.send("ana", text)
                assert await texts(ana.events(), 1) == [text]
            await until(lambda: server.mailboxes[server.address_of("lee")].acked == 2)
        for name in ("lee.db", "lee.db.lock") if side_file_too else ("lee.db",):
            shutil.copy(tmp_path / "backup" / name, tmp_path / name)
        async with open_client(server, "lee", await file_store(path)) as lee:
            events = lee.events()
            await (await next_of(events, StoreRestored)).ack()
            sent = await lee.send("ana", "five")
            await sent.accepted()
            message = await next_of(ana.events(), Message)
            assert message.text == "five"
            await message.ack()
            await ana.send("lee", "six")
            assert await texts(events, 1) == ["six"]


async def test_no_prekey_id_is_given_out_twice_after_a_restore(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "lee.db"
    async with open_client(server, "lee", await file_store(path)):
        pass
    snapshot(path, tmp_path / "backup")
    store = await file_store(path)
    before = await store.read(lambda tx: tx.prekeys.next_id())
    await store.close()
    shutil.copy(tmp_path / "backup" / "lee.db", path)
    store = await file_store(path)
    async with open_client(server, "lee", store) as lee:
        await (await next_of(lee.events(), StoreRestored)).ack()
        pool = await store.read(load_whole_pool)
        assert pool is not None
        assert before is not None
        assert pool.next_id > before + 2**16
        assert len(pool.one_time) == 200


async def test_a_restored_outbox_sends_nothing_twice(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "ana.db"
    async with open_client(server, "lee") as lee:
        async with open_client(server, "ana", await file_store(path)) as ana:
            await (await ana.send("lee", "first")).accepted()
            await ana.disconnect()
            await ana.send("lee", "second")
        snapshot(path, tmp_path / "backup")
        async with open_client(server, "ana", await file_store(path)):
            assert await texts(lee.events(), 2) == ["first", "second"]
        shutil.copy(tmp_path / "backup" / "ana.db", path)
        async with open_client(server, "ana", await file_store(path)) as ana:
            await (await next_of(ana.events(), StoreRestored)).ack()
            await (await ana.send("lee", "third")).accepted()
            assert await texts(lee.events(), 1) == ["third"]
