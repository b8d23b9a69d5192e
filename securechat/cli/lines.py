"""Standard input as a queue of lines, whatever it is: a terminal, a pipe or a file."""

import asyncio
import sys
import threading


def standard_input_lines() -> "asyncio.Queue[bytes | None]":
    """Return a queue that gets each line without its line end, and None at the end of the input.

    A daemon thread reads, since a regular file cannot be watched by the event loop; it ends with the process.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(line: bytes | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(lines.put_nowait, line)

    def read() -> None:
        for line in sys.stdin.buffer:
            put(line.rstrip(b"\r\n"))
        put(None)

    threading.Thread(target=read, name="standard-input", daemon=True).start()
    return lines
