"""User tokens: what is minted is accepted, and nothing else is."""

import base64
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey
from support.identities import RepeatableRandom
from support.server_parts import APP, AUDIENCE, KID, ORG, App, HandClock

from securechat.crypto.keys import SigningKeyPair, VerifyKey
from securechat.crypto.secret import SecretBytes
from securechat.errors import (
    AuthenticationError,
    InvalidIdError,
    SettingsError,
    TokenAudienceError,
    TokenExpiredError,
    TokenInvalidError,
    TokenNotYetValidError,
)
from securechat.tokens import (
    MAX_TTL_S,
    AppKey,
    TokenMinter,
    TokenVerifier,
    generate_mint_key,
    key_thumbprint,
    parse_app_keys,
)

CLOCK = HandClock()
APP_OF_TEST = App(CLOCK)
TOKEN = APP_OF_TEST.token("ana", "patient")
SEED = b"\x07" * 32
TEXTS = {  # no error repeats what it was given
    "the token is not valid",
    "the token has expired",
    "the token was issued in the future",
    "the token was minted for another server",
}


def private_jwk(seed: bytes = SEED) -> OKPKey:
    pair = SigningKeyPair.from_seed(SecretBytes(seed))
    parts = [base64.urlsafe_b64encode(raw).rstrip(b"=").decode() for raw in (pair.public.raw, seed)]
    return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": parts[0], "d": parts[1]})


def claims(**changes: object) -> dict[str, object]:
    now = CLOCK() // 1000
    body: dict[str, object] = {
        "iss": APP, "sub": "ana", "org": ORG, "roles": ["patient"], "aud": AUDIENCE,
        "iat": now, "exp": now + 600, "jti": "x" * 22,
    }  # fmt: skip
    body.update(changes)
    return {name: value for name, value in body.items() if value is not None}


def signed(body: dict[str, object], *, seed: bytes = SEED, header: dict[str, object] | None = None) -> str:
    head = {"alg": "Ed25519", "kid": KID, "typ": "securechat+jwt", **(header or {})}
    kept = {name: value for name, value in head.items() if value is not None}
    return jwt.encode(kept, body, private_jwk(seed), algorithms=["Ed25519"])


def b64json(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def refused(token: str, error: type[AuthenticationError] = TokenInvalidError) -> None:
    with pytest.raises(error) as caught:
        APP_OF_TEST.verifier.verify(token)
    assert type(caught.value) is error
    assert str(caught.value) in TEXTS


def test_a_minted_token_says_who_where_in_which_roles_and_how_long() -> None:
    token = APP_OF_TEST.minter.mint("dr.lee", org="org-1", roles=["nurse", "clinician"], ttl_s=300, mfa=True)
    found = APP_OF_TEST.verifier.verify(token)
    assert (found.app, found.user, found.org) == (APP, "dr.lee", "org-1")
    assert found.roles == {"clinician", "nurse"}
    assert found.expires_ms - found.issued_ms == 300_000
    assert found.mfa
    assert found.key_thumbprint is None


def test_a_token_of_any_jwt_library_is_accepted_if_it_says_the_same() -> None:
    assert APP_OF_TEST.verifier.verify(signed(claims())).user == "ana"


def test_a_token_may_name_the_one_device_key_that_it_serves() -> None:
    key = VerifyKey(bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
    token = APP_OF_TEST.minter.mint("ana", org="org-1", roles=["patient"], device_key=key)
    assert APP_OF_TEST.verifier.verify(token).key_thumbprint == key_thumbprint(key)


def test_the_thumbprint_is_that_of_rfc_8037_appendix_a_3() -> None:
    key = VerifyKey(bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
    assert key_thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_token_signed_by_another_key_is_refused() -> None:
    refused(signed(claims(), seed=b"\x08" * 32))


@pytest.mark.parametrize("position", range(3))
def test_a_token_changed_in_any_part_is_refused(position: int) -> None:
    parts = TOKEN.split(".")
    for index in range(0, len(parts[position]), 7):
        text = parts[position]
        other = "A" if text[index] != "A" else "B"
        changed = [*parts]
        changed[position] = text[:index] + other + text[index + 1 :]
        refused(".".join(changed))


def test_a_token_without_a_signature_is_refused() -> None:
    head = b64json({"alg": "none", "kid": KID, "typ": "securechat+jwt"})
    refused(f"{head}.{b64json(claims())}.")
    refused(f"{TOKEN.rpartition('.')[0]}.")


def test_a_token_signed_with_the_public_key_as_a_shared_secret_is_refused() -> None:
    public = SigningKeyPair.from_seed(SecretBytes(SEED)).public.raw
    header = {"alg": "HS256", "kid": KID, "typ": "securechat+jwt"}
    refused(jwt.encode(header, claims(), OctKey.import_key(public), algorithms=["HS256"]))


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "key-2"}, {"kid": None}, {"kid": "../../etc/passwd"}, {"typ": "JWT"}, {"typ": None},
        {"x5u": "https://evil.example"}, {"jku": "https://evil.example"}, {"alg": "EdDSA"},
    ],
)  # fmt: skip
def test_a_token_with_another_header_is_refused(header: dict[str, object]) -> None:
    if header.get("alg") == "EdDSA":
        token = signed(claims())
        head = b64json({"alg": "EdDSA", "kid": KID, "typ": "securechat+jwt"})
        refused(f"{head}.{token.partition('.')[2]}")
        return
    refused(signed(claims(), header=header))


