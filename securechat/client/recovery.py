"""What follows when the store turns out to be an older copy of itself (docs/reference/client.md, "Restore").

Chains that were used since then would be used again, so no session of the old copy sends or opens anything
more: each is made anew, its peer is told by the new session, and the application by an event. Counters jump
to the time, so that what is sent now does not look older than what was sent before.
"""

from dataclasses import replace

from securechat.client.ports import Transaction
from securechat.client.prekey_rows import load_whole_pool, save_pool_change
from securechat.client.records import Cursor, EventKind, EventRecord
from securechat.ports import RandomBytes
from securechat.protocol.pqxdh import LocalDevice
from securechat.protocol.prekeys import PreKeyCounts, refill, skip_ids
from securechat.wire.prekeys import encode_upload


def remake_sessions(tx: Transaction, own: LocalDevice, *, now_ms: int, random_bytes: RandomBytes) -> None:
    """Drop every session, have each made anew, and publish prekeys under ids that were never used."""
    for address in tx.sessions.addresses():
        tx.sessions.remove(address)
        counters = tx.peers.device(address)
        ahead = max(counters.sent, now_ms)  # above all that was counted since, at a message in a millisecond
        tx.peers.save_device(replace(counters, sent=ahead, refresh_due=True))
    pool = load_whole_pool(tx)
    if pool is not None:
        skipped = skip_ids(pool, random_bytes)
        fresh, upload = refill(skipped, own, PreKeyCounts(0, 0), now_ms, random_bytes)
        save_pool_change(tx, pool, fresh)
        tx.prekeys.set_pending_upload(encode_upload(upload))
    tx.account.set_restored(False)
    tx.inbox.add(EventRecord(EventKind.STORE_RESTORED))


def check_cursor(
    tx: Transaction, own: LocalDevice, acked: Cursor, *, now_ms: int, random_bytes: RandomBytes
) -> bool:
    """Compare the server's cursor with ours: if it is ahead, this store is older than what it acknowledged.

    Returns whether sessions were dropped for it. A mailbox of another epoch was restored itself: its messages
    are taken in from the start, and those already taken are known by their ids.
    """
    cursor = tx.account.cursor()
    behind = 0 if cursor is None else cursor.seq
    if cursor is not None and cursor.epoch != acked.epoch:
        return False
    if acked.seq <= behind:
        return False
    tx.account.move_cursor(acked)
    remake_sessions(tx, own, now_ms=now_ms, random_bytes=random_bytes)
    return True
