"""The path of a message in: check who it is from, open it, store it with the moved session and the cursor.

INVARIANT: the opened text, the new session state, the prekeys used up and the mailbox cursor commit together,
and only then is the relay told. A message that does not open becomes an event, it never vanishes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from securechat.client.arrival_order import with_choice
from securechat.client.config import ClientConfig
from securechat.client.peers import PeerBook, accept_waiting, find_device, shown_key
from securechat.client.ports import Storage, Transaction
from securechat.client.prekey_rows import load_pool_for, pool_without_keys, save_pool_change
from securechat.client.records import Cursor, EventKind, EventRecord, HeldEnvelope, PeerRecord
from securechat.client.sealing import Sealer
from securechat.errors import (
    CryptoError,
    DeviceListError,
    IdentityChangedError,
    InvalidSignatureError,
    NoSessionError,
    ServerError,
    SessionError,
    WireError,
)
from securechat.ids import DeviceId, MessageId, ProtocolAddress, UserId
from securechat.protocol.fingerprint import safety_number
from securechat.protocol.pqxdh import PeerDevice
from securechat.protocol.prekeys import PreKeyPool
from securechat.protocol.records import encode_record, parse_record
from securechat.protocol.session import decrypt
from securechat.wire.content import Content, ContentKind, UnknownContent, parse_content, unpad
from securechat.wire.frames import Deliver
from securechat.wire.messages import MessageKind, PreKeyMessage, message_kind, parse_prekey_message

UNKNOWN_DEVICE = "unknown_device"  # the sender's account does not list this device with these keys
IDENTITY_CHANGED = "identity_changed"
WRONG_MESSAGE_ID = "wrong_message_id"  # the relay shows another id than the sender gave the message


@dataclass(frozen=True, slots=True)
class Envelope:
    """A delivery, with its ids checked."""

    seq: int
    sender: ProtocolAddress
    message_id: MessageId
    accepted_ms: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch came: envelopes done, and whose device list is needed for the next one."""

    done: int
    needs: UserId | None
    handshakes: int
    refresh_due: bool


@dataclass(slots=True)
class _Batch:
    """What one transaction adds up."""

    handshakes: int = 0
    refresh_due: bool = False


class _NeedsListError(Exception):
    """Stops a batch: the sender's device list must be fetched first."""

    def __init__(self, user: UserId) -> None:
        super().__init__("a device list is needed")
        self.user = user


