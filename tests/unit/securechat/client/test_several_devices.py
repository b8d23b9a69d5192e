"""A recipient with two devices: each gets every message once, a device that is taken off the list none."""

import pytest
from support.clients import next_of, open_client, retrying_store, texts
from support.fake_server import FakeServer
from support.identities import RepeatableRandom
from support.server_parts import HandClock

from securechat.client import SendFailed
from securechat.client.config import HOUR_MS
from securechat.client.ports import Storage, Transaction
from securechat.client.prekey_rows import save_first_pool
from securechat.client.records import AccountRecord
from securechat.crypto.secret import SecretBytes
from securechat.ids import ProtocolAddress, UserId, device_id
from securechat.protocol.devices import (
    create_device,
    encode_local_device,
    next_device_list,
    parse_account_keys,
)
from securechat.protocol.prekeys import generate_pool
from securechat.wire.devices import parse_signed_device_list
from securechat.wire.prekeys import encode_upload

LEE = UserId("lee")


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(HandClock())


async def second_device(first: Storage, server: FakeServer) -> Storage:
    """A store of a second device of the same account, whose list names both."""
    account = await first.read(lambda tx: tx.account.load())
    assert account is not None
    keys = parse_account_keys(account.account_keys.reveal())
    draw = RepeatableRandom("second device")
    address = ProtocolAddress(LEE, device_id(2))
    local, record = create_device(address, keys.signing.public, server.clock(), draw)
    current = parse_signed_device_list(account.device_list)
    signed = next_device_list(keys, current, (*current.value.devices, record), server.clock())
    pool, upload = generate_pool(local, server.clock(), draw)
    local_device = SecretBytes(encode_local_device(local))

    def fill(tx: Transaction) -> None:
        tx.account.save(
            AccountRecord(address, account.account_keys, local_device, signed.encode(), enrolled=False)
        )
        save_first_pool(tx, pool)
        tx.prekeys.set_pending_upload(encode_upload(upload))

    store = await retrying_store()
    await store.write(fill)
    return store


async def test_every_device_reads_every_message(server: FakeServer) -> None:
    first = await retrying_store()
    async with (
        open_client(server, "lee", first) as one,
        open_client(server, "ana") as ana,
        open_client(server, "lee", await second_device(first, server)) as two,
    ):
        for number in range(5):
            await (await ana.send("lee", str(number))).accepted()
        assert await texts(one.events(), 5) == list("01234")
        assert await texts(two.events(), 5) == list("01234")
        await two.send("ana", "from the second device")
        assert await texts(ana.events(), 1) == ["from the second device"]
        readers = (await ana.direct("lee")).readers()
        assert sorted(reader.user for reader in readers) == ["ana", "lee", "lee"]


async def test_a_new_device_is_found_when_the_list_is_old(server: FakeServer) -> None:
    clock = server.clock
    assert isinstance(clock, HandClock)
    first = await retrying_store()
    async with open_client(server, "lee", first) as one, open_client(server, "ana") as ana:
        await ana.send("lee", "for one")
        assert await texts(one.events(), 1) == ["for one"]
        async with open_client(server, "lee", await second_device(first, server)) as two:
            clock.advance(2 * HOUR_MS / 1_000)
            await ana.send("lee", "for both")
            assert await texts(two.events(), 1) == ["for both"]
            assert await texts(one.events(), 1) == ["for both"]


async def test_a_message_of_an_unknown_second_device_brings_the_new_list(server: FakeServer) -> None:
    first = await retrying_store()
    async with open_client(server, "lee", first) as one, open_client(server, "ana") as ana:
        await one.send("ana", "first device")
        assert await texts(ana.events(), 1) == ["first device"]
        async with open_client(server, "lee", await second_device(first, server)) as two:
            await two.send("ana", "second device")
            assert await texts(ana.events(), 1) == ["second device"]


async def test_a_message_counts_as_sent_if_one_device_takes_it(server: FakeServer) -> None:
    first, sender = await retrying_store(), await retrying_store()
    async with open_client(server, "lee", first) as one, open_client(server, "ana", sender) as ana:
        async with open_client(server, "lee", await second_device(first, server)):
            await (await ana.send("lee", "for both")).accepted()
            assert await texts(one.events(), 1) == ["for both"]
        gone = ProtocolAddress(LEE, device_id(2))
        server.gone.add(gone)
        sent = await ana.send("lee", "for one")
        await sent.accepted()
        assert await texts(one.events(), 1) == ["for one"]
        peer = await sender.read(lambda tx: tx.peers.load(LEE))
        assert peer is not None
        assert peer.fetched_ms == 0, "the list is fetched again before the next send"
        server.gone.add(server.address_of("lee"))
        server.gone.update(ProtocolAddress(LEE, record.device) for record in server.lists[LEE].value.devices)
        failed = await ana.send("lee", "for nobody")
        event = await next_of(ana.events(), SendFailed)
        assert (event.message_id, event.reason) == (failed.message_id, "unknown_recipient")


async def test_a_device_off_the_list_gets_nothing_more(server: FakeServer) -> None:
    clock = server.clock
    assert isinstance(clock, HandClock)
    first = await retrying_store()
    async with open_client(server, "lee", first) as one, open_client(server, "ana") as ana:
        async with open_client(server, "lee", await second_device(first, server)):
            await (await ana.send("lee", "for both")).accepted()
        account = await first.read(lambda tx: tx.account.load())
        assert account is not None
        both = server.lists[LEE]
        kept = [record for record in both.value.devices if record.device == one.device]
        keys = parse_account_keys(account.account_keys.reveal())
        server.lists[LEE] = next_device_list(keys, both, kept, clock())
        clock.advance(2 * HOUR_MS / 1_000)
        await (await ana.send("lee", "for one")).accepted()
        assert await texts(one.events(), 2) == ["for both", "for one"]
        to_second = [to for _, to, _ in server.accepted if to.device == 2]
        assert len(to_second) == 1
