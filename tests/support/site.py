"""A clinic's server in this process, composed as ``serve`` composes it, and its people's real clients.

Tests of faults share it: the server stops, starts and loses its clock or its disk while clients talk, and
``Talk`` keeps account of every text, so that a test can end with "nothing lost, doubled or reordered".
"""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from aiohttp import web
from support.clients import QUICK
from support.relay_peer import until
from support.relay_server import TestDevice

from securechat.cli import composition
from securechat.cli.clinic import AUDIENCE, Clinic, Person, load_clinic
from securechat.cli.data_folder import open_data_folder
from securechat.cli.policy_files import DEFAULT_FOLDER as POLICIES
from securechat.client import CaughtUp, Client, ClockSkew, Event, Message, Sent
from securechat.client.client import system_clock
from securechat.client.store.sqlcipher import StoreKey, open_store
from securechat.client.tokens import AnyTokenProvider
from securechat.crypto.passphrase import TESTING
from securechat.ids import UserId
from securechat.ports import Clock
from securechat.protocol.devices import parse_local_device
from securechat.settings import ServerSettings, read_settings
from securechat.tokens import TokenMinter
from securechat.web.serving import make_runner

ORIGIN: Final = "securechat.local/audit"
PATIENCE_S: Final = 20.0
DAY_MS: Final = 86_400_000


class ServerTime:
    """Stands for the module ``time`` in the composition root: the system's clock of that machine."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def time_ns(self) -> int:
        """The machine's wrong idea of now."""
        return time.time_ns() + self.ahead_ms * 1_000_000

    def now_ms(self) -> int:
        """The same, in milliseconds."""
        return self.time_ns() // 1_000_000


