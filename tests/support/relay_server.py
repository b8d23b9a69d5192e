"""A relay on a real socket and a real database, with accounts in memory and the shipped policies."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from aiohttp import web
from sqlalchemy import Connection
from support.identities import RepeatableRandom
from support.server_parts import ORG, App, HandClock, Journal, MemoryAccounts, shipped_decisions

from audit.event import AuditEvent
from securechat.authz.decision import DecisionPoint
from securechat.authz.model import AccountStatus
from securechat.crypto.keys import SigningKeyPair
from securechat.crypto.secret import SecretBytes
from securechat.ids import OrgId, ProtocolAddress, device_id, user_id
from securechat.ports import FaultHook, no_fault
from securechat.relay.app import MIGRATIONS, RELAY_PROBLEMS, Relay, make_relay
from securechat.relay.limits import RelayLimits
from securechat.relay.ports import Bus
from securechat.sql.engine import Database, open_database
from securechat.sql.migrate import migrate
from securechat.web.accounts import AccountInfo
from securechat.web.app import Services, build_app
from securechat.web.authentication import Authenticator
from securechat.web.authorization import Authorizer
from securechat.web.problems import STANDARD_PROBLEMS
from securechat.web.resources import Resources
from securechat.web.serving import make_runner
from securechat.web.session_api import SessionApi, session_routes

Seal = Callable[[Connection, Sequence[AuditEvent]], object]


@cache
def policies() -> DecisionPoint:
    """The shipped policies, checked once in a run."""
    return shipped_decisions()


@dataclass(frozen=True)
class TestDevice:
    """A device that can prove itself; its keys follow from its name."""

    __test__ = False

    address: ProtocolAddress
    signing: SigningKeyPair
    roles: tuple[str, ...]
    org: OrgId


def make_device(user: str, device: int = 1, *roles: str, org: OrgId = ORG) -> TestDevice:
    """The device of ``user``; a clinician unless ``roles`` say otherwise."""
    address = ProtocolAddress(user_id(user), device_id(device))
    seed = hashlib.sha256(f"{user}/{device}".encode()).digest()
    return TestDevice(address, SigningKeyPair.from_seed(SecretBytes(seed)), roles or ("clinician",), org)


def enroll(accounts: MemoryAccounts, device: TestDevice, status: str = "active") -> None:
    """Make the account and the device known."""
    user = device.address.user
    accounts.accounts[user] = AccountInfo(user, device.org, frozenset(device.roles), AccountStatus(status))
    accounts.keys[device.address] = device.signing.public


@dataclass
class RelayServer:
    """Composition root of a test: what ``serve`` does, without key server and audit log.

    Two servers with the same ``path`` and another ``node`` are two nodes on one database, one at a time as
    its writer.
    """

    path: Path
    clock: HandClock
    decisions: DecisionPoint = field(default_factory=policies)
    seal: Seal = field(default_factory=Journal)
    limits: RelayLimits = field(default_factory=RelayLimits)
    fault: FaultHook = no_fault
    quota_bytes: int | None = None
    accounts: MemoryAccounts = field(default_factory=MemoryAccounts)
    node: str = "node-1"
    bus: Bus | None = None
    database: Database | None = None

    async def start(self, port: int = 0) -> None:
        """Serve on a loopback port."""
        self.app = App(self.clock)
        self._own_database = self.database is None
        if self.database is None:
            self.database = self._open()
        database = self.database
        random_bytes = RepeatableRandom(self.node)
        self.authorizer = Authorizer(self.decisions, database, clock=self.clock, random_bytes=random_bytes)
        self.authenticator = Authenticator(
            tokens=self.app.verifier, accounts=self.accounts, clock=self.clock, random_bytes=random_bytes
        )
        resources = Resources(self.decisions.roles)
        self.relay: Relay = make_relay(
            database=database,
            directory=self.accounts,
            authority=self.authorizer,
            login=self.authenticator,
            resources=resources,
            clock=self.clock,
            random_bytes=random_bytes,
            node=self.node,
            limits=self.limits,
            bus=self.bus,
            fault=self.fault,
        )
        sessions = SessionApi(
            self.authenticator, self.authorizer, clock=self.clock, resources=resources, ready=_ready
        )
        services = Services(
            authenticator=self.authenticator,
            authorizer=self.authorizer,
            clock=self.clock,
            random_bytes=random_bytes,
            problems={**STANDARD_PROBLEMS, **RELAY_PROBLEMS},
        )
        await self.relay.start()
        self._runner = make_runner(build_app((*session_routes(sessions), *self.relay.routes()), services))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.port = self._runner.addresses[0][1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def journal(self) -> Journal:
        assert isinstance(self.seal, Journal)
        return self.seal

    @property
    def db(self) -> Database:
        assert self.database is not None
        return self.database

    async def stop(self) -> None:
        """Stop in good order."""
        await self.relay.stop()
        await self._runner.cleanup()
        if self._own_database:
            await self.db.close()
            self.database = None

    def _open(self) -> Database:
        database = open_database(
            f"sqlite:///{self.path}",
            before_commit=self.seal,
            fault=self.fault,
            quota_bytes=self.quota_bytes,
        )
        migrate(database.engine, [MIGRATIONS])
        return database


async def _ready() -> None:
    return None
