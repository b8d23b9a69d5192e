"""The user token: asked for at the first use, on expiry and when the server refuses it, once at a time."""

import asyncio
import binascii
import inspect
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from securechat.client.ports import TokenProvider
from securechat.errors import AuthenticationError

EXPIRY_MARGIN_MS: Final = 1_000  # a token is not used in its last second
MAX_TOKEN_CHARS: Final = 4_096

AnyTokenProvider = str | Callable[[], str] | Callable[[], Awaitable[str]]


class _Claims(msgspec.Struct):
    """The two claims that a client reads; the server checks them all."""

    sub: str = ""
    exp: int = 0


class TokenSource:
    """Holds the current token; callers wait for one another, so the provider is asked once at a time."""

    def __init__(self, provider: AnyTokenProvider) -> None:
        self._provider = _as_provider(provider)
        self._token = ""
        self._expires_ms: int | None = None
        self._lock = asyncio.Lock()

    async def get(self, server_now_ms: int) -> str:
        """Return a token that is not expired at ``server_now_ms``; asks the provider only if need be.

        Raises AuthenticationError for a token of a wrong form, and whatever the provider raises.
        """
        async with self._lock:
            if not self._token or self._is_expired(server_now_ms):
                self._token = await self._ask()
                self._expires_ms = _claims_of(self._token).exp * 1_000 or None
            return self._token

    def refuse(self, token: str) -> None:
        """Forget ``token``, which the server did not take; a newer one stays."""
        if token == self._token:
            self._token = ""

    async def subject(self, server_now_ms: int) -> str:
        """Return the user whom the token names. Raises AuthenticationError if it names none."""
        subject = _claims_of(await self.get(server_now_ms)).sub
        if not subject:
            raise AuthenticationError("the token names no user: pass user=... to Client.open")
        return subject

    def __repr__(self) -> str:
        return "TokenSource(**)"

    def _is_expired(self, server_now_ms: int) -> bool:
        return self._expires_ms is not None and server_now_ms > self._expires_ms - EXPIRY_MARGIN_MS

    async def _ask(self) -> str:
        token = await self._provider()
        if not 0 < len(token) <= MAX_TOKEN_CHARS or not token.isascii():
            raise AuthenticationError("the token provider returned no token")
        return token


def _as_provider(provider: AnyTokenProvider) -> TokenProvider:
    async def ask() -> str:
        if isinstance(provider, str):
            return provider
        answer = provider()
        return await answer if inspect.isawaitable(answer) else answer

    return ask


def _claims_of(token: str) -> _Claims:
    """Return the claims of a JWT without checking it; none for a token of another form."""
    parts = token.split(".")
    if len(parts) != 3:
        return _Claims()
    try:
        return msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=_Claims)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return _Claims()
