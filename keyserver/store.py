"""The directory in SQL: small statements, each on the connection of a running transaction."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, tuple_, update
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.schema import Table

from keyserver.directory import HeldPreKeys, PreKeyCounts, PreKeyName, StoredPreKey
from keyserver.tables import accounts, claims, devices, prekey_ids, prekeys
from securechat.authz.model import AccountStatus
from securechat.crypto.keys import DhPublicKey, VerifyKey
from securechat.ids import DeviceId, OrgId, ProtocolAddress, UserId
from securechat.web.accounts import AccountInfo
from securechat.wire.devices import DeviceRecord
from securechat.wire.prekeys import MAX_AGE_MS, PreKeyKind


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account and its signed device list, as received."""

    info: AccountInfo
    device_list: bytes


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """What was answered to a claim."""

    target: ProtocolAddress
    bundle: bytes


def load_account(connection: Connection, user: UserId) -> AccountRow | None:
    """Return the account of ``user``, or None."""
    row = connection.execute(select(accounts).where(accounts.c.user == user)).one_or_none()
    if row is None:
        return None
    info = AccountInfo(
        user=UserId(row.user),
        org=OrgId(row.org),
        roles=frozenset(row.roles.split()),
        status=AccountStatus(row.status),
        roles_issued_ms=row.roles_issued_ms,
    )
    return AccountRow(info, row.device_list)


def add_account(connection: Connection, account: AccountRow, now_ms: int) -> None:
    """Insert an account."""
    info = account.info
    connection.execute(
        insert(accounts).values(
            user=info.user,
            org=info.org,
            roles=" ".join(sorted(info.roles)),
            roles_issued_ms=info.roles_issued_ms,
            status=info.status.value,
            device_list=account.device_list,
            created_ms=now_ms,
        )
    )


def set_device_list(connection: Connection, user: UserId, device_list: bytes) -> None:
    """Replace the signed list of ``user``."""
    connection.execute(update(accounts).where(accounts.c.user == user).values(device_list=device_list))


def set_roles(connection: Connection, user: UserId, roles: frozenset[str], issued_ms: int) -> None:
    """Replace the roles of ``user``."""
    values = {"roles": " ".join(sorted(roles)), "roles_issued_ms": issued_ms}
    connection.execute(update(accounts).where(accounts.c.user == user).values(values))


def set_status(connection: Connection, user: UserId, status: AccountStatus) -> None:
    """Replace the status of ``user``."""
    connection.execute(update(accounts).where(accounts.c.user == user).values(status=status.value))


def signing_keys(connection: Connection, user: UserId) -> dict[DeviceId, VerifyKey]:
    """Return the signing keys of the enrolled devices of ``user``, by id in ascending order."""
    query = (
        select(devices.c.device, devices.c.signing)
        .where(devices.c.user == user, devices.c.removed_ms.is_(None))
        .order_by(devices.c.device)
    )
    return {DeviceId(row.device): VerifyKey(row.signing) for row in connection.execute(query)}


def known_keys(connection: Connection, address: ProtocolAddress) -> tuple[VerifyKey, DhPublicKey] | None:
    """Return the keys under which a device id was ever enrolled, also after its removal, or None."""
    query = select(devices.c.signing, devices.c.agreement).where(*_of(devices, address))
    row = connection.execute(query).one_or_none()
    return None if row is None else (VerifyKey(row.signing), DhPublicKey(row.agreement))


def enroll_device(connection: Connection, user: UserId, record: DeviceRecord, now_ms: int) -> None:
    """Insert a device, or bring the same one back."""
    address = ProtocolAddress(user, record.device)
    if known_keys(connection, address) is not None:
        connection.execute(update(devices).where(*_of(devices, address)).values(removed_ms=None))
        return
    connection.execute(
        insert(devices).values(
            user=user,
            device=record.device,
            signing=record.signing.raw,
            agreement=record.agreement.raw,
            enrolled_ms=now_ms,
        )
    )


def remove_device(connection: Connection, address: ProtocolAddress, now_ms: int) -> None:
    """Mark a device as removed and delete the prekeys that it published."""
    connection.execute(update(devices).where(*_of(devices, address)).values(removed_ms=now_ms))
    connection.execute(delete(prekeys).where(*_of(prekeys, address)))


def held_prekeys(
    connection: Connection, address: ProtocolAddress, names: Sequence[PreKeyName], now_ms: int
) -> HeldPreKeys:
    """Return what is held of a device, as far as an upload of ``names`` needs it."""
    query = select(prekey_ids.c.kind, prekey_ids.c.id, prekey_ids.c.digest).where(
        *_of(prekey_ids, address),
        tuple_(prekey_ids.c.kind, prekey_ids.c.id).in_([(kind.value, key_id) for kind, key_id in names]),
    )
    digests = {(PreKeyKind(row.kind), int(row.id)): row.digest for row in connection.execute(query)}
    counts = count_prekeys(connection, address, now_ms)
    return HeldPreKeys(
        digests=digests,
        lasting=_lasting(connection, address),
        counts={PreKeyKind.ONE_TIME: counts.one_time, PreKeyKind.KEM_ONE_TIME: counts.kem_one_time},
    )


