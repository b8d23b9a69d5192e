"""User tokens: the app's backend mints them, the server checks them (docs/how-to/mint-tokens.md).

A token is a JWT (RFC 7519) with the header ``{"alg": "Ed25519", "kid": ..., "typ": "securechat+jwt"}``
(RFC 9864; explicit typing as in RFC 8725 section 3.11) and at most 15 minutes of life. The server holds the
app's public key alone. A token by itself opens nothing: every use also needs a proof by the device's own key.
"""

import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from securechat.base64url import decode_base64url, encode_base64url
from securechat.crypto.keys import KEY_BYTES, SigningKeyPair, VerifyKey
from securechat.crypto.secret import SecretBytes
from securechat.errors import (
    InvalidIdError,
    SecureChatError,
    SettingsError,
    TokenAudienceError,
    TokenExpiredError,
    TokenInvalidError,
    TokenNotYetValidError,
    WireError,
)
from securechat.ids import OrgId, UserId, org_id, user_id
from securechat.ports import Clock, RandomBytes

ALGORITHM: Final = "Ed25519"
TOKEN_TYPE: Final = "securechat+jwt"  # noqa: S105 (a media type, not a secret)
MAX_TTL_S: Final = 900
MAX_TOKEN_CHARS: Final = 4096
MAX_ROLES: Final = 16
MAX_AHEAD_S: Final = 30  # tolerated when the backend's clock runs ahead of the server's
MFA: Final = "mfa"  # the authentication method that stands for a second factor (RFC 8176)
ANY_ORG: Final = "*"
_JTI_BYTES: Final = 16

_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
_Role = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,63}\Z")]
_Audience = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}\Z")]
_Key = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
_Method = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]{1,16}\Z")]
_Seconds = Annotated[int, msgspec.Meta(ge=0, lt=2**40)]


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    alg: str
    kid: _Name
    typ: str


class _Confirmation(msgspec.Struct, forbid_unknown_fields=True):
    jkt: _Key


class _ClaimsBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The payload as it stands in the token; whatever else it holds is refused."""

    iss: _Name
    sub: _Name
    org: _Name
    roles: Annotated[list[_Role], msgspec.Meta(max_length=MAX_ROLES)]
    aud: _Audience
    iat: _Seconds
    exp: _Seconds
    jti: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{16,64}\Z")]
    amr: Annotated[list[_Method], msgspec.Meta(max_length=8)] = []
    cnf: _Confirmation | None = None


class _MintKeyFile(msgspec.Struct, forbid_unknown_fields=True):
    app: _Name
    kid: _Name
    audience: _Audience
    seed: _Key


@dataclass(frozen=True, slots=True)
class AppKey:
    """The public half of an app's minting key; ``orgs`` is None when it may speak for every organisation."""

    app: str
    public: VerifyKey
    orgs: frozenset[OrgId] | None


@dataclass(frozen=True, slots=True)
class Claims:
    """What a checked token says. ``key_thumbprint`` binds it to one device key (RFC 7800, RFC 7638)."""

    app: str
    user: UserId
    org: OrgId
    roles: frozenset[str]
    issued_ms: int
    expires_ms: int
    mfa: bool
    key_thumbprint: str | None


