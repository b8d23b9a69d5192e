"""A WebSocket as the relay uses it: frames in and out, a frame rate, a close that always ends."""

import asyncio
from typing import Final

from aiohttp import WSMsgType, web

from securechat.errors import WireError
from securechat.relay.errors import ProtocolViolationError
from securechat.relay.flood import TokenBucket
from securechat.relay.frame_writer import CoalescingFrameWriter, FrameWriter, PlainFrameWriter
from securechat.relay.health import Health, Verdict
from securechat.relay.limits import RelayLimits
from securechat.wire.frames import MAX_FRAME_BYTES, ClientFrame, CloseCode, FrameCodec, ServerFrame

_READ_BYTES: Final = 4 * MAX_FRAME_BYTES  # above it aiohttp itself closes, with 1009
_GONE: Final = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})


class Socket:
    """A prepared WebSocket. Reading is one coroutine's business; sending and closing are anybody's."""

    def __init__(
        self,
        response: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        writer: FrameWriter,
        *,
        codec: FrameCodec,
        limits: RelayLimits,
    ) -> None:
        self._response = response
        self._transport = transport
        self._writer = writer
        self._codec = codec
        self._loop = asyncio.get_running_loop()
        self._bucket = TokenBucket(limits.rate, self._loop.time())
        self._health = Health(limits, self._loop.time())
        self._deadline: asyncio.TimerHandle | None = None  # set by a close from this side
        self._gone = False
        self._close_s = limits.close_s

    @property
    def response(self) -> web.WebSocketResponse:
        """What the handler of the request returns."""
        return self._response

    @property
    def is_closing(self) -> bool:
        """Whether this side has ended the connection."""
        return self._deadline is not None

    @property
    def buffered(self) -> int:
        """How many bytes the peer has not taken yet."""
        return self._writer.buffered

    @property
    def writer(self) -> FrameWriter:
        """Where already encoded frames go."""
        return self._writer

    def send(self, frame: ServerFrame) -> None:
        """Queue ``frame``; nothing follows a close."""
        if not self.is_closing:
            self._writer.send(self._codec.encode(frame))

    async def receive(self) -> ClientFrame | None:
        """Return the peer's next frame, None once it is gone. Raises ProtocolViolationError.

        After a close from this side whatever still comes is read and dropped, so that the peer gets to see
        the reason instead of a reset.
        """
        while True:
            message = await self._response.receive()
            if message.type in _GONE:
                self._gone = True
                return None
            if self.is_closing:
                continue
            self._count()
            if message.type is WSMsgType.BINARY:
                return self._decode(message.data)
            if message.type is WSMsgType.PING:
                self._writer.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                raise ProtocolViolationError(CloseCode.MALFORMED)

    def tick(self) -> None:
        """Look after the connection: ping a silent peer, end a lost one."""
        match self._health.check(self._loop.time(), self._writer.buffered):
            case Verdict.PING:
                self._writer.ping()
            case Verdict.LOST:
                self.close(CloseCode.TOO_SLOW)
            case Verdict.FINE:
                pass

    def close(self, code: CloseCode) -> None:
        """End the connection with ``code`` after what is queued; the first reason given counts."""
        if self._deadline is None:
            self._writer.close(int(code))
            self._writer.flush()
            self._deadline = self._loop.call_later(self._close_s, self._cut)

    async def finish(self) -> None:
        """Wait until the peer has seen the close, or has had the time to, and let go of the connection."""
        while not self._gone:
            await self.receive()
        if self._deadline is not None:
            self._deadline.cancel()
            if self._transport is not None:
                self._transport.close()
        else:
            await self._response.close(drain=False)

    def _count(self) -> None:
        now_s = self._loop.time()
        self._health.heard(now_s)
        if not self._bucket.take(now_s):
            raise ProtocolViolationError(CloseCode.FLOOD)

    def _decode(self, raw: bytes) -> ClientFrame:
        if len(raw) > MAX_FRAME_BYTES:
            raise ProtocolViolationError(CloseCode.FRAME_TOO_LARGE)
        try:
            return self._codec.decode_client(raw)
        except WireError as error:
            raise ProtocolViolationError(CloseCode.MALFORMED) from error

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def open_socket(
    request: web.Request, codec: FrameCodec, limits: RelayLimits, *, coalesce: bool = True
) -> Socket:
    """Upgrade ``request``. Raises aiohttp's HTTPBadRequest when it is no WebSocket handshake."""
    response = web.WebSocketResponse(
        autoclose=False,
        autoping=False,
        compress=False,
        decode_text=False,
        max_msg_size=_READ_BYTES,
        timeout=limits.close_s,
    )
    await response.prepare(request)
    transport = request.transport
    if coalesce and transport is not None:
        writer: FrameWriter = CoalescingFrameWriter(transport, asyncio.get_running_loop())
    else:
        writer = PlainFrameWriter(response)
    return Socket(response, transport, writer, codec=codec, limits=limits)
