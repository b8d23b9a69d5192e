"""The post-quantum ratchet: sparse ML-KEM-768 epochs, used only once confirmed (docs/format/pq-epochs.md).

It runs beside the classical ratchet, as in the Triple Ratchet (Double Ratchet, revision 4, section 5), and
gives one more key for each message. A new epoch takes one exchange:

1. a side that finds it due *offers* a fresh KEM key, once and again after 4, 8, 16 ... own messages;
2. the other *answers* with a ciphertext, once for each time that it sees the offer;
3. with the answer in hand the offerer knows that both hold the epoch, and sends in it;
4. the first message in it tells the answerer the same, which then sends in it too.

So no message waits for a lost one. When both offer, the session's initiator wins.
"""

import hashlib
from typing import Annotated, Final, NoReturn

import msgspec
from msgspec.structs import replace

from securechat.crypto.kem import CIPHERTEXT_BYTES, SEED_BYTES, KemKeyPair, KemKind, KemPublicKey
from securechat.crypto.labels import Label
from securechat.crypto.secret import SecretBytes
from securechat.errors import DecryptionError, WeakPublicKeyError
from securechat.ports import RandomBytes
from securechat.protocol.chains import (
    Chain,
    Skipped,
    check_jump,
    message_name,
    next_key,
    remember,
    take,
    walk,
)
from securechat.protocol.state import U32, U63, Bytes32, SecretState
from securechat.protocol.suite import EpochKeys, PqSuite
from securechat.wire.messages import OFFER_TAG_BYTES, RatchetHeader

OFFER_AFTER: Final = 50  # messages of both directions in an epoch, then the quieter side offers the next
OFFER_AFTER_TALKING: Final = 75  # the side that sends more waits longer: its offers are repeated unanswered
OFFER_AFTER_MS: Final = 24 * 3_600_000  # or this age of the epoch, then either side offers
REPEAT_AFTER: Final = 4  # own messages until the first repetition of an offer; the distance then doubles
KEM_BYTES: Final = CIPHERTEXT_BYTES[KemKind.ML_KEM_768]  # 1,088

OfferTag = Annotated[bytes, msgspec.Meta(min_length=OFFER_TAG_BYTES, max_length=OFFER_TAG_BYTES)]
KemCiphertext = Annotated[bytes, msgspec.Meta(min_length=KEM_BYTES, max_length=KEM_BYTES)]


class OfferKey:
    """The private half of an offer: a 64-byte seed; its key object is built when needed, and kept."""

    __slots__ = ("_pair", "seed")

    def __init__(self, seed: SecretBytes) -> None:
        self.seed = seed
        self._pair: KemKeyPair | None = None

    def pair(self) -> KemKeyPair:
        """Return the ML-KEM-768 key pair; the first call costs a key generation."""
        if self._pair is None:
            self._pair = KemKeyPair(KemKind.ML_KEM_768, self.seed)
        return self._pair

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OfferKey) and self.seed == other.seed

    __hash__ = None  # type: ignore[assignment]  # as SecretBytes

    def __repr__(self) -> str:
        return "OfferKey(**)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")


class Offered(SecretState, frozen=True, tag=1):
    """This side has offered ``key``; ``unanswered`` own messages were sent since, the offer's included."""

    key: OfferKey
    unanswered: U63


class Answered(SecretState, frozen=True, tag=2):
    """This side has answered the offer ``tag``: it can receive in the next epoch, and sends there when shown.

    ``owed``: the answer is to be put on the next message.
    """

    offer_tag: OfferTag
    ciphertext: KemCiphertext
    owed: bool
    root: Bytes32
    sending: Chain
    receiving: Chain


class Confirmed(SecretState, frozen=True, tag=3):
    """This side has got the answer and sends in the next epoch; ``receiving`` is the peer's chain there."""

    receiving: Chain


class PqState(SecretState, frozen=True):
    """One side of the post-quantum ratchet.

    ``root`` makes the next epoch. ``since_ms``, ``sent`` and ``received`` count from the newest root.
    INVARIANT: the epochs of the two directions differ by at most one, and an epoch is left only after a
    message of it has arrived; so the length of the previous chain in each header is enough to skip exactly.
    """

    initiator: bool
    root: Bytes32
    since_ms: U63
    sent: U63
    received: U63
    sending_epoch: U32
    sending_previous: U32
    sending: Chain
    receiving_epoch: U32
    receiving: Chain
    phase: Offered | Answered | Confirmed | None
    skipped: Skipped


