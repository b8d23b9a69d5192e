"""Puts a relay together: its parts, its routes, and what it does by itself while it runs."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Final

from audit.errors import AuditError
from securechat.authz.model import Action
from securechat.errors import StoreError
from securechat.ids import DeviceId, UserId
from securechat.logs import get_logger
from securechat.ports import Clock, FaultHook, RandomBytes, no_fault
from securechat.relay.acceptance import Rules
from securechat.relay.bus import InProcessBus
from securechat.relay.connections import Connections
from securechat.relay.errors import (
    AckBeyondEndError,
    MailboxFullError,
    MessageTooLargeError,
    StaleEpochError,
    UnknownRecipientError,
)
from securechat.relay.handlers import ConnectHandler
from securechat.relay.intake import Intake
from securechat.relay.limits import RelayLimits
from securechat.relay.permits import Permits
from securechat.relay.ports import Authority, Bus, DeviceLogin, Directory
from securechat.relay.rest import (
    MAX_SEND_BODY,
    AcceptedMessage,
    Acknowledged,
    MessagePage,
    MessagesApi,
    NewAck,
    NewMessage,
)
from securechat.relay.retention import Retention, Sweep
from securechat.relay.services import RelayServices
from securechat.relay.store import MailboxStore, present
from securechat.sql.engine import Database, Tx
from securechat.web.problems import Answer, ProblemTable
from securechat.web.resources import Resources
from securechat.web.routes import AnyRoute, Auth, Docs, InBandRoute, RecordedBy, Route
from securechat.wire.frames import FrameCodec

MIGRATIONS: Final = Path(__file__).parent / "migrations"

RELAY_PROBLEMS: Final[ProblemTable] = MappingProxyType(
    {
        UnknownRecipientError: Answer(HTTPStatus.NOT_FOUND),
        MessageTooLargeError: Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        MailboxFullError: Answer(HTTPStatus.INSUFFICIENT_STORAGE, retryable=True),
        StaleEpochError: Answer(HTTPStatus.CONFLICT),
        AckBeyondEndError: Answer(HTTPStatus.CONFLICT),
    }
)


class Relay:
    """A relay of one node. ``start`` before the first request, ``stop`` before the database closes."""

    def __init__(self, services: RelayServices, messages: MessagesApi, retention: Retention) -> None:
        self._services = services
        self._messages = messages
        self._retention = retention
        self._tasks: list[asyncio.Task[None]] = []
        self._unsubscribe: Callable[[], None] | None = None
        self._logger = get_logger("relay")

    @property
    def connections(self) -> int:
        """How many devices are connected."""
        return len(self._services.connections)

    def routes(self) -> tuple[AnyRoute, ...]:
        """Return the routes for ``securechat.web.app.build_app``; their problems are ``RELAY_PROBLEMS``."""
        messages = self._messages
        return (
            InBandRoute(
                "GET",
                "/v1/connect",
                ConnectHandler(self._services).connect,
                Action.MESSAGE_RECEIVE,
                Docs(summary="Connect a device: WebSocket", status=101, errors=(400,)),
            ),
            Route(
                "POST",
                "/v1/messages",
                messages.send,
                Action.MESSAGE_SEND,
                Auth.SESSION,
                messages.recipient,
                RecordedBy.HANDLER,
                Docs(
                    summary="Send one sealed message to one device",
                    body=NewMessage,
                    answer=AcceptedMessage,
                    status=201,
                    errors=(404, 413, 507),
                ),
                max_body_bytes=MAX_SEND_BODY,
                hidden_as=UnknownRecipientError,
            ),
            Route(
                "GET",
                "/v1/messages",
                messages.fetch,
                Action.MESSAGE_RECEIVE,
                Auth.SESSION,
                messages.own_mailbox,
                RecordedBy.HANDLER,
                Docs(summary="Read the waiting messages", answer=MessagePage, query=("after", "limit")),
            ),
            Route(
                "POST",
                "/v1/messages/ack",
                messages.acknowledge,
                Action.MESSAGE_ACK,
                Auth.SESSION,
                messages.own_mailbox,
                RecordedBy.HANDLER,
                Docs(summary="Remove what is stored", body=NewAck, answer=Acknowledged, errors=(409,)),
            ),
        )

    def access_ended(self, user: UserId, device: DeviceId | None) -> None:
        """Close the connections of a removed device or a suspended account (web.accounts.AccessListener)."""
        self._services.connections.access_ended(user, device)

    async def start(self) -> None:
        """Begin to look after connections and mailboxes. Raises StoreError."""
        services, limits = self._services, self._services.limits
        await services.database.write(lambda tx: services.store.clear_presence(tx, services.node))
        self._unsubscribe = services.bus.subscribe(services.node, services.connections.woken)
        for seconds, act in (
            (limits.tick_s, self._tick),
            (limits.poll_s, self._poll),
            (limits.sweep_s, self.sweep),
        ):
            self._tasks.append(asyncio.create_task(self._repeat(seconds, act)))

    async def stop(self) -> None:
        """Close every connection and wait for what was taken to be settled. May be called twice.

        Belongs into the application's ``on_shutdown``: the server waits for open connections otherwise.
        """
        self._services.connections.close_all()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        await self._services.intake.drain()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def renew_epochs(self, tx: Tx) -> None:
        """Begin new numbers in every mailbox, once, after the database was restored from a backup."""
        self._services.store.renew_epochs(tx)

    async def sweep(self) -> None:
        """Remove what has expired, in short transactions. Raises StoreError."""
        more = True
        while more:
            more = (await self._services.database.write(self._sweep_step)).more

    def _sweep_step(self, tx: Tx) -> Sweep:
        return self._retention.step(tx, self._services.clock())

    async def _tick(self) -> None:
        self._services.connections.tick(self._services.clock())

    async def _poll(self) -> None:
        if self.connections:
            node = self._services.node
            self._services.connections.woken(
                await self._services.database.read(lambda connection: present(connection, node))
            )

    async def _repeat(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await act()
            except (StoreError, AuditError) as error:
                self._logger.warning("relay.upkeep_failed", exc_info=error)


def make_relay(
    *,
    database: Database,
    directory: Directory,
    authority: Authority,
    login: DeviceLogin,
    resources: Resources,
    clock: Clock,
    random_bytes: RandomBytes,
    node: str = "node-1",
    limits: RelayLimits | None = None,
    bus: Bus | None = None,
    fault: FaultHook = no_fault,
) -> Relay:
    """Return a relay whose tables ``securechat.sql.migrate`` made from ``MIGRATIONS``."""
    limits = limits or RelayLimits()
    bus = bus or InProcessBus()
    store = MailboxStore(random_bytes)
    connections = Connections(node, bus)
    rules = Rules(store, limits.quota, fault)
    services = RelayServices(
        node=node,
        database=database,
        store=store,
        intake=Intake(database, rules, clock=clock, settle=connections.settle),
        connections=connections,
        permits=Permits(directory, authority, login, resources),
        authority=authority,
        login=login,
        bus=bus,
        codec=FrameCodec(),
        limits=limits,
        clock=clock,
        fault=fault,
    )
    retention = Retention(store, limits.quota, node=node, random_bytes=random_bytes)
    return Relay(services, MessagesApi(services, directory, resources), retention)
