"""Marked plaintexts, names and keys: the server must not hold any of them, nor anybody's log or error.

A whole run against a real server process. Afterwards its files, its log, its answers to other people and its
memory are searched for texts, names and every private value that the clients drew; its files, log and answers
also for tokens. What the clients logged, raised or would print is searched for all of it.
"""

import logging
import secrets
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from support.memory import found_in_memory
from support.server_process import process_environment

from securechat.cli.audit_api import ask_audit
from securechat.client import Client, Event, Message
from securechat.crypto.passphrase import TESTING
from securechat.errors import SecureChatError
from securechat.tokens import TokenMinter, generate_mint_key

MARK = "CANARY" + secrets.token_hex(12)
TEXTS = [f"{MARK} hemoglobin {number} \U0001fa78" for number in range(12)]
NAME = "Name" + secrets.token_hex(12)  # a mistaken app gives it as an id: it reaches the server in a path
HOSTILE = "Hostile" + secrets.token_hex(12)  # in what an attacker sends
PASSPHRASE = f"pass {MARK}"
PRIVATE_LENGTHS = (32, 64)  # bytes: seeds of X25519, Ed25519 and ML-KEM keys; nonces and ids are shorter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process in /proc")


@dataclass
class Secrets:
    """What must not be found."""

    tokens: list[str] = field(default_factory=list)
    drawn: list[bytes] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)

    def random_bytes(self, count: int) -> bytes:
        """The system's generator, with a record of what may be a private key."""
        raw = secrets.token_bytes(count)
        if count in PRIVATE_LENGTHS:
            self.drawn.append(raw)
        return raw

    def in_files(self) -> list[bytes]:
        """What no file, log line or answer may hold, in the forms in which it might slip out."""
        keys = [form for raw in self.drawn for form in (raw, raw.hex().encode())]
        return [
            MARK.encode(),
            NAME.encode(),
            HOSTILE.encode(),
            *keys,
            *(token.encode() for token in self.tokens),
        ]


@dataclass
class Site:
    """A server process without any app's or person's secrets."""

    folder: Path
    url: str
    process: "subprocess.Popen[str]"
    minter: TokenMinter
    secrets: Secrets

    @asynccontextmanager
    async def client(self, user: str, role: str) -> AsyncIterator[Client]:
        """Open the device of ``user``."""

        def token() -> str:
            minted = self.minter.mint(user, org="lakeside", roles=[role], mfa=True)
            self.secrets.tokens.append(minted)
            return minted

        async with Client.open(
            self.url,
            token=token,
            store=self.folder / "devices" / f"{user}.db",
            passphrase=PASSPHRASE,
            random_bytes=self.secrets.random_bytes,
            argon2=TESTING,
        ) as client:
            yield client


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A running server and the app's key that it knows."""
    (tmp_path / "devices").mkdir()
    line = generate_mint_key(tmp_path / "mint.key", app_id="app", kid="k1", audience="canary")
    (tmp_path / "app-keys").write_text(line + "\n")
    command = ["serve", "--data", "server", "--app-keys", "app-keys", "--audience", "canary", "--port", "0"]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "securechat", *command],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=process_environment(None, {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}),
        )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[1]
        yield Site(tmp_path, url, process, TokenMinter.from_file(tmp_path / "mint.key"), Secrets())
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


