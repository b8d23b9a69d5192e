"""Sessions between two devices: how they start, what they refuse, which one is used."""

import random
import traceback
from dataclasses import replace

import pytest
from support.identities import make_person
from support.talking import Party, acquainted, strangers, turns

from securechat.errors import (
    CryptoError,
    DecryptionError,
    DuplicateMessageError,
    IdentityChangedError,
    MessageGapError,
    NoSessionError,
    SecureChatError,
    SessionError,
    StalePreKeyError,
    WireError,
)
from securechat.protocol.choice import MAX_IDLE_MS, STRAYS_TO_HIGHER, STRAYS_TO_LOWER
from securechat.protocol.records import MAX_ARCHIVED
from securechat.protocol.session import Opened, sender_identity
from securechat.wire.content import pad
from securechat.wire.messages import MAX_MESSAGE_BYTES, MessageKind, message_kind, parse_prekey_message
from securechat.wire.prekeys import PreKeyBundle

REFUSALS = (CryptoError, SessionError, WireError)
DAY_MS = 86_400_000


def lasting_bundle(party: Party) -> PreKeyBundle:
    """A bundle without one-time keys, as a drained server hands it out again and again."""
    return party.person.bundle(one_time=False, last_resort=True)


def refused(party: Party, raw: bytes, errors: tuple[type[SecureChatError], ...] = REFUSALS) -> None:
    before, pool = party.stored, party.pool
    with pytest.raises(errors):
        party.receive(raw)
    assert party.stored == before
    assert party.pool is pool


def test_a_session_starts_with_a_prekey_message_and_goes_on_without() -> None:
    pair = strangers()
    pair.first.start(pair.second.bundle())
    first = pair.first.send(b"hello")
    assert message_kind(first) is MessageKind.PREKEY
    assert pair.second.receive(first) == b"hello"
    answer = pair.second.send(b"hello yourself")
    assert message_kind(answer) is MessageKind.RATCHET
    assert pair.first.receive(answer) == b"hello yourself"
    assert message_kind(pair.first.send(b"on")) is MessageKind.RATCHET


def test_the_prekey_message_is_repeated_until_the_peer_has_answered() -> None:
    pair = strangers()
    pair.first.start(pair.second.bundle())
    raws = [pair.first.send(b"%d" % number) for number in range(5)]
    assert {message_kind(raw) for raw in raws} == {MessageKind.PREKEY}
    for at in (3, 0, 4, 1):
        assert pair.second.receive(raws[at]) == b"%d" % at
    pair.first.receive(pair.second.send(b"answer"))
    assert message_kind(pair.first.send(b"on")) is MessageKind.RATCHET
    assert pair.second.receive(raws[2]) == b"2"
    assert len(pair.second.record.archived) == 0


def test_a_message_is_at_most_as_large_as_libsignals() -> None:
    """109 and 1,799 bytes there, for 1 KiB; ours carry the key commitment and the post-quantum part too."""
    pair = strangers()
    pair.first.start(pair.second.bundle())
    first = pair.first.send(bytes(1_024))
    assert len(first) - 1_024 <= 1_799 * 1.05
    pair.second.receive(first)
    assert len(pair.second.send(bytes(1_024))) - 1_024 <= 109


def test_the_prekeys_of_a_session_are_used_up_by_the_first_message_that_opens() -> None:
    pair = strangers()
    pair.first.start(pair.second.bundle())
    first = pair.first.send(b"hello")
    handshake = parse_prekey_message(first).handshake
    assert handshake.one_time_id in pair.second.pool.one_time
    refused(pair.second, first[:-1] + bytes([first[-1] ^ 1]))
    pair.second.receive(first)
    assert handshake.one_time_id not in pair.second.pool.one_time
    assert handshake.kem_id not in pair.second.pool.kem_one_time


def test_a_one_time_prekey_serves_one_initiator_alone() -> None:
    pair = strangers()
    bundle = pair.second.bundle()
    pair.first.start(bundle)
    pair.second.receive(pair.first.send(b"hello"))
    other = Party(make_person("other", one_time=1), pair.second.person.peer)
    other.start(bundle)
    unlucky = Party(pair.second.person, other.person.peer)
    unlucky.pool = pair.second.pool
    refused(unlucky, other.send(b"hello"), (StalePreKeyError,))


