"""How large a peer can make the record that is kept about it."""

from msgspec.structs import replace
from support.identities import NOW_MS
from support.talking import acquainted, turns

from securechat.protocol.chains import MAX_SKIPPED, Skipped, message_name
from securechat.protocol.double_ratchet import kept_keys
from securechat.protocol.records import SessionState, encode_record

STAMP = NOW_MS.to_bytes(8, "big")


def made_up(chain: bytes, count: int) -> Skipped:
    """Keys of messages that are missing, the oldest first."""
    return {message_name(chain, number): STAMP + bytes(32) for number in range(count)}


def full_of_keys(session: SessionState, number: int, count: int) -> SessionState:
    """Another session in which ``count`` messages are missing."""
    ratchet, name = session.ratchet, bytes([number]) * 32
    assert ratchet.pq is not None
    pq = replace(ratchet.pq, skipped=made_up(name[:4], count))
    ratchet = replace(ratchet, receiving=(), skipped=made_up(name, count), pq=pq)
    return replace(session, session_id=name, handshake_hash=name, ratchet=ratchet)


def test_all_sessions_of_a_record_together_keep_two_thousand_keys() -> None:
    pair = acquainted()
    record = pair.first.record
    archived = tuple(full_of_keys(record.current, number, 1_500) for number in range(4))
    pair.first.stored = encode_record(replace(record, archived=archived))
    for _ in range(100):
        pair.second.send(b"lost")
    pair.first.receive(pair.second.send(b"arrives"))
    after = pair.first.record
    kept = [kept_keys(session.ratchet) for session in (after.current, *after.archived)]
    assert kept == [(100, 100), (1_500, 1_500), (400, 400), (0, 0), (0, 0)]
    oldest_kept = next(iter(after.archived[1].ratchet.skipped))
    assert oldest_kept == message_name(bytes([1]) * 32, 1_100), "the newest of a session stay"
    assert len(encode_record(after)) < 300_000
    turns(pair, [True, False])


def test_one_session_may_keep_as_many_as_all() -> None:
    pair = acquainted()
    full = full_of_keys(pair.first.record.current, 1, MAX_SKIPPED)
    pair.first.stored = encode_record(replace(pair.first.record, archived=(full,)))
    turns(pair, [False, True])
    assert pair.first.record.archived == (full,)
