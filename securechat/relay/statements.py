"""The relay's hot statements in the driver's own SQL; a bulk call of the driver costs half of a compiled one.

Plain SQL with upserts, as SQLite and PostgreSQL-compatible engines understand it.
"""

from typing import Final

FIND_MAILBOX: Final = (
    'SELECT id, "user", device, epoch, last_seq, acked_seq, bytes_in, bytes_out, fence, node '
    'FROM mailbox WHERE "user" = ? AND device = ?'
)
LOAD_MAILBOX: Final = (
    'SELECT id, "user", device, epoch, last_seq, acked_seq, bytes_in, bytes_out, fence, node '
    "FROM mailbox WHERE id = ?"
)
CREATE_MAILBOX: Final = (
    'INSERT INTO mailbox ("user", device, epoch, last_seq, acked_seq, bytes_in, bytes_out, fence) '
    "VALUES (?, ?, ?, 0, 0, 0, 0, 0)"
)
MAILBOXES: Final = "SELECT id FROM mailbox"
SAVE_EPOCH: Final = "UPDATE mailbox SET epoch = ? WHERE id = ?"
SAVE_LAST: Final = "UPDATE mailbox SET last_seq = ?, bytes_in = ? WHERE id = ?"
SAVE_ACKED: Final = "UPDATE mailbox SET acked_seq = ?, bytes_out = ? WHERE id = ?"
TAKE_PRESENCE: Final = "UPDATE mailbox SET fence = ?, node = ? WHERE id = ?"
LEAVE_PRESENCE: Final = "UPDATE mailbox SET node = NULL WHERE id = ? AND fence = ?"
CLEAR_PRESENCE: Final = "UPDATE mailbox SET node = NULL WHERE node = ?"
PRESENT: Final = "SELECT id, last_seq, fence FROM mailbox WHERE node = ?"

INSERT_MESSAGE: Final = (
    "INSERT INTO inbox (mailbox, seq, message_id, sender, accepted_ms, flags, bytes_through, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
READ_PAGE: Final = (
    'SELECT i.seq, i.message_id, m."user", m.device, i.accepted_ms, i.flags, i.body '
    "FROM inbox i JOIN mailbox m ON m.id = i.sender "
    "WHERE i.mailbox = ? AND i.seq > ? ORDER BY i.seq LIMIT ?"
)
BYTES_THROUGH: Final = "SELECT bytes_through FROM inbox WHERE mailbox = ? AND seq = ?"
DELETE_THROUGH: Final = "DELETE FROM inbox WHERE mailbox = ? AND seq <= ?"

FIND_SENT: Final = "SELECT seq, accepted_ms FROM sent_ids WHERE mailbox = ? AND sender = ? AND message_id = ?"
INSERT_SENT: Final = (
    "INSERT INTO sent_ids (mailbox, sender, message_id, seq, accepted_ms) VALUES (?, ?, ?, ?, ?)"
)
FORGET_SENT: Final = "DELETE FROM sent_ids WHERE mailbox = ? AND seq <= ?"

NOTE_ACCEPTED: Final = (
    "INSERT INTO mailbox_days (day, mailbox, accepted_seq, acked_seq) VALUES (?, ?, ?, 0) "
    "ON CONFLICT (day, mailbox) DO UPDATE SET accepted_seq = excluded.accepted_seq"
)
NOTE_ACKED: Final = (
    "INSERT INTO mailbox_days (day, mailbox, accepted_seq, acked_seq) VALUES (?, ?, 0, ?) "
    "ON CONFLICT (day, mailbox) DO UPDATE SET acked_seq = excluded.acked_seq"
)
UNEXPIRED_DAYS: Final = (
    "SELECT day, mailbox, accepted_seq FROM mailbox_days "
    "WHERE day <= ? AND accepted_seq > 0 ORDER BY day LIMIT ?"
)
UNFORGOTTEN_DAYS: Final = (
    "SELECT day, mailbox, acked_seq FROM mailbox_days WHERE day <= ? AND acked_seq > 0 ORDER BY day LIMIT ?"
)
MARK_EXPIRED: Final = "UPDATE mailbox_days SET accepted_seq = 0 WHERE day = ? AND mailbox = ?"
MARK_FORGOTTEN: Final = "UPDATE mailbox_days SET acked_seq = 0 WHERE day = ? AND mailbox = ?"
DROP_DAYS: Final = "DELETE FROM mailbox_days WHERE day <= ? AND accepted_seq = 0 AND acked_seq = 0"
