"""Prekeys: stored before they are published, refilled, replaced weekly, dated by the server's clock."""

from pathlib import Path

import pytest
from support.clients import file_store, open_client, retrying_store, texts, until, until_stored
from support.fake_server import FakeDirectory, FakeServer
from support.server_parts import HandClock
from support.talking import strangers

from securechat.client.ports import Transaction
from securechat.client.prekey_rows import load_pool_for, load_whole_pool, save_first_pool, save_pool_change
from securechat.errors import DuplicateMessageError, TransportError
from securechat.ids import ProtocolAddress
from securechat.protocol.prekeys import PreKeyCounts, UsedHandshake, consume, handshake_of
from securechat.protocol.records import parse_record
from securechat.wire.messages import parse_prekey_message
from securechat.wire.prekeys import DAY_MS


def lee_is_in_date(server: FakeServer) -> bool:
    stock = server.stocks.get(server.address_of("lee"))
    return stock is not None and abs(stock.signed.created_ms - server.clock()) <= DAY_MS


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(HandClock())


async def test_a_new_device_has_prekeys_at_the_server_before_it_is_open(server: FakeServer) -> None:
    async with open_client(server, "lee"):
        stock = server.stocks[server.address_of("lee")]
        assert (len(stock.one_time), len(stock.kem_one_time)) == (100, 100)


