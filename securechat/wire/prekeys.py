"""Prekeys, bundles and uploads (PQXDH specification, section 3.2; docs/format/prekeys.md).

Every prekey is signed by the device signing key over its kind, owner, id, dates and key, so that none can
stand for another, for another device's, or be served for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Final, TypeVar

from securechat.crypto.kem import PUBLIC_KEY_BYTES, KemKind, KemPublicKey
from securechat.crypto.keys import KEY_BYTES, SIGNATURE_BYTES, DhPublicKey, SigningKeyPair, VerifyKey
from securechat.crypto.labels import Label
from securechat.errors import InvalidSignatureError, StalePreKeyError, WireError
from securechat.ids import ProtocolAddress
from securechat.wire.codec import Reader, Writer
from securechat.wire.keys import read_dh_key, read_kem_key

FORMAT_VERSION: Final = 1
MAX_ONE_TIME: Final = 100  # prekeys of each one-time kind in one upload
DAY_MS: Final = 86_400_000
MAX_AGE_MS: Final = 30 * DAY_MS  # an older prekey is refused, whatever it says of its expiry
MAX_AHEAD_MS: Final = DAY_MS  # tolerated when the owner's clock runs ahead


class PreKeyKind(IntEnum):
    """What a prekey is for; the value is the wire's kind byte."""

    SIGNED = 1  # X25519, replaced weekly
    ONE_TIME = 2  # X25519, handed out once
    KEM_ONE_TIME = 3  # ML-KEM-1024, handed out once
    KEM_LAST_RESORT = 4  # ML-KEM-1024, handed out when the one-time keys are used up; replaced weekly


DH_KINDS: Final = frozenset({PreKeyKind.SIGNED, PreKeyKind.ONE_TIME})
KEM_KINDS: Final = frozenset({PreKeyKind.KEM_ONE_TIME, PreKeyKind.KEM_LAST_RESORT})


@dataclass(frozen=True, slots=True)
class SignedDhPreKey:
    """An X25519 prekey: its kind (SIGNED or ONE_TIME), 32-bit id, key, dates and 64-byte signature."""

    kind: PreKeyKind
    id: int
    public: DhPublicKey
    created_ms: int
    expires_ms: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignedKemPreKey:
    """An ML-KEM-1024 prekey: its kind (KEM_ONE_TIME or KEM_LAST_RESORT), id, key, dates and signature."""

    kind: PreKeyKind
    id: int
    public: KemPublicKey
    created_ms: int
    expires_ms: int
    signature: bytes


SignedPreKey = SignedDhPreKey | SignedKemPreKey
_PreKey = TypeVar("_PreKey", SignedDhPreKey, SignedKemPreKey)


@dataclass(frozen=True, slots=True)
class PreKeyUpload:
    """What a device publishes: both lasting prekeys and up to 100 new ones of each one-time kind, by id."""

    signed: SignedDhPreKey
    last_resort: SignedKemPreKey
    one_time: tuple[SignedDhPreKey, ...]
    kem_one_time: tuple[SignedKemPreKey, ...]


@dataclass(frozen=True, slots=True)
class PreKeyBundle:
    """What a starter of a session gets: never without a KEM prekey; the one-time X25519 prekey may lack."""

    address: ProtocolAddress
    signed: SignedDhPreKey
    kem: SignedKemPreKey
    one_time: SignedDhPreKey | None


def sign_dh_prekey(
    signing: SigningKeyPair,
    address: ProtocolAddress,
    *,
    kind: PreKeyKind,
    key_id: int,
    public: DhPublicKey,
    created_ms: int,
    expires_ms: int,
) -> SignedDhPreKey:
    """Return the X25519 prekey of ``address``, signed. Raises WireError for a KEM kind."""
    _check_kind(kind, DH_KINDS)
    message = _signed_message(kind, address, key_id, created_ms, expires_ms, public.raw)
    return SignedDhPreKey(kind, key_id, public, created_ms, expires_ms, signing.sign(message))


def sign_kem_prekey(
    signing: SigningKeyPair,
    address: ProtocolAddress,
    *,
    kind: PreKeyKind,
    key_id: int,
    public: KemPublicKey,
    created_ms: int,
    expires_ms: int,
) -> SignedKemPreKey:
    """Return the ML-KEM-1024 prekey of ``address``, signed. Raises WireError for an X25519 kind."""
    _check_kind(kind, KEM_KINDS)
    message = _signed_message(kind, address, key_id, created_ms, expires_ms, public.raw)
    return SignedKemPreKey(kind, key_id, public, created_ms, expires_ms, signing.sign(message))


