"""The rules of the directory: which list follows which, which prekeys are new, when a device runs low. Pure.

Signatures and dates are checked by ``securechat.wire``; what stands here needs what the server already holds.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from keyserver.errors import DeviceListConflictError, PreKeyConflictError, PreKeyLimitError
from securechat.errors import DeviceListError
from securechat.ids import DeviceId
from securechat.wire.devices import DeviceRecord, SignedDeviceList, check_successor
from securechat.wire.prekeys import DAY_MS, PreKeyKind, PreKeyUpload, SignedPreKey, encode_prekey

MAX_STORED: Final = 200  # one-time prekeys of each kind, of one device
LOW_WATER: Final = 20  # one-time prekeys of a kind; below it the device should publish more
CLAIM_LIFETIME_MS: Final = 600_000  # how long a claim is answered again under its Idempotency-Key
LASTING_KINDS: Final = frozenset({PreKeyKind.SIGNED, PreKeyKind.KEM_LAST_RESORT})
ONE_TIME_KINDS: Final = frozenset({PreKeyKind.ONE_TIME, PreKeyKind.KEM_ONE_TIME})

PreKeyName = tuple[PreKeyKind, int]  # kind and id: unique within a device


@dataclass(frozen=True, slots=True)
class ListChange:
    """What a new device list changes; nothing at all when it is the held one again."""

    same: bool
    first: bool
    added: tuple[DeviceRecord, ...]
    removed: tuple[DeviceId, ...]


@dataclass(frozen=True, slots=True)
class StoredPreKey:
    """A single prekey as it is stored: its bytes, their SHA-256, and its dates."""

    kind: PreKeyKind
    id: int
    body: bytes
    digest: bytes
    created_ms: int
    expires_ms: int

    @property
    def name(self) -> PreKeyName:
        """Kind and id."""
        return self.kind, self.id


@dataclass(frozen=True, slots=True)
class HeldPreKeys:
    """What the server holds of a device before an upload.

    ``digests`` are those of every id ever published and not yet expired, also of prekeys already handed out;
    ``lasting`` are the creation times of the lasting prekeys in force; ``counts`` those of one-time prekeys.
    """

    digests: Mapping[PreKeyName, bytes]
    lasting: Mapping[PreKeyKind, int]
    counts: Mapping[PreKeyKind, int]


@dataclass(frozen=True, slots=True)
class PreKeyCounts:
    """One-time prekeys left for a device."""

    one_time: int
    kem_one_time: int

    @property
    def low(self) -> bool:
        """Whether the device should publish more."""
        return min(self.one_time, self.kem_one_time) < LOW_WATER


def judge_list(held: SignedDeviceList | None, new: SignedDeviceList, now_ms: int) -> ListChange:
    """Return what ``new``, whose signatures were checked, changes in ``held``.

    Raises DeviceListConflictError unless it is the held list or its very next, and DeviceListError for one
    dated more than a day ahead, of another account, or with changed keys.
    """
    if held is not None and new.encode() == held.encode():
        return ListChange(same=True, first=False, added=(), removed=())
    if new.value.issued_ms - now_ms > DAY_MS:
        raise DeviceListError("the list is dated more than a day ahead")
    if held is None:
        if new.value.version != 1:
            raise DeviceListConflictError(f"the first list has version 1, not {new.value.version}")
        return ListChange(same=False, first=True, added=new.value.devices, removed=())
    _check_continues(held, new)
    before = {record.device for record in held.value.devices}
    after = {record.device for record in new.value.devices}
    return ListChange(
        same=False,
        first=False,
        added=tuple(record for record in new.value.devices if record.device not in before),
        removed=tuple(sorted(before - after)),
    )


def stored_prekeys(upload: PreKeyUpload) -> tuple[StoredPreKey, ...]:
    """Return every prekey of ``upload`` by itself."""
    prekeys: tuple[SignedPreKey, ...] = (
        upload.signed,
        upload.last_resort,
        *upload.one_time,
        *upload.kem_one_time,
    )
    return tuple(_stored(prekey) for prekey in prekeys)


def new_prekeys(uploaded: tuple[StoredPreKey, ...], held: HeldPreKeys) -> tuple[StoredPreKey, ...]:
    """Return those of ``uploaded`` that were never published before; the others are the same again.

    Raises PreKeyConflictError (another key under an old id, or a lasting prekey older than the one in force)
    and PreKeyLimitError. An upload is taken whole or not at all.
    """
    new: list[StoredPreKey] = []
    for prekey in uploaded:
        known = held.digests.get(prekey.name)
        if known is None:
            new.append(prekey)
        elif known != prekey.digest:
            raise PreKeyConflictError(f"prekey kind {prekey.kind.value} has another key under this id")
    for prekey in new:
        if prekey.created_ms < held.lasting.get(prekey.kind, 0):
            raise PreKeyConflictError(f"prekey kind {prekey.kind.value} is older than the one in force")
    _check_room(new, held)
    return tuple(new)


def _check_continues(held: SignedDeviceList, new: SignedDeviceList) -> None:
    follows = new.value.version == held.value.version + 1 and new.value.previous_hash == held.hash()
    if not follows:
        raise DeviceListConflictError(
            f"version {new.value.version} does not continue version {held.value.version}"
        )
    check_successor(held, new)


def _check_room(new: list[StoredPreKey], held: HeldPreKeys) -> None:
    for kind in ONE_TIME_KINDS:
        count = held.counts.get(kind, 0) + sum(prekey.kind is kind for prekey in new)
        if count > MAX_STORED:
            raise PreKeyLimitError(f"{count} prekeys of kind {kind.value} are more than {MAX_STORED}")


def _stored(prekey: SignedPreKey) -> StoredPreKey:
    body = encode_prekey(prekey)
    digest = hashlib.sha256(body).digest()
    return StoredPreKey(prekey.kind, prekey.id, body, digest, prekey.created_ms, prekey.expires_ms)
