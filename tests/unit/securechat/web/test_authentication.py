"""Authentication: a token and the device's own key, each useless without the other."""

from dataclasses import replace

import pytest
from support.identities import RepeatableRandom, make_person
from support.server_parts import ORG, App, HandClock, MemoryAccounts, answer

from securechat.authz.model import AccountStatus
from securechat.errors import (
    AuthenticationError,
    DeviceUnknownError,
    ProofInvalidError,
    SessionUnknownError,
    TokenExpiredError,
    TokenInvalidError,
)
from securechat.ids import ProtocolAddress, device_id, org_id, user_id
from securechat.web.authentication import Authenticator
from securechat.web.caller import Caller
from securechat.web.errors import OverloadedError
from securechat.web.sessions import MAX_PER_DEVICE, Sessions
from securechat.wire.auth import ChallengePurpose

ANA = make_person("ana", one_time=0)
MALLORY = make_person("mallory", one_time=0)
SESSION = ChallengePurpose.SESSION


class World:
    """An authenticator that knows Ana and Mallory."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.app = App(self.clock)
        self.accounts = MemoryAccounts()
        self.accounts.add(ANA, "patient")
        self.accounts.add(MALLORY, "patient")
        self.authenticator = Authenticator(
            tokens=self.app.verifier,
            accounts=self.accounts,
            clock=self.clock,
            random_bytes=RepeatableRandom("server"),
        )
        self.token = self.app.token("ana", "patient")

    async def log_in(self, *, purpose: ChallengePurpose = SESSION) -> Caller:
        challenge = self.authenticator.new_challenge()
        signature = answer(purpose, ANA, challenge, self.token)
        return await self.authenticator.authenticate(
            purpose, self.token, ANA.local.address, challenge, signature
        )

    def status(self, status: AccountStatus) -> None:
        user = ANA.local.address.user
        self.accounts.accounts[user] = replace(self.accounts.accounts[user], status=status)


@pytest.fixture
def world() -> World:
    return World()


async def refused(
    world: World,
    error: type[AuthenticationError],
    *,
    token: str | None = None,
    address: ProtocolAddress = ANA.local.address,
    challenge: bytes | None = None,
    signature: bytes | None = None,
) -> None:
    token = token or world.token
    challenge = challenge or world.authenticator.new_challenge()
    signature = signature or answer(SESSION, ANA, challenge, token)
    with pytest.raises(error) as caught:
        await world.authenticator.authenticate(SESSION, token, address, challenge, signature)
    assert type(caught.value) is error


async def test_a_device_with_its_key_and_a_token_is_let_in(world: World) -> None:
    caller = await world.log_in()
    assert caller.address == ANA.local.address
    assert caller.principal.user == "ana"
    assert caller.principal.org == ORG
    assert caller.principal.roles == {"patient"}


async def test_a_stolen_token_opens_nothing_without_the_device_key(world: World) -> None:
    challenge = world.authenticator.new_challenge()
    forged = answer(SESSION, MALLORY, challenge, world.token)
    await refused(world, ProofInvalidError, challenge=challenge, signature=forged)
    await refused(world, ProofInvalidError, signature=b"\0" * 64)
    await refused(world, ProofInvalidError, signature=b"short")


async def test_a_stolen_token_does_not_serve_the_thief_s_own_device(world: World) -> None:
    await refused(world, TokenInvalidError, address=MALLORY.local.address)


async def test_a_device_key_opens_nothing_with_somebody_else_s_token(world: World) -> None:
    token = world.app.token("mallory", "patient")
    await refused(world, TokenInvalidError, token=token)


async def test_a_device_that_was_never_enrolled_is_not_let_in(world: World) -> None:
    await refused(world, DeviceUnknownError, address=ProtocolAddress(user_id("ana"), device_id(2)))
    stranger = make_person("stranger", one_time=0)
    token = world.app.token("stranger", "patient")
    await refused(world, DeviceUnknownError, token=token, address=stranger.local.address)


async def test_a_captured_proof_does_not_serve_again(world: World) -> None:
    challenge = world.authenticator.new_challenge()
    signature = answer(SESSION, ANA, challenge, world.token)
    address = ANA.local.address
    await world.authenticator.authenticate(SESSION, world.token, address, challenge, signature)
    await refused(world, ProofInvalidError, challenge=challenge, signature=signature)


async def test_a_failed_proof_does_not_use_the_challenge_up(world: World) -> None:
    challenge = world.authenticator.new_challenge()
    await refused(world, ProofInvalidError, challenge=challenge, signature=b"\0" * 64)
    signature = answer(SESSION, ANA, challenge, world.token)
    await world.authenticator.authenticate(SESSION, world.token, ANA.local.address, challenge, signature)


@pytest.mark.parametrize("purpose", [ChallengePurpose.CONNECTION, ChallengePurpose.ENROLLMENT])
async def test_a_proof_for_one_purpose_does_not_serve_another(
    world: World, purpose: ChallengePurpose
) -> None:
    challenge = world.authenticator.new_challenge()
    signature = answer(purpose, ANA, challenge, world.token)
    await refused(world, ProofInvalidError, challenge=challenge, signature=signature)


async def test_a_proof_belongs_to_one_token(world: World) -> None:
    challenge = world.authenticator.new_challenge()
    signature = answer(SESSION, ANA, challenge, world.app.token("ana", "patient"))
    other = world.app.token("ana", "clinician", ttl_s=60)
    await refused(world, ProofInvalidError, token=other, challenge=challenge, signature=signature)


async def test_a_challenge_of_our_own_making_does_not_serve(world: World) -> None:
    await refused(world, ProofInvalidError, challenge=b"\x01" * 32)


async def test_a_token_bound_to_a_device_key_serves_that_device_alone(world: World) -> None:
    bound = world.app.minter.mint("ana", org=ORG, roles=["patient"], device_key=MALLORY.local.signing.public)
    await refused(world, ProofInvalidError, token=bound)
    world.token = world.app.minter.mint(
        "ana", org=ORG, roles=["patient"], device_key=ANA.local.signing.public
    )
    await world.log_in()


async def test_an_expired_token_is_told_apart_from_a_false_one(world: World) -> None:
    world.clock.advance(601)
    await refused(world, TokenExpiredError)


async def test_a_token_for_another_organisation_than_the_account_s_is_refused(world: World) -> None:
    await refused(world, TokenInvalidError, token=world.app.token("ana", "patient", org="org-2"))
    with pytest.raises(TokenInvalidError):
        await world.authenticator.bearer(world.app.token("ana", "patient", org="org-2"))


async def test_a_suspended_account_is_told_to_the_policy(world: World) -> None:
    world.status(AccountStatus.SUSPENDED)
    assert (await world.log_in()).principal.status is AccountStatus.SUSPENDED


async def test_new_roles_of_a_newer_token_reach_the_account_and_older_ones_do_not(world: World) -> None:
    world.token = world.app.token("ana", "clinician")
    assert (await world.log_in()).principal.roles == {"clinician"}
    assert [claims.roles for claims in world.accounts.taken] == [{"clinician"}]
    user = ANA.local.address.user
    newer = replace(world.accounts.accounts[user], roles_issued_ms=world.clock() + 1)
    world.accounts.accounts[user] = newer
    await world.log_in()
    assert len(world.accounts.taken) == 1


async def test_a_session_ends_with_its_token(world: World) -> None:
    secret = world.authenticator.open_session(await world.log_in())
    world.clock.now_ms = (world.clock.now_ms // 1000 + 600) * 1000 - 1
    assert (await world.authenticator.session(secret)).principal.user == "ana"
    world.clock.now_ms += 1
    with pytest.raises(SessionUnknownError):
        await world.authenticator.session(secret)


async def test_a_session_ends_by_log_out(world: World) -> None:
    secret = world.authenticator.open_session(await world.log_in())
    world.authenticator.close_session(secret)
    with pytest.raises(SessionUnknownError):
        await world.authenticator.session(secret)


async def test_a_session_ends_when_its_device_is_removed(world: World) -> None:
    secret = world.authenticator.open_session(await world.log_in())
    del world.accounts.keys[ANA.local.address]
    with pytest.raises(DeviceUnknownError):
        await world.authenticator.session(secret)


async def test_a_session_shows_a_suspension_at_once(world: World) -> None:
    secret = world.authenticator.open_session(await world.log_in())
    world.status(AccountStatus.SUSPENDED)
    caller = await world.authenticator.session(secret)
    assert caller.principal.status is AccountStatus.SUSPENDED


async def test_ended_access_closes_the_sessions_of_the_device_or_of_the_account(world: World) -> None:
    for device in (ANA.local.address.device, None):
        secret = world.authenticator.open_session(await world.log_in())
        world.authenticator.access_ended(user_id("mallory"), None)
        world.authenticator.access_ended(user_id("ana"), device_id(2))
        await world.authenticator.session(secret)
        world.authenticator.access_ended(user_id("ana"), device)
        with pytest.raises(SessionUnknownError):
            await world.authenticator.session(secret)


@pytest.mark.parametrize("secret", ["", "x", "A" * 43, "é", "\ud800"])
async def test_what_is_no_session_opens_nothing(world: World, secret: str) -> None:
    with pytest.raises(SessionUnknownError):
        await world.authenticator.session(secret)


async def test_a_caller_without_a_device_gets_no_session(world: World) -> None:
    caller = await world.authenticator.bearer(world.token)
    with pytest.raises(ProofInvalidError):
        world.authenticator.open_session(caller)
    with pytest.raises(SessionUnknownError):
        await world.authenticator.current(caller)


async def test_the_oldest_session_of_a_device_ends_when_it_opens_too_many(world: World) -> None:
    secrets = [world.authenticator.open_session(await world.log_in()) for _ in range(MAX_PER_DEVICE + 1)]
    with pytest.raises(SessionUnknownError):
        await world.authenticator.session(secrets[0])
    for secret in secrets[1:]:
        await world.authenticator.session(secret)


async def test_sessions_take_bounded_memory(world: World) -> None:
    sessions = Sessions(world.clock, RepeatableRandom("sessions"), max_sessions=2)
    caller = await world.log_in()
    sessions.open(caller, ANA.local.address)
    sessions.open(caller, ANA.local.address)
    with pytest.raises(OverloadedError):
        sessions.open(caller, ANA.local.address)
    world.clock.advance(601)
    world.token = world.app.token("ana", "patient")
    sessions.open(await world.log_in(), ANA.local.address)


async def test_a_session_s_secret_stands_in_no_repr_and_no_table(world: World) -> None:
    secret = world.authenticator.open_session(await world.log_in())
    caller = await world.authenticator.session(secret)
    assert secret not in repr(caller)
    assert secret not in repr(vars(world.authenticator._sessions))
    assert caller.session is not None
    assert caller.session not in secret


async def test_an_enrolment_is_proved_by_the_new_device_s_key(world: World) -> None:
    caller = await world.authenticator.bearer(world.token)
    challenge = world.authenticator.new_challenge()
    key, address = ANA.local.signing.public, ANA.local.address
    for signer, allowed in ((MALLORY, False), (ANA, True)):
        signature = answer(ChallengePurpose.ENROLLMENT, signer, challenge, world.token)
        if allowed:
            world.authenticator.prove_enrollment(
                caller, world.token, address, key, challenge=challenge, signature=signature
            )
            continue
        with pytest.raises(ProofInvalidError):
            world.authenticator.prove_enrollment(
                caller, world.token, address, key, challenge=challenge, signature=signature
            )


async def test_organisations_are_compared_exactly(world: World) -> None:
    user = ANA.local.address.user
    world.accounts.accounts[user] = replace(world.accounts.accounts[user], org=org_id("ORG-1"))
    await refused(world, TokenInvalidError)
