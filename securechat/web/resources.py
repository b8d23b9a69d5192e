"""Resources as the policies see them, made of what the server knows."""

from typing import Final

from aiohttp import web

from securechat.authz.model import AccountStatus, Resource, ResourceKind
from securechat.authz.roles import RoleBook
from securechat.ids import OrgId, ProtocolAddress, UserId
from securechat.web.accounts import AccountInfo
from securechat.web.caller import Caller

PATIENT: Final = "patient"  # whoever holds this role, or inherits it, is a patient


class Resources:
    """Makes resources; the role book says who is a patient."""

    def __init__(self, roles: RoleBook) -> None:
        self._roles = roles

    def account(self, info: AccountInfo) -> Resource:
        """Return an account of the server."""
        return self._account(info.user, info.org, info.roles, info.status)

    def own_account(self, caller: Caller) -> Resource:
        """Return the caller's own account, which before its first device is only what the token says."""
        principal = caller.principal
        return self._account(principal.user, principal.org, principal.roles, principal.status)

    async def own_account_of(self, request: web.Request, caller: Caller) -> Resource:
        """As ``own_account``, for a Route."""
        return self.own_account(caller)

    def mailbox(self, owner: ProtocolAddress, org: OrgId) -> Resource:
        """Return the mailbox of one device."""
        return Resource(
            kind=ResourceKind.MAILBOX, id=f"{owner.user}/{owner.device}", org=org, subject=owner.user
        )

    def audit_log(self, org: OrgId) -> Resource:
        """Return the audit log."""
        return Resource(kind=ResourceKind.AUDIT_LOG, id="log", org=org)

    def policy_set(self, org: OrgId) -> Resource:
        """Return the policy set in force."""
        return Resource(kind=ResourceKind.POLICY_SET, id="active", org=org)

    def server(self, org: OrgId) -> Resource:
        """Return this server."""
        return Resource(kind=ResourceKind.SERVER, id="server", org=org)

    def _account(self, user: UserId, org: OrgId, roles: frozenset[str], status: AccountStatus) -> Resource:
        return Resource(
            kind=ResourceKind.ACCOUNT,
            id=user,
            org=org,
            subject=user,
            patient=PATIENT in self._roles.expand(roles),
            status=status,
        )
