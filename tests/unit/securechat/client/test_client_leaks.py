"""Opening and closing leaves nothing: no task, no thread, no file."""

import asyncio
import gc
import os
import sys
import threading
from pathlib import Path

import pytest
from support.clients import file_store, open_client
from support.fake_server import FakeServer
from support.server_parts import HandClock

from securechat.client.enrollment import OwnDevice

_ROUNDS = 200


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the files in /proc/self/fd")
async def test_two_hundred_openings_leave_nothing(tmp_path: Path) -> None:
    server = FakeServer(HandClock())
    async with open_client(server, "ana", await file_store(tmp_path / "ana.db")):
        pass
    gc.collect()
    tasks, threads, files = len(asyncio.all_tasks()), threading.active_count(), _open_files()
    for _ in range(_ROUNDS):
        async with open_client(server, "ana", await file_store(tmp_path / "ana.db")) as ana:
            assert ana.user == "ana"
    gc.collect()
    assert len(asyncio.all_tasks()) == tasks
    assert threading.active_count() == threads
    assert _open_files() == files
    assert len([thing for thing in gc.get_objects() if isinstance(thing, OwnDevice)]) <= 2


async def test_a_task_that_is_cancelled_closes_its_client(tmp_path: Path) -> None:
    server = FakeServer(HandClock())
    opened = asyncio.Event()

    async def hold() -> None:
        async with open_client(server, "ana", await file_store(tmp_path / "ana.db")) as ana:
            opened.set()
            async for _ in ana.events():
                pass

    task = asyncio.create_task(hold())
    await opened.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store = await file_store(tmp_path / "ana.db")
    await store.close()


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
