"""One connected device: reads its frames, answers its sends and hands it its mailbox."""

import asyncio

from audit.errors import AuditError
from securechat.errors import AccessDeniedError, AuthenticationError, StoreError
from securechat.ids import DeviceId, MessageId, ProtocolAddress, UserId
from securechat.relay.delivery import Delivery
from securechat.relay.envelope import Envelope, Placed
from securechat.relay.errors import (
    AckBeyondEndError,
    ProtocolViolationError,
    RelayError,
    StaleEpochError,
    UnknownRecipientError,
)
from securechat.relay.mailbox import Mailbox, Refusal, check_ack
from securechat.relay.permits import Permit
from securechat.relay.services import RelayServices
from securechat.relay.socket import Socket
from securechat.relay.store import Ack as StoredAck
from securechat.relay.store import read_page
from securechat.web.caller import Caller
from securechat.wire.frames import (
    FLAG_EPHEMERAL,
    FLAG_URGENT,
    MAX_ACCEPTED,
    Accepted,
    Ack,
    CloseCode,
    Deliver,
    Error,
    Ping,
    Pong,
    Send,
)

_MAX_PERMITS = 256  # recipients whose permission is kept for a moment


class Connection:
    """A Sender and a Receiver (securechat.relay.connections) on one authenticated socket."""

    def __init__(
        self, services: RelayServices, socket: Socket, caller: Caller, mailbox: Mailbox, own: Permit
    ) -> None:
        self._services = services
        self._socket = socket
        self._caller = caller
        self._mailbox = mailbox
        self._own = own
        self._number = services.connections.add_sender(self)
        self._permits: dict[ProtocolAddress, tuple[Permit, float]] = {}
        self._accepted: list[bytes] = []
        self._unanswered = 0
        self._unanswered_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._delivery = Delivery(
            mailbox,
            writer=socket.writer,
            codec=services.codec,
            limits=services.limits.window,
            read_page=self._read_page,
            failed=self._storage_failed,
            fault=services.fault,
        )

    @property
    def address(self) -> ProtocolAddress:
        """See Receiver."""
        return self._mailbox.address

    @property
    def fence(self) -> int:
        """See Receiver."""
        return self._mailbox.fence

    async def run(self) -> None:
        """Serve the device until either side ends the connection."""
        self._delivery.start()
        try:
            while (frame := await self._socket.receive()) is not None:
                match frame:
                    case Send():
                        await self._take(frame)
                    case Ack():
                        self._acknowledge(frame)
                    case Ping():
                        self._socket.send(Pong(frame.number))
                    case _:
                        raise ProtocolViolationError(CloseCode.MALFORMED)
        except ProtocolViolationError as error:
            self._socket.close(error.close_code)
        finally:
            self._delivery.stop()

    async def leave(self) -> None:
        """Give up what this connection holds, once all its sends are settled."""
        await self._all_answered()
        self._services.connections.remove_sender(self._number)
        self._services.intake.forget(self._number)

    # --- Receiver

    def offer(self, message: Deliver) -> None:
        """See Receiver; an ephemeral message is dropped when the device does not keep up."""
        if not message.flags & FLAG_EPHEMERAL:
            self._delivery.offer(message)
        elif self._socket.buffered <= self._services.limits.window.bytes:
            self._socket.send(message)

    def wake(self, last_seq: int) -> None:
        """See Receiver."""
        self._delivery.wake(last_seq)

    def close(self, code: CloseCode) -> None:
        """See Receiver."""
        self._delivery.stop()
        self._socket.close(code)

    def tick(self, now_ms: int) -> None:
        """See Receiver: a connection ends with its token, and when its peer is lost."""
        if now_ms >= self._caller.expires_ms:
            self.close(CloseCode.SESSION_ENDED)
        else:
            self._socket.tick()

    # --- Sender

    def accepted(self, envelope: Envelope, placed: Placed) -> None:
        """See Sender."""
        self._accepted.append(envelope.message)
        self._answered(envelope)

    def refused(self, envelope: Envelope, refusal: Refusal) -> None:
        """See Sender."""
        self._tell_accepted()
        self._tell_refused(envelope.message, refusal)
        self._answered(envelope)

    def settled(self) -> None:
        """See Sender: all of one commit are told with one frame."""
        self._tell_accepted()
        self._room.set()

    def _answered(self, envelope: Envelope) -> None:
        self._unanswered -= 1
        self._unanswered_bytes -= len(envelope.body)

    # --- frames of the device

    async def _take(self, frame: Send) -> None:
        recipient = ProtocolAddress(UserId(frame.user), DeviceId(frame.device))
        message = MessageId(frame.message_id)
        try:
            permit = await self._permit(recipient)
        except (UnknownRecipientError, AccessDeniedError, StoreError, AuditError) as error:
            refusal = _refusal_of(error)
            if refusal.retryable:
                await self._all_answered()  # INVARIANT: an earlier send that is refused too holds the lane
            self._services.intake.refused((self._number, recipient), message, refusal)
            self._tell_refused(message, refusal)
            return
        except AuthenticationError as error:
            raise ProtocolViolationError(CloseCode.UNAUTHENTICATED) from error
        self._send(frame, recipient, permit)
        await self._wait_for_room()

    def _send(self, frame: Send, recipient: ProtocolAddress, permit: Permit) -> None:
        flags = (FLAG_EPHEMERAL if frame.ephemeral else 0) | (FLAG_URGENT if frame.urgent else 0)
        self._unanswered += 1
        self._unanswered_bytes += len(frame.body)
        self._services.intake.send(
            Envelope(
                message=MessageId(frame.message_id),
                sender=self.address,
                sender_box=self._mailbox.id,
                recipient=recipient,
                body=frame.body,
                flags=flags,
                connection=self._number,
                permit=permit,
            )
        )

    async def _all_answered(self) -> None:
        """Wait until no send of this connection is under way."""
        while self._unanswered:
            self._room.clear()
            await self._room.wait()

    async def _wait_for_room(self) -> None:
        """Do not read on while too many sends wait for their commit: the socket is the queue then."""
        limits = self._services.limits
        while (
            self._unanswered >= limits.unanswered_sends or self._unanswered_bytes >= limits.unanswered_bytes
        ):
            self._room.clear()
            await self._room.wait()
        await self._services.intake.room()

    async def _permit(self, recipient: ProtocolAddress) -> Permit:
        now_s = asyncio.get_running_loop().time()
        kept = self._permits.get(recipient)
        if kept is not None and kept[1] > now_s:
            return kept[0]
        permit = await self._services.permits.send(self._caller, recipient)
        if len(self._permits) >= _MAX_PERMITS:
            self._permits.clear()
        self._permits[recipient] = permit, now_s + self._services.limits.permit_s
        return permit

    def _acknowledge(self, frame: Ack) -> None:
        try:
            check_ack(self._mailbox, frame.epoch, min(frame.seq, self._mailbox.last_seq))
            if frame.seq > self._delivery.last:
                raise AckBeyondEndError(f"the acknowledgement of {frame.seq} is above the last message")
        except (StaleEpochError, AckBeyondEndError) as error:
            self._socket.send(Error(error.code, None, False, 0))
            return
        self._delivery.acked(frame.seq)
        stored = StoredAck(self._mailbox.id, frame.epoch, frame.seq, self.fence)
        self._services.intake.ack(stored, self._own)

    # --- answers

    def _tell_accepted(self) -> None:
        for start in range(0, len(self._accepted), MAX_ACCEPTED):
            self._socket.send(Accepted(self._accepted[start : start + MAX_ACCEPTED]))
        self._accepted = []

    def _tell_refused(self, message: bytes, refusal: Refusal) -> None:
        wait_ms = self._services.limits.retry_after_ms if refusal.retryable else 0
        self._socket.send(Error(refusal.value, message, refusal.retryable, wait_ms))

    async def _read_page(self, after: int, limit: int) -> list[Deliver]:
        max_bytes = self._services.limits.window.bytes
        return await self._services.database.read(
            lambda connection: read_page(
                connection, self._mailbox.id, after=after, limit=limit, max_bytes=max_bytes
            )
        )

    def _storage_failed(self) -> None:
        self.close(CloseCode.STORAGE_FAILURE)


def _refusal_of(error: RelayError | AccessDeniedError | StoreError | AuditError) -> Refusal:
    match error:
        case UnknownRecipientError():
            return Refusal.UNKNOWN_RECIPIENT
        case AccessDeniedError():
            return Refusal.DENIED
        case _:
            return Refusal.STORE_UNAVAILABLE
