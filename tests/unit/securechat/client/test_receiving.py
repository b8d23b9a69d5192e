"""Receiving: once, in order, from the right device; what does not open is shown and healed."""

import asyncio
from pathlib import Path

import pytest
from support.clients import file_store, next_of, open_client, retrying_store, texts, until
from support.fake_server import FakeServer, Mailbox
from support.identities import RepeatableRandom, make_person
from support.server_parts import HandClock

from securechat.client import (
    Client,
    DecryptFailed,
    IdentityChanged,
    Message,
    Unsupported,
)
from securechat.client.config import HOUR_MS
from securechat.client.ports import Storage, Transaction
from securechat.client.records import Cursor
from securechat.errors import DeviceListError, IdentityChangedError
from securechat.ids import DeviceId, MessageId, ProtocolAddress, UserId
from securechat.protocol.devices import create_account, verified_devices
from securechat.protocol.prekey_rows import parse_secret
from securechat.protocol.records import encode_record, parse_record
from securechat.protocol.session import encrypt, start_session
from securechat.wire.content import Content, ContentKind, UnknownContent, encode_content, pad
from securechat.wire.prekeys import parse_bundle


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(HandClock())


async def talked(ana: Client, lee: Client) -> None:
    """Let both sides hold an answered session."""
    await ana.send("lee", "hello")
    assert await texts(lee.events(), 1) == ["hello"]
    await lee.send("ana", "hello back")
    assert await texts(ana.events(), 1) == ["hello back"]


async def test_a_message_delivered_twice_is_told_once(server: FakeServer) -> None:
    store = await retrying_store()
    async with open_client(server, "ana") as ana, open_client(server, "lee", store) as lee:
        await ana.send("lee", "once")
        events = lee.events()
        assert await texts(events, 1) == ["once"]
        mailbox = server.mailboxes[server.address_of("lee")]
        sender, _, message_id = server.accepted[0]
        await ana.send("lee", "twice")
        assert await texts(events, 1) == ["twice"]
        replayed = await store.read(lambda tx: tx.account.is_taken(sender, message_id))  # type: ignore[arg-type]
        assert replayed
        mailbox.ids.clear()
        server.deliver(sender, server.address_of("lee"), message_id, b"the same id again")
        await ana.send("lee", "after")
        assert await texts(events, 1) == ["after"]


async def test_a_replay_under_another_id_is_shown_not_told_again(server: FakeServer) -> None:
    seen: list[bytes] = []
    deliver = server.deliver

    def tapped(sender: ProtocolAddress, to: ProtocolAddress, message_id: bytes, body: bytes) -> None:
        seen.append(body)
        deliver(sender, to, message_id, body)

    server.deliver = tapped  # type: ignore[method-assign]
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await talked(ana, lee)
        await ana.send("lee", "once")
        events = lee.events()
        assert await texts(events, 1) == ["once"]
        deliver(server.address_of("ana"), server.address_of("lee"), b"r" * 16, seen[-1])
        failed = await next_of(events, DecryptFailed)
        assert failed.reason == "duplicate"


