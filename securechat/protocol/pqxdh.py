"""PQXDH: the start of a session, by X25519 and ML-KEM-1024 together (PQXDH specification, revision 3).

Differences from the specification, each stricter: identity keys are a cross-signed Ed25519 and X25519 pair,
and the hash of a transcript of all public values stands in the KDF. docs/format/pqxdh.md is normative.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from securechat.crypto.kdf import NO_SALT, derive
from securechat.crypto.kem import PUBLIC_KEY_BYTES, KemKeyPair, KemKind, KemPublicKey
from securechat.crypto.keys import KEY_BYTES, DhKeyPair, DhPublicKey, SigningKeyPair, VerifyKey
from securechat.crypto.labels import Label
from securechat.crypto.secret import SecretBytes
from securechat.errors import NoSessionError
from securechat.ids import ProtocolAddress, SessionId
from securechat.ports import RandomBytes
from securechat.wire.codec import Writer
from securechat.wire.handshake import KEM_CIPHERTEXT_BYTES, PqxdhHeader
from securechat.wire.prekeys import PreKeyBundle, PreKeyKind, check_bundle

TRANSCRIPT_VERSION: Final = 1
SUITE_ID: Final = 1  # X25519, Ed25519, ML-KEM-1024, HKDF-SHA-256, AES-256-GCM
SECRET_BYTES: Final = 32
_PREFIX: Final = b"\xff" * KEY_BYTES  # the F of X3DH section 2.2


@dataclass(frozen=True, slots=True)
class LocalDevice:
    """This device, with its private keys; ``account`` is the public key of its account."""

    address: ProtocolAddress
    account: VerifyKey
    signing: SigningKeyPair
    agreement: DhKeyPair

    def public(self) -> "PeerDevice":
        """Return this device as its peers see it."""
        return PeerDevice(self.address, self.account, self.signing.public, self.agreement.public)


@dataclass(frozen=True, slots=True)
class PeerDevice:
    """Another device, taken from a checked device list."""

    address: ProtocolAddress
    account: VerifyKey
    signing: VerifyKey
    agreement: DhPublicKey


@dataclass(frozen=True, slots=True)
class Handshake:
    """What both sides hold: a 32-byte secret, 32 bytes of associated data and the 32-byte session id."""

    secret: SecretBytes
    associated_data: bytes
    session_id: SessionId


class PreKeySource(Protocol):
    """The private prekeys that a responder looks up; ``securechat.protocol.prekeys.PreKeyPool`` is one."""

    def check_unused(self, header: PqxdhHeader) -> None:
        """Raise DuplicateMessageError if the base key of ``header`` opened a session before."""

    def signed_pair(self, header: PqxdhHeader) -> DhKeyPair:
        """Return the signed prekey that ``header`` names. Raises StalePreKeyError."""

    def one_time_pair(self, header: PqxdhHeader) -> DhKeyPair | None:
        """Return the one-time prekey that ``header`` names, or None. Raises StalePreKeyError."""

    def kem_pair(self, header: PqxdhHeader) -> KemKeyPair:
        """Return the ML-KEM-1024 prekey that ``header`` names. Raises StalePreKeyError."""


@dataclass(frozen=True, slots=True)
class PublicPreKeys:
    """The responder's prekeys of one handshake, as the transcript names them."""

    signed_id: int
    signed: DhPublicKey
    one_time_id: int | None
    one_time: DhPublicKey | None
    kem_kind: PreKeyKind
    kem_id: int
    kem: KemPublicKey


def initiate(
    own: LocalDevice, peer: PeerDevice, bundle: PreKeyBundle, *, now_ms: int, random_bytes: RandomBytes
) -> tuple[PqxdhHeader, Handshake]:
    """Start a session with ``peer`` from its bundle; draws 32 bytes and the KEM's own randomness.

    Raises StalePreKeyError, InvalidSignatureError and WireError for a bundle that ``check_bundle`` refuses,
    WeakPublicKeyError, and NoSessionError for one's own address.
    """
    _check_distinct(own, peer)
    check_bundle(bundle, peer.address, peer.signing, now_ms)
    kem_secret, ciphertext = bundle.kem.public.encapsulate()
    return initiate_with(own, peer, bundle, DhKeyPair.generate(random_bytes), kem_secret, ciphertext)


