"""The rules of a mailbox: what it takes, in which order, what an acknowledgement releases, when it expires.

One mailbox belongs to one device. Its messages are numbered from 1 without gaps, so how many it holds is the
distance between its two cursors; an expired message counts as acknowledged. Pure: no clock, no I/O.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from securechat.ids import MessageId, ProtocolAddress
from securechat.relay.errors import AckBeyondEndError, StaleEpochError
from securechat.wire.frames import MAX_BODY_BYTES

DAY_MS: Final = 86_400_000


class Refusal(StrEnum):
    """Why a send was not accepted; the values are the codes on the wire."""

    UNKNOWN_RECIPIENT = "unknown_recipient"
    DENIED = "denied"
    MESSAGE_TOO_LARGE = "message_too_large"
    MAILBOX_FULL = "mailbox_full"
    ORDER_HOLD = "order_hold"
    STORE_FULL = "store_full"
    STORE_UNAVAILABLE = "store_unavailable"

    @property
    def retryable(self) -> bool:
        """Whether the same send may be accepted later."""
        return self not in _PERMANENT


_PERMANENT: Final = frozenset({Refusal.UNKNOWN_RECIPIENT, Refusal.DENIED, Refusal.MESSAGE_TOO_LARGE})


@dataclass(frozen=True, slots=True)
class Quota:
    """What one mailbox holds at most, and how long."""

    messages: int = 50_000
    bytes: int = 256 * 2**20
    body_bytes: int = MAX_BODY_BYTES
    ttl_days: int = 30  # a message expires 30 to 31 days after it was accepted
    retry_days: int = 7  # the id of a released message is remembered so long, for late retries


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The state of one mailbox, without its messages.

    ``last_seq`` is the newest message's number, all up to ``acked_seq`` is gone. ``bytes_in`` and
    ``bytes_out`` count body bytes ever put in and released. ``fence`` is the number of the newest connection
    and ``node`` the server process that holds it, None while the device is not connected.
    """

    id: int
    address: ProtocolAddress
    epoch: bytes
    last_seq: int = 0
    acked_seq: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    fence: int = 0
    node: str | None = None

    @property
    def messages(self) -> int:
        """How many messages it holds."""
        return self.last_seq - self.acked_seq

    @property
    def bytes(self) -> int:
        """How many bytes of bodies it holds."""
        return self.bytes_in - self.bytes_out


def accept(mailbox: Mailbox, size: int, quota: Quota) -> Mailbox | Refusal:
    """Return the mailbox with one more message of ``size`` bytes, numbered ``last_seq``, or why not."""
    if size > quota.body_bytes:
        return Refusal.MESSAGE_TOO_LARGE
    if mailbox.messages >= quota.messages or mailbox.bytes + size > quota.bytes:
        return Refusal.MAILBOX_FULL
    return replace(mailbox, last_seq=mailbox.last_seq + 1, bytes_in=mailbox.bytes_in + size)


def check_ack(mailbox: Mailbox, epoch: bytes, seq: int) -> None:
    """Raise StaleEpochError or AckBeyondEndError unless the device may acknowledge up to ``seq``.

    A number at or below ``acked_seq`` is no error: acknowledgements may be repeated and overtake each other.
    """
    if epoch != mailbox.epoch:
        raise StaleEpochError("the acknowledgement is for another epoch of the mailbox")
    if seq > mailbox.last_seq:
        raise AckBeyondEndError(f"the acknowledgement of {seq} is above the last message {mailbox.last_seq}")


def release(mailbox: Mailbox, seq: int, bytes_through: int) -> Mailbox:
    """Return the mailbox without all up to ``seq``; ``bytes_through`` is ``bytes_in`` as of that message.

    INVARIANT: the cursor never goes back.
    """
    if seq <= mailbox.acked_seq:
        return mailbox
    return replace(mailbox, acked_seq=seq, bytes_out=bytes_through)


def day_of(now_ms: int) -> int:
    """Return the day since 1970 that sequence numbers are filed under, for expiry below a number."""
    return now_ms // DAY_MS


def last_expired_day(now_ms: int, days: int) -> int:
    """Return the newest day of which everything is at least ``days`` old."""
    return day_of(now_ms) - days - 1


Lane = tuple[int, ProtocolAddress]  # one connection's sends to one device


class OrderHolds:
    """Keeps one connection's sends to one device in order when one of them was refused for now.

    After a refusal that may be retried, every later send of the lane is refused with ``order_hold`` until the
    first refused message comes again; so a retry can never be overtaken by its successors.
    """

    __slots__ = ("_held",)

    def __init__(self, held: dict[Lane, MessageId] | None = None) -> None:
        self._held = dict(held or {})

    def __len__(self) -> int:
        return len(self._held)

    def copy(self) -> "OrderHolds":
        """Return an independent copy."""
        return OrderHolds(self._held)

    def blocks(self, lane: Lane, message: MessageId) -> bool:
        """Tell whether ``message`` must wait for an earlier one of its lane."""
        return self._held.get(lane, message) != message

    def note(self, lane: Lane, message: MessageId, refusal: Refusal | None) -> None:
        """Take notice of how a send ended; None means that it was accepted."""
        if refusal is not None and refusal.retryable:
            self._held.setdefault(lane, message)
        elif self._held.get(lane) == message:
            del self._held[lane]

    def forget(self, connection: int) -> None:
        """Drop every lane of an ended connection."""
        for lane in self._lanes_of(connection):
            del self._held[lane]

    def _lanes_of(self, connection: int) -> Iterable[Lane]:
        return [lane for lane in self._held if lane[0] == connection]
