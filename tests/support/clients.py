"""Clients over the server in memory, and the few things that tests do with them."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from support.fake_server import FakeServer
from support.identities import RepeatableRandom
from support.server_parts import HandClock

from securechat.client.client import Client
from securechat.client.clock import CorrectedClock
from securechat.client.config import Backoff, ClientConfig
from securechat.client.engine import Engine, Transports
from securechat.client.enrollment import load_or_create
from securechat.client.events import Event, Message
from securechat.client.ports import Storage, Transaction
from securechat.client.store.memory import open_memory_store
from securechat.client.store.sqlcipher import StoreKey, open_store
from securechat.ports import FaultHook, RandomBytes, no_fault

E = TypeVar("E", bound=Event)

QUICK = ClientConfig(backoff=Backoff(first_s=0.001, most_s=0.01))
KEY = StoreKey.of(passphrase=None, key=b"\x05" * 32)


async def retrying_store() -> Storage:
    """A store in memory that runs about every third work twice."""
    draw = random.Random(7)
    return await open_memory_store(rerun=lambda: draw.random() < 0.3)


async def file_store(path: Path) -> Storage:
    """The encrypted store at ``path``."""
    return await open_store(path, KEY, random_bytes=RepeatableRandom(str(path)))


@asynccontextmanager
async def open_client(
    server: FakeServer,
    user: str,
    store: Storage | None = None,
    *,
    connect: bool = True,
    clock: HandClock | None = None,
    fault: FaultHook = no_fault,
    config: ClientConfig = QUICK,
    random_bytes: RandomBytes | None = None,
) -> AsyncIterator[Client]:
    """Open a client of ``user``; its store is closed with it."""
    storage = store if store is not None else await retrying_store()
    draw = random_bytes or RepeatableRandom(f"client {user} {id(storage)}")
    corrected = CorrectedClock(clock or server.clock)

    async def ask_user() -> str:
        return user

    own = await load_or_create(storage, None, ask_user, clock=corrected, random_bytes=draw)
    address = own.local.address
    transports = Transports(server.directory(address), server.link(address))
    engine = Engine(storage, transports, own, clock=corrected, random_bytes=draw, config=config, fault=fault)
    try:
        if connect:
            await engine.start()
        yield Client(engine)
    finally:
        await engine.close()
        await storage.close()


async def next_of(events: AsyncIterator[Event], kind: type[E]) -> E:
    """The next event of a kind, unacknowledged; those before it are acknowledged."""
    async for event in events:
        if isinstance(event, kind):
            return event
        await event.ack()
    raise AssertionError(f"the events ended before a {kind.__name__}")


async def texts(events: AsyncIterator[Event], count: int) -> list[str]:
    """The next ``count`` texts, each acknowledged."""
    found: list[str] = []
    while len(found) < count:
        message = await next_of(events, Message)
        found.append(message.text)
        await message.ack()
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (the server in memory sets no event for each of its facts)
            await asyncio.sleep(0)


async def until_stored(store: Storage, condition: Callable[[Transaction], bool]) -> None:
    """Let the loop turn until the condition holds of what the store has; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not await store.read(condition):  # noqa: ASYNC110 (a store sets no event for each of its facts)
            await asyncio.sleep(0)


def failing_at(step: str, times: int = 1, error: Callable[[], BaseException] = RuntimeError) -> FaultHook:
    """A hook that raises when ``step`` is passed for the n-th time."""
    left = times

    def hook(passed: str) -> None:
        nonlocal left
        if passed == step:
            left -= 1
            if left == 0:
                raise error()

    return hook