async def test_a_mailbox_of_a_new_epoch_starts_again_without_doubles(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        events = lee.events()
        for number in range(5):
            await ana.send("lee", str(number))
        assert await texts(events, 5) == list("01234")
        old = server.mailboxes[server.address_of("lee")]
        kept = list(old.items)
        server.drop_connections()
        restored = Mailbox(epoch=b"f" * 16)
        restored.items.extend(kept)
        server.mailboxes[server.address_of("lee")] = restored
        restored.next_seq = 1
        server.drop_connections()
        await ana.send("lee", "after the restore")
        assert await texts(events, 1) == ["after the restore"]


async def test_a_relay_that_swaps_the_ids_of_two_messages_is_caught(server: FakeServer) -> None:
    """A reply names its message by the id, and must not come to stand under another question."""
    held: list[tuple[ProtocolAddress, ProtocolAddress, bytes, bytes]] = []
    deliver = server.deliver
    server.deliver = lambda *what: held.append(what)  # type: ignore[method-assign]
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await ana.send("lee", "5 mg?")
        await ana.send("lee", "50 mg?")
        await until(lambda: len(held) == 2)
        (sender, to, first_id, first), (_, _, second_id, second) = held
        deliver(sender, to, second_id, first)
        deliver(sender, to, first_id, second)
        events = lee.events()
        for _ in range(2):
            failed = await next_of(events, DecryptFailed)
            assert failed.reason == "wrong_message_id"
            await failed.ack()
        await ana.send("lee", "in between")
        await until(lambda: len(held) == 3)
        deliver(*held[2])
        assert await texts(events, 1) == ["in between"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "malformed"),
        (b"\x01\x01" + b"\x00" * 200, "cannot_decrypt"),
        (b"\x01\x02" + b"\x00" * 3_000, "malformed"),
        (b"\x07\x01" + b"\x00" * 200, "malformed"),
    ],
)
async def test_rubbish_is_shown_with_a_reason_and_does_no_harm(
    server: FakeServer, body: bytes, reason: str
) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await talked(ana, lee)
        events = lee.events()
        server.deliver(server.address_of("ana"), server.address_of("lee"), b"r" * 16, body)
        failed = await next_of(events, DecryptFailed)
        assert (failed.reason, failed.sender) == (reason, "ana")
        await failed.ack()
        await ana.send("lee", "still good")
        assert await texts(events, 1) == ["still good"]


async def test_a_sender_that_nobody_knows_is_shown(server: FakeServer) -> None:
    stranger = make_person("stranger")
    async with open_client(server, "lee") as lee:
        server.deliver(
            stranger.local.address, server.address_of("lee"), b"r" * 16, b"\x01\x01" + b"\x00" * 200
        )
        assert (await next_of(lee.events(), DecryptFailed)).reason == "unknown_user"


async def test_a_device_that_the_account_does_not_list_is_refused(server: FakeServer) -> None:
    """A server that adds a device of its own to an account: the account key has not signed it."""
    mallory = make_person("ana", device=99, random_bytes=RepeatableRandom("mallory"))
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await talked(ana, lee)
        claimed = server.directory(mallory.local.address)
        bundle = parse_bundle((await claimed.claim_bundle(server.address_of("lee"), "k")).bundle)
        peer = verified_devices(server.lists[lee.user], user=lee.user, pinned_account=None, last_seen=None)[0]
        record = start_session(
            mallory.local, peer, bundle, None, now_ms=server.clock(), random_bytes=RepeatableRandom("s")
        )
        plaintext = pad(encode_content(UnknownContent(77, MessageId(b"r" * 16), 1, 1, None, b"")))
        _, sealed = encrypt(record, plaintext, now_ms=server.clock(), random_bytes=RepeatableRandom("m"))
        server.deliver(mallory.local.address, server.address_of("lee"), b"r" * 16, sealed)
        failed = await next_of(lee.events(), DecryptFailed)
        assert failed.reason == "unknown_device"


async def crafted(server: FakeServer, store: Storage, content: Content | UnknownContent) -> None:
    """Deliver ``content`` from ana, whose store this is, to lee."""
    lee_address = server.address_of("lee")

    def seal(tx: Transaction) -> bytes:
        record = parse_record(tx.sessions.load(lee_address) or b"")
        plaintext = pad(encode_content(content))
        record, sealed = encrypt(record, plaintext, now_ms=server.clock(), random_bytes=RepeatableRandom("f"))
        tx.sessions.save(lee_address, encode_record(record))
        return sealed

    server.deliver(server.address_of("ana"), lee_address, content.message_id, await store.write(seal))


async def test_a_kind_of_the_future_is_told_as_such(server: FakeServer) -> None:
    store = await retrying_store()
    async with open_client(server, "ana", store) as ana, open_client(server, "lee") as lee:
        await talked(ana, lee)
        await crafted(server, store, UnknownContent(77, MessageId(b"u" * 16), 2, 1, None, b"future"))
        event = await next_of(lee.events(), Unsupported)
        assert (event.kind, event.sender) == (77, "ana")


