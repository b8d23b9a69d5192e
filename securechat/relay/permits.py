"""Permission for what a device does with mailboxes, and the audit events of what it did."""

from dataclasses import dataclass
from typing import Protocol

from audit.event import AuditEvent, Outcome
from securechat.authz.model import Action
from securechat.errors import AccessDeniedError
from securechat.ids import ProtocolAddress
from securechat.relay.errors import UnknownRecipientError
from securechat.relay.ports import Authority, DeviceLogin, Directory
from securechat.web.authorization import Ruling
from securechat.web.caller import Caller
from securechat.web.resources import Resources


class Permit(Protocol):
    """Permission for an act. Compared and hashed by identity."""

    def event(
        self, *, n: int = 1, outcome: Outcome = Outcome.OK, reason: str | None = None
    ) -> AuditEvent | None:
        """Return the event of ``n`` such acts, to be recorded in their transaction, or None for none."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class DevicePermit:
    """The Permit of a device on its connection."""

    caller: Caller
    ruling: Ruling
    authority: Authority
    request_id: str | None = None

    def event(self, *, n: int = 1, outcome: Outcome = Outcome.OK, reason: str | None = None) -> AuditEvent:
        """See Permit."""
        return self.authority.event(
            self.caller, self.ruling, outcome=outcome, request_id=self.request_id, n=n, reason=reason
        )


class Permits:
    """Asks directory and decision point; every refusal is on record before it is told."""

    def __init__(
        self, directory: Directory, authority: Authority, login: DeviceLogin, resources: Resources
    ) -> None:
        self._resources = resources
        self._directory = directory
        self._authority = authority
        self._login = login

    async def send(
        self, caller: Caller, recipient: ProtocolAddress, request_id: str | None = None
    ) -> DevicePermit:
        """Permit a send to ``recipient``, as both accounts stand now.

        Raises UnknownRecipientError (also for another organisation), AccessDeniedError and, for a device
        that was removed, AuthenticationError.
        """
        present = await self._login.current(caller)
        account = await self._directory.account(recipient.user)
        if account is None or recipient.device not in await self._directory.devices(recipient.user):
            code = UnknownRecipientError.code
            await self._authority.record_unresolved(present, Action.MESSAGE_SEND, code, request_id=request_id)
            raise UnknownRecipientError
        ruling = self._authority.decide(present, Action.MESSAGE_SEND, self._resources.account(account))
        if not ruling.allowed:
            await self._authority.record_refusal(present, ruling, request_id=request_id)
            if account.org != present.principal.org:
                raise UnknownRecipientError
            raise AccessDeniedError(ruling.reason)
        return DevicePermit(present, ruling, self._authority, request_id)

    async def own_mailbox(
        self, caller: Caller, address: ProtocolAddress, action: Action, request_id: str | None = None
    ) -> DevicePermit:
        """Permit ``action`` on the caller's own mailbox. Raises AccessDeniedError and AuthenticationError."""
        present = await self._login.current(caller)
        ruling = self._authority.decide(
            present, action, self._resources.mailbox(address, present.principal.org)
        )
        if not ruling.allowed:
            await self._authority.record_refusal(present, ruling, request_id=request_id)
            raise AccessDeniedError(ruling.reason)
        return DevicePermit(present, ruling, self._authority, request_id)
