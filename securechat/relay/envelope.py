"""A sealed message on its way into a mailbox, and what became of it."""

from dataclasses import dataclass

from securechat.ids import MessageId, ProtocolAddress
from securechat.relay.mailbox import Lane, Refusal
from securechat.relay.permits import Permit
from securechat.wire.frames import FLAG_EPHEMERAL, Deliver


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One send. ``sender_box`` is the row of the sender's own mailbox, ``connection`` its order's lane."""

    message: MessageId
    sender: ProtocolAddress
    sender_box: int
    recipient: ProtocolAddress
    body: bytes
    flags: int
    connection: int
    permit: Permit

    @property
    def ephemeral(self) -> bool:
        """Whether it is given to a connected device or dropped, and never stored."""
        return bool(self.flags & FLAG_EPHEMERAL)

    @property
    def lane(self) -> Lane:
        """Sends of one lane keep their order."""
        return self.connection, self.recipient

    def deliver(self, placed: "Placed") -> Deliver:
        """Return the frame that hands it to its recipient."""
        sender = self.sender
        return Deliver(
            placed.seq, self.message, sender.user, sender.device, placed.accepted_ms, self.flags, self.body
        )


@dataclass(frozen=True, slots=True)
class Placed:
    """An accepted send. ``seq`` is 0 for an ephemeral one; ``new`` is False for a repetition.

    ``node`` and ``fence`` are the recipient's presence as of the same transaction.
    """

    mailbox: int
    seq: int
    accepted_ms: int
    node: str | None
    fence: int
    new: bool


Outcome = Placed | Refusal
