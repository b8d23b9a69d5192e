"""Events to the application: those of the store in order, and the passing ones in between."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from securechat.client.events import CaughtUp, Event, event_of
from securechat.client.ports import Storage
from securechat.client.records import EventRecord

PAGE: Final = 64  # stored events read at once


class EventBoard:
    """Where the client announces that something is there to be read."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._passing: deque[tuple[int, Event]] = deque(maxlen=PAGE)
        self._waiting: set[asyncio.Future[None]] = set()
        self._failure: Exception | None = None
        self._closed = False

    def stored(self) -> None:
        """Say that events were added to the store."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def passing(self, event: Event) -> None:
        """Announce an event that is not kept; it comes after those that are stored now."""
        position = await self._storage.read(lambda tx: tx.inbox.last_position())
        self._passing.append((position, event))
        self.stored()

    def no_longer_caught_up(self) -> None:
        """Take back a CaughtUp that nobody has seen: the connection it spoke of is gone."""
        kept = [item for item in self._passing if not isinstance(item[1], CaughtUp)]
        self._passing.clear()
        self._passing.extend(kept)

    def fail(self, error: Exception) -> None:
        """Have every iterator raise ``error`` once it has yielded what is stored."""
        self._failure = error
        self.stored()

    def resume(self) -> None:
        """Forget an earlier failure."""
        self._failure = None

    def close(self) -> None:
        """End every iterator."""
        self._closed = True
        self.stored()

    def stream(self) -> AsyncIterator[Event]:
        """Return an iterator over the unacknowledged events, then over new ones."""
        return _EventStream(self)

    async def read_after(self, position: int) -> tuple[EventRecord, ...]:
        """Return the next page of stored events."""
        return await self._storage.read(lambda tx: tx.inbox.after(position, PAGE))

    def take_passing(self, before: int | None) -> Event | None:
        """Return a passing event that is due before the stored one at ``before`` (None: none is stored)."""
        if self._passing and (before is None or self._passing[0][0] < before):
            return self._passing.popleft()[1]
        return None

    async def acknowledge(self, position: int) -> None:
        """Strike one stored event. Raises StoreError."""
        await self._storage.write(lambda tx: tx.inbox.remove(position))

    def check_open(self) -> None:
        """Raise StopAsyncIteration once closed, or the failure."""
        if self._closed:
            raise StopAsyncIteration
        if self._failure is not None:
            raise self._failure

    @property
    def closed(self) -> bool:
        """Whether the client is closed."""
        return self._closed

    def change(self) -> asyncio.Future[None]:
        """Return a future that ends at the next announcement."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future


class _EventStream:
    """One iteration; it remembers how far it came, so an event is yielded once by each iterator."""

    def __init__(self, board: EventBoard) -> None:
        self._board = board
        self._position = 0
        self._page: deque[EventRecord] = deque()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._board.closed:
            change = self._board.change()  # before the read, so that nothing falls between
            try:
                event = await self._next_event()
                if event is not None:
                    return event
                self._board.check_open()
                await change
            finally:
                change.cancel()
        raise StopAsyncIteration

    async def _next_event(self) -> Event | None:
        if not self._page:
            self._page.extend(await self._board.read_after(self._position))
        passing = self._board.take_passing(self._page[0].position if self._page else None)
        if passing is not None:
            return passing
        if not self._page:
            return None
        record = self._page.popleft()
        self._position = record.position
        return event_of(record, lambda: self._board.acknowledge(record.position))
