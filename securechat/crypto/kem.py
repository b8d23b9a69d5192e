"""ML-KEM-768 and ML-KEM-1024 (FIPS 203). A wrong ciphertext gives another secret, never an error.

The private form is the 64-byte seed; building the key object from it costs a key generation, so holders keep
the object.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
    MLKEM1024PrivateKey,
    MLKEM1024PublicKey,
)

from securechat.crypto.secret import SecretBytes
from securechat.errors import DecryptionError, WeakPublicKeyError
from securechat.ports import RandomBytes

SEED_BYTES: Final = 64
SHARED_SECRET_BYTES: Final = 32


class KemKind(Enum):
    """Parameter sets; the value is the wire's type byte."""

    ML_KEM_768 = 1
    ML_KEM_1024 = 2


PUBLIC_KEY_BYTES: Final = {KemKind.ML_KEM_768: 1184, KemKind.ML_KEM_1024: 1568}
CIPHERTEXT_BYTES: Final = {KemKind.ML_KEM_768: 1088, KemKind.ML_KEM_1024: 1568}


_PrivateKey = MLKEM768PrivateKey | MLKEM1024PrivateKey
_PublicKey = MLKEM768PublicKey | MLKEM1024PublicKey


@dataclass(frozen=True, slots=True)
class KemPublicKey:
    """ML-KEM public key: 1,184 or 1,568 bytes."""

    kind: KemKind
    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != PUBLIC_KEY_BYTES[self.kind]:
            raise WeakPublicKeyError(
                f"the KEM key has {len(self.raw)} bytes, not {PUBLIC_KEY_BYTES[self.kind]}"
            )

    def check(self) -> None:
        """Check the encoding of the whole key. Raises WeakPublicKeyError (FIPS 203 section 7.2)."""
        try:
            _parse_public(self.kind, self.raw)
        except ValueError as error:
            raise WeakPublicKeyError("the KEM key is malformed") from error

    def encapsulate(self) -> tuple[SecretBytes, bytes]:
        """Return a fresh 32-byte secret and its ciphertext (1,088 or 1,568 bytes).

        The library draws the randomness itself. Raises WeakPublicKeyError (FIPS 203 section 7.2).
        """
        try:
            secret, ciphertext = _parse_public(self.kind, self.raw).encapsulate()
        except (ValueError, UnsupportedAlgorithm) as error:
            raise WeakPublicKeyError("the KEM key is malformed") from error
        return SecretBytes(secret), ciphertext


class KemKeyPair:
    """ML-KEM key pair with its key object kept; ``repr`` shows nothing."""

    __slots__ = ("_key", "kind", "public", "seed")

    def __init__(self, kind: KemKind, seed: SecretBytes) -> None:
        self.kind = kind
        self.seed = seed
        self._key = _expand(kind, seed.reveal())
        self.public = KemPublicKey(kind, self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, kind: KemKind, random_bytes: RandomBytes) -> "KemKeyPair":
        """Make a key pair from a 64-byte random seed (FIPS 203 section 7.1)."""
        return cls(kind, SecretBytes(random_bytes(SEED_BYTES)))

    def decapsulate(self, ciphertext: bytes) -> SecretBytes:
        """Return the 32-byte secret. Raises DecryptionError only for a wrong length."""
        if len(ciphertext) != CIPHERTEXT_BYTES[self.kind]:
            raise DecryptionError("cannot decrypt")
        return SecretBytes(self._key.decapsulate(ciphertext))

    def __repr__(self) -> str:
        return f"KemKeyPair({self.kind.name})"


def _parse_public(kind: KemKind, raw: bytes) -> _PublicKey:
    if kind is KemKind.ML_KEM_768:
        return MLKEM768PublicKey.from_public_bytes(raw)
    return MLKEM1024PublicKey.from_public_bytes(raw)


def _expand(kind: KemKind, seed: bytes) -> _PrivateKey:
    if kind is KemKind.ML_KEM_768:
        return MLKEM768PrivateKey.from_seed_bytes(seed)
    return MLKEM1024PrivateKey.from_seed_bytes(seed)
