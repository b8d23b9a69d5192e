"""What a client does beside messages: prekeys, queued messages, sessions to be made anew, tidying up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from securechat.client.clock import CorrectedClock
from securechat.client.config import ClientConfig
from securechat.client.ports import Storage, Transaction
from securechat.client.prekey_upkeep import PreKeyUpkeep
from securechat.client.receiving import Receiver
from securechat.client.records import MessageState
from securechat.client.sealing import forget_old_session_keys
from securechat.client.sending import Sender, refuse_envelope
from securechat.errors import (
    AuthenticationError,
    IdentityChangedError,
    SecureChatError,
    SendFailedError,
    ServerError,
    StoreError,
    StoreFullError,
    TransportError,
)
from securechat.ids import MessageId, ProtocolAddress, UserId

HANDSHAKES_BETWEEN_COUNTS: Final = 20  # one-time prekeys used before the server's supply is looked at again
EXPIRED: Final = "expired"
_PAGE: Final = 1_000


class Chores:
    """One loop; it is woken, does all that is due, and sleeps. Failures that may pass are tried again."""

    def __init__(
        self,
        storage: Storage,
        sender: Sender,
        receiver: Receiver,
        upkeep: PreKeyUpkeep,
        *,
        clock: CorrectedClock,
        config: ClientConfig,
        announce: Callable[[], None],
    ) -> None:
        self._storage = storage
        self._sender = sender
        self._receiver = receiver
        self._upkeep = upkeep
        self._clock = clock
        self._config = config
        self._announce = announce
        self._wake = asyncio.Event()
        self._upkeep_at = 0.0
        self._handshakes = 0

    def wake(self) -> None:
        """Look now whether something is due."""
        self._wake.set()

    def connected(self) -> None:
        """Look at the prekeys too."""
        self._upkeep_at = 0.0
        self._wake.set()

    async def run(self) -> None:
        """Do what is due, for ever. Raises AuthenticationError, and StoreError other than a full disk."""
        failures = 0
        while True:
            self._wake.clear()
            try:
                await self._round()
                failures = 0
            except ServerError as error:
                failures += 1
                await self._sleep(max(error.retry_after_s, self._config.backoff.ceiling_s(failures)))
            except (TransportError, StoreFullError):
                failures += 1
                await self._sleep(self._config.backoff.ceiling_s(failures))
            else:
                await self._sleep(max(0.0, self._upkeep_at - _now_s()))

    async def _round(self) -> None:
        """Each chore once; a failure of one does not keep the others from their turn."""
        failure: TransportError | StoreFullError | None = None
        for chore in (self._look_after_prekeys, self._seal_queues, self._refresh_sessions):
            try:
                await chore()
            except (TransportError, StoreFullError) as error:
                failure = error
        if failure is not None:
            raise failure

    async def _look_after_prekeys(self) -> None:
        used = self._receiver.handshakes - self._handshakes
        if _now_s() < self._upkeep_at and used < HANDSHAKES_BETWEEN_COUNTS:
            return
        self._handshakes = self._receiver.handshakes
        await self._upkeep.run()
        await self._tidy()
        self._upkeep_at = _now_s() + self._config.upkeep_interval_s

    async def _seal_queues(self) -> None:
        for user in await self._storage.read(lambda tx: tx.outbox.queued_users()):
            if not self._sender.leaves_to_a_send(user):
                await self._seal_queue(user)

    async def _seal_queue(self, user: UserId) -> None:
        await self._permanent_or_later(
            lambda: self._sender.seal_queued(user), lambda code: self._sender.fail_queued(user, code)
        )

    async def _refresh_sessions(self) -> None:
        for address in await self._storage.read(lambda tx: tx.peers.refresh_due()):
            await self._refresh(address)

    async def _refresh(self, address: ProtocolAddress) -> None:
        await self._permanent_or_later(
            lambda: self._sender.refresh_session(address),
            lambda _code: self._sender.give_up_refresh(address),
        )

    async def _permanent_or_later(
        self, work: Callable[[], Awaitable[None]], give_up: Callable[[str], Awaitable[None]]
    ) -> None:
        """Run ``work``; give up where trying again cannot help, and raise what may pass."""
        try:
            await work()
        except ServerError as error:
            if error.retryable:
                raise
            await give_up(error.server_code)
        except (TransportError, StoreError, AuthenticationError):
            raise
        except IdentityChangedError:
            self._announce()  # it waits until the application accepts the identity
        except SendFailedError as error:
            await give_up(error.reason)
        except SecureChatError as error:
            await give_up(error.code)

    async def _tidy(self) -> None:
        now_ms = self._clock.now_ms()
        config = self._config

        def tell(expired: Sequence[tuple[MessageId, MessageState]]) -> None:
            for message_id, fate in expired:
                self._sender.settle(message_id, fate, EXPIRED)

        await self._storage.write(lambda tx: expire_unsent(tx, now_ms - config.expire_unsent_ms), tell)
        await self._storage.write(lambda tx: tx.outbox.forget_finished(now_ms - config.keep_finished_ms))
        await self._storage.write(lambda tx: tx.account.forget_taken(now_ms - config.keep_taken_ms))
        await self._storage.write(lambda tx: forget_old_session_keys(tx, now_ms))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return


def expire_unsent(tx: Transaction, before_ms: int) -> list[tuple[MessageId, MessageState]]:
    """Strike the envelopes that nobody accepted since ``before_ms``; returns what that meant for each."""
    old = [envelope for envelope in tx.outbox.envelopes(0, _PAGE) if envelope.created_ms < before_ms]
    return [(envelope.message_id, refuse_envelope(tx, envelope, EXPIRED)) for envelope in old]


def _now_s() -> float:
    return asyncio.get_running_loop().time()
