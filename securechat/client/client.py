"""The client: what an application opens; it hands every task to the part whose task it is."""

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from securechat.client.clock import CorrectedClock
from securechat.client.config import ClientConfig, server_url
from securechat.client.conversation import Conversation, Sent
from securechat.client.engine import Engine, Transports
from securechat.client.enrollment import load_or_create
from securechat.client.events import Event
from securechat.client.http import HttpClient, Request
from securechat.client.key_directory import HttpKeyDirectory
from securechat.client.ports import Storage
from securechat.client.relay_link import WebSocketLink
from securechat.client.server_session import ServerSession, learn_time
from securechat.client.store.sqlcipher import StoreKey, open_store
from securechat.client.tokens import AnyTokenProvider, TokenSource
from securechat.crypto.passphrase import INTERACTIVE, Argon2Profile
from securechat.errors import ClientClosedError
from securechat.ids import DeviceId, MessageId, UserId, user_id
from securechat.ports import Clock, FaultHook, RandomBytes, no_fault


class Client:
    """One device of one user. Use ``async with Client.open(...) as me``."""

    def __init__(self, engine: Engine, session: ServerSession | None = None) -> None:
        self._engine = engine
        self._session = session

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        token: AnyTokenProvider,
        store: str | Path | Storage,
        user: str | None = None,
        passphrase: str | None = None,
        key: bytes | None = None,
        connect: bool = True,
        clock: Clock | None = None,
        random_bytes: RandomBytes = os.urandom,
        fault: FaultHook = no_fault,
        config: ClientConfig | None = None,
        allow_plain_http: bool = False,
        argon2: Argon2Profile = INTERACTIVE,
    ) -> "AsyncIterator[Client]":
        """Open the store, enrol the device the first time, connect, and close all of it at the end.

        ``token`` is a token or a function that returns one; it is called on expiry only. ``store`` is a path,
        with a ``passphrase`` or a 32-byte ``key``, or an open Storage. ``user`` defaults to the token's. A
        device that was enrolled before opens without the server too, and connects when it is there.

        Raises SettingsError, InvalidIdError, WrongKeyError, StoreLockedError, StoreError;
        AuthenticationError; and, for the first opening only, TransportError and ServerError.
        """
        settings = config or ClientConfig()
        base_url = server_url(url, allow_plain_http=allow_plain_http)
        corrected = CorrectedClock(clock or system_clock)
        async with AsyncExitStack() as stack:
            storage = await _open_storage(stack, store, passphrase, key, argon2, random_bytes)
            http = HttpClient(base_url, timeout_s=settings.request_timeout_s)
            stack.push_async_callback(http.close)
            tokens = TokenSource(token)

            async def ask_user() -> str:
                if connect:
                    await learn_time(http, corrected)
                return user or await tokens.subject(corrected.server_now_ms())

            own = await load_or_create(storage, user, ask_user, clock=corrected, random_bytes=random_bytes)
            local = own.local
            session = ServerSession(http, tokens, local.address, local.signing, corrected)
            transports = Transports(
                HttpKeyDirectory(http, session),
                WebSocketLink(
                    http,
                    tokens,
                    local.address,
                    local.signing,
                    corrected,
                    timeout_s=settings.request_timeout_s,
                ),
            )
            engine = Engine(
                storage,
                transports,
                own,
                clock=corrected,
                random_bytes=random_bytes,
                config=settings,
                fault=fault,
            )
            stack.push_async_callback(engine.close)
            if connect:
                await engine.start()
            yield cls(engine, session)

    @property
    def user(self) -> UserId:
        """This client's user."""
        return self._engine.own.local.address.user

    @property
    def device(self) -> DeviceId:
        """This client's device."""
        return self._engine.own.local.address.device

    @property
    def account_key(self) -> bytes:
        """The public account key (Ed25519, 32 bytes), which safety numbers are made of."""
        return self._engine.own.local.account.raw

    @property
    def is_connected(self) -> bool:
        """Whether the link to the relay is up at this moment."""
        return self._engine.is_connected

    async def connect(self) -> None:
        """Connect, or connect again after ``disconnect`` or a failure that was final. Raises as ``open``."""
        await self._engine.start()

    async def disconnect(self) -> None:
        """Go offline; messages can still be sent, they wait in the outbox."""
        await self._engine.stop()

    async def direct(self, user: str) -> Conversation:
        """Return the conversation with ``user``, fetching and checking the user's devices if need be.

        Raises InvalidIdError, ServerError (``unknown_user``), TransportError, DeviceListError. A changed
        identity is no error here: look at ``identity_waits``.
        """
        return await self._engine.conversation(user_id(user))

    async def send(
        self,
        user: str,
        text: str,
        *,
        idempotency_key: str | None = None,
        reply_to: MessageId | None = None,
    ) -> Sent:
        """Send a text to ``user``; as ``Conversation.send``, and works offline for a new user too."""
        return await self._engine.send(
            user_id(user), text, idempotency_key=idempotency_key, reply_to=reply_to
        )

    async def accept_identity(self, user: str, safety_number: str) -> None:
        """Trust the account key that ``user`` has now; what was held back is opened and sent.

        ``safety_number``: the one of ``Conversation.safety_number`` that the two people compared. Raises
        IdentityChangedError if another identity waits by now; compare again then.
        """
        await self._engine.accept_identity(user_id(user), safety_number)

    def events(self) -> AsyncIterator[Event]:
        """Return an iterator over all events not acknowledged yet, then over new ones, in order.

        It ends when the client is closed, and raises what ended the link for good (AuthenticationError,
        ServerError such as ``connected_elsewhere``).
        """
        return self._engine.board.stream()

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: bytes = b""
    ) -> bytes:
        """Send a request to the server under this device's session; returns the answer's body.

        Raises TransportError, ServerError, AuthenticationError.
        """
        if self._session is None:
            raise ClientClosedError("the client has no HTTP session")
        return await self._session.send(Request(method, path, body, tuple((query or {}).items())))

    def __repr__(self) -> str:
        return f"<Client {'connected' if self.is_connected else 'offline'}>"


def system_clock() -> int:
    """Return UTC now in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


async def _open_storage(
    stack: AsyncExitStack,
    store: str | Path | Storage,
    passphrase: str | None,
    key: bytes | None,
    argon2: Argon2Profile,
    random_bytes: RandomBytes,
) -> Storage:
    if not isinstance(store, str | Path):
        stack.push_async_callback(store.close)
        return store
    store_key = StoreKey.of(passphrase=passphrase, key=key, profile=argon2)
    storage = await open_store(Path(store), store_key, random_bytes=random_bytes)
    stack.push_async_callback(storage.close)
    return storage
