"""Mailboxes in the database. Every method works inside a transaction that its caller runs."""

from dataclasses import dataclass, replace

from sqlalchemy import Connection

from securechat.errors import StoreError
from securechat.ids import DeviceId, ProtocolAddress, UserId
from securechat.ports import RandomBytes
from securechat.relay import statements as sql
from securechat.relay.mailbox import Mailbox, check_ack, day_of, release
from securechat.relay.ports import Wakeup
from securechat.sql.engine import Tx
from securechat.wire.frames import EPOCH_BYTES, Deliver

Row = tuple[int, str, int, bytes, int, int, int, int, int, str | None]


@dataclass(frozen=True, slots=True)
class Ack:
    """An acknowledgement: everything up to ``seq`` is stored by the device for good.

    ``fence`` is that of the connection it came by, None when it came without one.
    """

    mailbox: int
    epoch: bytes
    seq: int
    fence: int | None


class MailboxStore:
    """Finds, connects, fills, reads and empties mailboxes."""

    def __init__(self, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes

    def open(self, tx: Tx, address: ProtocolAddress) -> Mailbox:
        """Return the mailbox of ``address``, made now if the device never had one."""
        found = self.find(tx, address)
        if found is not None:
            return found
        epoch = self._random_bytes(EPOCH_BYTES)
        tx.cursor.execute(sql.CREATE_MAILBOX, (address.user, address.device, epoch))
        created = self.find(tx, address)
        if created is None:
            raise RuntimeError("a mailbox that was just made is missing")
        return created

    def find(self, tx: Tx, address: ProtocolAddress) -> Mailbox | None:
        """Return the mailbox of ``address``, or None."""
        return _one(tx, sql.FIND_MAILBOX, (address.user, address.device))

    def load(self, tx: Tx, mailbox: int) -> Mailbox | None:
        """Return the mailbox with the row id ``mailbox``, or None."""
        return _one(tx, sql.LOAD_MAILBOX, (mailbox,))

    def connect(self, tx: Tx, address: ProtocolAddress, node: str) -> tuple[Mailbox, str | None]:
        """Make ``node`` the holder of the device's newest connection.

        Returns the mailbox with its new fence, and the node that held the connection before.
        """
        before = self.open(tx, address)
        now = replace(before, fence=before.fence + 1, node=node)
        tx.cursor.execute(sql.TAKE_PRESENCE, (now.fence, node, now.id))
        return now, before.node

    def disconnect(self, tx: Tx, mailbox: int, fence: int) -> None:
        """Note that the connection with ``fence`` ended; without effect if a newer one took over."""
        tx.cursor.execute(sql.LEAVE_PRESENCE, (mailbox, fence))

    def clear_presence(self, tx: Tx, node: str) -> None:
        """Note at its start that ``node`` holds no connection."""
        tx.cursor.execute(sql.CLEAR_PRESENCE, (node,))

    def renew_epochs(self, tx: Tx) -> None:
        """Give every mailbox a new epoch, after the database was restored from a backup.

        Devices then start from an empty cursor and do not take the numbers that are given out again for old.
        """
        tx.cursor.execute(sql.MAILBOXES)
        renewed = [(self._random_bytes(EPOCH_BYTES), row[0]) for row in tx.cursor.fetchall()]
        tx.cursor.executemany(sql.SAVE_EPOCH, renewed)

    def release(self, tx: Tx, ack: Ack, now_ms: int) -> int:
        """Remove what ``ack`` names; return how many messages that were.

        Raises StaleEpochError and AckBeyondEndError. An acknowledgement of a fenced connection is ignored:
        the newer connection sends its own.
        """
        mailbox = self.load(tx, ack.mailbox)
        if mailbox is None or ack.fence not in (None, mailbox.fence):
            return 0
        check_ack(mailbox, ack.epoch, ack.seq)
        return self.empty(tx, mailbox, ack.seq, now_ms)

    def empty(self, tx: Tx, mailbox: Mailbox, seq: int, now_ms: int) -> int:
        """Remove everything up to ``seq``, at most the last message; return how many messages that were."""
        if seq <= mailbox.acked_seq:
            return 0
        tx.cursor.execute(sql.BYTES_THROUGH, (mailbox.id, seq))
        row: tuple[int] | None = tx.cursor.fetchone()
        if row is None:
            raise StoreError(f"message {seq} of a mailbox is missing")
        after = release(mailbox, seq, row[0])
        tx.cursor.execute(sql.DELETE_THROUGH, (mailbox.id, seq))
        tx.cursor.execute(sql.SAVE_ACKED, (after.acked_seq, after.bytes_out, mailbox.id))
        tx.cursor.execute(sql.NOTE_ACKED, (day_of(now_ms), mailbox.id, seq))
        return mailbox.messages - after.messages


def read_page(
    connection: Connection, mailbox: int, *, after: int, limit: int, max_bytes: int
) -> list[Deliver]:
    """Return what follows ``after``: at most ``limit`` messages and ``max_bytes``, but one at least."""
    rows = connection.exec_driver_sql(sql.READ_PAGE, (mailbox, after, limit))
    page: list[Deliver] = []
    size = 0
    for seq, message, user, device, accepted_ms, flags, body in rows:
        size += len(body)
        if page and size > max_bytes:
            break
        page.append(Deliver(seq, message, user, device, accepted_ms, flags, body))
    rows.close()
    return page


def present(connection: Connection, node: str) -> list[Wakeup]:
    """Return the state of every mailbox whose device ``node`` holds, as if it had just been woken."""
    rows = connection.exec_driver_sql(sql.PRESENT, (node,))
    return [Wakeup(mailbox, last_seq, fence) for mailbox, last_seq, fence in rows]


def _one(tx: Tx, statement: str, parameters: tuple[object, ...]) -> Mailbox | None:
    tx.cursor.execute(statement, parameters)
    row: Row | None = tx.cursor.fetchone()
    if row is None:
        return None
    address = ProtocolAddress(UserId(row[1]), DeviceId(row[2]))  # was checked when it was written
    return Mailbox(row[0], address, *row[3:])
