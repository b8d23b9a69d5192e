"""Whether a server can do its work: it rehearses an act with its audit entry, and commits one page."""

import contextlib
from collections.abc import Callable

from audit.event import AuditEvent
from audit.store import AuditLog
from securechat.sql.engine import Database, Tx


class _RehearsedError(Exception):
    """Undoes the rehearsal, which went well."""


class Readiness:
    """Asks the database and the audit log; ``event`` makes an entry for the rehearsal."""

    def __init__(self, database: Database, log: AuditLog, event: Callable[[], AuditEvent]) -> None:
        self._database = database
        self._log = log
        self._event = event

    async def check(self) -> None:
        """Return if an act would be recorded and stored now. Raises StoreError and AuditUnavailableError."""
        with contextlib.suppress(_RehearsedError):
            await self._database.write(self._rehearse)
        await self._database.write(_write_one_page)

    def _rehearse(self, tx: Tx) -> None:
        self._log.seal(tx.connection, [self._event()])
        raise _RehearsedError


def _write_one_page(tx: Tx) -> None:
    """Write a number that nobody uses: a commit of nothing would not touch the disk."""
    tx.cursor.execute("PRAGMA user_version = 0")
