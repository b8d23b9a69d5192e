"""Keeps a connection to the relay: connects after every failure, sends the outbox, takes in the mailbox.

The waits between attempts are drawn with full jitter; a Retry-After of the server is waited out. It ends only
by cancellation, or with an error that trying again cannot heal.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Final, Protocol

from securechat.client.config import ClientConfig
from securechat.client.outbox_window import OutboxWindow
from securechat.client.ports import LinkReady, RelayConnection, RelayLink, Storage, Transaction
from securechat.client.receiving import Receiver, envelope_of
from securechat.client.records import OutboxEnvelope
from securechat.client.sending import Sender
from securechat.errors import ServerError, StoreFullError, TransportError
from securechat.ids import MessageId
from securechat.ports import FaultHook, RandomBytes
from securechat.wire.frames import Accepted, Ack, Deliver, Error, Ping, Pong, QueueEmpty, Send, ServerFrame

MAX_BATCH: Final = 128  # frames handled together
QUEUE_FRAMES: Final = 512  # read ahead of their handling; more than the relay's window
_JITTER_BYTES: Final = 4
_JITTER_RANGE: Final = 2**32

_log = logging.getLogger("securechat.client")


class LinkListener(Protocol):
    """What the client does when the link changes."""

    async def connected(self, ready: LinkReady) -> None: ...
    async def caught_up(self) -> None: ...
    def disconnected(self) -> None: ...


@dataclass(eq=False, slots=True)
class _Connected:
    """One connection and what belongs to it alone."""

    connection: RelayConnection
    window: OutboxWindow
    frames: "asyncio.Queue[ServerFrame]"
    heard: int = 0


class LinkKeeper:
    """Runs the link until it is cancelled."""

    def __init__(
        self,
        storage: Storage,
        link: RelayLink,
        sender: Sender,
        receiver: Receiver,
        listener: LinkListener,
        *,
        config: ClientConfig,
        random_bytes: RandomBytes,
        fault: FaultHook,
    ) -> None:
        self._storage = storage
        self._link = link
        self._sender = sender
        self._receiver = receiver
        self._listener = listener
        self._config = config
        self._random_bytes = random_bytes
        self._fault = fault
        self._wake = asyncio.Event()
        self._failures = 0
        self.attempted = asyncio.Event()  # the first attempt is over, well or badly

    def wake(self) -> None:
        """Say that the outbox has grown."""
        self._wake.set()

    async def run(self) -> None:
        """Connect and serve for ever. Raises what cannot be healed: AuthenticationError, AccessDeniedError,
        ServerError that is not retryable, StoreError other than a full disk."""
        while True:
            try:
                await self._connect_and_serve()
            except ServerError as error:
                if not error.retryable:
                    raise
                await self._pause(error.server_code, error.retry_after_s)
            except (TransportError, StoreFullError) as error:
                await self._pause(error.code, 0.0)

    async def _connect_and_serve(self) -> None:
        connection = await self._link.connect()
        try:
            await self._listener.connected(connection.ready)
            self.attempted.set()
            window = OutboxWindow(self._config.window, self._config.backoff)
            await self._serve(_Connected(connection, window, asyncio.Queue(QUEUE_FRAMES)))
        finally:
            self._listener.disconnected()
            await connection.close()

    async def _pause(self, code: str, at_least_s: float) -> None:
        self.attempted.set()
        self._failures += 1
        delay_s = max(at_least_s, self._config.backoff.ceiling_s(self._failures) * self._jitter())
        _log.info("link down (%s), attempt %d in %d ms", code, self._failures, delay_s * 1_000)
        await asyncio.sleep(delay_s)

    def _jitter(self) -> float:
        return int.from_bytes(self._random_bytes(_JITTER_BYTES), "big") / _JITTER_RANGE

    async def _serve(self, state: _Connected) -> None:
        await until_first_ends(
            self._read(state), self._handle(state), self._pump(state), self._heartbeat(state)
        )

    async def _read(self, state: _Connected) -> None:
        while True:
            frame = await state.connection.receive()
            state.heard += 1
            if not isinstance(frame, Pong):
                await state.frames.put(frame)

    async def _handle(self, state: _Connected) -> None:
        while True:
            frames = [await state.frames.get()]
            while len(frames) < MAX_BATCH and not state.frames.empty():
                frames.append(state.frames.get_nowait())
            await self._answers(state, frames)
            await self._deliveries(state, [frame for frame in frames if isinstance(frame, Deliver)])
            if any(isinstance(frame, QueueEmpty) for frame in frames):
                await self._listener.caught_up()
            self._failures = 0  # not before: what cannot be handled must not be fetched in a hurry

    async def _answers(self, state: _Connected, frames: list[ServerFrame]) -> None:
        """Strike what was accepted, drop or put back what was refused."""
        accepted: list[OutboxEnvelope] = []
        for frame in frames:
            if isinstance(frame, Accepted):
                found = (state.window.accepted(MessageId(raw)) for raw in frame.message_ids)
                accepted.extend(envelope for envelope in found if envelope is not None)
        if accepted:
            await self._sender.confirm(accepted)
        for frame in frames:
            if isinstance(frame, Error):
                await self._refusal(state, frame)
        self._wake.set()

    async def _refusal(self, state: _Connected, frame: Error) -> None:
        if frame.message_id is None:
            raise ServerError(
                frame.code,
                status=0,
                retryable=frame.retryable,
                retry_after_s=frame.retry_after_ms / 1_000,
            )
        message_id = MessageId(frame.message_id)
        if frame.retryable:
            state.window.refused(
                message_id,
                retry_after_ms=frame.retry_after_ms,
                now_ms=_loop_ms(),
                jitter=self._jitter(),
            )
            return
        envelope = state.window.dropped(message_id)
        if envelope is not None:
            await self._sender.refuse(envelope, frame.code)

    async def _deliveries(self, state: _Connected, frames: list[Deliver]) -> None:
        if not frames:
            return
        epoch = state.connection.ready.epoch
        await self._receiver.take_in(epoch, [envelope_of(frame) for frame in frames])
        last = max(frame.seq for frame in frames)
        if last:
            await state.connection.send([Ack(epoch, last)])
            self._fault("receive.acknowledged")

    async def _pump(self, state: _Connected) -> None:
        window = state.window
        while True:
            self._wake.clear()
            if window.wants_more:
                after, limit = window.last_position, 2 * self._config.window
                more = await self._storage.read(lambda tx: tx.outbox.envelopes(after, limit))  # noqa: B023 (awaited at once)
                window.add(more)
            taken = window.take(_loop_ms())
            if taken:
                await self._transmit(state, taken)
                continue
            await self._until_woken(window.next_ms())

    async def _transmit(self, state: _Connected, taken: list[OutboxEnvelope]) -> None:
        frames = await self._storage.read(lambda tx: _frames(tx, taken))
        for envelope, frame in zip(taken, frames, strict=True):
            if frame is None:
                state.window.dropped(envelope.message_id)  # it expired meanwhile
        await state.connection.send([frame for frame in frames if frame is not None])
        self._fault("send.transmitted")

    async def _until_woken(self, at_ms: int | None) -> None:
        if at_ms is None:
            await self._wake.wait()
            return
        try:
            async with asyncio.timeout(max(0.0, (at_ms - _loop_ms()) / 1_000)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _heartbeat(self, state: _Connected) -> None:
        number = heard = silent = 0
        while True:
            await asyncio.sleep(self._config.heartbeat_s)
            silent = 0 if state.heard != heard else silent + 1
            if silent >= 2:
                raise TransportError("the server is silent")
            heard = state.heard
            number += 1
            await state.connection.send([Ping(number)])


async def until_first_ends(*works: Coroutine[None, None, None]) -> None:
    """Run all until one ends; cancel and await the others, then raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        ended = next(task for task in tasks if task.done())
        ended.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _frames(tx: Transaction, taken: list[OutboxEnvelope]) -> list[Send | None]:
    frames: list[Send | None] = []
    for envelope in taken:
        body = tx.outbox.envelope_body(envelope.position)
        address = envelope.address
        frames.append(None if body is None else Send(envelope.message_id, address.user, address.device, body))
    return frames


def _loop_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1_000)
