"""The client against a real server process: tokens that end, restarts, thieves, wrong clocks, clones."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from support.clients import QUICK, next_of, texts
from support.server_process import ServerProcess

from securechat.cli.clinic import Clinic, load_clinic
from securechat.client import Client, ClockSkew, IdentityChanged, Message, SyncClient
from securechat.client.client import system_clock
from securechat.errors import AuthenticationError, ServerError, SettingsError, TransportError
from securechat.ports import Clock

DAY_MS = 86_400_000


@pytest.fixture
def clinic(running_server: ServerProcess) -> Clinic:
    return load_clinic(running_server.folder)


@asynccontextmanager
async def opened(
    clinic: Clinic,
    handle: str,
    *,
    ttl_s: int = 600,
    store: Path | None = None,
    clock: Clock = system_clock,
    calls: list[str] | None = None,
) -> AsyncIterator[Client]:
    """Open a seeded person's own client, or a new device in ``store``."""
    person = clinic.person(handle)
    path, key = clinic.store_of(person)

    async def token() -> str:
        if calls is not None:
            calls.append(handle)
        return clinic.mint(person, ttl_s=ttl_s)

    async with Client.open(
        clinic.url(), token=token, store=store or path, key=key.reveal(), clock=clock, config=QUICK
    ) as me:
        yield me


def user(clinic: Clinic, handle: str) -> str:
    return clinic.person(handle).user


async def test_a_conversation_outlives_tokens_of_two_seconds(clinic: Clinic) -> None:
    calls: list[str] = []
    async with (
        opened(clinic, "pat", ttl_s=2, calls=calls) as pat,
        opened(clinic, "dr-lee", ttl_s=2) as lee,
    ):
        events = lee.events()
        started = time.monotonic()
        number = 0
        while time.monotonic() - started < 5:
            sent = await pat.send(lee.user, str(number))
            await sent.accepted()
            assert await texts(events, 1) == [str(number)]
            number += 1
        assert 3 <= len(calls) <= 8, "the provider is asked on expiry only"


async def test_a_restarted_server_is_found_again(running_server: ServerProcess, clinic: Clinic) -> None:
    async with opened(clinic, "pat") as pat, opened(clinic, "dr-lee") as lee:
        await pat.send(lee.user, "before")
        assert await texts(lee.events(), 1) == ["before"]
        running_server.kill()
        waiting = [await pat.send(lee.user, f"while down {number}") for number in range(5)]
        to_kim = await pat.send(user(clinic, "nurse-kim"), "a new contact while down")
        running_server.start()
        for sent in (*waiting, to_kim):
            await sent.accepted()
        assert await texts(lee.events(), 5) == [f"while down {number}" for number in range(5)]


async def test_a_stolen_token_opens_nothing(clinic: Clinic, tmp_path: Path) -> None:
    async with opened(clinic, "pat"):
        pass
    with pytest.raises(ServerError) as caught:
        async with opened(clinic, "pat", store=tmp_path / "thief.db"):
            pass
    assert caught.value.server_code == "device_list_conflict"


@pytest.mark.parametrize("token", ["no-token", "e30.e30.e30"])
async def test_a_forged_token_is_an_authentication_error(clinic: Clinic, token: str) -> None:
    path, key = clinic.store_of(clinic.person("pat"))
    async with opened(clinic, "pat"):
        pass
    with pytest.raises(AuthenticationError) as caught:
        async with Client.open(clinic.url(), token=token, store=path, key=key.reveal(), config=QUICK):
            pass
    assert token not in str(caught.value)


