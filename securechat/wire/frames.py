"""The frames of a relay connection (docs/reference/relay-protocol.md).

One WebSocket binary message holds one frame: a MessagePack array whose first item is the frame's number.
Schema and limits are checked while decoding, before anything is kept. Frames are neither signed nor hashed:
what they carry for others is ciphertext with its own exact format.
"""

from enum import IntEnum
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from securechat.errors import WireError
from securechat.ids import MAX_DEVICE_ID, MAX_ID_CHARS, MESSAGE_ID_BYTES
from securechat.wire.auth import CHALLENGE_BYTES

_T = TypeVar("_T")

MAX_BODY_BYTES: Final = 96 * 1024  # one sealed message; larger things travel as attachments
MAX_FRAME_BYTES: Final = MAX_BODY_BYTES + 512  # a Send or Deliver with the longest ids
MAX_TOKEN_CHARS: Final = 4096
MAX_ACCEPTED: Final = 1024  # message ids in one Accepted
EPOCH_BYTES: Final = 16
SIGNATURE_BYTES: Final = 64
MAX_SEQ: Final = 2**53 - 1  # also the largest that every JSON reader holds exactly

FLAG_EPHEMERAL: Final = 1  # given to a connected device or dropped; its seq is 0 and it is never acknowledged
FLAG_URGENT: Final = 2  # the sender asked for a push with priority

User = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_ID_CHARS - 1}}}\Z")]
Device = Annotated[int, Meta(ge=1, le=MAX_DEVICE_ID)]
MessageIdBytes = Annotated[bytes, Meta(min_length=MESSAGE_ID_BYTES, max_length=MESSAGE_ID_BYTES)]
Epoch = Annotated[bytes, Meta(min_length=EPOCH_BYTES, max_length=EPOCH_BYTES)]
Body = Annotated[bytes, Meta(max_length=MAX_BODY_BYTES)]
Seq = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
Millis = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
Code = Annotated[str, Meta(max_length=64)]


class CloseCode(IntEnum):
    """Why the server ended a connection (RFC 6455, 7.4.2: 4000-4999 are an application's)."""

    GOING_AWAY = 1001  # the server is stopping: reconnect
    STORAGE_FAILURE = 1011  # the mailbox cannot be read now: reconnect later
    MALFORMED = 4400  # a frame that no client of ours would send
    UNAUTHENTICATED = 4401  # the token or the proof of possession is wrong or missing
    DENIED = 4403  # the policy does not let this device open its mailbox
    SESSION_ENDED = 4408  # the token expired: reconnect with a new one
    CONNECTED_ELSEWHERE = 4409  # a newer connection of this device took over
    TOO_SLOW = 4410  # deliveries stayed unread or pings unanswered: reconnect and resume
    FRAME_TOO_LARGE = 4413
    FLOOD = 4429  # more frames than the rate limit lets through: reconnect later


class _Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag_field="frame"):
    """Base of all frames."""


# --- client to server


class Authenticate(_Frame, frozen=True, tag=1):
    """The first frame of a client: who it is, and the proof over the server's challenge."""

    token: Annotated[str, Meta(max_length=MAX_TOKEN_CHARS)]
    user: User
    device: Device
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]

    def __repr__(self) -> str:
        return f"Authenticate(device={self.device})"


class Send(_Frame, frozen=True, tag=2):
    """A sealed message for one device; ``message_id`` is the same at each attempt."""

    message_id: MessageIdBytes
    user: User
    device: Device
    body: Body
    ephemeral: bool = False
    urgent: bool = False


class Ack(_Frame, frozen=True, tag=3):
    """The device has stored everything up to ``seq`` for good."""

    epoch: Epoch
    seq: Seq


class Ping(_Frame, frozen=True, tag=4):
    """Asks for a Pong with the same number."""

    number: Annotated[int, Meta(ge=0, le=MAX_SEQ)]


# --- server to client


class Challenge(_Frame, frozen=True, tag=16):
    """The first frame of a server."""

    challenge: Annotated[bytes, Meta(min_length=CHALLENGE_BYTES, max_length=CHALLENGE_BYTES)]
    server_time_ms: Millis


class Ready(_Frame, frozen=True, tag=17):
    """The device is authenticated; ``acked_seq`` and all before it is gone from the mailbox."""

    epoch: Epoch
    acked_seq: Seq
    session_expires_ms: Millis
    server_time_ms: Millis


class Accepted(_Frame, frozen=True, tag=18):
    """These sends are on the disk and will be delivered."""

    message_ids: Annotated[list[MessageIdBytes], Meta(max_length=MAX_ACCEPTED)]


class Deliver(_Frame, frozen=True, tag=19):
    """One message of the mailbox; ``seq`` counts from 1 for each device and epoch."""

    seq: Seq
    message_id: MessageIdBytes
    user: User
    device: Device
    accepted_ms: Millis
    flags: Annotated[int, Meta(ge=0, le=3)]
    body: Body


class QueueEmpty(_Frame, frozen=True, tag=20):
    """All that waited at the time of connecting has been delivered, up to ``seq``."""

    seq: Seq


class Error(_Frame, frozen=True, tag=21):
    """A refusal; with a ``message_id`` it is about that Send, and the connection goes on."""

    code: Code
    message_id: MessageIdBytes | None
    retryable: bool
    retry_after_ms: Millis


class Pong(_Frame, frozen=True, tag=22):
    """The answer to Ping."""

    number: Annotated[int, Meta(ge=0, le=MAX_SEQ)]


ClientFrame = Authenticate | Send | Ack | Ping
ServerFrame = Challenge | Ready | Accepted | Deliver | QueueEmpty | Error | Pong


class FrameCodec:
    """Encodes frames and decodes those of one side; keeps msgspec's compiled codecs."""

    __slots__ = ("_client", "_encoder", "_server")

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._client: msgspec.msgpack.Decoder[ClientFrame] = msgspec.msgpack.Decoder(ClientFrame)
        self._server: msgspec.msgpack.Decoder[ServerFrame] = msgspec.msgpack.Decoder(ServerFrame)

    def encode(self, frame: ClientFrame | ServerFrame) -> bytes:
        """Return the bytes of ``frame``."""
        return self._encoder.encode(frame)

    def decode_client(self, raw: bytes) -> ClientFrame:
        """Return what a client sent. Raises WireError."""
        return self._decode(self._client, raw)

    def decode_server(self, raw: bytes) -> ServerFrame:
        """Return what a server sent. Raises WireError."""
        return self._decode(self._server, raw)

    @staticmethod
    def _decode(decoder: msgspec.msgpack.Decoder[_T], raw: bytes) -> _T:
        if len(raw) > MAX_FRAME_BYTES:
            raise WireError(f"a frame has {len(raw)} bytes, more than {MAX_FRAME_BYTES}")
        try:
            return decoder.decode(raw)
        except (msgspec.DecodeError, RecursionError) as error:
            raise WireError("a frame does not match its schema") from error
