"""HKDF-SHA-256 (RFC 5869) and HMAC-SHA-256 (RFC 2104)."""

import hmac
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securechat.crypto.secret import SecretBytes

HASH_BYTES: Final = 32
NO_SALT: Final = bytes(HASH_BYTES)

_SHA256: Final = SHA256()


def hkdf_sha256(*, salt: bytes, ikm: bytes, info: bytes, length: int) -> bytes:
    """Return ``length`` bytes (at most 8,160) of HKDF-SHA-256; the raw form for hot paths."""
    return HKDF(_SHA256, length, salt, info).derive(ikm)


def derive(*, salt: bytes, ikm: bytes, info: bytes, length: int) -> SecretBytes:
    """As ``hkdf_sha256``, wrapped as a secret."""
    return SecretBytes(hkdf_sha256(salt=salt, ikm=ikm, info=info, length=length))


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """Return the 32-byte HMAC-SHA-256 of ``message``."""
    return hmac.digest(key, message, "sha256")


def equal(a: bytes, b: bytes) -> bool:
    """Compare two byte strings in time that depends on their lengths alone."""
    return hmac.compare_digest(a, b)