def test_a_prekey_message_without_one_time_keys_opens_once_however_often_it_comes() -> None:
    pair = strangers()
    pair.first.start(lasting_bundle(pair.second))
    first = pair.first.send(b"hello")
    pair.second.receive(first)
    refused(pair.second, first, (DuplicateMessageError,))
    turns(pair, [False, True, True, False])
    refused(pair.second, first)
    pair.second.stored = None  # the sessions are gone, the prekeys are not
    refused(pair.second, first, (DuplicateMessageError,))


def test_a_replay_never_opens_a_session_again_after_it_was_pushed_out() -> None:
    pair = strangers()
    raws = []
    for _ in range(MAX_ARCHIVED + 2):
        pair.first.start(lasting_bundle(pair.second))
        raws.append(pair.first.send(b"hello"))
        pair.second.receive(raws[-1])
    assert len(pair.second.record.archived) == MAX_ARCHIVED
    for raw in raws:
        refused(pair.second, raw, (DuplicateMessageError,))


def test_the_sender_of_a_prekey_message_can_be_read_before_it_opens() -> None:
    pair = strangers()
    pair.first.start(pair.second.bundle())
    claimed = sender_identity(pair.first.send(b"hello"))
    peer = pair.first.person.peer
    assert claimed is not None
    assert (claimed.account, claimed.signing, claimed.agreement) == (
        peer.account,
        peer.signing,
        peer.agreement,
    )
    assert sender_identity(acquainted().first.send(b"hello")) is None


def test_a_sender_with_another_account_key_is_refused_by_that_name() -> None:
    pair = strangers()
    pair.first.start(pair.second.bundle())
    raw = pair.first.send(b"hello")
    stranger = make_person("somebody", one_time=1).peer
    pair.second.peer = replace(stranger, address=pair.first.person.local.address)
    refused(pair.second, raw, (IdentityChangedError,))
    for changed in (
        replace(pair.first.person.peer, signing=stranger.signing),
        replace(pair.first.person.peer, agreement=stranger.agreement),
    ):
        pair.second.peer = changed
        refused(pair.second, raw, (DecryptionError,))


def test_a_message_is_for_one_device_alone() -> None:
    pair = strangers(one_time=2)
    pair.first.start(pair.second.bundle())
    first = pair.first.send(b"hello")
    elsewhere = Party(make_person("lee", device=2, one_time=2), pair.first.person.peer)
    refused(elsewhere, first)
    with_the_prekeys = Party(
        replace(
            pair.second.person,
            local=replace(pair.second.person.local, address=elsewhere.person.local.address),
        ),
        pair.first.person.peer,
    )
    refused(with_the_prekeys, first, (DecryptionError,))
    refused(pair.first, first)
    pair.second.receive(first)
    raw = pair.second.send(b"for first")
    refused(pair.second, raw)
    assert pair.first.receive(raw) == b"for first"


def test_a_session_belongs_to_the_keys_of_the_peer() -> None:
    pair = acquainted()
    stranger = make_person("somebody", one_time=1)
    raw = pair.second.send(b"text")
    generation = pair.first.record.generation
    pair.first.peer = replace(stranger.peer, address=pair.second.person.local.address)
    refused(pair.first, raw, (NoSessionError,))
    anew = replace(stranger, local=replace(stranger.local, address=pair.second.person.local.address))
    reborn = Party(anew, pair.first.person.peer)
    reborn.start(pair.first.bundle())
    assert pair.first.receive(reborn.send(b"from the new device")) == b"from the new device"
    assert pair.first.record.archived == ()
    assert pair.first.record.generation == generation + 1


def test_without_a_session_a_ratchet_message_has_no_session() -> None:
    pair = acquainted()
    raw = pair.first.send(b"text")
    pair.second.stored = None
    refused(pair.second, raw, (NoSessionError,))


def test_the_kind_of_a_message_cannot_be_changed() -> None:
    pair = strangers()
    pair.first.start(pair.second.bundle())
    first, again = pair.first.send(b"first"), pair.first.send(b"again")
    pair.second.receive(first)
    stripped = b"\x01\x01" + parse_prekey_message(again).ratchet
    refused(pair.second, stripped, (DecryptionError,))
    assert pair.second.receive(again) == b"again"
    pair.first.receive(pair.second.send(b"answer"))
    plain = pair.first.send(b"plain")
    wrapped = first[: len(first) - len(parse_prekey_message(first).ratchet)] + plain[2:]
    refused(pair.second, wrapped, (DecryptionError,))
    assert pair.second.receive(plain) == b"plain"


