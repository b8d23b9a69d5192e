"""Keeps enough fresh prekeys at the server; every key is in the store before it is published."""

import logging

from securechat.client.clock import CorrectedClock
from securechat.client.ports import KeyDirectory, Storage, Transaction
from securechat.client.prekey_rows import load_whole_pool, save_pool_change
from securechat.errors import ServerError
from securechat.ports import RandomBytes
from securechat.protocol.pqxdh import LocalDevice
from securechat.protocol.prekeys import PreKeyCounts, forget_old_prekeys, needs_upkeep, refill, rotate
from securechat.wire.prekeys import encode_upload

_log = logging.getLogger("securechat.client")


class PreKeyUpkeep:
    """One run publishes what a crash left unpublished, then rotates and refills if that is due."""

    def __init__(
        self,
        storage: Storage,
        directory: KeyDirectory,
        own: LocalDevice,
        *,
        clock: CorrectedClock,
        random_bytes: RandomBytes,
    ) -> None:
        self._storage = storage
        self._directory = directory
        self._own = own
        self._clock = clock
        self._random_bytes = random_bytes

    async def run(self) -> None:
        """Bring the server's supply up to date. Raises TransportError, AuthenticationError, StoreError."""
        await self._publish_pending()
        counts = await self._directory.prekey_counts()
        if await self._storage.write(lambda tx: self._prepare(tx, counts)):
            await self._publish_pending()

    async def _publish_pending(self) -> None:
        pending = await self._storage.read(lambda tx: tx.prekeys.pending_upload())
        if pending is None:
            return
        try:
            await self._directory.upload_prekeys(pending)
        except ServerError as error:
            if error.retryable:
                raise
            _log.warning("the server refused prekeys (%s); new ones follow", error.server_code)
        await self._storage.write(lambda tx: tx.prekeys.set_pending_upload(None))

    def _prepare(self, tx: Transaction, counts: PreKeyCounts) -> bool:
        now_ms = self._clock.now_ms()
        old = load_whole_pool(tx)
        if old is None:
            return False
        if not needs_upkeep(old, counts, now_ms):
            save_pool_change(tx, old, forget_old_prekeys(old, now_ms))
            return False
        rotated = rotate(old, now_ms, self._random_bytes)
        pool, upload = refill(rotated, self._own, counts, now_ms, self._random_bytes)
        save_pool_change(tx, old, pool)
        tx.prekeys.set_pending_upload(encode_upload(upload))
        return True
