"""Every route of ``securechat serve`` and the document made of them.

``PYTHONPATH=tests ./dev run -m support.openapi`` writes ``docs/reference/openapi.json`` anew.
"""

import asyncio
import tempfile
from pathlib import Path

from support.identities import RepeatableRandom
from support.server_parts import App, HandClock, shipped_decisions

from audit.handlers import AuditHandlers
from keyserver.accounts import DirectoryAccounts
from keyserver.app import keyserver_routes
from keyserver.handlers import KeyHandlers
from keyserver.service import KeyService
from securechat.cli.audit_routes import AuditRoutes
from securechat.relay.app import make_relay
from securechat.relay.limits import RelayLimits
from securechat.sql.engine import open_database, seal_nothing
from securechat.web.authentication import Authenticator
from securechat.web.authorization import Authorizer
from securechat.web.openapi import openapi_document
from securechat.web.resources import Resources
from securechat.web.routes import AnyRoute
from securechat.web.session_api import SessionApi, session_routes

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "openapi.json"


async def all_routes(folder: Path) -> tuple[AnyRoute, ...]:
    """Return the routes of a server on a database in ``folder`` that nothing is asked of."""
    clock, random_bytes = HandClock(), RepeatableRandom("routes")
    database = open_database(f"sqlite:///{folder / 'server.db'}", before_commit=seal_nothing)
    accounts = DirectoryAccounts(database, clock=clock, random_bytes=random_bytes)
    login = Authenticator(
        tokens=App(clock).verifier, accounts=accounts, clock=clock, random_bytes=random_bytes
    )
    decisions = shipped_decisions()
    authority = Authorizer(decisions, database, clock=clock, random_bytes=random_bytes)
    resources = Resources(decisions.roles)
    relay = make_relay(
        database=database,
        directory=accounts,
        authority=authority,
        login=login,
        resources=resources,
        clock=clock,
        random_bytes=random_bytes,
        node="node-1",
        limits=RelayLimits(),
    )
    keys = KeyHandlers(KeyService(database, accounts, clock), accounts, login, resources, clock)
    sessions = SessionApi(login, authority, clock=clock, resources=resources, ready=_ready)
    log = AuditRoutes(AuditHandlers(database.read), resources, None)
    await database.close()
    return (*session_routes(sessions), *keyserver_routes(keys), *relay.routes(), *log.routes())


def document() -> bytes:
    """Return the OpenAPI document of every route."""
    with tempfile.TemporaryDirectory() as folder:
        routes = asyncio.run(all_routes(Path(folder)))
    return openapi_document(routes, title="SecureChat server", version="v1")


async def _ready() -> None:
    """Ready at once."""


if __name__ == "__main__":
    DOCUMENT.write_bytes(document())
