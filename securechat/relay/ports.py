"""What the relay needs of others: wake-ups between nodes, the permission to act, and a signed-in device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from audit.catalogue import EventType
from audit.event import AuditEvent, ObjectRef, Outcome
from securechat.authz.model import Action, Resource
from securechat.errors import AuthenticationError
from securechat.ids import DeviceId, ProtocolAddress, UserId
from securechat.web.accounts import AccountInfo
from securechat.web.authorization import Ruling
from securechat.web.caller import Caller
from securechat.wire.auth import ChallengePurpose


@dataclass(frozen=True, slots=True)
class Wakeup:
    """A hint to the node that holds a device's connection; never data, and harmless if lost or repeated.

    ``fence`` is that of the device's newest connection: an older one is to be closed.
    """

    mailbox: int
    last_seq: int
    fence: int


class Bus(Protocol):
    """Carries wake-ups from node to node, at most once."""

    def publish(self, node: str, wakeups: Sequence[Wakeup]) -> None:
        """Send ``wakeups`` to ``node``; never blocks and never raises."""
        ...

    def subscribe(self, node: str, receive: Callable[[Sequence[Wakeup]], None]) -> Callable[[], None]:
        """Call ``receive`` in the event loop for what is sent to ``node``; return how to stop."""
        ...


class Directory(Protocol):
    """Accounts and devices, as far as a send needs them."""

    async def account(self, user: UserId) -> AccountInfo | None:
        """Return the account of ``user``, or None."""
        ...

    async def devices(self, user: UserId) -> tuple[DeviceId, ...]:
        """Return the ids of the account's devices."""
        ...


class DeviceLogin(Protocol):
    """Authentication of a connection."""

    def new_challenge(self) -> bytes:
        """Return a challenge of 32 bytes."""
        ...

    async def authenticate(
        self,
        purpose: ChallengePurpose,
        token: str,
        address: ProtocolAddress,
        challenge: bytes,
        signature: bytes,
    ) -> Caller:
        """Return the device that answered ``challenge``. Raises AuthenticationError."""
        ...

    async def current(self, caller: Caller) -> Caller:
        """Return ``caller`` as its account stands now. Raises AuthenticationError."""
        ...


class Authority(Protocol):
    """Decides, and makes the audit events of what was decided."""

    def decide(self, caller: Caller, action: Action, resource: Resource) -> Ruling:
        """Return whether ``caller`` may do ``action`` to ``resource`` now."""
        ...

    def event(
        self,
        caller: Caller,
        ruling: Ruling,
        *,
        outcome: Outcome = Outcome.OK,
        object: ObjectRef | None = None,
        request_id: str | None = None,
        n: int = 1,
        type: EventType | None = None,
        reason: str | None = None,
    ) -> AuditEvent:
        """Return the event of an act under ``ruling``."""
        ...

    async def record_refusal(self, caller: Caller, ruling: Ruling, *, request_id: str | None = None) -> None:
        """Record a denied ruling in a transaction of its own."""
        ...

    async def record_unresolved(
        self, caller: Caller, action: Action, code: str, *, request_id: str | None = None
    ) -> None:
        """Record that ``action`` was asked for on something that does not exist."""
        ...

    async def login_failed(
        self, error: AuthenticationError, *, source: str, request_id: str | None = None
    ) -> None:
        """Record a failed authentication."""
        ...
