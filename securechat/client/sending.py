"""The path of a message out: queue, seal, hand to the outbox; what the server answers ends it.

A message is durable from the moment that ``send`` returns. Where the recipient's keys are missing and the
server cannot be reached, it waits in the queue, and later messages to the same user wait behind it.
"""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final
from weakref import WeakValueDictionary

from securechat.client.config import ClientConfig
from securechat.client.peers import PeerBook, check_unchanged, find_device, store_list
from securechat.client.ports import ClaimedBundle, KeyDirectory, Storage, Transaction
from securechat.client.records import (
    EventKind,
    EventRecord,
    MessageState,
    OutboxEnvelope,
    OutgoingMessage,
    PeerRecord,
)
from securechat.client.sealing import Sealer
from securechat.client.waiters import Waiters
from securechat.errors import (
    IdempotencyConflictError,
    MessageRefusedError,
    SecureChatError,
    SendFailedError,
    ServerError,
    StalePreKeyError,
    StoreError,
    TransportError,
)
from securechat.ids import MESSAGE_ID_BYTES, MessageId, ProtocolAddress, UserId
from securechat.protocol.pqxdh import PeerDevice
from securechat.wire.content import MAX_TEXT_BYTES, ContentKind
from securechat.wire.prekeys import parse_bundle

MAX_KEY_CHARS: Final = 200
NO_DEVICE: Final = "no_device"
DEVICE_IS_GONE: Final = frozenset({"unknown_recipient", "unknown_device"})
_CLAIM_KEY_BYTES: Final = 16
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Enqueued:
    """What became of a message in its first transaction."""

    message_id: MessageId
    state: MessageState
    needs_keys: bool