class Site:
    """One server on one loopback port, kept over restarts."""

    def __init__(self, folder: Path, *, data: Path | None = None) -> None:
        self.clinic: Clinic = load_clinic(folder)
        self.data = data or self.clinic.server_folder
        self.clock: Clock = system_clock  # of the devices and of the app's backend
        self.passphrases: dict[str, str] = {}  # of people whose store opens by one
        self._port = 0
        self._open: AsyncExitStack | None = None

    async def start(self) -> None:
        """Open the database and serve. Raises what ``open_server`` raises."""
        async with AsyncExitStack() as stack:
            data = stack.enter_context(open_data_folder(self.data))
            server = await stack.enter_async_context(
                composition.open_server(self._settings(), data, lambda _step: None)
            )
            runner = make_runner(server.app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
            self._port = runner.addresses[0][1]
            self.clinic.set_url(self.url)
            self._open = stack.pop_all()

    def served_at(self, url: str) -> None:
        """Let another process be the server."""
        self._port = int(url.rpartition(":")[2])

    async def stop(self) -> None:
        """Stop in good order; may be called again."""
        stack, self._open = self._open, None
        if stack is not None:
            await stack.aclose()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def database(self) -> Path:
        """The server's database."""
        return self.data / "server.db"

    def add(self, handle: str, *roles: str) -> None:
        """Make one more person, who has no device yet."""
        newcomer = Person(handle=handle, name=handle, user=f"u-{handle}", roles=list(roles), writes_to="pat")
        self.clinic = replace(self.clinic, people=(*self.clinic.people, newcomer))

    def user(self, handle: str) -> UserId:
        """The user id of ``handle``."""
        return UserId(self.clinic.person(handle).user)

    def store(self, handle: str) -> tuple[Path, bytes]:
        """The store of the person's device, and its key."""
        path, key = self.clinic.store_of(self.clinic.person(handle))
        return path, key.reveal()

    def mint(self, handle: str, *, minter: TokenMinter | None = None, org: str | None = None) -> str:
        """A token of the person for ten minutes, by the app's backend or another ``minter``."""
        person = self.clinic.person(handle)
        staff = "patient" not in person.roles
        return (minter or self.minter()).mint(
            person.user, org=org or self.clinic.org, roles=person.roles, ttl_s=600, mfa=staff
        )

    def minter(self, clock: Clock | None = None) -> TokenMinter:
        """What the app's backend mints with; ``clock`` if its own is wrong."""
        key = self.clinic.folder / "app" / "mint.key"
        return TokenMinter.from_file(key, clock=clock or self.clock)

    async def device(self, handle: str) -> TestDevice:
        """The keys of the person's device, out of its store, for a peer that speaks frames itself."""
        path, key = self.store(handle)
        store_key = StoreKey.of(passphrase=None, key=key)
        storage = await open_store(path, store_key, random_bytes=os.urandom)
        account = await storage.read(lambda tx: tx.account.load())
        await storage.close()
        assert account is not None
        local = parse_local_device(account.local_device.reveal())
        return TestDevice(local.address, local.signing, (), self.clinic.org)

    async def until_acknowledged(self, handle: str) -> None:
        """Wait until the server knows that the person's device has everything."""
        sql = 'SELECT last_seq - acked_seq FROM mailbox WHERE "user" = ?'
        await until(lambda: self.sql(sql, (self.user(handle),)) == [(0,)])

    def sql(
        self, statement: str, values: Sequence[bytes | str | int] = ()
    ) -> list[tuple[bytes | str | int, ...]]:
        """Run one statement on the server's database beside the server, as an operator could."""
        with contextlib.closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            return connection.execute(statement, values).fetchall()

    @asynccontextmanager
    async def client(
        self,
        handle: str,
        *,
        store: Path | None = None,
        key: bytes | None = None,
        user: str | None = None,
        token: AnyTokenProvider | None = None,
        clock: Clock | None = None,
        connect: bool = True,
    ) -> AsyncIterator[Client]:
        """Open the person's device, or the one in ``store``."""
        own_store, own_key = self.store(handle)
        passphrase = self.passphrases.get(handle)
        async with Client.open(
            self.url,
            token=token or (lambda: self.mint(handle)),
            store=store or own_store,
            user=user,
            key=None if passphrase else key or own_key,
            passphrase=passphrase,
            argon2=TESTING,
            clock=clock or self.clock,
            config=QUICK,
            connect=connect,
        ) as client:
            yield client

    def _settings(self) -> ServerSettings:
        return read_settings(
            {},
            {
                "data": str(self.data),
                "audience": AUDIENCE,
                "app_keys": str(self.clinic.server_folder / "app-keys"),
                "policies": str(POLICIES),
                "origin": ORIGIN,
                "port": "0",
            },
        )


class Talk:
    """Two people and an account of what each told the other: all of it arrives, once, in the order sent."""

    def __init__(self, site: Site, one: str = "pat", other: str = "dr-lee") -> None:
        self._site = site
        self._handles = (one, other)
        self.allowed: tuple[type[Event], ...] = (CaughtUp, ClockSkew)  # beside messages
        self._told: dict[UserId, list[str]] = {site.user(one): [], site.user(other): []}
        self._heard: dict[UserId, list[str]] = {site.user(one): [], site.user(other): []}

    async def say(self, speaker: Client, count: int = 1) -> list[Sent]:
        """Send ``count`` more texts to the other person; returns them on their way."""
        (listener,) = self._told.keys() - {speaker.user}
        sent: list[Sent] = []
        for _ in range(count):
            text = f"{speaker.user} {len(self._told[listener]) + 1}"
            sent.append(await speaker.send(listener, text))
            self._told[listener].append(text)  # after it was stored: what was refused does not count
        return sent

    async def hear(self, listener: Client) -> None:
        """Read all that was told to ``listener`` so far."""
        told, heard = self._told[listener.user], self._heard[listener.user]
        async with asyncio.timeout(PATIENCE_S):
            async for event in listener.events():
                self._note(listener, event)
                await event.ack()
                if len(heard) >= len(told):
                    break
        assert heard == told

    async def hear_nothing(self, listener: Client) -> None:
        """Listen until the link is given up. Raises what ended it."""
        async with asyncio.timeout(PATIENCE_S):
            async for event in listener.events():
                assert isinstance(event, self.allowed), event

    async def end(self) -> None:
        """With both on line anew: nothing waits any more, new messages pass, and all stands in order."""
        one, other = self._handles
        async with self._site.client(one) as first, self._site.client(other) as second:
            for speaker, listener in ((first, second), (second, first)):
                await all_accepted(await self.say(speaker, 2))
                await self.hear(listener)
        for handle in self._handles:
            async with self._site.client(handle) as again:
                await self._nothing_more(again)
        assert self._heard == self._told

    async def _nothing_more(self, listener: Client) -> None:
        async with asyncio.timeout(PATIENCE_S):
            async for event in listener.events():
                self._note(listener, event)
                if isinstance(event, CaughtUp):
                    return

    def _note(self, listener: Client, event: Event) -> None:
        if isinstance(event, Message):
            self._heard[listener.user].append(event.text)
        else:
            assert isinstance(event, self.allowed), event


async def all_accepted(sent: list[Sent]) -> None:
    """Wait until the server has each of them."""
    async with asyncio.timeout(PATIENCE_S):
        for each in sent:
            await each.accepted()


def blob(value: bytes | str | int) -> bytes:
    """A column of bytes out of ``Site.sql``."""
    assert isinstance(value, bytes)
    return value
