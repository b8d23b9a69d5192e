"""The local clinic of ``serve --dev``: seeded people and what their app's backend would hold.

One folder, three parts that never mix in production: ``server/`` (what the operator has), ``app/`` (the
telehealth app's backend: names, user ids and the key that mints tokens) and ``devices/`` (one encrypted store
each). The server's folder holds no name: people are random ids there.
"""

import base64
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from securechat.crypto.secret import SecretBytes
from securechat.errors import SettingsError
from securechat.ids import OrgId, UserId, org_id, user_id
from securechat.tokens import TokenMinter, generate_mint_key

DEFAULT_FOLDER: Final = Path(".securechat")
START_HINT: Final = "./dev run -m securechat serve --dev"
AUDIENCE: Final = "securechat-dev"
STORE_KEY_BYTES: Final = 32
_RANDOM_ID_BYTES: Final = 10

SEEDED: Final = (
    # handle, full name, roles, whom they write to by default
    ("pat", "Pat Moreau", ("patient",), "dr-lee"),
    ("sam", "Sam Okafor", ("patient",), "nurse-kim"),
    ("dr-lee", "Dr. Jordan Lee", ("clinician",), "pat"),
    ("nurse-kim", "Kim Alvarez, RN", ("nurse",), "sam"),
    ("coord-ana", "Ana Petrov", ("care-coordinator",), "dr-lee"),
    ("officer-ruiz", "Marta Ruiz", ("compliance-officer",), "admin-noor"),
    ("admin-noor", "Noor Haddad", ("admin",), "officer-ruiz"),
)


class Person(msgspec.Struct, frozen=True):
    """One person as the app's backend knows them."""

    handle: str
    name: str
    user: str
    roles: list[str]
    writes_to: str


class ClinicFile(msgspec.Struct, frozen=True):
    """``app/clinic.json``: the directory of people, held by the app's backend alone."""

    org: str
    key_id: str
    people: list[Person]


@dataclass(frozen=True, slots=True)
class Clinic:
    """A seeded clinic in ``folder``."""

    folder: Path
    org: OrgId
    key_id: str
    people: tuple[Person, ...]

    @property
    def server_folder(self) -> Path:
        """What the operator of the server has."""
        return self.folder / "server"

    def person(self, handle: str) -> Person:
        """Return the person called ``handle``. Raises SettingsError."""
        for person in self.people:
            if person.handle == handle:
                return person
        known = ", ".join(person.handle for person in self.people)
        raise SettingsError(f"nobody is called {handle!r} here; there are {known}")

    def handle_of(self, user: UserId) -> str:
        """Return the handle of ``user``, or the id itself for a stranger."""
        for person in self.people:
            if person.user == user:
                return person.handle
        return str(user)

    def mint(self, person: Person, *, ttl_s: int = 600) -> str:
        """Mint a token as the app's backend would after its own log-in; staff have a second factor."""
        minter = TokenMinter.from_file(self.folder / "app" / "mint.key")
        staff = "patient" not in person.roles
        return minter.mint(user_id(person.user), org=self.org, roles=person.roles, ttl_s=ttl_s, mfa=staff)

    def store_of(self, person: Person) -> tuple[Path, SecretBytes]:
        """Return the person's store and its 32-byte key, made at the first use (file mode 0600)."""
        folder = self.folder / "devices"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key_file = folder / f"{person.handle}.key"
        if not key_file.exists():
            write_private(key_file, secrets.token_bytes(STORE_KEY_BYTES))
        return folder / f"{person.handle}.db", SecretBytes(key_file.read_bytes())

    def has_device(self, person: Person) -> bool:
        """Whether the person's store was made."""
        return (self.folder / "devices" / f"{person.handle}.db").exists()

    def url(self) -> str:
        """Return the address of the clinic's server. Raises SettingsError if it never ran."""
        try:
            return (self.folder / "app" / "url").read_text().strip()
        except FileNotFoundError:
            raise SettingsError(f"no server has run here; start one: {START_HINT}") from None

    def set_url(self, url: str) -> None:
        """Remember the address of the running server."""
        (self.folder / "app" / "url").write_text(url + "\n")


def seed_clinic(folder: Path) -> Clinic:
    """Return the clinic in ``folder``, made with fresh random ids and keys if it is not there yet."""
    if (folder / "app" / "clinic.json").exists():
        return load_clinic(folder)
    for part in ("server", "app", "devices"):
        (folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)
    key_id = f"dev-{secrets.token_hex(4)}"
    org = _random_id("org")
    registration = generate_mint_key(
        folder / "app" / "mint.key", app_id="dev-clinic", kid=key_id, audience=AUDIENCE, orgs=[org]
    )
    (folder / "server" / "app-keys").write_text(registration + "\n")
    people = [
        Person(handle=handle, name=name, user=_random_id("u"), roles=list(roles), writes_to=writes_to)
        for handle, name, roles, writes_to in SEEDED
    ]
    listing = ClinicFile(org=org, key_id=key_id, people=people)
    write_private(folder / "app" / "clinic.json", msgspec.json.format(msgspec.json.encode(listing)))
    return load_clinic(folder)


def load_clinic(folder: Path) -> Clinic:
    """Return the clinic in ``folder``. Raises SettingsError if there is none or it is damaged."""
    try:
        listing = msgspec.json.decode((folder / "app" / "clinic.json").read_bytes(), type=ClinicFile)
    except FileNotFoundError:
        raise SettingsError(f"no local clinic in {folder}; start one: {START_HINT}") from None
    except msgspec.DecodeError as error:
        raise SettingsError(
            f"the clinic in {folder} is damaged; remove the folder and start again"
        ) from error
    return Clinic(folder, org_id(listing.org), listing.key_id, tuple(listing.people))


def write_private(path: Path, raw: bytes) -> None:
    """Create ``path`` readable by its owner alone and write ``raw``, which is on the disk on return.

    A key that a loss of power takes away would leave behind what was signed or encrypted with it.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    if os.name == "posix":  # the name too; elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _random_id(prefix: str) -> str:
    text = base64.b32encode(secrets.token_bytes(_RANDOM_ID_BYTES)).decode().lower()
    return f"{prefix}-{text}"
