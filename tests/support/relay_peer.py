"""A device that speaks frames to a relay: as little of a client as a test needs."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

import aiohttp
from support.relay_server import TestDevice

from securechat.ids import ProtocolAddress
from securechat.wire.auth import ChallengePurpose, challenge_message
from securechat.wire.frames import (
    Accepted,
    Ack,
    Authenticate,
    Challenge,
    ClientFrame,
    Deliver,
    Error,
    FrameCodec,
    QueueEmpty,
    Ready,
    Send,
    ServerFrame,
)

F = TypeVar("F", bound=ServerFrame)
WAIT_S = 15.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds."""
    async with asyncio.timeout(WAIT_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.002)


class ClosedError(Exception):
    """The server ended the connection."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"closed with {code}")
        self.close_code = code


class RelayPeer:
    """One connection of one device. Use as an async context manager."""

    def __init__(self, url: str, device: TestDevice, token: str) -> None:
        self.device = device
        self.codec = FrameCodec()
        self.ready: Ready | None = None
        self.errors: list[Error] = []
        self.http = aiohttp.ClientSession()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._url = url
        self._token = token

    @property
    def socket(self) -> aiohttp.ClientWebSocketResponse:
        """The open socket."""
        assert self._socket is not None
        return self._socket

    async def __aenter__(self) -> "RelayPeer":
        await self.open()
        await self.log_in()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect without logging in."""
        self._socket = await self.http.ws_connect(self._url + "/v1/connect", max_msg_size=2**20, compress=0)

    async def log_in(self) -> Ready:
        """Answer the challenge."""
        challenge = await self.expect(Challenge)
        await self.put(self.proof(challenge.challenge))
        self.ready = await self.expect(Ready)
        return self.ready

    def proof(self, challenge: bytes) -> Authenticate:
        """The frame that answers ``challenge``."""
        address = self.device.address
        message = challenge_message(ChallengePurpose.CONNECTION, address, challenge, self._token)
        signature = self.device.signing.sign(message)
        return Authenticate(self._token, address.user, address.device, signature)

    async def close(self) -> None:
        """Go away without a close handshake, as a phone in a tunnel does."""
        if self._socket is not None:
            self._socket._response.close()
        await self.http.close()

    def stop_reading(self) -> None:
        """Leave everything that arrives in the kernel's buffers."""
        connection = self.socket._response.connection
        assert connection is not None
        assert isinstance(connection.transport, asyncio.Transport)
        connection.transport.pause_reading()

    async def put(self, frame: ClientFrame) -> None:
        """Send ``frame``."""
        await self.socket.send_bytes(self.codec.encode(frame))

    async def send(self, to: ProtocolAddress, number: int, body: bytes = b"", **flags: bool) -> bytes:
        """Send message ``number`` (its id) to a device."""
        message = number.to_bytes(16, "big")
        await self.put(Send(message, to.user, to.device, body or b"body %d" % number, **flags))
        return message

    async def receive(self) -> ServerFrame:
        """The next frame. Raises ClosedError."""
        message = await asyncio.wait_for(self.socket.receive(), WAIT_S)
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise ClosedError(self.socket.close_code)
        return self.codec.decode_server(message.data)

    async def expect(self, kind: type[F]) -> F:
        """The next frame, which must be of ``kind``."""
        frame = await self.receive()
        assert isinstance(frame, kind), frame
        return frame

    async def until(self, done: Callable[[ServerFrame], bool]) -> list[ServerFrame]:
        """All frames up to the first for which ``done`` holds."""
        frames = [await self.receive()]
        while not done(frames[-1]):
            frames.append(await self.receive())
        return frames

    async def accepted(self, count: int) -> list[bytes]:
        """The next ``count`` accepted ids; no refusal may come between."""
        ids: list[bytes] = []
        while len(ids) < count:
            frame = await self.receive()
            assert not isinstance(frame, Error), frame
            if isinstance(frame, Accepted):
                ids.extend(frame.message_ids)
        return ids

    async def accepted_until_error(self) -> list[bytes]:
        """The ids accepted before the next refusal, which is kept in ``errors``."""
        ids: list[bytes] = []
        for frame in await self.until(lambda each: isinstance(each, Error)):
            if isinstance(frame, Accepted):
                ids.extend(frame.message_ids)
            elif isinstance(frame, Error):
                self.errors.append(frame)
        return ids

    async def delivered(self, count: int) -> list[Deliver]:
        """The next ``count`` deliveries."""
        found: list[Deliver] = []
        while len(found) < count:
            frame = await self.receive()
            if isinstance(frame, Deliver):
                found.append(frame)
        return found

    async def caught_up(self) -> list[Deliver]:
        """The deliveries of the catch-up."""
        frames = await self.until(lambda frame: isinstance(frame, QueueEmpty))
        return [frame for frame in frames if isinstance(frame, Deliver)]

    async def ack(self, seq: int, epoch: bytes | None = None) -> None:
        """Acknowledge up to ``seq``."""
        assert self.ready is not None
        await self.put(Ack(epoch or self.ready.epoch, seq))

    async def closed(self) -> int | None:
        """Read until the server closes; return its code."""
        try:
            while True:
                await self.receive()
        except ClosedError as error:
            return error.close_code
