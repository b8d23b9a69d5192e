"""Tokens that are expired, forged, foreign or stolen; and a backend that is away when one is due."""

from collections.abc import Callable

import pytest
from support.relay_peer import RelayPeer
from support.relay_server import TestDevice
from support.site import ServerTime, Site, Talk, all_accepted

from securechat.cli.clinic import AUDIENCE
from securechat.client.client import system_clock
from securechat.crypto.keys import SigningKeyPair
from securechat.crypto.secret import SecretBytes
from securechat.errors import (
    AuthenticationError,
    ServerError,
    TokenAudienceError,
    TokenExpiredError,
    TokenInvalidError,
    TokenNotYetValidError,
    TransportError,
)
from securechat.tokens import TokenMinter
from securechat.wire.frames import Challenge, CloseCode, Error

STRANGE_SEED = SecretBytes(b"\x0b" * 32)
Mint = Callable[[Site], str]


def _strange_minter(site: Site, kid: str = "", audience: str = AUDIENCE) -> TokenMinter:
    return TokenMinter("dev-clinic", STRANGE_SEED, kid or site.clinic.key_id, audience)


def _minted_for_elsewhere(site: Site) -> str:
    file = (site.clinic.folder / "app" / "mint.key").read_text()
    elsewhere = site.clinic.folder / "app" / "elsewhere.key"
    elsewhere.write_text(file.replace(AUDIENCE, "chat.elsewhere.example"))
    elsewhere.chmod(0o600)
    return site.mint("pat", minter=TokenMinter.from_file(elsewhere))


def _tampered(site: Site) -> str:
    header, payload, signature = site.mint("pat").split(".")
    other = site.mint("dr-lee").split(".")[1]
    assert other != payload
    return f"{header}.{other}.{signature}"


BAD_TOKENS: dict[str, tuple[Mint, type[AuthenticationError]]] = {
    "expired": (
        lambda site: site.mint("pat", minter=site.minter(lambda: system_clock() - 3_600_000)),
        TokenExpiredError,
    ),
    "dated ahead": (
        lambda site: site.mint("pat", minter=site.minter(lambda: system_clock() + 3_600_000)),
        TokenNotYetValidError,
    ),
    "forged": (lambda site: site.mint("pat", minter=_strange_minter(site)), TokenInvalidError),
    "of a strange app": (
        lambda site: site.mint("pat", minter=_strange_minter(site, kid="strange")),
        TokenInvalidError,
    ),
    "for another server": (_minted_for_elsewhere, TokenAudienceError),
    "for another organisation": (lambda site: site.mint("pat", org="org-elsewhere"), TokenInvalidError),
    "of another user": (lambda site: site.mint("dr-lee"), TokenInvalidError),
    "tampered with": (_tampered, TokenInvalidError),
    "no token": (lambda site: "no-token", TokenInvalidError),
}


@pytest.mark.parametrize("name", list(BAD_TOKENS))
async def test_a_bad_token_is_told_by_its_kind_and_a_good_one_goes_on(
    site: Site, talk: Talk, name: str
) -> None:
    mint, kind = BAD_TOKENS[name]
    async with site.client("dr-lee") as lee:
        await all_accepted(await talk.say(lee, 2))
    bad = mint(site)
    with pytest.raises(AuthenticationError) as at_the_relay:
        async with site.client("pat", token=bad):
            pass
    async with site.client("pat", token=bad, connect=False) as pat:
        with pytest.raises(AuthenticationError) as over_http:
            await pat.request("GET", "/v1/prekeys")
    for caught in (at_the_relay, over_http):
        assert type(caught.value) is kind
        assert bad not in str(caught.value)
    await talk.end()


async def test_a_connection_ends_with_its_token_and_goes_on_with_a_new_one(
    server_time: ServerTime, site: Site, talk: Talk
) -> None:
    site.clock = server_time.now_ms
    async with site.client("pat") as pat, site.client("dr-lee") as lee:
        for _ in range(3):
            await talk.say(pat, 2)
            await talk.hear(lee)
            server_time.ahead_ms += 11 * 60_000
            await talk.say(lee, 2)
            await talk.hear(pat)
    await talk.end()


async def test_a_backend_that_is_away_is_asked_again(site: Site, talk: Talk) -> None:
    failures = 3

    async def token() -> str:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise TransportError("the backend is away")
        return site.mint("pat")

    async with site.client("pat", token=token) as pat:
        assert not pat.is_connected
        await all_accepted(await talk.say(pat, 2))
    await talk.end()


async def test_a_stolen_token_enrols_no_second_device(site: Site, talk: Talk) -> None:
    async with site.client("pat") as pat:
        with pytest.raises(ServerError) as caught:
            async with site.client("pat", store=site.data / "thief.db", key=bytes(32)):
                pass
        assert caught.value.server_code == "device_list_conflict"
        assert pat.is_connected
    await talk.end()


async def test_a_stolen_token_opens_no_mailbox_and_cuts_nobody_off(site: Site, talk: Talk) -> None:
    async with site.client("dr-lee") as lee:
        await all_accepted(await talk.say(lee, 2))
    address = (await site.device("pat")).address
    thief = TestDevice(address, SigningKeyPair.from_seed(STRANGE_SEED), (), site.clinic.org)
    async with site.client("pat") as pat:
        peer = RelayPeer(site.url, thief, site.mint("pat"))
        await peer.open()
        challenge = await peer.expect(Challenge)
        await peer.put(peer.proof(challenge.challenge))
        refusal = await peer.expect(Error)
        assert (refusal.code, refusal.retryable) == ("proof_invalid", False)
        assert await peer.closed() == CloseCode.UNAUTHENTICATED
        await peer.close()
        assert pat.is_connected
    await talk.end()
