"""Parts of a server for tests: a clock set by hand, a journal of events, accounts in memory, tokens."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from support.identities import NOW_MS, Person

from audit.errors import AuditUnavailableError
from audit.event import AuditEvent
from audit.recorder import AuditRecorder, PendingEvents
from securechat.authz.decision import DecisionPoint
from securechat.authz.model import AccountStatus
from securechat.base64url import encode_base64url
from securechat.cli.policy_files import DEFAULT_FOLDER, load_tree
from securechat.crypto.keys import SigningKeyPair, VerifyKey
from securechat.crypto.secret import SecretBytes
from securechat.ids import DeviceId, OrgId, ProtocolAddress, UserId, org_id, user_id
from securechat.tokens import AppKey, Claims, TokenMinter, TokenVerifier
from securechat.web.accounts import AccountInfo, DeviceInfo
from securechat.wire.auth import ChallengePurpose, challenge_message

T = TypeVar("T")

AUDIENCE = "chat.clinic.example"
ORG = org_id("org-1")
APP = "clinic-app"
KID = "key-1"


class HandClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)


class Journal:
    """An EventWriter, and a ``before_commit`` of a database: keeps every event; can be told to fail."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.broken = False

    async def write(self, work: Callable[[AuditRecorder], T]) -> T:
        pending = PendingEvents()
        result = work(pending)
        self(None, pending.take())
        return result

    def __call__(self, connection: Any, events: Sequence[AuditEvent]) -> None:
        if self.broken and events:
            raise AuditUnavailableError("the log takes no entries")
        self.events.extend(events)

    def told(self) -> list[tuple[str, str, str]]:
        """Type, outcome and reason of every event, in order."""
        return [(event.type.value, event.outcome.value, event.reason or "") for event in self.events]


class MemoryAccounts:
    """Accounts in dictionaries."""

    def __init__(self) -> None:
        self.accounts: dict[UserId, AccountInfo] = {}
        self.keys: dict[ProtocolAddress, VerifyKey] = {}
        self.taken: list[Claims] = []

    def add(self, person: Person, *roles: str, org: OrgId = ORG, status: str = "active") -> None:
        address = person.local.address
        info = AccountInfo(address.user, org, frozenset(roles), AccountStatus(status))
        self.accounts[address.user] = info
        self.keys[address] = person.local.signing.public

    async def account(self, user: UserId) -> AccountInfo | None:
        return self.accounts.get(user)

    async def device(self, address: ProtocolAddress) -> DeviceInfo | None:
        signing = self.keys.get(address)
        return DeviceInfo(address, signing) if signing else None

    async def devices(self, user: UserId) -> tuple[DeviceId, ...]:
        return tuple(sorted(address.device for address in self.keys if address.user == user))

    async def take_roles(self, claims: Claims) -> None:
        self.taken.append(claims)


class App:
    """A telehealth app: its key, what it mints, and the verifier of a server that knows it."""

    def __init__(
        self, clock: HandClock, *, seed: bytes = b"\x07" * 32, orgs: Sequence[str] | None = None
    ) -> None:
        pair = SigningKeyPair.from_seed(SecretBytes(seed))
        allowed = None if orgs is None else frozenset(org_id(org) for org in orgs)
        self.minter = TokenMinter(APP, pair.seed, KID, AUDIENCE, clock=clock)
        self.verifier = TokenVerifier({KID: AppKey(APP, pair.public, allowed)}, AUDIENCE, clock)

    def token(self, user: str, *roles: str, org: str = ORG, ttl_s: int = 600, mfa: bool = False) -> str:
        return self.minter.mint(user_id(user), org=org, roles=roles, ttl_s=ttl_s, mfa=mfa)


def answer(purpose: ChallengePurpose, person: Person, challenge: bytes, token: str) -> bytes:
    """Sign ``challenge`` as the device of ``person`` does."""
    return person.local.signing.sign(challenge_message(purpose, person.local.address, challenge, token))


@functools.cache
def shipped_decisions() -> DecisionPoint:
    """The decision point of the policies in the repository."""
    return DecisionPoint.from_tree(load_tree(DEFAULT_FOLDER))


def b64(raw: bytes) -> str:
    """Bytes as they stand in JSON."""
    return encode_base64url(raw)