@pytest.mark.parametrize(("counter", "sent_ms"), [(2**63, 1), (1, 2**64 - 1)])
async def test_a_number_that_no_store_can_hold_does_not_stop_the_receiver(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, counter: int, sent_ms: int
) -> None:
    """Raised while storing it, an error would come again at each start."""
    store = await retrying_store()
    async with open_client(server, "ana", store) as ana, open_client(server, "lee") as lee:
        await talked(ana, lee)
        content = Content(ContentKind.TEXT, MessageId(b"p" * 16), counter, sent_ms, None, b"poison")
        with monkeypatch.context() as patched:
            patched.setattr("securechat.wire.content._check", lambda _: None)  # which would not write it
            raw = encode_content(content)
        monkeypatch.setattr(f"{__name__}.encode_content", lambda _: raw)
        await crafted(server, store, content)
        events = lee.events()
        failed = await next_of(events, DecryptFailed)
        assert failed.reason == "malformed"
        await failed.ack()
        await ana.send("lee", "after")
        assert await texts(events, 1) == ["after"]


async def test_a_broken_session_heals_at_once_but_once_an_hour(server: FakeServer) -> None:
    clock = server.clock
    assert isinstance(clock, HandClock)
    store = await retrying_store()
    async with open_client(server, "ana") as ana, open_client(server, "lee", store) as lee:
        await talked(ana, lee)
        ana_address = server.address_of("ana")
        events = lee.events()

        async def break_and_send() -> None:
            await store.write(lambda tx: tx.sessions.remove(ana_address))
            await ana.send("lee", "unreadable")
            failed = await next_of(events, DecryptFailed)
            assert failed.reason == "no_session"
            await failed.ack()

        async def healed(claims: int) -> None:
            """One more bundle claimed, and the news of the new session taken in at ana's."""
            await until(lambda: server.claims == claims)
            await until(lambda: server.mailboxes[ana_address].acked == claims)

        await break_and_send()
        await healed(claims=2)
        await ana.send("lee", "healed")
        assert await texts(events, 1) == ["healed"]
        await break_and_send()
        await break_and_send()
        assert not await store.read(lambda tx: tx.peers.refresh_due()), "not twice in an hour"
        clock.advance(HOUR_MS / 1_000)
        await break_and_send()
        await healed(claims=3)
        await ana.send("lee", "healed again")
        assert await texts(events, 1) == ["healed again"]


async def test_a_first_message_whose_prekeys_are_gone_does_not_silence_its_sender(server: FakeServer) -> None:
    """As after a restored key server: its prekey was handed out twice, and the first taker has used it."""
    for number in range(6):  # whose session has the lower id is a matter of chance
        ana_user, lee_user, store = f"ana{number}", f"lee{number}", await retrying_store()
        async with open_client(server, ana_user) as ana, open_client(server, lee_user, store) as lee:
            await store.write(_lose_one_time_prekeys)
            await ana.send(lee_user, "lost")
            events = lee.events()
            failed = await next_of(events, DecryptFailed)
            assert failed.reason == "stale_prekey"
            await failed.ack()
            ana_address = server.address_of(ana_user)
            await until(lambda at=ana_address: server.mailbox(at).acked == 1)  # type: ignore[misc]
            await ana.send(lee_user, "read")
            assert await texts(events, 1) == ["read"]


def _lose_one_time_prekeys(tx: Transaction) -> None:
    for secret in map(parse_secret, tx.prekeys.one_time()):
        tx.prekeys.remove_secret(secret.kind, secret.id)