def test_no_changed_byte_of_any_message_moves_the_record() -> None:
    pair = strangers()
    pair.first.start(pair.second.bundle())
    first = pair.first.send(b"first")
    later = pair.first.send(b"later")
    for at in (*range(150), *range(150, len(first), 5), *range(len(first) - 120, len(first))):
        refused(pair.second, first[:at] + bytes([first[at] ^ 0x80]) + first[at + 1 :])
    pair.second.receive(first)
    for at in (*range(150), *range(150, len(later), 5), *range(len(later) - 120, len(later))):
        refused(pair.second, later[:at] + bytes([later[at] ^ 0x80]) + later[at + 1 :])
    assert pair.second.receive(later) == b"later"
    pair.first.receive(pair.second.send(b"answer"))
    plain = pair.first.send(b"plain")
    for at in range(len(plain)):
        for change in (0x01, 0x80):
            refused(pair.second, plain[:at] + bytes([plain[at] ^ change]) + plain[at + 1 :])
        refused(pair.second, plain[:at])
    assert pair.second.receive(plain) == b"plain"


def test_gaps_end_at_a_thousand() -> None:
    pair = acquainted()
    raws = [pair.first.send(b"%d" % number) for number in range(1_002)]
    refused(pair.second, raws[1_001], (MessageGapError,))
    for at in (1_000, 1_001, 0, 999):
        assert pair.second.receive(raws[at]) == b"%d" % at


def test_a_stolen_record_opens_nothing_older() -> None:
    pair = acquainted()
    old: list[tuple[Party, bytes]] = []
    for _ in range(40):
        for sender, receiver in ((pair.first, pair.second), (pair.second, pair.first)):
            raw = sender.send(b"text")
            receiver.receive(raw)
            old += [(pair.first, raw), (pair.second, raw)]
    for party, raw in old:
        refused(party, raw)


def test_one_round_trip_locks_a_thief_out() -> None:
    pair = acquainted()
    thief = Party(pair.second.person, pair.second.peer)
    thief.stored, thief.now_ms = pair.second.stored, pair.second.now_ms
    raw = pair.first.send(b"overheard")
    assert thief.receive(raw) == b"overheard"
    pair.second.receive(raw)
    turns(pair, [False, True])
    refused(thief, pair.first.send(b"healed"))


def test_a_rolled_back_record_repeats_no_nonce() -> None:
    pair = acquainted()
    turns(pair, [True])
    saved = pair.first.stored
    one = pair.first.send(b"one")
    pair.first.stored = saved
    other = pair.first.send(b"other")
    assert one[:45] == other[:45]
    assert one[45:57] != other[45:57]


def test_after_a_restored_record_a_new_session_heals_in_one_round_trip() -> None:
    pair = acquainted()
    saved = pair.first.stored
    turns(pair, [True, False, True, True, False])
    pair.first.stored = saved
    pair.first.start(pair.second.bundle())
    turns(pair, [True, False, True, False])
    assert pair.first.record.current.session_id == pair.second.record.current.session_id


def test_a_restart_outlives_the_messages_still_on_their_way() -> None:
    pair = acquainted()
    late = [pair.second.send(b"late %d" % number) for number in range(20)]
    pair.first.start(pair.second.bundle())
    restarted = pair.first.record.current.session_id
    for number, raw in enumerate(late):
        assert pair.first.receive(raw) == b"late %d" % number
    assert pair.first.record.current.session_id == restarted
    turns(pair, [True, False])
    assert pair.second.record.current.session_id == restarted


def test_both_start_at_once_and_the_lower_id_wins() -> None:
    for round_ in range(20):
        pair = strangers()
        pair.first.random(round_ + 1)
        pair.first.start(pair.second.bundle())
        pair.second.start(pair.first.bundle())
        ids = [party.record.current.session_id for party in (pair.first, pair.second)]
        one, two = pair.first.send(b"one"), pair.second.send(b"two")
        assert pair.second.receive(one) == b"one"
        assert pair.first.receive(two) == b"two"
        assert [party.record.current.session_id for party in (pair.first, pair.second)] == [min(ids)] * 2
        turns(pair, [True, False, False, True])
        assert not pair.first.record.current.pending
        assert not pair.second.record.current.pending


