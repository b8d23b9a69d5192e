"""The Double Ratchet (Signal specification, revision 4, sections 3 and 5), for any ``Suite``.

State in, state out: a state is replaced only by what a verified message gave. The sending half of a DH step
is put off until the next message is sent, so a new key pair is made when it is needed and not before.
docs/format/double-ratchet.md is normative for ``SECURECHAT_V1``.
"""

from msgspec.structs import replace

from securechat.crypto.keys import DhKeyPair, DhPublicKey, agree_raw
from securechat.errors import DecryptionError, DuplicateMessageError, NoSessionError, WeakPublicKeyError
from securechat.ports import RandomBytes
from securechat.protocol import pq_epochs
from securechat.protocol.chains import (
    Chain,
    Skipped,
    check_jump,
    expire,
    message_name,
    newest,
    next_key,
    remember,
    take,
    walk,
)
from securechat.protocol.pq_epochs import PqState
from securechat.protocol.state import U32, Bytes32, SecretState
from securechat.protocol.suite import MessageKeys, Suite
from securechat.wire.messages import RatchetHeader, RatchetMessage


class ReceivingChain(SecretState, frozen=True):
    """CKr and Nr, for one ratchet key of the peer."""

    ratchet_key: Bytes32
    chain: Chain


class RatchetState(SecretState, frozen=True):
    """One side of the ratchet, in the specification's terms.

    ``root``: RK; ``private``, ``public``: DHs; ``remote``: DHr; ``sending``: CKs and Ns, None until the next
    message makes them; ``previous``: PN; ``receiving``: the newest chain first; ``skipped``: MKSKIPPED;
    ``pq``: the post-quantum ratchet, None where the suite has none.
    """

    root: Bytes32
    private: Bytes32
    public: Bytes32
    remote: Bytes32 | None
    sending: Chain | None
    previous: U32
    receiving: tuple[ReceivingChain, ...]
    skipped: Skipped
    pq: PqState | None


def start_initiator(
    suite: Suite, root: bytes, remote: DhPublicKey, pq: PqState | None, random_bytes: RandomBytes
) -> RatchetState:
    """Return the state of the side that sends first (RatchetInitAlice); ``remote``: the signed prekey.

    Draws 32 bytes. Raises WeakPublicKeyError.
    """
    unused = bytes(32)  # the first DH step of the sender replaces the pair before it was ever used
    state = RatchetState(root, unused, unused, remote.raw, None, 0, (), {}, pq)
    return _sending_step(suite, state, random_bytes)[0]


def start_responder(root: bytes, own: DhKeyPair, pq: PqState | None) -> RatchetState:
    """Return the state of the side that receives first (RatchetInitBob); ``own``: the signed prekey pair."""
    return RatchetState(root, own.private.reveal(), own.public.raw, None, None, 0, (), {}, pq)


def encrypt(
    suite: Suite,
    state: RatchetState,
    plaintext: bytes,
    *,
    associated_data: bytes,
    now_ms: int,
    random_bytes: RandomBytes,
) -> tuple[RatchetState, bytes]:
    """Return the state after the message, and its ratchet part. Store the state before the bytes leave.

    Draws 32 bytes for a DH step, 64 for a PQ offer, and what the suite's AEAD needs. Raises NoSessionError
    for a responder that has received nothing, and ChainExhaustedError.
    """
    sending = state.sending
    if sending is None:
        state, sending = _sending_step(suite, state, random_bytes)
    following, key = next_key(suite.chain_step, sending)
    if suite.pq is None or state.pq is None:
        pq, keys = None, MessageKeys(key, b"")
        header = RatchetHeader(state.public, state.previous, sending.number)
    else:
        part = pq_epochs.key_to_seal(suite.pq, state.pq, now_ms, random_bytes)
        pq, keys = part.state, MessageKeys(key, part.key)
        place = (part.epoch, part.previous, part.number, part.offer, part.answer)
        header = RatchetHeader(state.public, state.previous, sending.number, *place)
    sealed = suite.seal(
        keys, header, plaintext=plaintext, associated_data=associated_data, random_bytes=random_bytes
    )
    return replace(state, sending=following, pq=pq), sealed


def decrypt(
    suite: Suite, state: RatchetState, message: RatchetMessage, *, associated_data: bytes, now_ms: int
) -> tuple[RatchetState, bytes]:
    """Return the state after the message, and its plaintext; on any error ``state`` stays the valid one.

    Raises DuplicateMessageError, MessageGapError, ChainExhaustedError and DecryptionError.
    """
    header = message.header
    after, key = _key_to_open(suite, state, header, now_ms)
    if suite.pq is None or state.pq is None:
        return after, suite.open(MessageKeys(key, b""), message, associated_data)
    pq, pq_key = pq_epochs.key_to_open(suite.pq, state.pq, header, now_ms)
    plaintext = suite.open(MessageKeys(key, pq_key), message, associated_data)
    return replace(after, pq=pq_epochs.accept(suite.pq, pq, header, now_ms)), plaintext


def knows(state: RatchetState, header: RatchetHeader) -> bool:
    """Say whether the message belongs to a chain or skipped key of this state, without deriving anything."""
    if any(chain.ratchet_key == header.ratchet_key for chain in state.receiving):
        return True
    return message_name(header.ratchet_key, header.number) in state.skipped


