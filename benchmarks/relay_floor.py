"""The floor of ``benchmarks/relay.py``: the least that a durable relay of the same frames can do.

The same frames, aiohttp, a writer thread with group commit into SQLite in WAL mode with ``synchronous=FULL``;
no log-in, no policy, no audit log, no quotas, no idempotency, no order after a refusal, no windows.
"""

import asyncio
import sqlite3
import sys
import threading
from collections import defaultdict

import uvloop
from aiohttp import WSMsgType, web

from securechat.relay.frame_writer import CoalescingFrameWriter
from securechat.wire.frames import Accepted, Ack, Authenticate, Challenge, Deliver, FrameCodec, Ready, Send

Address = tuple[str, int]
Row = tuple[str, int, int, bytes, str, int, bytes]


class Floor:
    """One writer thread, one event loop, dictionaries."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.loop = asyncio.get_running_loop()
        self.codec = FrameCodec()
        self.online: dict[Address, CoalescingFrameWriter] = {}
        self.next: dict[Address, int] = defaultdict(int)
        self.rows: list[tuple[Row, CoalescingFrameWriter]] = []
        self.cursors: dict[Address, int] = {}
        self.wake = threading.Event()
        threading.Thread(target=self.write, daemon=True).start()

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=True, compress=False, decode_text=False)
        await socket.prepare(request)
        assert request.transport is not None
        writer = CoalescingFrameWriter(request.transport, self.loop)
        writer.send(self.codec.encode(Challenge(bytes(32), 0)))
        own: Address = ("", 0)
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                break
            frame = self.codec.decode_client(message.data)
            if isinstance(frame, Send):
                self.send(frame, own, writer)
            elif isinstance(frame, Ack):
                self.cursors[own] = frame.seq
                self.wake.set()
            elif isinstance(frame, Authenticate):
                own = (frame.user, frame.device)
                self.online[own] = writer
                writer.send(self.codec.encode(Ready(bytes(16), 0, 0, 0)))
        return socket

    def send(self, frame: Send, own: Address, writer: CoalescingFrameWriter) -> None:
        to = (frame.user, frame.device)
        self.next[to] += 1
        row = (frame.user, frame.device, self.next[to], frame.message_id, own[0], own[1], frame.body)
        self.rows.append((row, writer))
        self.wake.set()

    def write(self) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None)
        for pragma in ("page_size=8192", "journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=4000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(
            "CREATE TABLE inbox (user TEXT, device INTEGER, seq INTEGER, message BLOB, sender TEXT,"
            " sender_device INTEGER, body BLOB, PRIMARY KEY (user, device, seq))"
        )
        while self.wake.wait():
            self.wake.clear()
            count = len(self.rows)
            batch, self.rows[:count] = self.rows[:count], []
            cursors, self.cursors = self.cursors, {}
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO inbox VALUES (?,?,?,?,?,?,?)", [row for row, _ in batch])
            connection.executemany(
                "DELETE FROM inbox WHERE user = ? AND device = ? AND seq <= ?",
                [(*address, seq) for address, seq in cursors.items()],
            )
            connection.execute("COMMIT")
            self.loop.call_soon_threadsafe(self.committed, batch)

    def committed(self, batch: list[tuple[Row, CoalescingFrameWriter]]) -> None:
        accepted: dict[CoalescingFrameWriter, list[bytes]] = defaultdict(list)
        for (user, device, seq, message, sender, sender_device, body), writer in batch:
            accepted[writer].append(message)
            receiver = self.online.get((user, device))
            if receiver is not None:
                deliver = Deliver(seq, message, sender, sender_device, 0, 0, body)
                receiver.send(self.codec.encode(deliver))
        for writer, messages in accepted.items():
            writer.send(self.codec.encode(Accepted(messages)))


async def serve(path: str) -> None:
    app = web.Application()
    app.router.add_get("/v1/connect", Floor(path).connect)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"ready http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