async def test_what_a_crash_left_unpublished_is_published_again(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uploads: list[bytes] = []
    upload = FakeDirectory.upload_prekeys

    async def lost(self: FakeDirectory, raw: bytes) -> PreKeyCounts:
        uploads.append(raw)
        counts = await upload(self, raw)
        if len(uploads) == 1:
            raise TransportError("the answer was lost")
        return counts

    monkeypatch.setattr(FakeDirectory, "upload_prekeys", lost)
    with pytest.raises(TransportError):
        async with open_client(server, "lee", await file_store(tmp_path / "a.db")):
            pass
    async with open_client(server, "lee", await file_store(tmp_path / "a.db")):
        assert uploads[0] == uploads[1]
        stock = server.stocks[server.address_of("lee")]
        assert len(stock.one_time) == 100


async def test_a_low_supply_is_refilled_and_every_key_can_be_used(server: FakeServer) -> None:
    store = await retrying_store()
    async with open_client(server, "lee", store) as lee:
        stock = server.stocks[server.address_of("lee")]
        for keys in (stock.one_time, stock.kem_one_time):
            while len(keys) > 10:
                keys.popleft()
        await lee.disconnect()
        await lee.connect()
        await until(lambda: len(stock.one_time) == 100 and len(stock.kem_one_time) == 100)
        for keys in (stock.one_time, stock.kem_one_time):
            while len(keys) > 1:
                keys.popleft()
        async with open_client(server, "ana") as ana:
            await ana.send("lee", "with a refilled key")
            assert await texts(lee.events(), 1) == ["with a refilled key"]
        pool = await store.read(load_whole_pool)
        assert pool is not None
        assert len(pool.used) == 1
        assert len(pool.one_time) == 189


async def test_lasting_prekeys_are_replaced_weekly_and_the_old_ones_still_serve(server: FakeServer) -> None:
    clock = server.clock
    assert isinstance(clock, HandClock)
    async with open_client(server, "lee") as lee, open_client(server, "ana") as ana:
        stock = server.stocks[server.address_of("lee")]
        first = stock.signed
        await lee.disconnect()
        await (await ana.send("lee", "under the old key")).accepted()
        clock.advance(8 * DAY_MS / 1_000)
        await lee.connect()
        await until(lambda: stock.signed.id != first.id)
        assert await texts(lee.events(), 1) == ["under the old key"]


async def test_a_replaced_prekey_goes_after_its_thirty_days_between_two_replacements_too(
    server: FakeServer,
) -> None:
    clock = server.clock
    assert isinstance(clock, HandClock)
    store = await retrying_store()
    async with open_client(server, "lee", store) as lee:

        def holds_first(tx: Transaction) -> bool:
            pool = load_whole_pool(tx)
            return pool is not None and first in {secret.id for secret in (pool.signed, *pool.retired)}

        async def look_after(days: int) -> None:
            await lee.disconnect()
            clock.advance(days * DAY_MS / 1_000)
            await lee.connect()

        first = server.stocks[server.address_of("lee")].signed.id
        for _ in range(5):
            before = server.stocks[server.address_of("lee")].signed.id
            await look_after(7)
            await until(lambda old=before: server.stocks[server.address_of("lee")].signed.id != old)  # type: ignore[misc]
        assert await store.read(holds_first)
        await look_after(3)
        await until_stored(store, lambda tx: not holds_first(tx))


async def test_a_prekey_message_costs_the_same_however_many_handshakes_were_made() -> None:
    store = await retrying_store()
    pair = strangers()
    pair.first.start(pair.second.bundle())
    header = parse_prekey_message(pair.first.send(b"first")).handshake
    elsewhere = UsedHandshake(header.signed_id, b"k" * 32)
    await store.write(lambda tx: save_first_pool(tx, pair.second.pool))
    await store.write(lambda tx: tx.prekeys.save_used(elsewhere))
    pool = await store.read(lambda tx: load_pool_for(tx, header))
    assert pool is not None
    assert pool.used == frozenset()
    await store.write(lambda tx: save_pool_change(tx, pool, consume(pool, header)))
    assert set(await store.read(lambda tx: tx.prekeys.used())) == {elsewhere, handshake_of(header)}
    again = await store.read(lambda tx: load_pool_for(tx, header))
    assert again is not None
    with pytest.raises(DuplicateMessageError):
        again.check_unused(header)
    await store.close()


async def test_keys_of_a_peer_that_fell_silent_do_not_stay_in_the_store(server: FakeServer) -> None:
    clock = server.clock
    assert isinstance(clock, HandClock)
    store = await retrying_store()
    async with open_client(server, "lee", store) as lee, open_client(server, "ana") as ana:
        deliver, dropped = server.deliver, list[bytes]()

        def lossy(sender: ProtocolAddress, to: ProtocolAddress, message_id: bytes, body: bytes) -> None:
            if dropped:
                deliver(sender, to, message_id, body)
            else:
                dropped.append(body)

        server.deliver = lossy  # type: ignore[method-assign]
        await (await ana.send("lee", "never arrives")).accepted()
        await ana.send("lee", "arrives")
        assert await texts(lee.events(), 1) == ["arrives"]
        ana_address = server.address_of("ana")

        def has_skipped(tx: Transaction) -> bool:
            return bool(parse_record(tx.sessions.load(ana_address) or b"").current.ratchet.skipped)

        assert await store.read(has_skipped)
        await lee.disconnect()
        clock.advance(31 * DAY_MS / 1_000)
        await lee.connect()
        await until_stored(store, lambda tx: not has_skipped(tx))


async def test_without_one_time_keys_a_session_still_starts(server: FakeServer) -> None:
    async with open_client(server, "lee") as lee, open_client(server, "ana") as ana:
        stock = server.stocks[server.address_of("lee")]
        stock.one_time.clear()
        stock.kem_one_time.clear()
        await ana.send("lee", "last resort")
        assert await texts(lee.events(), 1) == ["last resort"]


@pytest.mark.parametrize("days", [-40, 2, 40])
async def test_a_clock_put_right_replaces_prekeys_of_the_wrong_date(server: FakeServer, days: int) -> None:
    wrong = HandClock(server.clock() + days * DAY_MS)
    async with open_client(server, "lee", clock=wrong) as lee:
        await lee.disconnect()
        wrong.now_ms = server.clock()
        await lee.connect()
        await until(lambda: lee_is_in_date(server))
