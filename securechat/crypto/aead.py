"""AES-256-GCM (NIST SP 800-38D) with 12-byte nonces and 16-byte tags."""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securechat.errors import DecryptionError

AES_KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16


def seal(key: bytes, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    """Return ciphertext and tag, ``len(plaintext) + 16`` bytes. A (key, nonce) pair is used once."""
    return AESGCM(key).encrypt(nonce, plaintext, associated_data)


def open_(key: bytes, nonce: bytes, ciphertext: bytes, associated_data: bytes) -> bytes:
    """Return the plaintext. Raises DecryptionError for every reason."""
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, associated_data)
    except (InvalidTag, ValueError) as error:
        raise DecryptionError("cannot decrypt") from error