def is_late(state: RatchetState, header: RatchetHeader) -> bool:
    """Say whether the message was overtaken by one that this state has opened."""
    return message_name(header.ratchet_key, header.number) in state.skipped


def forget_old_keys(state: RatchetState, now_ms: int) -> RatchetState:
    """Return the state without skipped keys over 30 days old; the same object when there are none."""
    skipped = expire(state.skipped, now_ms)
    pq = state.pq
    if pq is not None:
        pq_skipped = expire(pq.skipped, now_ms)
        if pq_skipped is not pq.skipped:
            pq = replace(pq, skipped=pq_skipped)
    if skipped is state.skipped and pq is state.pq:
        return state
    return replace(state, skipped=skipped, pq=pq)


def kept_keys(state: RatchetState) -> tuple[int, int]:
    """Return how many skipped keys the classical and the post-quantum ratchet keep."""
    return len(state.skipped), 0 if state.pq is None else len(state.pq.skipped)


def keep_newest(state: RatchetState, most: int, pq_most: int) -> RatchetState:
    """Return the state with so many skipped keys of each ratchet at most, the newest."""
    pq = state.pq
    if pq is not None:
        pq = replace(pq, skipped=newest(pq.skipped, pq_most))
    return replace(state, skipped=newest(state.skipped, most), pq=pq)


def _sending_step(suite: Suite, state: RatchetState, random_bytes: RandomBytes) -> tuple[RatchetState, Chain]:
    """The second half of DHRatchet: a new key pair and sending chain."""
    if state.remote is None:
        raise NoSessionError("the side that answers sends after it has received")
    pair = DhKeyPair.generate(random_bytes)
    private = pair.private.reveal()
    root, key = suite.root_step(state.root, agree_raw(private, state.remote))
    sending = Chain(key, 0)
    stepped = replace(state, root=root, private=private, public=pair.public.raw, sending=sending)
    return stepped, sending


def _key_to_open(
    suite: Suite, state: RatchetState, header: RatchetHeader, now_ms: int
) -> tuple[RatchetState, bytes]:
    """Return the state after the message and its key; the tag is not verified yet."""
    for place, held in enumerate(state.receiving):
        if held.ratchet_key == header.ratchet_key and header.number >= held.chain.number:
            return _advance(suite, state, place, header, now_ms)
    late = take(state.skipped, message_name(header.ratchet_key, header.number))
    if late is not None:
        return replace(state, skipped=late[0]), late[1]
    if knows(state, header):
        raise DuplicateMessageError("the message was opened before")
    return _receiving_step(suite, state, header, now_ms)


def _advance(
    suite: Suite, state: RatchetState, place: int, header: RatchetHeader, now_ms: int
) -> tuple[RatchetState, bytes]:
    """Go on in a chain that is held to the message of ``header``."""
    held, number = state.receiving[place], header.number
    if number > held.chain.number:
        check_jump(number - held.chain.number)
        _check_pq_reach(state, header)
    chain, passed = walk(suite.chain_step, held.chain, number, held.ratchet_key)
    chain, key = next_key(suite.chain_step, chain)
    moved = ReceivingChain(held.ratchet_key, chain)
    receiving = (*state.receiving[:place], moved, *state.receiving[place + 1 :])
    return replace(state, receiving=receiving, skipped=remember(state.skipped, passed, now_ms)), key


def _receiving_step(
    suite: Suite, state: RatchetState, header: RatchetHeader, now_ms: int
) -> tuple[RatchetState, bytes]:
    """The first half of DHRatchet: a new ratchet key of the peer, and the chain that comes with it."""
    tail = _missing_before(suite, state, header)
    check_jump(tail + header.number)
    _check_pq_reach(state, header)
    try:
        secret = agree_raw(state.private, header.ratchet_key)
    except WeakPublicKeyError as error:
        raise DecryptionError("cannot decrypt") from error
    root, chain_key = suite.root_step(state.root, secret)
    passed: dict[bytes, bytes] = {}
    if tail:
        old = state.receiving[0]
        _, passed = walk(suite.chain_step, old.chain, header.previous, old.ratchet_key)
    chain, fresh = walk(suite.chain_step, Chain(chain_key, 0), header.number, header.ratchet_key)
    chain, key = next_key(suite.chain_step, chain)
    newest = ReceivingChain(header.ratchet_key, chain)
    after = replace(
        state,
        root=root,
        remote=header.ratchet_key,
        sending=None,
        previous=state.previous if state.sending is None else state.sending.number,
        receiving=(newest, *state.receiving[: suite.receiving_chains - 1]),
        skipped=remember(state.skipped, {**passed, **fresh}, now_ms),
    )
    return after, key


def _check_pq_reach(state: RatchetState, header: RatchetHeader) -> None:
    """Let the cheaper half of the header be judged before work is done for the other."""
    if state.pq is not None:
        pq_epochs.check_reach(state.pq, header)


def _missing_before(suite: Suite, state: RatchetState, header: RatchetHeader) -> int:
    """Return how many messages of the peer's chain before are still to come, by its previous count."""
    if suite.receiving_chains > 1:
        return 0  # the header does not say; the chain itself is kept
    received = state.receiving[0].chain.number if state.receiving else 0
    if header.previous < received or (not state.receiving and header.previous):
        raise DecryptionError("cannot decrypt")
    return header.previous - received
