"""The post-quantum ratchet: when it moves, what it costs, what it survives."""

import itertools
from collections.abc import Iterator

import msgspec
import pytest
from support.talking import Pair, Party, acquainted, turns

from securechat.crypto.kem import KemKeyPair, KemKind
from securechat.crypto.secret import SecretBytes
from securechat.errors import CryptoError, DecryptionError, SessionError
from securechat.protocol import pq_epochs
from securechat.protocol.pq_epochs import (
    OFFER_AFTER,
    OFFER_AFTER_MS,
    OFFER_AFTER_TALKING,
    Answered,
    Confirmed,
    Offered,
    OfferKey,
    PqState,
)
from securechat.protocol.records import SessionRecord, encode_record, parse_record
from securechat.protocol.suite import SECURECHAT_V1, PqSuite
from securechat.wire.messages import ANSWER_BYTES, OFFER_BYTES, RatchetHeader, parse_ratchet_part

MOST_MEAN_BYTES = 60
PATTERNS = {
    "ping-pong": [True, False],
    "turns of three": [True] * 3 + [False] * 3,
    "ten to one": [True] * 10 + [False],
    "fifty to one": [True] * 50 + [False],
}
HEAD_WITHOUT_PQ = 1 + 32 + 2 * 2  # flags, ratchet key, previous count, number


def header_of(raw: bytes) -> RatchetHeader:
    return parse_ratchet_part(raw[2:]).header


def pq_of(party: Party) -> PqState:
    state = party.record.current.ratchet.pq
    assert state is not None
    return state


def epochs(pair: Pair) -> list[tuple[int, int]]:
    return [(pq_of(party).sending_epoch, pq_of(party).receiving_epoch) for party in (pair.first, pair.second)]


def exchange(sender: Party, receiver: Party) -> RatchetHeader:
    raw = sender.send(b"text")
    assert receiver.receive(raw) == b"text"
    return header_of(raw)


def due(*, one_time: int = 2) -> Pair:
    """Two parties whose epoch is a day old, so that whoever sends next makes an offer."""
    pair = acquainted(one_time=one_time)
    pair.pass_time(OFFER_AFTER_MS)
    return pair


def test_an_epoch_takes_an_offer_an_answer_and_a_message_of_each_side() -> None:
    pair = due()
    offer = exchange(pair.first, pair.second)
    assert len(offer.offer) == OFFER_BYTES
    assert isinstance(pq_of(pair.first).phase, Offered)
    answer = exchange(pair.second, pair.first)
    assert (len(answer.answer), answer.epoch) == (ANSWER_BYTES, 0)
    assert epochs(pair) == [(1, 0), (0, 0)]
    assert exchange(pair.first, pair.second).epoch == 1
    assert epochs(pair) == [(1, 0), (1, 1)]
    assert exchange(pair.second, pair.first).epoch == 1
    assert epochs(pair) == [(1, 1), (1, 1)]
    assert [pq_of(party).phase for party in (pair.first, pair.second)] == [None, None]


def test_an_offer_is_due_after_fifty_messages_and_not_before() -> None:
    pair = acquainted()
    carried: list[int] = []
    turns(pair, [True, False] * 30, lambda raw: carried.append(len(header_of(raw).offer)))
    sent_before = 2  # the two messages by which they met
    assert [at for at, length in enumerate(carried) if length] == [OFFER_AFTER - sent_before]


def test_the_side_that_talks_leaves_the_offer_to_the_other_for_a_while() -> None:
    pair = acquainted()
    offers: list[int] = []
    turns(pair, [True] * 80, lambda raw: offers.append(len(header_of(raw).offer)))
    assert next(at for at, length in enumerate(offers) if length) == OFFER_AFTER_TALKING - 2


def test_an_offer_is_due_after_a_day() -> None:
    pair = acquainted()
    pair.pass_time(OFFER_AFTER_MS - 1)
    assert not exchange(pair.first, pair.second).offer
    pair.pass_time(1)
    assert exchange(pair.second, pair.first).offer