class PqSending(msgspec.Struct, frozen=True, gc=False):
    """The key of the next own message, the state after it, and its fields of the header."""

    state: PqState
    key: bytes
    epoch: int
    previous: int
    number: int
    offer: bytes
    answer: bytes

    def __repr__(self) -> str:
        return "PqSending(**)"


def start(keys: EpochKeys, *, initiator: bool, now_ms: int) -> PqState:
    """Return the state of epoch 0."""
    sending, receiving = _directions(keys, initiator)
    return PqState(initiator, keys.root, now_ms, 0, 0, 0, 0, sending, 0, receiving, None, {})


def key_to_seal(suite: PqSuite, state: PqState, now_ms: int, random_bytes: RandomBytes) -> PqSending:
    """Step the sending chain, and decide whether the message carries an offer or an answer.

    Draws 64 bytes when a new offer is due. Raises ChainExhaustedError.
    """
    chain = state.sending
    following, key = next_key(suite.step, chain)
    phase, offer, answer = state.phase, b"", b""
    if phase is None:
        if suite.offers and _is_due(state, now_ms):
            fresh = OfferKey(SecretBytes(random_bytes(SEED_BYTES)))
            phase, offer = Offered(fresh, 1), fresh.pair().public.raw
    elif isinstance(phase, Offered):
        offer = phase.key.pair().public.raw if _is_repeated(phase.unanswered) else b""
        phase = Offered(phase.key, phase.unanswered + 1)
    elif isinstance(phase, Answered) and phase.owed:
        answer = phase.offer_tag + phase.ciphertext
        phase = replace(phase, owed=False)
    after = replace(state, sent=state.sent + 1, sending=following, phase=phase)
    return PqSending(after, key, state.sending_epoch, state.sending_previous, chain.number, offer, answer)


def key_to_open(suite: PqSuite, state: PqState, header: RatchetHeader, now_ms: int) -> tuple[PqState, bytes]:
    """Return the state after the message and its key; the tag is not verified yet.

    Raises MessageGapError, ChainExhaustedError, and DecryptionError for an epoch or number without a key.
    """
    if header.epoch == state.receiving_epoch:
        chain, number = state.receiving, header.epoch_number
        if number >= chain.number:
            check_jump(number - chain.number)
            chain, passed = walk(suite.step, chain, number, _name(header.epoch))
            chain, key = next_key(suite.step, chain)
            return _received(state, chain, remember(state.skipped, passed, now_ms)), key
    elif header.epoch == state.receiving_epoch + 1:
        return _enter_epoch(suite, state, header, now_ms)
    late = take(state.skipped, message_name(_name(header.epoch), header.epoch_number))
    if late is None:
        raise DecryptionError("cannot decrypt")
    return _received(state, state.receiving, late[0]), late[1]


def check_reach(state: PqState, header: RatchetHeader) -> None:
    """Refuse a message whose key ``key_to_open`` could not give, without deriving anything.

    Raises MessageGapError and DecryptionError.
    """
    if header.epoch == state.receiving_epoch and header.epoch_number >= state.receiving.number:
        check_jump(header.epoch_number - state.receiving.number)
    elif header.epoch == state.receiving_epoch + 1:
        _check_entry(state, header)
    elif message_name(_name(header.epoch), header.epoch_number) not in state.skipped:
        raise DecryptionError("cannot decrypt")


def accept(suite: PqSuite, state: PqState, header: RatchetHeader, now_ms: int) -> PqState:
    """Act on the offer or answer of a message whose tag was verified; stale ones are passed over.

    Draws the KEM's own randomness for an answer. Raises DecryptionError for a malformed offer.
    """
    if header.offer:
        return _take_offer(suite, state, header, now_ms)
    if header.answer:
        return _take_answer(suite, state, header, now_ms)
    return state


def answer_with(
    suite: PqSuite, state: PqState, offer: bytes, secret: SecretBytes, ciphertext: bytes, *, now_ms: int
) -> PqState:
    """The deterministic part of answering ``offer``: the KEM's output is fresh, the state in no exchange."""
    context = exchange_context(state.receiving_epoch + 1, offer, ciphertext)
    keys = suite.new_epoch(state.root, secret.reveal(), context)
    sending, receiving = _directions(keys, state.initiator)
    answered = Answered(offer_tag(offer), ciphertext, True, keys.root, sending, receiving)
    return replace(state, since_ms=now_ms, sent=0, received=0, phase=answered)


def offer_tag(offer: bytes) -> bytes:
    """Return the 8 bytes by which an answer names its offer."""
    return hashlib.sha256(Label.PQ_OFFER_TAG.value + offer).digest()[:OFFER_TAG_BYTES]