async def test_a_token_of_another_user_is_refused(clinic: Clinic) -> None:
    path, key = clinic.store_of(clinic.person("pat"))
    async with opened(clinic, "pat"):
        pass
    token = clinic.mint(clinic.person("dr-lee"))
    with pytest.raises(AuthenticationError):
        async with Client.open(clinic.url(), token=token, store=path, key=key.reveal(), config=QUICK):
            pass
    with pytest.raises(SettingsError):
        async with Client.open(
            clinic.url(), token=token, user="somebody-else", store=path, key=key.reveal(), config=QUICK
        ):
            pass


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_clock_wrong_by_a_day_enrols_and_talks(clinic: Clinic, tmp_path: Path, days: int) -> None:
    def wrong() -> int:
        return system_clock() + days * DAY_MS

    newcomer = msgspec.structs.replace(clinic.person("sam"), user=f"u-newcomer{days}")
    async with (
        Client.open(
            clinic.url(),
            token=lambda: clinic.mint(newcomer),
            store=tmp_path / "sam.db",
            key=bytes(32),
            clock=wrong,
            config=QUICK,
        ) as sam,
        opened(clinic, "dr-lee") as lee,
    ):
        skew = await next_of(sam.events(), ClockSkew)
        assert abs(skew.skew_ms + days * DAY_MS) < 60_000
        await sam.send(lee.user, "question")
        message = await next_of(lee.events(), Message)
        assert abs(message.sent_ms - system_clock()) < 60_000
        await lee.send(sam.user, "answer")
        assert await texts(sam.events(), 1) == ["answer"]


async def test_a_cloned_device_takes_over_and_the_other_is_told(clinic: Clinic, tmp_path: Path) -> None:
    path, _ = clinic.store_of(clinic.person("pat"))
    async with opened(clinic, "pat"):
        pass
    for file in (path, path.with_name(path.name + ".lock")):
        shutil.copy(file, tmp_path / file.name)
    async with opened(clinic, "pat") as pat, opened(clinic, "pat", store=tmp_path / path.name):
        with pytest.raises(ServerError) as caught:
            await next_of(pat.events(), Message)
        assert caught.value.server_code == "connected_elsewhere"


async def test_a_policy_refusal_is_an_error_with_its_status(clinic: Clinic) -> None:
    async with opened(clinic, "pat") as pat:
        with pytest.raises(ServerError) as caught:
            await pat.request("GET", "/v1/audit/entries")
        assert (caught.value.status, caught.value.retryable) == (403, False)
        with pytest.raises(ServerError) as caught:
            await pat.send("u-nobody", "text")
        assert not caught.value.retryable


async def test_no_server_is_an_error_for_a_new_device_alone(
    running_server: ServerProcess, clinic: Clinic, tmp_path: Path
) -> None:
    running_server.kill()
    with pytest.raises(TransportError):
        async with opened(clinic, "sam", store=tmp_path / "new.db"):
            pass
    async with opened(clinic, "pat") as pat:
        assert not pat.is_connected
        sent = await pat.send(user(clinic, "dr-lee"), "later")
        running_server.start()
        await sent.accepted()


async def test_five_hundred_messages_both_ways_arrive_in_order(clinic: Clinic) -> None:
    async with opened(clinic, "pat") as pat, opened(clinic, "dr-lee") as lee:
        wanted = [f"message {number}" for number in range(250)]

        async def write(writer: Client, to: str) -> None:
            for text in wanted:
                await writer.send(to, text)

        async def read(reader: Client) -> list[str]:
            return await texts(reader.events(), len(wanted))

        _, _, to_lee, to_pat = await asyncio.gather(
            write(pat, lee.user), write(lee, pat.user), read(lee), read(pat)
        )
        assert to_lee == wanted
        assert to_pat == wanted


async def test_no_identity_changes_by_itself(clinic: Clinic) -> None:
    async with opened(clinic, "pat") as pat, opened(clinic, "dr-lee") as lee:
        await pat.send(lee.user, "text")
        async for event in lee.events():
            assert not isinstance(event, IdentityChanged)
            if isinstance(event, Message):
                break
        numbers = [
            (await pat.direct(lee.user)).safety_number(),
            (await lee.direct(pat.user)).safety_number(),
        ]
        assert numbers[0] == numbers[1]


def test_the_sync_client_talks_to_a_real_server(clinic: Clinic) -> None:
    with SyncClient.over(opened(clinic, "pat")) as pat, SyncClient.over(opened(clinic, "dr-lee")) as lee:
        pat.send(lee.user, "text").accepted()
        for told in lee.events():
            told.ack()
            if isinstance(told.event, Message):
                assert told.event.text == "text"
                break