class TokenMinter:
    """Mints tokens in the app's backend, after the app's own log-in."""

    def __init__(
        self,
        app_id: str,
        key: SecretBytes,
        kid: str,
        audience: str,
        *,
        clock: Clock | None = None,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        """``key`` is the 32-byte Ed25519 seed; ``kid`` is the id under which the server knows the key."""
        self._app_id = app_id
        self._kid = kid
        self._audience = audience
        self._clock = clock or _system_clock
        self._random_bytes = random_bytes
        self._key = _private_jwk(key)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, clock: Clock | None = None) -> "TokenMinter":
        """Return the minter of a file made by ``generate_mint_key``. Raises SettingsError."""
        raw = _read_private(Path(path))
        try:
            content = msgspec.json.decode(raw, type=_MintKeyFile)
            seed = SecretBytes(decode_base64url(content.seed))
        except (msgspec.DecodeError, WireError) as error:
            raise SettingsError(f"{path} is not a minting key file") from error
        return cls(content.app, seed, content.kid, content.audience, clock=clock)

    def mint(
        self,
        user: str,
        *,
        org: str,
        roles: Iterable[str],
        ttl_s: int = 600,
        mfa: bool = False,
        device_key: VerifyKey | None = None,
    ) -> str:
        """Return a token for ``user`` that lives ``ttl_s`` seconds, 1 to 900.

        ``mfa`` says that the user passed a second factor; ``device_key`` makes the token useless with any
        other device. Raises InvalidIdError and SettingsError.
        """
        if not 1 <= ttl_s <= MAX_TTL_S:
            raise SettingsError(f"a token lives 1 to {MAX_TTL_S} seconds, not {ttl_s}")
        issued = self._clock() // 1000
        body = _ClaimsBody(
            iss=self._app_id,
            sub=user_id(user),
            org=org_id(org),
            roles=sorted(set(roles)),
            aud=self._audience,
            iat=issued,
            exp=issued + ttl_s,
            jti=encode_base64url(self._random_bytes(_JTI_BYTES)),
            amr=[MFA] if mfa else [],
            cnf=_Confirmation(key_thumbprint(device_key)) if device_key else None,
        )
        return self._sign(body)

    def _sign(self, body: _ClaimsBody) -> str:
        claims: dict[str, object] = msgspec.to_builtins(body)
        try:
            msgspec.convert(claims, _ClaimsBody)
        except msgspec.ValidationError as error:
            raise SettingsError(f"the token would be refused: {error}") from error
        header = {"alg": ALGORITHM, "kid": self._kid, "typ": TOKEN_TYPE}
        return jwt.encode(header, claims, self._key, algorithms=[ALGORITHM])


class TokenVerifier:
    """Checks tokens against the keys of the registered apps."""

    def __init__(self, keys: Mapping[str, AppKey], audience: str, clock: Clock) -> None:
        """``keys`` maps a key id to its app."""
        self._keys = {kid: (app, _public_jwk(app.public)) for kid, app in keys.items()}
        self._audience = audience
        self._clock = clock

    def verify(self, token: str) -> Claims:
        """Return what ``token`` says.

        Raises TokenInvalidError (one error for every reason that is not the caller's clock or address),
        TokenAudienceError, TokenExpiredError and TokenNotYetValidError.
        """
        app, body = self._open(token)
        if body.iss != app.app or not 0 < body.exp - body.iat <= MAX_TTL_S:
            raise TokenInvalidError("the token is not valid")
        if body.aud != self._audience:
            raise TokenAudienceError("the token was minted for another server")
        self._check_dates(body)
        claims = _claims(body)
        if app.orgs is not None and claims.org not in app.orgs:
            raise TokenInvalidError("the token is not valid")
        return claims

    def _open(self, token: str) -> tuple[AppKey, _ClaimsBody]:
        if len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise TokenInvalidError("the token is not valid")
        try:
            header = msgspec.convert(jws.extract_compact(token.encode()).headers(), _Header)
            if header.alg != ALGORITHM or header.typ != TOKEN_TYPE:
                raise TokenInvalidError("the token is not valid")
            app, key = self._keys[header.kid]
            compact = jws.deserialize_compact(token, key, algorithms=[ALGORITHM])  # raises if forged
            return app, msgspec.json.decode(compact.payload, type=_ClaimsBody)
        except (JoseError, msgspec.DecodeError, KeyError, ValueError) as error:
            raise TokenInvalidError("the token is not valid") from error

    def _check_dates(self, body: _ClaimsBody) -> None:
        now_ms = self._clock()
        if body.iat * 1000 > now_ms + MAX_AHEAD_S * 1000:
            raise TokenNotYetValidError("the token was issued in the future")
        if body.exp * 1000 <= now_ms:
            raise TokenExpiredError("the token has expired")


