"""Standard input as a queue of lines, whatever it is: a terminal, a pipe or a file."""

import asyncio
import os
import sys
import threading
from typing import Final

_CHUNK: Final = 65_536  # bytes of one read


def standard_input_lines() -> "asyncio.Queue[bytes | None]":
    """Return a queue that gets each line without its line end, and None at the end of the input.

    A daemon thread reads, since a regular file cannot be watched by the event loop; it ends with the process.
    It reads past Python's buffer, whose lock the interpreter cannot take at its end while the thread waits.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[bytes | None] = asyncio.Queue()
    descriptor = sys.stdin.fileno()

    def put(line: bytes | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(lines.put_nowait, line)

    def read() -> None:
        rest = b""
        while chunk := os.read(descriptor, _CHUNK):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                put(line.rstrip(b"\r"))
        if rest:
            put(rest)
        put(None)

    threading.Thread(target=read, name="standard-input", daemon=True).start()
    return lines