class Sender:
    """Sends to users; one network errand at a time for each of them."""

    def __init__(
        self,
        storage: Storage,
        directory: KeyDirectory,
        peers: PeerBook,
        sealer: Sealer,
        *,
        config: ClientConfig,
        waiters: Waiters,
        wake_outbox: Callable[[], None],
        wake_chores: Callable[[], None],
        announce: Callable[[], None],
    ) -> None:
        self._storage = storage
        self._directory = directory
        self._peers = peers
        self._sealer = sealer
        self._config = config
        self._waiters = waiters
        self._wake_outbox = wake_outbox
        self._wake_chores = wake_chores
        self._announce = announce
        self._locks: WeakValueDictionary[UserId, asyncio.Lock] = WeakValueDictionary()
        self._asking: Counter[UserId] = Counter()  # sends under way
        self._put_off: set[UserId] = set()

    async def send_text(
        self, user: UserId, text: str, *, idempotency_key: str | None, reply_to: MessageId | None
    ) -> MessageId:
        """Store a text for ``user`` and return its id; the same key returns the same message.

        Raises MessageRefusedError, IdempotencyConflictError, IdentityChangedError, ServerError (such as
        ``unknown_user`` and ``no_prekeys``), DeviceListError, AuthenticationError, StoreError. Does not raise
        for a server that cannot be reached.
        """
        body = text_bytes(text)
        _check_key(idempotency_key)
        digest = hashlib.sha256(user.encode() + b"\x00" + (reply_to or b"") + b"\x00" + body).digest()
        message = OutgoingMessage(
            message_id=MessageId(self._sealer.random_bytes(MESSAGE_ID_BYTES)),
            user=user,
            kind=ContentKind.TEXT,
            digest=digest,
            body=body,
            reply_to=reply_to,
            idempotency_key=idempotency_key,
            state=MessageState.QUEUED,
            code="",
            created_ms=self._sealer.clock.now_ms(),
        )
        with self._asking_for(user):
            done = await self._storage.write(lambda tx: self._enqueue(tx, message), self._stored)
            if done.needs_keys:
                await self._provide_keys_for(done.message_id, user)
        self._sealer.fault("send.stored")
        return done.message_id

    def leaves_to_a_send(self, user: UserId) -> bool:
        """Whether a send asks for the keys of ``user`` just now: its caller is told, so nobody else asks.

        What is queued besides is looked at again when that send is through.
        """
        if not self._asking[user]:
            return False
        self._put_off.add(user)
        return True

    @contextmanager
    def _asking_for(self, user: UserId) -> Iterator[None]:
        self._asking[user] += 1
        try:
            yield
        finally:
            self._asking[user] -= 1
            if not self._asking[user]:
                del self._asking[user]
                if user in self._put_off:
                    self._put_off.discard(user)
                    self._wake_chores()

    def _stored(self, _: object) -> None:
        """The outbox may have grown, also for a caller who gave up waiting."""
        self._wake_outbox()

    async def seal_queued(self, user: UserId) -> None:
        """Fetch what is missing and seal all that is queued for ``user``. Raises as ``send_text``."""
        lock = self._locks.setdefault(user, asyncio.Lock())
        async with lock:
            peer = await self._peers.known(user)
            missing = await self._storage.read(lambda tx: self._sealer.devices_without_session(tx, peer))
            refusal: SecureChatError | None = None
            for device in missing:
                try:
                    await self.start_session(device)
                except (ServerError, StalePreKeyError) as error:
                    if isinstance(error, ServerError) and error.retryable:
                        raise
                    refusal = error
                    await self.give_up_refresh(device.address)
            sealed = await self._storage.write(lambda tx: self._seal_known(tx, user), self._stored)
            if not sealed:
                raise refusal or SendFailedError(NO_DEVICE)

    async def fail_queued(self, user: UserId, code: str) -> None:
        """End all that is queued for ``user``, with an event for each message."""

        def tell(failed: Sequence[MessageId]) -> None:
            for message_id in failed:
                self.settle(message_id, MessageState.FAILED, code)

        await self._storage.write(lambda tx: _fail_queued(tx, user, code), tell)

    async def refresh_session(self, address: ProtocolAddress) -> None:
        """Make the session with one device anew and tell that device. Raises as ``start_session``."""
        peer = await self._peers.known(address.user)
        device = find_device(peer, address)
        if device is None:
            await self._storage.write(lambda tx: self._end_refresh(tx, address))
            return
        await self.start_session(device, refresh=True)
        self._wake_outbox()

    async def give_up_refresh(self, address: ProtocolAddress) -> None:
        """Do not try again to make this session anew until the peer causes it."""
        await self._storage.write(lambda tx: self._end_refresh(tx, address))

    async def start_session(self, device: PeerDevice, *, refresh: bool = False) -> None:
        """Claim a bundle of ``device`` and start a session from it.

        Raises TransportError, ServerError (``no_prekeys``, ``rate_limited``), IdentityChangedError,
        DeviceListError, InvalidSignatureError, StalePreKeyError, StoreError.
        """
        key = self._sealer.random_bytes(_CLAIM_KEY_BYTES).hex()
        claimed = await self._directory.claim_bundle(device.address, key)
        await self._storage.write(lambda tx: self._start(tx, device.address, claimed, refresh=refresh))

    async def confirm(self, accepted: Sequence[OutboxEnvelope]) -> None:
        """Strike accepted envelopes from the outbox. Raises StoreError."""
        await self._storage.write(lambda tx: _confirm(tx, accepted), self._tell_accepted)

    def _tell_accepted(self, finished: Sequence[MessageId]) -> None:
        self._sealer.fault("send.confirmed")
        for message_id in finished:
            self._waiters.settle(message_id)

    async def refuse(self, envelope: OutboxEnvelope, code: str) -> None:
        """Strike an envelope that the server will never take; the message fails if no device took it."""
        await self._storage.write(
            lambda tx: refuse_envelope(tx, envelope, code),
            lambda fate: self.settle(envelope.message_id, fate, code),
        )

    def settle(self, message_id: MessageId, fate: MessageState, code: str) -> None:
        """Tell who waits for the message, if its fate is sealed."""
        if fate is MessageState.FAILED:
            self._announce()
            self._waiters.settle(message_id, SendFailedError(code))
        elif fate is MessageState.ACCEPTED:
            self._waiters.settle(message_id)

    def _enqueue(self, tx: Transaction, message: OutgoingMessage) -> _Enqueued:
        earlier = None if message.idempotency_key is None else tx.outbox.by_key(message.idempotency_key)
        if earlier is not None:
            if earlier.digest != message.digest:
                raise IdempotencyConflictError("the idempotency key belongs to another message")
            if earlier.state is not MessageState.FAILED:
                return _Enqueued(earlier.message_id, earlier.state, earlier.state is MessageState.QUEUED)
            tx.outbox.forget(earlier.message_id)
        peer = tx.peers.load(message.user)
        if peer is not None:
            check_unchanged(peer)
        tx.outbox.add_message(message)
        sealed = peer is not None and self._is_ready(tx, peer) and self._sealer.seal_queue(tx, peer)
        state = MessageState.SEALED if sealed else MessageState.QUEUED
        return _Enqueued(message.message_id, state, not sealed)

    def _is_ready(self, tx: Transaction, peer: PeerRecord) -> bool:
        age_ms = self._sealer.clock.now_ms() - peer.fetched_ms
        fresh = age_ms <= self._config.device_list_max_age_ms
        return fresh and not self._sealer.devices_without_session(tx, peer)

    async def _provide_keys_for(self, message_id: MessageId, user: UserId) -> None:
        """Seal the new message if the server lets us, leave it queued if it cannot be reached."""
        try:
            await self.seal_queued(user)
        except asyncio.CancelledError:
            self._wake_chores()  # the message stands: whoever gave up waiting has sent it all the same
            raise
        except ServerError as error:
            if error.retryable:
                self._wake_chores()
                return
            await self._give_up(message_id, error.server_code)
            raise
        except TransportError:
            self._wake_chores()
        except StoreError:
            raise
        except SecureChatError as error:
            reason = error.reason if isinstance(error, SendFailedError) else error.code
            await self._give_up(message_id, reason)
            raise

    async def _give_up(self, message_id: MessageId, code: str) -> None:
        """Fail one message whose sender is told by an exception, so without an event."""

        def tell(_: object) -> None:
            self._announce()
            self._waiters.settle(message_id, SendFailedError(code))

        await self._storage.write(lambda tx: _fail_if_queued(tx, message_id, code), tell)

    def _seal_known(self, tx: Transaction, user: UserId) -> bool:
        peer = tx.peers.load(user)
        if peer is None:
            return False
        check_unchanged(peer)
        return bool(self._sealer.seal_queue(tx, peer)) or not tx.outbox.queued(user)

    def _start(
        self, tx: Transaction, address: ProtocolAddress, claimed: ClaimedBundle, *, refresh: bool
    ) -> None:
        peer, _ = store_list(tx, address.user, claimed.device_list, self._sealer.clock.now_ms())
        check_unchanged(peer)
        device = find_device(peer, address)
        if device is None:
            self._end_refresh(tx, address)
            return
        if not refresh and not self._sealer.needs_start(tx, address):
            return  # the peer started one meanwhile
        self._sealer.start(tx, device, parse_bundle(claimed.bundle))
        if refresh:
            self._end_refresh(tx, address)
            self._sealer.seal_refresh(tx, address)

    def _end_refresh(self, tx: Transaction, address: ProtocolAddress) -> None:
        counters = tx.peers.device(address)
        now_ms = self._sealer.clock.now_ms()
        tx.peers.save_device(replace(counters, refreshed_ms=now_ms, refresh_due=False))


