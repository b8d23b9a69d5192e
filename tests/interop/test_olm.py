"""The ratchet core against vodozemac, Matrix's own implementation of Olm."""

import os

import pytest
from support.bad_traffic import MESSAGES, BadLine, Bounds, Tally
from support.core_peer import CorePeer
from support.suite_olm import OLM, PreKeyEnvelope, three_dh
from vodozemac import Account, AnyOlmMessage, Curve25519PublicKey, OlmDecryptionException, Session

from securechat.crypto.keys import DhKeyPair, agree_raw

PRE_KEY, NORMAL = 0, 1
BOUNDS = Bounds(chain=36, chains=5)  # vodozemac keeps 40 skipped keys of each of the newest 5 chains


class OlmPeer:
    """A session of vodozemac that was answered, so that its messages are normal ones."""

    refusals: tuple[type[Exception], ...] = (OlmDecryptionException,)

    def __init__(self, session: Session) -> None:
        self.session = session

    async def seal(self, text: bytes) -> bytes:
        kind, raw = self.session.encrypt(text).to_parts()
        assert kind == NORMAL
        return raw

    async def open(self, raw: bytes) -> bytes:
        return self.session.decrypt(AnyOlmMessage.from_parts(NORMAL, raw))


def new_pair() -> DhKeyPair:
    return DhKeyPair.generate(os.urandom)


def a_new_account() -> tuple[Account, bytes, bytes]:
    """Return an account of vodozemac, its identity key and one one-time key."""
    account = Account()
    account.generate_one_time_keys(1)
    (one_time,) = account.one_time_keys.values()
    return account, account.curve25519_key.to_bytes(), one_time.to_bytes()


def session_that_we_start() -> tuple[CorePeer, Account, PreKeyEnvelope]:
    """Return our side, their account, and the envelope of our messages, which holds none yet."""
    account, their_identity, one_time = a_new_account()
    identity, base, ratchet = new_pair(), new_pair(), new_pair()
    start = three_dh(
        agree_raw(identity.private.reveal(), one_time),
        agree_raw(base.private.reveal(), their_identity),
        agree_raw(base.private.reveal(), one_time),
    )
    envelope = PreKeyEnvelope(one_time, base.public.raw, identity.public.raw, b"")
    return CorePeer(OLM, start.initiator(ratchet), b""), account, envelope


async def open_with(account: Account, envelope: PreKeyEnvelope, message: bytes) -> tuple[Session, bytes]:
    """Let vodozemac start its side by a message in its envelope."""
    whole = PreKeyEnvelope(envelope.one_time, envelope.base, envelope.identity, message).encode()
    pre_key = AnyOlmMessage.from_parts(PRE_KEY, whole).to_pre_key()
    assert pre_key is not None
    return account.create_inbound_session(Curve25519PublicKey.from_bytes(envelope.identity), pre_key)


def session_that_they_start() -> tuple[Session, DhKeyPair, DhKeyPair]:
    """Return vodozemac's side, and our identity and one-time key pairs."""
    identity, one_time = new_pair(), new_pair()
    session = Account().create_outbound_session(
        Curve25519PublicKey.from_bytes(identity.public.raw),
        Curve25519PublicKey.from_bytes(one_time.public.raw),
    )
    return session, identity, one_time


def answer_to(raw: bytes, identity: DhKeyPair, one_time: DhKeyPair) -> CorePeer:
    """Return our side of a session that vodozemac starts with the pre-key message ``raw``."""
    envelope = PreKeyEnvelope.parse(raw)
    assert envelope.one_time == one_time.public.raw
    start = three_dh(
        agree_raw(one_time.private.reveal(), envelope.identity),
        agree_raw(identity.private.reveal(), envelope.base),
        agree_raw(one_time.private.reveal(), envelope.base),
    )
    ratchet_key = OLM.parse(envelope.message).header.ratchet_key
    return CorePeer(OLM, start.responder(ratchet_key), b"")


def check(tally: Tally) -> None:
    """Everything that was not lost arrived once, and the line was as bad as it says."""
    assert tally.opened == tally.sent - tally.lost
    assert tally.sent >= MESSAGES
    assert min(tally.lost, tally.late, tally.replayed, tally.forged, tally.chains) > MESSAGES // 100


async def test_a_session_that_we_start_holds_over_a_bad_line(seed: int) -> None:
    ours, account, envelope = session_that_we_start()
    first = await ours.seal(b"first")
    session, text = await open_with(account, envelope, first)
    theirs = OlmPeer(session)
    assert text == b"first"
    assert await ours.open(await theirs.seal(b"answer")) == b"answer"
    check(await BadLine(ours, theirs, header=ours.header, bounds=BOUNDS, seed=seed).hold())


async def test_a_session_that_they_start_holds_over_a_bad_line(seed: int) -> None:
    session, identity, one_time = session_that_they_start()
    kind, raw = session.encrypt(b"first").to_parts()
    assert kind == PRE_KEY
    ours, theirs = answer_to(raw, identity, one_time), OlmPeer(session)
    assert await ours.open(PreKeyEnvelope.parse(raw).message) == b"first"
    assert await theirs.open(await ours.seal(b"answer")) == b"answer"
    check(await BadLine(ours, theirs, header=ours.header, bounds=BOUNDS, seed=seed).hold())


async def test_first_messages_of_ours_open_in_any_order() -> None:
    ours, account, envelope = session_that_we_start()
    messages = [await ours.seal(b"%d" % number) for number in range(5)]
    session, text = await open_with(account, envelope, messages[3])
    assert text == b"3"
    theirs = OlmPeer(session)
    assert [await theirs.open(messages[number]) for number in (4, 0, 2, 1)] == [b"4", b"0", b"2", b"1"]


async def test_first_messages_of_theirs_open_in_any_order() -> None:
    session, identity, one_time = session_that_they_start()
    raw = [session.encrypt(b"%d" % number).to_parts()[1] for number in range(5)]
    ours = answer_to(raw[3], identity, one_time)
    opened = [await ours.open(PreKeyEnvelope.parse(raw[number]).message) for number in (3, 4, 0, 2, 1)]
    assert opened == [b"3", b"4", b"0", b"2", b"1"]


async def test_another_handshake_key_opens_nothing() -> None:
    session, identity, one_time = session_that_they_start()
    _, raw = session.encrypt(b"first").to_parts()
    ours = answer_to(raw, new_pair(), one_time)
    with pytest.raises(ours.refusals):
        await ours.open(PreKeyEnvelope.parse(raw).message)
    ours = answer_to(raw, identity, one_time)
    assert await ours.open(PreKeyEnvelope.parse(raw).message) == b"first"
