"""Both frame writers put the same bytes on the wire, and the coalescing one with one write for each turn."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from securechat.relay.frame_writer import CoalescingFrameWriter, FrameWriter, PlainFrameWriter, frame_header

SIZES = [0, 1, 125, 126, 127, 65535, 65536, 70000]
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@asynccontextmanager
async def serving(use: Callable[[web.WebSocketResponse, web.Request], FrameWriter]) -> AsyncIterator[int]:
    """Serve one WebSocket whose frames are those of ``script``."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(compress=False, autoping=False)
        await response.prepare(request)
        script(use(response, request))
        await response.receive()
        return response

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


def script(writer: FrameWriter) -> None:
    for size in SIZES:
        writer.send(bytes([size % 251]) * size)
    writer.ping()
    writer.pong(b"echo")
    writer.send(b"last")
    writer.close(4409)
    writer.flush()


async def wire_bytes(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    total = sum(len(frame_header(0x82, size)) + size for size in SIZES) + 2 + 2 + 4 + 2 + 4 + 4
    raw = await asyncio.wait_for(reader.readexactly(total), 10)
    writer.close()
    return raw


def coalescing(response: web.WebSocketResponse, request: web.Request) -> FrameWriter:
    assert request.transport is not None
    return CoalescingFrameWriter(request.transport, asyncio.get_running_loop())


def plain(response: web.WebSocketResponse, request: web.Request) -> FrameWriter:
    return PlainFrameWriter(response)


async def test_both_writers_send_the_same_bytes() -> None:
    async with serving(coalescing) as port:
        ours = await wire_bytes(port)
    async with serving(plain) as port:
        theirs = await wire_bytes(port)
    assert ours == theirs


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x82\x00"),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (65535, b"\x82\x7e\xff\xff"),
        (65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_header_is_that_of_the_specification(size: int, header: bytes) -> None:
    assert frame_header(0x82, size) == header


class Recorder(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.writes))


async def test_all_frames_of_one_turn_go_out_with_one_write() -> None:
    transport = Recorder()
    writer = CoalescingFrameWriter(transport, asyncio.get_running_loop())
    for _ in range(3):
        writer.send(b"ab")
    assert transport.writes == []
    await asyncio.sleep(0)
    assert transport.writes == [b"\x82\x02ab" * 3]
    assert writer.buffered == 12
    writer.send(b"c")
    await asyncio.sleep(0)
    assert transport.writes[1:] == [b"\x82\x01c"]


async def test_nothing_is_written_to_a_closing_transport() -> None:
    transport = Recorder()
    writer = CoalescingFrameWriter(transport, asyncio.get_running_loop())
    writer.send(b"ab")
    transport.closing = True
    await asyncio.sleep(0)
    assert transport.writes == []
