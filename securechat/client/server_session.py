"""The HTTP session of an enrolled device: opened by a signed challenge, opened again when it has ended."""

import asyncio

import msgspec

from securechat.base64url import decode_base64url, encode_base64url
from securechat.client.clock import CorrectedClock
from securechat.client.http import HttpClient, Request, decode_answer
from securechat.client.tokens import TokenSource
from securechat.crypto.keys import SigningKeyPair
from securechat.errors import AuthenticationError, TransportError, WireError
from securechat.ids import ProtocolAddress
from securechat.wire.auth import CHALLENGE_BYTES, ChallengePurpose, challenge_message


class _Challenge(msgspec.Struct):
    challenge: str
    server_time_ms: int


class _Opened(msgspec.Struct):
    session: str


class _OpenSession(msgspec.Struct):
    token: str
    user: str
    device: int
    challenge: str
    signature: str


async def learn_time(http: HttpClient, clock: CorrectedClock) -> None:
    """Ask the server for its time. Raises TransportError, ServerError."""
    answer = decode_answer(await http.send(Request("POST", "/v1/challenges")), _Challenge)
    clock.learn(answer.server_time_ms)


class ServerSession:
    """Sends requests under a session; opening one is single-flight."""

    def __init__(
        self,
        http: HttpClient,
        tokens: TokenSource,
        address: ProtocolAddress,
        signing: SigningKeyPair,
        clock: CorrectedClock,
    ) -> None:
        self._http = http
        self._tokens = tokens
        self._address = address
        self._signing = signing
        self._clock = clock
        self._secret = ""
        self._lock = asyncio.Lock()

    async def send(self, request: Request) -> bytes:
        """Send ``request`` under the session; a session that has ended is opened again, once.

        Raises as ``HttpClient.send``, and what the token provider raises.
        """
        secret = await self._current()
        try:
            return await self._http.send(request, authorization=f"Session {secret}")
        except AuthenticationError:
            self._forget(secret)
        return await self._http.send(request, authorization=f"Session {await self._current()}")

    async def prove(self, purpose: ChallengePurpose, token: str) -> tuple[bytes, bytes]:
        """Get a challenge and sign it; returns both. Raises TransportError, ServerError."""
        answer = decode_answer(await self._http.send(Request("POST", "/v1/challenges")), _Challenge)
        self._clock.learn(answer.server_time_ms)
        try:
            challenge = decode_base64url(answer.challenge)
            message = challenge_message(purpose, self._address, challenge, token)
        except WireError:
            raise TransportError(f"the server's challenge has not {CHALLENGE_BYTES} bytes") from None
        return challenge, self._signing.sign(message)

    async def token(self) -> str:
        """Return a token that is good now."""
        return await self._tokens.get(self._clock.server_now_ms())

    def refuse_token(self, token: str) -> None:
        """Forget a token that the server did not take."""
        self._tokens.refuse(token)

    def _forget(self, secret: str) -> None:
        if self._secret == secret:
            self._secret = ""

    async def _current(self) -> str:
        async with self._lock:
            if not self._secret:
                self._secret = await self._open_with_fresh_token()
            return self._secret

    async def _open_with_fresh_token(self) -> str:
        """Open a session; a token that is refused is replaced by a new one, once."""
        token = await self.token()
        try:
            return await self._open(token)
        except AuthenticationError:
            self._tokens.refuse(token)
        return await self._open(await self.token())

    async def _open(self, token: str) -> str:
        challenge, signature = await self.prove(ChallengePurpose.SESSION, token)
        body = _OpenSession(
            token=token,
            user=self._address.user,
            device=self._address.device,
            challenge=encode_base64url(challenge),
            signature=encode_base64url(signature),
        )
        raw = await self._http.send(Request("POST", "/v1/sessions", msgspec.json.encode(body)))
        return decode_answer(raw, _Opened).session
