"""Signed notes and verifier keys (C2SP signed-note 1.0): text, a blank line, one line for each signature.

    <text, ending in a newline>
    <empty line>
    — <key name> <base64 of 4-byte key id and signature>

This module takes notes apart and puts them together; it verifies nothing.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from audit.errors import CheckpointError

ED25519: Final = 0x01  # signature type
KEY_ID_SIZE: Final = 4  # bytes
PUBLIC_KEY_SIZE: Final = 32  # bytes
MAX_NOTE: Final = 256 * 1024  # bytes; a post-quantum signature line may have 5 kB
MAX_SIGNATURES: Final = 64  # lines; the specification asks for 16 or more

_control = re.compile(r"[\x00-\x09\x0b-\x1f]").search
_is_name = re.compile(r"[^\s+\x00-\x1f]+\Z").match
_DASH: Final = "\u2014 "
_PRIVATE_PREFIX: Final = "PRIVATE+KEY+"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: key name, 4-byte key id, and the signature proper."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A note taken apart. ``text`` ends in a newline; nothing is verified yet."""

    text: str
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """An Ed25519 verifier key: name and 32 public bytes. Its text form is the vkey ``name+id+base64``."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        require_name(self.name)
        if len(self.public_key) != PUBLIC_KEY_SIZE:
            raise CheckpointError(
                f"a public key has {len(self.public_key)} bytes instead of {PUBLIC_KEY_SIZE}"
            )

    @property
    def key_id(self) -> bytes:
        """First 4 bytes of SHA-256(name || 0x0A || 0x01 || public key)."""
        return key_id(self.name, self.public_key)

    def encode(self) -> str:
        """Return the vkey text, without newline."""
        return f"{self.name}+{self.key_id.hex()}+{_encode_base64(bytes([ED25519]) + self.public_key)}"


def key_id(name: str, public_key: bytes) -> bytes:
    """Return the 4-byte key id of an Ed25519 key."""
    return sha256(name.encode() + b"\n" + bytes([ED25519]) + public_key).digest()[:KEY_ID_SIZE]


def parse_vkey(text: str) -> VerifierKey:
    """Parse ``name+id+base64``, as ``VerifierKey.encode`` writes it; one final newline is allowed.

    Raises CheckpointError for anything else, and for keys that are not Ed25519.
    """
    name, _, rest = text.removesuffix("\n").partition("+")
    identifier, _, encoded = rest.partition("+")
    raw = _decode_base64(encoded, "a verifier key")
    if len(raw) != 1 + PUBLIC_KEY_SIZE or raw[0] != ED25519:
        raise CheckpointError("a verifier key is not an Ed25519 key of 32 bytes")
    key = VerifierKey(name, raw[1:])
    if key.key_id.hex() != identifier:
        raise CheckpointError("a verifier key does not have the id that it names")
    return key


def parse_private_key(text: str) -> tuple[str, bytes]:
    """Parse ``PRIVATE+KEY+name+id+base64`` (the form of Go's note tools) into name and 32-byte seed.

    The id belongs to the public key, so the caller that can derive that key checks it.
    """
    body = text.removesuffix("\n")
    if not body.startswith(_PRIVATE_PREFIX):
        raise CheckpointError("a private key does not start with PRIVATE+KEY+")
    name, _, rest = body.removeprefix(_PRIVATE_PREFIX).partition("+")
    identifier, _, encoded = rest.partition("+")
    raw = _decode_base64(encoded, "a private key")
    if len(raw) != 1 + PUBLIC_KEY_SIZE or raw[0] != ED25519 or len(identifier) != 2 * KEY_ID_SIZE:
        raise CheckpointError("a private key is not an Ed25519 seed of 32 bytes")
    require_name(name)
    return name, raw[1:]


def encode_private_key(name: str, seed: bytes, public_key: bytes) -> str:
    """Return the text form of a private key. It is a secret: for a file of mode 0600 and nothing else."""
    require_name(name)
    return (
        f"{_PRIVATE_PREFIX}{name}+{key_id(name, public_key).hex()}+{_encode_base64(bytes([ED25519]) + seed)}"
    )


def require_name(name: str) -> None:
    """Raise CheckpointError unless ``name`` is non-empty and free of spaces, plus signs and controls."""
    if not _is_name(name):
        raise CheckpointError("a key name is empty or has a space, plus sign or control character")


def encode_note(note: Note) -> bytes:
    """Return the bytes of a note. Raises CheckpointError if ``parse_note`` would not read them back."""
    lines = "".join(
        f"{_DASH}{each.name} {_encode_base64(each.key_id + each.signature)}\n" for each in note.signatures
    )
    data = f"{note.text}\n{lines}".encode()
    if parse_note(data) != note:
        raise CheckpointError("a note does not read back as it was written")
    return data


def parse_note(data: bytes) -> Note:
    """Take a signed note apart; at least one signature line. Raises CheckpointError for any other shape."""
    if len(data) > MAX_NOTE:
        raise CheckpointError(f"a note has {len(data)} bytes, more than {MAX_NOTE}")
    try:
        whole = data.decode()
    except UnicodeDecodeError as exc:
        raise CheckpointError("a note is not UTF-8") from exc
    if _control(whole):
        raise CheckpointError("a note holds a control character")
    head, blank, tail = whole.rpartition("\n\n")
    if not blank or not head or not tail.endswith("\n"):
        raise CheckpointError("a note is not text, blank line and signature lines")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise CheckpointError(f"a note has {len(lines)} signature lines, more than {MAX_SIGNATURES}")
    return Note(head + "\n", tuple(_parse_line(line) for line in lines))


def _parse_line(line: str) -> NoteSignature:
    if not line.startswith(_DASH):
        raise CheckpointError("a signature line does not start with an em dash")
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    raw = _decode_base64(encoded, "a signature line")
    if not space or len(raw) <= KEY_ID_SIZE:
        raise CheckpointError("a signature line holds no signature")
    require_name(name)
    return NoteSignature(name, raw[:KEY_ID_SIZE], raw[KEY_ID_SIZE:])


def decode_hash(text: str) -> bytes:
    """Return the 32 bytes of canonical base64 ``text``; raise CheckpointError for anything else."""
    raw = _decode_base64(text, "a root hash")
    if len(raw) != 32:
        raise CheckpointError(f"a root hash has {len(raw)} bytes instead of 32")
    return raw


def encode_hash(value: bytes) -> str:
    """Return standard, padded base64."""
    return _encode_base64(value)


def _encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode_base64(text: str, what: str) -> bytes:
    """Decode standard base64 that prints back the same (RFC 4648, sections 3.5 and 4)."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as exc:
        raise CheckpointError(f"{what} is not base64") from exc
    if _encode_base64(raw) != text:
        raise CheckpointError(f"{what} is not canonical base64")
    return raw
