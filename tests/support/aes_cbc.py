"""AES-256-CBC with a truncated HMAC-SHA-256, as OMEMO 2 and Olm seal a message."""

import hmac
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from securechat.errors import DecryptionError


class MessageMaterial(NamedTuple):
    """What HKDF makes of a message key: two keys of 32 bytes and an IV of 16."""

    encryption: bytes
    authentication: bytes
    iv: bytes

    @classmethod
    def cut(cls, derived: bytes) -> "MessageMaterial":
        """Cut 80 derived bytes into their three parts."""
        return cls(derived[:32], derived[32:64], derived[64:])

    def encrypt(self, plaintext: bytes) -> bytes:
        """Return the ciphertext, with PKCS #7 padding."""
        padder = PKCS7(128).padder()
        encryptor = Cipher(algorithms.AES(self.encryption), modes.CBC(self.iv)).encryptor()
        padded = padder.update(plaintext) + padder.finalize()
        return encryptor.update(padded) + encryptor.finalize()

    def mac(self, covered: bytes, length: int) -> bytes:
        """Return the first ``length`` bytes of the HMAC-SHA-256 over ``covered``."""
        return hmac.digest(self.authentication, covered, "sha256")[:length]

    def open(self, ciphertext: bytes, *, mac: bytes, covered: bytes, length: int) -> bytes:
        """Check the MAC of ``length`` bytes, then decrypt. Raises DecryptionError."""
        if not hmac.compare_digest(mac, self.mac(covered, length)):
            raise DecryptionError("cannot decrypt")
        decryptor = Cipher(algorithms.AES(self.encryption), modes.CBC(self.iv)).decryptor()
        unpadder = PKCS7(128).unpadder()
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
