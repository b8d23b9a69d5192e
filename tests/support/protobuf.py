"""As much of the protobuf encoding as the messages of other ratchets need: integers and byte strings."""

from typing import Final

from securechat.errors import WireError

_VARINT: Final = 0
_BYTES: Final = 2
_SHIFT: Final = 3  # a tag is the field's number, then three bits of wire type

Fields = dict[int, int | bytes]


def integer_field(number: int, value: int) -> bytes:
    """Return field ``number`` with an integer of at most 64 bits."""
    return _varint(number << _SHIFT | _VARINT) + _varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """Return field ``number`` with a byte string."""
    return _varint(number << _SHIFT | _BYTES) + _varint(len(value)) + value


def read_fields(raw: bytes) -> Fields:
    """Return the fields of a message by number. What comes in is a peer's, never an attacker's."""
    found: Fields = {}
    at = 0
    while at < len(raw):
        tag, at = _read_varint(raw, at)
        value, at = _read_varint(raw, at)
        if tag & 7 == _BYTES:
            found[tag >> _SHIFT] = raw[at : at + value]
            at += value
        else:
            found[tag >> _SHIFT] = value
    return found


def as_bytes(fields: Fields, number: int) -> bytes:
    """Return field ``number``. Raises WireError unless it is a byte string."""
    value = fields.get(number)
    if not isinstance(value, bytes):
        raise WireError(f"field {number} is no byte string")
    return value


def as_integer(fields: Fields, number: int) -> int:
    """Return field ``number``. Raises WireError unless it is an integer."""
    value = fields.get(number)
    if not isinstance(value, int):
        raise WireError(f"field {number} is no integer")
    return value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
