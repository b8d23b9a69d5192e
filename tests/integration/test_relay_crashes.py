"""SIGKILL of a real relay process under load, at every step: nothing lost, doubled or reordered."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from support.history import History
from support.relay_peer import ClosedError, RelayPeer
from support.relay_root import NAMES, RelayProcess
from support.relay_server import TestDevice, make_device
from support.server_parts import App, HandClock

from securechat.wire.frames import Accepted, Ack, Deliver, Error

STEPS = (
    "accept.begun",
    "accept.written",
    "commit.sealed",
    "commit.done",
    "accept.committed",
    "accept.answered",
    "deliver.sent",
    "ack.received",
    "ack.written",
    "ack.committed",
)
MESSAGES = 60
WINDOW = 8
GONE = (ClosedError, aiohttp.ClientError, ConnectionError)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[RelayProcess]:
    running = RelayProcess(tmp_path / "server.db")
    yield running
    running.end()


class Party:
    """A device that sends a row of messages to another and hands over what it gets, through all crashes.

    What it keeps over a crash of the server is what a client's store keeps: the outbox and the cursor.
    """

    def __init__(self, device: TestDevice, to: TestDevice, history: History, app: App) -> None:
        self.device = device
        self.to = to
        self.history = history
        self.app = app
        self.outbox = [b"%s %d" % (device.address.user.encode(), n) for n in range(1, MESSAGES + 1)]
        self.bodies = dict(enumerate(self.outbox, 1))
        for body in self.outbox:
            history.attempt(device.address, to.address, body)
        self.left = list(self.bodies)
        self.cursor = (b"", 0)
        self.got = 0

    @property
    def done(self) -> bool:
        return not self.left and self.got == MESSAGES

    async def run(self, process: RelayProcess) -> None:
        while not self.done:
            await process.up.wait()
            peer = RelayPeer(process.url, self.device, self.app.token(self.device.address.user, "clinician"))
            try:
                await peer.open()
            except GONE:
                await peer.http.close()
                continue
            try:
                await peer.log_in()
                await self.talk(peer)
            except GONE:
                pass
            finally:
                await peer.close()

    async def talk(self, peer: RelayPeer) -> None:
        """Send all that is left, in order and pipelined; stop when everything is through."""
        assert peer.ready is not None
        if self.cursor[0] != peer.ready.epoch:
            self.cursor = (peer.ready.epoch, 0)
        waiting = self.left[:WINDOW]
        for number in waiting:
            await self.send(peer, number)
        while not self.done:
            frame = await peer.receive()
            if isinstance(frame, Accepted):
                await self.note(peer, frame, waiting)
            elif isinstance(frame, Deliver):
                await self.take(peer, frame)
            else:
                assert not isinstance(frame, Error), frame

    async def send(self, peer: RelayPeer, number: int) -> None:
        await peer.send(self.to.address, number, self.bodies[number])

    async def note(self, peer: RelayPeer, frame: Accepted, waiting: list[int]) -> None:
        for raw in frame.message_ids:
            number = int.from_bytes(raw, "big")
            self.history.accept(self.bodies[number])
            self.left.remove(number)
            waiting.remove(number)
            following = [each for each in self.left if each not in waiting]
            if following:
                waiting.append(following[0])
                await self.send(peer, following[0])

    async def take(self, peer: RelayPeer, frame: Deliver) -> None:
        if frame.seq <= self.cursor[1]:
            return  # came again after a crash; the cursor keeps it from the application
        assert frame.seq == self.cursor[1] + 1, "a gap"
        self.cursor = (self.cursor[0], frame.seq)
        sender = make_device(frame.user).address
        self.history.hand_over(sender, self.device.address, frame.body)
        self.got += 1
        await peer.put(Ack(*self.cursor))


async def through_crashes(process: RelayProcess, fault: str, kills: list[float]) -> History:
    """Let three devices send in a ring while the server dies; return what happened."""
    await process.start(fault)
    history, app = History(), App(HandClock())
    devices = [make_device(name) for name in NAMES]
    parties = [Party(a, b, history, app) for a, b in zip(devices, devices[1:] + devices[:1], strict=True)]
    reviving = asyncio.create_task(process.revive())
    running = asyncio.gather(*(party.run(process) for party in parties))
    for pause in kills:
        await process.up.wait()
        await asyncio.wait([running], timeout=pause)
        process.kill()
    async with asyncio.timeout(60):
        await running
    reviving.cancel()
    return history


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("times", [3, 8])
async def test_a_relay_killed_at_any_step_keeps_its_promises(
    process: RelayProcess, step: str, times: int
) -> None:
    history = await through_crashes(process, f"{step}:{times}", [])
    verdict = history.check()
    assert process.deaths >= 1
    assert verdict.ok, verdict
    assert verdict.received == 3 * MESSAGES


@pytest.mark.parametrize("seed", range(8))
async def test_a_relay_killed_at_random_moments_keeps_its_promises(process: RelayProcess, seed: int) -> None:
    draw = random.Random(seed)
    pauses = [draw.uniform(0.0, 0.03) for _ in range(4)]
    history = await through_crashes(process, "", pauses)
    verdict = history.check()
    assert verdict.ok, verdict
    assert verdict.received == 3 * MESSAGES
