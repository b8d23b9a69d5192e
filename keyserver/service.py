"""What the key server does, one transaction each: enrol devices, publish prekeys, hand out bundles."""

import asyncio
import hashlib
from dataclasses import dataclass

from audit.event import AuditEvent
from keyserver import store
from keyserver.accounts import DirectoryAccounts
from keyserver.directory import (
    CLAIM_LIFETIME_MS,
    ListChange,
    PreKeyCounts,
    judge_list,
    new_prekeys,
    stored_prekeys,
)
from keyserver.errors import DeviceListConflictError, NoPreKeysError, UnknownDeviceError, UnknownUserError
from keyserver.store import AccountRow, ClaimRow
from securechat.authz.model import AccountStatus
from securechat.errors import DeviceListError
from securechat.ids import ProtocolAddress, UserId
from securechat.ports import Clock
from securechat.sql.engine import Database, Tx
from securechat.tokens import Claims
from securechat.web.accounts import AccountInfo
from securechat.web.errors import IdempotencyMismatchError
from securechat.wire.devices import SignedDeviceList, parse_signed_device_list
from securechat.wire.prekeys import (
    PreKeyBundle,
    PreKeyKind,
    PreKeyUpload,
    SignedDhPreKey,
    SignedKemPreKey,
    check_upload,
    encode_bundle,
    parse_prekey,
)


@dataclass(frozen=True, slots=True)
class HandedOut:
    """The device list of the target's account and the bundle of one of its devices, as bytes."""

    device_list: bytes
    bundle: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """A list that was judged against the one held at the time; it is applied only while that one is held."""

    held: bytes | None
    new: SignedDeviceList
    change: ListChange


class KeyService:
    """The key server on one database."""

    def __init__(self, database: Database, accounts: DirectoryAccounts, clock: Clock) -> None:
        self._database = database
        self._accounts = accounts
        self._clock = clock

    async def device_list(self, user: UserId) -> bytes:
        """Return the signed device list of ``user`` as received. Raises UnknownUserError."""
        row = await self._database.read(lambda connection: store.load_account(connection, user))
        if row is None:
            raise UnknownUserError
        return row.device_list

    async def plan(self, new: SignedDeviceList) -> Plan:
        """Judge a list whose signatures were checked. Raises DeviceListConflictError and DeviceListError."""
        row = await self._database.read(lambda connection: store.load_account(connection, new.value.user))
        held = None if row is None else parse_signed_device_list(row.device_list)
        change = judge_list(held, new, self._clock())
        return Plan(None if row is None else row.device_list, new, change)

    async def enroll(self, plan: Plan, claims: Claims, events: tuple[AuditEvent, ...]) -> None:
        """Put a planned list in force and record ``events`` with it; a first list makes the account.

        Raises DeviceListConflictError if another list came first, and DeviceListError for a device id that
        once stood for other keys.
        """
        user, now_ms = plan.new.value.user, self._clock()

        def work(tx: Tx) -> None:
            _apply(tx, plan, claims, now_ms)
            for event in events:
                tx.record(event)

        await self._database.write(work)
        self._accounts.changed(user)
        for device in plan.change.removed:
            self._accounts.access_ended(user, device)

    async def publish(self, owner: ProtocolAddress, upload: PreKeyUpload, event: AuditEvent) -> PreKeyCounts:
        """Store the new prekeys of ``upload`` and return what is left to hand out.

        Raises as ``check_upload`` (forged, expired or too old), PreKeyConflictError, PreKeyLimitError and
        UnknownDeviceError. The same upload again changes nothing.
        """
        now_ms = self._clock()
        device = await self._accounts.device(owner)
        if device is None:
            raise UnknownDeviceError("there is no such device")
        await asyncio.to_thread(check_upload, upload, owner, device.signing, now_ms)
        uploaded = stored_prekeys(upload)

        def work(tx: Tx) -> PreKeyCounts:
            if owner.device not in store.signing_keys(tx.connection, owner.user):
                raise UnknownDeviceError("there is no such device")
            store.forget_expired(tx.connection, now_ms)
            held = store.held_prekeys(tx.connection, owner, [each.name for each in uploaded], now_ms)
            store.add_prekeys(tx.connection, owner, new_prekeys(uploaded, held))
            tx.record(event)
            return store.count_prekeys(tx.connection, owner, now_ms)

        return await self._database.write(work, size=sum(len(each.body) for each in uploaded))

    async def counts(self, owner: ProtocolAddress) -> PreKeyCounts:
        """Return how many one-time prekeys of ``owner`` are left."""
        now_ms = self._clock()
        return await self._database.read(lambda connection: store.count_prekeys(connection, owner, now_ms))

    async def claim(
        self,
        caller: ProtocolAddress,
        target: ProtocolAddress,
        key: str | None,
        *,
        event: AuditEvent,
        low_event: AuditEvent,
    ) -> HandedOut:
        """Hand out a bundle of ``target``; under the same ``key`` the same one again, for ten minutes.

        Records ``event``, and ``low_event`` when the device's one-time prekeys just ran low. Raises
        UnknownUserError, UnknownDeviceError, NoPreKeysError and IdempotencyMismatchError.
        """
        now_ms = self._clock()
        kept_key = None if key is None else _kept_key(key)

        def work(tx: Tx) -> HandedOut:
            device_list = _device_list_of(tx, target)
            tx.record(event)
            bundle = _claimed_before(tx, caller, target, kept_key, now_ms)
            if bundle is None:
                before = store.count_prekeys(tx.connection, target, now_ms)
                bundle = _take_bundle(tx, target, now_ms)
                if not before.low and store.count_prekeys(tx.connection, target, now_ms).low:
                    tx.record(low_event)
                _remember(tx, caller, kept_key, ClaimRow(target, bundle), now_ms)
            return HandedOut(device_list, bundle)

        return await self._database.write(work)