async def test_a_new_identity_blocks_sending_until_it_is_accepted(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana:
        async with open_client(server, "lee") as lee:
            await talked(ana, lee)
            before = (await ana.direct("lee")).safety_number()
        del server.lists[UserId("lee")]
        async with open_client(server, "lee") as new_lee:
            await new_lee.send("ana", "it is me, on a new phone")
            events = ana.events()
            changed = await next_of(events, IdentityChanged)
            assert changed.user == "lee"
            await changed.ack()
            with pytest.raises(IdentityChangedError):
                await ana.send("lee", "who are you?")
            conversation = await ana.direct("lee")
            assert conversation.identity_waits
            assert conversation.safety_number() != before
            assert conversation.safety_number() == (await new_lee.direct("ana")).safety_number()
            await ana.accept_identity("lee", conversation.safety_number())
            message = await next_of(events, Message)
            assert message.text == "it is me, on a new phone"
            await message.ack()
            assert not (await ana.direct("lee")).identity_waits
            await ana.send("lee", "welcome back")
            assert await texts(new_lee.events(), 1) == ["welcome back"]


async def test_a_server_that_swaps_the_identity_after_the_comparison_gains_nothing(
    server: FakeServer,
) -> None:
    clock = server.clock
    assert isinstance(clock, HandClock)
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await talked(ana, lee)
        device = server.address_of("lee").device
        new_phone, servers_own = (
            create_account(UserId("lee"), device, clock(), RepeatableRandom(seed))[2]
            for seed in ("new phone", "server")
        )
        events = ana.events()
        server.lists[UserId("lee")] = new_phone
        clock.advance(2 * HOUR_MS / 1_000)
        compared = (await ana.direct("lee")).safety_number()
        await (await next_of(events, IdentityChanged)).ack()
        server.lists[UserId("lee")] = servers_own
        stray = ProtocolAddress(UserId("lee"), DeviceId(99))  # makes the client fetch the list
        server.deliver(stray, server.address_of("ana"), b"s" * 16, b"\x01\x01" + bytes(200))
        assert (await next_of(events, IdentityChanged)).user == "lee"
        with pytest.raises(IdentityChangedError):
            await ana.accept_identity("lee", compared)
        conversation = await ana.direct("lee")
        assert conversation.identity_waits
        assert conversation.safety_number() != compared


async def test_held_messages_come_in_order_and_are_bounded(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana:
        async with open_client(server, "lee") as lee:
            await talked(ana, lee)
        del server.lists[UserId("lee")]
        async with open_client(server, "lee") as new_lee:
            for number in range(7):
                await (await new_lee.send("ana", str(number))).accepted()
            events = ana.events()
            await (await next_of(events, IdentityChanged)).ack()
            await ana.accept_identity("lee", (await ana.direct("lee")).safety_number())
            assert await texts(events, 7) == list("0123456")


async def test_an_identity_that_returns_needs_no_consent(server: FakeServer) -> None:
    clock = server.clock
    assert isinstance(clock, HandClock)
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await talked(ana, lee)
        true_list = server.lists[UserId("lee")]
        _, _, false_list = create_account(
            UserId("lee"), server.address_of("lee").device, clock(), RepeatableRandom("false")
        )
        server.lists[UserId("lee")] = false_list
        clock.advance(2 * HOUR_MS / 1_000)
        with pytest.raises(IdentityChangedError):
            await ana.send("lee", "kept back")
        server.lists[UserId("lee")] = true_list
        clock.advance(2 * HOUR_MS / 1_000)
        with pytest.raises(IdentityChangedError):
            await ana.send("lee", "still kept back until the list is fetched again")
        assert not (await ana.direct("lee")).identity_waits
        await ana.send("lee", "goes")
        assert await texts(lee.events(), 1) == ["goes"]


async def test_a_forged_list_stops_the_first_contact(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee"):
        server.lists[UserId("lee")] = make_person("kim").device_list
        with pytest.raises(DeviceListError):
            await ana.direct("lee")


async def test_messages_of_several_senders_keep_each_senders_order(server: FakeServer) -> None:
    async with (
        open_client(server, "ana") as ana,
        open_client(server, "kim") as kim,
        open_client(server, "lee") as lee,
    ):

        async def write(client: Client, name: str) -> None:
            for number in range(25):
                await client.send("lee", f"{name} {number}")

        await asyncio.gather(write(ana, "ana"), write(kim, "kim"))
        found = await texts(lee.events(), 50)
        for name in ("ana", "kim"):
            assert [text for text in found if text.startswith(name)] == [f"{name} {n}" for n in range(25)]


async def test_the_cursor_is_stored_with_the_message(server: FakeServer, tmp_path: Path) -> None:
    async with open_client(server, "ana") as ana:
        async with open_client(server, "lee", await file_store(tmp_path / "lee.db")) as lee:
            await ana.send("lee", "text")
            await texts(lee.events(), 1)
        store = await file_store(tmp_path / "lee.db")
        mailbox = server.mailboxes[server.address_of("lee")]
        assert await store.read(lambda tx: tx.account.cursor()) == Cursor(mailbox.epoch, 1)
        await store.close()
