"""The Double Ratchet alone, without handshake and session."""

import hmac
import random
from dataclasses import replace

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from support.identities import RepeatableRandom
from support.suite_omemo2 import OMEMO2, encode_message, hkdf, message_material

from securechat.crypto.keys import DhKeyPair, agree_raw
from securechat.crypto.labels import Label
from securechat.errors import (
    ChainExhaustedError,
    DecryptionError,
    DuplicateMessageError,
    MessageGapError,
    NoSessionError,
    SecureChatError,
)
from securechat.protocol import double_ratchet, pq_epochs
from securechat.protocol.chains import MAX_JUMP, Chain
from securechat.protocol.double_ratchet import RatchetState
from securechat.protocol.suite import SECURECHAT_V1, EpochKeys, MessageKeys, PqSuite, Suite
from securechat.wire.codec import MAX_U32
from securechat.wire.messages import RatchetHeader, RatchetMessage, encode_head

NOW = 1_800_000_000_000
ROOT = b"R" * 32
EPOCH = EpochKeys(b"Q" * 32, b"a" * 32, b"b" * 32)
AD = b"associated data"
SIGNED_PREKEY = DhKeyPair.generate(RepeatableRandom("signed prekey"))
OLD_CHAINS = replace(OMEMO2, receiving_chains=5)  # as Olm, whose header has no previous count


def counting_step(key: bytes, number: int) -> tuple[bytes, bytes]:
    out = hkdf(bytes(32), key, (number + 1).to_bytes(4, "big") + b"Signal PQ Ratchet V1 Chain Next", 64)
    return out[:32], out[32:]


AS_SIGNAL = replace(  # a PQ chain whose steps count, no exchanges of our own, and old chains kept
    SECURECHAT_V1,
    receiving_chains=5,
    pq=PqSuite(step=counting_step, new_epoch=lambda *_: EPOCH, offers=False),
)
SUITES = pytest.mark.parametrize(
    "suite", [SECURECHAT_V1, OMEMO2, OLD_CHAINS, AS_SIGNAL], ids=["own", "omemo2", "olm", "signal"]
)


class Side:
    """One side of a ratchet, with its own randomness."""

    def __init__(self, suite: Suite, state: RatchetState, seed: str) -> None:
        self.suite = suite
        self.state = state
        self.random = RepeatableRandom(seed)

    def seal(self, text: bytes) -> bytes:
        self.state, part = double_ratchet.encrypt(
            self.suite, self.state, text, associated_data=AD, now_ms=NOW, random_bytes=self.random
        )
        return part

    def open(self, part: bytes) -> bytes:
        message = self.suite.parse(part)
        self.state, text = double_ratchet.decrypt(
            self.suite, self.state, message, associated_data=AD, now_ms=NOW
        )
        return text


def two_sides(suite: Suite = SECURECHAT_V1) -> tuple[Side, Side]:
    with_pq = suite.pq is not None
    first_pq = pq_epochs.start(EPOCH, initiator=True, now_ms=NOW) if with_pq else None
    second_pq = pq_epochs.start(EPOCH, initiator=False, now_ms=NOW) if with_pq else None
    initiator = double_ratchet.start_initiator(
        suite, ROOT, SIGNED_PREKEY.public, first_pq, RepeatableRandom("initiator's first key")
    )
    responder = double_ratchet.start_responder(ROOT, SIGNED_PREKEY, second_pq)
    return Side(suite, initiator, "initiator"), Side(suite, responder, "responder")


def exchange(sender: Side, receiver: Side, text: bytes) -> None:
    assert receiver.open(sender.seal(text)) == text


class Counted:
    """A suite that counts its derivations."""

    def __init__(self, suite: Suite) -> None:
        self.chain_steps = self.root_steps = self.openings = 0
        self._suite = suite
        self.suite = replace(suite, chain_step=self.chain_step, root_step=self.root_step, open=self.open)

    def chain_step(self, key: bytes, number: int) -> tuple[bytes, bytes]:
        self.chain_steps += 1
        return self._suite.chain_step(key, number)

    def root_step(self, root: bytes, secret: bytes) -> tuple[bytes, bytes]:
        self.root_steps += 1
        return self._suite.root_step(root, secret)

    def open(self, keys: MessageKeys, message: RatchetMessage, associated_data: bytes) -> bytes:
        self.openings += 1
        return self._suite.open(keys, message, associated_data)

    def total(self) -> int:
        return self.chain_steps + self.root_steps + self.openings


def forged(header: RatchetHeader) -> bytes:
    return encode_head(header) + bytes(12 + 32 + 16)


