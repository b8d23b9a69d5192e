"""The hash chain over entries, and the leaf hash that chain and tree share.

    leaf_i  = SHA-256(0x00 || body_i)                     (RFC 6962, 2.1)
    chain_i = SHA-256(0x02 || chain_{i-1} || leaf_i)
    chain_{-1} = SHA-256(origin)

The chain gives each row a check of its own, read in one pass; the tree above the same leaves is what is
signed.
"""

from hashlib import sha256
from typing import Final

HASH_SIZE: Final = 32  # bytes


def genesis(origin: str) -> bytes:
    """Return the 32 bytes that stand before the first entry of the log ``origin``."""
    return sha256(origin.encode()).digest()


def leaf_hash(body: bytes) -> bytes:
    """Return the 32-byte leaf hash of stored entry bytes."""
    return sha256(b"\x00" + body).digest()


def link(previous: bytes, leaf: bytes) -> bytes:
    """Return the next 32-byte chain value; both inputs are 32 bytes."""
    return sha256(b"\x02" + previous + leaf).digest()
