"""What a ratchet is made of, as one value: key derivation, AEAD and header codec.

The core in ``double_ratchet`` and ``pq_epochs`` knows none of these itself, so that the same code can be run
against independent implementations of other suites. The product has one, ``SECURECHAT_V1``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from securechat.crypto import aead
from securechat.crypto.aead import NONCE_BYTES
from securechat.crypto.kdf import equal, hkdf_sha256, hmac_sha256
from securechat.crypto.labels import Label
from securechat.errors import DecryptionError
from securechat.ports import RandomBytes
from securechat.protocol.chains import Step
from securechat.wire.messages import (
    COMMITMENT_BYTES,
    RatchetHeader,
    RatchetMessage,
    encode_head,
    parse_ratchet_part,
)

SUITE_NUMBER: Final = 1
_KEY: Final = 32
_BODY_START: Final = NONCE_BYTES + COMMITMENT_BYTES
_MESSAGE_INFO: Final = Label.MESSAGE_KEYS.value + bytes([SUITE_NUMBER])
_ROOT_INFO: Final = Label.ROOT_STEP.value + bytes([SUITE_NUMBER])
_PQ_EPOCH_INFO: Final = Label.PQ_EPOCH.value + bytes([SUITE_NUMBER])
_PQ_MESSAGE_KEY: Final = Label.PQ_CHAIN_STEP.value + b"\x01"
_PQ_CHAIN_KEY: Final = Label.PQ_CHAIN_STEP.value + b"\x02"


class MessageKeys(msgspec.Struct, frozen=True, gc=False):
    """What both ratchets give for one message, 32 bytes each; ``pq`` is empty without a PQ chain."""

    ec: bytes
    pq: bytes

    def __repr__(self) -> str:
        return "MessageKeys(**)"


class EpochKeys(msgspec.Struct, frozen=True, gc=False):
    """The keys of a PQ epoch, 32 bytes each: the root for the next one, and a chain for each direction."""

    root: bytes
    from_initiator: bytes
    from_responder: bytes

    def __repr__(self) -> str:
        return "EpochKeys(**)"


class Seal(Protocol):
    """Make a ratchet part: header and sealed plaintext, both authenticated with ``associated_data``."""

    def __call__(
        self,
        keys: MessageKeys,
        header: RatchetHeader,
        *,
        plaintext: bytes,
        associated_data: bytes,
        random_bytes: RandomBytes,
    ) -> bytes: ...


class Open(Protocol):
    """Return the plaintext of a ratchet part. Raises DecryptionError for every reason."""

    def __call__(self, keys: MessageKeys, message: RatchetMessage, associated_data: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PqSuite:
    """The post-quantum chain: its step, the keys of a new epoch, and whether this side makes new epochs.

    ``new_epoch`` takes the root (32 bytes), the KEM's secret (32) and a context that binds the exchange.
    """

    step: Step
    new_epoch: Callable[[bytes, bytes, bytes], EpochKeys]
    offers: bool


@dataclass(frozen=True, slots=True)
class Suite:
    """Everything that one ratchet protocol fixes.

    ``root_step``: KDF_RK, from root and DH output to next root and chain key; ``chain_step``: KDF_CK.
    ``receiving_chains``: 1 where the header carries the length of the previous chain, whose missing keys are
    then skipped at once; more where it does not, and that many old chains are kept.
    """

    root_step: Callable[[bytes, bytes], tuple[bytes, bytes]]
    chain_step: Step
    pq: PqSuite | None
    receiving_chains: int
    seal: Seal
    parse: Callable[[bytes], RatchetMessage]
    open: Open


def _root_step(root: bytes, secret: bytes) -> tuple[bytes, bytes]:
    out = hkdf_sha256(salt=root, ikm=secret, info=_ROOT_INFO, length=2 * _KEY)
    return out[:_KEY], out[_KEY:]


def _chain_step(key: bytes, number: int) -> tuple[bytes, bytes]:
    """The specification's recommendation (section 7.2); the number takes no part."""
    return hmac_sha256(key, b"\x02"), hmac_sha256(key, b"\x01")


def _pq_step(key: bytes, number: int) -> tuple[bytes, bytes]:
    return hmac_sha256(key, _PQ_CHAIN_KEY), hmac_sha256(key, _PQ_MESSAGE_KEY)


def _new_epoch(root: bytes, secret: bytes, context: bytes) -> EpochKeys:
    out = hkdf_sha256(salt=root, ikm=secret, info=_PQ_EPOCH_INFO + context, length=3 * _KEY)
    return EpochKeys(out[:_KEY], out[_KEY : 2 * _KEY], out[2 * _KEY :])


def _message_keys(keys: MessageKeys) -> bytes:
    """Return the AES-256 key and the 32-byte commitment to it."""
    return hkdf_sha256(salt=keys.pq, ikm=keys.ec, info=_MESSAGE_INFO, length=_KEY + COMMITMENT_BYTES)


def _seal(
    keys: MessageKeys,
    header: RatchetHeader,
    *,
    plaintext: bytes,
    associated_data: bytes,
    random_bytes: RandomBytes,
) -> bytes:
    derived = _message_keys(keys)
    head = encode_head(header)
    nonce = random_bytes(NONCE_BYTES)
    sealed = aead.seal(derived[:_KEY], nonce, plaintext, associated_data + head)
    return head + nonce + derived[_KEY:] + sealed


def _open(keys: MessageKeys, message: RatchetMessage, associated_data: bytes) -> bytes:
    derived = _message_keys(keys)
    body = message.body
    if not equal(body[NONCE_BYTES:_BODY_START], derived[_KEY:]):
        raise DecryptionError("cannot decrypt")
    nonce, sealed = body[:NONCE_BYTES], body[_BODY_START:]
    return aead.open_(derived[:_KEY], nonce, sealed, associated_data + message.head)


SECURECHAT_V1: Final = Suite(
    root_step=_root_step,
    chain_step=_chain_step,
    pq=PqSuite(step=_pq_step, new_epoch=_new_epoch, offers=True),
    receiving_chains=1,
    seal=_seal,
    parse=parse_ratchet_part,
    open=_open,
)
