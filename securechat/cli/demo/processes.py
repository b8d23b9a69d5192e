"""The processes of the demo: one server that can be killed, and clients that report what they see."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from securechat.cli.demo.protocol import (
    Accepted,
    AuditAnswer,
    Command,
    Failed,
    Offline,
    Online,
    Quit,
    Received,
    Report,
    SafetyNumber,
    encode,
    parse_report,
)
from securechat.errors import TransportError

START_TIMEOUT_S: Final = 60.0
ANSWER_TIMEOUT_S: Final = 60.0
LINE_LIMIT: Final = 1 << 20  # bytes; the longest report is one message

R = TypeVar("R", Online, Offline, Accepted, Received, SafetyNumber, AuditAnswer)


class ServerProcess:
    """``python -m securechat serve --dev`` in a process of its own; restarts keep its folder and port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: Process | None = None
        self.url = ""
        self.kills = 0

    async def start(self) -> None:
        """Start and wait until it listens."""
        port = self.url.rpartition(":")[2] if self.url else "0"
        arguments = ["serve", "--dev", "--dir", str(self._folder), "--port", port, "--quiet"]
        with (self._folder / "server.err").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "securechat", *arguments, stdout=PIPE, stderr=log, env=_environment()
            )
        output = self._process.stdout
        if output is None:
            raise TransportError("the server process has no output")
        line = (await asyncio.wait_for(output.readline(), START_TIMEOUT_S)).decode().strip()
        if not line.startswith("ready "):
            raise TransportError(
                "the server did not start; see server.err and server.log in the demo's folder"
            )
        self.url = line.removeprefix("ready ")

    async def kill(self) -> None:
        """End it with SIGKILL: no clean-up, no goodbye."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            self.kills += 1

    async def stop(self) -> None:
        """End it in good order."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


class ClientProcess:
    """One person's device: a process with its own encrypted store."""

    def __init__(self, handle: str, folder: Path, script: Path) -> None:
        self.handle = handle
        self._arguments = ["--dir", str(folder), "--as", handle, "--script", str(script)]
        self._log = folder / f"client-{handle}.log"
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._ended = False
        self.reports: list[Report] = []

    async def start(self) -> Online:
        """Start and wait until the client is connected."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "securechat.cli.demo.client_process", *self._arguments],
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                limit=LINE_LIMIT,
                env=_environment(),
            )
        self._reader = asyncio.create_task(self._read())
        return await self.expect(Online)

    async def tell(self, command: Command) -> None:
        """Send a command."""
        if self._process is None or self._process.stdin is None:
            raise TransportError(f"the client {self.handle} is not running")
        self._process.stdin.write(encode(command))
        await self._process.stdin.drain()

    def count(self, kind: type[Report]) -> int:
        """Return how many reports of ``kind`` have come."""
        return sum(isinstance(report, kind) for report in self.reports)

    async def expect(self, kind: type[R], *, after: int = 0) -> R:
        """Wait for the report of ``kind`` number ``after`` + 1 and return it."""
        await self.until(lambda: self.count(kind) > after)
        return [report for report in self.reports if isinstance(report, kind)][after]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` holds. Raises TransportError when the client fails or says nothing."""
        async with self._changed:
            try:
                await asyncio.wait_for(
                    self._changed.wait_for(lambda: self._ended or self._failure() is not None or condition()),
                    ANSWER_TIMEOUT_S,
                )
            except TimeoutError:
                raise TransportError(f"the client {self.handle} did not answer in time") from None
        failure = self._failure()
        if failure is not None:
            raise TransportError(f"the client {self.handle} failed: {failure.text} ({failure.code})")
        if not condition():
            raise TransportError(f"the client {self.handle} ended; its log is {self._log.name}")

    async def go_offline(self, command: Command) -> None:
        """Tell it to close and wait until it has."""
        before = self.count(Offline)
        await self.tell(command)
        await self.expect(Offline, after=before)

    async def stop(self) -> None:
        """End it in good order, or at once if it does not answer."""
        if self._process is None:
            return
        if self._process.returncode is None:
            with contextlib.suppress(ConnectionError, TransportError):
                await self.tell(Quit())
            try:
                await asyncio.wait_for(self._process.wait(), 10)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._reader is not None:
            await self._reader

    def _failure(self) -> Failed | None:
        return next((report for report in self.reports if isinstance(report, Failed)), None)

    async def _read(self) -> None:
        output = self._process.stdout if self._process else None
        while output is not None and (line := await output.readline()):
            async with self._changed:
                self.reports.append(parse_report(line))
                self._changed.notify_all()
        async with self._changed:
            self._ended = True
            self._changed.notify_all()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