def test_the_first_message_is_what_the_formulas_give() -> None:
    """Straight from docs/format/double-ratchet.md, with nothing of ours but X25519."""
    first, _ = two_sides()
    part = first.seal(b"hello")
    pair = DhKeyPair.generate(RepeatableRandom("initiator's first key"))
    shared = agree_raw(pair.private.reveal(), SIGNED_PREKEY.public.raw)
    chain = hkdf(ROOT, shared, b"SecureChat v1 root step\x01", 64)[32:]
    ec_key = hmac.digest(chain, b"\x01", "sha256")
    pq_key = hmac.digest(b"a" * 32, b"SecureChat v1 PQ chain step\x01", "sha256")
    keys = hkdf(pq_key, ec_key, b"SecureChat v1 message keys\x01", 64)
    head = b"\x00" + pair.public.raw + bytes(10)
    nonce = RepeatableRandom("initiator")(12)
    sealed = AESGCM(keys[:32]).encrypt(nonce, b"hello", AD + head)
    assert part == head + nonce + keys[32:] + sealed


def test_the_second_message_steps_both_chains() -> None:
    first, second = two_sides()
    first.seal(b"one")
    part = first.seal(b"two")
    chain = first.state.sending
    assert chain is not None
    assert chain.number == 2
    start = hkdf(ROOT, agree_raw(first.state.private, SIGNED_PREKEY.public.raw), _info(Label.ROOT_STEP), 64)
    ec_key = hmac.digest(hmac.digest(start[32:], b"\x02", "sha256"), b"\x01", "sha256")
    pq_chain = hmac.digest(b"a" * 32, Label.PQ_CHAIN_STEP.value + b"\x02", "sha256")
    pq_key = hmac.digest(pq_chain, Label.PQ_CHAIN_STEP.value + b"\x01", "sha256")
    keys = hkdf(pq_key, ec_key, _info(Label.MESSAGE_KEYS), 64)
    assert part[43 + 12 : 43 + 44] == keys[32:], "the commitment"
    assert second.open(part) == b"two"


def test_the_answer_turns_the_ratchet_as_the_specification_says() -> None:
    first, second = two_sides()
    exchange(first, second, b"one")
    initial = agree_raw(first.state.private, SIGNED_PREKEY.public.raw)
    root = hkdf(ROOT, initial, _info(Label.ROOT_STEP), 64)[:32]
    second.seal(b"two")
    secret = agree_raw(second.state.private, first.state.public)
    out = hkdf(root, secret, _info(Label.ROOT_STEP), 64)
    assert second.state.root == out[:32]
    assert second.state.sending == Chain(hmac.digest(out[32:], b"\x02", "sha256"), 1)


def test_the_core_speaks_omemo_2_by_another_suite_alone() -> None:
    """Against values worked out by hand from XEP-0384."""
    first, second = two_sides(OMEMO2)
    part = first.seal(b"hello")
    pair = DhKeyPair.generate(RepeatableRandom("initiator's first key"))
    shared = agree_raw(pair.private.reveal(), SIGNED_PREKEY.public.raw)
    chain = hkdf(ROOT, shared, b"OMEMO Root Chain", 64)[32:]
    _, authentication, _ = message_material(hmac.digest(chain, b"\x01", "sha256"))
    message = part[20:]
    expected = encode_message(RatchetHeader(pair.public.raw, 0, 0), message[-16:])
    assert message == expected
    assert part[:2] == b"\x0a\x10"
    assert part[2:18] == hmac.digest(authentication, AD + message, "sha256")[:16]
    assert second.open(part) == b"hello"


@SUITES
def test_messages_open_in_any_order_across_turns(suite: Suite) -> None:
    for seed in range(20):
        draw = random.Random(seed)
        sides = two_sides(suite)
        exchange(*sides, b"start")
        flying: list[tuple[int, bytes, bytes]] = []
        for number in range(120):
            sender = draw.randrange(2)
            text = b"%d" % number
            flying.append((1 - sender, sides[sender].seal(text), text))
            while flying and draw.random() < 0.45:
                receiver, part, expected = flying.pop(draw.randrange(len(flying)))
                assert sides[receiver].open(part) == expected
        draw.shuffle(flying)
        for receiver, part, expected in flying:
            if suite.receiving_chains == 1 or sides[receiver].suite.parse(part).header.ratchet_key in {
                chain.ratchet_key for chain in sides[receiver].state.receiving
            }:
                assert sides[receiver].open(part) == expected


