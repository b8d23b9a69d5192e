"""A relay in a process of its own, which dies by SIGKILL at a chosen step and is started again by the test.

The processes are forked from one that has imported everything, so a start takes milliseconds.
"""

import asyncio
import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

from support.relay_peer import WAIT_S
from support.relay_server import RelayServer, enroll, make_device, policies
from support.server_parts import HandClock

from securechat.cli.faults import VARIABLE, fault_from_environment

NAMES = ("ann", "ben", "cem")
KILLED = -9


def serve(path: Path, port: int, fault: str, told: Connection) -> None:
    """Serve for ever; tell the port. ``fault`` is ``STEP:N``, or empty."""
    os.environ[VARIABLE] = fault
    asyncio.run(_serve(path, port, told))


async def _serve(path: Path, port: int, told: Connection) -> None:
    server = RelayServer(path, HandClock(), fault=fault_from_environment())
    for name in NAMES:
        enroll(server.accounts, make_device(name))
    await server.start(port)
    told.send(server.port)
    await asyncio.Event().wait()


def prepared_context() -> ForkServerContext:
    """Return the context of processes that have this module imported from the start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)  # the only way to tell it where tests lie
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return context


class RelayProcess:
    """The relay process, started again whenever it has died."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._context = prepared_context()
        self._port = 0
        self.deaths = 0
        self.up = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self, fault: str = "") -> None:
        """Start and wait until it serves, on the same port as before."""
        here, there = self._context.Pipe()
        self._process = self._context.Process(
            target=serve, args=(self._path, self._port, fault, there), daemon=True
        )
        self._process.start()
        there.close()
        assert await asyncio.to_thread(here.poll, WAIT_S)
        self._port = here.recv()
        here.close()
        self.up.set()

    def kill(self) -> None:
        """SIGKILL."""
        self.up.clear()
        self._process.kill()

    async def revive(self) -> None:
        """Start again after every death, for ever; without a fault."""
        while True:
            await asyncio.to_thread(self._process.join, 0.05)
            if self._process.exitcode is None:
                continue
            assert self._process.exitcode == KILLED
            self.up.clear()
            self.deaths += 1
            await self.start()

    def end(self) -> None:
        """Stop for good."""
        self._process.kill()
        self._process.join()


policies()  # this module is preloaded by the process that all others are forked from