async def test_the_server_and_the_logs_hold_no_secret(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with site.client("u-ana", "patient") as ana, site.client("u-lee", "clinician") as lee:
        await _talk(ana, lee, site.secrets)
        await _talk(lee, ana, site.secrets)
        await _provoke_errors(site, ana)
        await _other_people_look(site, int(lee.device))
        held = found_in_memory(site.process.pid, [MARK.encode(), *site.secrets.drawn, b"u-ana", b"u-lee"])
    assert held == {b"u-ana", b"u-lee"}  # the ids show that the search finds what is there

    printed = "\n".join([*site.secrets.printed, caplog.text]).encode()
    log = (site.folder / "server.log").read_bytes()
    assert b'"event": "request"' in log
    files = [path.read_bytes() for path in (site.folder / "server").rglob("*") if path.is_file()]
    assert any(b"u-ana" in raw for raw in files)
    for needle in site.secrets.in_files():
        for where in (printed, log, *files, *site.secrets.answers):
            assert needle not in where
    assert len(site.secrets.drawn) > 400  # two pools of prekeys at least


async def _talk(sender: Client, receiver: Client, found: Secrets) -> None:
    """Send the marked texts and read them, printing everything that an app might print."""
    for text in TEXTS:
        sent = await sender.send(receiver.user, text, idempotency_key=f"{sender.user} {text}")
        found.printed.append(repr(sent))
    seen: list[Event] = []
    async for event in receiver.events():
        found.printed.append(f"{event!r} {event}")
        await event.ack()
        if isinstance(event, Message):
            seen.append(event)
        if len(seen) == len(TEXTS):
            break
    assert [event.text for event in seen if isinstance(event, Message)] == TEXTS
    found.printed.append(f"{sender!r} {vars(sender)!r} {await receiver.direct(sender.user)!r}")


async def _provoke_errors(site: Site, ana: Client) -> None:
    """Make every kind of mistake with marked values."""
    found = site.secrets
    await _expect_error(found, ana.send("u-lee", MARK * 9000))
    await _expect_error(found, ana.send(NAME, MARK))
    await _expect_error(found, ana.send(f"{NAME}!", MARK))
    await _expect_error(found, ana.direct(NAME))
    await _expect_error(found, ana.request("GET", "/v1/audit/entries", query={"actor": NAME}))
    await _expect_error(found, _open_again(site, PASSPHRASE))
    await _expect_error(found, _open_again(site, f"wrong {PASSPHRASE}"))
    token = site.minter.mint("u-eve", org="lakeside", roles=["patient"])
    found.tokens.append(token)
    async with aiohttp.ClientSession(site.url) as session:
        for path in (
            "/v1/devices",
            "/v1/messages",
            f"/v1/users/{NAME}/devices/1/bundle",
            f"/{NAME}?{HOSTILE}",
        ):
            for headers in (
                {"Authorization": f"Bearer {token}"},
                {"Authorization": f"Session {HOSTILE}"},
                {},
            ):
                async with session.put(
                    path, json={HOSTILE: NAME}, headers={**headers, "X-Request-Id": HOSTILE}
                ) as put:
                    found.answers.append(await put.read())
                async with session.post(path, data=f"{HOSTILE}\x00{token}", headers=headers) as post:
                    found.answers.append(await post.read())


async def _open_again(site: Site, passphrase: str) -> None:
    store = site.folder / "devices" / "u-ana.db"
    async with Client.open(site.url, token=HOSTILE, store=store, passphrase=passphrase, argon2=TESTING):
        raise AssertionError("a store that is open was opened again")


async def _expect_error(found: Secrets, attempt: object) -> None:
    """Await ``attempt``, which must fail, and keep everything that the failure would print."""
    try:
        await attempt  # type: ignore[misc]  # coroutines of several results
    except SecureChatError as error:
        found.printed.append(f"{error!r} {error} {error.args!r}")
        found.printed.append("".join(traceback.format_exception(error)))
    else:
        raise AssertionError("the mistake was not refused")


async def _other_people_look(site: Site, device: int) -> None:
    """What an officer and a colleague get to see of them."""
    async with site.client("u-officer", "compliance-officer") as officer:
        rows = await ask_audit(officer, limit=1000)
        assert len(rows) > 10
        assert (
            await ask_audit(officer, limit=10, action="auth.login-failed") == []
        )  # not the operator's officer
        site.secrets.answers.append(
            await officer.request("GET", "/v1/audit/entries", query={"limit": "1000"})
        )
        site.secrets.answers.append(await officer.request("GET", "/v1/audit/checkpoint"))
    async with site.client("u-kim", "nurse") as kim:
        for user in ("u-ana", "u-lee"):
            site.secrets.answers.append(await kim.request("GET", f"/v1/users/{user}/devices"))
        path = f"/v1/users/u-lee/devices/{device}/bundle"
        site.secrets.answers.append(await kim.request("POST", path, body=b"{}"))
