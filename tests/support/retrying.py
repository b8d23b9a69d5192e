"""A database that runs works twice now and then, as a real one may after a conflict.

Whatever a work keeps outside its transaction shows up as a difference between the runs.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Engine

from securechat.errors import SecureChatError
from securechat.ports import no_fault
from securechat.sql.engine import Database, Limits, Tx
from securechat.sql.sqlite import create_sqlite_engine
from securechat.sql.writer import BeforeCommit, Writer

T = TypeVar("T")


class RetryingDatabase(Database):
    """Runs about half of all works once for nothing before it runs them for good."""

    def __init__(self, engine: Engine, writer: Writer, seed: int) -> None:
        super().__init__(engine, writer)
        self._draw = random.Random(seed)
        self.retried = 0

    def submit(self, work: Callable[[Tx], T], *, size: int = 0) -> "asyncio.Future[T]":
        """See Database."""
        if self._draw.random() < 0.5:
            return super().submit(work, size=size)
        self.retried += 1

        def twice(tx: Tx) -> T:
            tx.cursor.execute("SAVEPOINT spurious")
            with contextlib.suppress(SecureChatError):
                work(Tx(tx.connection, tx.cursor))
            tx.cursor.execute("ROLLBACK TO spurious")
            tx.cursor.execute("RELEASE spurious")
            return work(tx)

        return super().submit(twice, size=size)


def open_retrying(url: str, before_commit: BeforeCommit, seed: int) -> RetryingDatabase:
    """As ``open_database``, with retries drawn from ``seed``."""
    engine = create_sqlite_engine(url)
    writer = Writer(engine.connect(), before_commit, no_fault, Limits())
    writer.start()
    return RetryingDatabase(engine, writer, seed)
