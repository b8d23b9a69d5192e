"""Authentication: a token of a registered app, and a proof by the device's own key.

A stolen token opens nothing: sessions and connections need a signature of the enrolled device over the
server's challenge, and enrolling a device needs the device list signed by the account key.
"""

from securechat.authz.model import AccountStatus
from securechat.crypto.keys import VerifyKey
from securechat.errors import (
    DeviceUnknownError,
    InvalidSignatureError,
    ProofInvalidError,
    SessionUnknownError,
    TokenInvalidError,
)
from securechat.ids import DeviceId, ProtocolAddress, UserId
from securechat.ports import Clock, RandomBytes
from securechat.tokens import Claims, TokenVerifier, key_thumbprint
from securechat.web.accounts import Accounts
from securechat.web.caller import Caller, caller_of
from securechat.web.challenges import Challenges
from securechat.web.sessions import Sessions
from securechat.wire.auth import ChallengePurpose, challenge_message


class Authenticator:
    """Establishes who is calling; raises AuthenticationError's subclasses. One for each process."""

    def __init__(
        self, *, tokens: TokenVerifier, accounts: Accounts, clock: Clock, random_bytes: RandomBytes
    ) -> None:
        self._tokens = tokens
        self._accounts = accounts
        self._challenges = Challenges(clock, random_bytes)
        self._sessions = Sessions(clock, random_bytes)

    def new_challenge(self) -> bytes:
        """Return 32 bytes to be signed by a device within a minute, good for one success."""
        return self._challenges.new()

    async def authenticate(
        self,
        purpose: ChallengePurpose,
        token: str,
        address: ProtocolAddress,
        challenge: bytes,
        signature: bytes,
    ) -> Caller:
        """Return the enrolled device that answered ``challenge`` with its key, for its token's user.

        Raises TokenInvalidError, TokenExpiredError, TokenNotYetValidError, TokenAudienceError,
        DeviceUnknownError and ProofInvalidError. The account's status is left to the policy.
        """
        claims = self._tokens.verify(token)
        if claims.user != address.user:
            raise TokenInvalidError("the token is not valid")
        account = await self._accounts.account(address.user)
        device = await self._accounts.device(address)
        if account is None or device is None:
            raise DeviceUnknownError("the device is not in the account's list")
        self._prove(purpose, token, claims, address, device.signing, challenge, signature)
        return await self._caller(claims, address)

    async def bearer(self, token: str) -> Caller:
        """Return the caller of a route that a token alone opens; such a route asks for a proof by itself."""
        return await self._caller(self._tokens.verify(token), None)

    def prove_enrollment(
        self,
        caller: Caller,
        token: str,
        address: ProtocolAddress,
        signing: VerifyKey,
        *,
        challenge: bytes,
        signature: bytes,
    ) -> None:
        """Check that a device about to be enrolled holds ``signing``. Raises ProofInvalidError."""
        purpose = ChallengePurpose.ENROLLMENT
        self._prove(purpose, token, caller.claims, address, signing, challenge, signature)

    def open_session(self, caller: Caller) -> str:
        """Open a session that ends with the caller's token; return its secret. Raises OverloadedError."""
        if caller.address is None:
            raise ProofInvalidError("a session belongs to a device that proved its key")
        return self._sessions.open(caller, caller.address)

    async def session(self, secret: str) -> Caller:
        """Return whose session ``secret`` opens, as the account stands now.

        Raises SessionUnknownError, and DeviceUnknownError once the device was removed.
        """
        return await self.current(self._sessions.get(secret))

    async def current(self, caller: Caller) -> Caller:
        """Return ``caller`` as its account stands now; for connections that live for minutes.

        Raises SessionUnknownError for a caller without a device, DeviceUnknownError once it was removed.
        """
        if caller.address is None:
            raise SessionUnknownError("the session is not known")
        account = await self._accounts.account(caller.address.user)
        if account is None or await self._accounts.device(caller.address) is None:
            raise DeviceUnknownError("the device is not in the account's list")
        return caller if account.status is caller.principal.status else caller.with_status(account.status)

    def close_session(self, secret: str) -> None:
        """End the session of ``secret``, if it is open."""
        self._sessions.close(secret)

    def access_ended(self, user: UserId, device: DeviceId | None) -> None:
        """End all sessions of ``device``, or of the whole account."""
        self._sessions.end_all(user, device)

    async def _caller(self, claims: Claims, address: ProtocolAddress | None) -> Caller:
        account = await self._accounts.account(claims.user)
        if account is None:
            return caller_of(claims, AccountStatus.ACTIVE, address)
        if account.org != claims.org:
            raise TokenInvalidError("the token is not valid")
        if account.roles != claims.roles and claims.issued_ms > account.roles_issued_ms:
            await self._accounts.take_roles(claims)
        return caller_of(claims, account.status, address)

    def _prove(
        self,
        purpose: ChallengePurpose,
        token: str,
        claims: Claims,
        address: ProtocolAddress,
        signing: VerifyKey,
        challenge: bytes,
        signature: bytes,
    ) -> None:
        self._challenges.check(challenge)
        if claims.key_thumbprint not in (None, key_thumbprint(signing)):
            raise ProofInvalidError("the token is bound to another device's key")
        try:
            signing.verify(signature, challenge_message(purpose, address, challenge, token))
        except InvalidSignatureError as error:
            raise ProofInvalidError("the challenge was not answered with the device's key") from error
        self._challenges.redeem(challenge)
