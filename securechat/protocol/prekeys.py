"""The private halves of this device's prekeys: made, published, rotated, used once and forgotten.

A pool is a value: every operation returns a new one. Keys are kept as seeds and expanded when one of them is
used. ``securechat.protocol.prekey_rows`` stores pools; docs/format/prekeys.md is normative.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from securechat.crypto.kem import SEED_BYTES, KemKeyPair, KemKind
from securechat.crypto.keys import KEY_BYTES, DhKeyPair
from securechat.crypto.secret import SecretBytes
from securechat.errors import DuplicateMessageError, StalePreKeyError
from securechat.ports import RandomBytes
from securechat.protocol.pqxdh import LocalDevice
from securechat.wire.codec import MAX_U32
from securechat.wire.handshake import PqxdhHeader
from securechat.wire.prekeys import (
    DAY_MS,
    DH_KINDS,
    MAX_AGE_MS,
    MAX_AHEAD_MS,
    MAX_ONE_TIME,
    PreKeyKind,
    PreKeyUpload,
    SignedDhPreKey,
    SignedKemPreKey,
    sign_dh_prekey,
    sign_kem_prekey,
)

ROTATE_AFTER_MS: Final = 7 * DAY_MS  # age at which the signed and the last-resort prekey are replaced
KEEP_MS: Final = 30 * DAY_MS  # a message under a replaced or expired prekey may wait this long at the relay
LOW_WATER: Final = 25  # one-time prekeys of a kind left at the server
_FIRST_ID_BYTES: Final = 3  # ids start at a random 24-bit number, so a device made anew meets no old ids
_RESTORE_STEP: Final = 2**24  # more ids than a store can have given out since its backup


@dataclass(frozen=True, slots=True)
class PreKeySecret:
    """One private prekey: 32 bytes (X25519) or the 64-byte ML-KEM seed.

    ``retired_ms`` is 0 while the key is offered, else the time of its replacement.
    """

    kind: PreKeyKind
    id: int
    created_ms: int
    expires_ms: int
    retired_ms: int
    private: SecretBytes
    _dh: DhKeyPair | None = field(default=None, init=False, compare=False, repr=False)
    _kem: KemKeyPair | None = field(default=None, init=False, compare=False, repr=False)

    def dh_pair(self) -> DhKeyPair:
        """Return the X25519 pair; kept after the first call, since a lasting key serves many handshakes."""
        pair = self._dh or DhKeyPair.from_private(self.private)
        object.__setattr__(self, "_dh", pair)  # a memo: the value stays what it is
        return pair

    def kem_pair(self) -> KemKeyPair:
        """Return the ML-KEM-1024 pair; kept after the first call, which costs a key generation."""
        pair = self._kem or KemKeyPair(KemKind.ML_KEM_1024, self.private)
        object.__setattr__(self, "_kem", pair)
        return pair

    def delete_after_ms(self) -> int:
        """Return the time after which no honest message can need this key."""
        return (self.retired_ms or self.expires_ms) + KEEP_MS


@dataclass(frozen=True, slots=True, order=True)
class UsedHandshake:
    """A base key (32 bytes) that opened a session under the signed prekey ``signed_id``."""

    signed_id: int
    base_key: bytes


@dataclass(frozen=True, slots=True)
class PreKeyCounts:
    """One-time prekeys of each kind that the server still holds for this device."""

    one_time: int
    kem_one_time: int


@dataclass(frozen=True, slots=True)
class PreKeyPool:
    """All private prekeys of one device, and the memory that stops replays.

    ``signed`` and ``last_resort`` are the current ones; ``retired`` holds their predecessors in order of kind
    and id. ``one_time`` and ``kem_one_time`` go by id and may be a part of what the store holds, such as the
    keys that one message names. INVARIANT: an id is given out once, whatever the kind.
    """

    next_id: int
    signed: PreKeySecret
    last_resort: PreKeySecret
    retired: tuple[PreKeySecret, ...]
    one_time: Mapping[int, PreKeySecret]
    kem_one_time: Mapping[int, PreKeySecret]
    used: frozenset[UsedHandshake]

    def secrets(self) -> tuple[PreKeySecret, ...]:
        """Return every secret, in order of kind and id."""
        lasting = (self.signed, self.last_resort, *self.retired)
        every = (*lasting, *self.one_time.values(), *self.kem_one_time.values())
        return tuple(sorted(every, key=row_key))

    def check_unused(self, header: PqxdhHeader) -> None:
        """Raise DuplicateMessageError if the base key of ``header`` opened a session before."""
        if handshake_of(header) in self.used:
            raise DuplicateMessageError("this handshake was completed before")

    def signed_pair(self, header: PqxdhHeader) -> DhKeyPair:
        """Return the signed prekey that ``header`` names. Raises StalePreKeyError."""
        return self._lasting(PreKeyKind.SIGNED, header.signed_id).dh_pair()

    def one_time_pair(self, header: PqxdhHeader) -> DhKeyPair | None:
        """Return the one-time prekey that ``header`` names, or None. Raises StalePreKeyError."""
        if header.one_time_id is None:
            return None
        return _held(self.one_time, header.one_time_id).dh_pair()

    def kem_pair(self, header: PqxdhHeader) -> KemKeyPair:
        """Return the ML-KEM-1024 prekey that ``header`` names. Raises StalePreKeyError."""
        if header.kem_kind is PreKeyKind.KEM_ONE_TIME:
            return _held(self.kem_one_time, header.kem_id).kem_pair()
        return self._lasting(PreKeyKind.KEM_LAST_RESORT, header.kem_id).kem_pair()

    def _lasting(self, kind: PreKeyKind, key_id: int) -> PreKeySecret:
        for secret in (self.signed, self.last_resort, *self.retired):
            if secret.kind is kind and secret.id == key_id:
                return secret
        raise StalePreKeyError("the prekey is not held any more")


def row_key(secret: PreKeySecret) -> tuple[PreKeyKind, int]:
    """Return what names a secret within its pool; secrets are kept in this order."""
    return secret.kind, secret.id


def generate_pool(
    own: LocalDevice, now_ms: int, random_bytes: RandomBytes, *, one_time: int = MAX_ONE_TIME
) -> tuple[PreKeyPool, PreKeyUpload]:
    """Return a new device's pool, and what to publish of it, with ``one_time`` keys of each one-time kind.

    Draws 3 bytes for the first id, then 32 or 64 for each key: signed, last resort, one-time X25519, one-time
    KEM. Store the pool and the encoded upload in one transaction before publishing, and publish again after
    a crash: the server takes the same upload twice.
    """
    first = 1 + int.from_bytes(random_bytes(_FIRST_ID_BYTES), "big")
    signed = _new_secret(PreKeyKind.SIGNED, first, now_ms, random_bytes)
    last_resort = _new_secret(PreKeyKind.KEM_LAST_RESORT, first + 1, now_ms, random_bytes)
    empty = PreKeyPool(first + 2, signed, last_resort, (), {}, {}, frozenset())
    return _add_one_time(empty, own, PreKeyCounts(one_time, one_time), now_ms, random_bytes)


def rotate(pool: PreKeyPool, now_ms: int, random_bytes: RandomBytes) -> PreKeyPool:
    """Replace the signed and the last-resort prekey once they are 7 days old; forget what is out of date.

    Keys dated more than a day ahead, by a clock since put right, are replaced at once. A replaced key is kept
    for 30 days, a one-time key for 30 days past its expiry, and a used base key as long as its signed prekey.
    Publish the change by ``refill``.
    """
    pool = forget_old_prekeys(pool, now_ms)
    if not _is_due(pool, now_ms):
        return pool
    signed = _new_secret(PreKeyKind.SIGNED, pool.next_id, now_ms, random_bytes)
    last_resort = _new_secret(PreKeyKind.KEM_LAST_RESORT, _next(pool.next_id), now_ms, random_bytes)
    retired = (replace(pool.signed, retired_ms=now_ms), replace(pool.last_resort, retired_ms=now_ms))
    return replace(
        pool,
        next_id=_next(last_resort.id),
        signed=signed,
        last_resort=last_resort,
        retired=tuple(sorted((*pool.retired, *retired), key=row_key)),
    )


def refill(
    pool: PreKeyPool, own: LocalDevice, counts: PreKeyCounts, now_ms: int, random_bytes: RandomBytes
) -> tuple[PreKeyPool, PreKeyUpload]:
    """Return the pool with as many new one-time keys as the server lacks of 100, and what to publish.

    The upload holds the current signed and last-resort prekeys and the new one-time keys alone. Store both
    before publishing, as for ``generate_pool``.
    """
    missing = PreKeyCounts(max(0, MAX_ONE_TIME - counts.one_time), max(0, MAX_ONE_TIME - counts.kem_one_time))
    return _add_one_time(pool, own, missing, now_ms, random_bytes)


def needs_upkeep(pool: PreKeyPool, counts: PreKeyCounts, now_ms: int) -> bool:
    """Say whether ``rotate`` and ``refill`` are due: by age, or by fewer than 25 keys of a kind left."""
    return _is_due(pool, now_ms) or min(counts.one_time, counts.kem_one_time) < LOW_WATER


def consume(pool: PreKeyPool, header: PqxdhHeader) -> PreKeyPool:
    """Return the pool after ``header`` opened a session: its one-time keys gone, its base key remembered."""
    return replace(
        pool,
        one_time=_without(pool.one_time, header.one_time_id),
        kem_one_time=_without(
            pool.kem_one_time, header.kem_id if header.kem_kind is PreKeyKind.KEM_ONE_TIME else None
        ),
        used=pool.used | {handshake_of(header)},
    )


def skip_ids(pool: PreKeyPool, random_bytes: RandomBytes) -> PreKeyPool:
    """Return the pool with its next id far ahead, for a store that was restored from a backup.

    The server may know ids that the restored pool never gave out, and refuses a second key under one of them.
    """
    ahead = _RESTORE_STEP + int.from_bytes(random_bytes(_FIRST_ID_BYTES), "big")
    return replace(pool, next_id=(pool.next_id + ahead - 1) % MAX_U32 + 1)


def published(secret: PreKeySecret, own: LocalDevice) -> SignedDhPreKey | SignedKemPreKey:
    """Return the public, signed form of ``secret``; the same bytes every time."""
    if secret.kind in DH_KINDS:
        return _published_dh(secret, own)
    return _published_kem(secret, own)


def _add_one_time(
    pool: PreKeyPool, own: LocalDevice, wanted: PreKeyCounts, now_ms: int, random_bytes: RandomBytes
) -> tuple[PreKeyPool, PreKeyUpload]:
    first = pool.next_id
    if first + wanted.one_time + wanted.kem_one_time > MAX_U32:
        first = 1  # the ids start again; those of four billion prekeys ago are long gone
    second = first + wanted.one_time
    end = second + wanted.kem_one_time
    one_time = [_new_secret(PreKeyKind.ONE_TIME, n, now_ms, random_bytes) for n in range(first, second)]
    kem = [_new_secret(PreKeyKind.KEM_ONE_TIME, n, now_ms, random_bytes) for n in range(second, end)]
    upload = PreKeyUpload(
        signed=_published_dh(pool.signed, own),
        last_resort=_published_kem(pool.last_resort, own),
        one_time=tuple(_published_dh(secret, own) for secret in one_time),
        kem_one_time=tuple(_published_kem(secret, own) for secret in kem),
    )
    grown = replace(
        pool,
        next_id=end,
        one_time={**pool.one_time, **_by_id(one_time)},
        kem_one_time={**pool.kem_one_time, **_by_id(kem)},
    )
    return grown, upload


def _published_dh(secret: PreKeySecret, own: LocalDevice) -> SignedDhPreKey:
    return sign_dh_prekey(
        own.signing,
        own.address,
        kind=secret.kind,
        key_id=secret.id,
        public=DhKeyPair.from_private(secret.private).public,
        created_ms=secret.created_ms,
        expires_ms=secret.expires_ms,
    )


def _published_kem(secret: PreKeySecret, own: LocalDevice) -> SignedKemPreKey:
    return sign_kem_prekey(
        own.signing,
        own.address,
        kind=secret.kind,
        key_id=secret.id,
        public=KemKeyPair(KemKind.ML_KEM_1024, secret.private).public,  # not kept: a hundred are large
        created_ms=secret.created_ms,
        expires_ms=secret.expires_ms,
    )


def _new_secret(kind: PreKeyKind, key_id: int, now_ms: int, random_bytes: RandomBytes) -> PreKeySecret:
    private = SecretBytes(random_bytes(KEY_BYTES if kind in DH_KINDS else SEED_BYTES))
    return PreKeySecret(kind, key_id, now_ms, now_ms + MAX_AGE_MS, 0, private)


def forget_old_prekeys(pool: PreKeyPool, now_ms: int) -> PreKeyPool:
    """Return the pool without what no honest message can need any more; see ``rotate``."""
    retired = tuple(secret for secret in pool.retired if now_ms <= secret.delete_after_ms())
    signed_ids = {secret.id for secret in (pool.signed, *retired) if secret.kind is PreKeyKind.SIGNED}
    return replace(
        pool,
        retired=retired,
        one_time=_by_id(s for s in pool.one_time.values() if now_ms <= s.delete_after_ms()),
        kem_one_time=_by_id(s for s in pool.kem_one_time.values() if now_ms <= s.delete_after_ms()),
        used=frozenset(used for used in pool.used if used.signed_id in signed_ids),
    )


def _is_due(pool: PreKeyPool, now_ms: int) -> bool:
    ages = [now_ms - secret.created_ms for secret in (pool.signed, pool.last_resort)]
    return max(ages) >= ROTATE_AFTER_MS or min(ages) < -MAX_AHEAD_MS


def _next(key_id: int) -> int:
    return key_id % MAX_U32 + 1


def handshake_of(header: PqxdhHeader) -> UsedHandshake:
    """Return what is remembered of ``header`` once it has opened a session."""
    return UsedHandshake(header.signed_id, header.ephemeral.raw)


def _held(secrets: Mapping[int, PreKeySecret], key_id: int) -> PreKeySecret:
    try:
        return secrets[key_id]
    except KeyError as error:
        raise StalePreKeyError("the prekey is not held any more") from error


def _by_id(secrets: Iterable[PreKeySecret]) -> Mapping[int, PreKeySecret]:
    return {secret.id: secret for secret in secrets}


def _without(secrets: Mapping[int, PreKeySecret], key_id: int | None) -> Mapping[int, PreKeySecret]:
    return {held: secret for held, secret in secrets.items() if held != key_id}
