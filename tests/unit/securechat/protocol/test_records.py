"""Session records as bytes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.mutation import check_exact_format
from support.talking import Pair, acquainted, turns

from securechat.errors import WireError
from securechat.protocol.pq_epochs import OFFER_AFTER_MS, Answered, Confirmed, Offered, PqState
from securechat.protocol.records import (
    MAX_ARCHIVED,
    MAX_RECORD_BYTES,
    SessionRecord,
    encode_record,
    parse_record,
)

MOST_BYTES_AT_REST = 700
MOST_BYTES_IN_AN_EXCHANGE = 2_100  # an answer is kept until it is confirmed


def pq_of(record: SessionRecord) -> PqState:
    state = record.current.ratchet.pq
    assert state is not None
    return state


def with_skipped() -> Pair:
    pair = acquainted()
    for _ in range(3):
        pair.first.send(b"lost")
    turns(pair, [True, False, True])
    return pair


def stages() -> list[SessionRecord]:
    """A record in every phase of the protocol."""
    pair = acquainted()
    found = [pair.first.record, pair.second.record]
    pair.pass_time(OFFER_AFTER_MS)
    for sender, receiver in ((pair.first, pair.second), (pair.second, pair.first)) * 2:
        receiver.receive(sender.send(b"text"))
        found += [pair.first.record, pair.second.record]
    started = acquainted()
    started.first.start(started.second.bundle())
    return [*found, with_skipped().second.record, started.first.record]


def test_a_record_comes_back_as_it_was_in_every_phase() -> None:
    records = stages()
    assert {type(pq_of(record).phase) for record in records} == {type(None), Offered, Answered, Confirmed}
    for record in records:
        assert parse_record(encode_record(record)) == record


@pytest.mark.parametrize("at", range(5))
def test_every_changed_byte_makes_another_record_or_none(at: int) -> None:
    record = (*stages()[3:6], with_skipped().second.record, stages()[-1])[at]
    raw = encode_record(record)
    positions = range(len(raw)) if len(raw) < 1_200 else (*range(200), *range(200, len(raw), 7))
    check_exact_format(raw, parse_record, encode_record, positions=positions)


def test_a_session_at_rest_is_small() -> None:
    pair = acquainted()
    turns(pair, [True, True, False] * 200)
    pair.pass_time(OFFER_AFTER_MS)
    sizes = []
    for sender, receiver in ((pair.first, pair.second), (pair.second, pair.first)) * 2:
        receiver.receive(sender.send(b"text"))
        sizes += [len(pair.first.stored or b""), len(pair.second.stored or b"")]
    assert max(sizes) <= MOST_BYTES_IN_AN_EXCHANGE
    assert sizes[-1] <= MOST_BYTES_AT_REST


def test_a_skipped_message_takes_less_than_140_bytes() -> None:
    pair = acquainted()
    for _ in range(900):
        pair.first.send(b"lost")
    turns(pair, [True])
    assert len(pair.second.stored or b"") < 900 * 140


def test_the_generation_grows_with_every_change() -> None:
    pair = acquainted()
    seen = [pair.first.record.generation]
    for step in (pair.first.send, pair.first.send):
        step(b"text")
        seen.append(pair.first.record.generation)
    pair.first.receive(pair.second.send(b"text"))
    seen.append(pair.first.record.generation)
    pair.first.start(pair.second.bundle())
    seen.append(pair.first.record.generation)
    assert seen == list(range(seen[0], seen[0] + 5))


@pytest.mark.parametrize("prefix", [b"", b"\x00", b"\x02", b"\xff"])
def test_another_version_is_refused(prefix: bytes) -> None:
    raw = encode_record(acquainted().first.record)
    with pytest.raises(WireError):
        parse_record(prefix + raw[1:])


def test_what_another_encoder_would_have_written_is_refused() -> None:
    record = acquainted().first.record
    raw = encode_record(record)
    assert raw[1] == 0x95, "an array of five"
    for changed in (
        b"\x01\xdc\x00\x05" + raw[2:],  # the array's length in three bytes
        b"\x01\x96" + raw[2:] + b"\xc0",  # a sixth field
        b"\x01\x95\xcc" + raw[2:],  # the generation in two bytes
        raw + b"\x00",
    ):
        with pytest.raises(WireError):
            parse_record(changed)


def test_more_than_four_archived_sessions_are_refused() -> None:
    record = acquainted().first.record
    full = msgspec.structs.replace(record, archived=(record.current,) * MAX_ARCHIVED)
    assert parse_record(encode_record(full)) == full
    over = msgspec.structs.replace(record, archived=(record.current,) * (MAX_ARCHIVED + 1))
    with pytest.raises(WireError):
        parse_record(encode_record(over))


def test_a_record_beyond_its_limit_is_refused_unread() -> None:
    with pytest.raises(WireError):
        parse_record(b"\x01" + bytes(MAX_RECORD_BYTES))


def test_deep_nesting_is_a_malformed_record() -> None:
    with pytest.raises(WireError):
        parse_record(b"\x01" + b"\x91" * 100_000)


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_raise_nothing_but_wire_errors(raw: bytes) -> None:
    for prefix in (b"", b"\x01", b"\x01\x95"):
        with pytest.raises(WireError):
            parse_record(prefix + raw)


def test_a_record_shows_nothing_of_its_keys_and_is_not_pickled() -> None:
    record = stages()[3]
    assert repr(record) == "SessionRecord(**)"
    assert str(record.current.ratchet) == "RatchetState(**)"
    with pytest.raises(TypeError):
        record.__reduce__()
