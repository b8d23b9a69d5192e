"""Argon2id (RFC 9106): a passphrase becomes a 32-byte store key."""

from dataclasses import dataclass
from typing import Final

from argon2.low_level import Type, hash_secret_raw

from securechat.crypto.secret import SecretBytes

SALT_BYTES: Final = 16
STORE_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Argon2Profile:
    """Cost of one derivation: passes, memory in KiB, lanes."""

    passes: int
    memory_kib: int
    lanes: int


INTERACTIVE: Final = Argon2Profile(passes=3, memory_kib=65_536, lanes=4)  # RFC 9106 section 4, second choice
TESTING: Final = Argon2Profile(passes=1, memory_kib=64, lanes=1)  # for tests only: offers no protection


def derive_store_key(passphrase: str, salt: bytes, profile: Argon2Profile = INTERACTIVE) -> SecretBytes:
    """Return the 32-byte key for ``passphrase`` (UTF-8) and a 16-byte random ``salt``."""
    return SecretBytes(
        hash_secret_raw(
            passphrase.encode(),
            salt,
            time_cost=profile.passes,
            memory_cost=profile.memory_kib,
            parallelism=profile.lanes,
            hash_len=STORE_KEY_BYTES,
            type=Type.ID,
        )
    )
