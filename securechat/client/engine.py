"""Puts the parts of one client together and runs its two loops: the link and the chores."""

import asyncio
from dataclasses import dataclass

from securechat.client.chores import Chores
from securechat.client.clock import CorrectedClock
from securechat.client.config import ClientConfig
from securechat.client.conversation import Conversation, Sent
from securechat.client.enrollment import OwnDevice, enroll
from securechat.client.event_board import EventBoard
from securechat.client.events import CaughtUp, ClockSkew
from securechat.client.link_keeper import LinkKeeper, until_first_ends
from securechat.client.peers import PeerBook
from securechat.client.ports import KeyDirectory, LinkReady, RelayLink, Storage
from securechat.client.prekey_upkeep import PreKeyUpkeep
from securechat.client.receiving import Receiver
from securechat.client.records import Cursor
from securechat.client.recovery import check_cursor
from securechat.client.sealing import Sealer
from securechat.client.sending import Sender
from securechat.client.waiters import Waiters
from securechat.errors import ClientClosedError, IdentityChangedError, SecureChatError
from securechat.ids import MessageId, UserId
from securechat.ports import FaultHook, RandomBytes


@dataclass(frozen=True, slots=True)
class Transports:
    """The two ways to the server."""

    directory: KeyDirectory
    link: RelayLink


class Engine:
    """Everything of one client but its face."""

    def __init__(
        self,
        storage: Storage,
        transports: Transports,
        own: OwnDevice,
        *,
        clock: CorrectedClock,
        random_bytes: RandomBytes,
        config: ClientConfig,
        fault: FaultHook,
    ) -> None:
        self.own = own
        self.board = EventBoard(storage)
        self.is_connected = False
        self._storage = storage
        self._directory = transports.directory
        self._clock = clock
        self._random_bytes = random_bytes
        self._config = config
        self._waiters = Waiters()
        self._closed = False
        self._skew_told = False
        self._loops: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        local = own.local
        self._peers = PeerBook(storage, transports.directory, clock=clock, config=config)
        sealer = Sealer(local, clock, random_bytes, fault)
        self._sender = Sender(
            storage,
            transports.directory,
            self._peers,
            sealer,
            config=config,
            waiters=self._waiters,
            wake_outbox=lambda: self._keeper.wake(),
            wake_chores=lambda: self._chores.wake(),
            announce=self.board.stored,
        )
        self._receiver = Receiver(storage, self._peers, sealer, config, self._taken_in)
        self._upkeep = PreKeyUpkeep(
            storage, transports.directory, local, clock=clock, random_bytes=random_bytes
        )
        self._chores = Chores(
            storage,
            self._sender,
            self._receiver,
            self._upkeep,
            clock=clock,
            config=config,
            announce=self.board.stored,
        )
        self._keeper = LinkKeeper(
            storage,
            transports.link,
            self._sender,
            self._receiver,
            self,
            config=config,
            random_bytes=random_bytes,
            fault=fault,
        )

    async def start(self) -> None:
        """Enrol if need be, connect, and keep the link; returns after the first attempt.

        Raises what enrolling raises, and what ends the link for good.
        """
        async with self._starting:
            if self._closed:
                raise ClientClosedError("the client is closed")
            if self._loops is None or self._loops.done():
                await self._start()

    async def _start(self) -> None:
        self._waiters.failure = None
        self.board.resume()
        self.own = await enroll(self._storage, self.own, self._directory, self._upkeep)
        self._keeper.attempted.clear()
        self._loops = asyncio.create_task(self._run(), name="securechat-client")
        attempted = asyncio.create_task(self._keeper.attempted.wait())
        try:
            await asyncio.wait((self._loops, attempted), return_when=asyncio.FIRST_COMPLETED)
        finally:
            attempted.cancel()
        if self._waiters.failure is not None:
            raise self._waiters.failure

    async def stop(self) -> None:
        """End both loops and the connection; the store stays open."""
        if self._loops is not None:
            self._loops.cancel()
            await asyncio.gather(self._loops, return_exceptions=True)
            self._loops = None

    async def close(self) -> None:
        """Stop, end every iterator, and tell who waits for a message that nobody will answer."""
        self._closed = True
        await self.stop()
        self.board.close()
        self._waiters.fail(ClientClosedError("the client is closed"))

    async def conversation(self, user: UserId) -> Conversation:
        """Return the conversation with ``user``. Raises as ``PeerBook.known``, but for a changed identity."""
        try:
            peer = await self._peers.known(user)
        except IdentityChangedError:
            stored = await self._storage.read(lambda tx: tx.peers.load(user))
            if stored is None:
                raise
            peer = stored
            self.board.stored()
        return Conversation(self.own.local, peer, self._storage, self._sender, self._waiters)

    async def send(
        self, user: UserId, text: str, *, idempotency_key: str | None, reply_to: MessageId | None
    ) -> Sent:
        """Send a text. Raises as ``Sender.send_text``."""
        message_id = await self._sender.send_text(
            user, text, idempotency_key=idempotency_key, reply_to=reply_to
        )
        return Sent(message_id, self._storage, self._waiters)

    async def accept_identity(self, user: UserId, number: str) -> None:
        """Pin the identity that waits, open what was held back, send what is queued."""
        await self._receiver.accept_identity(user, number)
        self.board.stored()
        self._chores.wake()

    async def connected(self, ready: LinkReady) -> None:
        """The link is up: compare cursors, learn the time, look after the prekeys."""
        self._clock.learn(ready.server_time_ms)
        acked = Cursor(ready.epoch, ready.acked_seq)
        now_ms = self._clock.now_ms()
        remade = await self._storage.write(
            lambda tx: check_cursor(tx, self.own.local, acked, now_ms=now_ms, random_bytes=self._random_bytes)
        )
        if remade:
            self.board.stored()
        self.is_connected = True
        if abs(self._clock.skew_ms) > self._config.clock_skew_ms and not self._skew_told:
            self._skew_told = True
            await self.board.passing(ClockSkew(skew_ms=self._clock.skew_ms))
        self._chores.connected()

    async def caught_up(self) -> None:
        """Everything that waited has been taken in."""
        await self.board.passing(CaughtUp())

    def disconnected(self) -> None:
        """The link is down."""
        self.is_connected = False
        self.board.no_longer_caught_up()

    def _taken_in(self, refresh_due: bool) -> None:
        """Something was stored that the application may want to know."""
        self.board.stored()
        if refresh_due:
            self._chores.wake()

    async def _run(self) -> None:
        """Both loops; what neither can heal ends them and reaches the application."""
        try:
            await until_first_ends(self._keeper.run(), self._chores.run())
        except (SecureChatError, OSError) as error:
            self._fail(error)
        except Exception as error:
            self._fail(error)
            raise

    def _fail(self, error: Exception) -> None:
        self._waiters.fail(error)
        self.board.fail(error)
