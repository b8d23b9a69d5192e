"""A store that ends with the process: the same repositories on a database in memory.

For tests and for clients that shall leave nothing behind. ``rerun`` decides, before each write, whether the
work runs a first time whose effects are thrown away: whatever it draws or counts must allow that.
"""

from collections.abc import Callable
from typing import Final

from securechat.client.store.database import Database
from securechat.client.store.engine import SqlStorage

_NO_ID: Final = bytes(16)


async def open_memory_store(rerun: Callable[[], bool] = lambda: False) -> SqlStorage:
    """Return an empty store in memory."""
    storage = SqlStorage(MemoryBacking, rerun)
    await storage.open()
    return storage


class MemoryBacking:
    """An in-memory database; it is never restored, so nothing is counted."""

    def __init__(self) -> None:
        self.database = Database(":memory:", None)
        self.database.migrate()
        with self.database.transaction():
            self.database.run("INSERT INTO store VALUES (1, ?, 0, 0)", (_NO_ID,))

    def before_commit(self) -> None:
        """Nothing is counted."""

    def after_commit(self) -> None:
        """Nothing is counted."""

    def close(self) -> None:
        """Forget everything."""
        self.database.close()
