"""The repositories of one transaction, in SQL; every statement of the client's store stands here."""

from typing import Final

from securechat.client.records import (
    AccountRecord,
    Cursor,
    EventKind,
    EventRecord,
    HeldEnvelope,
    MessageState,
    OutboxEnvelope,
    OutgoingMessage,
    PeerDeviceRecord,
    PeerRecord,
    address_of,
)
from securechat.client.store.database import Database, Row
from securechat.crypto.secret import SecretBytes
from securechat.ids import MessageId, ProtocolAddress, UserId
from securechat.protocol.prekeys import UsedHandshake
from securechat.wire.content import ContentKind
from securechat.wire.prekeys import PreKeyKind

_MESSAGE_COLUMNS: Final = (
    "message_id, user, kind, digest, body, reply_to, idempotency_key, state, code, created_ms"
)
_EVENT_COLUMNS: Final = (
    "kind, user, device, message_id, reply_to, counter, sent_ms, accepted_ms, text, code, position"
)


class SqlTransaction:
    """The repositories of the transaction that is open on ``database``."""

    __slots__ = ("account", "inbox", "outbox", "peers", "prekeys", "sessions")

    def __init__(self, database: Database) -> None:
        self.account = SqlAccounts(database)
        self.prekeys = SqlPreKeys(database)
        self.peers = SqlPeers(database)
        self.sessions = SqlSessions(database)
        self.outbox = SqlOutbox(database)
        self.inbox = SqlInbox(database)


class _Repository:
    __slots__ = ("_db",)

    def __init__(self, database: Database) -> None:
        self._db = database


class SqlAccounts(_Repository):
    """Tables ``account``, ``cursor``, ``taken`` and the flag of ``store``."""

    __slots__ = ()

    def load(self) -> AccountRecord | None:
        row = self._db.one(
            "SELECT user, device, account_keys, local_device, device_list, enrolled FROM account"
        )
        if row is None:
            return None
        user, device, account_keys, local_device, device_list, enrolled = row
        return AccountRecord(
            address_of(user, device),
            SecretBytes(account_keys),
            SecretBytes(local_device),
            device_list,
            bool(enrolled),
        )

    def save(self, account: AccountRecord) -> None:
        self._db.run(
            "INSERT OR REPLACE INTO account VALUES (1, ?, ?, ?, ?, ?, ?)",
            (
                account.address.user,
                account.address.device,
                account.account_keys.reveal(),
                account.local_device.reveal(),
                account.device_list,
                int(account.enrolled),
            ),
        )

    def cursor(self) -> Cursor | None:
        row = self._db.one("SELECT epoch, seq FROM cursor")
        return None if row is None else Cursor(row[0], row[1])

    def move_cursor(self, cursor: Cursor) -> None:
        self._db.run("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?)", (cursor.epoch, cursor.seq))

    def is_taken(self, sender: ProtocolAddress, message_id: MessageId) -> bool:
        sql = "SELECT 1 FROM taken WHERE user = ? AND device = ? AND message_id = ?"
        return self._db.one(sql, (sender.user, sender.device, message_id)) is not None

    def take(self, sender: ProtocolAddress, message_id: MessageId, now_ms: int) -> None:
        sql = "INSERT OR IGNORE INTO taken VALUES (?, ?, ?, ?)"
        self._db.run(sql, (sender.user, sender.device, message_id, now_ms))

    def forget_taken(self, before_ms: int) -> None:
        self._db.run("DELETE FROM taken WHERE taken_ms < ?", (before_ms,))

    def is_restored(self) -> bool:
        row = self._db.one("SELECT restored FROM store")
        return row is not None and bool(row[0])

    def set_restored(self, restored: bool) -> None:
        self._db.run("UPDATE store SET restored = ?", (int(restored),))


