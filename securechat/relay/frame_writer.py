"""Writes frames to a WebSocket: all of one event loop turn with a single ``transport.write``.

aiohttp sends each message with a system call of its own, which is half the cost of a busy relay. Frames of a
server are neither masked nor compressed (RFC 6455, 5.1), so their headers are made here and joined. What is
sent here must equal what ``WebSocketResponse.send_bytes`` would send; ``PlainFrameWriter`` is that fallback.
"""

import asyncio
import contextlib
from collections import deque
from typing import Final, Protocol

from aiohttp import ClientConnectionResetError, web

_BINARY: Final = 0x82  # final fragment, opcode 2
_PING: Final = 0x89
_PONG: Final = 0x8A
_CLOSE: Final = 0x88
_SHORT: Final = 126  # payloads below this have their length in the second byte
_MEDIUM: Final = 65536  # payloads below this have it in two more, all others in eight


class FrameWriter(Protocol):
    """Queues messages for one connection; everything is sent at the end of the event loop's turn."""

    def send(self, payload: bytes) -> None:
        """Queue a binary message."""
        ...

    def ping(self) -> None:
        """Queue a ping."""
        ...

    def pong(self, payload: bytes) -> None:
        """Queue the answer to a ping of the peer."""
        ...

    def close(self, code: int) -> None:
        """Queue a close frame, the last of all."""
        ...

    def flush(self) -> None:
        """Send what is queued now."""
        ...

    @property
    def buffered(self) -> int:
        """How many bytes wait because the peer does not read."""
        ...


def frame_header(first: int, length: int) -> bytes:
    """Return the header of an unmasked frame with ``length`` bytes of payload (RFC 6455, 5.2)."""
    if length < _SHORT:
        return bytes((first, length))
    if length < _MEDIUM:
        return bytes((first, _SHORT)) + length.to_bytes(2, "big")
    return bytes((first, _SHORT + 1)) + length.to_bytes(8, "big")


class CoalescingFrameWriter:
    """A FrameWriter on the bare transport below a prepared, uncompressed ``WebSocketResponse``."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._queued: list[bytes] = []

    @property
    def buffered(self) -> int:
        """See FrameWriter."""
        return self._transport.get_write_buffer_size()

    def send(self, payload: bytes) -> None:
        """See FrameWriter."""
        self._queue(_BINARY, payload)

    def ping(self) -> None:
        """See FrameWriter."""
        self._queue(_PING, b"")

    def pong(self, payload: bytes) -> None:
        """See FrameWriter."""
        self._queue(_PONG, payload)

    def close(self, code: int) -> None:
        """See FrameWriter."""
        self._queue(_CLOSE, code.to_bytes(2, "big"))

    def flush(self) -> None:
        """See FrameWriter; what is queued for a closed connection is dropped."""
        if not self._queued:
            return
        data = b"".join(self._queued)
        self._queued.clear()
        if not self._transport.is_closing():
            self._transport.write(data)

    def _queue(self, first: int, payload: bytes) -> None:
        if not self._queued:
            self._loop.call_soon(self.flush)
        self._queued.append(frame_header(first, len(payload)))
        self._queued.append(payload)


class PlainFrameWriter:
    """A FrameWriter by aiohttp's own methods, one message at a time."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._queued: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._sending: asyncio.Task[None] | None = None

    @property
    def buffered(self) -> int:
        """See FrameWriter."""
        return self._size

    def send(self, payload: bytes) -> None:
        """See FrameWriter."""
        self._queue(_BINARY, payload)

    def ping(self) -> None:
        """See FrameWriter."""
        self._queue(_PING, b"")

    def pong(self, payload: bytes) -> None:
        """See FrameWriter."""
        self._queue(_PONG, payload)

    def close(self, code: int) -> None:
        """See FrameWriter."""
        self._queue(_CLOSE, code.to_bytes(2, "big"))

    def flush(self) -> None:
        """See FrameWriter; here sending goes on in the background."""
        if self._queued and self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send_all())

    def _queue(self, first: int, payload: bytes) -> None:
        self._queued.append((first, payload))
        self._size += len(payload)
        self.flush()

    async def _send_all(self) -> None:
        with contextlib.suppress(ClientConnectionResetError, ConnectionError, RuntimeError):
            while self._queued:
                first, payload = self._queued.popleft()
                self._size -= len(payload)
                await self._send(first, payload)
        self._sending = None

    async def _send(self, first: int, payload: bytes) -> None:
        if first == _BINARY:
            await self._socket.send_bytes(payload)
        elif first == _PING:
            await self._socket.ping(payload)
        elif first == _CLOSE:
            await self._socket.close(code=int.from_bytes(payload, "big"), drain=False)
        else:
            await self._socket.pong(payload)
