"""Who is calling: what authentication established and authorization relies on."""

from dataclasses import dataclass, replace

from securechat.authz.model import AccountStatus, Principal
from securechat.ids import ProtocolAddress
from securechat.tokens import Claims


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    ``address`` is the device that proved its key, None where only a token was shown. ``session`` is a tag of
    the server-side session for the audit log (never its secret).
    """

    principal: Principal
    claims: Claims
    address: ProtocolAddress | None = None
    session: str | None = None

    @property
    def expires_ms(self) -> int:
        """When the token, and with it every session and connection of this caller, ends."""
        return self.claims.expires_ms

    @property
    def mfa(self) -> bool:
        """Whether the user passed a second factor at the app's log-in."""
        return self.claims.mfa

    def with_status(self, status: AccountStatus) -> "Caller":
        """Return the same caller with the account's present status."""
        return replace(self, principal=replace(self.principal, status=status))

    def with_session(self, session: str) -> "Caller":
        """Return the same caller in the session tagged ``session``."""
        return replace(self, session=session)


def caller_of(claims: Claims, status: AccountStatus, address: ProtocolAddress | None) -> Caller:
    """Return the caller that ``claims`` describe; the roles are those of the token."""
    principal = Principal(user=claims.user, org=claims.org, roles=claims.roles, status=status)
    return Caller(principal, claims, address)
