"""The WebSocket of the relay: challenge, proof, the mailbox, then ``Connection``."""

import asyncio

from aiohttp import web

from audit.errors import AuditError
from securechat.authz.model import Action
from securechat.errors import AccessDeniedError, AuthenticationError, SecureChatError, StoreError
from securechat.ids import DeviceId, ProtocolAddress, UserId
from securechat.relay.connection import Connection
from securechat.relay.errors import ProtocolViolationError
from securechat.relay.mailbox import Mailbox
from securechat.relay.permits import DevicePermit
from securechat.relay.ports import Wakeup
from securechat.relay.services import RelayServices
from securechat.relay.socket import Socket, open_socket
from securechat.sql.engine import Tx
from securechat.web.caller import Caller
from securechat.web.errors import OverloadedError
from securechat.web.routes import Incoming
from securechat.wire.auth import ChallengePurpose
from securechat.wire.frames import Authenticate, Challenge, CloseCode, Error, Ready


class ConnectHandler:
    """``GET /v1/connect``."""

    def __init__(self, services: RelayServices) -> None:
        self._services = services

    async def connect(self, incoming: Incoming) -> web.StreamResponse:
        """Serve one device until its connection ends."""
        services = self._services
        socket = await open_socket(incoming.request, services.codec, services.limits)
        services.connections.enter(socket)
        try:
            await self._run(socket, incoming)
        finally:
            services.connections.exit(socket)
        return socket.response

    async def _run(self, socket: Socket, incoming: Incoming) -> None:
        services = self._services
        try:
            async with asyncio.timeout(services.limits.login_s):
                caller, address = await self._log_in(socket, incoming)
                permit = await services.permits.own_mailbox(
                    caller, address, Action.MESSAGE_RECEIVE, incoming.request_id
                )
                acks = await services.permits.own_mailbox(caller, address, Action.MESSAGE_ACK)
            mailbox, before = await services.database.write(
                lambda tx: self._take_mailbox(tx, address, permit)
            )
        except (SecureChatError, AuditError, TimeoutError) as error:
            _refuse(socket, error)
        else:
            await self._serve(socket, caller, mailbox, before, acks)
        await socket.finish()

    async def _log_in(self, socket: Socket, incoming: Incoming) -> tuple[Caller, ProtocolAddress]:
        """Return who answered the challenge. Raises AuthenticationError, on record."""
        services = self._services
        challenge = services.login.new_challenge()
        socket.send(Challenge(challenge, services.clock()))
        frame = await socket.receive()
        if not isinstance(frame, Authenticate):
            raise ProtocolViolationError(CloseCode.UNAUTHENTICATED)
        address = ProtocolAddress(UserId(frame.user), DeviceId(frame.device))
        try:
            caller = await services.login.authenticate(
                ChallengePurpose.CONNECTION, frame.token, address, challenge, frame.signature
            )
        except AuthenticationError as error:
            await services.authority.login_failed(
                error, source=incoming.source, request_id=incoming.request_id
            )
            raise
        return caller, address

    def _take_mailbox(
        self, tx: Tx, address: ProtocolAddress, permit: DevicePermit
    ) -> tuple[Mailbox, str | None]:
        """Open the mailbox, fence older connections and put the reading on record: one transaction."""
        tx.record(permit.event())
        return self._services.store.connect(tx, address, self._services.node)

    async def _serve(
        self, socket: Socket, caller: Caller, mailbox: Mailbox, before: str | None, acks: DevicePermit
    ) -> None:
        services = self._services
        connection = Connection(services, socket, caller, mailbox, acks)
        services.connections.add(mailbox.id, connection)  # INVARIANT: no await since the commit's answer
        if before not in (None, services.node):
            services.bus.publish(before, [Wakeup(mailbox.id, mailbox.last_seq, mailbox.fence)])
        socket.send(Ready(mailbox.epoch, mailbox.acked_seq, caller.expires_ms, services.clock()))
        try:
            await self._check_again(connection, caller)
            await connection.run()
        finally:
            services.connections.remove(mailbox.id, connection)
            await self._part(connection, mailbox)

    async def _check_again(self, connection: Connection, caller: Caller) -> None:
        """End a connection whose permission was withdrawn before it was known here."""
        try:
            await self._services.permits.own_mailbox(caller, connection.address, Action.MESSAGE_RECEIVE)
        except (SecureChatError, AuditError) as error:
            connection.close(_close_code(error))

    async def _part(self, connection: Connection, mailbox: Mailbox) -> None:
        await connection.leave()
        try:
            await self._services.database.write(
                lambda tx: self._services.store.disconnect(tx, mailbox.id, mailbox.fence)
            )
        except StoreError:
            return  # the presence is stale then, which costs a wake-up that nobody hears


def _refuse(socket: Socket, error: Exception) -> None:
    """Close a connection that did not come about; the Error frame names the reason where one may be told."""
    if isinstance(error, SecureChatError | AuditError) and not isinstance(error, ProtocolViolationError):
        code = _close_code(error)
        retryable = code in (CloseCode.FLOOD, CloseCode.STORAGE_FAILURE)
        socket.send(Error(error.code, None, retryable, 0))
    socket.close(_close_code(error))


def _close_code(error: Exception) -> CloseCode:
    match error:
        case ProtocolViolationError():
            return error.close_code
        case AuthenticationError() | TimeoutError():
            return CloseCode.UNAUTHENTICATED
        case AccessDeniedError():
            return CloseCode.DENIED
        case OverloadedError():
            return CloseCode.FLOOD
        case _:
            return CloseCode.STORAGE_FAILURE