def test_an_epoch_dated_far_ahead_by_a_clock_since_put_right_does_not_put_the_next_one_off() -> None:
    pair = acquainted()
    pair.pass_time(-OFFER_AFTER_MS)
    assert exchange(pair.first, pair.second).offer


def test_an_unanswered_offer_is_repeated_after_4_8_16_and_32_more() -> None:
    pair = due()
    offers = [bool(exchange(pair.first, pair.second).offer) for _ in range(100)]
    assert [at for at, offered in enumerate(offers) if offered] == [0, 4, 12, 28, 60]


def test_nothing_waits_for_a_lost_offer_or_a_lost_answer() -> None:
    pair = due()
    assert header_of(pair.first.send(b"lost")).offer
    for _ in range(3):
        exchange(pair.second, pair.first)
        exchange(pair.first, pair.second)
    exchange(pair.second, pair.first)
    again = exchange(pair.first, pair.second)
    assert again.offer
    assert header_of(pair.second.send(b"lost")).answer
    assert not exchange(pair.second, pair.first).answer, "once for each time that the offer is seen"
    for _ in range(8):
        exchange(pair.first, pair.second)
    assert exchange(pair.second, pair.first).answer
    exchange(pair.first, pair.second)
    assert epochs(pair) == [(1, 0), (1, 1)]


def test_an_epoch_is_not_used_before_the_peer_has_shown_that_it_holds_it() -> None:
    pair = due()
    exchange(pair.first, pair.second)
    answer = pair.second.send(b"answer")
    assert header_of(answer).answer
    assert [exchange(pair.first, pair.second).epoch for _ in range(3)] == [0, 0, 0]
    assert isinstance(pq_of(pair.second).phase, Answered)
    assert header_of(pair.second.send(b"still the old one")).epoch == 0
    pair.first.receive(answer)
    assert isinstance(pq_of(pair.first).phase, Confirmed)
    assert exchange(pair.first, pair.second).epoch == 1


def test_when_both_offer_the_initiator_of_the_session_wins() -> None:
    pair = due()
    of_first, of_second = pair.first.send(b"offer one"), pair.second.send(b"offer two")
    assert header_of(of_first).offer
    assert header_of(of_second).offer
    pair.first.receive(of_second)
    pair.second.receive(of_first)
    assert isinstance(pq_of(pair.first).phase, Offered)
    assert isinstance(pq_of(pair.second).phase, Answered)
    for _ in range(2):
        exchange(pair.second, pair.first)
        exchange(pair.first, pair.second)
    assert epochs(pair)[1] == (1, 1)
    exchange(pair.second, pair.first)
    assert epochs(pair) == [(1, 1), (1, 1)]


def test_late_messages_open_across_epochs_and_turns_in_any_order() -> None:
    pair = acquainted()
    held: list[tuple[Party, bytes, bytes]] = []
    for day in range(6):
        pair.pass_time(OFFER_AFTER_MS)
        for step in range(4):
            for sender, receiver in ((pair.first, pair.second), (pair.second, pair.first)):
                exchange(sender, receiver)
                text = b"held back %d %d" % (day, step)
                held.append((receiver, sender.send(text), text))
    assert epochs(pair) == [(6, 6), (6, 6)]
    for at in range(len(held)):
        receiver, raw, text = held[at * 29 % len(held)]
        assert receiver.receive(raw) == text
        with pytest.raises((SessionError, CryptoError)):
            receiver.receive(raw)
    assert all(not pq_of(party).skipped for party in (pair.first, pair.second))


