"""The client for programs without asyncio: the same calls, each waiting for its result.

A SyncClient owns one thread with an event loop, from its opening to its closing. Its methods may be called
from any thread.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack

from securechat.client.client import Client
from securechat.client.config import ClientConfig
from securechat.client.conversation import Conversation, Reader, Sent
from securechat.client.events import Event
from securechat.errors import ClientClosedError
from securechat.ids import DeviceId, MessageId, UserId

T = TypeVar("T")


class OpenOptions(TypedDict, total=False):
    """The options of ``Client.open`` beside the keys and what is for tests."""

    user: str | None
    connect: bool
    config: ClientConfig | None
    allow_plain_http: bool


class SyncClient:
    """One device of one user. Use ``with SyncClient.open(...) as me``."""

    def __init__(self, client: Client, runner: "_LoopThread") -> None:
        self._client = client
        self._runner = runner

    @classmethod
    def open(
        cls,
        url: str,
        *,
        token: str | Callable[[], str] | Callable[[], Awaitable[str]],
        store: str | Path,
        passphrase: str | None = None,
        key: bytes | None = None,
        **options: Unpack[OpenOptions],
    ) -> "AbstractContextManager[SyncClient]":
        """Open a client; the arguments, and what it raises, are those of ``Client.open``.

        A ``token`` function runs in the client's own thread.
        """
        client = Client.open(url, token=token, store=store, passphrase=passphrase, key=key, **options)
        return cls.over(client)

    @classmethod
    @contextmanager
    def over(cls, client: "AbstractAsyncContextManager[Client]") -> "Iterator[SyncClient]":
        """Open ``client``, whatever made it, in a thread of its own."""
        runner = _LoopThread()
        try:
            opened = runner.run(client.__aenter__())
            try:
                yield cls(opened, runner)
            finally:
                runner.run(_close(client))
        finally:
            runner.close()

    @property
    def user(self) -> UserId:
        """This client's user."""
        return self._client.user

    @property
    def device(self) -> DeviceId:
        """This client's device."""
        return self._client.device

    def direct(self, user: str) -> "SyncConversation":
        """Return the conversation with ``user``. Raises as ``Client.direct``."""
        return SyncConversation(self._runner.run(self._client.direct(user)), self._runner)

    def send(
        self,
        user: str,
        text: str,
        *,
        idempotency_key: str | None = None,
        reply_to: MessageId | None = None,
    ) -> "SyncSent":
        """Send a text to ``user``. Raises as ``Client.send``."""
        sent = self._client.send(user, text, idempotency_key=idempotency_key, reply_to=reply_to)
        return SyncSent(self._runner.run(sent), self._runner)

    def accept_identity(self, user: str, safety_number: str) -> None:
        """Trust the account key that ``user`` has now."""
        self._runner.run(self._client.accept_identity(user, safety_number))

    def connect(self) -> None:
        """Connect again after ``disconnect``."""
        self._runner.run(self._client.connect())

    def disconnect(self) -> None:
        """Go offline."""
        self._runner.run(self._client.disconnect())

    def events(self) -> "Iterator[SyncEvent]":
        """Yield events; waits for the next one. Raises as ``Client.events``."""
        stream = self._client.events()
        while True:
            event = self._runner.run(_next(stream))
            if event is None:
                return
            yield SyncEvent(event, self._runner)

    def __repr__(self) -> str:
        return f"<Sync{repr(self._client)[1:]}"


class SyncEvent:
    """An event with a waiting ``ack``; ``event`` is the typed event, for ``match``."""

    def __init__(self, event: Event, runner: "_LoopThread") -> None:
        self.event = event
        self._runner = runner

    def ack(self) -> None:
        """Strike the event from the store."""
        self._runner.run(self.event.ack())

    def __repr__(self) -> str:
        return repr(self.event)


class SyncSent:
    """A message of ours, with a waiting ``accepted``."""

    def __init__(self, sent: Sent, runner: "_LoopThread") -> None:
        self.message_id = sent.message_id
        self._sent = sent
        self._runner = runner

    def accepted(self) -> None:
        """Wait until the server has it. Raises as ``Sent.accepted``."""
        self._runner.run(self._sent.accepted())

    def __repr__(self) -> str:
        return repr(self._sent)


class SyncConversation:
    """A conversation whose ``send`` waits."""

    def __init__(self, conversation: Conversation, runner: "_LoopThread") -> None:
        self.user = conversation.user
        self._conversation = conversation
        self._runner = runner

    def send(
        self, text: str, *, idempotency_key: str | None = None, reply_to: MessageId | None = None
    ) -> SyncSent:
        """Send a text. Raises as ``Conversation.send``."""
        sent = self._conversation.send(text, idempotency_key=idempotency_key, reply_to=reply_to)
        return SyncSent(self._runner.run(sent), self._runner)

    def safety_number(self) -> str:
        """Return the 60 digits that both sides compare."""
        return self._conversation.safety_number()

    def readers(self) -> tuple[Reader, ...]:
        """Return every device that can read this conversation."""
        return self._conversation.readers()

    def __repr__(self) -> str:
        return "<SyncConversation>"


class _LoopThread:
    """A thread that runs one event loop until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="securechat-sync", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[None, None, T]) -> T:
        """Run ``work`` in the loop and wait for it; an interrupted wait cancels it."""
        if self._loop.is_closed():
            work.close()
            raise ClientClosedError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the loop, end the thread, close the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _close(client: "AbstractAsyncContextManager[Client]") -> None:
    await client.__aexit__(None, None, None)


async def _next(stream: AsyncIterator[Event]) -> Event | None:
    return await anext(stream, None)
