"""A key server on a real socket and a real database, with the shipped policies and a real audit log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from support.identities import Person, RepeatableRandom
from support.server_parts import App, HandClock, answer, b64, shipped_decisions

import audit
import keyserver
from audit.checkpoint import new_signer_text, parse_signer
from audit.reader import LogReader, Order, Query
from audit.source import connect_read_only, read_log
from audit.store import AuditLog
from audit.verify import verify
from keyserver.accounts import DirectoryAccounts
from keyserver.app import KEYSERVER_PROBLEMS, keyserver_routes
from keyserver.handlers import ClaimLimits, KeyHandlers
from keyserver.service import KeyService
from securechat.base64url import decode_base64url
from securechat.sql.engine import Database, open_database
from securechat.sql.migrate import migrate
from securechat.web.app import Services, build_app
from securechat.web.authentication import Authenticator
from securechat.web.authorization import Authorizer
from securechat.web.problems import STANDARD_PROBLEMS
from securechat.web.resources import Resources
from securechat.web.serving import make_runner
from securechat.web.session_api import SessionApi, session_routes
from securechat.wire.auth import ChallengePurpose
from securechat.wire.prekeys import encode_upload

ORIGIN = "test.example/audit"
MIGRATIONS = [Path(package.__path__[0]) / "migrations" for package in (audit, keyserver)]


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, read to its end."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def code(self) -> str:
        """The problem's code; empty for a success."""
        return str(self.body.get("code", ""))


@dataclass(frozen=True)
class KeyServer:
    """The running server, and a client that speaks to it as any app could."""

    url: str
    path: Path
    http: aiohttp.ClientSession
    database: Database
    accounts: DirectoryAccounts
    clock: HandClock
    app: App

    async def call(
        self, method: str, path: str, body: object = None, *, authorization: str = "", key: str = ""
    ) -> Reply:
        """Send one request."""
        headers = {"Authorization": authorization} if authorization else {}
        if key:
            headers["Idempotency-Key"] = key
        async with self.http.request(method, self.url + path, json=body, headers=headers) as response:
            content = await response.json() if response.content_length else {}
            return Reply(response.status, content, dict(response.headers))

    async def proof(self, purpose: ChallengePurpose, person: Person, token: str) -> dict[str, str]:
        """Get a challenge and answer it as the device of ``person``."""
        challenge = (await self.call("POST", "/v1/challenges")).body["challenge"]
        signature = answer(purpose, person, decode_base64url(challenge), token)
        return {"challenge": challenge, "signature": b64(signature)}

    async def enroll(
        self, person: Person, token: str, *, device_list: bytes | None = None, signer: Person | None = None
    ) -> Reply:
        """Put a device list in force, proved by the device of ``signer``."""
        body = {
            "device_list": b64(device_list or person.device_list.encode()),
            "device": person.local.address.device,
            **await self.proof(ChallengePurpose.ENROLLMENT, signer or person, token),
        }
        return await self.call("PUT", "/v1/devices", body, authorization=f"Bearer {token}")

    async def log_in(self, person: Person, token: str, *, signer: Person | None = None) -> Reply:
        """Open a session of the device of ``person``, proved by the device of ``signer``."""
        body = {
            "token": token,
            "user": person.local.address.user,
            "device": person.local.address.device,
            **await self.proof(ChallengePurpose.SESSION, signer or person, token),
        }
        return await self.call("POST", "/v1/sessions", body)

    async def join(self, person: Person, *roles: str, org: str = "org-1") -> str:
        """Enrol, open a session and publish; return the Authorization header."""
        token = self.app.token(person.local.address.user, *roles, org=org)
        enrolled = await self.enroll(person, token)
        assert enrolled.status in (200, 201), enrolled
        opened = await self.log_in(person, token)
        assert opened.status == 201, opened
        session = f"Session {opened.body['session']}"
        published = await self.publish(person, session)
        assert published.status == 200, published
        return session

    async def publish(self, person: Person, session: str) -> Reply:
        """Publish the prekeys of ``person``."""
        body = {"upload": b64(encode_upload(person.upload))}
        return await self.call("PUT", "/v1/prekeys", body, authorization=session)

    async def claim(self, target: Person, session: str, *, key: str = "") -> Reply:
        """Claim a bundle of the device of ``target``."""
        address = target.local.address
        path = f"/v1/users/{address.user}/devices/{address.device}/bundle"
        return await self.call("POST", path, authorization=session, key=key)

    async def told(self) -> list[tuple[str, str, str]]:
        """Type, outcome and reason of every audit entry, in order."""
        query = Query(order=Order.OLDEST)
        page = await self.database.read(
            lambda connection: LogReader(connection).query(query, cursor=None, limit=1000)
        )
        events = [item.entry.event for item in page.items]
        return [(event.type.value, event.outcome.value, event.reason or "") for event in events]

    def audit_is_intact(self) -> bool:
        """Whether an auditor finds nothing wrong with the log."""
        with connect_read_only(self.path) as connection:
            return verify(read_log(connection)).intact


@asynccontextmanager
async def running_key_server(
    folder: Path, clock: HandClock, *, limits: ClaimLimits | None = None, quota_bytes: int | None = None
) -> AsyncIterator[KeyServer]:
    """Run a key server on the database in ``folder`` and a free port."""
    random_bytes = RepeatableRandom(f"key server {clock()}")
    log = AuditLog(
        ORIGIN, parse_signer(new_signer_text(ORIGIN, RepeatableRandom("log"))), _us(clock), "node-1"
    )
    path = folder / "server.db"
    database = open_database(f"sqlite:///{path}", before_commit=log.seal, quota_bytes=quota_bytes)
    migrate(database.engine, MIGRATIONS)
    await database.write(lambda tx: log.open_log(tx.connection))
    app = App(clock)
    accounts = DirectoryAccounts(database, clock=clock, random_bytes=random_bytes)
    authenticator = Authenticator(
        tokens=app.verifier, accounts=accounts, clock=clock, random_bytes=random_bytes
    )
    accounts.listen(authenticator)
    decisions = shipped_decisions()
    authorizer = Authorizer(decisions, database, clock=clock, random_bytes=random_bytes)
    resources = Resources(decisions.roles)
    service = KeyService(database, accounts, clock)
    keys = KeyHandlers(service, accounts, authenticator, resources, clock, limits=limits)
    sessions = SessionApi(authenticator, authorizer, clock=clock, resources=resources, ready=_ready)
    problems = {**STANDARD_PROBLEMS, **KEYSERVER_PROBLEMS}
    services = Services(authenticator, authorizer, clock, random_bytes, problems)
    runner = make_runner(build_app((*session_routes(sessions), *keyserver_routes(keys)), services))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession() as http:
            yield KeyServer(f"http://127.0.0.1:{port}", path, http, database, accounts, clock, app)
    finally:
        await runner.cleanup()
        await database.close()


def _us(clock: HandClock) -> Any:
    return lambda: clock() * 1000


async def _ready() -> None:
    """Ready at once."""
