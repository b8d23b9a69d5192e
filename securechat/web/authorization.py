"""Authorization and its trail: every decision becomes an audit event that names its policies."""

from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from audit.catalogue import EventType
from audit.event import (
    MAX_POLICY_IDS,
    MAX_ROLES,
    Actor,
    ActorKind,
    AuditEvent,
    ObjectRef,
    Outcome,
    PolicyRef,
    uuid7,
)
from audit.recorder import AuditRecorder
from securechat.authz.model import Action, Context, Decision, PrincipalKind, Request, Resource, ResourceKind
from securechat.errors import AccessDeniedError, AuthenticationError
from securechat.ports import Clock, RandomBytes
from securechat.web.caller import Caller
from securechat.web.refusals import EventWriter, RefusalLog

HOUR_MS: Final = 3_600_000
_NOBODY: Final = Actor(id="anonymous", kind=ActorKind.ANONYMOUS)
_OBJECT_KIND: Final = {
    ResourceKind.ACCOUNT: "account",
    ResourceKind.MAILBOX: "mailbox",
    ResourceKind.AUDIT_LOG: "audit-log",
    ResourceKind.POLICY_SET: "policy-set",
    ResourceKind.SERVER: "server",
}


class Decider(Protocol):
    """The decision point."""

    def decide(self, request: Request) -> Decision:
        """Return the decision; never raises for a well-formed request."""
        ...


@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision together with what was asked, so that it can be recorded."""

    action: Action
    resource: Resource
    decision: Decision

    @property
    def allowed(self) -> bool:
        """Whether the act may happen."""
        return self.decision.allowed

    @property
    def reason(self) -> str:
        """The deciding rule's id, or why nothing permits."""
        return self.decision.reason


class Authorizer:
    """Asks the decision point and records what it said. One for each process."""

    def __init__(
        self, decisions: Decider, writer: EventWriter, *, clock: Clock, random_bytes: RandomBytes
    ) -> None:
        self._decisions = decisions
        self._writer = writer
        self._clock = clock
        self._random_bytes = random_bytes
        self._refusals = RefusalLog(writer, clock)

    def decide(self, caller: Caller, action: Action, resource: Resource) -> Ruling:
        """Return whether ``caller`` may do ``action`` to ``resource`` now. The caller of this records it."""
        now_ms = self._clock()
        context = Context(
            now_ms=now_ms,
            hour=now_ms // HOUR_MS % 24,  # UTC
            mfa=caller.mfa,
            device_trusted=False,  # no device management is known to this server
            on_site=False,
        )
        decision = self._decisions.decide(Request(caller.principal, action, resource, context))
        return Ruling(action, resource, decision)

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
        """Return the audit event of an act under ``ruling``.

        ``object`` is the ruling's resource and ``type`` its action unless given. To be recorded in the
        transaction of the act.
        """
        return AuditEvent(
            id=uuid7(self._clock(), self._random_bytes),
            type=type or EventType(ruling.action.value),
            outcome=outcome,
            reason=reason,
            actor=actor_of(caller),
            object=object or object_of(ruling.resource),
            org=caller.principal.org,
            policy=PolicyRef(ruling.decision.policy_set, ruling.decision.policy_ids[:MAX_POLICY_IDS]),
            request_id=request_id,
            n=n,
        )

    async def refuse(self, caller: Caller, ruling: Ruling, *, request_id: str | None = None) -> NoReturn:
        """Record the denied ``ruling`` in a transaction of its own and raise AccessDeniedError.

        Raises StoreError or AuditUnavailableError instead when it cannot be recorded.
        """
        await self.record_refusal(caller, ruling, request_id=request_id)
        raise AccessDeniedError(ruling.reason)

    async def record_refusal(self, caller: Caller, ruling: Ruling, *, request_id: str | None = None) -> None:
        """Record the denied ``ruling``; for a connection that goes on after a refusal."""
        event = self.event(caller, ruling, outcome=Outcome.DENY, request_id=request_id, reason=ruling.reason)
        await self._refusals.record(event)

    async def record_failure(
        self, caller: Caller, ruling: Ruling, code: str, *, request_id: str | None = None
    ) -> None:
        """Record that an act was allowed and did not happen, with the stable ``code`` of its error."""
        event = self.event(caller, ruling, outcome=Outcome.ERROR, request_id=request_id, reason=code)
        await self._refusals.record(event)

    async def record_unresolved(
        self, caller: Caller, action: Action, code: str, *, request_id: str | None = None
    ) -> None:
        """Record that ``action`` was asked for on something that does not exist; nothing was decided."""
        event = AuditEvent(
            id=uuid7(self._clock(), self._random_bytes),
            type=EventType(action.value),
            outcome=Outcome.ERROR,
            reason=code,
            actor=actor_of(caller),
            org=caller.principal.org,
            request_id=request_id,
        )
        await self._refusals.record(event)

    async def record(self, event: AuditEvent) -> None:
        """Record one event in a transaction of its own. Raises StoreError and AuditUnavailableError."""

        def work(tx: AuditRecorder) -> None:
            tx.record(event)

        await self._writer.write(work)

    async def login_failed(
        self, error: AuthenticationError, *, source: str, request_id: str | None = None
    ) -> None:
        """Record a failed authentication.

        ``source`` is the network peer; it keeps floods apart, unrecorded.
        """
        event = AuditEvent(
            id=uuid7(self._clock(), self._random_bytes),
            type=EventType.AUTH_LOGIN_FAILED,
            outcome=Outcome.DENY,
            reason=error.code,
            actor=_NOBODY,
            request_id=request_id,
        )
        await self._refusals.record(event, source=source)

    async def flush(self) -> None:
        """Write the refusals that were only counted."""
        await self._refusals.flush()


def actor_of(caller: Caller) -> Actor:
    """Return the caller as the audit log names it."""
    principal = caller.principal
    return Actor(
        id=principal.user,
        kind=ActorKind.SERVICE if principal.kind is PrincipalKind.SERVICE else ActorKind.USER,
        roles=tuple(sorted(principal.roles)[:MAX_ROLES]),
        device=str(caller.address.device) if caller.address else None,
        session=caller.session,
        mfa=caller.mfa,
    )


def object_of(resource: Resource) -> ObjectRef:
    """Return the resource as the audit log names it."""
    return ObjectRef(_OBJECT_KIND[resource.kind], resource.id)