class _UnattributableError(Exception):
    """The message cannot be tied to a device of its sender; ``code`` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Receiver:
    """Takes deliveries in, in the order of the mailbox."""

    storage: Storage
    peers: PeerBook
    sealer: Sealer
    config: ClientConfig
    taken_in: Callable[[bool], None]  # something was stored; True: sessions must be made anew
    handshakes: int = 0
    no_prekeys: PreKeyPool = field(default_factory=pool_without_keys)

    def _announce(self, progress: Progress) -> None:
        self.handshakes += progress.handshakes
        self.taken_in(progress.refresh_due)

    async def take_in(self, epoch: bytes, envelopes: Sequence[Envelope]) -> None:
        """Store what ``envelopes`` hold, and tell ``taken_in`` after each commit.

        Raises TransportError if a device list is needed and cannot be had now, StoreError; what was taken in
        before that stays, the rest comes again from the mailbox.
        """
        self.sealer.fault("receive.arrived")
        verdict: str | None = None
        done = 0
        while done < len(envelopes):
            rest = envelopes[done:]
            work = partial(self._take_batch, epoch=epoch, envelopes=rest, verdict=verdict)
            progress = await self.storage.write(work, self._announce)
            done += progress.done
            verdict = None if progress.needs is None else await self._fetch_verdict(progress.needs)
        self.sealer.fault("receive.stored")

    async def accept_identity(self, user: UserId, number: str) -> None:
        """Pin the identity that waits for ``user`` and open what was held back under it, in order.

        ``number`` is its safety number as it was compared. Raises IdentityChangedError for another one: the
        server may have put a further identity in its place meanwhile.
        """
        await self.storage.write(lambda tx: self._accept_identity(tx, user, number))

    async def _fetch_verdict(self, user: UserId) -> str:
        """Fetch the list; returns the reason that holds if the sender is still not on it."""
        try:
            peer = await self.peers.fetch(user)
        except ServerError as error:
            if error.retryable:
                raise
            return error.server_code
        except (WireError, InvalidSignatureError, DeviceListError) as error:
            return error.code
        return UNKNOWN_DEVICE if peer.waiting_list is None else IDENTITY_CHANGED

    def _take_batch(
        self, tx: Transaction, *, epoch: bytes, envelopes: Sequence[Envelope], verdict: str | None
    ) -> Progress:
        batch = _Batch()
        for number, envelope in enumerate(envelopes):
            try:
                self._take(tx, epoch, envelope, verdict if number == 0 else None, batch)
            except _NeedsListError as needs:
                return Progress(number, needs.user, batch.handshakes, batch.refresh_due)
            self.sealer.fault("receive.opened")
        return Progress(len(envelopes), None, batch.handshakes, batch.refresh_due)

    def _take(
        self, tx: Transaction, epoch: bytes, envelope: Envelope, verdict: str | None, batch: _Batch
    ) -> None:
        cursor = tx.account.cursor()
        if envelope.seq and cursor is not None and cursor.epoch == epoch and envelope.seq <= cursor.seq:
            return
        if not tx.account.is_taken(envelope.sender, envelope.message_id):
            self._open_or_hold(tx, envelope, verdict, batch)
            tx.account.take(envelope.sender, envelope.message_id, self.sealer.clock.now_ms())
        if envelope.seq:  # an ephemeral delivery has none
            tx.account.move_cursor(Cursor(epoch, envelope.seq))

    def _open_or_hold(self, tx: Transaction, envelope: Envelope, verdict: str | None, batch: _Batch) -> None:
        try:
            self._open(tx, envelope, verdict, batch)
        except _UnattributableError as error:
            held = tx.peers.held(envelope.sender.user) if error.code == IDENTITY_CHANGED else ()
            if error.code == IDENTITY_CHANGED and len(held) < self.config.held_per_user:
                tx.peers.hold(
                    HeldEnvelope(0, envelope.sender, envelope.message_id, envelope.accepted_ms, envelope.body)
                )
            else:
                _add_failure(tx, envelope, error.code)

    def _open(self, tx: Transaction, envelope: Envelope, verdict: str | None, batch: _Batch) -> None:
        """Open one message into an event. Raises _NeedsListError and _UnattributableError."""
        known = tx.peers.load(envelope.sender.user)
        try:
            prekey = _prekey_part(envelope.body)
            device = _sending_device(known, envelope.sender, prekey)
            if device is None:
                raise _unattributable(envelope.sender.user, verdict)
            content = self._decrypt(tx, device, envelope.body, prekey)
        except (WireError, CryptoError, SessionError) as error:
            _add_failure(tx, envelope, error.code)
            self._note_failure(tx, known, envelope.sender, batch)
            return
        batch.handshakes += prekey is not None
        _add_content(tx, envelope, content)

    def _decrypt(
        self, tx: Transaction, device: PeerDevice, raw: bytes, prekey: PreKeyMessage | None
    ) -> Content | UnknownContent | None:
        """Decrypt and save the moved state. None: it opened, and what it holds is malformed."""
        body, now_ms = tx.sessions.load(device.address), self.sealer.clock.now_ms()
        held = None if body is None else parse_record(body)
        pool = self.no_prekeys if prekey is None else load_pool_for(tx, prekey.handshake)
        if pool is None:
            raise NoSessionError("this device has no prekeys yet")
        opened = decrypt(self.sealer.own, device, held, pool, raw, now_ms=now_ms)
        content, record = _parsed(opened.plaintext), opened.record
        if content is not None:
            record = with_choice(tx, device.address, held, record, content, raw=raw, now_ms=now_ms)
        tx.sessions.save(device.address, encode_record(record))
        save_pool_change(tx, pool, opened.prekeys)
        return content

    def _note_failure(
        self, tx: Transaction, known: PeerRecord | None, sender: ProtocolAddress, batch: _Batch
    ) -> None:
        """Ask for a new session with a listed device, at most once an hour for each."""
        if find_device(known, sender) is None:
            return
        counters = tx.peers.device(sender)
        age_ms = self.sealer.clock.now_ms() - counters.refreshed_ms
        if counters.refresh_due or age_ms < self.config.refresh_interval_ms:
            return
        tx.peers.save_device(replace(counters, refresh_due=True))
        batch.refresh_due = True

    def _accept_identity(self, tx: Transaction, user: UserId, number: str) -> None:
        peer, own = tx.peers.load(user), self.sealer.own
        if peer is not None and peer.waiting_list is not None:
            waiting = safety_number(own.address.user, own.account, user, shown_key(peer))
            if waiting.split() != number.split():
                raise IdentityChangedError("the identity that waits is not the one that was compared")
        accept_waiting(tx, user, self.sealer.clock.now_ms())
        for held in tx.peers.held(user):
            envelope = Envelope(0, held.sender, held.message_id, held.accepted_ms, held.body)
            try:
                self._open(tx, envelope, UNKNOWN_DEVICE, _Batch())
            except _UnattributableError as error:
                _add_failure(tx, envelope, error.code)
            tx.peers.release(held)


def envelope_of(frame: Deliver) -> Envelope:
    """Return a delivery, whose ids the frame's schema has checked."""
    return Envelope(
        seq=frame.seq,
        sender=ProtocolAddress(UserId(frame.user), DeviceId(frame.device)),
        message_id=MessageId(frame.message_id),
        accepted_ms=frame.accepted_ms,
        body=frame.body,
    )


