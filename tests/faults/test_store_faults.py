"""A device's store: wrong key, open elsewhere, damaged, foreign, lost, an older copy of itself."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.clients import next_of
from support.server_process import run_securechat
from support.site import Site, Talk, all_accepted

from securechat.cli.exit_codes import ExitCode
from securechat.client import StoreRestored
from securechat.errors import ServerError, SettingsError, StoreLockedError, WrongKeyError


async def test_a_wrong_passphrase_opens_nothing_and_loses_nothing(site: Site) -> None:
    site.add("max", "patient")
    site.passphrases["max"] = "correct horse"
    talk = Talk(site, "max")
    async with site.client("max") as max_, site.client("dr-lee") as lee:
        await talk.say(max_)
        await talk.hear(lee)
    async with site.client("dr-lee") as lee:
        await all_accepted(await talk.say(lee, 3))
    site.passphrases["max"] = "wrong horse"
    with pytest.raises(WrongKeyError) as caught:
        async with site.client("max"):
            pass
    assert caught.value.code == "store_wrong_key"
    assert "horse" not in str(caught.value)
    site.passphrases["max"] = "correct horse"
    await talk.end()


async def test_a_store_opened_twice_is_locked_and_the_first_goes_on(site: Site, talk: Talk) -> None:
    async with site.client("pat") as pat, site.client("dr-lee") as lee:
        with pytest.raises(StoreLockedError):
            async with site.client("pat"):
                pass
        assert pat.is_connected
        await talk.say(pat, 2)
        await talk.hear(lee)
    await talk.end()


async def test_a_store_opened_by_another_process_is_locked_in_one_line(site: Site, talk: Talk) -> None:
    async with site.client("pat") as pat:
        done = await asyncio.to_thread(run_securechat, site.clinic.folder, "send", "--as", "pat", "text")
        assert done.returncode == ExitCode.STORE, done.stderr
        assert done.stderr.endswith("[store_locked]\n")
        assert len(done.stderr.splitlines()) == 1
        await talk.say(pat)
    await talk.end()


@pytest.mark.parametrize("kept", [0, 10, 4096, 0.5, 0.99])
async def test_a_truncated_store_is_refused_and_the_whole_one_goes_on(
    site: Site, talk: Talk, tmp_path: Path, kept: float
) -> None:
    path, _ = site.store("pat")
    async with site.client("pat") as pat, site.client("dr-lee") as lee:
        await talk.say(pat, 3)
        await talk.hear(lee)
        await talk.say(lee, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept if kept > 1 else kept * len(whole))])
    with pytest.raises(WrongKeyError):
        async with site.client("pat"):
            pass
    path.write_bytes(whole)
    await talk.end()


@pytest.mark.parametrize("kind", ["noise", "database", "another person's"])
async def test_a_foreign_file_is_refused_untouched(site: Site, talk: Talk, tmp_path: Path, kind: str) -> None:
    path, _ = site.store("pat")
    shutil.move(path, tmp_path / "own.db")
    if kind == "noise":
        path.write_bytes(bytes(range(256)) * 64)
    elif kind == "database":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE patients (id INTEGER)")
    else:
        shutil.copy(site.store("sam")[0], path)
    before = path.read_bytes()
    with pytest.raises(WrongKeyError):
        async with site.client("pat"):
            pass
    assert path.read_bytes() == before
    shutil.move(tmp_path / "own.db", path)
    await talk.end()


async def test_the_store_of_another_user_is_told_apart(site: Site, talk: Talk) -> None:
    path, key = site.store("sam")
    for handle in ("pat", "sam"):
        async with site.client(handle, connect=False):
            pass
    with pytest.raises(SettingsError):
        async with site.client("pat", store=path, key=key, user=site.user("pat")):
            pass
    await talk.end()


async def test_a_lost_store_makes_no_second_identity(site: Site, talk: Talk, tmp_path: Path) -> None:
    path, _ = site.store("pat")
    async with site.client("dr-lee") as lee:
        await all_accepted(await talk.say(lee, 2))
    shutil.move(path, tmp_path / "own.db")
    with pytest.raises(ServerError) as caught:
        async with site.client("pat"):
            pass
    assert (caught.value.server_code, caught.value.retryable) == ("device_list_conflict", False)
    shutil.move(tmp_path / "own.db", path)
    async with site.client("pat") as pat:
        await (await next_of(pat.events(), StoreRestored)).ack()
        await talk.hear(pat)
    await talk.end()


@pytest.mark.parametrize("with_side_file", [False, True])
async def test_a_restored_store_says_so_and_the_talk_goes_on(
    site: Site, talk: Talk, tmp_path: Path, with_side_file: bool
) -> None:
    path, _ = site.store("pat")
    side = path.with_name(path.name + ".lock")
    async with site.client("dr-lee") as lee:
        async with site.client("pat") as pat:
            await talk.say(pat, 2)
            await talk.hear(lee)
            await talk.say(lee, 2)
            await talk.hear(pat)
        shutil.copy(path, tmp_path / "backup.db")
        shutil.copy(side, tmp_path / "backup.lock")
        async with site.client("pat") as pat:
            await talk.say(pat, 2)
            await talk.hear(lee)
            await talk.say(lee, 2)
            await talk.hear(pat)
            await site.until_acknowledged("pat")
        shutil.copy(tmp_path / "backup.db", path)
        if with_side_file:
            shutil.copy(tmp_path / "backup.lock", side)
        async with site.client("pat") as pat:
            await (await next_of(pat.events(), StoreRestored)).ack()
            talk.allowed += (StoreRestored,)
            await talk.say(pat, 2)
            await talk.hear(lee)
            await talk.say(lee, 2)
            await talk.hear(pat)
    await talk.end()