def initiate_with(
    own: LocalDevice,
    peer: PeerDevice,
    bundle: PreKeyBundle,
    base: DhKeyPair,
    kem_secret: SecretBytes,
    kem_ciphertext: bytes,
) -> tuple[PqxdhHeader, Handshake]:
    """``initiate`` without its checks and randomness: ``base`` and the KEM output must be fresh."""
    one_time = bundle.one_time
    prekeys = PublicPreKeys(
        signed_id=bundle.signed.id,
        signed=bundle.signed.public,
        one_time_id=None if one_time is None else one_time.id,
        one_time=None if one_time is None else one_time.public,
        kem_kind=bundle.kem.kind,
        kem_id=bundle.kem.id,
        kem=bundle.kem.public,
    )
    secrets = [
        own.agreement.agree(prekeys.signed).reveal(),
        base.agree(peer.agreement).reveal(),
        base.agree(prekeys.signed).reveal(),
    ]
    if prekeys.one_time is not None:
        secrets.append(base.agree(prekeys.one_time).reveal())
    transcript = transcript_hash(own.public(), peer, base.public, prekeys, kem_ciphertext)
    header = PqxdhHeader(
        base.public, prekeys.signed_id, prekeys.one_time_id, prekeys.kem_kind, prekeys.kem_id, kem_ciphertext
    )
    return header, _handshake(own.public(), peer, transcript, [*secrets, kem_secret.reveal()])


def respond(own: LocalDevice, peer: PeerDevice, header: PqxdhHeader, prekeys: PreKeySource) -> Handshake:
    """Return the handshake that ``peer`` started with ``header``; ``peer`` comes from its checked list.

    Nothing is proven until a message opens under the secret: only then call ``PreKeyPool.consume``. Raises
    DuplicateMessageError for a base key used before, StalePreKeyError for a prekey that is no longer held,
    WeakPublicKeyError, DecryptionError, and NoSessionError for one's own address.
    """
    _check_distinct(own, peer)
    prekeys.check_unused(header)
    signed, kem = prekeys.signed_pair(header), prekeys.kem_pair(header)
    one_time = prekeys.one_time_pair(header)
    kem_secret = kem.decapsulate(header.kem_ciphertext)
    base = header.ephemeral
    secrets = [
        signed.agree(peer.agreement).reveal(),
        own.agreement.agree(base).reveal(),
        signed.agree(base).reveal(),
    ]
    if one_time is not None:
        secrets.append(one_time.agree(base).reveal())
    public = PublicPreKeys(
        signed_id=header.signed_id,
        signed=signed.public,
        one_time_id=header.one_time_id,
        one_time=None if one_time is None else one_time.public,
        kem_kind=header.kem_kind,
        kem_id=header.kem_id,
        kem=kem.public,
    )
    transcript = transcript_hash(peer, own.public(), base, public, header.kem_ciphertext)
    return _handshake(peer, own.public(), transcript, [*secrets, kem_secret.reveal()])


def transcript_hash(
    initiator: PeerDevice,
    responder: PeerDevice,
    base: DhPublicKey,
    prekeys: PublicPreKeys,
    kem_ciphertext: bytes,
) -> bytes:
    """Return the SHA-256 of everything public that both sides must agree upon (docs/format/pqxdh.md)."""
    writer = Writer().u8(TRANSCRIPT_VERSION).u8(SUITE_ID)
    _write_device(writer, initiator)
    _write_device(writer, responder)
    writer.fixed(base.raw, KEY_BYTES)
    writer.u8(PreKeyKind.SIGNED).u32(prekeys.signed_id).fixed(prekeys.signed.raw, KEY_BYTES)
    writer.u8(prekeys.one_time is not None)
    if prekeys.one_time is not None and prekeys.one_time_id is not None:
        writer.u8(PreKeyKind.ONE_TIME).u32(prekeys.one_time_id).fixed(prekeys.one_time.raw, KEY_BYTES)
    writer.u8(prekeys.kem_kind).u32(prekeys.kem_id)
    writer.fixed(prekeys.kem.raw, PUBLIC_KEY_BYTES[KemKind.ML_KEM_1024])
    return hashlib.sha256(writer.fixed(kem_ciphertext, KEM_CIPHERTEXT_BYTES).done()).digest()


def _handshake(
    initiator: PeerDevice, responder: PeerDevice, transcript: bytes, secrets: Sequence[bytes]
) -> Handshake:
    secret = derive(
        salt=NO_SALT,
        ikm=_PREFIX + b"".join(secrets),
        info=Label.PQXDH_SECRET.value + transcript,
        length=SECRET_BYTES,
    )
    session_id = SessionId(hashlib.sha256(Label.SESSION_ID.value + transcript).digest())
    return Handshake(secret, _associated_data(initiator, responder, session_id), session_id)


def _associated_data(initiator: PeerDevice, responder: PeerDevice, session_id: SessionId) -> bytes:
    label = Label.ASSOCIATED_DATA.value
    writer = Writer().fixed(label, len(label)).u8(TRANSCRIPT_VERSION).u8(SUITE_ID)
    _write_device(writer, initiator)
    _write_device(writer, responder)
    return hashlib.sha256(writer.fixed(session_id, len(session_id)).done()).digest()


def _write_device(writer: Writer, device: PeerDevice) -> None:
    writer.address(device.address).fixed(device.account.raw, KEY_BYTES)
    writer.fixed(device.signing.raw, KEY_BYTES).fixed(device.agreement.raw, KEY_BYTES)


def _check_distinct(own: LocalDevice, peer: PeerDevice) -> None:
    if own.address == peer.address:
        raise NoSessionError("a device holds no session with itself")