def exchange_context(epoch: int, offer: bytes, ciphertext: bytes) -> bytes:
    """Return what binds the keys of a new epoch to its number and its exchange: 36 bytes."""
    return _name(epoch) + hashlib.sha256(offer + ciphertext).digest()


def _received(state: PqState, chain: Chain, skipped: Skipped) -> PqState:
    return replace(state, received=state.received + 1, receiving=chain, skipped=skipped)


def _enter_epoch(suite: PqSuite, state: PqState, header: RatchetHeader, now_ms: int) -> tuple[PqState, bytes]:
    """The first message of the next epoch: skip what is left of the old one, and send in the new one too."""
    phase = _check_entry(state, header)
    old = _name(state.receiving_epoch)
    _, missing = walk(suite.step, state.receiving, header.epoch_previous, old)
    chain, passed = walk(suite.step, phase.receiving, header.epoch_number, _name(header.epoch))
    chain, key = next_key(suite.step, chain)
    entered = replace(
        state,
        received=state.received + 1,
        receiving_epoch=header.epoch,
        receiving=chain,
        phase=None,
        skipped=remember(state.skipped, {**missing, **passed}, now_ms),
    )
    if isinstance(phase, Answered):
        entered = _send_in_next(entered, phase.root, phase.sending)
    return entered, key


def _check_entry(state: PqState, header: RatchetHeader) -> Answered | Confirmed:
    """Return the phase that holds the next epoch's keys, if the header skips no more than is allowed."""
    tail = header.epoch_previous - state.receiving.number
    if not isinstance(state.phase, Answered | Confirmed) or tail < 0:
        raise DecryptionError("cannot decrypt")
    check_jump(tail + header.epoch_number)
    return state.phase


def _take_offer(suite: PqSuite, state: PqState, header: RatchetHeader, now_ms: int) -> PqState:
    phase = state.phase
    if not header.epoch == state.receiving_epoch == state.sending_epoch:
        return state  # an offer for an epoch that is there already
    if isinstance(phase, Offered) and state.initiator:
        return state  # both offered: ours wins, and the peer answers it
    if isinstance(phase, Answered) and phase.offer_tag == offer_tag(header.offer):
        return replace(state, phase=replace(phase, owed=True))
    try:
        secret, ciphertext = KemPublicKey(KemKind.ML_KEM_768, header.offer).encapsulate()
    except WeakPublicKeyError as error:
        raise DecryptionError("cannot decrypt") from error
    return answer_with(suite, state, header.offer, secret, ciphertext, now_ms=now_ms)


def _take_answer(suite: PqSuite, state: PqState, header: RatchetHeader, now_ms: int) -> PqState:
    phase = state.phase
    if not isinstance(phase, Offered) or header.epoch != state.sending_epoch:
        return state
    pair = phase.key.pair()
    tag, ciphertext = header.answer[:OFFER_TAG_BYTES], header.answer[OFFER_TAG_BYTES:]
    if tag != offer_tag(pair.public.raw):
        return state  # an answer to another offer, which this state does not hold
    context = exchange_context(header.epoch + 1, pair.public.raw, ciphertext)
    keys = suite.new_epoch(state.root, pair.decapsulate(ciphertext).reveal(), context)
    sending, receiving = _directions(keys, state.initiator)
    counted = replace(state, since_ms=now_ms, sent=0, received=0, phase=Confirmed(receiving))
    return _send_in_next(counted, keys.root, sending)


def _send_in_next(state: PqState, root: bytes, sending: Chain) -> PqState:
    return replace(
        state,
        root=root,
        sending_epoch=state.sending_epoch + 1,
        sending_previous=state.sending.number,
        sending=sending,
    )


def _is_due(state: PqState, now_ms: int) -> bool:
    messages = state.sent + state.received
    if messages >= OFFER_AFTER and (state.received >= state.sent or messages >= OFFER_AFTER_TALKING):
        return True
    return abs(now_ms - state.since_ms) >= OFFER_AFTER_MS  # a date far ahead is of a clock since put right


def _is_repeated(unanswered: int) -> bool:
    """Say whether an own message repeats the offer: after 4 of them, 8 more, 16 more ..."""
    place = unanswered + REPEAT_AFTER
    return unanswered >= REPEAT_AFTER and place & (place - 1) == 0


def _directions(keys: EpochKeys, initiator: bool) -> tuple[Chain, Chain]:
    """Return the chains for sending and for receiving."""
    first, second = Chain(keys.from_initiator, 0), Chain(keys.from_responder, 0)
    return (first, second) if initiator else (second, first)


def _name(epoch: int) -> bytes:
    return epoch.to_bytes(4, "big")
