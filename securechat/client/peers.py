"""Other users' devices: fetched, checked, pinned at first contact (docs/reference/client.md, "Identities").

INVARIANT: a device list is stored only after ``protocol.devices.verified_devices`` has passed it, so what the
store holds need not be checked again.
"""

import asyncio
from dataclasses import replace
from enum import Enum
from weakref import WeakValueDictionary

from securechat.client.clock import CorrectedClock
from securechat.client.config import ClientConfig
from securechat.client.ports import KeyDirectory, Storage, Transaction
from securechat.client.records import EventKind, EventRecord, PeerRecord
from securechat.crypto.keys import VerifyKey
from securechat.errors import IdentityChangedError, ServerError, TransportError
from securechat.ids import ProtocolAddress, UserId
from securechat.protocol.devices import verified_devices
from securechat.protocol.pqxdh import PeerDevice
from securechat.wire.devices import SignedDeviceList, check_later, parse_signed_device_list


class Pinned(Enum):
    """What became of a device list that the server sent."""

    FIRST = 1  # the account key is now pinned
    SAME = 2  # the pinned key signed it
    CHANGED = 3  # another account key signed it; it waits for the application's consent


class PeerBook:
    """Fetches device lists, one request at a time for each user."""

    def __init__(
        self, storage: Storage, directory: KeyDirectory, *, clock: CorrectedClock, config: ClientConfig
    ) -> None:
        self._storage = storage
        self._directory = directory
        self._clock = clock
        self._config = config
        self._locks: WeakValueDictionary[UserId, asyncio.Lock] = WeakValueDictionary()

    async def known(self, user: UserId) -> PeerRecord:
        """Return what is known of ``user``, fetching it if it is missing or old.

        An old list serves while the server cannot be reached. Raises IdentityChangedError while another
        identity waits, TransportError, ServerError (``unknown_user``), DeviceListError, StoreError.
        """
        peer = await self._storage.read(lambda tx: tx.peers.load(user))
        if peer is None:
            peer = await self.fetch(user)
        elif self._clock.now_ms() - peer.fetched_ms > self._config.device_list_max_age_ms:
            peer = await self._fetched_or(user, peer)
        check_unchanged(peer)
        return peer

    async def fetch(self, user: UserId) -> PeerRecord:
        """Fetch, check and store the device list of ``user``; a changed identity is stored as waiting.

        Raises TransportError, ServerError, WireError, InvalidSignatureError, DeviceListError.
        """
        asked_ms = self._clock.now_ms()
        lock = self._locks.setdefault(user, asyncio.Lock())
        async with lock:
            peer = await self._storage.read(lambda tx: tx.peers.load(user))
            if peer is not None and peer.fetched_ms > asked_ms:
                return peer  # somebody fetched it while this call waited
            raw = await self._directory.device_list(user)
            return await self._storage.write(lambda tx: self.store(tx, user, raw))

    def store(self, tx: Transaction, user: UserId, raw: bytes) -> PeerRecord:
        """Check the server's list and store it; returns the peer as it stands then. Raises as ``fetch``."""
        return store_list(tx, user, raw, self._clock.now_ms())[0]

    async def _fetched_or(self, user: UserId, peer: PeerRecord) -> PeerRecord:
        try:
            return await self.fetch(user)
        except ServerError as error:
            if not error.retryable:
                raise
            return peer
        except TransportError:
            return peer


def store_list(tx: Transaction, user: UserId, raw: bytes, now_ms: int) -> tuple[PeerRecord, Pinned]:
    """Check ``raw`` against what is pinned for ``user`` and store it.

    A first list pins its account key. A list under another key is stored as waiting, with an event for each
    such key. Raises WireError, InvalidSignatureError, DeviceListError (rollback, fork, another user's list).
    """
    signed = parse_signed_device_list(raw)
    old = tx.peers.load(user)
    if old is None:
        verified_devices(signed, user=user, pinned_account=None, last_seen=None)
        peer = PeerRecord(user, signed.value.account.raw, raw, now_ms)
        tx.peers.save(peer)
        return peer, Pinned.FIRST
    last_seen = parse_signed_device_list(old.device_list)
    try:
        verified_devices(signed, user=user, pinned_account=VerifyKey(old.account), last_seen=last_seen)
    except IdentityChangedError:
        return _store_waiting(tx, old, signed, raw), Pinned.CHANGED
    peer = PeerRecord(user, old.account, raw, now_ms)
    tx.peers.save(peer)
    _drop_removed(tx, old, peer)
    return peer, Pinned.SAME


def shown_key(peer: PeerRecord) -> VerifyKey:
    """Return the account key that people compare: that of the identity that waits, if one waits."""
    if peer.waiting_list is None:
        return VerifyKey(peer.account)
    return parse_signed_device_list(peer.waiting_list).value.account


def accept_waiting(tx: Transaction, user: UserId, now_ms: int) -> PeerRecord | None:
    """Pin the identity that waits, and drop the sessions with the old one's devices; None if none waits."""
    old = tx.peers.load(user)
    if old is None or old.waiting_list is None:
        return old
    signed = parse_signed_device_list(old.waiting_list)
    peer = PeerRecord(user, signed.value.account.raw, old.waiting_list, now_ms)
    tx.peers.save(peer)
    for device in (*stored_devices(old), *stored_devices(peer)):
        tx.sessions.remove(device.address)
    return peer


def check_unchanged(peer: PeerRecord) -> None:
    """Raise IdentityChangedError while another identity of this peer waits for consent."""
    if peer.waiting_list is not None:
        raise IdentityChangedError("the account key is not the one seen before")


def stored_devices(peer: PeerRecord) -> tuple[PeerDevice, ...]:
    """Return the devices of a stored, hence checked, list."""
    value = parse_signed_device_list(peer.device_list).value
    return tuple(
        PeerDevice(ProtocolAddress(peer.user, record.device), value.account, record.signing, record.agreement)
        for record in value.devices
    )


def find_device(peer: PeerRecord | None, address: ProtocolAddress) -> PeerDevice | None:
    """Return the device at ``address`` out of the stored list."""
    if peer is None:
        return None
    return next((device for device in stored_devices(peer) if device.address == address), None)


def _store_waiting(tx: Transaction, old: PeerRecord, signed: SignedDeviceList, raw: bytes) -> PeerRecord:
    if old.waiting_list == raw:
        return old
    waiting = None if old.waiting_list is None else parse_signed_device_list(old.waiting_list)
    if waiting is None or waiting.value.account != signed.value.account:
        tx.inbox.add(EventRecord(EventKind.IDENTITY_CHANGED, user=old.user))
    elif waiting.body != signed.body:
        check_later(waiting, signed)
    peer = replace(old, waiting_list=raw)
    tx.peers.save(peer)
    return peer


def _drop_removed(tx: Transaction, old: PeerRecord, new: PeerRecord) -> None:
    """Forget the sessions with devices that the account has taken off its list."""
    kept = {device.address for device in stored_devices(new)}
    for device in stored_devices(old):
        if device.address not in kept:
            tx.sessions.remove(device.address)
