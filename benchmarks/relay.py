"""Messages per second end to end through the durable relay, against a throw-away floor in the same run.

    ./dev run benchmarks/relay.py [--pairs 50] [--window 16] [--seconds 8] [--bytes 1024] [--rounds 1]

The server is ``python -m securechat serve`` as it ships: log-in by token and device key, policies, audit log
with a signed checkpoint at every commit. Every message is fsynced before its sender hears of it, handed to
its receiver and acknowledged; a slot of the window is free again when a message was both accepted and handed
over. The server has one core, the load another one where there are two. ``relay_floor.py`` is what the same
frames cost with none of that. The ratio is what may be compared; absolute figures belong to the machine.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import aiohttp
import uvloop

from securechat.base64url import decode_base64url, encode_base64url
from securechat.ids import device_id, user_id
from securechat.protocol.devices import create_account
from securechat.protocol.pqxdh import LocalDevice
from securechat.tokens import TokenMinter, generate_mint_key
from securechat.wire.auth import ChallengePurpose, challenge_message
from securechat.wire.frames import (
    Accepted,
    Ack,
    Authenticate,
    Challenge,
    ClientFrame,
    Deliver,
    Error,
    FrameCodec,
    Ready,
    Send,
)

AUDIENCE: Final = "bench.local"
ORG: Final = "bench"
WARM_UP_S: Final = 2.0
ACK_EVERY: Final = 32
ZERO_MASK: Final = bytes(4)  # a client must mask (RFC 6455, 5.3); this mask leaves the bytes as they are


@dataclass(frozen=True)
class Figures:
    """One run. CPU is that of the server process."""

    name: str
    messages_per_s: float
    cpu_us_per_message: float
    core_share: float


class Link(asyncio.Protocol):
    """One device's connection: WebSocket frames by hand, so that the load costs little."""

    def __init__(self, on_frame: Callable[[object], None]) -> None:
        self.codec = FrameCodec()
        self.on_frame = on_frame
        self.buffer = bytearray()
        self.upgraded = asyncio.get_running_loop().create_future()
        self.queued: list[bytes] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's have no common base class
        self.transport.write(
            b"GET /v1/connect HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.upgraded.done():
            head, mark, rest = bytes(self.buffer).partition(b"\r\n\r\n")
            if not mark:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self.buffer = bytearray(rest)
            self.upgraded.set_result(None)
        self.parse()

    def parse(self) -> None:
        raw, at, end = bytes(self.buffer), 0, len(self.buffer)
        while end - at >= 2:
            length, start = raw[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(raw[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, start = int.from_bytes(raw[at + 2 : at + 10], "big"), at + 10
            if start + length > end:
                break
            if raw[at] == 0x82:
                self.on_frame(self.codec.decode_server(raw[start : start + length]))
            at = start + length
        del self.buffer[:at]

    def send(self, frame: ClientFrame) -> None:
        payload = self.codec.encode(frame)
        size = len(payload)
        head = bytes((0x82, 0x80 | size)) if size < 126 else b"\x82\xfe" + size.to_bytes(2, "big")
        if not self.queued:
            asyncio.get_running_loop().call_soon(self.flush)
        self.queued += (head, ZERO_MASK, payload)

    def flush(self) -> None:
        assert self.transport is not None
        self.transport.write(b"".join(self.queued))
        self.queued.clear()


class Device:
    """A logged-in device."""

    def __init__(self, local: LocalDevice, token: str, on_frame: Callable[[object], None]) -> None:
        self.local = local
        self.token = token
        self.on_frame = on_frame
        self.epoch = b""
        self.ready = asyncio.get_running_loop().create_future()

    async def connect(self, host: str, port: int) -> None:
        self.link = Link(self.take)
        await asyncio.get_running_loop().create_connection(lambda: self.link, host, port)
        await self.ready

    def take(self, frame: object) -> None:
        if isinstance(frame, Challenge):
            address = self.local.address
            message = challenge_message(ChallengePurpose.CONNECTION, address, frame.challenge, self.token)
            signature = self.local.signing.sign(message)
            self.link.send(Authenticate(self.token, address.user, address.device, signature))
        elif isinstance(frame, Ready):
            self.epoch = frame.epoch
            self.ready.set_result(None)
        else:
            self.on_frame(frame)


class Pair:
    """A sender and its receiver, with at most ``window`` messages on their way."""

    def __init__(
        self, sender: LocalDevice, receiver: LocalDevice, mint: Callable[[str], str], window: int, size: int
    ) -> None:
        self.sender = Device(sender, mint(sender.address.user), self.answered)
        self.receiver = Device(receiver, mint(receiver.address.user), self.arrived)
        self.to = receiver.address
        self.window = window
        self.body = os.urandom(size)
        self.base = int.from_bytes(hashlib.sha256(self.to.user.encode()).digest()[:8], "big") << 64
        self.sent = self.accepted = self.delivered = 0

    def fill(self) -> None:
        while self.sent - min(self.accepted, self.delivered) < self.window:
            self.sent += 1
            message = (self.base + self.sent).to_bytes(16, "big")
            self.sender.link.send(Send(message, self.to.user, self.to.device, self.body))

    def answered(self, frame: object) -> None:
        assert not isinstance(frame, Error), frame
        if isinstance(frame, Accepted):
            self.accepted += len(frame.message_ids)
            self.fill()

    def arrived(self, frame: object) -> None:
        if isinstance(frame, Deliver):
            self.delivered += 1
            assert frame.seq == self.delivered, "lost, doubled or reordered"
            if self.delivered % ACK_EVERY == 0:
                self.receiver.link.send(Ack(self.receiver.epoch, frame.seq))
            self.fill()


async def load(
    args: argparse.Namespace, url: str, pid: int, mint: Callable[[str], str], devices: list[LocalDevice]
) -> tuple[float, float]:
    """Return messages and server CPU seconds, both per second."""
    parts = urlsplit(url)
    halves = zip(devices[::2], devices[1::2], strict=True)
    pairs = [Pair(a, b, mint, args.window, args.bytes) for a, b in halves]
    for pair in pairs:
        await pair.receiver.connect(parts.hostname or "", parts.port or 0)
        await pair.sender.connect(parts.hostname or "", parts.port or 0)
    for pair in pairs:
        pair.fill()
    await asyncio.sleep(WARM_UP_S)
    before, cpu, began = sum(pair.delivered for pair in pairs), cpu_seconds(pid), time.perf_counter()
    await asyncio.sleep(args.seconds)
    took = time.perf_counter() - began
    count, used = sum(pair.delivered for pair in pairs) - before, cpu_seconds(pid) - cpu
    return count / took, used / took


async def enroll(url: str, mint: Callable[[str], str], names: list[str]) -> list[LocalDevice]:
    """Make an account for each of ``names``; enrol it where the server knows how."""
    made = [
        create_account(user_id(name), device_id(1), int(time.time() * 1000), os.urandom) for name in names
    ]
    async with aiohttp.ClientSession() as http:
        for _, local, signed in made:
            token = mint(local.address.user)
            async with http.post(f"{url}/v1/challenges") as answer:
                if answer.status == 404:  # the floor knows nobody
                    break
                challenge = decode_base64url((await answer.json())["challenge"])
            message = challenge_message(ChallengePurpose.ENROLLMENT, local.address, challenge, token)
            body = {
                "device_list": encode_base64url(signed.encode()),
                "device": local.address.device,
                "challenge": encode_base64url(challenge),
                "signature": encode_base64url(local.signing.sign(message)),
            }
            headers = {"Authorization": f"Bearer {token}"}
            async with http.put(f"{url}/v1/devices", json=body, headers=headers) as answer:
                assert answer.status == 201, await answer.text()
    return [local for _, local, _ in made]


async def measure(
    args: argparse.Namespace, name: str, url: str, pid: int, mint: Callable[[str], str]
) -> Figures:
    names = [f"{name}-{side}-{number}" for number in range(args.pairs) for side in ("from", "to")]
    devices = await enroll(url, mint, names)
    rate, share = await load(args, url, pid, mint, devices)
    return Figures(name, round(rate), round(share / rate * 1e6, 1), round(share, 2))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(command: list[str], cores: set[int]) -> Iterator[tuple[str, int]]:
    """Run a server on ``cores``; yield its address and process id."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    try:
        assert process.stdout is not None
        word, _, url = process.stdout.readline().decode().strip().partition(" ")
        assert word == "ready", word
        yield url, process.pid
    finally:
        process.kill()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--window", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    found: list[Figures] = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory(prefix="securechat-bench-") as folder:
            found += one_round(args, Path(folder), {cores[0]})
    ratios = [
        relay.messages_per_s / floor.messages_per_s
        for floor, relay in zip(found[::2], found[1::2], strict=True)
    ]
    report(args, found, sorted(ratios)[len(ratios) // 2])
    return 0


def one_round(args: argparse.Namespace, folder: Path, cores: set[int]) -> list[Figures]:
    key = generate_mint_key(folder / "app.key", app_id="bench", kid="k1", audience=AUDIENCE)
    (folder / "app-keys").write_text(key + "\n")
    minter = TokenMinter.from_file(folder / "app.key")

    def mint(user: str) -> str:
        return minter.mint(user_id(user), org=ORG, roles=["clinician"], ttl_s=900)

    floor = [sys.executable, str(Path(__file__).with_name("relay_floor.py")), str(folder / "floor.db")]
    relay = [sys.executable, "-m", "securechat", "serve", "--quiet", "--audience", AUDIENCE, "--port", "0"]
    relay += ["--app-keys", str(folder / "app-keys"), "--data", str(folder / "data")]
    found = []
    for name, command in (("floor", floor), ("relay", relay)):
        with running(command, cores) as (url, pid):
            found.append(uvloop.run(measure(args, name, url, pid, mint)))
    return found


def report(args: argparse.Namespace, found: list[Figures], ratio: float) -> None:
    if args.json:
        print(json.dumps({"figures": [asdict(each) for each in found], "ratio": round(ratio, 2)}))
        return
    print(f"{args.pairs} pairs, {args.window} in flight each, {args.bytes} bytes, fsynced before the answer")
    for each in found:
        print(
            f"  {each.name:6} {each.messages_per_s:9,.0f} messages/s"
            f" {each.cpu_us_per_message:8.1f} us CPU each   {each.core_share:4.2f} core"
        )
    print(f"  relay / floor: {ratio:.2f}")


if __name__ == "__main__":
    sys.exit(main())
