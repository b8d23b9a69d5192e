"""Sessions with one device of a peer: handshake and ratchet together.

Nothing here changes a value: whoever calls stores the record that comes back, before the bytes leave.
``securechat.protocol.choice`` says which session of a record sends.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from securechat.crypto.kdf import HASH_BYTES, NO_SALT, hkdf_sha256
from securechat.crypto.keys import DhKeyPair, DhPublicKey
from securechat.crypto.labels import Label
from securechat.errors import (
    CryptoError,
    DecryptionError,
    IdentityChangedError,
    NoSessionError,
    SessionError,
    WeakPublicKeyError,
    WireError,
)
from securechat.ports import RandomBytes
from securechat.protocol import double_ratchet, pq_epochs, pqxdh
from securechat.protocol.chains import MAX_SKIPPED
from securechat.protocol.choice import Arrival, adopted, placed, settled, without_idle
from securechat.protocol.double_ratchet import RatchetState
from securechat.protocol.pqxdh import Handshake, LocalDevice, PeerDevice
from securechat.protocol.prekeys import PreKeyPool, consume
from securechat.protocol.records import SessionRecord, SessionState
from securechat.protocol.suite import SECURECHAT_V1, EpochKeys
from securechat.wire.messages import (
    MAX_MESSAGE_BYTES,
    RATCHET_PREFIX,
    MessageKind,
    RatchetMessage,
    SenderIdentity,
    encode_prekey_prefix,
    message_kind,
    parse_prekey_message,
    parse_ratchet_part,
)
from securechat.wire.prekeys import PreKeyBundle

_KIND_BYTES: Final = {kind: bytes([kind]) for kind in MessageKind}


@dataclass(frozen=True, slots=True)
class Opened:
    """What a message gave: the record and the prekeys to store with it, and the plaintext."""

    record: SessionRecord
    prekeys: PreKeyPool
    plaintext: bytes

    def __repr__(self) -> str:
        return "Opened(**)"


def start_session(
    own: LocalDevice,
    peer: PeerDevice,
    bundle: PreKeyBundle,
    record: SessionRecord | None,
    *,
    now_ms: int,
    random_bytes: RandomBytes,
) -> SessionRecord:
    """Return the record with a new session as the current one; sessions with other keys of the peer go.

    Draws 64 bytes and the KEM's own randomness. Raises what ``pqxdh.initiate`` raises.
    """
    header, handshake = pqxdh.initiate(own, peer, bundle, now_ms=now_ms, random_bytes=random_bytes)
    identity = SenderIdentity(own.account, own.signing.public, own.agreement.public)
    prefix = encode_prekey_prefix(identity, header)
    session = initiated(handshake, prefix, bundle.signed.public, now_ms=now_ms, random_bytes=random_bytes)
    return placed(record, _keys_of(peer), session, now_ms)


def encrypt(
    record: SessionRecord, plaintext: bytes, *, now_ms: int, random_bytes: RandomBytes
) -> tuple[SessionRecord, bytes]:
    """Return the record after the message, and the message: a prekey message until the peer has answered.

    Store the record before the bytes leave. Raises WireError above 96 KiB, and ChainExhaustedError.
    """
    session = record.current
    kind = MessageKind.PREKEY if session.pending else MessageKind.RATCHET
    ratchet, part = double_ratchet.encrypt(
        SECURECHAT_V1,
        session.ratchet,
        plaintext,
        associated_data=session.associated_data + _KIND_BYTES[kind],
        now_ms=now_ms,
        random_bytes=random_bytes,
    )
    message = (session.pending or RATCHET_PREFIX) + part
    if len(message) > MAX_MESSAGE_BYTES:
        raise WireError(f"a message of {len(message)} bytes is over its limit of {MAX_MESSAGE_BYTES}")
    moved = replace(session, ratchet=ratchet)
    return replace(record, generation=record.generation + 1, current=moved), message


def decrypt(
    own: LocalDevice,
    peer: PeerDevice,
    record: SessionRecord | None,
    prekeys: PreKeyPool,
    raw: bytes,
    *,
    now_ms: int,
) -> Opened:
    """Open a message from ``peer``, a device out of its checked list. On any error nothing has changed.

    Raises WireError, DecryptionError, DuplicateMessageError, MessageGapError, ChainExhaustedError,
    NoSessionError (no session, or none with these keys of the peer), StalePreKeyError, and
    IdentityChangedError for a prekey message under another account key than the peer's.
    """
    held = record if record is not None and record.peer == _keys_of(peer) else None
    if message_kind(raw) is MessageKind.RATCHET:
        if held is None:
            raise NoSessionError("there is no session with this device")
        after, plaintext = _open_in_any(held, parse_ratchet_part(raw[len(RATCHET_PREFIX) :]), now_ms)
        return Opened(after, prekeys, plaintext)
    prekey = parse_prekey_message(raw)
    _check_sender(prekey.sender, peer)
    name = _handshake_hash(raw[: len(raw) - len(prekey.ratchet)])
    message = parse_ratchet_part(prekey.ratchet)
    session = None if held is None else _session_named(held, name)
    if held is not None and session is not None:
        after, plaintext = _open_in(held, session, message, MessageKind.PREKEY, now_ms)
        return Opened(after, prekeys, plaintext)
    try:
        handshake = pqxdh.respond(own, peer, prekey.handshake, prekeys)
    except WeakPublicKeyError as error:
        raise DecryptionError("cannot decrypt") from error
    fresh = responded(handshake, name, prekeys.signed_pair(prekey.handshake), now_ms=now_ms)
    opened, plaintext = _open(fresh, message, MessageKind.PREKEY, now_ms)
    after = _bounded(placed(record, _keys_of(peer), opened, now_ms))
    return Opened(after, consume(prekeys, prekey.handshake), plaintext)


def adopt(record: SessionRecord, raw: bytes) -> SessionRecord:
    """Return the record after ``raw``, opened in it, told that the peer made the session anew.

    The session of the prekey message becomes current if ours is unanswered; nothing changes otherwise.
    """
    if message_kind(raw) is MessageKind.RATCHET:
        return record
    prefix = raw[: len(raw) - len(parse_prekey_message(raw).ratchet)]
    session = _session_named(record, _handshake_hash(prefix))
    return record if session is None else adopted(record, session)


def forget_old_keys(record: SessionRecord, now_ms: int) -> SessionRecord:
    """Return the record without skipped keys and archived sessions of over 30 days; the same if it has none.

    To be called now and then for each record: where nothing arrives any more, nothing else drops them.
    """
    kept = without_idle(record, now_ms)
    sessions = (kept.current, *kept.archived)
    aged = [double_ratchet.forget_old_keys(session.ratchet, now_ms) for session in sessions]
    if all(ratchet is session.ratchet for ratchet, session in zip(aged, sessions, strict=True)):
        return kept
    current, *archived = (replace(s, ratchet=r) for s, r in zip(sessions, aged, strict=True))
    return replace(kept, generation=record.generation + 1, current=current, archived=tuple(archived))


def sender_identity(raw: bytes) -> SenderIdentity | None:
    """Return the keys that a prekey message claims, None for a ratchet message. Raises WireError."""
    if message_kind(raw) is MessageKind.RATCHET:
        return None
    return parse_prekey_message(raw).sender


def initiated(
    handshake: Handshake, prefix: bytes, signed: DhPublicKey, *, now_ms: int, random_bytes: RandomBytes
) -> SessionState:
    """Return the initiator's session: ``prefix`` goes before each ratchet part until the peer answers.

    ``signed`` is the peer's signed prekey, its first ratchet key. Draws 32 bytes.
    """
    keys, root = _first_keys(handshake)
    pq = pq_epochs.start(keys, initiator=True, now_ms=now_ms)
    ratchet = double_ratchet.start_initiator(SECURECHAT_V1, root, signed, pq, random_bytes)
    return _new_session(handshake, _handshake_hash(prefix), prefix, ratchet, now_ms)


def responded(handshake: Handshake, name: bytes, signed: DhKeyPair, *, now_ms: int) -> SessionState:
    """Return the responder's session; nothing is proven until a message opens in it.

    ``name`` is the hash of what stood before the ratchet part.
    """
    keys, root = _first_keys(handshake)
    pq = pq_epochs.start(keys, initiator=False, now_ms=now_ms)
    ratchet = double_ratchet.start_responder(root, signed, pq)
    return _new_session(handshake, name, b"", ratchet, now_ms)


def _open_in_any(record: SessionRecord, message: RatchetMessage, now_ms: int) -> tuple[SessionRecord, bytes]:
    """Open a ratchet message in the session that knows its ratchet key, else in the first one that can."""
    sessions = (record.current, *record.archived)
    known = [session for session in sessions if double_ratchet.knows(session.ratchet, message.header)]
    failures: list[CryptoError | SessionError] = []
    for session in known or sessions:
        try:
            return _open_in(record, session, message, MessageKind.RATCHET, now_ms)
        except (CryptoError, SessionError) as error:
            failures.append(error)
    raise failures[0]  # what the current session says, if none knows the message


def _open_in(
    record: SessionRecord, session: SessionState, message: RatchetMessage, kind: MessageKind, now_ms: int
) -> tuple[SessionRecord, bytes]:
    """Open a message in one session of the record."""
    opened, plaintext = _open(session, message, kind, now_ms)
    late = double_ratchet.is_late(session.ratchet, message.header)
    return _bounded(settled(record, Arrival(session, opened, kind, late), now_ms)), plaintext


def _open(
    session: SessionState, message: RatchetMessage, kind: MessageKind, now_ms: int
) -> tuple[SessionState, bytes]:
    """Return the session after the message: the peer has answered then."""
    ratchet, plaintext = double_ratchet.decrypt(
        SECURECHAT_V1,
        double_ratchet.forget_old_keys(session.ratchet, now_ms),
        message,
        associated_data=session.associated_data + _KIND_BYTES[kind],
        now_ms=now_ms,
    )
    return replace(session, pending=b"", used_ms=now_ms, ratchet=ratchet), plaintext


def _bounded(record: SessionRecord) -> SessionRecord:
    """Return the record with at most 2,000 skipped keys of each ratchet, over all its sessions.

    The archived sessions least recently used lose theirs first, and of one session the oldest.
    """
    if not record.archived:
        return record  # one session is within its own limit
    sessions = (record.current, *record.archived)
    counts = [double_ratchet.kept_keys(session.ratchet) for session in sessions]
    if all(sum(column) <= MAX_SKIPPED for column in zip(*counts, strict=True)):
        return record
    bounded, left, pq_left = [], MAX_SKIPPED, MAX_SKIPPED
    for session, (count, pq_count) in zip(sessions, counts, strict=True):
        bounded.append(replace(session, ratchet=double_ratchet.keep_newest(session.ratchet, left, pq_left)))
        left, pq_left = max(0, left - count), max(0, pq_left - pq_count)
    return replace(record, current=bounded[0], archived=tuple(bounded[1:]))


def _session_named(record: SessionRecord, name: bytes) -> SessionState | None:
    for session in (record.current, *record.archived):
        if session.handshake_hash == name:
            return session
    return None


def _new_session(
    handshake: Handshake, name: bytes, pending: bytes, ratchet: RatchetState, now_ms: int
) -> SessionState:
    associated_data = handshake.associated_data
    return SessionState(handshake.session_id, associated_data, name, pending, now_ms, now_ms, ratchet)


def _first_keys(handshake: Handshake) -> tuple[EpochKeys, bytes]:
    """Derive PQ epoch 0 and the first root key from the handshake's secret."""
    out = hkdf_sha256(
        salt=NO_SALT,
        ikm=handshake.secret.reveal(),
        info=Label.SESSION_ROOT.value + handshake.session_id,
        length=4 * HASH_BYTES,
    )
    root, pq_root, first, second = (out[at : at + HASH_BYTES] for at in range(0, len(out), HASH_BYTES))
    return EpochKeys(pq_root, first, second), root


def _check_sender(sender: SenderIdentity, peer: PeerDevice) -> None:
    """Refuse a prekey message that claims other keys than the checked list holds."""
    if sender.account != peer.account:
        raise IdentityChangedError("the message comes under another account key")
    if sender.signing != peer.signing or sender.agreement != peer.agreement:
        raise DecryptionError("cannot decrypt")


def _keys_of(peer: PeerDevice) -> bytes:
    return peer.account.raw + peer.signing.raw + peer.agreement.raw


def _handshake_hash(prefix: bytes) -> bytes:
    return hashlib.sha256(Label.HANDSHAKE_HASH.value + prefix).digest()
