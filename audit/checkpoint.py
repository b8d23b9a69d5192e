"""Checkpoints: a tree's size and root as a signed note (C2SP tlog-checkpoint 1.0, signed-note 1.0, Ed25519).

    <origin>
    <tree size in decimal>
    <base64 of the 32-byte root>
    <extension lines, opaque; this log writes none>

The only module of the package that needs a cryptographic library.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.errors import CheckpointError
from audit.note import (
    Note,
    NoteSignature,
    VerifierKey,
    decode_hash,
    encode_hash,
    encode_note,
    encode_private_key,
    key_id,
    parse_note,
    parse_private_key,
    require_name,
)

MAX_SIZE: Final = 2**63 - 1
SEED_SIZE: Final = 32  # bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log commits to: its origin, the number of its entries, and the 32-byte root over them."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the note text. Raises CheckpointError if ``parse_text`` would not read it back."""
        lines = (self.origin, str(self.size), encode_hash(self.root), *self.extensions)
        text = "\n".join(lines) + "\n"
        if parse_text(text) != self:
            raise CheckpointError("a checkpoint does not read back as it was written")
        return text


class Signer(Protocol):
    """Whatever holds the log's key: a file, an agent, a hardware module."""

    @property
    def key(self) -> VerifierKey:
        """The public half; its name is the log's origin."""
        ...

    def sign(self, text: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature (RFC 8032) over ``text``."""
        ...


class Ed25519Signer:
    """A signer whose 32-byte seed is in this process. Prints without the seed."""

    __slots__ = ("_private", "key")

    def __init__(self, name: str, seed: bytes) -> None:
        if len(seed) != SEED_SIZE:
            raise CheckpointError(f"a seed has {len(seed)} bytes instead of {SEED_SIZE}")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = VerifierKey(name, self._private.public_key().public_bytes_raw())

    def sign(self, text: bytes) -> bytes:
        """Return the 64-byte signature over ``text``."""
        return self._private.sign(text)

    def __repr__(self) -> str:
        return f"Ed25519Signer({self.key.name!r})"

    def __reduce__(self) -> str:
        raise TypeError("a signer holds a secret and is not pickled")


def parse_signer(text: str) -> Ed25519Signer:
    """Return the signer that ``PRIVATE+KEY+name+id+base64`` describes. Raises CheckpointError."""
    name, seed = parse_private_key(text)
    signer = Ed25519Signer(name, seed)
    if encode_private_key(name, seed, signer.key.public_key) != text.removesuffix("\n"):
        raise CheckpointError("a private key does not have the id that it names")
    return signer


def new_signer_text(name: str, random_bytes: Callable[[int], bytes]) -> str:
    """Make a key from 32 ``random_bytes`` and return its secret text, for a file of mode 0600."""
    require_name(name)
    seed = random_bytes(SEED_SIZE)
    return encode_private_key(name, seed, Ed25519Signer(name, seed).key.public_key)


def parse_text(text: str) -> Checkpoint:
    """Parse note text. Raises CheckpointError for whatever ``Checkpoint.text`` would not have written."""
    if not text.endswith("\n"):
        raise CheckpointError("a checkpoint does not end in a newline")
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines):
        raise CheckpointError("a checkpoint is not three or more lines, none of them empty")
    origin, size, root, *extensions = lines
    if not (size.isascii() and size.isdecimal()) or len(size) > 19 or str(int(size)) != size:
        raise CheckpointError("a tree size is no decimal number without leading zeroes")
    if int(size) > MAX_SIZE:
        raise CheckpointError(f"a tree size is past {MAX_SIZE}")
    return Checkpoint(origin, int(size), decode_hash(root), tuple(extensions))


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> bytes:
    """Return the checkpoint as a note with one signature. Never sign two roots for one size."""
    text = checkpoint.text()
    key = signer.key
    signature = NoteSignature(key.name, key_id(key.name, key.public_key), signer.sign(text.encode()))
    return encode_note(Note(text, (signature,)))


def open_checkpoint(data: bytes, key: VerifierKey) -> Checkpoint:
    """Return the checkpoint that ``key`` signed; its origin is the key's name.

    Signatures by other keys are ignored (witnesses, rotation); exactly one by ``key`` is needed.
    Raises CheckpointError if it is missing, doubled or wrong, or if note or text are malformed.
    """
    note = parse_note(data)
    known = [each for each in note.signatures if each.name == key.name and each.key_id == key.key_id]
    if len(known) != 1:
        raise CheckpointError(f"{len(known)} signatures by the known key instead of one")
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(known[0].signature, note.text.encode())
    except (InvalidSignature, ValueError) as exc:
        raise CheckpointError("the signature by the known key is wrong") from exc
    checkpoint = parse_text(note.text)
    if checkpoint.origin != key.name:
        raise CheckpointError("a checkpoint has another origin than the key that signed it")
    return checkpoint


def read_checkpoint(data: bytes) -> Checkpoint:
    """Return what a note says without verifying any signature; for a note whose keeper is trusted."""
    return parse_text(parse_note(data).text)