@pytest.mark.parametrize("first_seed", [0, 250, 500, 750])
def test_simultaneous_starts_agree_in_any_order_of_delivery(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 250):
        draw = random.Random(seed)
        pair = strangers()
        sides = (pair.first, pair.second)
        sides[0].random(1 + seed % 7)
        flying: list[tuple[int, bytes, bytes]] = []
        for side in draw.choice(([0, 1], [0, 1, 0], [1, 0, 1])):
            sides[side].start(sides[1 - side].bundle())
            for number in range(draw.randrange(1, 4)):
                text = b"%d %d" % (side, number)
                flying.append((1 - side, sides[side].send(text), text))
        while flying:
            receiver, raw, expected = flying.pop(draw.randrange(len(flying)))
            assert sides[receiver].receive(raw) == expected
            if draw.random() < 0.3:
                flying.append((1 - receiver, sides[receiver].send(b"more"), b"more"))
        turns(pair, [draw.random() < 0.5 for _ in range(4)] + [True, False] * (STRAYS_TO_HIGHER + 1))
        first, second = pair.first.record.current, pair.second.record.current
        assert first.session_id == second.session_id
        assert not first.pending
        assert not second.pending


def test_two_that_disagree_meet_again_even_if_they_talk_at_the_same_time() -> None:
    pair = strangers()
    pair.first.start(pair.second.bundle())
    pair.second.start(pair.first.bundle())
    one, two = pair.first.send(b"one"), pair.second.send(b"two")
    pair.first.receive(two)
    answer = pair.first.send(b"answer")  # overtakes the message that pair.first sent before
    assert pair.second.receive(answer) == b"answer"
    assert pair.second.receive(one) == b"one"
    for _ in range(STRAYS_TO_LOWER + 1):
        crossing = pair.first.send(b"to second"), pair.second.send(b"to first")
        assert pair.second.receive(crossing[0]) == b"to second"
        assert pair.first.receive(crossing[1]) == b"to first"
    assert pair.first.record.current.session_id == pair.second.record.current.session_id


def test_archived_sessions_are_few_and_go_when_idle() -> None:
    pair = acquainted(one_time=2)
    for _ in range(MAX_ARCHIVED + 3):
        pair.first.start(lasting_bundle(pair.second))
        turns(pair, [True, False])
    assert len(pair.first.record.archived) == MAX_ARCHIVED
    assert len(pair.second.record.archived) == MAX_ARCHIVED
    pair.pass_time(MAX_IDLE_MS)
    turns(pair, [True, False])
    assert len(pair.first.record.archived) == MAX_ARCHIVED
    pair.pass_time(1)
    turns(pair, [True, False])
    assert not pair.first.record.archived
    assert not pair.second.record.archived


def test_skipped_keys_go_after_thirty_days() -> None:
    pair = acquainted()
    late = pair.first.send(b"late")
    turns(pair, [True, False])
    pair.pass_time(MAX_IDLE_MS + 1)
    refused(pair.second, late)
    turns(pair, [True, False])
    ratchet = pair.second.record.current.ratchet
    assert ratchet.pq is not None
    assert (ratchet.skipped, ratchet.pq.skipped) == ({}, {})


def test_a_message_beyond_what_the_relay_takes_is_not_made() -> None:
    pair = acquainted()
    before = pair.first.stored
    with pytest.raises(WireError):
        pair.first.send(bytes(MAX_MESSAGE_BYTES))
    assert pair.first.stored == before
    longest = pad(bytes(65_600))
    assert pair.second.receive(pair.first.send(longest)) == longest


def test_an_empty_plaintext_is_a_message_like_any_other() -> None:
    pair = acquainted()
    assert pair.second.receive(pair.first.send(b"")) == b""


def test_a_long_conversation_stays_small_and_whole() -> None:
    pair = acquainted()
    draw = random.Random(7)
    turns(pair, (draw.random() < 0.6 for _ in range(3_000)))
    assert max(len(party.stored or b"") for party in (pair.first, pair.second)) < 4_000


def test_errors_and_reprs_hold_no_content() -> None:
    pair = acquainted()
    raw = pair.first.send(b"CANARY of the plaintext")
    opened = Opened(pair.first.record, pair.first.pool, b"CANARY of the plaintext")
    assert repr(opened) == "Opened(**)"
    with pytest.raises(DecryptionError, match=r"^cannot decrypt$") as raised:
        pair.second.receive(raw[:-1] + bytes([raw[-1] ^ 1]))
    text = "".join(traceback.format_exception(raised.value))
    assert "CANARY" not in text
    assert repr(pair.second.record.current.ratchet.root) not in text


@pytest.mark.parametrize("days", [31, 61])
def test_a_session_that_was_started_long_ago_ends_with_its_prekeys(days: int) -> None:
    pair = strangers()
    pair.first.start(pair.second.bundle())
    pair.pass_time(days * DAY_MS)
    raw = pair.first.send(b"very late")
    assert pair.second.receive(raw) == b"very late", "the pool still holds them; upkeep deletes them"