def _apply(tx: Tx, plan: Plan, claims: Claims, now_ms: int) -> None:
    value = plan.new.value
    row = store.load_account(tx.connection, value.user)
    if (None if row is None else row.device_list) != plan.held:
        raise DeviceListConflictError("another list came first")
    if plan.change.same:
        return
    if row is None:
        info = AccountInfo(
            value.user, claims.org, claims.roles, AccountStatus.ACTIVE, roles_issued_ms=claims.issued_ms
        )
        store.add_account(tx.connection, AccountRow(info, plan.new.encode()), now_ms)
    else:
        store.set_device_list(tx.connection, value.user, plan.new.encode())
    for device in plan.change.removed:
        store.remove_device(tx.connection, ProtocolAddress(value.user, device), now_ms)
    for record in plan.change.added:
        known = store.known_keys(tx.connection, ProtocolAddress(value.user, record.device))
        if known not in (None, (record.signing, record.agreement)):
            raise DeviceListError("a device id stood for other keys before")
        store.enroll_device(tx.connection, value.user, record, now_ms)


def _device_list_of(tx: Tx, target: ProtocolAddress) -> bytes:
    row = store.load_account(tx.connection, target.user)
    if row is None:
        raise UnknownUserError
    if target.device not in store.signing_keys(tx.connection, target.user):
        raise UnknownDeviceError("there is no such device")
    return row.device_list


def _claimed_before(
    tx: Tx, caller: ProtocolAddress, target: ProtocolAddress, key: str | None, now_ms: int
) -> bytes | None:
    claim = None if key is None else store.find_claim(tx.connection, caller, key, now_ms)
    if claim is None:
        return None
    if claim.target != target:
        raise IdempotencyMismatchError("the Idempotency-Key was used for another device")
    return claim.bundle


def _take_bundle(tx: Tx, target: ProtocolAddress, now_ms: int) -> bytes:
    signed = store.lasting_prekey(tx.connection, target, PreKeyKind.SIGNED, now_ms)
    kem = store.take_one_time(tx.connection, target, PreKeyKind.KEM_ONE_TIME, now_ms) or store.lasting_prekey(
        tx.connection, target, PreKeyKind.KEM_LAST_RESORT, now_ms
    )
    if signed is None or kem is None:
        raise NoPreKeysError("the device has no prekeys in date")
    one_time = store.take_one_time(tx.connection, target, PreKeyKind.ONE_TIME, now_ms)
    return _assemble(target, signed, kem, one_time)


def _assemble(target: ProtocolAddress, signed: bytes, kem: bytes, one_time: bytes | None) -> bytes:
    parsed_signed, parsed_kem = parse_prekey(signed), parse_prekey(kem)
    parsed_one_time = None if one_time is None else parse_prekey(one_time)
    if not isinstance(parsed_signed, SignedDhPreKey) or not isinstance(parsed_kem, SignedKemPreKey):
        raise NoPreKeysError("the device has no prekeys in date")
    if isinstance(parsed_one_time, SignedKemPreKey):
        raise NoPreKeysError("the device has no prekeys in date")
    return encode_bundle(PreKeyBundle(target, parsed_signed, parsed_kem, parsed_one_time))


def _kept_key(key: str) -> str:
    """Return what is stored of an Idempotency-Key: the caller's words are no business of this database."""
    return hashlib.sha256(key.encode()).hexdigest()


def _remember(tx: Tx, caller: ProtocolAddress, key: str | None, claim: ClaimRow, now_ms: int) -> None:
    store.forget_claims(tx.connection, now_ms)
    if key is not None:
        store.add_claim(tx.connection, caller, key, claim, now_ms + CLAIM_LIFETIME_MS)
