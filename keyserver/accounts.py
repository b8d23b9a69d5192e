"""The accounts as authentication sees them: read once, then kept while nothing changes them."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from audit.catalogue import EventType
from audit.event import Actor, ActorKind, AuditEvent, ObjectRef, Outcome, uuid7
from keyserver.store import AccountRow, load_account, set_roles, set_status, signing_keys
from securechat.authz.model import AccountStatus
from securechat.crypto.keys import VerifyKey
from securechat.ids import DeviceId, ProtocolAddress, UserId
from securechat.ports import Clock, RandomBytes
from securechat.sql.engine import Database, Tx
from securechat.tokens import Claims
from securechat.web.accounts import AccessListener, AccountInfo, DeviceInfo

MAX_CACHED: Final = 50_000  # accounts, about 1 KiB each


@dataclass(frozen=True, slots=True)
class _Account:
    info: AccountInfo
    devices: Mapping[DeviceId, VerifyKey]


class DirectoryAccounts:
    """``securechat.web.accounts.Accounts`` on the key server's tables. Used from one event loop.

    INVARIANT: an account is kept only if no change of it was committed since its read began, and every change
    made through this process drops it before anybody hears of the change.
    """

    def __init__(
        self, database: Database, *, clock: Clock, random_bytes: RandomBytes, max_cached: int = MAX_CACHED
    ) -> None:
        self._database = database
        self._clock = clock
        self._random_bytes = random_bytes
        self._max_cached = max_cached
        self._cache: OrderedDict[UserId, _Account] = OrderedDict()
        self._changes = 0
        self._listeners: list[AccessListener] = []

    def listen(self, listener: AccessListener) -> None:
        """Tell ``listener`` whenever access ends."""
        self._listeners.append(listener)

    async def account(self, user: UserId) -> AccountInfo | None:
        """See Accounts."""
        found = await self._find(user)
        return found.info if found else None

    async def device(self, address: ProtocolAddress) -> DeviceInfo | None:
        """See Accounts."""
        found = await self._find(address.user)
        signing = found.devices.get(address.device) if found else None
        return DeviceInfo(address, signing) if signing else None

    async def devices(self, user: UserId) -> tuple[DeviceId, ...]:
        """See Accounts."""
        found = await self._find(user)
        return tuple(found.devices) if found else ()

    async def take_roles(self, claims: Claims) -> None:
        """See Accounts. Recorded as ``role.assign`` and ``role.revoke`` by the app that minted the token."""
        given = self._role_event(EventType.ROLE_ASSIGN, claims)
        taken = self._role_event(EventType.ROLE_REVOKE, claims)

        def work(tx: Tx) -> None:
            row = load_account(tx.connection, claims.user)
            if row is None or claims.issued_ms <= row.info.roles_issued_ms:
                return
            set_roles(tx.connection, claims.user, claims.roles, claims.issued_ms)
            if claims.roles - row.info.roles:
                tx.record(given)
            if row.info.roles - claims.roles:
                tx.record(taken)

        await self._database.write(work)
        self.changed(claims.user)

    async def set_status(self, user: UserId, status: AccountStatus, event: AuditEvent) -> None:
        """Suspend an account, which ends all access at once, or let it act again; recorded as ``event``."""

        def work(tx: Tx) -> None:
            set_status(tx.connection, user, status)
            tx.record(event)

        await self._database.write(work)
        self.changed(user)
        if status is AccountStatus.SUSPENDED:
            self.access_ended(user, None)

    def changed(self, user: UserId) -> None:
        """Forget ``user``: a change of the account was committed."""
        self._changes += 1
        self._cache.pop(user, None)

    def access_ended(self, user: UserId, device: DeviceId | None) -> None:
        """Tell every listener."""
        for listener in self._listeners:
            listener.access_ended(user, device)

    async def _find(self, user: UserId) -> _Account | None:
        found = self._cache.get(user)
        if found is not None:
            self._cache.move_to_end(user)
            return found
        changes = self._changes
        found = await self._database.read(
            lambda connection: _account(load_account(connection, user), signing_keys(connection, user))
        )
        if found is not None and changes == self._changes:
            self._cache[user] = found
            if len(self._cache) > self._max_cached:
                self._cache.popitem(last=False)
        return found

    def _role_event(self, event_type: EventType, claims: Claims) -> AuditEvent:
        return AuditEvent(
            id=uuid7(self._clock(), self._random_bytes),
            type=event_type,
            outcome=Outcome.OK,
            actor=Actor(id=claims.app, kind=ActorKind.SERVICE),
            object=ObjectRef("account", claims.user),
            org=claims.org,
        )


def _account(row: AccountRow | None, devices: Mapping[DeviceId, VerifyKey]) -> _Account | None:
    return None if row is None else _Account(row.info, devices)