def generate_mint_key(
    path: str | os.PathLike[str],
    *,
    app_id: str,
    kid: str,
    audience: str,
    orgs: Iterable[str] = (),
    random_bytes: RandomBytes = secrets.token_bytes,
) -> str:
    """Write a new minting key to ``path`` (mode 0600, never overwritten); return the line that registers it.

    The line (see ``parse_app_keys``) holds the public key alone. Without ``orgs`` it speaks for every
    organisation, which the line shows as ``*``. Raises SettingsError.
    """
    seed = SecretBytes(random_bytes(KEY_BYTES))
    content = _MintKeyFile(app=app_id, kid=kid, audience=audience, seed=encode_base64url(seed.reveal()))
    try:
        msgspec.convert(msgspec.to_builtins(content), _MintKeyFile)
        names = ",".join(sorted(org_id(org) for org in orgs)) or ANY_ORG
    except (msgspec.ValidationError, InvalidIdError) as error:
        raise SettingsError(f"no such minting key can be made: {error}") from error
    _write_private(Path(path), msgspec.json.format(msgspec.json.encode(content)) + b"\n")
    public = SigningKeyPair.from_seed(seed).public
    return f"{app_id} {kid} {encode_base64url(public.raw)} {names}"


def parse_app_keys(text: str) -> dict[str, AppKey]:
    """Return the registered keys by key id; one line each: ``APP KID PUBLIC-KEY ORG,ORG...``, ``*`` for all.

    Empty lines and lines that begin with ``#`` say nothing. Raises SettingsError with all problems by line.
    """
    keys: dict[str, AppKey] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            kid, key = _parse_app_key(line)
            if kid in keys:
                raise SettingsError("this key id is registered twice")
            keys[kid] = key
        except SecureChatError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise SettingsError("the app keys cannot be used: " + "; ".join(problems))
    return keys


def key_thumbprint(key: VerifyKey) -> str:
    """Return the JWK SHA-256 thumbprint of an Ed25519 key (RFC 8037 appendix A.3), 43 characters."""
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{encode_base64url(key.raw)}"}}'
    return encode_base64url(hashlib.sha256(jwk.encode()).digest())


def _parse_app_key(line: str) -> tuple[str, AppKey]:
    fields = line.split()
    if len(fields) != 4:
        raise SettingsError(f"four fields are needed (APP KID PUBLIC-KEY ORGS), there are {len(fields)}")
    app, kid, public, orgs = fields
    try:
        msgspec.convert([app, kid, public], tuple[_Name, _Name, _Key])
        key = VerifyKey(decode_base64url(public))
    except (msgspec.ValidationError, WireError) as error:
        raise SettingsError("the app, key id or public key is malformed") from error
    allowed = None if orgs == ANY_ORG else frozenset(org_id(org) for org in orgs.split(","))
    return kid, AppKey(app, key, allowed)


def _claims(body: _ClaimsBody) -> Claims:
    return Claims(
        app=body.iss,
        user=user_id(body.sub),
        org=org_id(body.org),
        roles=frozenset(body.roles),
        issued_ms=body.iat * 1000,
        expires_ms=body.exp * 1000,
        mfa=MFA in body.amr,
        key_thumbprint=body.cnf.jkt if body.cnf else None,
    )


def _public_jwk(key: VerifyKey) -> OKPKey:
    return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(key.raw)})


def _private_jwk(seed: SecretBytes) -> OKPKey:
    pair = SigningKeyPair.from_seed(seed)
    parts = {"x": encode_base64url(pair.public.raw), "d": encode_base64url(seed.reveal())}
    return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", **parts})


def _read_private(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        raw = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(f"{path} is open to others than its owner; run: chmod 600 {path}")
    return raw


def _write_private(path: Path, raw: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SettingsError(f"{path} cannot be made: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)


def _system_clock() -> int:
    return time.time_ns() // 1_000_000
