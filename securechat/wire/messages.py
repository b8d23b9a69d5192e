"""Messages from device to device: ratchet messages and prekey messages (docs/format/messages.md).

A ratchet message is two bytes (version, kind) and a ratchet part; a prekey message has the sender's keys and
the handshake's header between them. The ratchet part is a head, which the AEAD authenticates, and a body.
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct as Layout
from typing import Final

import msgspec

from securechat.crypto.aead import NONCE_BYTES, TAG_BYTES
from securechat.crypto.kem import CIPHERTEXT_BYTES, PUBLIC_KEY_BYTES, KemKind
from securechat.crypto.keys import KEY_BYTES, DhPublicKey, VerifyKey
from securechat.errors import WeakPublicKeyError, WireError
from securechat.wire.codec import MAX_U16, MAX_U32, Reader, Writer
from securechat.wire.handshake import PqxdhHeader, read_pqxdh_header, write_pqxdh_header
from securechat.wire.keys import read_dh_key, read_verify_key

MESSAGE_VERSION: Final = 1
MAX_MESSAGE_BYTES: Final = 96 * 1024  # what the relay takes
COMMITMENT_BYTES: Final = 32
OFFER_TAG_BYTES: Final = 8  # names the offer that a ciphertext answers
OFFER_BYTES: Final = PUBLIC_KEY_BYTES[KemKind.ML_KEM_768]  # 1,184
ANSWER_BYTES: Final = OFFER_TAG_BYTES + CIPHERTEXT_BYTES[KemKind.ML_KEM_768]  # 1,096
MIN_BODY_BYTES: Final = NONCE_BYTES + COMMITMENT_BYTES + TAG_BYTES

_WIDE: Final = 1  # flag: counters of 4 bytes, because one of them does not fit 2
_OFFER: Final = 2  # flag: an offer follows the counters
_ANSWER: Final = 4  # flag: an answer follows the counters
_NARROW_LAYOUT: Final = Layout(">B32sHHHHH")
_WIDE_LAYOUT: Final = Layout(">B32sIIIII")
_FORMS: Final = {  # flags -> layout of the fixed fields, bytes of what follows them
    flags: (_WIDE_LAYOUT if flags & _WIDE else _NARROW_LAYOUT, extra)
    for base, extra in ((0, 0), (_OFFER, OFFER_BYTES), (_ANSWER, ANSWER_BYTES))
    for flags in (base, base | _WIDE)
}


class MessageKind(IntEnum):
    """The second byte of every message; it is part of what the AEAD authenticates."""

    RATCHET = 1
    PREKEY = 2


RATCHET_PREFIX: Final = bytes([MESSAGE_VERSION, MessageKind.RATCHET])
PREKEY_PREFIX: Final = bytes([MESSAGE_VERSION, MessageKind.PREKEY])


class RatchetHeader(msgspec.Struct, frozen=True, gc=False):
    """Where a message stands in both ratchets: the HEADER of the Double Ratchet and that of the PQ chain.

    ``ratchet_key``: the sender's X25519 ratchet key, 32 bytes; ``previous``: PN, the messages of its chain
    before; ``number``: N. ``epoch``, ``epoch_previous`` and ``epoch_number`` say the same of the PQ chain.
    ``offer`` is an ML-KEM-768 key for the next epoch, ``answer`` the 8-byte tag of an offer and the
    ciphertext for it; empty when absent, and never both. Integers are 32-bit.
    """

    ratchet_key: bytes
    previous: int
    number: int
    epoch: int = 0
    epoch_previous: int = 0
    epoch_number: int = 0
    offer: bytes = b""
    answer: bytes = b""


class RatchetMessage(msgspec.Struct, frozen=True, gc=False):
    """A ratchet part, taken apart: the header, its bytes as received, and the sealed body.

    In our own suite the body is nonce (12 bytes), key commitment (32), ciphertext and tag (16).
    """

    header: RatchetHeader
    head: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class SenderIdentity:
    """The keys that the sender of a prekey message claims; the checked device list must confirm them."""

    account: VerifyKey
    signing: VerifyKey
    agreement: DhPublicKey


@dataclass(frozen=True, slots=True)
class PreKeyMessage:
    """The first message of a session, and every further one until the peer has answered.

    ``ratchet`` is the ratchet part as bytes.
    """

    sender: SenderIdentity
    handshake: PqxdhHeader
    ratchet: bytes


def message_kind(raw: bytes) -> MessageKind:
    """Return what ``raw`` claims to be. Raises WireError for another version, kind or length."""
    if len(raw) > MAX_MESSAGE_BYTES:
        raise WireError(f"a message has {len(raw)} bytes, more than its limit of {MAX_MESSAGE_BYTES}")
    prefix = raw[:2]
    if prefix == RATCHET_PREFIX:
        return MessageKind.RATCHET
    if prefix == PREKEY_PREFIX:
        return MessageKind.PREKEY
    raise WireError("a message has an unknown version or kind")


def encode_head(header: RatchetHeader) -> bytes:
    """Return the authenticated head: 43 or 53 bytes, and an offer or answer if there is one.

    Raises WireError for a field out of range.
    """
    extra = header.offer + header.answer
    counters = (
        header.previous,
        header.number,
        header.epoch,
        header.epoch_previous,
        header.epoch_number,
    )
    largest = max(counters)
    if largest > MAX_U32 or min(counters) < 0 or len(header.ratchet_key) != KEY_BYTES:
        raise WireError("a field of the ratchet header is out of range")
    flags = (largest > MAX_U16) | (_OFFER if header.offer else 0) | (_ANSWER if header.answer else 0)
    form = _FORMS.get(flags)
    if form is None or len(extra) != form[1]:
        raise WireError("an offer or answer has the wrong length, or both are present")
    return form[0].pack(flags, header.ratchet_key, *counters) + extra


def parse_ratchet_part(raw: bytes) -> RatchetMessage:
    """Take a ratchet part apart. Raises WireError."""
    form = _FORMS.get(raw[0]) if raw else None
    if form is None:
        raise WireError("a ratchet header has unknown flags")
    layout, extra = form
    end = layout.size + extra
    if len(raw) < end + MIN_BODY_BYTES:
        raise WireError(f"a ratchet message has {len(raw)} bytes, fewer than its head and an empty body")
    flags, key, previous, number, epoch, epoch_previous, epoch_number = layout.unpack_from(raw)
    if flags & _WIDE and max(previous, number, epoch, epoch_previous, epoch_number) <= MAX_U16:
        raise WireError("a ratchet header is wide without need")
    if key[-1] >= 0x7F:  # the only bytes under which a key could be out of canonical form
        _check_canonical(key)
    offer = raw[layout.size : end] if flags & _OFFER else b""
    answer = raw[layout.size : end] if flags & _ANSWER else b""
    header = RatchetHeader(key, previous, number, epoch, epoch_previous, epoch_number, offer, answer)
    return RatchetMessage(header, raw[:end], raw[end:])


def encode_ratchet_message(part: bytes) -> bytes:
    """Return a ratchet message around a ratchet part."""
    return RATCHET_PREFIX + part


def encode_prekey_prefix(sender: SenderIdentity, handshake: PqxdhHeader) -> bytes:
    """Return all of a prekey message that stands before its ratchet part: 1,708 or 1,712 bytes."""
    writer = Writer().u8(MESSAGE_VERSION).u8(MessageKind.PREKEY)
    writer.fixed(sender.account.raw, KEY_BYTES).fixed(sender.signing.raw, KEY_BYTES)
    write_pqxdh_header(writer.fixed(sender.agreement.raw, KEY_BYTES), handshake)
    return writer.done()


def encode_prekey_message(message: PreKeyMessage) -> bytes:
    """Return the bytes of ``message``. Raises WireError for a field out of range."""
    return encode_prekey_prefix(message.sender, message.handshake) + message.ratchet


def parse_prekey_message(raw: bytes) -> PreKeyMessage:
    """Take a prekey message apart; its ratchet part is checked too. Raises WireError."""
    if message_kind(raw) is not MessageKind.PREKEY:
        raise WireError("the message is not a prekey message")
    reader = Reader(raw)
    reader.fixed(len(PREKEY_PREFIX))
    sender = SenderIdentity(read_verify_key(reader), read_verify_key(reader), read_dh_key(reader))
    handshake = read_pqxdh_header(reader)
    ratchet = reader.rest(MAX_MESSAGE_BYTES)
    parse_ratchet_part(ratchet)
    return PreKeyMessage(sender, handshake, ratchet)


def _check_canonical(key: bytes) -> None:
    try:
        DhPublicKey(key)
    except WeakPublicKeyError as error:
        raise WireError("a ratchet key is not in canonical form") from error
