"""The formats of ratchet and prekey messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.identities import RepeatableRandom
from support.mutation import check_exact_format

from securechat.crypto.keys import DhKeyPair, DhPublicKey, VerifyKey
from securechat.errors import WireError
from securechat.wire.codec import MAX_U16, MAX_U32
from securechat.wire.handshake import KEM_CIPHERTEXT_BYTES, PqxdhHeader
from securechat.wire.messages import (
    ANSWER_BYTES,
    MAX_MESSAGE_BYTES,
    MIN_BODY_BYTES,
    OFFER_BYTES,
    MessageKind,
    PreKeyMessage,
    RatchetHeader,
    RatchetMessage,
    SenderIdentity,
    encode_head,
    encode_prekey_message,
    encode_ratchet_message,
    message_kind,
    parse_prekey_message,
    parse_ratchet_part,
)
from securechat.wire.prekeys import PreKeyKind

KEY = DhKeyPair.generate(RepeatableRandom("ratchet key")).public.raw
BODY = bytes(range(12)) + b"c" * 32 + b"sealed" + b"t" * 16
COUNTERS = st.integers(0, MAX_U32) | st.integers(0, MAX_U16)
EXTRAS = st.sampled_from([(b"", b""), (b"o" * OFFER_BYTES, b""), (b"", b"a" * ANSWER_BYTES)])


def join(message: RatchetMessage) -> bytes:
    assert encode_head(message.header) == message.head
    return message.head + message.body


def prekey_message(*, one_time_id: int | None = 7) -> PreKeyMessage:
    sender = SenderIdentity(VerifyKey(b"A" * 32), VerifyKey(b"S" * 32), DhPublicKey(b"I" * 32))
    handshake = PqxdhHeader(
        DhPublicKey(KEY), 1, one_time_id, PreKeyKind.KEM_ONE_TIME, 9, b"k" * KEM_CIPHERTEXT_BYTES
    )
    return PreKeyMessage(sender, handshake, encode_head(RatchetHeader(KEY, 0, 0)) + BODY)


def test_a_header_stands_as_it_is_written_down() -> None:
    header = RatchetHeader(KEY, 1, 2, 3, 4, 5)
    assert encode_head(header) == b"\x00" + KEY + bytes.fromhex("00010002000300040005")
    wide = RatchetHeader(KEY, 1, 65_536, 3, 4, 5)
    assert encode_head(wide) == b"\x01" + KEY + bytes.fromhex("0000000100010000000000030000000400000005")
    offer = RatchetHeader(KEY, 1, 2, 3, 4, 5, offer=b"o" * OFFER_BYTES)
    assert encode_head(offer) == b"\x02" + encode_head(header)[1:] + b"o" * OFFER_BYTES
    answer = RatchetHeader(KEY, 1, 2, 3, 4, 5, answer=b"a" * ANSWER_BYTES)
    assert encode_head(answer) == b"\x04" + encode_head(header)[1:] + b"a" * ANSWER_BYTES


@given(COUNTERS, COUNTERS, COUNTERS, COUNTERS, COUNTERS, EXTRAS, st.binary(max_size=40))
def test_a_ratchet_part_goes_round(
    previous: int, number: int, epoch: int, before: int, at: int, extra: tuple[bytes, bytes], text: bytes
) -> None:
    header = RatchetHeader(KEY, previous, number, epoch, before, at, *extra)
    head = encode_head(header)
    body = bytes(MIN_BODY_BYTES) + text
    assert parse_ratchet_part(head + body) == RatchetMessage(header, head, body)


@pytest.mark.parametrize(
    "header",
    [
        RatchetHeader(KEY, 1, 2, 3, 4, 5),
        RatchetHeader(KEY, 1, 2, 3, MAX_U32, 5),
        RatchetHeader(KEY, 1, 2, 3, 4, 5, offer=b"o" * OFFER_BYTES),
        RatchetHeader(KEY, 1, 2, 3, 4, MAX_U16 + 1, answer=b"a" * ANSWER_BYTES),
    ],
    ids=["narrow", "wide", "offer", "wide answer"],
)
def test_every_changed_ratchet_part_is_another_or_none(header: RatchetHeader) -> None:
    raw = encode_head(header) + BODY
    positions = (*range(70), *range(len(raw) - 70, len(raw)))
    check_exact_format(raw, parse_ratchet_part, join, positions=positions)


@pytest.mark.parametrize("one_time_id", [7, None])
def test_every_changed_prekey_message_is_another_or_none(one_time_id: int | None) -> None:
    raw = encode_prekey_message(prekey_message(one_time_id=one_time_id))
    positions = (*range(150), *range(150, len(raw) - 120, 97), *range(len(raw) - 120, len(raw)))
    check_exact_format(raw, parse_prekey_message, encode_prekey_message, positions=positions)


def test_kinds_are_told_by_two_bytes() -> None:
    assert message_kind(encode_ratchet_message(b"")) is MessageKind.RATCHET
    assert message_kind(encode_prekey_message(prekey_message())) is MessageKind.PREKEY
    for raw in (b"", b"\x01", b"\x00\x01", b"\x02\x01", b"\x01\x00", b"\x01\x03"):
        with pytest.raises(WireError):
            message_kind(raw)


def test_a_message_has_at_most_96_kib() -> None:
    message_kind(encode_ratchet_message(bytes(MAX_MESSAGE_BYTES - 2)))
    with pytest.raises(WireError):
        message_kind(encode_ratchet_message(bytes(MAX_MESSAGE_BYTES - 1)))


def test_a_wide_header_without_need_is_refused() -> None:
    wide = encode_head(RatchetHeader(KEY, 0, 65_536))
    with pytest.raises(WireError):
        parse_ratchet_part(wide.replace(b"\x00\x01\x00\x00", b"\x00\x00\xff\xff") + BODY)


@pytest.mark.parametrize("flags", [6, 7, 8, 16, 128, 255])
def test_unknown_flags_and_an_offer_with_an_answer_are_refused(flags: int) -> None:
    raw = bytes([flags]) + KEY + bytes(20 + OFFER_BYTES + ANSWER_BYTES) + BODY
    with pytest.raises(WireError):
        parse_ratchet_part(raw)


@pytest.mark.parametrize("key", [b"\xff" * 32, b"\xed" + b"\xff" * 30 + b"\x7f", b"\x01" * 31 + b"\x80"])
def test_a_ratchet_key_out_of_canonical_form_is_refused(key: bytes) -> None:
    with pytest.raises(WireError):
        parse_ratchet_part(b"\x00" + key + bytes(10) + BODY)


def test_the_largest_canonical_ratchet_key_is_taken() -> None:
    key = (2**255 - 20).to_bytes(32, "little")
    assert parse_ratchet_part(b"\x00" + key + bytes(10) + BODY).header.ratchet_key == key


@pytest.mark.parametrize(
    "header",
    [
        RatchetHeader(KEY[:31], 0, 0),
        RatchetHeader(KEY, -1, 0),
        RatchetHeader(KEY, 0, MAX_U32 + 1),
        RatchetHeader(KEY, 0, 0, offer=b"short"),
        RatchetHeader(KEY, 0, 0, offer=b"o" * OFFER_BYTES, answer=b"a" * ANSWER_BYTES),
    ],
)
def test_a_header_out_of_range_is_not_written(header: RatchetHeader) -> None:
    with pytest.raises(WireError):
        encode_head(header)


def test_a_prekey_message_is_not_read_out_of_a_ratchet_message() -> None:
    with pytest.raises(WireError):
        parse_prekey_message(encode_ratchet_message(encode_head(RatchetHeader(KEY, 0, 0)) + BODY))


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_raise_nothing_but_wire_errors(raw: bytes) -> None:
    for prefix in (b"", b"\x01\x01", b"\x01\x02"):
        for parse in (message_kind, parse_prekey_message, parse_ratchet_part):
            try:
                parse(prefix + raw)
            except WireError:
                continue