def _prekey_part(raw: bytes) -> PreKeyMessage | None:
    return parse_prekey_message(raw) if message_kind(raw) is MessageKind.PREKEY else None


def _sending_device(
    known: PeerRecord | None, sender: ProtocolAddress, prekey: PreKeyMessage | None
) -> PeerDevice | None:
    """Return the listed device, if a prekey message claims exactly its keys."""
    device = find_device(known, sender)
    if device is None or prekey is None:
        return device
    claimed = prekey.sender
    if (claimed.account, claimed.signing, claimed.agreement) != (
        device.account,
        device.signing,
        device.agreement,
    ):
        return None
    return device


def _parsed(plaintext: bytes) -> Content | UnknownContent | None:
    try:
        return parse_content(unpad(plaintext))
    except WireError:
        return None


def _unattributable(user: UserId, verdict: str | None) -> Exception:
    return _NeedsListError(user) if verdict is None else _UnattributableError(verdict)


def _add_content(tx: Transaction, envelope: Envelope, content: Content | UnknownContent | None) -> None:
    if content is None:
        _add_failure(tx, envelope, WireError.code)
    elif content.message_id != envelope.message_id:
        _add_failure(tx, envelope, WRONG_MESSAGE_ID)
    elif isinstance(content, UnknownContent):
        tx.inbox.add(
            EventRecord(
                EventKind.UNSUPPORTED,
                user=envelope.sender.user,
                device=envelope.sender.device,
                message_id=envelope.message_id,
                counter=content.kind,
                accepted_ms=envelope.accepted_ms,
            )
        )
    elif content.kind is ContentKind.TEXT:
        tx.inbox.add(
            EventRecord(
                EventKind.MESSAGE,
                user=envelope.sender.user,
                device=envelope.sender.device,
                message_id=envelope.message_id,
                reply_to=content.reply_to or b"",
                counter=content.counter,
                sent_ms=content.sent_ms,
                accepted_ms=envelope.accepted_ms,
                text=content.text,
            )
        )


def _add_failure(tx: Transaction, envelope: Envelope, code: str) -> None:
    tx.inbox.add(
        EventRecord(
            EventKind.DECRYPT_FAILED,
            user=envelope.sender.user,
            device=envelope.sender.device,
            message_id=envelope.message_id,
            accepted_ms=envelope.accepted_ms,
            code=code,
        )
    )
