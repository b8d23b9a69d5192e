"""The connection to the relay over a WebSocket (docs/reference/relay-protocol.md)."""

import asyncio
from collections.abc import Sequence
from typing import Final

import aiohttp

from securechat.client.clock import CorrectedClock
from securechat.client.http import HttpClient, authentication_error, problem_error
from securechat.client.ports import LinkReady
from securechat.client.tokens import TokenSource
from securechat.crypto.keys import SigningKeyPair
from securechat.errors import AuthenticationError, ServerError, TransportError, WireError
from securechat.ids import ProtocolAddress
from securechat.wire.auth import ChallengePurpose, challenge_message
from securechat.wire.frames import (
    MAX_FRAME_BYTES,
    Authenticate,
    Challenge,
    ClientFrame,
    CloseCode,
    Error,
    FrameCodec,
    Ready,
    ServerFrame,
)

PATH: Final = "/v1/connect"
CLOSE_TIMEOUT_S: Final = 2.0
_FINAL: Final = {  # closings after which the same attempt would end the same way
    CloseCode.MALFORMED: "malformed",
    CloseCode.DENIED: "denied",
    CloseCode.CONNECTED_ELSEWHERE: "connected_elsewhere",
    CloseCode.FRAME_TOO_LARGE: "frame_too_large",
}
_PASSING: Final = {
    CloseCode.STORAGE_FAILURE: ("storage_failure", 1.0),
    CloseCode.FLOOD: ("flood", 5.0),
}


class WebSocketLink:
    """The RelayLink port: one attempt for each call."""

    def __init__(
        self,
        http: HttpClient,
        tokens: TokenSource,
        address: ProtocolAddress,
        signing: SigningKeyPair,
        clock: CorrectedClock,
        *,
        timeout_s: float,
    ) -> None:
        self._http = http
        self._tokens = tokens
        self._address = address
        self._signing = signing
        self._clock = clock
        self._timeout_s = timeout_s

    async def connect(self) -> "WebSocketConnection":
        """Connect and prove possession of the device key; a refused token is replaced by a new one, once."""
        try:
            return await self._attempt()
        except AuthenticationError:
            return await self._attempt()

    async def _attempt(self) -> "WebSocketConnection":
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._open()
        except aiohttp.WSServerHandshakeError as error:
            raise problem_error(error.status, b"", error.headers or {}) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransportError(f"the server cannot be reached ({type(error).__name__})") from None

    async def _open(self) -> "WebSocketConnection":
        socket = await self._http.session().ws_connect(
            self._http.url(PATH),
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
            autoping=True,
            compress=0,
            max_msg_size=MAX_FRAME_BYTES + 1,
        )
        connection = WebSocketConnection(socket, self._tokens)
        try:
            await self._authenticate(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _authenticate(self, connection: "WebSocketConnection") -> None:
        challenge = await connection.receive()
        if not isinstance(challenge, Challenge):
            raise TransportError("the server did not begin with a challenge")
        self._clock.learn(challenge.server_time_ms)
        token = await self._tokens.get(self._clock.server_now_ms())
        connection.token = token
        message = challenge_message(ChallengePurpose.CONNECTION, self._address, challenge.challenge, token)
        await connection.send(
            [Authenticate(token, self._address.user, self._address.device, self._signing.sign(message))]
        )
        ready = await connection.receive()
        if not isinstance(ready, Ready):
            raise _not_ready(ready, self._tokens, token)
        self._clock.learn(ready.server_time_ms)
        connection.ready = LinkReady(ready.epoch, ready.acked_seq, ready.server_time_ms)


class WebSocketConnection:
    """The RelayConnection port on one WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, tokens: TokenSource) -> None:
        self._socket = socket
        self._tokens = tokens
        self._codec = FrameCodec()
        self.token = ""
        self.ready = LinkReady(b"", 0, 0)

    async def send(self, frames: Sequence[ClientFrame]) -> None:
        """Send ``frames`` in order, one WebSocket message each."""
        try:
            for frame in frames:
                await self._socket.send_bytes(self._codec.encode(frame))
        except (aiohttp.ClientError, ConnectionError) as error:
            raise TransportError(f"the connection is lost ({type(error).__name__})") from None

    async def receive(self) -> ServerFrame:
        """Return the next frame. A closing becomes the error that says whether trying again can help."""
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            try:
                return self._codec.decode_server(message.data)
            except WireError:
                raise TransportError("the server sent a malformed frame") from None
        if message.type is aiohttp.WSMsgType.ERROR:
            raise TransportError("the connection is lost")
        raise self._closing(self._socket.close_code)

    async def close(self) -> None:
        """Close the connection; waits at most two seconds for the server."""
        await self._socket.close()

    def _closing(self, number: int | None) -> Exception:
        if number == CloseCode.UNAUTHENTICATED:
            self._tokens.refuse(self.token)
            if self.ready.epoch:
                return TransportError("the server ended the session")
            return authentication_error("")
        if number == CloseCode.SESSION_ENDED:
            self._tokens.refuse(self.token)
            return TransportError("the session ended with its token")
        for code, name in _FINAL.items():
            if number == code:
                return ServerError(name, status=code, retryable=False)
        for code, (name, wait_s) in _PASSING.items():
            if number == code:
                return ServerError(name, status=code, retryable=True, retry_after_s=wait_s)
        return TransportError(f"the connection is closed ({number})")


def _not_ready(frame: ServerFrame, tokens: TokenSource, token: str) -> Exception:
    """Return the error for an answer to Authenticate that is not Ready."""
    if not isinstance(frame, Error):
        return TransportError("the server did not answer the proof")
    if frame.retryable:
        wait_s = frame.retry_after_ms / 1_000
        return ServerError(frame.code, status=0, retryable=True, retry_after_s=wait_s)
    tokens.refuse(token)
    return authentication_error(frame.code)
