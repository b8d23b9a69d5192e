"""Messages per second between real clients: sealed, stored, relayed, opened, stored, acknowledged.

    ./dev run benchmarks/sdk.py [--pairs 50] [--messages 100] [--bytes 200]

The server is ``python -m securechat serve`` on one core; all clients run in this process on the other one,
each with its own encrypted store on the disk. Every message is committed by the sender's store, the relay and
the receiver's store. The clients' core is the limit here: ``benchmarks/relay.py`` measures the server alone.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from securechat.client import Client, Message
from securechat.tokens import TokenMinter, generate_mint_key

AUDIENCE: Final = "bench.local"
KEY: Final = bytes(32)  # of the stores: nothing here is secret


def start_server(folder: Path) -> tuple["subprocess.Popen[str]", str]:
    """Start the server on the first core and return it with its address."""
    line = generate_mint_key(folder / "mint.key", app_id="bench", kid="k1", audience=AUDIENCE)
    (folder / "app-keys").write_text(line + "\n")
    command = ["serve", "--data", str(folder / "server"), "--app-keys", str(folder / "app-keys")]
    server = subprocess.Popen(
        [sys.executable, "-m", "securechat", *command, "--audience", AUDIENCE, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    pin(server.pid, 0)
    assert server.stdout is not None
    return server, server.stdout.readline().split()[1]


def pin(pid: int, core: int) -> None:
    """Keep a process on one core, where the system can and there is more than one."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(pid, {core})


async def open_clients(stack: AsyncExitStack, url: str, folder: Path, pairs: int) -> list[Client]:
    """Enrol two clients for each pair."""
    minter = TokenMinter.from_file(folder / "mint.key")

    async def open_one(number: int) -> Client:
        user = f"user-{number}"

        def token() -> str:
            return minter.mint(user, org="bench", roles=["clinician"], ttl_s=900)

        opened = Client.open(url, token=token, store=folder / f"{user}.db", key=KEY)
        return await stack.enter_async_context(opened)

    return [await open_one(number) for number in range(2 * pairs)]


async def read(client: Client, count: int) -> None:
    """Take ``count`` messages and acknowledge each."""
    seen = 0
    async for event in client.events():
        await event.ack()
        seen += isinstance(event, Message)
        if seen == count:
            return


async def write(client: Client, to: Client, texts: list[str]) -> None:
    """Send all texts and wait until the relay has them."""
    for sent in [await client.send(to.user, text) for text in texts]:
        await sent.accepted()


async def measure(url: str, folder: Path, *, pairs: int, messages: int, size: int) -> float:
    """Return messages per second, all pairs at once, after one message each that makes the sessions."""
    async with AsyncExitStack() as stack:
        clients = await open_clients(stack, url, folder, pairs)
        talks = list(zip(clients[::2], clients[1::2], strict=True))
        for count in (1, messages):
            began = time.perf_counter()
            texts = ["x" * size] * count
            works = [write(one, other, texts) for one, other in talks]
            await asyncio.gather(*works, *(read(other, count) for _, other in talks))
            seconds = time.perf_counter() - began
        return pairs * messages / seconds


def main() -> None:
    """Run once and print a line."""
    parser = argparse.ArgumentParser(description="messages per second between real clients")
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--bytes", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        server, url = start_server(Path(name))
        pin(0, 1)
        try:
            rate = asyncio.run(
                measure(url, Path(name), pairs=args.pairs, messages=args.messages, size=args.bytes)
            )
        finally:
            server.terminate()
            server.wait(30)
    print(f"{args.pairs} pairs, {args.messages} messages each: {rate:,.0f} messages/s end to end")


if __name__ == "__main__":
    main()
