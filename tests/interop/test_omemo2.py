"""The ratchet core against the libraries of OMEMO 2: X3DH, doubleratchet, and twomemo's own parameters."""

import os
import sys

import pytest

if sys.platform == "darwin":
    pytest.skip("xeddsa, which X3DH rests on, has no wheel for macOS before 15", allow_module_level=True)

import nacl.bindings as sodium
from doubleratchet import (
    AuthenticationFailedException,
    DoSProtectionException,
    DoubleRatchet,
    DuplicateMessageException,
    EncryptedMessage,
    Header,
)
from doubleratchet.recommended.diffie_hellman_ratchet_curve25519 import DiffieHellmanRatchet
from support.bad_traffic import MESSAGES, BadLine, Bounds, Tally
from support.core_peer import CorePeer
from support.suite_omemo2 import OMEMO2, x3dh_secret
from twomemo.twomemo import AEADImpl, DoubleRatchetImpl, MessageChainKDFImpl, RootChainKDFImpl, StateImpl
from x3dh import Bundle, HashFunction, IdentityKeyFormat, KeyAgreementException
from x3dh import Header as X3DHHeader

from securechat.crypto.keys import DhKeyPair, DhPublicKey, SigningKeyPair, VerifyKey, agree_raw
from securechat.protocol.double_ratchet import start_initiator, start_responder

BOUNDS = Bounds(chain=900, chains=sys.maxsize)  # the number of skipped keys alone is bounded
MOST_SKIPPED = 1_000
AD = bytes(range(64))


class OmemoPeer:
    """A session of doubleratchet."""

    refusals: tuple[type[Exception], ...] = (
        AuthenticationFailedException,
        DuplicateMessageException,
        DoSProtectionException,
    )

    def __init__(self, ratchet: DoubleRatchet, associated_data: bytes) -> None:
        self.ratchet = ratchet
        self.associated_data = associated_data

    async def seal(self, text: bytes) -> bytes:
        return (await self.ratchet.encrypt_message(text, self.associated_data)).ciphertext

    async def open(self, raw: bytes) -> bytes:
        return await self.ratchet.decrypt_message(as_theirs(raw), self.associated_data)


class Ours:
    """Our keys for X3DH: an Ed25519 identity, as OMEMO 2 has it, a signed prekey and a one-time prekey."""

    def __init__(self) -> None:
        self.identity = SigningKeyPair.generate(os.urandom)
        self.signed_prekey = DhKeyPair.generate(os.urandom)
        self.one_time = DhKeyPair.generate(os.urandom)
        self.agreement = sodium.crypto_sign_ed25519_sk_to_curve25519(self.identity.expanded.reveal())

    def bundle(self) -> Bundle:
        public = self.signed_prekey.public.raw
        keys = frozenset({self.one_time.public.raw})
        return Bundle(self.identity.public.raw, public, self.identity.sign(public), keys)


def as_theirs(raw: bytes) -> EncryptedMessage:
    """Their form of a message has the header a second time, beside the bytes."""
    header = OMEMO2.parse(raw).header
    return EncryptedMessage(Header(header.ratchet_key, header.previous, header.number), raw)


def their_state() -> StateImpl:
    state = StateImpl.create(IdentityKeyFormat.ED_25519, HashFunction.SHA_256, StateImpl.INFO)
    state.generate_pre_keys(1)
    return state


async def they_start(secret: bytes, signed_prekey: bytes, associated_data: bytes) -> tuple[OmemoPeer, bytes]:
    """Return their side, and their first message, which says ``first``."""
    ratchet, message = await DoubleRatchetImpl.encrypt_initial_message(
        DiffieHellmanRatchet,
        RootChainKDFImpl,
        MessageChainKDFImpl,
        DoubleRatchetImpl.MESSAGE_CHAIN_CONSTANT,
        MOST_SKIPPED,
        MOST_SKIPPED,
        AEADImpl,
        secret,
        signed_prekey,
        b"first",
        associated_data,
    )
    return OmemoPeer(ratchet, associated_data), message.ciphertext


async def they_answer(
    secret: bytes, signed_prekey: bytes, first: bytes, associated_data: bytes
) -> tuple[OmemoPeer, bytes]:
    """Return their side, and the text of our first message; ``signed_prekey`` is the private half."""
    ratchet, text = await DoubleRatchetImpl.decrypt_initial_message(
        DiffieHellmanRatchet,
        RootChainKDFImpl,
        MessageChainKDFImpl,
        DoubleRatchetImpl.MESSAGE_CHAIN_CONSTANT,
        MOST_SKIPPED,
        MOST_SKIPPED,
        AEADImpl,
        secret,
        signed_prekey,
        as_theirs(first),
        associated_data,
    )
    return OmemoPeer(ratchet, associated_data), text