def add_prekeys(connection: Connection, address: ProtocolAddress, new: Sequence[StoredPreKey]) -> None:
    """Store new prekeys; a new lasting prekey takes the place of the one in force."""
    if not new:
        return
    for prekey in new:
        if prekey.kind in (PreKeyKind.SIGNED, PreKeyKind.KEM_LAST_RESORT):
            connection.execute(
                delete(prekeys).where(*_of(prekeys, address), prekeys.c.kind == prekey.kind.value)
            )
    owner = {"user": address.user, "device": address.device}
    names = [{**owner, "kind": each.kind.value, "id": each.id, "expires_ms": each.expires_ms} for each in new]
    bodies = [
        {**name, "body": each.body, "created_ms": each.created_ms}
        for name, each in zip(names, new, strict=True)
    ]
    digests = [{**name, "digest": each.digest} for name, each in zip(names, new, strict=True)]
    connection.execute(insert(prekeys), bodies)
    connection.execute(insert(prekey_ids), digests)


def count_prekeys(connection: Connection, address: ProtocolAddress, now_ms: int) -> PreKeyCounts:
    """Return how many one-time prekeys of a device can still be handed out."""
    query = (
        select(prekeys.c.kind, func.count())
        .where(*_of(prekeys, address), *_in_date(now_ms))
        .group_by(prekeys.c.kind)
    )
    counts = {PreKeyKind(kind): int(count) for kind, count in connection.execute(query)}
    return PreKeyCounts(counts.get(PreKeyKind.ONE_TIME, 0), counts.get(PreKeyKind.KEM_ONE_TIME, 0))


def lasting_prekey(
    connection: Connection, address: ProtocolAddress, kind: PreKeyKind, now_ms: int
) -> bytes | None:
    """Return the lasting prekey of ``kind`` that is in force and in date, or None."""
    query = select(prekeys.c.body).where(
        *_of(prekeys, address), prekeys.c.kind == kind.value, *_in_date(now_ms)
    )
    body: bytes | None = connection.execute(query).scalar_one_or_none()
    return body


def take_one_time(
    connection: Connection, address: ProtocolAddress, kind: PreKeyKind, now_ms: int
) -> bytes | None:
    """Delete and return the one-time prekey of ``kind`` with the lowest id, or None.

    INVARIANT: a one-time prekey leaves the server exactly once; the deleting transaction is the one that
    answers, and the id stays in ``prekey_ids`` so that publishing it again does not bring it back.
    """
    first = (
        select(func.min(prekeys.c.id))
        .where(*_of(prekeys, address), prekeys.c.kind == kind.value, *_in_date(now_ms))
        .scalar_subquery()
    )
    taken = (
        delete(prekeys)
        .where(*_of(prekeys, address), prekeys.c.kind == kind.value, prekeys.c.id == first)
        .returning(prekeys.c.body)
    )
    body: bytes | None = connection.execute(taken).scalar_one_or_none()
    return body


def find_claim(connection: Connection, caller: ProtocolAddress, key: str, now_ms: int) -> ClaimRow | None:
    """Return what the claim of ``caller`` under ``key`` was answered, if it is still remembered."""
    query = select(claims).where(*_of(claims, caller), claims.c.key == key, claims.c.expires_ms > now_ms)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return ClaimRow(ProtocolAddress(UserId(row.target_user), DeviceId(row.target_device)), row.bundle)


def add_claim(
    connection: Connection, caller: ProtocolAddress, key: str, claim: ClaimRow, expires_ms: int
) -> None:
    """Remember what a claim was answered."""
    connection.execute(
        insert(claims).values(
            user=caller.user,
            device=caller.device,
            key=key,
            target_user=claim.target.user,
            target_device=claim.target.device,
            bundle=claim.bundle,
            expires_ms=expires_ms,
        )
    )


def forget_claims(connection: Connection, now_ms: int) -> None:
    """Delete every remembered claim whose time is over; by index, not by a scan."""
    connection.execute(delete(claims).where(claims.c.expires_ms <= now_ms))


def forget_expired(connection: Connection, now_ms: int) -> None:
    """Delete every prekey and prekey id whose time is over; by index, not by a scan."""
    for table in (prekeys, prekey_ids):
        connection.execute(delete(table).where(table.c.expires_ms <= now_ms))


def _lasting(connection: Connection, address: ProtocolAddress) -> dict[PreKeyKind, int]:
    kinds = (PreKeyKind.SIGNED.value, PreKeyKind.KEM_LAST_RESORT.value)
    query = select(prekeys.c.kind, prekeys.c.created_ms).where(
        *_of(prekeys, address), prekeys.c.kind.in_(kinds)
    )
    return {PreKeyKind(row.kind): int(row.created_ms) for row in connection.execute(query)}


def _of(table: Table, address: ProtocolAddress) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.c.user == address.user, table.c.device == address.device


def _in_date(now_ms: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return prekeys.c.expires_ms > now_ms, prekeys.c.created_ms >= now_ms - MAX_AGE_MS
