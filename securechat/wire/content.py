"""What stands inside the ciphertext: one content, and its padding to a bucket (docs/format/content.md)."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from securechat.errors import WireError
from securechat.ids import MESSAGE_ID_BYTES, MessageId
from securechat.wire.codec import Reader, Writer
from securechat.wire.prekeys import read_flag

FORMAT_VERSION: Final = 1
MAX_TEXT_BYTES: Final = 65_536
SMALL_BUCKETS: Final = (128, 256, 512)  # bytes of padded content; above them multiples of 1,024
BUCKET_STEP: Final = 1_024
MAX_PADDED_BYTES: Final = 65 * BUCKET_STEP  # the bucket of the longest text
_HEAD_BYTES: Final = 1 + 1 + MESSAGE_ID_BYTES + 8 + 8 + 1
MAX_NUMBER: Final = 2**63 - 1  # counters and times: a store's integers have a sign
MAX_BODY_BYTES: Final = MAX_PADDED_BYTES - 1 - _HEAD_BYTES - MESSAGE_ID_BYTES  # of a kind we do not know
_PAD_START: Final = b"\x80"


class ContentKind(IntEnum):
    """What the body means; the value is the kind byte."""

    TEXT = 1  # UTF-8, 1 to 65,536 bytes
    SESSION_REFRESH = 2  # empty: the sender has made the session anew


_KNOWN: Final = frozenset(int(kind) for kind in ContentKind)


@dataclass(frozen=True, slots=True)
class Content:
    """One content of a known kind.

    ``message_id`` is the one that the relay shows outside, which it could change or swap without this;
    ``counter`` counts from 1 for each pair of sending and receiving device, so that a gap shows; ``sent_ms``
    is the sender's clock; ``body`` is not shown by ``repr``.
    """

    kind: ContentKind
    message_id: MessageId
    counter: int
    sent_ms: int
    reply_to: MessageId | None
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """Return the body of a TEXT."""
        return self.body.decode()


@dataclass(frozen=True, slots=True)
class UnknownContent:
    """A content of a kind that this version does not know: shown as such, never an error."""

    kind: int
    message_id: MessageId
    counter: int
    sent_ms: int
    reply_to: MessageId | None
    body: bytes = field(repr=False)


def encode_content(content: Content | UnknownContent) -> bytes:
    """Return the bytes of ``content``, unpadded. Raises WireError for a body that its kind does not allow."""
    _check(content)
    writer = Writer().u8(FORMAT_VERSION).u8(content.kind).fixed(content.message_id, MESSAGE_ID_BYTES)
    writer.u64(content.counter).u64(content.sent_ms).u8(content.reply_to is not None)
    if content.reply_to is not None:
        writer.fixed(content.reply_to, MESSAGE_ID_BYTES)
    return writer.fixed(content.body, len(content.body)).done()


def parse_content(raw: bytes) -> Content | UnknownContent:
    """Return the content in unpadded bytes. Raises WireError."""
    reader = Reader(raw)
    reader.expect(FORMAT_VERSION, "the content version")
    kind, message_id = reader.u8(), MessageId(reader.fixed(MESSAGE_ID_BYTES))
    counter, sent_ms = reader.u64(), reader.u64()
    reply_to = MessageId(reader.fixed(MESSAGE_ID_BYTES)) if read_flag(reader) else None
    body = reader.rest(MAX_BODY_BYTES)
    content: Content | UnknownContent
    if kind in _KNOWN:
        content = Content(ContentKind(kind), message_id, counter, sent_ms, reply_to, body)
    else:
        content = UnknownContent(kind, message_id, counter, sent_ms, reply_to, body)
    _check(content)
    return content


def pad(raw: bytes) -> bytes:
    """Return ``raw``, a byte 0x80 and zeros up to the next bucket. Raises WireError past the largest."""
    size = _bucket(len(raw) + 1)
    return (raw + _PAD_START).ljust(size, b"\x00")


def unpad(padded: bytes) -> bytes:
    """Return what was padded. Raises WireError unless ``pad`` would have written exactly these bytes."""
    if len(padded) > MAX_PADDED_BYTES:
        raise WireError(f"{len(padded)} padded bytes are more than {MAX_PADDED_BYTES}")
    stripped = padded.rstrip(b"\x00")
    if not stripped.endswith(_PAD_START) or len(padded) != _bucket(len(stripped)):
        raise WireError("the padding is malformed")
    return stripped[:-1]


def _bucket(length: int) -> int:
    if length > MAX_PADDED_BYTES:
        raise WireError(f"{length} bytes are more than the largest bucket, {MAX_PADDED_BYTES}")
    for size in SMALL_BUCKETS:
        if length <= size:
            return size
    return -(-length // BUCKET_STEP) * BUCKET_STEP


def _check(content: Content | UnknownContent) -> None:
    if content.counter < 1:
        raise WireError("a content's counter starts at 1")
    if max(content.counter, content.sent_ms) > MAX_NUMBER:
        raise WireError(f"a content's counter or time is more than {MAX_NUMBER}")
    if isinstance(content, UnknownContent):
        if content.kind in _KNOWN:
            raise WireError(f"content kind {content.kind} is a known one")
        if len(content.body) > MAX_BODY_BYTES:
            raise WireError(f"a body has {len(content.body)} bytes, more than {MAX_BODY_BYTES}")
    elif content.kind is ContentKind.TEXT:
        _check_text(content.body)
    elif content.body:
        raise WireError("a session refresh has no body")


def _check_text(body: bytes) -> None:
    if not 1 <= len(body) <= MAX_TEXT_BYTES:
        raise WireError(f"a text has 1 to {MAX_TEXT_BYTES} bytes, not {len(body)}")
    try:
        body.decode()
    except UnicodeDecodeError:
        # without the cause, whose text would show a part of the body
        raise WireError("a text is not UTF-8") from None
