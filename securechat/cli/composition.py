"""The composition root of one server process: relay, key server and audit log on one port and one database.

Read from top to bottom: settings in, a running application out. Nothing here decides anything.
"""

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

import audit
import keyserver
from audit.catalogue import EventType
from audit.event import Actor, ActorKind, AuditEvent, Outcome, PolicyRef, uuid7
from audit.handlers import AuditHandlers
from audit.store import AuditLog
from keyserver.accounts import DirectoryAccounts
from keyserver.app import KEYSERVER_PROBLEMS, keyserver_routes
from keyserver.handlers import KeyHandlers
from keyserver.service import KeyService
from securechat.authz.decision import DecisionPoint
from securechat.cli.audit_routes import AuditRoutes
from securechat.cli.data_folder import DataFolder
from securechat.cli.policy_files import load_tree
from securechat.cli.readiness import Readiness
from securechat.errors import SettingsError
from securechat.ports import FaultHook
from securechat.relay.app import MIGRATIONS as RELAY_MIGRATIONS
from securechat.relay.app import RELAY_PROBLEMS, Relay, make_relay
from securechat.relay.limits import RelayLimits
from securechat.relay.mailbox import Quota
from securechat.settings import ServerSettings
from securechat.sql.engine import Database, Tx, open_database
from securechat.sql.migrate import migrate
from securechat.tokens import TokenVerifier, parse_app_keys
from securechat.web.app import Services, build_app
from securechat.web.authentication import Authenticator
from securechat.web.authorization import Authorizer
from securechat.web.problems import STANDARD_PROBLEMS
from securechat.web.resources import Resources
from securechat.web.routes import AnyRoute
from securechat.web.session_api import SessionApi, session_routes

NODE: Final = "node-1"
MIGRATIONS: Final = (
    Path(audit.__path__[0]) / "migrations",
    Path(keyserver.__path__[0]) / "migrations",
    RELAY_MIGRATIONS,
)


def now_ms() -> int:
    """The system's clock, in milliseconds."""
    return time.time_ns() // 1_000_000


def now_us() -> int:
    """The system's clock, in microseconds."""
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class Server:
    """What the root runs: the application, the verifier key of its audit log, the hash of its policy set."""

    app: web.Application
    audit_key: str
    policy_set: str


@asynccontextmanager
async def open_server(
    settings: ServerSettings, data: DataFolder, fault: FaultHook, *, restored: bool = False
) -> AsyncIterator[Server]:
    """Check policies, keys and the end of the audit log, open the database, and build the application.

    ``restored`` says that the database comes from a backup: numbers that were given out since must not be
    taken for old, so every mailbox begins anew and every device asks again.
    Raises PolicyError, SettingsError, StoreError and InconsistentLogError before anything is served.
    """
    decisions = DecisionPoint.from_tree(load_tree(settings.policies))
    tokens = TokenVerifier(parse_app_keys(_read(settings.app_keys)), settings.audience, now_ms)
    signer = data.signer(settings.origin)
    log = AuditLog(settings.origin, signer, now_us, node=NODE)
    database = open_database(data.database_url, before_commit=log.seal, fault=fault)
    try:
        migrate(database.engine, MIGRATIONS)
        await database.write(lambda tx: _begin(tx, log, decisions))
        shell = _shell(decisions, tokens, database)
        relay = _relay(settings, shell, fault)
        if restored:
            await database.write(lambda tx: _after_restore(tx, relay, decisions))
        await relay.start()
        try:
            ready = Readiness(database, log, lambda: _service_event(EventType.SERVICE_START, decisions))
            app = build_app(_routes(settings, shell, relay, ready), _services(shell))
            app.on_shutdown.append(_closing(relay))
            yield Server(app, signer.key.encode(), decisions.policy_set)
        finally:
            await relay.stop()
        await database.write(lambda tx: tx.record(_service_event(EventType.SERVICE_STOP, decisions)))
    finally:
        await database.close()


@dataclass(frozen=True, slots=True)
class _Shell:
    """What every part of the process shares."""

    database: Database
    accounts: DirectoryAccounts
    authenticator: Authenticator
    authorizer: Authorizer
    resources: Resources


def _shell(decisions: DecisionPoint, tokens: TokenVerifier, database: Database) -> _Shell:
    random_bytes = secrets.token_bytes
    accounts = DirectoryAccounts(database, clock=now_ms, random_bytes=random_bytes)
    shell = _Shell(
        database=database,
        accounts=accounts,
        authenticator=Authenticator(
            tokens=tokens, accounts=accounts, clock=now_ms, random_bytes=random_bytes
        ),
        authorizer=Authorizer(decisions, database, clock=now_ms, random_bytes=random_bytes),
        resources=Resources(decisions.roles),
    )
    accounts.listen(shell.authenticator)
    return shell


def _relay(settings: ServerSettings, shell: _Shell, fault: FaultHook) -> Relay:
    quota = Quota(
        messages=settings.mailbox_messages,
        bytes=settings.mailbox_bytes,
        ttl_days=settings.mailbox_days,
    )
    relay = make_relay(
        database=shell.database,
        directory=shell.accounts,
        authority=shell.authorizer,
        login=shell.authenticator,
        resources=shell.resources,
        clock=now_ms,
        random_bytes=secrets.token_bytes,
        node=NODE,
        limits=RelayLimits(quota=quota),
        fault=fault,
    )
    shell.accounts.listen(relay)
    return relay


def _closing(relay: Relay) -> Callable[[web.Application], Awaitable[None]]:
    async def close(app: web.Application) -> None:
        """Close the connections at once: the server would wait for them to end by themselves."""
        await relay.stop()

    return close


def _routes(settings: ServerSettings, shell: _Shell, relay: Relay, ready: Readiness) -> tuple[AnyRoute, ...]:
    sessions = SessionApi(
        shell.authenticator, shell.authorizer, clock=now_ms, resources=shell.resources, ready=ready.check
    )
    service = KeyService(shell.database, shell.accounts, now_ms)
    keys = KeyHandlers(service, shell.accounts, shell.authenticator, shell.resources, now_ms)
    log = AuditRoutes(AuditHandlers(shell.database.read), shell.resources, settings.operator_org)
    return (*session_routes(sessions), *keyserver_routes(keys), *relay.routes(), *log.routes())


def _services(shell: _Shell) -> Services:
    return Services(
        authenticator=shell.authenticator,
        authorizer=shell.authorizer,
        clock=now_ms,
        random_bytes=secrets.token_bytes,
        problems={**STANDARD_PROBLEMS, **KEYSERVER_PROBLEMS, **RELAY_PROBLEMS},
    )


def _begin(tx: Tx, log: AuditLog, decisions: DecisionPoint) -> None:
    """Check the end of the log and record that this process serves, under which policy set."""
    log.open_log(tx.connection)
    tx.record(_service_event(EventType.SERVICE_START, decisions))


def _after_restore(tx: Tx, relay: Relay, decisions: DecisionPoint) -> None:
    relay.renew_epochs(tx)
    tx.record(_service_event(EventType.BACKUP_RESTORED, decisions))


def _service_event(kind: EventType, decisions: DecisionPoint) -> AuditEvent:
    return AuditEvent(
        id=uuid7(now_ms(), secrets.token_bytes),
        type=kind,
        outcome=Outcome.OK,
        actor=Actor(id=NODE, kind=ActorKind.SYSTEM),
        policy=PolicyRef(decisions.policy_set, ()),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the file of app keys cannot be read: {path}") from error
