"""What a client tells its application, as classes for ``match``.

Events that matter are kept in the store until ``await event.ack()``; an application that stops before it gets
them again. No event shows a text or a name in its ``repr``.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from securechat.client.records import EventKind, EventRecord
from securechat.ids import DeviceId, MessageId, UserId

Acknowledge = Callable[[], Awaitable[None]]


async def nothing_to_acknowledge() -> None:
    """The ``ack`` of an event that is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events. ``await event.ack()`` is durable: an acknowledged event does not come again."""

    _acknowledge: Acknowledge = field(default=nothing_to_acknowledge, repr=False, compare=False)

    async def ack(self) -> None:
        """Strike the event from the store; the second time does nothing. Raises StoreError."""
        await self._acknowledge()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Message(Event):
    """A text from ``sender``. Times are milliseconds since 1970: the sender's clock, the server's clock.

    ``counter`` rises by one with every message of that device to this one: a gap shows what did not arrive.
    """

    sender: UserId
    device: DeviceId
    message_id: MessageId
    text: str
    sent_ms: int
    accepted_ms: int
    counter: int
    reply_to: MessageId | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DecryptFailed(Event):
    """A message that does not open; ``reason`` is a stable code (docs/reference/client.md)."""

    sender: UserId
    device: DeviceId
    message_id: MessageId
    reason: str
    accepted_ms: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SendFailed(Event):
    """A message of ours to ``recipient`` that will not be sent; ``reason`` is a stable code."""

    recipient: UserId
    message_id: MessageId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class IdentityChanged(Event):
    """``user`` has another account key. Nothing is sent until ``Client.accept_identity``."""

    user: UserId


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Unsupported(Event):
    """A message of a kind that this version does not know; ``kind`` is its number."""

    sender: UserId
    device: DeviceId
    message_id: MessageId
    kind: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StoreRestored(Event):
    """The store was an older copy of itself; all sessions are made anew, messages may be missing."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CaughtUp(Event):
    """Everything that waited at the server has been yielded. Not kept."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClockSkew(Event):
    """The server's clock is ``skew_ms`` ahead of this device's (negative: behind). Not kept."""

    skew_ms: int


def event_of(record: EventRecord, acknowledge: Acknowledge) -> Event:
    """Return the event that ``record`` holds."""
    user, device = UserId(record.user), DeviceId(record.device)
    message_id = MessageId(record.message_id)
    match record.kind:
        case EventKind.MESSAGE:
            return Message(
                _acknowledge=acknowledge,
                sender=user,
                device=device,
                message_id=message_id,
                text=record.text,
                sent_ms=record.sent_ms,
                accepted_ms=record.accepted_ms,
                counter=record.counter,
                reply_to=MessageId(record.reply_to) if record.reply_to else None,
            )
        case EventKind.DECRYPT_FAILED:
            return DecryptFailed(
                _acknowledge=acknowledge,
                sender=user,
                device=device,
                message_id=message_id,
                reason=record.code,
                accepted_ms=record.accepted_ms,
            )
        case EventKind.SEND_FAILED:
            return SendFailed(
                _acknowledge=acknowledge, recipient=user, message_id=message_id, reason=record.code
            )
        case EventKind.IDENTITY_CHANGED:
            return IdentityChanged(_acknowledge=acknowledge, user=user)
        case EventKind.UNSUPPORTED:
            return Unsupported(
                _acknowledge=acknowledge,
                sender=user,
                device=device,
                message_id=message_id,
                kind=record.counter,
            )
        case EventKind.STORE_RESTORED:
            return StoreRestored(_acknowledge=acknowledge)
