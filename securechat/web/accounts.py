"""What authentication and authorization need to know of accounts; the key server implements it."""

from dataclasses import dataclass
from typing import Protocol

from securechat.authz.model import AccountStatus
from securechat.crypto.keys import VerifyKey
from securechat.ids import DeviceId, OrgId, ProtocolAddress, UserId
from securechat.tokens import Claims


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """An account as the server knows it.

    ``roles`` are those of its newest token, issued at ``roles_issued_ms``.
    """

    user: UserId
    org: OrgId
    roles: frozenset[str]
    status: AccountStatus
    roles_issued_ms: int = 0


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """An enrolled device and the key by which it proves itself."""

    address: ProtocolAddress
    signing: VerifyKey


class Accounts(Protocol):
    """Look-ups are cheap: every request makes some."""

    async def account(self, user: UserId) -> AccountInfo | None:
        """Return the account of ``user``, or None."""
        ...

    async def device(self, address: ProtocolAddress) -> DeviceInfo | None:
        """Return the enrolled device at ``address``, or None."""
        ...

    async def devices(self, user: UserId) -> tuple[DeviceId, ...]:
        """Return the ids of the account's devices, ascending; empty for a user without an account."""
        ...

    async def take_roles(self, claims: Claims) -> None:
        """Remember, and record, the roles of a token for its account; an older token changes nothing."""
        ...


class AccessListener(Protocol):
    """Hears that access ended, so that sessions and connections can be closed at once."""

    def access_ended(self, user: UserId, device: DeviceId | None) -> None:
        """``device`` was removed from its account, or with None the whole account was suspended."""
        ...
