"""This device's own keys: made once, stored before they are published, published until confirmed."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from securechat.client.clock import CorrectedClock
from securechat.client.ports import KeyDirectory, Storage, Transaction
from securechat.client.prekey_rows import save_first_pool
from securechat.client.prekey_upkeep import PreKeyUpkeep
from securechat.client.records import AccountRecord
from securechat.client.recovery import remake_sessions
from securechat.crypto.secret import SecretBytes
from securechat.errors import SettingsError
from securechat.ids import MAX_DEVICE_ID, DeviceId, UserId, user_id
from securechat.ports import RandomBytes
from securechat.protocol.devices import (
    create_account,
    encode_account_keys,
    encode_local_device,
    parse_local_device,
)
from securechat.protocol.pqxdh import LocalDevice
from securechat.protocol.prekeys import generate_pool
from securechat.wire.prekeys import encode_upload

_DEVICE_ID_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class OwnDevice:
    """This device with its private keys, and the signed list that names it."""

    local: LocalDevice
    device_list: bytes
    enrolled: bool


async def load_or_create(
    storage: Storage,
    user: str | None,
    ask_user: Callable[[], Awaitable[str]],
    *,
    clock: CorrectedClock,
    random_bytes: RandomBytes,
) -> OwnDevice:
    """Return the store's device, or make an account, a device and its prekeys, and store them.

    A store that is an older copy of itself drops its sessions here, before anything could use them.

    ``ask_user`` is called before an account is made, and names its user; it is the moment to learn the
    server's time, by which the keys are dated. ``user`` is whom the store must belong to. Raises
    SettingsError if it belongs to another user, InvalidIdError, StoreError, and what ``ask_user`` raises.
    """
    account = await storage.read(lambda tx: tx.account.load())
    if account is None:
        name = user_id(await ask_user())
        made_ms = clock.now_ms()
        account = await storage.write(lambda tx: _create(tx, name, made_ms, random_bytes))
    if user is not None and account.address.user != user:
        raise SettingsError("the store belongs to another user")
    local = parse_local_device(account.local_device.reveal())
    if await storage.read(lambda tx: tx.account.is_restored()):
        now_ms = clock.now_ms()
        await storage.write(lambda tx: remake_sessions(tx, local, now_ms=now_ms, random_bytes=random_bytes))
    return OwnDevice(local, account.device_list, account.enrolled)


async def enroll(
    storage: Storage, own: OwnDevice, directory: KeyDirectory, upkeep: PreKeyUpkeep
) -> OwnDevice:
    """Publish the device list and the first prekeys, unless the server has confirmed them before.

    Both may be sent twice, so a crash in between does no harm.

    Raises TransportError, AuthenticationError, and ServerError ``device_list_conflict`` if the server knows
    this user by other keys.
    """
    if own.enrolled:
        return own
    await directory.enroll(own.local.address, own.local.signing, own.device_list)
    await upkeep.run()
    await storage.write(_mark_enrolled)
    return replace(own, enrolled=True)


def _create(tx: Transaction, user: UserId, now_ms: int, random_bytes: RandomBytes) -> AccountRecord:
    device = DeviceId(1 + int.from_bytes(random_bytes(_DEVICE_ID_BYTES), "big") % MAX_DEVICE_ID)
    keys, local, signed = create_account(user, device, now_ms, random_bytes)
    pool, upload = generate_pool(local, now_ms, random_bytes)
    account = AccountRecord(
        address=local.address,
        account_keys=SecretBytes(encode_account_keys(keys)),
        local_device=SecretBytes(encode_local_device(local)),
        device_list=signed.encode(),
        enrolled=False,
    )
    tx.account.save(account)
    save_first_pool(tx, pool)
    tx.prekeys.set_pending_upload(encode_upload(upload))
    return account


def _mark_enrolled(tx: Transaction) -> None:
    account = tx.account.load()
    if account is not None:
        tx.account.save(replace(account, enrolled=True))