def text_bytes(text: str) -> bytes:
    """Return a text's UTF-8 bytes. Raises MessageRefusedError unless there are 1 to 65,536 of them."""
    if _SURROGATE.search(text) is not None:
        # looked for beforehand: the encoder's own error would carry the text
        raise MessageRefusedError("the text is not Unicode: it holds half of a character")
    body = text.encode()
    if not 1 <= len(body) <= MAX_TEXT_BYTES:
        raise MessageRefusedError(f"a text has 1 to {MAX_TEXT_BYTES} bytes of UTF-8, not {len(body)}")
    return body


def refuse_envelope(tx: Transaction, envelope: OutboxEnvelope, code: str) -> MessageState:
    """Remove an envelope for good. Returns the message's fate: SEALED while other envelopes are open.

    A message that at least one device was sent counts as accepted; one that none was has failed.
    """
    tx.outbox.remove_envelope(envelope.position)
    if code in DEVICE_IS_GONE:
        _distrust_list(tx, envelope.address.user)
    message = tx.outbox.message(envelope.message_id)
    if message is None or tx.outbox.has_envelopes(envelope.message_id):
        return MessageState.SEALED
    if message.state is MessageState.SEALED:
        _fail(tx, message, code)
        return MessageState.FAILED
    return message.state


def _check_key(idempotency_key: str | None) -> None:
    if idempotency_key is not None and not 1 <= len(idempotency_key) <= MAX_KEY_CHARS:
        raise MessageRefusedError(f"an idempotency key has 1 to {MAX_KEY_CHARS} characters")


def _confirm(tx: Transaction, accepted: Sequence[OutboxEnvelope]) -> list[MessageId]:
    for envelope in accepted:
        tx.outbox.remove_envelope(envelope.position)
        tx.outbox.set_state(envelope.message_id, MessageState.ACCEPTED)
    return [envelope.message_id for envelope in accepted if not tx.outbox.has_envelopes(envelope.message_id)]


def _distrust_list(tx: Transaction, user: UserId) -> None:
    """Have the device list of ``user`` fetched again before the next send."""
    peer = tx.peers.load(user)
    if peer is not None:
        tx.peers.save(replace(peer, fetched_ms=0))


def _fail_queued(tx: Transaction, user: UserId, code: str) -> list[MessageId]:
    queued = tx.outbox.queued(user)
    for message in queued:
        _fail(tx, message, code)
    return [message.message_id for message in queued]


def _fail_if_queued(tx: Transaction, message_id: MessageId, code: str) -> None:
    message = tx.outbox.message(message_id)
    if message is not None and message.state is MessageState.QUEUED:
        tx.outbox.set_state(message_id, MessageState.FAILED, code)


def _fail(tx: Transaction, message: OutgoingMessage, code: str) -> None:
    tx.outbox.set_state(message.message_id, MessageState.FAILED, code)
    tx.inbox.add(
        EventRecord(EventKind.SEND_FAILED, user=message.user, message_id=message.message_id, code=code)
    )
