"""Keys of messages that never came, where nothing arrives any more that would push them out."""

from support.talking import acquainted

from securechat.protocol.chains import MAX_SKIPPED_AGE_MS
from securechat.protocol.records import SessionRecord, encode_record, parse_record
from securechat.protocol.session import forget_old_keys


def _record_with_a_skipped_key_in_each_session() -> tuple[SessionRecord, int]:
    pair = acquainted()
    pair.first.send(b"never arrives")
    pair.second.receive(pair.first.send(b"next"))
    pair.second.start(pair.first.bundle())
    pair.first.receive(pair.second.send(b"anew"))
    pair.first.send(b"never arrives")
    pair.second.receive(pair.first.send(b"next"))
    record = pair.second.record
    assert [len(session.ratchet.skipped) for session in (record.current, *record.archived)] == [1, 1]
    return record, pair.second.now_ms


def test_skipped_keys_and_archived_sessions_of_a_silent_peer_go_after_thirty_days() -> None:
    record, now_ms = _record_with_a_skipped_key_in_each_session()
    kept = forget_old_keys(record, now_ms + MAX_SKIPPED_AGE_MS + 1)
    pq = kept.current.ratchet.pq
    assert pq is not None
    assert (kept.current.ratchet.skipped, pq.skipped, kept.archived) == ({}, {}, ())
    assert kept.generation == record.generation + 1
    assert parse_record(encode_record(kept)) == kept


def test_until_then_nothing_changes() -> None:
    record, now_ms = _record_with_a_skipped_key_in_each_session()
    assert forget_old_keys(record, now_ms + MAX_SKIPPED_AGE_MS) is record
