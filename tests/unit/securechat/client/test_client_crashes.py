"""A crash at every step of a send and of a receive: nothing lost, nothing doubled, nothing out of order.

The step's hook raises; the client and its store are thrown away, opened again, and go on.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.clients import failing_at, file_store, open_client
from support.fake_server import FakeServer
from support.server_parts import HandClock

from securechat.client import Client, Message
from securechat.ports import FaultHook, no_fault

MESSAGES = 8
SEND_STEPS = ("send.sealed", "send.stored", "send.transmitted", "send.confirmed")
RECEIVE_STEPS = ("receive.arrived", "receive.opened", "receive.stored", "receive.acknowledged")


class CrashError(Exception):
    """What the hook raises."""


@asynccontextmanager
async def opened(server: FakeServer, user: str, path: Path, fault: FaultHook) -> AsyncIterator[Client]:
    async with open_client(server, user, await file_store(path), fault=fault) as client:
        yield client


async def write_all(server: FakeServer, path: Path, fault: FaultHook) -> int:
    """Send every message under its own key, opening the client again after a crash; returns the crashes."""
    crashes, done = 0, 0
    while done < MESSAGES:
        try:
            async with opened(server, "ana", path, fault) as ana:
                sent = [
                    await ana.send("lee", str(number), idempotency_key=f"key {number}")
                    for number in range(MESSAGES)
                ]
                for one in sent:
                    await one.accepted()
                done = MESSAGES
        except CrashError:
            crashes += 1
    return crashes


async def read_all(server: FakeServer, path: Path, fault: FaultHook) -> tuple[list[str], int]:
    """Read every message, opening the client again after a crash; returns the texts and the crashes."""
    found: list[str] = []
    crashes = 0
    while len(found) < MESSAGES:
        try:
            async with opened(server, "lee", path, fault) as lee:
                async for event in lee.events():
                    if isinstance(event, Message):
                        found.append(event.text)
                    await event.ack()
                    if len(found) == MESSAGES:
                        break
        except CrashError:
            crashes += 1
    return found, crashes


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("step", SEND_STEPS)
async def test_a_sender_that_crashes_sends_everything_once(tmp_path: Path, step: str, times: int) -> None:
    server = FakeServer(HandClock())
    async with open_client(server, "lee") as lee:
        crashes = await write_all(server, tmp_path / "ana.db", failing_at(step, times, CrashError))
        found: list[str] = []
        async for event in lee.events():
            if isinstance(event, Message):
                found.append(event.text)
            await event.ack()
            if len(found) == MESSAGES:
                break
        assert found == [str(number) for number in range(MESSAGES)]
        assert len(server.accepted) == MESSAGES
        if times == 1:
            assert crashes == 1


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("step", RECEIVE_STEPS)
async def test_a_receiver_that_crashes_tells_everything_once(tmp_path: Path, step: str, times: int) -> None:
    server = FakeServer(HandClock())
    path = tmp_path / "lee.db"
    async with opened(server, "lee", path, no_fault):
        pass
    async with open_client(server, "ana") as ana:
        for number in range(MESSAGES):
            await (await ana.send("lee", str(number))).accepted()
        found, crashes = await read_all(server, path, failing_at(step, times, CrashError))
        assert found == [str(number) for number in range(MESSAGES)]
        if times == 1:
            assert crashes <= 1


@pytest.mark.parametrize("step", range(4))
async def test_both_may_crash_while_they_talk(tmp_path: Path, step: int) -> None:
    server = FakeServer(HandClock())
    async with opened(server, "lee", tmp_path / "lee.db", no_fault):
        pass
    _, (found, _) = await asyncio.gather(
        write_all(server, tmp_path / "ana.db", failing_at(SEND_STEPS[step], 3, CrashError)),
        read_all(server, tmp_path / "lee.db", failing_at(RECEIVE_STEPS[step], 2, CrashError)),
    )
    assert found == [str(number) for number in range(MESSAGES)]
