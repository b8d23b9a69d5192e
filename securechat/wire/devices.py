"""The signed list of an account's devices (docs/format/identity.md).

The account key signs the list, each device signs its own record: neither the server nor one side alone can
join a device to an account. Lists are numbered and linked by hash.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from securechat.crypto.keys import KEY_BYTES, SIGNATURE_BYTES, DhPublicKey, SigningKeyPair, VerifyKey
from securechat.crypto.labels import Label
from securechat.errors import DeviceListError, WireError
from securechat.ids import DeviceId, ProtocolAddress, UserId
from securechat.wire.codec import Reader, Writer
from securechat.wire.keys import read_dh_key, read_verify_key

FORMAT_VERSION: Final = 1
MAX_DEVICES: Final = 8
HASH_BYTES: Final = 32
NO_PREVIOUS: Final = bytes(HASH_BYTES)
RECORD_BYTES: Final = 140
MAX_BODY_BYTES: Final = 1 + 65 + 4 + HASH_BYTES + 8 + KEY_BYTES + 1 + MAX_DEVICES * RECORD_BYTES


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """One device: its two public keys and its own signature, which names the account key."""

    device: DeviceId
    signing: VerifyKey
    agreement: DhPublicKey
    created_ms: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class DeviceList:
    """All devices of ``user``, 1 to 8, in ascending order of their ids.

    ``version`` counts from 1; ``previous_hash`` is the hash of the list before, 32 zero bytes in version 1.
    """

    user: UserId
    version: int
    previous_hash: bytes
    issued_ms: int
    account: VerifyKey
    devices: tuple[DeviceRecord, ...]


@dataclass(frozen=True, slots=True)
class SignedDeviceList:
    """A list with the bytes that were signed and the account key's signature over them."""

    body: bytes
    signature: bytes
    value: DeviceList

    def encode(self) -> bytes:
        """Return the body with a 16-bit length, then the 64-byte signature."""
        return Writer().prefixed16(self.body, MAX_BODY_BYTES).fixed(self.signature, SIGNATURE_BYTES).done()

    def hash(self) -> bytes:
        """Return the 32 bytes by which the next list names this one; they cover the body."""
        return hashlib.sha256(Label.DEVICE_LIST_HASH.value + self.body).digest()


def sign_device_record(
    address: ProtocolAddress,
    account: VerifyKey,
    *,
    signing: SigningKeyPair,
    agreement: DhPublicKey,
    created_ms: int,
) -> DeviceRecord:
    """Return the record by which the device at ``address`` joins ``account``, signed by the device."""
    message = _record_message(address, account, signing.public, agreement, created_ms)
    return DeviceRecord(address.device, signing.public, agreement, created_ms, signing.sign(message))


def sign_device_list(value: DeviceList, account: SigningKeyPair) -> SignedDeviceList:
    """Return ``value`` signed. Raises WireError for a list that the parser would refuse."""
    body = _encode_body(value)
    return SignedDeviceList(body, account.sign(Label.SIGN_DEVICE_LIST.value + body), value)


def parse_signed_device_list(raw: bytes) -> SignedDeviceList:
    """Return the list; its form only, see ``check_device_list``. Raises WireError."""
    reader = Reader(raw)
    body, signature = reader.prefixed16(MAX_BODY_BYTES), reader.fixed(SIGNATURE_BYTES)
    reader.end()
    return SignedDeviceList(body, signature, _parse_body(body))


def check_device_list(signed: SignedDeviceList) -> None:
    """Check the account key's signature, every device's own, and that no key serves twice.

    Raises InvalidSignatureError and DeviceListError.
    """
    value = signed.value
    value.account.verify(signed.signature, Label.SIGN_DEVICE_LIST.value + signed.body)
    for record in value.devices:
        address = ProtocolAddress(value.user, record.device)
        message = _record_message(address, value.account, record.signing, record.agreement, record.created_ms)
        record.signing.verify(record.signature, message)
    _check_distinct([value.account.raw, *(record.signing.raw for record in value.devices)])
    _check_distinct([record.agreement.raw for record in value.devices])