class SqlPreKeys(_Repository):
    """Tables ``prekey``, ``used_handshake`` and ``prekey_state``."""

    __slots__ = ()

    def next_id(self) -> int | None:
        row = self._db.one("SELECT next_id FROM prekey_state")
        return None if row is None else int(row[0])

    def set_next_id(self, next_id: int) -> None:
        self._db.run(
            "INSERT INTO prekey_state (id, next_id) VALUES (1, ?)"
            " ON CONFLICT (id) DO UPDATE SET next_id = excluded.next_id",
            (next_id,),
        )

    def lasting(self) -> tuple[bytes, ...]:
        return self._bodies((PreKeyKind.SIGNED, PreKeyKind.KEM_LAST_RESORT))

    def one_time(self) -> tuple[bytes, ...]:
        return self._bodies((PreKeyKind.ONE_TIME, PreKeyKind.KEM_ONE_TIME))

    def _bodies(self, kinds: tuple[PreKeyKind, PreKeyKind]) -> tuple[bytes, ...]:
        rows = self._db.run("SELECT body FROM prekey WHERE kind IN (?, ?) ORDER BY kind, key_id", kinds)
        return tuple(row[0] for row in rows)

    def secret(self, kind: PreKeyKind, key_id: int) -> bytes | None:
        row = self._db.one("SELECT body FROM prekey WHERE kind = ? AND key_id = ?", (kind, key_id))
        return None if row is None else bytes(row[0])

    def save_secret(self, kind: PreKeyKind, key_id: int, body: bytes) -> None:
        self._db.run("INSERT OR REPLACE INTO prekey VALUES (?, ?, ?)", (kind, key_id, body))

    def remove_secret(self, kind: PreKeyKind, key_id: int) -> None:
        self._db.run("DELETE FROM prekey WHERE kind = ? AND key_id = ?", (kind, key_id))

    def used(self) -> tuple[UsedHandshake, ...]:
        return tuple(
            UsedHandshake(*row) for row in self._db.run("SELECT signed_id, base_key FROM used_handshake")
        )

    def is_used(self, used: UsedHandshake) -> bool:
        sql = "SELECT 1 FROM used_handshake WHERE signed_id = ? AND base_key = ?"
        return self._db.one(sql, (used.signed_id, used.base_key)) is not None

    def save_used(self, used: UsedHandshake) -> None:
        self._db.run("INSERT OR IGNORE INTO used_handshake VALUES (?, ?)", (used.signed_id, used.base_key))

    def remove_used(self, used: UsedHandshake) -> None:
        sql = "DELETE FROM used_handshake WHERE signed_id = ? AND base_key = ?"
        self._db.run(sql, (used.signed_id, used.base_key))

    def pending_upload(self) -> bytes | None:
        row = self._db.one("SELECT pending_upload FROM prekey_state")
        return None if row is None or row[0] is None else bytes(row[0])

    def set_pending_upload(self, body: bytes | None) -> None:
        self._db.run("UPDATE prekey_state SET pending_upload = ?", (body,))


class SqlPeers(_Repository):
    """Tables ``peer``, ``peer_device`` and ``held``."""

    __slots__ = ()

    def load(self, user: UserId) -> PeerRecord | None:
        sql = "SELECT account, device_list, fetched_ms, waiting_list FROM peer WHERE user = ?"
        row = self._db.one(sql, (user,))
        return None if row is None else PeerRecord(user, *row)

    def save(self, peer: PeerRecord) -> None:
        self._db.run(
            "INSERT OR REPLACE INTO peer VALUES (?, ?, ?, ?, ?)",
            (peer.user, peer.account, peer.device_list, peer.fetched_ms, peer.waiting_list),
        )

    def device(self, address: ProtocolAddress) -> PeerDeviceRecord:
        sql = (
            "SELECT sent, refreshed_ms, refresh_due, received, received_ms FROM peer_device"
            " WHERE user = ? AND device = ?"
        )
        row = self._db.one(sql, (address.user, address.device))
        if row is None:
            return PeerDeviceRecord(address)
        return PeerDeviceRecord(address, row[0], row[1], bool(row[2]), row[3], row[4])

    def save_device(self, device: PeerDeviceRecord) -> None:
        self._db.run(
            "INSERT OR REPLACE INTO peer_device VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                device.address.user,
                device.address.device,
                device.sent,
                device.refreshed_ms,
                int(device.refresh_due),
                device.received,
                device.received_ms,
            ),
        )

    def refresh_due(self) -> tuple[ProtocolAddress, ...]:
        rows = self._db.run(
            "SELECT user, device FROM peer_device WHERE refresh_due = 1 ORDER BY user, device"
        )
        return tuple(address_of(*row) for row in rows)

    def hold(self, held: HeldEnvelope) -> None:
        self._db.run(
            "INSERT INTO held (user, device, message_id, accepted_ms, body) VALUES (?, ?, ?, ?, ?)",
            (held.sender.user, held.sender.device, held.message_id, held.accepted_ms, held.body),
        )

    def held(self, user: UserId) -> tuple[HeldEnvelope, ...]:
        sql = (
            "SELECT position, device, message_id, accepted_ms, body FROM held"
            " WHERE user = ? ORDER BY position"
        )
        return tuple(
            HeldEnvelope(position, address_of(user, device), message_id, accepted_ms, body)
            for position, device, message_id, accepted_ms, body in self._db.run(sql, (user,))
        )

    def release(self, held: HeldEnvelope) -> None:
        self._db.run("DELETE FROM held WHERE position = ?", (held.position,))


class SqlSessions(_Repository):
    """Table ``session``."""

    __slots__ = ()

    def load(self, address: ProtocolAddress) -> bytes | None:
        sql = "SELECT body FROM session WHERE user = ? AND device = ?"
        row = self._db.one(sql, (address.user, address.device))
        return None if row is None else bytes(row[0])

    def save(self, address: ProtocolAddress, body: bytes) -> None:
        sql = "INSERT OR REPLACE INTO session VALUES (?, ?, ?)"
        self._db.run(sql, (address.user, address.device, body))

    def remove(self, address: ProtocolAddress) -> None:
        sql = "DELETE FROM session WHERE user = ? AND device = ?"
        self._db.run(sql, (address.user, address.device))

    def addresses(self) -> tuple[ProtocolAddress, ...]:
        rows = self._db.run("SELECT user, device FROM session ORDER BY user, device")
        return tuple(address_of(*row) for row in rows)