def test_offers_and_answers_of_the_past_change_nothing() -> None:
    pair = due()
    offer = pair.first.send(b"offer, first copy")
    for _ in range(4):
        exchange(pair.first, pair.second)
    exchange(pair.first, pair.second)
    stale_answer = pair.second.send(b"answer, first copy")
    for _ in range(8):
        exchange(pair.first, pair.second)
    exchange(pair.second, pair.first)
    exchange(pair.first, pair.second)
    exchange(pair.second, pair.first)
    before = epochs(pair)
    assert before == [(1, 1), (1, 1)]
    assert pair.second.receive(offer) == b"offer, first copy"
    assert pair.first.receive(stale_answer) == b"answer, first copy"
    assert epochs(pair) == before
    assert [pq_of(party).phase for party in (pair.first, pair.second)] == [None, None]


def test_an_answer_to_an_offer_that_is_gone_is_passed_over() -> None:
    pair = due()
    exchange(pair.first, pair.second)
    state = pq_of(pair.first)
    assert isinstance(state.phase, Offered)
    other = Offered(OfferKey(SecretBytes(bytes(64))), 1)
    forgotten = msgspec.structs.replace(state, phase=other)
    put_pq(pair.first, forgotten)
    exchange(pair.second, pair.first)
    assert pq_of(pair.first) == msgspec.structs.replace(
        forgotten, receiving=pq_of(pair.first).receiving, received=forgotten.received + 1
    )
    for _ in range(8):
        exchange(pair.first, pair.second)
        exchange(pair.second, pair.first)
    assert epochs(pair)[1] == (1, 1), "the new offer is repeated, and answered instead of the old one"


def test_a_malformed_offer_of_the_peer_opens_nothing() -> None:
    pair = acquainted()
    state = pq_of(pair.first)
    header = RatchetHeader(bytes(32), 0, 0, 0, 0, 0, offer=b"\xff" * OFFER_BYTES)
    suite = pq_suite()
    with pytest.raises(DecryptionError):
        pq_epochs.accept(suite, state, header, pair.first.now_ms)