def check_prekey(prekey: SignedPreKey, address: ProtocolAddress, signing: VerifyKey, now_ms: int) -> None:
    """Check that ``signing`` made this prekey for ``address`` and that it is in date at ``now_ms``.

    Raises StalePreKeyError (expired, older than 30 days, dated more than a day ahead), InvalidSignatureError
    and WireError (a kind that does not fit the key).
    """
    _check_kind(prekey.kind, DH_KINDS if isinstance(prekey, SignedDhPreKey) else KEM_KINDS)
    if now_ms >= prekey.expires_ms:
        raise StalePreKeyError("the prekey has expired")
    if now_ms - prekey.created_ms > MAX_AGE_MS:
        raise StalePreKeyError(f"the prekey is older than {MAX_AGE_MS // DAY_MS} days")
    if prekey.created_ms - now_ms > MAX_AHEAD_MS:
        raise StalePreKeyError("the prekey is dated more than a day ahead")
    message = _signed_message(
        prekey.kind, address, prekey.id, prekey.created_ms, prekey.expires_ms, prekey.public.raw
    )
    signing.verify(prekey.signature, message)


def check_bundle(bundle: PreKeyBundle, address: ProtocolAddress, signing: VerifyKey, now_ms: int) -> None:
    """Check that the bundle is for ``address`` and every prekey in it, each in its place.

    Raises as ``check_prekey``; InvalidSignatureError also for a bundle of another address.
    """
    _check_bundle_kinds(bundle)
    if bundle.address != address:
        raise InvalidSignatureError("the bundle belongs to another device")
    check_prekey(bundle.signed, address, signing, now_ms)
    check_prekey(bundle.kem, address, signing, now_ms)
    if bundle.one_time is not None:
        check_prekey(bundle.one_time, address, signing, now_ms)


def check_upload(upload: PreKeyUpload, address: ProtocolAddress, signing: VerifyKey, now_ms: int) -> None:
    """Check every prekey of a parsed upload, and that each KEM key is well formed.

    Raises as ``check_prekey``, and WeakPublicKeyError (FIPS 203 section 7.2).
    """
    for prekey in (upload.signed, *upload.one_time):
        check_prekey(prekey, address, signing, now_ms)
    for kem in (upload.last_resort, *upload.kem_one_time):
        check_prekey(kem, address, signing, now_ms)
        kem.public.check()


def encode_prekey(prekey: SignedPreKey) -> bytes:
    """Return 118 bytes (X25519) or 1,654 bytes (ML-KEM-1024). Raises WireError."""
    writer = Writer()
    write_prekey(writer, prekey)
    return writer.done()


def parse_prekey(raw: bytes) -> SignedPreKey:
    """Return the prekey; its form only, not its signature. Raises WireError."""
    reader = Reader(raw)
    prekey = read_prekey(reader)
    reader.end()
    return prekey


def write_prekey(writer: Writer, prekey: SignedPreKey) -> None:
    """Append one prekey."""
    is_dh = isinstance(prekey, SignedDhPreKey)
    _check_kind(prekey.kind, DH_KINDS if is_dh else KEM_KINDS)
    writer.u8(FORMAT_VERSION).u8(prekey.kind).u32(prekey.id).u64(prekey.created_ms).u64(prekey.expires_ms)
    writer.fixed(prekey.public.raw, KEY_BYTES if is_dh else PUBLIC_KEY_BYTES[KemKind.ML_KEM_1024])
    writer.fixed(prekey.signature, SIGNATURE_BYTES)


def read_prekey(reader: Reader) -> SignedPreKey:
    """Take one prekey."""
    reader.expect(FORMAT_VERSION, "the prekey version")
    kind = read_kind(reader)
    key_id, created_ms, expires_ms = reader.u32(), reader.u64(), reader.u64()
    if kind in DH_KINDS:
        dh = read_dh_key(reader)
        return SignedDhPreKey(kind, key_id, dh, created_ms, expires_ms, reader.fixed(SIGNATURE_BYTES))
    kem = read_kem_key(reader, KemKind.ML_KEM_1024)
    return SignedKemPreKey(kind, key_id, kem, created_ms, expires_ms, reader.fixed(SIGNATURE_BYTES))


def read_kind(reader: Reader) -> PreKeyKind:
    """Take a kind byte. Raises WireError for an unknown one."""
    number = reader.u8()
    try:
        return PreKeyKind(number)
    except ValueError as error:
        raise WireError(f"prekey kind {number} is unknown") from error


def encode_bundle(bundle: PreKeyBundle) -> bytes:
    """Return the bundle's bytes: 1,774 plus the address, and 118 more with a one-time prekey."""
    _check_bundle_kinds(bundle)
    writer = Writer().u8(FORMAT_VERSION).address(bundle.address)
    write_prekey(writer, bundle.signed)
    write_prekey(writer, bundle.kem)
    writer.u8(bundle.one_time is not None)
    if bundle.one_time is not None:
        write_prekey(writer, bundle.one_time)
    return writer.done()