@SUITES
def test_a_message_opens_once(suite: Suite) -> None:
    first, second = two_sides(suite)
    parts = [first.seal(b"%d" % number) for number in range(4)]
    second.open(parts[0])
    second.open(parts[3])
    second.open(parts[1])
    for at in (0, 1, 3):
        with pytest.raises(DuplicateMessageError):
            second.open(parts[at])
    assert second.open(parts[2]) == b"2"


def test_the_sending_half_of_a_turn_waits_for_the_next_message() -> None:
    first, second = two_sides()
    exchange(first, second, b"one")
    assert second.state.sending is None
    assert second.state.private == SIGNED_PREKEY.private.reveal()
    public = second.state.public
    second.seal(b"two")
    assert second.state.public != public


def test_the_side_that_answers_cannot_send_first() -> None:
    with pytest.raises(NoSessionError):
        two_sides()[1].seal(b"too early")


@SUITES
def test_a_thousand_missing_messages_are_skipped_and_open_later(suite: Suite) -> None:
    first, second = two_sides(suite)
    parts = [first.seal(b"%d" % number) for number in range(MAX_JUMP + 1)]
    assert second.open(parts[-1]) == b"1000"
    assert second.open(parts[0]) == b"0"
    assert second.open(parts[999]) == b"999"


@SUITES
def test_a_thousand_and_one_are_too_many(suite: Suite) -> None:
    first, second = two_sides(suite)
    parts = [first.seal(b"%d" % number) for number in range(MAX_JUMP + 2)]
    before = second.state
    with pytest.raises(MessageGapError):
        second.open(parts[-1])
    assert second.state is before
    assert second.open(parts[-2]) == b"1000"
    assert second.open(parts[-1]) == b"1001"


def test_the_gap_counts_the_end_of_the_old_chain_and_the_start_of_the_new() -> None:
    for extra, opens in ((0, True), (1, False)):
        first, second = two_sides()
        exchange(first, second, b"start")
        for _ in range(600 + extra):
            first.seal(b"lost")
        exchange(second, first, b"turn")
        for _ in range(400):
            first.seal(b"lost too")
        part = first.seal(b"newest")
        if opens:
            assert second.open(part) == b"newest"
        else:
            with pytest.raises(MessageGapError):
                second.open(part)


def test_a_forged_counter_costs_less_than_an_opening() -> None:
    first, second = two_sides()
    exchange(first, second, b"one")
    exchange(second, first, b"two")
    genuine = Counted(SECURECHAT_V1)
    part = first.seal(b"three")
    second.suite = genuine.suite
    second.open(part)
    key = first.state.public
    other = DhKeyPair.generate(RepeatableRandom("somebody")).public.raw
    for header in (
        RatchetHeader(key, 0, 10**9, 0, 0, 2),
        RatchetHeader(key, 10**9, 10**9, 0, 0, 2),
        RatchetHeader(other, 10**9, 0, 0, 0, 2),
        RatchetHeader(other, 1, 10**9, 0, 0, 2),
        RatchetHeader(other, MAX_U32, MAX_U32, 0, 0, 2),
    ):
        counted = Counted(SECURECHAT_V1)
        second.suite = counted.suite
        with pytest.raises(MessageGapError):
            second.open(forged(header))
        assert counted.total() == 0 < genuine.total()


def test_a_forged_counter_of_the_pq_chain_costs_less_too() -> None:
    first, second = two_sides()
    exchange(first, second, b"one")
    counted = Counted(SECURECHAT_V1)
    second.suite = counted.suite
    with pytest.raises(MessageGapError):
        second.open(forged(RatchetHeader(first.state.public, 0, 1, 0, 0, 10**9)))
    with pytest.raises(DecryptionError):
        second.open(forged(RatchetHeader(first.state.public, 0, 1, 1, 10**9, 10**9)))
    assert (counted.chain_steps, counted.root_steps, counted.openings) == (2, 0, 0)


def test_a_forged_place_in_the_pq_chain_costs_no_step_of_the_other_chain() -> None:
    first, second = two_sides()
    exchange(first, second, b"one")
    exchange(second, first, b"two")
    known = first.state.public
    fresh = DhKeyPair.generate(RepeatableRandom("somebody")).public.raw
    counted = Counted(SECURECHAT_V1)
    second.suite = counted.suite
    for key in (known, fresh):
        for epoch, previous, number in ((0, 0, 10**9), (0, 0, 0), (1, 900, 0), (2, 0, 0), (MAX_U32, 0, 0)):
            with pytest.raises((MessageGapError, DecryptionError)):
                second.open(forged(RatchetHeader(key, 1, 900, epoch, previous, number)))
    assert counted.total() == 0


