"""Session records: what a device keeps for each device it talks to (docs/format/records.md).

A record is one version byte and a MessagePack array in the order of the fields below. It is canonical: the
only bytes that parse to a record are those that it encodes to.
"""

from typing import Annotated, Final

import msgspec

from securechat.crypto.kem import SEED_BYTES
from securechat.crypto.keys import KEY_BYTES
from securechat.crypto.secret import SecretBytes
from securechat.errors import WireError
from securechat.protocol.double_ratchet import RatchetState
from securechat.protocol.pq_epochs import OfferKey
from securechat.protocol.state import U32, U63, Bytes32, SecretState

RECORD_VERSION: Final = 1
MAX_ARCHIVED: Final = 4  # sessions kept beside the current one
MAX_RECORD_BYTES: Final = (
    4 * 1024 * 1024
)  # full of skipped keys it is 0.3 MiB, 1.3 before they were counted together
PEER_KEYS_BYTES: Final = 3 * KEY_BYTES
_MAX_PREFIX_BYTES: Final = 2_048

PeerKeys = Annotated[bytes, msgspec.Meta(min_length=PEER_KEYS_BYTES, max_length=PEER_KEYS_BYTES)]
Prefix = Annotated[bytes, msgspec.Meta(max_length=_MAX_PREFIX_BYTES)]


class SessionState(SecretState, frozen=True):
    """One session.

    ``associated_data``: from the handshake, 32 bytes. ``handshake_hash`` names the prekey message that
    started it. ``pending``: what stands before the ratchet part in a prekey message, empty once the peer has
    answered and in sessions that the peer started. ``used_ms``: when a message was last opened in it.
    """

    session_id: Bytes32
    associated_data: Bytes32
    handshake_hash: Bytes32
    pending: Prefix
    created_ms: U63
    used_ms: U63
    ratchet: RatchetState


class SessionRecord(SecretState, frozen=True):
    """All sessions with one device of a peer.

    ``generation`` grows by one with every change, so that a store can tell an older copy. ``peer``: the
    account key, signing key and agreement key that the sessions belong to. ``strays``: messages opened in
    archived sessions since the current one last opened one.
    """

    generation: U63
    peer: PeerKeys
    strays: U32
    current: SessionState
    archived: Annotated[tuple[SessionState, ...], msgspec.Meta(max_length=MAX_ARCHIVED)]


def encode_record(record: SessionRecord) -> bytes:
    """Return the bytes of ``record``. They hold keys: they belong into an encrypted store."""
    return bytes([RECORD_VERSION]) + msgspec.msgpack.encode(record, enc_hook=_encode_key)


def parse_record(raw: bytes) -> SessionRecord:
    """Return the record in ``raw``. Raises WireError."""
    if len(raw) > MAX_RECORD_BYTES or raw[:1] != bytes([RECORD_VERSION]):
        raise WireError("a session record is too long or of another version")
    try:
        record = msgspec.msgpack.decode(raw[1:], type=SessionRecord, dec_hook=_decode_key)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise WireError("a session record is malformed") from error
    if encode_record(record) != raw:
        raise WireError("a session record is not in canonical form")
    return record


def _encode_key(value: object) -> bytes:
    if isinstance(value, OfferKey):
        return value.seed.reveal()
    raise TypeError(f"a session record holds no {type(value).__name__}")


def _decode_key(kind: type, value: object) -> OfferKey:
    if kind is OfferKey and isinstance(value, bytes) and len(value) == SEED_BYTES:
        return OfferKey(SecretBytes(value))
    raise msgspec.ValidationError("the field does not fit the record")
