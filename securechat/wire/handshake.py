"""The handshake's part of a prekey message (PQXDH specification, section 3.3; docs/format/pqxdh.md)."""

from dataclasses import dataclass
from typing import Final

from securechat.crypto.kem import CIPHERTEXT_BYTES, KemKind
from securechat.crypto.keys import KEY_BYTES, DhPublicKey
from securechat.errors import WireError
from securechat.wire.codec import Reader, Writer
from securechat.wire.keys import read_dh_key
from securechat.wire.prekeys import KEM_KINDS, PreKeyKind, read_flag, read_kind

KEM_CIPHERTEXT_BYTES: Final = CIPHERTEXT_BYTES[KemKind.ML_KEM_1024]


@dataclass(frozen=True, slots=True)
class PqxdhHeader:
    """What the responder needs: the base key, the prekeys' ids (32 bits each) and the KEM ciphertext.

    ``ephemeral`` is the base key EK; ``kem_kind`` is KEM_ONE_TIME or KEM_LAST_RESORT; the ciphertext is 1,568
    bytes of ML-KEM-1024.
    """

    ephemeral: DhPublicKey
    signed_id: int
    one_time_id: int | None
    kem_kind: PreKeyKind
    kem_id: int
    kem_ciphertext: bytes


def write_pqxdh_header(writer: Writer, header: PqxdhHeader) -> None:
    """Append 1,610 bytes, or 1,614 with a one-time prekey. Raises WireError for a field out of range."""
    if header.kem_kind not in KEM_KINDS:
        raise WireError(f"prekey kind {header.kem_kind.value} is out of place")
    writer.fixed(header.ephemeral.raw, KEY_BYTES).u32(header.signed_id).u8(header.one_time_id is not None)
    if header.one_time_id is not None:
        writer.u32(header.one_time_id)
    writer.u8(header.kem_kind).u32(header.kem_id).fixed(header.kem_ciphertext, KEM_CIPHERTEXT_BYTES)


def read_pqxdh_header(reader: Reader) -> PqxdhHeader:
    """Take the header. Raises WireError."""
    ephemeral, signed_id = read_dh_key(reader), reader.u32()
    one_time_id = reader.u32() if read_flag(reader) else None
    kem_kind = read_kind(reader)
    if kem_kind not in KEM_KINDS:
        raise WireError(f"prekey kind {kem_kind.value} is out of place")
    kem_id = reader.u32()
    return PqxdhHeader(
        ephemeral, signed_id, one_time_id, kem_kind, kem_id, reader.fixed(KEM_CIPHERTEXT_BYTES)
    )
