"""Who waits for the fate of which message."""

import asyncio
from collections import defaultdict

from securechat.errors import SecureChatError
from securechat.ids import MessageId


class Waiters:
    """Futures by message id; one failure of the whole client ends them all."""

    def __init__(self) -> None:
        self._waiting: defaultdict[MessageId, set[asyncio.Future[None]]] = defaultdict(set)
        self.failure: Exception | None = None

    def add(self, message_id: MessageId) -> asyncio.Future[None]:
        """Return a future that ends with the message's fate."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[message_id].add(future)
        return future

    def remove(self, message_id: MessageId, future: asyncio.Future[None]) -> None:
        """Stop waiting."""
        waiting = self._waiting.get(message_id)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._waiting[message_id]

    def settle(self, message_id: MessageId, error: SecureChatError | None = None) -> None:
        """Tell all who wait for ``message_id``."""
        for future in self._waiting.pop(message_id, ()):
            _end(future, error)

    def fail(self, error: Exception) -> None:
        """Tell everybody that the client has failed for good."""
        self.failure = error
        for futures in self._waiting.values():
            for future in futures:
                _end(future, error)
        self._waiting.clear()


def _end(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # a waiter that was cancelled leaves nobody to look