@pytest.mark.parametrize("name", list(PATTERNS))
def test_the_pq_ratchet_costs_at_most_sixty_bytes_a_message(name: str) -> None:
    pair = acquainted()
    heads: list[int] = []
    pattern = itertools.islice(itertools.cycle(PATTERNS[name]), 1_500)
    turns(pair, pattern, lambda raw: heads.append(len(parse_ratchet_part(raw[2:]).head) - HEAD_WITHOUT_PQ))
    assert sum(heads) / len(heads) <= MOST_MEAN_BYTES
    assert min(epochs(pair)) >= (1_500 // 100, 1_500 // 100)
    assert longest_run(length > 1_000 for length in heads) <= 2


def test_key_objects_are_built_for_epochs_and_not_for_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[KemKind] = []

    class Counting(KemKeyPair):
        def __init__(self, kind: KemKind, seed: SecretBytes) -> None:
            built.append(kind)
            super().__init__(kind, seed)

    monkeypatch.setattr(pq_epochs, "KemKeyPair", Counting)
    pair = acquainted()
    suite = pq_suite()
    first, second = pq_of(pair.first), pq_of(pair.second)
    later = pair.first.now_ms + OFFER_AFTER_MS
    sent = pq_epochs.key_to_seal(suite, first, later, pair.first.random)
    first = sent.state
    for _ in range(50):
        first = pq_epochs.key_to_seal(suite, first, later, pair.first.random).state
    second = pq_epochs.accept(suite, second, carrying(offer=sent.offer), later)
    reply = pq_epochs.key_to_seal(suite, second, later, pair.second.random)
    first = pq_epochs.accept(suite, first, carrying(answer=reply.answer), later)
    assert first.sending_epoch == 1
    assert built == [KemKind.ML_KEM_768]


def test_records_that_are_read_build_no_key_object(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = due()
    exchange(pair.first, pair.second)
    stored = pair.first.stored
    assert stored is not None

    def refuse(*_: object) -> KemKeyPair:
        raise AssertionError("a key object was built")

    monkeypatch.setattr(pq_epochs, "KemKeyPair", refuse)
    assert encode_record(parse_record(stored)) == stored
    exchange(pair.first, pair.second)


def test_a_thief_of_all_keys_is_locked_out_by_the_pq_ratchet_alone() -> None:
    """The thief knows every classical key for ever, and the PQ keys of one moment."""
    pair = acquainted()
    turns(pair, [True, False] * 10)
    stolen = pq_of(pair.second)
    for number in range(60):
        sender, receiver = (pair.first, pair.second) if number % 2 == 0 else (pair.second, pair.first)
        raw = sender.send(b"text")
        if receiver is pair.second:
            stolen = steal(pair.second, stolen, raw)
        receiver.receive(raw)
    raw = pair.first.send(b"healed")
    assert not opens(with_pq(pair.second.record, stolen), pair.second, raw)
    assert pair.second.receive(raw) == b"healed"


def test_the_thief_reads_on_until_then() -> None:
    """So that the test before proves something."""
    pair = acquainted()
    turns(pair, [True, False] * 5)
    stolen = pq_of(pair.second)
    for _ in range(10):
        raw = pair.first.send(b"text")
        assert opens(with_pq(pair.second.record, stolen), pair.second, raw)
        stolen = steal(pair.second, stolen, raw)
        pair.second.receive(raw)
        exchange(pair.second, pair.first)


def test_a_day_heals_as_fifty_messages_do() -> None:
    pair = acquainted()
    stolen = pq_of(pair.second)
    pair.pass_time(OFFER_AFTER_MS)
    for _ in range(2):
        raw = pair.first.send(b"text")
        stolen = steal(pair.second, stolen, raw)
        pair.second.receive(raw)
        exchange(pair.second, pair.first)
    raw = pair.first.send(b"healed")
    assert not opens(with_pq(pair.second.record, stolen), pair.second, raw)


def test_nothing_that_holds_keys_prints_them() -> None:
    pair = due()
    exchange(pair.first, pair.second)
    state = pq_of(pair.first)
    assert isinstance(state.phase, Offered)
    for value in (state, state.phase, state.phase.key, state.sending, pq_epochs.start):
        assert state.root.hex() not in repr(value)
    assert repr(state) == "PqState(**)"
    assert repr(state.phase.key) == "OfferKey(**)"


def pq_suite() -> PqSuite:
    assert SECURECHAT_V1.pq is not None
    return SECURECHAT_V1.pq


def carrying(*, offer: bytes = b"", answer: bytes = b"") -> RatchetHeader:
    return RatchetHeader(bytes(32), 0, 0, 0, 0, 0, offer, answer)


def with_pq(record: SessionRecord, pq: PqState) -> SessionRecord:
    ratchet = msgspec.structs.replace(record.current.ratchet, pq=pq)
    return msgspec.structs.replace(record, current=msgspec.structs.replace(record.current, ratchet=ratchet))


def put_pq(party: Party, pq: PqState) -> None:
    party.stored = encode_record(with_pq(party.record, pq))


def steal(victim: Party, stolen: PqState, raw: bytes) -> PqState:
    """Follow a message with the stolen PQ state and all else that the victim has now."""
    thief = copy_of(victim, with_pq(victim.record, stolen))
    try:
        thief.receive(raw)
    except (CryptoError, SessionError):
        return stolen
    return pq_of(thief)


def opens(record: SessionRecord, victim: Party, raw: bytes) -> bool:
    try:
        copy_of(victim, record).receive(raw)
    except (CryptoError, SessionError):
        return False
    return True


def copy_of(party: Party, record: SessionRecord) -> Party:
    copy = Party(party.person, party.peer)
    copy.now_ms, copy.pool, copy.stored = party.now_ms, party.pool, encode_record(record)
    return copy


def longest_run(flags: Iterator[bool]) -> int:
    return max((sum(1 for _ in run) for flag, run in itertools.groupby(flags) if flag), default=0)
