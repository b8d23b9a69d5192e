"""X25519 and Ed25519 keys and operations, on libsodium (RFC 7748, RFC 8032).

Public keys are 32 bytes each in classes of their own, so that one cannot stand for the other.
"""

from dataclasses import dataclass
from typing import Final

import nacl.bindings as sodium
import nacl.exceptions

from securechat.crypto.secret import SecretBytes
from securechat.errors import InvalidSignatureError, WeakPublicKeyError
from securechat.ports import RandomBytes

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
_P: Final = 2**255 - 19


@dataclass(frozen=True, slots=True)
class DhPublicKey:
    """X25519 public key: 32 bytes, canonical (RFC 7748 section 5)."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise WeakPublicKeyError(f"an X25519 key has {KEY_BYTES} bytes, not {len(self.raw)}")
        if int.from_bytes(self.raw, "little") >= _P:
            raise WeakPublicKeyError("the X25519 key is not in canonical form")


@dataclass(frozen=True, slots=True)
class DhKeyPair:
    """X25519 key pair: the 32-byte scalar and its public key."""

    private: SecretBytes
    public: DhPublicKey

    @classmethod
    def generate(cls, random_bytes: RandomBytes) -> "DhKeyPair":
        """Make a key pair from 32 random bytes."""
        return cls.from_private(SecretBytes(random_bytes(KEY_BYTES)))

    @classmethod
    def from_private(cls, private: SecretBytes) -> "DhKeyPair":
        """Return the pair of a stored 32-byte scalar."""
        return cls(private, DhPublicKey(sodium.crypto_scalarmult_base(private.reveal())))

    def agree(self, peer: DhPublicKey) -> SecretBytes:
        """Return the 32-byte X25519 secret. Raises WeakPublicKeyError if it is all zeros."""
        return SecretBytes(agree_raw(self.private.reveal(), peer.raw))


def agree_raw(private: bytes, public: bytes) -> bytes:
    """X25519 on raw bytes, for the ratchet's hot path. Raises WeakPublicKeyError on all zeros."""
    try:
        return sodium.crypto_scalarmult(private, public)
    except (nacl.exceptions.CryptoError, nacl.exceptions.RuntimeError) as error:
        raise WeakPublicKeyError("the X25519 key has a small order") from error


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """Ed25519 public key: 32 bytes."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise WeakPublicKeyError(f"an Ed25519 key has {KEY_BYTES} bytes, not {len(self.raw)}")

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a 64-byte signature over ``message``. Raises InvalidSignatureError."""
        if len(signature) != SIGNATURE_BYTES:
            raise InvalidSignatureError(f"a signature has {SIGNATURE_BYTES} bytes, not {len(signature)}")
        try:
            sodium.crypto_sign_open(signature + message, self.raw)
        except nacl.exceptions.BadSignatureError as error:
            raise InvalidSignatureError("the signature does not verify") from error


@dataclass(frozen=True, slots=True)
class SigningKeyPair:
    """Ed25519 key pair: the 32-byte seed, libsodium's 64-byte expanded form, and the public key."""

    seed: SecretBytes
    expanded: SecretBytes
    public: VerifyKey

    @classmethod
    def generate(cls, random_bytes: RandomBytes) -> "SigningKeyPair":
        """Make a key pair from a 32-byte random seed."""
        return cls.from_seed(SecretBytes(random_bytes(KEY_BYTES)))

    @classmethod
    def from_seed(cls, seed: SecretBytes) -> "SigningKeyPair":
        """Return the pair of a stored 32-byte seed (RFC 8032 section 5.1.5)."""
        public, expanded = sodium.crypto_sign_seed_keypair(seed.reveal())
        return cls(seed, SecretBytes(expanded), VerifyKey(public))

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over ``message``."""
        return sodium.crypto_sign(message, self.expanded.reveal())[:SIGNATURE_BYTES]
