"""Sessions with one device of a peer: handshake, ratchet and the choice among several (Sesame, section 3).

A record holds the current session, which sends, and up to four archived ones, which still receive. Nothing
here changes a value: whoever calls stores the record that comes back, before the bytes leave.

Two sessions come up at once when both sides start one before they hear of the other's, and when a side that
lost its state starts anew. The rules, the same on both sides:

- a session that the peer starts becomes current, unless our own is still unanswered and its id is lower;
- a session whose prekey message shows that the peer prefers it, and whose id is lower, wins the same way;
- if both sides ever disagree, the one with the higher id follows after two messages, the other after eight.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec

from securechat.crypto.kdf import HASH_BYTES, NO_SALT, hkdf_sha256
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
from securechat.protocol.double_ratchet import RatchetState
from securechat.protocol.pqxdh import Handshake, LocalDevice, PeerDevice
from securechat.protocol.prekeys import PreKeyPool, consume
from securechat.protocol.records import MAX_ARCHIVED, SessionRecord, SessionState
from securechat.protocol.suite import SECURECHAT_V1, EpochKeys
from securechat.wire.messages import (
    MAX_MESSAGE_BYTES,
    RATCHET_PREFIX,
    MessageKind,
    PreKeyMessage,
    RatchetMessage,
    SenderIdentity,
    encode_prekey_prefix,
    message_kind,
    parse_prekey_message,
    parse_ratchet_part,
)
from securechat.wire.prekeys import PreKeyBundle

MAX_IDLE_MS: Final = 30 * 86_400_000  # an archived session in which nothing was opened for so long is dropped
STRAYS_TO_LOWER: Final = 2  # messages in an archived session of lower id, until it becomes current
STRAYS_TO_HIGHER: Final = 8
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
    keys, root = _first_keys(handshake)
    ratchet = double_ratchet.start_initiator(
        SECURECHAT_V1,
        root,
        bundle.signed.public,
        pq_epochs.start(keys, initiator=True, now_ms=now_ms),
        random_bytes,
    )
    session = _new_session(handshake, _handshake_hash(prefix), prefix, ratchet, now_ms)
    return _placed(record, peer, session, now_ms)


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
    moved = SessionState(
        session.session_id,
        session.associated_data,
        session.handshake_hash,
        session.pending,
        session.created_ms,
        session.used_ms,
        ratchet,
    )
    return SessionRecord(record.generation + 1, record.peer, record.strays, moved, record.archived), message


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
    held = record if record is not None and record.peer == _peer_keys(peer) else None
    if message_kind(raw) is MessageKind.RATCHET:
        if held is None:
            raise NoSessionError("there is no session with this device")
        after, plaintext = _open_in_any(held, parse_ratchet_part(raw[len(RATCHET_PREFIX) :]), now_ms)
        return Opened(after, prekeys, plaintext)
    prekey = parse_prekey_message(raw)
    _check_sender(prekey.sender, peer)
    name = _handshake_hash(raw[: len(raw) - len(prekey.ratchet)])
    message = parse_ratchet_part(prekey.ratchet)
    for session in () if held is None else (held.current, *held.archived):
        if held is not None and session.handshake_hash == name:
            opened, plaintext = _open(session, message, MessageKind.PREKEY, now_ms)
            late = double_ratchet.is_late(session.ratchet, message.header)
            arrival = _Arrival(session, opened, late, MessageKind.PREKEY)
            return Opened(_settled(held, arrival, now_ms), prekeys, plaintext)
    fresh = _respond(own, peer, prekey, prekeys, name, now_ms)
    opened, plaintext = _open(fresh, message, MessageKind.PREKEY, now_ms)
    after = _placed(record, peer, opened, now_ms)
    return Opened(after, consume(prekeys, prekey.handshake), plaintext)


def sender_identity(raw: bytes) -> SenderIdentity | None:
    """Return the keys that a prekey message claims, None for a ratchet message. Raises WireError."""
    if message_kind(raw) is MessageKind.RATCHET:
        return None
    return parse_prekey_message(raw).sender


class _Arrival(msgspec.Struct, frozen=True, gc=False):
    """A message that opened in a session that was held: the session before and after, and how it came.

    ``late``: it was overtaken by another; such a message says nothing about the peer's choice today.
    """

    before: SessionState
    after: SessionState
    late: bool
    kind: MessageKind


def _open_in_any(record: SessionRecord, message: RatchetMessage, now_ms: int) -> tuple[SessionRecord, bytes]:
    """Open a ratchet message in the session that knows its ratchet key, else in the first one that can."""
    sessions = (record.current, *record.archived)
    known = [session for session in sessions if double_ratchet.knows(session.ratchet, message.header)]
    failures: list[CryptoError | SessionError] = []
    for session in known or sessions:
        try:
            opened, plaintext = _open(session, message, MessageKind.RATCHET, now_ms)
        except (CryptoError, SessionError) as error:
            failures.append(error)
            continue
        late = double_ratchet.is_late(session.ratchet, message.header)
        arrival = _Arrival(session, opened, late, MessageKind.RATCHET)
        return _settled(record, arrival, now_ms), plaintext
    raise failures[0]  # what the current session says, if none knows the message


def _open(
    session: SessionState, message: RatchetMessage, kind: MessageKind, now_ms: int
) -> tuple[SessionState, bytes]:
    """Open a message in one session; the peer has answered then."""
    ratchet, plaintext = double_ratchet.decrypt(
        SECURECHAT_V1,
        double_ratchet.forget_old_keys(session.ratchet, now_ms),
        message,
        associated_data=session.associated_data + _KIND_BYTES[kind],
        now_ms=now_ms,
    )
    after = SessionState(
        session.session_id,
        session.associated_data,
        session.handshake_hash,
        b"",
        session.created_ms,
        now_ms,
        ratchet,
    )
    return after, plaintext


def _settled(record: SessionRecord, arrival: _Arrival, now_ms: int) -> SessionRecord:
    """Put the session back into its place, and let it become current if the rules say so."""
    generation, current = record.generation + 1, record.current
    if arrival.before is current:
        archived = _not_idle(record.archived, now_ms)
        strays = record.strays if arrival.late else 0
        return SessionRecord(generation, record.peer, strays, arrival.after, archived)
    others = tuple(session for session in record.archived if session is not arrival.before)
    strays = record.strays if arrival.late or current.pending else record.strays + 1
    if _takes_over(current, arrival, strays):
        archived = _not_idle((current, *others), now_ms)
        return SessionRecord(generation, record.peer, 0, arrival.after, archived)
    return SessionRecord(
        generation, record.peer, strays, current, (arrival.after, *_not_idle(others, now_ms))
    )


def _takes_over(current: SessionState, arrival: _Arrival, strays: int) -> bool:
    """Say whether an archived session in which a message arrived becomes the current one."""
    lower = arrival.after.session_id < current.session_id
    if arrival.late:
        return False
    if current.pending:
        return lower and arrival.kind is MessageKind.PREKEY
    return strays >= (STRAYS_TO_LOWER if lower else STRAYS_TO_HIGHER)


def _placed(
    record: SessionRecord | None, peer: PeerDevice, session: SessionState, now_ms: int
) -> SessionRecord:
    """Take a new session into the record, as the current one unless our own unanswered one goes before it."""
    keys = _peer_keys(peer)
    if record is None or record.peer != keys:
        generation = 1 if record is None else record.generation + 1
        return SessionRecord(generation, keys, 0, session, ())
    generation, current = record.generation + 1, record.current
    ours_first = current.pending and not session.pending and current.session_id < session.session_id
    if ours_first:
        archived = (session, *_not_idle(record.archived, now_ms))[:MAX_ARCHIVED]
        return SessionRecord(generation, keys, record.strays, current, archived)
    archived = (current, *_not_idle(record.archived, now_ms))[:MAX_ARCHIVED]
    return SessionRecord(generation, keys, 0, session, archived)


def _not_idle(sessions: tuple[SessionState, ...], now_ms: int) -> tuple[SessionState, ...]:
    if not sessions:
        return sessions
    return tuple(session for session in sessions if now_ms - session.used_ms <= MAX_IDLE_MS)


def _respond(
    own: LocalDevice,
    peer: PeerDevice,
    prekey: PreKeyMessage,
    prekeys: PreKeyPool,
    name: bytes,
    now_ms: int,
) -> SessionState:
    """Return the session that a prekey message starts; nothing is proven until a message opens in it."""
    try:
        handshake = pqxdh.respond(own, peer, prekey.handshake, prekeys)
    except WeakPublicKeyError as error:
        raise DecryptionError("cannot decrypt") from error
    keys, root = _first_keys(handshake)
    pq = pq_epochs.start(keys, initiator=False, now_ms=now_ms)
    ratchet = double_ratchet.start_responder(root, prekeys.signed_pair(prekey.handshake), pq)
    return _new_session(handshake, name, b"", ratchet, now_ms)


def _new_session(
    handshake: Handshake, name: bytes, pending: bytes, ratchet: RatchetState, now_ms: int
) -> SessionState:
    return SessionState(
        handshake.session_id, handshake.associated_data, name, pending, now_ms, now_ms, ratchet
    )


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


def _peer_keys(peer: PeerDevice) -> bytes:
    return peer.account.raw + peer.signing.raw + peer.agreement.raw


def _handshake_hash(prefix: bytes) -> bytes:
    return hashlib.sha256(Label.HANDSHAKE_HASH.value + prefix).digest()