def parse_bundle(raw: bytes) -> PreKeyBundle:
    """Return the bundle; its form only, see ``check_bundle``. Raises WireError."""
    reader = Reader(raw)
    reader.expect(FORMAT_VERSION, "the bundle version")
    address = reader.address()
    signed, kem = _read_dh(reader), _read_kem(reader)
    one_time = _read_dh(reader) if read_flag(reader) else None
    reader.end()
    bundle = PreKeyBundle(address, signed, kem, one_time)
    _check_bundle_kinds(bundle)
    return bundle


def encode_upload(upload: PreKeyUpload) -> bytes:
    """Return the upload's bytes: at most 178,977. Raises WireError for too many keys or a wrong order."""
    _check_upload_form(upload)
    writer = Writer().u8(FORMAT_VERSION)
    write_prekey(writer, upload.signed)
    write_prekey(writer, upload.last_resort)
    for prekeys in (upload.one_time, upload.kem_one_time):
        writer.u16(len(prekeys))
        for prekey in prekeys:
            write_prekey(writer, prekey)
    return writer.done()


def parse_upload(raw: bytes) -> PreKeyUpload:
    """Return the upload; its form only, see ``check_upload``. Raises WireError."""
    reader = Reader(raw)
    reader.expect(FORMAT_VERSION, "the upload version")
    signed, last_resort = _read_dh(reader), _read_kem(reader)
    one_time = tuple(_read_dh(reader) for _ in range(_read_count(reader)))
    kem_one_time = tuple(_read_kem(reader) for _ in range(_read_count(reader)))
    reader.end()
    upload = PreKeyUpload(signed, last_resort, one_time, kem_one_time)
    _check_upload_form(upload)
    return upload


def read_flag(reader: Reader) -> bool:
    """Take one byte that is 0 or 1. Raises WireError."""
    number = reader.u8()
    if number > 1:
        raise WireError(f"a flag is {number}, not 0 or 1")
    return number == 1


def _signed_message(
    kind: PreKeyKind, address: ProtocolAddress, key_id: int, created_ms: int, expires_ms: int, key: bytes
) -> bytes:
    label = Label.SIGN_PREKEY.value
    writer = Writer().fixed(label, len(label)).u8(FORMAT_VERSION).u8(kind).address(address)
    return writer.u32(key_id).u64(created_ms).u64(expires_ms).fixed(key, len(key)).done()


def _check_kind(kind: PreKeyKind, allowed: frozenset[PreKeyKind]) -> None:
    if kind not in allowed:
        raise WireError(f"prekey kind {kind.value} is out of place")


def _check_bundle_kinds(bundle: PreKeyBundle) -> None:
    _check_kind(bundle.signed.kind, frozenset({PreKeyKind.SIGNED}))
    _check_kind(bundle.kem.kind, KEM_KINDS)
    if bundle.one_time is not None:
        _check_kind(bundle.one_time.kind, frozenset({PreKeyKind.ONE_TIME}))


def _check_upload_form(upload: PreKeyUpload) -> None:
    _check_kind(upload.signed.kind, frozenset({PreKeyKind.SIGNED}))
    _check_kind(upload.last_resort.kind, frozenset({PreKeyKind.KEM_LAST_RESORT}))
    _check_one_time(upload.one_time, PreKeyKind.ONE_TIME)
    _check_one_time(upload.kem_one_time, PreKeyKind.KEM_ONE_TIME)


def _check_one_time(prekeys: Sequence[SignedPreKey], kind: PreKeyKind) -> None:
    if len(prekeys) > MAX_ONE_TIME:
        raise WireError(f"{len(prekeys)} one-time prekeys are more than {MAX_ONE_TIME}")
    for prekey in prekeys:
        _check_kind(prekey.kind, frozenset({kind}))
    if any(a.id >= b.id for a, b in pairwise(prekeys)):
        raise WireError("one-time prekeys are not in ascending order of their ids")


def _read_dh(reader: Reader) -> SignedDhPreKey:
    return _of_class(read_prekey(reader), SignedDhPreKey)


def _read_kem(reader: Reader) -> SignedKemPreKey:
    return _of_class(read_prekey(reader), SignedKemPreKey)


def _of_class(prekey: SignedPreKey, expected: type[_PreKey]) -> _PreKey:
    if not isinstance(prekey, expected):
        raise WireError(f"prekey kind {prekey.kind.value} is out of place")
    return prekey


def _read_count(reader: Reader) -> int:
    count = reader.u16()
    if count > MAX_ONE_TIME:
        raise WireError(f"{count} one-time prekeys are more than {MAX_ONE_TIME}")
    return count