def check_successor(old: SignedDeviceList, new: SignedDeviceList) -> None:
    """Check that ``new`` is the very next list after ``old``; both were checked by themselves.

    Raises DeviceListError: another user or account key, a version other than the next, a wrong previous
    hash, or a device whose keys changed.
    """
    if new.value.version != old.value.version + 1:
        raise DeviceListError(f"version {new.value.version} does not follow {old.value.version}")
    check_later(old, new)


def check_later(old: SignedDeviceList, new: SignedDeviceList) -> None:
    """Check that ``new`` comes after ``old``, perhaps with lists between that the caller never saw.

    Raises DeviceListError: another user or account key, no higher version, a wrong previous hash where the
    two are neighbours, or a device whose keys changed.
    """
    before, after = old.value, new.value
    if after.user != before.user or after.account != before.account:
        raise DeviceListError("the list belongs to another account")
    if after.version <= before.version:
        raise DeviceListError(f"version {after.version} is not later than {before.version}")
    if after.version == before.version + 1 and after.previous_hash != old.hash():
        raise DeviceListError(f"version {after.version} does not continue the list before it")
    known = {record.device: record for record in before.devices}
    for record in after.devices:
        earlier = known.get(record.device, record)
        if (record.signing, record.agreement) != (earlier.signing, earlier.agreement):
            raise DeviceListError("a device changed its keys")


def _record_message(
    address: ProtocolAddress, account: VerifyKey, signing: VerifyKey, agreement: DhPublicKey, created_ms: int
) -> bytes:
    label = Label.SIGN_DEVICE_RECORD.value
    writer = Writer().fixed(label, len(label)).u8(FORMAT_VERSION).address(address)
    writer.fixed(account.raw, KEY_BYTES).fixed(signing.raw, KEY_BYTES).fixed(agreement.raw, KEY_BYTES)
    return writer.u64(created_ms).done()


def _encode_body(value: DeviceList) -> bytes:
    _check_form(value)
    writer = Writer().u8(FORMAT_VERSION).name(value.user).u32(value.version)
    writer.fixed(value.previous_hash, HASH_BYTES).u64(value.issued_ms).fixed(value.account.raw, KEY_BYTES)
    writer.u8(len(value.devices))
    for record in value.devices:
        writer.u32(record.device).fixed(record.signing.raw, KEY_BYTES).fixed(record.agreement.raw, KEY_BYTES)
        writer.u64(record.created_ms).fixed(record.signature, SIGNATURE_BYTES)
    return writer.done()


def _parse_body(body: bytes) -> DeviceList:
    reader = Reader(body)
    reader.expect(FORMAT_VERSION, "the device list version")
    user, version, previous_hash = reader.user(), reader.u32(), reader.fixed(HASH_BYTES)
    issued_ms, account, count = reader.u64(), read_verify_key(reader), reader.u8()
    if count > MAX_DEVICES:
        raise WireError(f"{count} devices are more than {MAX_DEVICES}")
    devices = tuple(_read_record(reader) for _ in range(count))
    reader.end()
    value = DeviceList(user, version, previous_hash, issued_ms, account, devices)
    _check_form(value)
    return value


def _read_record(reader: Reader) -> DeviceRecord:
    device, signing, agreement = reader.device(), read_verify_key(reader), read_dh_key(reader)
    return DeviceRecord(device, signing, agreement, reader.u64(), reader.fixed(SIGNATURE_BYTES))


def _check_form(value: DeviceList) -> None:
    if not 1 <= len(value.devices) <= MAX_DEVICES:
        raise WireError(f"a list has 1 to {MAX_DEVICES} devices, not {len(value.devices)}")
    ids = [record.device for record in value.devices]
    if any(a >= b for a, b in pairwise(ids)):
        raise WireError("devices are not in ascending order of their ids")
    if value.version < 1 or (value.version == 1) != (value.previous_hash == NO_PREVIOUS):
        raise WireError("version 1, and no other, follows no list")


def _check_distinct(keys: Iterable[bytes]) -> None:
    if any(count > 1 for count in Counter(keys).values()):
        raise DeviceListError("one key stands in two places")
