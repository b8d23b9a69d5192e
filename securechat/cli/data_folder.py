"""The server's folder: database, the audit log's key, and a lock that keeps a second server out."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audit.checkpoint import Ed25519Signer, new_signer_text, parse_signer
from audit.errors import CheckpointError
from securechat.cli.clinic import write_private
from securechat.errors import SettingsError, StoreLockedError

LOCK_FILE: Final = "server.lock"
DATABASE_FILE: Final = "server.db"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths below ``folder``; ``open_data_folder`` makes it."""

    folder: Path

    @property
    def database_url(self) -> str:
        """The database's address for SQLAlchemy."""
        return f"sqlite:///{self.folder.resolve() / DATABASE_FILE}"

    @property
    def vkey_file(self) -> Path:
        """The verifier key of the audit log: hand it to auditors by another way than this server."""
        return self.folder / "audit.vkey"

    def signer(self, origin: str) -> Ed25519Signer:
        """Return the key that signs the audit log's checkpoints, made at the first start (mode 0600).

        Raises SettingsError for a damaged key file or one of another origin.
        """
        path = self.folder / "audit.key"
        try:
            if not path.exists():
                write_private(path, new_signer_text(origin, secrets.token_bytes).encode())
            signer = parse_signer(path.read_text())
        except (CheckpointError, OSError) as error:
            raise SettingsError(f"the audit key {path.name} cannot be used: {error}") from error
        if signer.key.name != origin:
            raise SettingsError(f"the audit key belongs to the log {signer.key.name}, not to {origin}")
        self.vkey_file.write_text(signer.key.encode() + "\n")
        return signer


@contextlib.contextmanager
def open_data_folder(folder: Path) -> Iterator[DataFolder]:
    """Make ``folder`` if needed and hold its lock. Raises StoreLockedError if another server has it.

    The database is its owner's alone even in a folder that others may enter; SQLite gives its write-ahead log
    the same mode.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor)
        os.close(os.open(folder / DATABASE_FILE, os.O_RDWR | os.O_CREAT, 0o600))
        yield DataFolder(folder)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Take an exclusive lock that ends with the process."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise StoreLockedError("another server runs on this folder") from None