def our_secret_as_initiator(ours: Ours, bundle: Bundle) -> tuple[bytes, X3DHHeader]:
    """X3DH by our own functions: check the signature, agree, derive."""
    VerifyKey(bundle.identity_key).verify(bundle.signed_pre_key_sig, bundle.signed_pre_key)
    (one_time,) = bundle.pre_keys
    ephemeral = DhKeyPair.generate(os.urandom)
    private = ephemeral.private.reveal()
    secret = x3dh_secret(
        agree_raw(ours.agreement, bundle.signed_pre_key),
        agree_raw(private, sodium.crypto_sign_ed25519_pk_to_curve25519(bundle.identity_key)),
        agree_raw(private, bundle.signed_pre_key),
        agree_raw(private, one_time),
    )
    header = X3DHHeader(ours.identity.public.raw, ephemeral.public.raw, bundle.signed_pre_key, one_time)
    return secret, header


def our_secret_as_responder(ours: Ours, header: X3DHHeader) -> bytes:
    private = ours.signed_prekey.private.reveal()
    return x3dh_secret(
        agree_raw(private, sodium.crypto_sign_ed25519_pk_to_curve25519(header.identity_key)),
        agree_raw(ours.agreement, header.ephemeral_key),
        agree_raw(private, header.ephemeral_key),
        agree_raw(ours.one_time.private.reveal(), header.ephemeral_key),
    )


def check(tally: Tally) -> None:
    """Everything that was not lost arrived once, and the line was as bad as it says."""
    assert tally.opened == tally.sent - tally.lost
    assert tally.sent >= MESSAGES
    assert min(tally.lost, tally.late, tally.replayed, tally.forged, tally.chains) > MESSAGES // 100


async def test_a_session_that_we_start_holds_over_a_bad_line(seed: int) -> None:
    ours, state = Ours(), their_state()
    secret, header = our_secret_as_initiator(ours, state.bundle)
    their_secret, associated_data, signed = await state.get_shared_secret_passive(header)
    assert their_secret == secret
    assert associated_data == ours.identity.public.raw + state.bundle.identity_key
    start = start_initiator(OMEMO2, secret, DhPublicKey(state.bundle.signed_pre_key), None, os.urandom)
    peer = CorePeer(OMEMO2, start, associated_data)
    theirs, text = await they_answer(secret, signed.priv, await peer.seal(b"first"), associated_data)
    assert text == b"first"
    check(await BadLine(peer, theirs, header=peer.header, bounds=BOUNDS, seed=seed).hold())


async def test_a_session_that_they_start_holds_over_a_bad_line(seed: int) -> None:
    ours, state = Ours(), their_state()
    secret, associated_data, header = await state.get_shared_secret_active(ours.bundle())
    assert our_secret_as_responder(ours, header) == secret
    assert associated_data == header.identity_key + ours.identity.public.raw
    peer = CorePeer(OMEMO2, start_responder(secret, ours.signed_prekey, None), associated_data)
    theirs, first = await they_start(secret, ours.signed_prekey.public.raw, associated_data)
    assert await peer.open(first) == b"first"
    check(await BadLine(peer, theirs, header=peer.header, bounds=BOUNDS, seed=seed).hold())


async def test_a_bundle_with_a_foreign_signature_is_refused_by_them() -> None:
    bundle = Ours().bundle()
    foreign = Ours().identity.sign(bundle.signed_pre_key)
    with pytest.raises(KeyAgreementException):
        await their_state().get_shared_secret_active(bundle._replace(signed_pre_key_sig=foreign))


async def test_first_messages_of_ours_open_in_any_order() -> None:
    signed = DhKeyPair.generate(os.urandom)
    start = start_initiator(OMEMO2, b"S" * 32, signed.public, None, os.urandom)
    peer = CorePeer(OMEMO2, start, AD)
    messages = [await peer.seal(b"%d" % number) for number in range(5)]
    theirs, text = await they_answer(b"S" * 32, signed.private.reveal(), messages[3], AD)
    opened = [text] + [await theirs.open(messages[number]) for number in (4, 0, 2, 1)]
    assert opened == [b"3", b"4", b"0", b"2", b"1"]


async def test_other_associated_data_opens_nothing_on_either_side() -> None:
    signed = DhKeyPair.generate(os.urandom)
    theirs, first = await they_start(b"S" * 32, signed.public.raw, AD)
    peer = CorePeer(OMEMO2, start_responder(b"S" * 32, signed, None), AD[::-1])
    with pytest.raises(peer.refusals):
        await peer.open(first)
    peer.associated_data = AD
    assert await peer.open(first) == b"first"
    theirs.associated_data = AD[::-1]
    with pytest.raises(theirs.refusals):
        await theirs.open(await peer.seal(b"answer"))
