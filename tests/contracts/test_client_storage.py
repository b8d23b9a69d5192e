"""What every client store promises, asked of the encrypted file and of memory."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.clients import file_store, retrying_store

from securechat.client.ports import Storage, Transaction
from securechat.client.records import (
    AccountRecord,
    Cursor,
    EventKind,
    EventRecord,
    HeldEnvelope,
    MessageState,
    OutgoingMessage,
    PeerDeviceRecord,
    PeerRecord,
)
from securechat.crypto.secret import SecretBytes
from securechat.errors import StoreError
from securechat.ids import DeviceId, MessageId, ProtocolAddress, UserId
from securechat.protocol.prekeys import UsedHandshake
from securechat.wire.content import ContentKind
from securechat.wire.prekeys import PreKeyKind

LEE = ProtocolAddress(UserId("lee"), DeviceId(4))
KIM = ProtocolAddress(UserId("kim"), DeviceId(9))


@pytest.fixture(params=["memory", "file"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    storage = await retrying_store() if request.param == "memory" else await file_store(tmp_path / "a.db")
    yield storage
    await storage.close()


def outgoing(number: int, *, user: str = "lee", key: str | None = None) -> OutgoingMessage:
    return OutgoingMessage(
        message_id=MessageId(number.to_bytes(16, "big")),
        user=UserId(user),
        kind=ContentKind.TEXT,
        digest=b"d" * 32,
        body=b"text",
        reply_to=None,
        idempotency_key=key,
        state=MessageState.QUEUED,
        code="",
        created_ms=number,
    )


async def test_a_work_that_raises_is_undone_alone(store: Storage) -> None:
    def fails(tx: Transaction) -> None:
        tx.sessions.save(KIM, b"lost")
        raise LookupError("on purpose")

    good = store.write(lambda tx: tx.sessions.save(LEE, b"kept"))
    bad = store.write(fails)
    also_good = store.write(lambda tx: tx.sessions.save(LEE, b"kept too"))
    results = await asyncio.gather(good, bad, also_good, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), LookupError, type(None)]
    assert await store.read(lambda tx: tx.sessions.load(KIM)) is None
    assert await store.read(lambda tx: tx.sessions.load(LEE)) == b"kept too"


async def test_works_run_in_the_order_of_the_calls(store: Storage) -> None:
    def add(number: int) -> object:
        def work(tx: Transaction) -> None:
            tx.inbox.add(EventRecord(EventKind.MESSAGE, counter=number))

        return store.write(work)

    await asyncio.gather(*(add(number) for number in range(300)))  # type: ignore[call-overload]
    events = await store.read(lambda tx: tx.inbox.after(0, 1_000))
    assert [event.counter for event in events] == list(range(300))


async def test_a_read_sees_every_write_called_before(store: Storage) -> None:
    writing = asyncio.ensure_future(store.write(lambda tx: tx.sessions.save(LEE, b"1")))
    await asyncio.sleep(0)
    assert await store.read(lambda tx: tx.sessions.load(LEE)) == b"1"
    await writing


async def test_a_cancelled_caller_leaves_the_work_whole(store: Storage) -> None:
    writing = asyncio.ensure_future(store.write(lambda tx: tx.sessions.save(LEE, b"whole")))
    await asyncio.sleep(0)
    writing.cancel()
    assert await store.read(lambda tx: tx.sessions.load(LEE)) == b"whole"


async def test_a_closed_store_refuses(store: Storage) -> None:
    await store.close()
    await store.close()
    with pytest.raises(StoreError):
        await store.read(lambda tx: tx.sessions.addresses())


async def test_the_account_is_kept(store: Storage) -> None:
    account = AccountRecord(LEE, SecretBytes(b"a"), SecretBytes(b"b"), b"list", enrolled=False)
    assert await store.read(lambda tx: tx.account.load()) is None
    await store.write(lambda tx: tx.account.save(account))
    await store.write(lambda tx: tx.account.save(replace(account, enrolled=True)))
    assert await store.read(lambda tx: tx.account.load()) == replace(account, enrolled=True)


async def test_the_cursor_and_the_ids_taken_in_are_kept(store: Storage) -> None:
    message_id = MessageId(b"m" * 16)
    assert await store.read(lambda tx: tx.account.cursor()) is None
    await store.write(lambda tx: tx.account.move_cursor(Cursor(b"e" * 16, 7)))
    await store.write(lambda tx: tx.account.take(LEE, message_id, 100))
    assert await store.read(lambda tx: tx.account.cursor()) == Cursor(b"e" * 16, 7)
    assert await store.read(lambda tx: tx.account.is_taken(LEE, message_id))
    assert not await store.read(lambda tx: tx.account.is_taken(KIM, message_id))
    await store.write(lambda tx: tx.account.forget_taken(100))
    assert await store.read(lambda tx: tx.account.is_taken(LEE, message_id))
    await store.write(lambda tx: tx.account.forget_taken(101))
    assert not await store.read(lambda tx: tx.account.is_taken(LEE, message_id))


async def test_prekeys_are_rows(store: Storage) -> None:
    used = UsedHandshake(3, b"k" * 32)

    def fill(tx: Transaction) -> None:
        tx.prekeys.set_next_id(12)
        tx.prekeys.save_secret(PreKeyKind.SIGNED, 1, b"signed")
        tx.prekeys.save_secret(PreKeyKind.KEM_LAST_RESORT, 2, b"last")
        tx.prekeys.save_secret(PreKeyKind.ONE_TIME, 3, b"one")
        tx.prekeys.save_secret(PreKeyKind.KEM_ONE_TIME, 3, b"kem")
        tx.prekeys.save_used(used)
        tx.prekeys.set_pending_upload(b"upload")

    assert await store.read(lambda tx: tx.prekeys.next_id()) is None
    await store.write(fill)
    assert await store.read(lambda tx: tx.prekeys.next_id()) == 12
    assert await store.read(lambda tx: tx.prekeys.lasting()) == (b"signed", b"last")
    assert await store.read(lambda tx: tx.prekeys.one_time()) == (b"one", b"kem")
    assert await store.read(lambda tx: tx.prekeys.secret(PreKeyKind.KEM_ONE_TIME, 3)) == b"kem"
    assert await store.read(lambda tx: tx.prekeys.used()) == (used,)
    assert await store.read(lambda tx: tx.prekeys.is_used(used))
    assert not await store.read(lambda tx: tx.prekeys.is_used(UsedHandshake(4, used.base_key)))
    assert await store.read(lambda tx: tx.prekeys.pending_upload()) == b"upload"
    await store.write(lambda tx: tx.prekeys.remove_secret(PreKeyKind.ONE_TIME, 3))
    await store.write(lambda tx: tx.prekeys.remove_used(used))
    await store.write(lambda tx: tx.prekeys.set_pending_upload(None))
    assert await store.read(lambda tx: tx.prekeys.one_time()) == (b"kem",)
    assert await store.read(lambda tx: tx.prekeys.used()) == ()
    assert await store.read(lambda tx: tx.prekeys.pending_upload()) is None


async def test_peers_and_their_devices_are_kept(store: Storage) -> None:
    peer = PeerRecord(LEE.user, b"a" * 32, b"list", 5)
    assert await store.read(lambda tx: tx.peers.load(LEE.user)) is None
    await store.write(lambda tx: tx.peers.save(peer))
    await store.write(lambda tx: tx.peers.save(replace(peer, waiting_list=b"new")))
    assert await store.read(lambda tx: tx.peers.load(LEE.user)) == replace(peer, waiting_list=b"new")
    assert await store.read(lambda tx: tx.peers.device(LEE)) == PeerDeviceRecord(LEE)
    due = PeerDeviceRecord(LEE, sent=3, refreshed_ms=9, refresh_due=True, received=4, received_ms=7)
    await store.write(lambda tx: tx.peers.save_device(due))
    assert await store.read(lambda tx: tx.peers.device(LEE)) == due
    assert await store.read(lambda tx: tx.peers.refresh_due()) == (LEE,)


async def test_held_messages_keep_their_order(store: Storage) -> None:
    def hold(number: int) -> HeldEnvelope:
        return HeldEnvelope(0, LEE, MessageId(bytes([number]) * 16), number, b"body")

    for number in range(3):
        await store.write(lambda tx, number=number: tx.peers.hold(hold(number)))  # type: ignore[misc]
    held = await store.read(lambda tx: tx.peers.held(LEE.user))
    assert [envelope.accepted_ms for envelope in held] == [0, 1, 2]
    await store.write(lambda tx: tx.peers.release(held[0]))
    assert await store.read(lambda tx: tx.peers.held(LEE.user)) == held[1:]
    assert await store.read(lambda tx: tx.peers.held(KIM.user)) == ()


async def test_sessions_go_by_address(store: Storage) -> None:
    await store.write(lambda tx: tx.sessions.save(LEE, b"1"))
    await store.write(lambda tx: tx.sessions.save(KIM, b"2"))
    assert await store.read(lambda tx: tx.sessions.addresses()) == (KIM, LEE)
    await store.write(lambda tx: tx.sessions.remove(KIM))
    assert await store.read(lambda tx: tx.sessions.addresses()) == (LEE,)


async def test_messages_are_queued_by_user_and_found_by_key(store: Storage) -> None:
    first, second, third = outgoing(1, key="k"), outgoing(2, user="kim"), outgoing(3)
    for message in (first, second, third):
        await store.write(lambda tx, message=message: tx.outbox.add_message(message))  # type: ignore[misc]
    assert await store.read(lambda tx: tx.outbox.queued(LEE.user)) == (first, third)
    assert await store.read(lambda tx: tx.outbox.queued_users()) == (KIM.user, LEE.user)
    assert await store.read(lambda tx: tx.outbox.by_key("k")) == first
    await store.write(lambda tx: tx.outbox.set_state(first.message_id, MessageState.FAILED, "why"))
    failed = await store.read(lambda tx: tx.outbox.message(first.message_id))
    assert failed == replace(first, state=MessageState.FAILED, code="why", body=b"")
    await store.write(lambda tx: tx.outbox.forget_finished(2))
    assert await store.read(lambda tx: tx.outbox.message(first.message_id)) is None
    with pytest.raises(StoreError):
        await store.write(lambda tx: tx.outbox.add_message(third))


async def test_envelopes_keep_their_order_and_are_never_doubled(store: Storage) -> None:
    ids = [MessageId(bytes([number]) * 16) for number in range(4)]
    for message_id in ids:
        await store.write(
            lambda tx, message_id=message_id: tx.outbox.add_envelope(message_id, LEE, b"sealed", 1)  # type: ignore[misc]
        )
    found = await store.read(lambda tx: tx.outbox.envelopes(0, 3))
    assert [envelope.message_id for envelope in found] == ids[:3]
    rest = await store.read(lambda tx: tx.outbox.envelopes(found[-1].position, 3))
    assert [envelope.message_id for envelope in rest] == ids[3:]
    assert await store.read(lambda tx: tx.outbox.envelope_body(found[0].position)) == b"sealed"
    await store.write(lambda tx: tx.outbox.remove_envelope(found[0].position))
    assert await store.read(lambda tx: tx.outbox.envelope_body(found[0].position)) is None
    assert not await store.read(lambda tx: tx.outbox.has_envelopes(ids[0]))
    assert await store.read(lambda tx: tx.outbox.has_envelopes(ids[1]))
    with pytest.raises(StoreError):
        await store.write(lambda tx: tx.outbox.add_envelope(ids[1], LEE, b"again", 1))


async def test_events_are_read_in_order_until_they_are_removed(store: Storage) -> None:
    event = EventRecord(
        EventKind.MESSAGE, "lee", 4, b"m" * 16, b"r" * 16, 1, 2, 3, "text \N{ZERO WIDTH JOINER}", "code"
    )
    await store.write(lambda tx: tx.inbox.add(event))
    await store.write(lambda tx: tx.inbox.add(EventRecord(EventKind.IDENTITY_CHANGED, user="kim")))
    events = await store.read(lambda tx: tx.inbox.after(0, 10))
    assert events[0] == replace(event, position=events[0].position)
    assert [found.kind for found in events] == [EventKind.MESSAGE, EventKind.IDENTITY_CHANGED]
    assert await store.read(lambda tx: tx.inbox.last_position()) == events[1].position
    await store.write(lambda tx: tx.inbox.remove(events[0].position))
    assert await store.read(lambda tx: tx.inbox.after(0, 10)) == events[1:]
    assert await store.read(lambda tx: tx.inbox.after(events[1].position, 10)) == ()


async def test_what_was_committed_is_told_even_if_the_caller_was_cancelled(store: Storage) -> None:
    told: list[str] = []

    def work(tx: Transaction) -> str:
        tx.prekeys.set_next_id(7)
        return "committed"

    caller = asyncio.create_task(store.write(work, told.append))
    await asyncio.sleep(0)
    caller.cancel()
    assert await store.read(lambda tx: tx.prekeys.next_id()) == 7
    assert told == ["committed"]
    assert caller.cancelled()


async def test_what_failed_is_not_told_as_committed(store: Storage) -> None:
    told: list[None] = []

    def work(tx: Transaction) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(work, told.append)
    assert told == []