def test_a_token_for_another_server_is_refused() -> None:
    refused(signed(claims(aud="other.example")), TokenAudienceError)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other-app"}, {"sub": None}, {"sub": "../ana"}, {"sub": "ana\n"}, {"sub": 7}, {"org": None},
        {"roles": None}, {"roles": "patient"}, {"roles": ["Patient"]}, {"roles": ["r"] * 17}, {"jti": None},
        {"aud": [AUDIENCE]}, {"exp": None}, {"iat": None}, {"iat": -1}, {"iat": 1.5}, {"exp": True},
        {"admin": True}, {"amr": "mfa"}, {"cnf": {}}, {"cnf": {"jkt": "short"}},
    ],
)  # fmt: skip
def test_a_token_with_missing_odd_or_unknown_claims_is_refused(changes: dict[str, object]) -> None:
    body = claims(**changes)
    refused(signed(body))


def test_a_token_that_would_live_longer_than_fifteen_minutes_is_refused() -> None:
    now = CLOCK() // 1000
    APP_OF_TEST.verifier.verify(signed(claims(exp=now + MAX_TTL_S)))
    refused(signed(claims(exp=now + MAX_TTL_S + 1)))
    refused(signed(claims(exp=now)))


def test_a_token_ends_to_the_millisecond() -> None:
    clock = HandClock()
    app = App(clock)
    token = app.token("ana", "patient", ttl_s=60)
    clock.now_ms = (clock.now_ms // 1000 + 60) * 1000 - 1
    app.verifier.verify(token)
    clock.now_ms += 1
    with pytest.raises(TokenExpiredError):
        app.verifier.verify(token)


def test_a_clock_half_a_minute_ahead_is_tolerated_and_more_is_not() -> None:
    now = CLOCK() // 1000
    APP_OF_TEST.verifier.verify(signed(claims(iat=now + 30, exp=now + 60)))
    refused(signed(claims(iat=now + 31, exp=now + 60)), TokenNotYetValidError)


def test_an_app_speaks_only_for_the_organisations_it_is_registered_for() -> None:
    app = App(CLOCK, orgs=["org-1"])
    app.verifier.verify(app.token("ana", "patient"))
    with pytest.raises(TokenInvalidError):
        app.verifier.verify(app.token("ana", "patient", org="org-2"))


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "....", "x" * 5000, "é.é.é", "eyJ9.e30.AA", "\ud800"]
)
def test_what_is_no_token_is_refused(token: str) -> None:
    refused(token)


@given(st.text(max_size=300))
@settings(max_examples=60)
def test_no_text_makes_the_verifier_fail_otherwise(text: str) -> None:
    refused(text)


