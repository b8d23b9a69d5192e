"""From a queued message to sealed envelopes: steps inside one transaction, without network.

INVARIANT: the advanced session and the sealed bytes commit together; no byte leaves before that commit, and
a retry sends the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from securechat.client.clock import CorrectedClock
from securechat.client.peers import find_device, stored_devices
from securechat.client.ports import Transaction
from securechat.client.records import MessageState, OutgoingMessage, PeerRecord
from securechat.ids import MESSAGE_ID_BYTES, MessageId, ProtocolAddress
from securechat.ports import FaultHook, RandomBytes
from securechat.protocol.choice import is_forsaken
from securechat.protocol.pqxdh import LocalDevice, PeerDevice
from securechat.protocol.records import SessionRecord, encode_record, parse_record
from securechat.protocol.session import encrypt, forget_old_keys, start_session
from securechat.wire.content import Content, ContentKind, encode_content, pad
from securechat.wire.prekeys import PreKeyBundle

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Sealer:
    """What sealing needs besides the transaction."""

    own: LocalDevice
    clock: CorrectedClock
    random_bytes: RandomBytes
    fault: FaultHook

    def devices_without_session(self, tx: Transaction, peer: PeerRecord) -> tuple[PeerDevice, ...]:
        """Return the peer's devices that need a bundle before anything should be sealed for them."""
        return tuple(device for device in self.recipients(peer) if self.needs_start(tx, device.address))

    def needs_start(self, tx: Transaction, address: ProtocolAddress) -> bool:
        """Say whether there is no session with ``address``, or one that it has left unanswered for too long.

        One that is unanswered still seals if there is no bundle for another; that is looked for once a day.
        """
        record, now_ms = _load(tx, address), self.clock.now_ms()
        if record is None:
            return True
        if not is_forsaken(record, now_ms):
            return False
        return abs(now_ms - tx.peers.device(address).refreshed_ms) >= _DAY_MS

    def recipients(self, peer: PeerRecord) -> tuple[PeerDevice, ...]:
        """Return the devices that a message to ``peer`` goes to: all of them but this one."""
        return tuple(device for device in stored_devices(peer) if device.address != self.own.address)

    def start(self, tx: Transaction, peer: PeerDevice, bundle: PreKeyBundle) -> None:
        """Make a new session from a bundle; an old one is archived for what is still on its way.

        Raises InvalidSignatureError, StalePreKeyError, WeakPublicKeyError, WireError.
        """
        record = start_session(
            self.own,
            peer,
            bundle,
            _load(tx, peer.address),
            now_ms=self.clock.now_ms(),
            random_bytes=self.random_bytes,
        )
        tx.sessions.save(peer.address, encode_record(record))

    def seal_queue(self, tx: Transaction, peer: PeerRecord) -> tuple[OutgoingMessage, ...]:
        """Seal what is queued for ``peer``, oldest first, for each of its devices that has a session.

        Returns the messages that were sealed: none of them if no device has a session.
        """
        addresses = [device.address for device in self.recipients(peer)]
        ready = [address for address in addresses if tx.sessions.load(address) is not None]
        if not ready:
            return ()
        queued = tx.outbox.queued(peer.user)
        for message in queued:
            self._seal_message(tx, message, ready)
        return queued

    def seal_refresh(self, tx: Transaction, address: ProtocolAddress) -> None:
        """Queue the control message by which ``address`` learns of the new session."""
        message_id = MessageId(self.random_bytes(MESSAGE_ID_BYTES))
        self._seal(tx, message_id, address, kind=ContentKind.SESSION_REFRESH, body=b"", reply_to=None)

    def _seal_message(
        self, tx: Transaction, message: OutgoingMessage, addresses: Sequence[ProtocolAddress]
    ) -> None:
        for address in addresses:
            self._seal(
                tx,
                message.message_id,
                address,
                kind=message.kind,
                body=message.body,
                reply_to=message.reply_to,
            )
        tx.outbox.set_state(message.message_id, MessageState.SEALED)
        self.fault("send.sealed")

    def _seal(
        self,
        tx: Transaction,
        message_id: MessageId,
        address: ProtocolAddress,
        *,
        kind: ContentKind,
        body: bytes,
        reply_to: MessageId | None,
    ) -> None:
        record = _load(tx, address)
        if record is None:
            raise LookupError("sealing needs a session")  # a bug: the callers have looked
        counters = tx.peers.device(address)
        now_ms = self.clock.now_ms()
        content = Content(kind, message_id, counters.sent + 1, now_ms, reply_to, body)
        plaintext = pad(encode_content(content))
        record, sealed = encrypt(record, plaintext, now_ms=now_ms, random_bytes=self.random_bytes)
        tx.sessions.save(address, encode_record(record))
        tx.peers.save_device(replace(counters, sent=counters.sent + 1))
        tx.outbox.add_envelope(message_id, address, sealed, now_ms)


def peer_device(tx: Transaction, address: ProtocolAddress) -> PeerDevice | None:
    """Return the device at ``address`` if it is on the stored list of its account."""
    return find_device(tx.peers.load(address.user), address)


def forget_old_session_keys(tx: Transaction, now_ms: int) -> None:
    """Drop skipped keys and archived sessions over 30 days old, of devices too that have fallen silent."""
    for address in tx.sessions.addresses():
        record = _load(tx, address)
        if record is None:
            continue
        kept = forget_old_keys(record, now_ms)
        if kept is not record:
            tx.sessions.save(address, encode_record(kept))


def _load(tx: Transaction, address: ProtocolAddress) -> SessionRecord | None:
    body = tx.sessions.load(address)
    return None if body is None else parse_record(body)
