"""A conversation with one user, and a message on its way."""

from dataclasses import dataclass
from typing import Final

from securechat.client.peers import shown_key, stored_devices
from securechat.client.ports import Storage, Transaction
from securechat.client.records import MessageState, PeerRecord
from securechat.client.sending import Sender
from securechat.client.waiters import Waiters
from securechat.errors import ClientClosedError, SendFailedError
from securechat.ids import DeviceId, MessageId, ProtocolAddress, UserId
from securechat.protocol.fingerprint import safety_number
from securechat.protocol.pqxdh import LocalDevice

_UNKNOWN_MESSAGE: Final = "forgotten"  # finished so long ago that its fate is not kept any more


@dataclass(frozen=True, slots=True)
class Reader:
    """One device that can read what is said in a conversation."""

    user: UserId
    device: DeviceId


class Sent:
    """A message of ours, durable from the moment this exists."""

    def __init__(self, message_id: MessageId, storage: Storage, waiters: Waiters) -> None:
        self.message_id = message_id
        self._storage = storage
        self._waiters = waiters

    async def accepted(self) -> None:
        """Return once the server has it on its disk for every device of the recipient.

        Raises SendFailedError with the reason if it never will; the client's own failure
        (AuthenticationError, ServerError) if the link is given up; ClientClosedError.
        """
        if isinstance(self._waiters.failure, ClientClosedError):
            raise self._waiters.failure
        future = self._waiters.add(self.message_id)
        try:
            state, code = await self._storage.read(lambda tx: fate_of(tx, self.message_id))
            if state is MessageState.FAILED:
                raise SendFailedError(code)
            if state is MessageState.ACCEPTED:
                return
            if self._waiters.failure is not None:
                raise self._waiters.failure
            await future
        finally:
            self._waiters.remove(self.message_id, future)
            future.cancel()

    def __repr__(self) -> str:
        return f"<Sent {self.message_id.hex()}>"


class Conversation:
    """One to one with another user, as known when it was made; ``Client.direct`` returns a fresh one."""

    def __init__(
        self, own: LocalDevice, peer: PeerRecord, storage: Storage, sender: Sender, waiters: Waiters
    ) -> None:
        self.user = peer.user
        self._own = own
        self._peer = peer
        self._storage = storage
        self._sender = sender
        self._waiters = waiters

    async def send(
        self, text: str, *, idempotency_key: str | None = None, reply_to: MessageId | None = None
    ) -> Sent:
        """Store a text for this user and send it; the same key never sends twice.

        Raises MessageRefusedError, IdempotencyConflictError, IdentityChangedError, ServerError,
        DeviceListError, AuthenticationError, StoreError. A server that cannot be reached is no error.
        """
        message_id = await self._sender.send_text(
            self.user, text, idempotency_key=idempotency_key, reply_to=reply_to
        )
        return Sent(message_id, self._storage, self._waiters)

    @property
    def identity_waits(self) -> bool:
        """Whether the user's identity changed and waits for ``Client.accept_identity``."""
        return self._peer.waiting_list is not None

    def safety_number(self) -> str:
        """Return the 60 digits that both sides compare; about 10 ms.

        If another identity waits, the number is that identity's: the one to compare before accepting it.
        """
        return safety_number(self._own.address.user, self._own.account, self.user, shown_key(self._peer))

    def readers(self) -> tuple[Reader, ...]:
        """Return every device that can read this conversation: the other side's, and this one."""
        own = self._own.address
        addresses: list[ProtocolAddress] = [device.address for device in stored_devices(self._peer)]
        if own not in addresses:
            addresses.append(own)
        return tuple(Reader(address.user, address.device) for address in sorted(addresses))

    def __repr__(self) -> str:
        return "<Conversation>"


def fate_of(tx: Transaction, message_id: MessageId) -> tuple[MessageState, str]:
    """Return a message's state; a message that is not kept any more was finished long ago."""
    message = tx.outbox.message(message_id)
    if message is None:
        return MessageState.FAILED, _UNKNOWN_MESSAGE
    if message.state is MessageState.ACCEPTED and tx.outbox.has_envelopes(message_id):
        return MessageState.SEALED, ""
    return message.state, message.code
