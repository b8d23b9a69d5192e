"""What the client keeps, as values: rows of the store, without a database's manners."""

from dataclasses import dataclass
from enum import IntEnum

from securechat.crypto.secret import SecretBytes
from securechat.ids import DeviceId, MessageId, ProtocolAddress, UserId
from securechat.wire.content import ContentKind


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """This account and this device in their secret forms (``protocol.devices``), and the signed list.

    ``enrolled`` says that the key server has confirmed the list.
    """

    address: ProtocolAddress
    account_keys: SecretBytes
    local_device: SecretBytes
    device_list: bytes
    enrolled: bool

    def __repr__(self) -> str:
        return "AccountRecord(**)"


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """A user whom this device knows: the account key pinned at first contact and the last checked list.

    ``waiting_list`` is a checked device list under another account key; while it waits for the application's
    consent, nothing is sent to this user.
    """

    user: UserId
    account: bytes
    device_list: bytes
    fetched_ms: int
    waiting_list: bytes | None = None


@dataclass(frozen=True, slots=True)
class PeerDeviceRecord:
    """What is counted for one device of a peer.

    ``sent`` is the last content counter; ``refreshed_ms`` the time of the last automatic new session (0:
    never); ``refresh_due`` says that one is to be made. ``received`` and ``received_ms`` are counter and time
    of the newest content that came from the device.
    """

    address: ProtocolAddress
    sent: int = 0
    refreshed_ms: int = 0
    refresh_due: bool = False
    received: int = 0
    received_ms: int = 0


class MessageState(IntEnum):
    """How far a message of ours is."""

    QUEUED = 1  # in the store, not encrypted yet: the peer's keys are not known
    SEALED = 2  # encrypted, its envelopes are in the outbox
    ACCEPTED = 3  # the server has committed it
    FAILED = 4  # it will not be sent; ``code`` says why


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message of ours; ``body`` is kept only while it is queued, ``digest`` binds the idempotency key."""

    message_id: MessageId
    user: UserId
    kind: ContentKind
    digest: bytes
    body: bytes
    reply_to: MessageId | None
    idempotency_key: str | None
    state: MessageState
    code: str
    created_ms: int

    def __repr__(self) -> str:
        return f"OutgoingMessage({self.state.name})"


@dataclass(frozen=True, slots=True)
class OutboxEnvelope:
    """One sealed message to one device, not accepted yet; ``position`` is the sending order."""

    position: int
    message_id: MessageId
    address: ProtocolAddress
    created_ms: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far this device has read its mailbox: the mailbox's epoch (16 bytes) and the last sequence."""

    epoch: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class HeldEnvelope:
    """A message that came under a changed identity and waits until the application accepts it."""

    position: int
    sender: ProtocolAddress
    message_id: MessageId
    accepted_ms: int
    body: bytes


class EventKind(IntEnum):
    """The kinds of events that outlive the process; the number is what the store holds."""

    MESSAGE = 1
    DECRYPT_FAILED = 2
    SEND_FAILED = 3
    IDENTITY_CHANGED = 4
    UNSUPPORTED = 5
    STORE_RESTORED = 6


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One row of the inbox. Which fields matter is the kind's; the others are empty or zero."""

    kind: EventKind
    user: str = ""
    device: int = 0
    message_id: bytes = b""
    reply_to: bytes = b""
    counter: int = 0
    sent_ms: int = 0
    accepted_ms: int = 0
    text: str = ""
    code: str = ""
    position: int = 0

    def __repr__(self) -> str:
        return f"EventRecord({self.kind.name}, position={self.position})"


def address_of(user: UserId, device: int) -> ProtocolAddress:
    """Return the address of a stored row, which was checked when it was written."""
    return ProtocolAddress(user, DeviceId(device))
