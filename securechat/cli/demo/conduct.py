"""Conducts the consultation: turn by turn, one side offline in the middle, the server killed meanwhile."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from securechat.cli.demo.evidence import StoredEnvelope, stored_envelopes
from securechat.cli.demo.processes import ClientProcess, ServerProcess
from securechat.cli.demo.protocol import Accepted, GoOffline, GoOnline, Online, Received, Send
from securechat.cli.demo.script import Run, Side, Turn, disturbed_run, runs_of

HANDLES: Final[dict[Side, str]] = {"patient": "pat", "clinician": "dr-lee"}


@dataclass(slots=True)
class Course:
    """What happened on the way, for the report."""

    queued: list[StoredEnvelope] = field(default_factory=list)
    queued_turns: tuple[Turn, ...] = ()
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Stage:
    """The processes of one run."""

    folder: Path
    server: ServerProcess
    clients: dict[Side, ClientProcess]

    @property
    def database(self) -> Path:
        """The server's database file."""
        return self.folder / "server" / "server.db"


@contextlib.asynccontextmanager
async def stage(folder: Path, script: Path) -> AsyncIterator[Stage]:
    """Start the server and both clients; end them all whatever happens."""
    server = ServerProcess(folder)
    clients: dict[Side, ClientProcess] = {
        side: ClientProcess(handle, folder, script) for side, handle in HANDLES.items()
    }
    try:
        await server.start()
        for client in clients.values():
            await client.start()
        yield Stage(folder, server, clients)
    finally:
        for client in clients.values():
            await client.stop()
        await server.stop()


async def hold(stage: Stage, turns: tuple[Turn, ...], progress: Callable[[int, str], None]) -> Course:
    """Hold the whole consultation; ``progress`` hears how many turns arrived and what happens."""
    course = Course()
    runs = runs_of(turns)
    disturbed = disturbed_run(runs, "patient")
    for index, run in enumerate(runs):
        if index == disturbed:
            await _disturbed(stage, run, course, lambda text: progress(0, text))
        else:
            await _undisturbed(stage, run)
        progress(len(run.turns), "")
    return course


async def _undisturbed(stage: Stage, run: Run) -> None:
    sender, receiver = _sides(stage, run.side)
    received = receiver.count(Received) + len(run.turns)
    accepted = sender.count(Accepted) + len(run.turns)
    await _send(sender, receiver, run)
    await receiver.until(lambda: receiver.count(Received) >= received)
    await sender.until(lambda: sender.count(Accepted) >= accepted)


async def _disturbed(stage: Stage, run: Run, course: Course, say: Callable[[str], None]) -> None:
    sender, receiver = _sides(stage, run.side)
    received = receiver.count(Received) + len(run.turns)
    accepted = sender.count(Accepted)
    say(f"{receiver.handle} goes offline")
    await receiver.go_offline(GoOffline())
    await _send(sender, receiver, run)
    await sender.until(lambda: sender.count(Accepted) > accepted)
    say("the server is killed (SIGKILL) with messages under way")
    await stage.server.kill()
    await stage.server.start()
    say("the server runs again; the outbox is sent again")
    await sender.until(lambda: sender.count(Accepted) >= accepted + len(run.turns))
    course.queued = stored_envelopes(stage.database)
    course.queued_turns = run.turns
    say(f"{receiver.handle} returns and finds {len(course.queued)} messages")
    online = receiver.count(Online)
    await receiver.tell(GoOnline())
    await receiver.expect(Online, after=online)
    await receiver.until(lambda: receiver.count(Received) >= received)


async def _send(sender: ClientProcess, receiver: ClientProcess, run: Run) -> None:
    await sender.tell(Send(to=receiver.handle, turns=[turn.turn for turn in run.turns]))


def _sides(stage: Stage, side: Side) -> tuple[ClientProcess, ClientProcess]:
    other: Side = "clinician" if side == "patient" else "patient"
    return stage.clients[side], stage.clients[other]