@pytest.mark.parametrize("ttl_s", [0, -1, MAX_TTL_S + 1])
def test_no_token_is_minted_for_longer_than_fifteen_minutes(ttl_s: int) -> None:
    with pytest.raises(SettingsError):
        APP_OF_TEST.minter.mint("ana", org="org-1", roles=["patient"], ttl_s=ttl_s)


def test_no_token_is_minted_that_the_server_would_refuse() -> None:
    with pytest.raises(InvalidIdError):
        APP_OF_TEST.minter.mint("Ana Smith", org="org-1", roles=["patient"])
    with pytest.raises(SettingsError):
        APP_OF_TEST.minter.mint("ana", org="org-1", roles=["The Patient"])


def test_a_key_file_mints_what_its_registration_line_verifies(tmp_path: Path) -> None:
    path = tmp_path / "mint.key"
    line = generate_mint_key(path, app_id=APP, kid=KID, audience=AUDIENCE, orgs=["org-2", "org-1"])
    assert line.startswith(f"{APP} {KID} ")
    assert line.endswith(" org-1,org-2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = TokenMinter.from_file(path, clock=CLOCK).mint("ana", org="org-1", roles=["patient"])
    verifier = TokenVerifier(parse_app_keys(f"# apps\n\n{line}\n"), AUDIENCE, CLOCK)
    assert verifier.verify(token).user == "ana"


def test_a_registration_line_shows_that_an_app_speaks_for_everybody(tmp_path: Path) -> None:
    line = generate_mint_key(tmp_path / "mint.key", app_id=APP, kid=KID, audience=AUDIENCE)
    assert line.endswith(" *")
    assert parse_app_keys(line)[KID].orgs is None


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mint.key"
    generate_mint_key(path, app_id=APP, kid=KID, audience=AUDIENCE)
    before = path.read_bytes()
    with pytest.raises(SettingsError):
        generate_mint_key(path, app_id=APP, kid=KID, audience=AUDIENCE)
    assert path.read_bytes() == before


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mint.key"
    generate_mint_key(path, app_id=APP, kid=KID, audience=AUDIENCE)
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        TokenMinter.from_file(path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"app":"a","kid":"k","audience":"x","seed":"AA"}'])
def test_a_damaged_key_file_is_refused_without_quoting_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mint.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError) as caught:
        TokenMinter.from_file(path)
    assert str(caught.value) == f"{path} is not a minting key file"


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.key"):
        TokenMinter.from_file(tmp_path / "none.key")


def test_every_bad_line_of_the_app_keys_is_reported_at_once(tmp_path: Path) -> None:
    good = generate_mint_key(tmp_path / "a.key", app_id=APP, kid=KID, audience=AUDIENCE)
    text = "\n".join([good, good, "app kid", "app key-3 short *", f"{APP} key-4 {good.split()[2]} org-1,"])
    with pytest.raises(SettingsError) as caught:
        parse_app_keys(text)
    assert [f"line {number}:" in str(caught.value) for number in range(1, 6)] == [
        False,
        True,
        True,
        True,
        True,
    ]


def test_a_minter_does_not_print_its_key() -> None:
    random_bytes = RepeatableRandom("mint")
    minter = TokenMinter(APP, SecretBytes(random_bytes(32)), KID, AUDIENCE)
    shown = repr(minter) + str(vars(minter))
    seed = RepeatableRandom("mint")(32)
    assert seed.hex() not in shown
    assert base64.urlsafe_b64encode(seed).rstrip(b"=").decode() not in shown


def test_two_apps_do_not_speak_for_each_other() -> None:
    other = SigningKeyPair.from_seed(SecretBytes(b"\x09" * 32)).public
    own = SigningKeyPair.from_seed(SecretBytes(SEED)).public
    verifier = TokenVerifier(
        {KID: AppKey(APP, own, None), "key-2": AppKey("other-app", other, None)}, AUDIENCE, CLOCK
    )
    with pytest.raises(TokenInvalidError):
        verifier.verify(signed(claims(), seed=b"\x09" * 32, header={"kid": "key-2"}))
    assert (
        verifier.verify(signed(claims(iss="other-app"), seed=b"\x09" * 32, header={"kid": "key-2"})).app
        == "other-app"
    )
