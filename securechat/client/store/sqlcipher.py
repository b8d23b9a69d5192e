"""The encrypted store: one SQLCipher file and its side file (docs/reference/client.md, "Store").

The first 16 bytes of a SQLCipher file are its salt. It is chosen here and serves Argon2id too, so one file
holds all that a passphrase needs; there is no key file that could be lost. The key that SQLCipher gets is
``HKDF(salt, passphrase key or given key, "store key")``, raw: its own PBKDF2 never runs.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from securechat.client.store.database import Database
from securechat.client.store.engine import SqlStorage
from securechat.client.store.side_file import STORE_ID_BYTES, SideFile, StoreState
from securechat.crypto.kdf import derive
from securechat.crypto.labels import Label
from securechat.crypto.passphrase import (
    INTERACTIVE,
    SALT_BYTES,
    STORE_KEY_BYTES,
    Argon2Profile,
    derive_store_key,
)
from securechat.crypto.secret import SecretBytes
from securechat.errors import SettingsError, StoreError, WrongKeyError
from securechat.ports import RandomBytes

PAGE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class StoreKey:
    """What opens a store: a passphrase, or 32 secret bytes that the application keeps elsewhere."""

    secret: SecretBytes
    is_passphrase: bool
    profile: Argon2Profile = INTERACTIVE

    @classmethod
    def of(
        cls, *, passphrase: str | None, key: bytes | None, profile: Argon2Profile = INTERACTIVE
    ) -> "StoreKey":
        """Return the one that is given. Raises SettingsError for none, both, or a key of a wrong length."""
        if passphrase is not None and key is None:
            if not passphrase:
                raise SettingsError("the passphrase is empty")
            return cls(SecretBytes(passphrase.encode()), is_passphrase=True, profile=profile)
        if key is not None and passphrase is None:
            if len(key) != STORE_KEY_BYTES:
                raise SettingsError(f"a store key has {STORE_KEY_BYTES} bytes, not {len(key)}")
            return cls(SecretBytes(key), is_passphrase=False)
        raise SettingsError("give a passphrase or a 32-byte key for the store, one of the two")

    def file_key(self, salt: bytes) -> SecretBytes:
        """Return the 32-byte key of the file with this 16-byte salt."""
        secret = self.secret
        if self.is_passphrase:
            secret = derive_store_key(secret.reveal().decode(), salt, self.profile)
        return derive(salt=salt, ikm=secret.reveal(), info=Label.STORE_KEY.value, length=STORE_KEY_BYTES)


async def open_store(path: Path, key: StoreKey, *, random_bytes: RandomBytes) -> SqlStorage:
    """Open the store at ``path``, making it if nothing is there.

    Raises WrongKeyError (wrong key, truncated or foreign file), StoreLockedError (open elsewhere),
    StoreFullError, StoreError (unwritable folder, newer schema).
    """
    storage = SqlStorage(lambda: EncryptedFile(path, key, random_bytes))
    await storage.open()
    return storage


class EncryptedFile:
    """An open store file: the database, the side file, and the count of commits that both hold."""

    def __init__(self, path: Path, key: StoreKey, random_bytes: RandomBytes) -> None:
        self._side = SideFile(path)
        try:
            salt = _salt_of(path, made_before=self._side.read() is not None)
            if salt is None:
                salt = random_bytes(SALT_BYTES)
                _create_private(path)
            self.database = Database(str(path), key.file_key(salt).reveal().hex() + salt.hex())
            try:
                self._check_whole(path)
                self.database.migrate()
                self._state = self._begin(random_bytes)
            except BaseException:
                self.database.close()
                raise
        except BaseException:
            self._side.close()
            raise

    def before_commit(self) -> None:
        """Count the commit, inside its transaction."""
        self.database.run("UPDATE store SET commits = ?", (self._state.commits + 1,))

    def after_commit(self) -> None:
        """Count the commit in the side file."""
        self._state = StoreState(self._state.store_id, self._state.commits + 1)
        self._side.write(self._state)

    def close(self) -> None:
        """Close the database, then give up the lock."""
        try:
            self.database.close()
        finally:
            self._side.close()

    def _check_whole(self, path: Path) -> None:
        """Refuse a file that lost its end; one with a WAL may rightly be shorter than its page count."""
        pages = self.database.one("PRAGMA page_count")
        wal = path.with_name(path.name + "-wal")
        if pages is None or (wal.exists() and wal.stat().st_size > 0):
            return
        if path.stat().st_size < int(pages[0]) * PAGE_BYTES:
            raise WrongKeyError("the store file is truncated")

    def _begin(self, random_bytes: RandomBytes) -> StoreState:
        """Compare the two counts, note a restored file for the client, and agree on one count again."""
        row = self.database.one("SELECT store_id, commits FROM store")
        if row is None:
            state = StoreState(random_bytes(STORE_ID_BYTES), 1)
            with self.database.transaction():
                self.database.run("INSERT INTO store VALUES (1, ?, ?, 0)", (state.store_id, state.commits))
            self._side.write(state)
            return state
        side = self._side.read()
        commits = int(row[1])
        restored = side is None or side.store_id != row[0] or side.commits > commits
        newest = max(commits, side.commits if side is not None else 0)
        state = StoreState(row[0], newest + 1)
        with self.database.transaction():
            self.database.run(
                "UPDATE store SET commits = ?, restored = max(restored, ?)", (state.commits, int(restored))
            )
        self._side.write(state)
        return state


def _salt_of(path: Path, *, made_before: bool) -> bytes | None:
    """Return the salt of the file, or None if there is none yet. Raises WrongKeyError for a stump."""
    try:
        with path.open("rb") as file:
            salt = file.read(SALT_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"the store cannot be read (errno {error.errno})") from None
    if not salt and not made_before:
        return None  # the process ended between making the file and its first commit
    if len(salt) < SALT_BYTES:
        raise WrongKeyError("the store file is truncated")
    return salt


def _create_private(path: Path) -> None:
    """Make the empty file readable by its owner alone; SQLite gives the WAL the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreError(f"the store cannot be made (errno {error.errno})") from None
