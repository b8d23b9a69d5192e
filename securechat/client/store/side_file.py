"""The file beside a store: who has it open, and how far it has come.

``<store>.lock`` is locked as long as the store is open, by one process only. It also holds the store's id
and the number of commits: a store file that is behind it is an older copy (a restored backup, a snapshot),
whose sessions must not be used again. The file is not secret and not part of a backup.

Layout: 8 bytes ``SCSTORE1``, 16 bytes store id, 8 bytes commits. It is overwritten in place after every
commit, without a sync: after a power cut it may be behind the store, which is harmless, never ahead of it.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from securechat.errors import StoreError, StoreLockedError

MAGIC: Final = b"SCSTORE1"
STORE_ID_BYTES: Final = 16
SIZE: Final = len(MAGIC) + STORE_ID_BYTES + 8

if sys.platform == "win32":
    import msvcrt

    _LOCK_OFFSET: Final = 1 << 30  # far behind the content: a lock on Windows also stops readers

    def _lock(fd: int) -> None:
        os.lseek(fd, _LOCK_OFFSET, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    def _write_at(fd: int, raw: bytes) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, raw)

    def _read_at(fd: int) -> bytes:
        os.lseek(fd, 0, os.SEEK_SET)
        return os.read(fd, SIZE + 1)
else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _write_at(fd: int, raw: bytes) -> None:
        os.pwrite(fd, raw, 0)

    def _read_at(fd: int) -> bytes:
        return os.pread(fd, SIZE + 1, 0)


@dataclass(frozen=True, slots=True)
class StoreState:
    """Identity of a store file (16 bytes) and the number of commits it has seen."""

    store_id: bytes
    commits: int


class SideFile:
    """The locked side file of one store."""

    def __init__(self, store: Path) -> None:
        """Take the lock. Raises StoreLockedError if another store object holds it, StoreError otherwise."""
        path = store.with_name(store.name + ".lock")
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise StoreError(f"the store's folder cannot be written (errno {error.errno})") from None
        try:
            _lock(self._fd)
        except OSError:
            os.close(self._fd)
            raise StoreLockedError("the store is open elsewhere") from None

    def read(self) -> StoreState | None:
        """Return what was last written, or None for a new, foreign or torn file."""
        raw = _read_at(self._fd)
        if len(raw) != SIZE or not raw.startswith(MAGIC):
            return None
        return StoreState(raw[8:24], int.from_bytes(raw[24:], "big"))

    def write(self, state: StoreState) -> None:
        """Record ``state``; a failure is ignored, since a side file that is behind is harmless."""
        try:
            _write_at(self._fd, MAGIC + state.store_id + state.commits.to_bytes(8, "big"))
        except OSError:
            return

    def close(self) -> None:
        """Give up the lock. The file stays: taking it away would race with the next opener."""
        os.close(self._fd)