def test_opening_costs_the_same_however_many_keys_are_kept() -> None:
    costs = []
    for missing in (0, 900):
        first, second = two_sides()
        exchange(first, second, b"start")
        for _ in range(missing):
            first.seal(b"lost")
        exchange(first, second, b"jump")
        counted = Counted(SECURECHAT_V1)
        part = first.seal(b"next")
        second.suite = counted.suite
        second.open(part)
        costs.append((counted.chain_steps, counted.root_steps, counted.openings))
    assert costs == [(1, 0, 1), (1, 0, 1)]


def test_a_previous_count_that_goes_back_is_refused_without_a_derivation() -> None:
    first, second = two_sides()
    for number in range(3):
        exchange(first, second, b"%d" % number)
    counted = Counted(SECURECHAT_V1)
    second.suite = counted.suite
    other = DhKeyPair.generate(RepeatableRandom("somebody")).public.raw
    with pytest.raises(DecryptionError):
        second.open(forged(RatchetHeader(other, 2, 0, 0, 0, 3)))
    assert counted.total() == 0


def test_a_ratchet_key_of_small_order_is_refused_as_any_other_failure() -> None:
    first, second = two_sides()
    exchange(first, second, b"one")
    for key in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(DecryptionError):
            second.open(forged(RatchetHeader(key, 1, 0, 0, 0, 1)))


def test_counters_past_two_bytes_make_the_header_wide_and_open() -> None:
    first, second = two_sides()
    exchange(first, second, b"start")
    first.state = moved(first.state, 65_535)
    second.state = moved(second.state, 65_535)
    narrow = first.seal(b"last narrow")
    wide = first.seal(b"first wide")
    assert len(wide) - len(b"first wide") == len(narrow) - len(b"last narrow") + 10
    assert second.open(narrow) == b"last narrow"
    assert second.open(wide) == b"first wide"


def test_a_chain_that_is_used_up_says_so() -> None:
    first, second = two_sides()
    exchange(first, second, b"start")
    first.state = moved(first.state, MAX_U32 - 1)
    first.seal(b"the last one")
    with pytest.raises(ChainExhaustedError):
        first.seal(b"one too many")


def test_other_associated_data_opens_nothing() -> None:
    first, second = two_sides()
    message = SECURECHAT_V1.parse(first.seal(b"hello"))
    with pytest.raises(DecryptionError):
        double_ratchet.decrypt(SECURECHAT_V1, second.state, message, associated_data=AD + b"\x00", now_ms=NOW)


def test_a_commitment_to_another_key_opens_nothing() -> None:
    first, second = two_sides()
    part = first.seal(b"hello")
    for at in (43 + 12, 43 + 43):
        with pytest.raises(DecryptionError):
            second.open(part[:at] + bytes([part[at] ^ 1]) + part[at + 1 :])
    assert second.open(part) == b"hello"


def test_two_copies_of_one_state_never_use_a_nonce_twice() -> None:
    first, second = two_sides()
    exchange(first, second, b"start")
    saved = first.state
    one = first.seal(b"one")
    first.state = saved
    other = first.seal(b"other")
    assert one[:43] == other[:43], "the same place in the chain"
    assert one[43:55] != other[43:55]


def test_old_chains_are_kept_where_the_header_has_no_previous_count() -> None:
    first, second = two_sides(OLD_CHAINS)
    late = [first.seal(b"late %d" % number) for number in range(3)]
    assert second.open(late[1]) == b"late 1"
    for _ in range(4):
        exchange(second, first, b"turn")
        exchange(first, second, b"turn back")
    assert second.open(late[2]) == b"late 2"
    assert second.open(late[0]) == b"late 0"
    exchange(second, first, b"turn")
    exchange(first, second, b"turn back")
    assert len(second.state.receiving) == 5


@SUITES
def test_no_changed_message_moves_the_state(suite: Suite) -> None:
    first, second = two_sides(suite)
    exchange(first, second, b"start")
    part = first.seal(b"hello")
    before = second.state
    for at in range(len(part)):
        changed = part[:at] + bytes([part[at] ^ 0x11]) + part[at + 1 :]
        with pytest.raises((SecureChatError, KeyError, IndexError)):  # the test's own parser is a plain one
            second.open(changed)
        assert second.state is before
    assert second.open(part) == b"hello"


def moved(state: RatchetState, number: int) -> RatchetState:
    """The state with its chains at another number, as if so many messages had passed."""
    sending = None if state.sending is None else Chain(state.sending.key, number)
    receiving = tuple(
        msgspec.structs.replace(chain, chain=Chain(chain.chain.key, number)) for chain in state.receiving
    )
    return msgspec.structs.replace(state, sending=sending, receiving=receiving)


def _info(label: Label) -> bytes:
    return label.value + b"\x01"
