"""A full or failing disk, on either side: what was not stored is refused, and all goes on with space.

A small tmpfs stands for the full disk where this user may mount one. Beside it, and everywhere, the system's
limit on the size of a file makes every write of a process fail (prlimit(2), RLIMIT_FSIZE).
"""

import asyncio
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.server_process import ServerProcess
from support.site import PATIENCE_S, Site, Talk, all_accepted
from support.small_disk import SmallDisk, small_disk

from securechat.cli.exit_codes import ExitCode
from securechat.client import Client, Sent
from securechat.errors import ServerError, StoreError, StoreFullError

linux = pytest.mark.skipif(sys.platform != "linux", reason="prlimit(2) is Linux's")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk, empty."""
    with small_disk(tmp_path / "disk") as mounted:
        if mounted is None:
            pytest.skip("this user may not mount a tmpfs")
        yield mounted


async def test_a_full_disk_of_the_server_refuses_and_all_goes_on_with_space(
    quiet_site: Site, talk: Talk, disk: SmallDisk
) -> None:
    site = quiet_site
    site.data = Path(shutil.copytree(site.data, disk.folder / "server"))
    await site.start()
    async with site.client("pat") as pat, site.client("dr-lee") as lee:
        await talk.say(pat, 2)
        await talk.hear(lee)
        await site.until_acknowledged("dr-lee")
        disk.fill()
        waiting = await _say_until_full(talk, pat)
        unready = await _refusal(pat, "/readyz")
        assert unready is not None
        assert (unready.status, unready.server_code) == (503, "store_full")
        disk.empty()
        assert await _refusal(pat, "/readyz") is None
        await all_accepted(waiting)
        await talk.hear(lee)
        await talk.say(lee, 2)
        await talk.hear(pat)
    await talk.end()
    await site.stop()


async def test_a_server_on_a_full_disk_does_not_start_and_starts_with_space(
    quiet_site: Site, talk: Talk, disk: SmallDisk
) -> None:
    quiet_site.data = Path(shutil.copytree(quiet_site.data, disk.folder / "server"))
    disk.fill()
    with pytest.raises(StoreError):  # full, or failing to extend its shared memory: SQLite tells them apart
        await quiet_site.start()
    disk.empty()
    await quiet_site.start()
    await talk.end()
    await quiet_site.stop()


async def test_a_full_disk_of_a_device_refuses_sends_and_leaves_messages_at_the_server(
    site: Site, talk: Talk, disk: SmallDisk
) -> None:
    own, _ = site.store("pat")
    store = _copy_store(own, disk.folder / own.name)
    async with site.client("pat", store=store) as pat, site.client("dr-lee") as lee:
        await talk.say(pat, 2)
        await talk.hear(lee)
        disk.fill()
        with pytest.raises(StoreFullError) as caught:
            await _say_for_ever(talk, pat)
        assert caught.value.code == "store_full"
        await all_accepted(await talk.say(lee, 40))
        disk.empty()
        await talk.say(pat, 2)
        await talk.hear(lee)
        await talk.hear(pat)
    _copy_store(store, own)
    await talk.end()


@linux
async def test_a_server_whose_every_write_fails_refuses_and_goes_on_when_its_disk_works_again(
    quiet_site: Site, talk: Talk
) -> None:
    server = ServerProcess(quiet_site.clinic.folder)
    await asyncio.to_thread(server.start)
    quiet_site.served_at(server.url)
    try:
        async with quiet_site.client("pat") as pat, quiet_site.client("dr-lee") as lee:
            await talk.say(pat, 2)
            await talk.hear(lee)
            with _no_writes(server):
                waiting = await talk.say(pat, 3)
                refusal = await _refusal(pat)
                assert refusal is not None
                assert (refusal.status, refusal.server_code) == (503, "store_error")
                assert refusal.retryable
            await all_accepted(waiting)
            await talk.hear(lee)
            await talk.say(lee, 2)
            await talk.hear(pat)
        await talk.end()
    finally:
        await asyncio.to_thread(server.stop)
    assert server.process is not None
    assert server.process.returncode == ExitCode.OK
    assert (quiet_site.clinic.folder / "server.err").read_text() == ""


@linux
async def test_a_command_that_cannot_write_is_one_line_and_its_message_is_not_sent(
    site: Site, talk: Talk
) -> None:
    folder = str(site.clinic.folder)
    command = [sys.executable, "-m", "securechat", "send", "--as", "pat", "--dir", folder, "text"]
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command), stderr=subprocess.PIPE
    )
    _, told = await process.communicate()
    assert process.returncode == ExitCode.STORE, told
    assert told.endswith(b"[store_error]\n")
    assert len(told.splitlines()) == 1
    await talk.end()


def _copy_store(source: Path, target: Path) -> Path:
    """Copy a closed store with its side file."""
    for end in ("", ".lock"):
        shutil.copy(source.with_name(source.name + end), target.with_name(target.name + end))
    return target


@contextmanager
def _no_writes(server: ServerProcess) -> Iterator[None]:
    """Let every write of the process to a file fail (EFBIG), as a broken disk does."""
    assert server.process is not None
    usual = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, usual[1]))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, usual)


async def _say_until_full(talk: Talk, speaker: Client) -> list[Sent]:
    """Send until the server has no room; a few commits may still fit into what its files have."""
    waiting: list[Sent] = []
    async with asyncio.timeout(PATIENCE_S):
        while (refusal := await _refusal(speaker)) is None:
            waiting += await talk.say(speaker, 5)
    assert (refusal.status, refusal.server_code, refusal.retryable) == (503, "store_full", True)
    return waiting + await talk.say(speaker, 5)


async def _say_for_ever(talk: Talk, speaker: Client) -> None:
    while True:
        await talk.say(speaker)


async def _refusal(client: Client, path: str = "/v1/prekeys") -> ServerError | None:
    """What the server says to a request that it has to record."""
    try:
        await client.request("GET", path)
    except ServerError as error:
        return error
    return None
