"""The Double Ratchet of OMEMO 2 (XEP-0384, version 0.8, section 4.3) as a suite.

It shows what the core leaves open: another key derivation, AES-256-CBC with a truncated HMAC, and a protobuf
header that is inside the authenticated bytes.
"""

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.padding import PKCS7

from securechat.errors import DecryptionError, WireError
from securechat.ports import RandomBytes
from securechat.protocol.suite import MessageKeys, Suite
from securechat.wire.messages import RatchetHeader, RatchetMessage

MAC_BYTES = 16
_VARINT, _BYTES = 0, 2


def hkdf(salt: bytes, ikm: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA-256."""
    return HKDF(SHA256(), length, salt, info).derive(ikm)


def root_step(root: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """KDF_RK."""
    out = hkdf(root, secret, b"OMEMO Root Chain", 64)
    return out[:32], out[32:]


def chain_step(key: bytes, number: int) -> tuple[bytes, bytes]:
    """KDF_CK: constant 2 for the chain, 1 for the message."""
    return hmac.digest(key, b"\x02", "sha256"), hmac.digest(key, b"\x01", "sha256")


def message_material(key: bytes) -> tuple[bytes, bytes, bytes]:
    """Return encryption key, authentication key and IV of a message key."""
    out = hkdf(bytes(32), key, b"OMEMO Message Key Material", 80)
    return out[:32], out[32:64], out[64:]


def encode_message(header: RatchetHeader, ciphertext: bytes) -> bytes:
    """OMEMOMessage: n, pn, dh_pub, ciphertext."""
    numbers = _varint(1 << 3 | _VARINT) + _varint(header.number) + _varint(2 << 3) + _varint(header.previous)
    return numbers + _field(3, header.ratchet_key) + _field(4, ciphertext)


def seal(
    keys: MessageKeys,
    header: RatchetHeader,
    *,
    plaintext: bytes,
    associated_data: bytes,
    random_bytes: RandomBytes,
) -> bytes:
    """OMEMOAuthenticatedMessage: mac, message."""
    encryption, authentication, iv = message_material(keys.ec)
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(encryption), modes.CBC(iv)).encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    message = encode_message(header, encryptor.update(padded) + encryptor.finalize())
    return _field(1, _mac(authentication, associated_data, message)) + _field(2, message)


def parse(raw: bytes) -> RatchetMessage:
    """Take an authenticated message apart; the head is the OMEMOMessage, the body mac and ciphertext."""
    outer = _fields(raw)
    inner = _fields(_as_bytes(outer[2]))
    n, pn = inner[1], inner[2]
    if isinstance(n, bytes) or isinstance(pn, bytes):
        raise WireError("a counter is no integer")
    header = RatchetHeader(_as_bytes(inner[3]), pn, n)
    return RatchetMessage(header, _as_bytes(outer[2]), _as_bytes(outer[1]) + _as_bytes(inner[4]))


def open_(keys: MessageKeys, message: RatchetMessage, associated_data: bytes) -> bytes:
    """Check the MAC, then decrypt."""
    encryption, authentication, iv = message_material(keys.ec)
    mac, ciphertext = message.body[:MAC_BYTES], message.body[MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(authentication, associated_data, message.head)):
        raise DecryptionError("cannot decrypt")
    decryptor = Cipher(algorithms.AES(encryption), modes.CBC(iv)).decryptor()
    unpadder = PKCS7(128).unpadder()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    return unpadder.update(padded) + unpadder.finalize()


OMEMO2 = Suite(
    root_step=root_step,
    chain_step=chain_step,
    pq=None,
    receiving_chains=1,
    seal=seal,
    parse=parse,
    open=open_,
)


def _mac(key: bytes, associated_data: bytes, message: bytes) -> bytes:
    return hmac.digest(key, associated_data + message, "sha256")[:MAC_BYTES]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _fields(raw: bytes) -> dict[int, int | bytes]:
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(raw):
        tag, at = _read_varint(raw, at)
        value, at = _read_varint(raw, at)
        if tag & 7 == _BYTES:
            found[tag >> 3] = raw[at : at + value]
            at += value
        else:
            found[tag >> 3] = value
    return found


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise WireError("a field is no byte string")
    return value
