"""Public keys as codec fragments (docs/format/conventions.md): the wrong form is a malformed field."""

from securechat.crypto.kem import PUBLIC_KEY_BYTES, KemKind, KemPublicKey
from securechat.crypto.keys import KEY_BYTES, DhPublicKey, VerifyKey
from securechat.errors import WeakPublicKeyError, WireError
from securechat.wire.codec import Reader


def read_dh_key(reader: Reader) -> DhPublicKey:
    """Take a 32-byte X25519 public key in canonical form. Raises WireError."""
    raw = reader.fixed(KEY_BYTES)
    try:
        return DhPublicKey(raw)
    except WeakPublicKeyError as error:
        raise WireError("an X25519 key is not in canonical form") from error


def read_verify_key(reader: Reader) -> VerifyKey:
    """Take a 32-byte Ed25519 public key; the signature check judges its point. Raises WireError."""
    return VerifyKey(reader.fixed(KEY_BYTES))


def read_kem_key(reader: Reader, kind: KemKind) -> KemPublicKey:
    """Take an ML-KEM public key of ``kind``: 1,184 or 1,568 bytes. Raises WireError."""
    return KemPublicKey(kind, reader.fixed(PUBLIC_KEY_BYTES[kind]))
