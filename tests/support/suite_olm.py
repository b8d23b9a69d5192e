"""Olm, version 1 (the specification of libolm, "Olm: A Cryptographic Ratchet"), as a suite, and its 3DH.

It shows what OMEMO 2 does not: a header without the length of the previous chain, so that old chains are
kept, and a handshake that sets the first chain itself instead of a first DH step.
"""

import hmac
from dataclasses import dataclass
from typing import Final

from support.aes_cbc import MessageMaterial
from support.protobuf import as_bytes, as_integer, bytes_field, integer_field, read_fields
from support.suite_omemo2 import hkdf

from securechat.crypto.keys import DhKeyPair
from securechat.ports import RandomBytes
from securechat.protocol.chains import Chain
from securechat.protocol.double_ratchet import RatchetState, ReceivingChain
from securechat.protocol.suite import MessageKeys, Suite
from securechat.wire.messages import RatchetHeader, RatchetMessage

VERSION: Final = b"\x03"
MAC_BYTES: Final = 8
RECEIVING_CHAINS: Final = 5  # old chains that both libraries of Matrix keep


@dataclass(frozen=True, slots=True)
class Start:
    """What 3DH gives: the root key and the initiator's first chain key, 32 bytes each."""

    root: bytes
    chain: bytes

    def initiator(self, ratchet: DhKeyPair) -> RatchetState:
        """The state of the side that sends first; ``ratchet``: its first ratchet key."""
        private, public = ratchet.private.reveal(), ratchet.public.raw
        return RatchetState(self.root, private, public, None, Chain(self.chain, 0), 0, (), {}, None)

    def responder(self, ratchet_key: bytes) -> RatchetState:
        """The state of the other side; ``ratchet_key``: the one in the header of the first message."""
        chain = ReceivingChain(ratchet_key, Chain(self.chain, 0))
        unused = bytes(32)  # the first DH step of the sender replaces the pair before it was ever used
        return RatchetState(self.root, unused, unused, ratchet_key, None, 0, (chain,), {}, None)


@dataclass(frozen=True, slots=True)
class PreKeyEnvelope:
    """A message before the first answer: the public keys of 3DH, 32 bytes each, and the message itself."""

    one_time: bytes
    base: bytes
    identity: bytes
    message: bytes

    def encode(self) -> bytes:
        """Return the bytes."""
        keys = bytes_field(1, self.one_time) + bytes_field(2, self.base) + bytes_field(3, self.identity)
        return VERSION + keys + bytes_field(4, self.message)

    @classmethod
    def parse(cls, raw: bytes) -> "PreKeyEnvelope":
        """Read the bytes. Raises WireError."""
        fields = read_fields(raw[len(VERSION) :])
        return cls(*(as_bytes(fields, number) for number in (1, 2, 3, 4)))


def three_dh(*agreements: bytes) -> Start:
    """3DH: from the agreements identity-one-time, base-identity and base-one-time, initiator's key first."""
    out = hkdf(bytes(32), b"".join(agreements), b"OLM_ROOT", 64)
    return Start(out[:32], out[32:])


def root_step(root: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """The step of the root key."""
    out = hkdf(root, secret, b"OLM_RATCHET", 64)
    return out[:32], out[32:]


def chain_step(key: bytes, number: int) -> tuple[bytes, bytes]:
    """The step of a chain key: constant 2 for the chain, 1 for the message."""
    return hmac.digest(key, b"\x02", "sha256"), hmac.digest(key, b"\x01", "sha256")


def message_material(key: bytes) -> MessageMaterial:
    """Return encryption key, authentication key and IV of a message key."""
    return MessageMaterial.cut(hkdf(bytes(32), key, b"OLM_KEYS", 80))


def seal(
    keys: MessageKeys,
    header: RatchetHeader,
    *,
    plaintext: bytes,
    associated_data: bytes,
    random_bytes: RandomBytes,
) -> bytes:
    """Version, ratchet key, index, ciphertext, MAC. Olm has no associated data."""
    material = message_material(keys.ec)
    place = bytes_field(1, header.ratchet_key) + integer_field(2, header.number)
    message = VERSION + place + bytes_field(4, material.encrypt(plaintext))
    return message + material.mac(message, MAC_BYTES)


def parse(raw: bytes) -> RatchetMessage:
    """Take a message apart; the head is all that the MAC covers, the body MAC and ciphertext."""
    head, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
    fields = read_fields(head[len(VERSION) :])
    header = RatchetHeader(as_bytes(fields, 1), 0, as_integer(fields, 2))
    return RatchetMessage(header, head, mac + as_bytes(fields, 4))


def open_(keys: MessageKeys, message: RatchetMessage, associated_data: bytes) -> bytes:
    """Check the MAC, then decrypt."""
    mac, ciphertext = message.body[:MAC_BYTES], message.body[MAC_BYTES:]
    return message_material(keys.ec).open(ciphertext, mac=mac, covered=message.head, length=MAC_BYTES)


OLM = Suite(
    root_step=root_step,
    chain_step=chain_step,
    pq=None,
    receiving_chains=RECEIVING_CHAINS,
    seal=seal,
    parse=parse,
    open=open_,
)
