"""The Double Ratchet of OMEMO 2 (XEP-0384, version 0.8, sections 4.2 to 4.4) as a suite, and its X3DH.

It shows what the core leaves open: another key derivation, AES-256-CBC with a truncated HMAC, and a protobuf
header that is inside the authenticated bytes.
"""

import hmac

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from support.aes_cbc import MessageMaterial
from support.protobuf import as_bytes, as_integer, bytes_field, integer_field, read_fields

from securechat.ports import RandomBytes
from securechat.protocol.suite import MessageKeys, Suite
from securechat.wire.messages import RatchetHeader, RatchetMessage

MAC_BYTES = 16


def hkdf(salt: bytes, ikm: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA-256."""
    return HKDF(SHA256(), length, salt, info).derive(ikm)


def x3dh_secret(*agreements: bytes) -> bytes:
    """The 32-byte secret of X3DH, from the outputs of DH1 to DH3, or to DH4 with a one-time prekey."""
    return hkdf(bytes(32), b"\xff" * 32 + b"".join(agreements), b"OMEMO X3DH", 32)


def root_step(root: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """KDF_RK."""
    out = hkdf(root, secret, b"OMEMO Root Chain", 64)
    return out[:32], out[32:]


def chain_step(key: bytes, number: int) -> tuple[bytes, bytes]:
    """KDF_CK: constant 2 for the chain, 1 for the message."""
    return hmac.digest(key, b"\x02", "sha256"), hmac.digest(key, b"\x01", "sha256")


def message_material(key: bytes) -> MessageMaterial:
    """Return encryption key, authentication key and IV of a message key."""
    return MessageMaterial.cut(hkdf(bytes(32), key, b"OMEMO Message Key Material", 80))


def encode_message(header: RatchetHeader, ciphertext: bytes) -> bytes:
    """OMEMOMessage: n, pn, dh_pub, ciphertext."""
    numbers = integer_field(1, header.number) + integer_field(2, header.previous)
    return numbers + bytes_field(3, header.ratchet_key) + bytes_field(4, ciphertext)


def seal(
    keys: MessageKeys,
    header: RatchetHeader,
    *,
    plaintext: bytes,
    associated_data: bytes,
    random_bytes: RandomBytes,
) -> bytes:
    """OMEMOAuthenticatedMessage: mac, message."""
    material = message_material(keys.ec)
    message = encode_message(header, material.encrypt(plaintext))
    return bytes_field(1, material.mac(associated_data + message, MAC_BYTES)) + bytes_field(2, message)


def parse(raw: bytes) -> RatchetMessage:
    """Take an authenticated message apart; the head is the OMEMOMessage, the body mac and ciphertext."""
    outer = read_fields(raw)
    head = as_bytes(outer, 2)
    inner = read_fields(head)
    header = RatchetHeader(as_bytes(inner, 3), as_integer(inner, 2), as_integer(inner, 1))
    return RatchetMessage(header, head, as_bytes(outer, 1) + as_bytes(inner, 4))


def open_(keys: MessageKeys, message: RatchetMessage, associated_data: bytes) -> bytes:
    """Check the MAC, then decrypt."""
    mac, ciphertext = message.body[:MAC_BYTES], message.body[MAC_BYTES:]
    covered = associated_data + message.head
    return message_material(keys.ec).open(ciphertext, mac=mac, covered=covered, length=MAC_BYTES)


OMEMO2 = Suite(
    root_step=root_step,
    chain_step=chain_step,
    pq=None,
    receiving_chains=1,
    seal=seal,
    parse=parse,
    open=open_,
)
