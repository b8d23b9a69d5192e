"""Prekey pools as rows and as one piece, for an encrypted store (docs/format/prekeys.md, "Pool").

A store keeps one row for each secret (key: kind and id), one for each used base key, and the next id.
``difference`` names the rows that one step of the protocol changed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from securechat.crypto.kem import SEED_BYTES
from securechat.crypto.keys import KEY_BYTES
from securechat.crypto.secret import SecretBytes
from securechat.errors import WireError
from securechat.protocol.prekeys import PreKeyPool, PreKeySecret, UsedHandshake, row_key
from securechat.wire.codec import Reader, Writer
from securechat.wire.prekeys import DH_KINDS, PreKeyKind, read_kind

FORMAT_VERSION: Final = 1
MAX_ROWS: Final = 2**20  # secrets, or used base keys, in one encoded pool


@dataclass(frozen=True, slots=True)
class PoolDifference:
    """The rows to write and to delete so that a store that held the old pool holds the new one."""

    next_id: int
    stored: tuple[PreKeySecret, ...]
    deleted: tuple[tuple[PreKeyKind, int], ...]
    used_stored: tuple[UsedHandshake, ...]
    used_deleted: tuple[UsedHandshake, ...]


def difference(old: PreKeyPool, new: PreKeyPool) -> PoolDifference:
    """Compare two pools; ``new`` came out of ``old``, so an unchanged secret is the same object in both."""
    before = {row_key(secret): secret for secret in old.secrets()}
    after = {row_key(secret): secret for secret in new.secrets()}
    return PoolDifference(
        next_id=new.next_id,
        stored=tuple(secret for key, secret in after.items() if before.get(key) is not secret),
        deleted=tuple(key for key in before if key not in after),
        used_stored=tuple(sorted(new.used - old.used)),
        used_deleted=tuple(sorted(old.used - new.used)),
    )


def assemble_pool(next_id: int, secrets: Iterable[PreKeySecret], used: Iterable[UsedHandshake]) -> PreKeyPool:
    """Build a pool from rows: all lasting secrets, and any of the one-time ones. Raises WireError."""
    by_kind: dict[PreKeyKind, dict[int, PreKeySecret]] = {kind: {} for kind in PreKeyKind}
    for secret in secrets:
        by_kind[secret.kind][secret.id] = secret
    signed, last_resort = by_kind[PreKeyKind.SIGNED], by_kind[PreKeyKind.KEM_LAST_RESORT]
    lasting = sorted((*signed.values(), *last_resort.values()), key=row_key)
    return PreKeyPool(
        next_id=next_id,
        signed=_current(signed.values()),
        last_resort=_current(last_resort.values()),
        retired=tuple(secret for secret in lasting if secret.retired_ms),
        one_time=by_kind[PreKeyKind.ONE_TIME],
        kem_one_time=by_kind[PreKeyKind.KEM_ONE_TIME],
        used=frozenset(used),
    )


def encode_secret(secret: PreKeySecret) -> bytes:
    """Return one secret's row: 62 bytes (X25519) or 94 bytes (ML-KEM)."""
    writer = Writer().u8(FORMAT_VERSION)
    _write_secret(writer, secret)
    return writer.done()


def parse_secret(raw: bytes) -> PreKeySecret:
    """Return the secret of a row. Raises WireError."""
    reader = Reader(raw)
    reader.expect(FORMAT_VERSION, "the prekey secret's version")
    secret = _read_secret(reader)
    reader.end()
    return secret


def encode_pool(pool: PreKeyPool) -> bytes:
    """Return the whole pool in one piece."""
    secrets, used = pool.secrets(), sorted(pool.used)
    writer = Writer().u8(FORMAT_VERSION).u32(pool.next_id).u32(len(secrets))
    for secret in secrets:
        _write_secret(writer, secret)
    writer.u32(len(used))
    for handshake in used:
        writer.u32(handshake.signed_id).fixed(handshake.base_key, KEY_BYTES)
    return writer.done()


def parse_pool(raw: bytes) -> PreKeyPool:
    """Return the pool of one piece. Raises WireError."""
    reader = Reader(raw)
    reader.expect(FORMAT_VERSION, "the pool's version")
    next_id = reader.u32()
    secrets = [_read_secret(reader) for _ in range(_read_count(reader))]
    used = [UsedHandshake(reader.u32(), reader.fixed(KEY_BYTES)) for _ in range(_read_count(reader))]
    reader.end()
    keys = [row_key(secret) for secret in secrets]
    if any(a >= b for a, b in pairwise(keys)) or any(a >= b for a, b in pairwise(used)):
        raise WireError("the rows of a pool are not in ascending order")
    return assemble_pool(next_id, secrets, used)


def _write_secret(writer: Writer, secret: PreKeySecret) -> None:
    writer.u8(secret.kind).u32(secret.id).u64(secret.created_ms).u64(secret.expires_ms)
    writer.u64(secret.retired_ms).fixed(secret.private.reveal(), _private_bytes(secret.kind))


def _read_secret(reader: Reader) -> PreKeySecret:
    kind, key_id = read_kind(reader), reader.u32()
    created_ms, expires_ms, retired_ms = reader.u64(), reader.u64(), reader.u64()
    if retired_ms and kind in (PreKeyKind.ONE_TIME, PreKeyKind.KEM_ONE_TIME):
        raise WireError("a one-time prekey is never retired")
    private = SecretBytes(reader.fixed(_private_bytes(kind)))
    return PreKeySecret(kind, key_id, created_ms, expires_ms, retired_ms, private)


def _private_bytes(kind: PreKeyKind) -> int:
    return KEY_BYTES if kind in DH_KINDS else SEED_BYTES


def _read_count(reader: Reader) -> int:
    count = reader.u32()
    if count > MAX_ROWS:
        raise WireError(f"{count} rows are more than {MAX_ROWS}")
    return count


def _current(secrets: Iterable[PreKeySecret]) -> PreKeySecret:
    current = [secret for secret in secrets if not secret.retired_ms]
    if len(current) != 1:
        raise WireError(f"{len(current)} current prekeys of a kind, not one")
    return current[0]
