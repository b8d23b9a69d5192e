"""Accounts and their devices as a client sees them: made, extended, and checked against what was seen before.

The formats and their signatures are in ``securechat.wire.devices``; docs/format/identity.md is normative.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from securechat.crypto.keys import KEY_BYTES, DhKeyPair, SigningKeyPair, VerifyKey
from securechat.crypto.secret import SecretBytes
from securechat.errors import DeviceListError, IdentityChangedError
from securechat.ids import DeviceId, ProtocolAddress, UserId
from securechat.ports import RandomBytes
from securechat.protocol.pqxdh import LocalDevice, PeerDevice
from securechat.wire.codec import Reader, Writer
from securechat.wire.devices import (
    NO_PREVIOUS,
    DeviceList,
    DeviceRecord,
    SignedDeviceList,
    check_device_list,
    check_later,
    sign_device_list,
    sign_device_record,
)
from securechat.wire.keys import read_verify_key

FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class AccountKeys:
    """The key that signs the device list of ``user``; only the devices that manage the list hold it."""

    user: UserId
    signing: SigningKeyPair


def create_account(
    user: UserId, device: DeviceId, now_ms: int, random_bytes: RandomBytes
) -> tuple[AccountKeys, LocalDevice, SignedDeviceList]:
    """Make an account, its first device and version 1 of its list; draws 3 times 32 bytes.

    The order: account seed, device signing seed, device agreement key.
    """
    keys = AccountKeys(user, SigningKeyPair.generate(random_bytes))
    local, record = create_device(ProtocolAddress(user, device), keys.signing.public, now_ms, random_bytes)
    value = DeviceList(user, 1, NO_PREVIOUS, now_ms, keys.signing.public, (record,))
    return keys, local, sign_device_list(value, keys.signing)


def create_device(
    address: ProtocolAddress, account: VerifyKey, now_ms: int, random_bytes: RandomBytes
) -> tuple[LocalDevice, DeviceRecord]:
    """Make a device's keys and the record by which it joins ``account``; draws 2 times 32 bytes."""
    signing, agreement = SigningKeyPair.generate(random_bytes), DhKeyPair.generate(random_bytes)
    record = sign_device_record(
        address, account, signing=signing, agreement=agreement.public, created_ms=now_ms
    )
    return LocalDevice(address, account, signing, agreement), record


def next_device_list(
    keys: AccountKeys, current: SignedDeviceList, devices: Iterable[DeviceRecord], now_ms: int
) -> SignedDeviceList:
    """Return the list after ``current``, with exactly ``devices``. An id is never used for a second device.

    Raises WireError for none, more than 8 or two of one id.
    """
    ordered = tuple(sorted(devices, key=lambda record: record.device))
    value = DeviceList(
        keys.user, current.value.version + 1, current.hash(), now_ms, keys.signing.public, ordered
    )
    return sign_device_list(value, keys.signing)


def verified_devices(
    signed: SignedDeviceList,
    *,
    user: UserId,
    pinned_account: VerifyKey | None,
    last_seen: SignedDeviceList | None,
) -> tuple[PeerDevice, ...]:
    """Return the devices of ``user`` after every check; ``signed`` is what the server sent for that user.

    ``pinned_account`` is the account key seen first, ``last_seen`` the newest list accepted so far. Lists
    between the two may have been missed. Raises InvalidSignatureError; DeviceListError for another user's
    list, an older one (rollback) or another one of the same version (fork); IdentityChangedError for another
    account key, only after the list proved sound in itself.
    """
    value = signed.value
    check_device_list(signed)
    if value.user != user:
        raise DeviceListError("the list belongs to another user")
    if pinned_account is not None and value.account != pinned_account:
        raise IdentityChangedError("the account key is not the one seen before")
    if last_seen is not None and signed.body != last_seen.body:
        if value.account != last_seen.value.account:
            raise IdentityChangedError("the account key is not the one seen before")
        check_later(last_seen, signed)
    return tuple(
        PeerDevice(ProtocolAddress(user, record.device), value.account, record.signing, record.agreement)
        for record in value.devices
    )


def encode_account_keys(keys: AccountKeys) -> bytes:
    """Return the account's secret form, for an encrypted store."""
    return Writer().u8(FORMAT_VERSION).name(keys.user).fixed(keys.signing.seed.reveal(), KEY_BYTES).done()


def parse_account_keys(raw: bytes) -> AccountKeys:
    """Return the account's keys. Raises WireError."""
    reader = Reader(raw)
    reader.expect(FORMAT_VERSION, "the account version")
    user, seed = reader.user(), SecretBytes(reader.fixed(KEY_BYTES))
    reader.end()
    return AccountKeys(user, SigningKeyPair.from_seed(seed))


def encode_local_device(local: LocalDevice) -> bytes:
    """Return the device's secret form, for an encrypted store."""
    writer = Writer().u8(FORMAT_VERSION).address(local.address).fixed(local.account.raw, KEY_BYTES)
    writer.fixed(local.signing.seed.reveal(), KEY_BYTES)
    return writer.fixed(local.agreement.private.reveal(), KEY_BYTES).done()


def parse_local_device(raw: bytes) -> LocalDevice:
    """Return the device. Raises WireError."""
    reader = Reader(raw)
    reader.expect(FORMAT_VERSION, "the device version")
    address, account = reader.address(), read_verify_key(reader)
    seed, private = SecretBytes(reader.fixed(KEY_BYTES)), SecretBytes(reader.fixed(KEY_BYTES))
    reader.end()
    return LocalDevice(address, account, SigningKeyPair.from_seed(seed), DhKeyPair.from_private(private))