class SqlOutbox(_Repository):
    """Tables ``message`` and ``envelope``."""

    __slots__ = ()

    def add_message(self, message: OutgoingMessage) -> None:
        self._db.run(
            f"INSERT INTO message ({_MESSAGE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (fixed column names)
            (
                message.message_id,
                message.user,
                message.kind,
                message.digest,
                message.body,
                message.reply_to,
                message.idempotency_key,
                message.state,
                message.code,
                message.created_ms,
            ),
        )

    def message(self, message_id: MessageId) -> OutgoingMessage | None:
        return self._message("message_id = ?", message_id)

    def by_key(self, idempotency_key: str) -> OutgoingMessage | None:
        return self._message("idempotency_key = ?", idempotency_key)

    def _message(self, condition: str, value: bytes | str) -> OutgoingMessage | None:
        row = self._db.one(f"SELECT {_MESSAGE_COLUMNS} FROM message WHERE {condition}", (value,))  # noqa: S608 (fixed column names)
        return None if row is None else _outgoing(row)

    def queued(self, user: UserId) -> tuple[OutgoingMessage, ...]:
        sql = f"SELECT {_MESSAGE_COLUMNS} FROM message WHERE state = 1 AND user = ? ORDER BY position"  # noqa: S608 (fixed column names)
        return tuple(_outgoing(row) for row in self._db.run(sql, (user,)))

    def queued_users(self) -> tuple[UserId, ...]:
        rows = self._db.run("SELECT DISTINCT user FROM message WHERE state = 1 ORDER BY user")
        return tuple(row[0] for row in rows)

    def forget(self, message_id: MessageId) -> None:
        self._db.run("DELETE FROM message WHERE message_id = ?", (message_id,))

    def set_state(self, message_id: MessageId, state: MessageState, code: str = "") -> None:
        sql = "UPDATE message SET state = ?, code = ?, body = x'' WHERE message_id = ?"
        self._db.run(sql, (state, code, message_id))

    def add_envelope(self, message_id: MessageId, address: ProtocolAddress, body: bytes, now_ms: int) -> None:
        self._db.run(
            "INSERT INTO envelope (message_id, user, device, body, created_ms) VALUES (?, ?, ?, ?, ?)",
            (message_id, address.user, address.device, body, now_ms),
        )

    def envelopes(self, after: int, limit: int) -> tuple[OutboxEnvelope, ...]:
        rows = self._db.run(
            "SELECT position, message_id, user, device, created_ms FROM envelope"
            " WHERE position > ? ORDER BY position LIMIT ?",
            (after, limit),
        )
        return tuple(
            OutboxEnvelope(position, message_id, address_of(user, device), created_ms)
            for position, message_id, user, device, created_ms in rows
        )

    def envelope_body(self, position: int) -> bytes | None:
        row = self._db.one("SELECT body FROM envelope WHERE position = ?", (position,))
        return None if row is None else bytes(row[0])

    def remove_envelope(self, position: int) -> None:
        self._db.run("DELETE FROM envelope WHERE position = ?", (position,))

    def has_envelopes(self, message_id: MessageId) -> bool:
        return self._db.one("SELECT 1 FROM envelope WHERE message_id = ?", (message_id,)) is not None

    def forget_finished(self, before_ms: int) -> None:
        self._db.run("DELETE FROM message WHERE state >= 3 AND created_ms < ?", (before_ms,))


class SqlInbox(_Repository):
    """Table ``event``."""

    __slots__ = ()

    def add(self, event: EventRecord) -> None:
        self._db.run(
            "INSERT INTO event (kind, user, device, message_id, reply_to, counter, sent_ms, accepted_ms,"
            " text, code) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event.kind,
                event.user,
                event.device,
                event.message_id,
                event.reply_to,
                event.counter,
                event.sent_ms,
                event.accepted_ms,
                event.text,
                event.code,
            ),
        )

    def after(self, position: int, limit: int) -> tuple[EventRecord, ...]:
        sql = f"SELECT {_EVENT_COLUMNS} FROM event WHERE position > ? ORDER BY position LIMIT ?"  # noqa: S608 (fixed column names)
        return tuple(EventRecord(EventKind(row[0]), *row[1:]) for row in self._db.run(sql, (position, limit)))

    def last_position(self) -> int:
        row = self._db.one("SELECT max(position) FROM event")
        return 0 if row is None or row[0] is None else int(row[0])

    def remove(self, position: int) -> None:
        self._db.run("DELETE FROM event WHERE position = ?", (position,))


def _outgoing(row: Row) -> OutgoingMessage:
    message_id, user, kind, digest, body, reply_to, key, state, code, created_ms = row
    return OutgoingMessage(
        message_id=message_id,
        user=user,
        kind=ContentKind(kind),
        digest=digest,
        body=body,
        reply_to=reply_to,
        idempotency_key=key,
        state=MessageState(state),
        code=code,
        created_ms=created_ms,
    )
