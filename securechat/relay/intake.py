"""Collects sends and acknowledgements of all connections into transactions, one after the other.

While one batch is on its way to the disk the next one gathers, so under load a commit carries hundreds of
messages, and with a single sender it carries one. Only one batch is under way, which keeps the sends of a
connection in order even across a refusal. Acknowledgements ride along; alone they wait a little for company.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from securechat.errors import StoreFullError
from securechat.ids import MessageId
from securechat.logs import get_logger
from securechat.ports import Clock, no_fault
from securechat.relay.acceptance import Rules, accept_batch
from securechat.relay.envelope import Envelope, Outcome
from securechat.relay.errors import AckBeyondEndError, RelayError, StaleEpochError
from securechat.relay.mailbox import Lane, OrderHolds, Refusal
from securechat.relay.permits import Permit
from securechat.relay.store import Ack
from securechat.sql.engine import Database, Tx

BATCH_MESSAGES: Final = 1000
BATCH_BYTES: Final = 4 * 2**20
PENDING_BYTES: Final = 64 * 2**20  # of all connections together; above it they are not read any more
ACK_LINGER_S: Final = 0.05
ACK_RETRY_S: Final = 1.0
_ENVELOPE_BYTES: Final = 256  # what a send costs in memory and on disk beside its body

Settle = Callable[[Sequence[tuple[Envelope, Outcome]]], None]


@dataclass(frozen=True, slots=True)
class PermittedAck:
    """An acknowledgement and the permission behind it."""

    ack: Ack
    permit: Permit


class Intake:
    """The one way into the mailboxes. ``settle`` is told, in order, what became of every send of a batch."""

    def __init__(self, database: Database, rules: Rules, *, clock: Clock, settle: Settle) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock
        self._settle = settle
        self._holds = OrderHolds()
        self._pending: list[Envelope] = []
        self._bytes = 0
        self._acks: dict[int, PermittedAck] = {}
        self._busy = False
        self._scheduled = False
        self._draining = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._logger = get_logger("relay")
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def room(self) -> None:
        """Wait until there is room for more: whoever reads a socket calls this before the next frame."""
        if not self._has_room.is_set():
            await self._has_room.wait()

    def send(self, envelope: Envelope) -> None:
        """Take one send; its outcome comes by ``settle``."""
        self._pending.append(envelope)
        self._bytes += len(envelope.body) + _ENVELOPE_BYTES
        if self._bytes >= PENDING_BYTES:
            self._has_room.clear()
        self._begin_soon()

    def ack(self, ack: Ack, permit: Permit) -> None:
        """Take one acknowledgement; only the highest of a mailbox is kept. Errors of it are not told."""
        known = self._acks.get(ack.mailbox)
        if known is None or known.ack.epoch != ack.epoch or _is_newer(ack, known.ack):
            self._acks[ack.mailbox] = PermittedAck(ack, permit)
        self._rules.fault("ack.received")
        self._begin_later(ACK_LINGER_S)

    async def ack_now(self, ack: Ack, permit: Permit) -> int:
        """Commit one acknowledgement; return how many messages it released.

        Raises StaleEpochError, AckBeyondEndError and StoreError.
        """
        self._rules.fault("ack.received")
        acks = [PermittedAck(ack, permit)]
        results = await self._database.write(lambda tx: self._release(tx, acks))
        self._rules.fault("ack.committed")
        if isinstance(results[0], RelayError):
            raise results[0]
        return results[0]

    def refused(self, lane: Lane, message: MessageId, refusal: Refusal) -> None:
        """Take notice of a send that was refused before it came here."""
        self._holds.note(lane, message, refusal)

    def forget(self, connection: int) -> None:
        """Drop what is kept about the order of an ended connection's sends."""
        self._holds.forget(connection)

    async def drain(self) -> None:
        """Wait until every send taken so far is settled.

        From now on acknowledgements are tried once: a disk that stays full must not keep the server from
        stopping, and a device repeats what is not acknowledged.
        """
        self._draining = True
        while not self._idle.is_set():
            await self._idle.wait()

    def _begin_soon(self) -> None:
        if not self._busy and not self._scheduled:
            self._idle.clear()
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin_later(self, seconds: float) -> None:
        if not self._busy and not self._scheduled and self._timer is None:
            self._idle.clear()
            self._timer = asyncio.get_running_loop().call_later(seconds, self._begin)

    def _begin(self) -> None:
        """Submit what has gathered: the acknowledgements first, since they make room."""
        if self._busy:
            return
        self._scheduled = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, size = self._take_batch()
        acks, self._acks = list(self._acks.values()), {}
        if not batch and not acks:
            self._idle.set()
            return
        self._busy = True
        released = self._database.submit(lambda tx: self._release(tx, acks)) if acks else None
        accepted = self._database.submit(self._work(batch), size=size) if batch else None
        finish = self._finish(batch, accepted, acks, released)
        self._task = asyncio.get_running_loop().create_task(finish)

    def _take_batch(self) -> tuple[list[Envelope], int]:
        size = count = 0
        for envelope in self._pending:
            size += len(envelope.body) + _ENVELOPE_BYTES
            if count == BATCH_MESSAGES or (count and size > BATCH_BYTES):
                size -= len(envelope.body) + _ENVELOPE_BYTES
                break
            count += 1
        batch, self._pending = self._pending[:count], self._pending[count:]
        return batch, size

    def _work(self, batch: list[Envelope]) -> Callable[[Tx], list[Outcome]]:
        holds, now_ms = self._holds.copy(), self._clock()
        return lambda tx: accept_batch(tx, batch, holds, now_ms, self._rules)

    def _release(self, tx: Tx, acks: Sequence[PermittedAck]) -> list[int | RelayError]:
        now_ms = self._clock()
        results: list[int | RelayError] = []
        for each in acks:
            try:
                released = self._rules.store.release(tx, each.ack, now_ms)
            except (StaleEpochError, AckBeyondEndError) as error:
                results.append(error)
                continue
            event = each.permit.event(n=released) if released else None
            if event is not None:
                tx.record(event)
            results.append(released)
        self._rules.fault("ack.written")
        return results

    async def _finish(
        self,
        batch: list[Envelope],
        accepted: "asyncio.Future[list[Outcome]] | None",
        acks: list[PermittedAck],
        released: "asyncio.Future[list[int | RelayError]] | None",
    ) -> None:
        kept = False
        try:
            kept = released is not None and not await self._finish_acks(acks, released)
            if accepted is not None:
                self._finish_sends(batch, await self._outcomes(batch, accepted))
        finally:
            self._busy = False
            self._go_on(wait=kept)

    def _go_on(self, *, wait: bool) -> None:
        """Begin the next batch; acknowledgements that could not be written ``wait`` a while, if alone."""
        if self._pending or (self._acks and not wait):
            self._begin()
        elif self._acks and not self._draining:
            self._begin_later(ACK_RETRY_S)
        else:
            self._acks.clear()
            self._idle.set()

    async def _finish_acks(
        self, acks: list[PermittedAck], released: "asyncio.Future[list[int | RelayError]]"
    ) -> bool:
        """Return False if the transaction failed; the acknowledgements are kept then, for the next one."""
        try:
            await released
        except Exception as error:
            self._logger.warning("acks.kept", exc_info=error)
            for each in acks:
                newer = self._acks.get(each.ack.mailbox)
                if newer is None or _is_newer(each.ack, newer.ack):
                    self._acks[each.ack.mailbox] = each
            return False
        self._rules.fault("ack.committed")
        return True

    async def _outcomes(
        self, batch: list[Envelope], accepted: "asyncio.Future[list[Outcome]]"
    ) -> list[Outcome]:
        """Return what became of each send; after a failed transaction, that none was accepted."""
        try:
            return await accepted
        except StoreFullError:
            return [Refusal.STORE_FULL] * len(batch)
        except Exception as error:  # whatever it was, nothing was committed and every sender gets an answer
            self._logger.warning("batch.failed", exc_info=error)
            return [Refusal.STORE_UNAVAILABLE] * len(batch)

    def _finish_sends(self, batch: list[Envelope], outcomes: list[Outcome]) -> None:
        for envelope, outcome in zip(batch, outcomes, strict=True):
            self._bytes -= len(envelope.body) + _ENVELOPE_BYTES
            if not envelope.ephemeral:
                refusal = outcome if isinstance(outcome, Refusal) else None
                self._holds.note(envelope.lane, envelope.message, refusal)
        if self._bytes < PENDING_BYTES:
            self._has_room.set()
        self._rules.fault("accept.committed")
        self._settle(list(zip(batch, outcomes, strict=True)))
        if self._rules.fault is not no_fault:
            asyncio.get_running_loop().call_soon(self._rules.fault, "accept.answered")


def _is_newer(ack: Ack, known: Ack) -> bool:
    """Tell whether ``ack`` counts more than ``known``: it is higher, or its connection fenced the other."""
    return (ack.fence or 0, ack.seq) > (known.fence or 0, known.seq)
