"""Reader and Writer of the exact binary layouts (docs/format.md, "Conventions").

Big-endian integers, fixed-length fields, 16- or 32-bit length prefixes with a limit for each field, nothing
left over at the end. The law of every format: ``parse(encode(x)) == x`` and ``encode(parse(b)) == b``.
"""

from typing import Final

from securechat.errors import InvalidIdError, WireError
from securechat.ids import DeviceId, OrgId, ProtocolAddress, UserId, device_id, user_id

MAX_U16: Final = 2**16 - 1
MAX_U32: Final = 2**32 - 1
MAX_U64: Final = 2**64 - 1


class Writer:
    """Appends fields; ``done()`` returns the bytes."""

    __slots__ = ("_out",)

    def __init__(self) -> None:
        self._out = bytearray()

    def u8(self, value: int) -> "Writer":
        """Append one byte."""
        return self._integer(value, 1)

    def u16(self, value: int) -> "Writer":
        """Append two bytes."""
        return self._integer(value, 2)

    def u32(self, value: int) -> "Writer":
        """Append four bytes."""
        return self._integer(value, 4)

    def u64(self, value: int) -> "Writer":
        """Append eight bytes; times are milliseconds since 1970."""
        return self._integer(value, 8)

    def fixed(self, raw: bytes, length: int) -> "Writer":
        """Append exactly ``length`` bytes."""
        if len(raw) != length:
            raise WireError(f"a field has {len(raw)} bytes, not {length}")
        self._out += raw
        return self

    def prefixed16(self, raw: bytes, limit: int = MAX_U16) -> "Writer":
        """Append a 16-bit length and at most ``limit`` bytes."""
        _check_limit(len(raw), limit)
        return self.u16(len(raw))._raw(raw)

    def prefixed32(self, raw: bytes, limit: int) -> "Writer":
        """Append a 32-bit length and at most ``limit`` bytes."""
        _check_limit(len(raw), limit)
        return self.u32(len(raw))._raw(raw)

    def name(self, text: UserId | OrgId) -> "Writer":
        """Append a user or organisation id: one length byte and ASCII."""
        raw = text.encode("ascii")
        return self.u8(len(raw))._raw(raw)

    def address(self, address: ProtocolAddress) -> "Writer":
        """Append a user id and a 32-bit device id."""
        return self.name(address.user).u32(address.device)

    def done(self) -> bytes:
        """Return what was written."""
        return bytes(self._out)

    def _integer(self, value: int, length: int) -> "Writer":
        if not 0 <= value < 1 << (8 * length):
            raise WireError(f"an integer does not fit {length} bytes")
        return self._raw(value.to_bytes(length, "big"))

    def _raw(self, raw: bytes) -> "Writer":
        self._out += raw
        return self


class Reader:
    """Takes fields off the front; ``end()`` refuses bytes left over. Raises WireError throughout."""

    __slots__ = ("_at", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def u8(self) -> int:
        """Take one byte."""
        return self._integer(1)

    def u16(self) -> int:
        """Take two bytes."""
        return self._integer(2)

    def u32(self) -> int:
        """Take four bytes."""
        return self._integer(4)

    def u64(self) -> int:
        """Take eight bytes."""
        return self._integer(8)

    def fixed(self, length: int) -> bytes:
        """Take exactly ``length`` bytes."""
        end = self._at + length
        if end > len(self._raw):
            raise WireError(f"{length} bytes are needed, {len(self._raw) - self._at} are left")
        raw = self._raw[self._at : end]
        self._at = end
        return raw

    def prefixed16(self, limit: int = MAX_U16) -> bytes:
        """Take a 16-bit length and that many bytes, at most ``limit``."""
        length = self.u16()
        _check_limit(length, limit)
        return self.fixed(length)

    def prefixed32(self, limit: int) -> bytes:
        """Take a 32-bit length and that many bytes, at most ``limit``."""
        length = self.u32()
        _check_limit(length, limit)
        return self.fixed(length)

    def rest(self, limit: int) -> bytes:
        """Take all that is left, at most ``limit`` bytes."""
        length = len(self._raw) - self._at
        _check_limit(length, limit)
        return self.fixed(length)

    def user(self) -> UserId:
        """Take a user id."""
        raw = self.fixed(self.u8())
        try:
            return user_id(raw.decode("ascii"))
        except (UnicodeDecodeError, InvalidIdError) as error:
            raise WireError("a user id is malformed") from error

    def device(self) -> DeviceId:
        """Take a device id."""
        try:
            return device_id(self.u32())
        except InvalidIdError as error:
            raise WireError("a device id is out of range") from error

    def address(self) -> ProtocolAddress:
        """Take a user id and a device id."""
        return ProtocolAddress(self.user(), self.device())

    def expect(self, value: int, what: str) -> None:
        """Take one byte that must equal ``value``, such as a version."""
        got = self.u8()
        if got != value:
            raise WireError(f"{what} is {got}, not {value}")

    def end(self) -> None:
        """Refuse what is left over."""
        if self._at != len(self._raw):
            raise WireError(f"{len(self._raw) - self._at} bytes are left over")

    def _integer(self, length: int) -> int:
        return int.from_bytes(self.fixed(length), "big")


def _check_limit(length: int, limit: int) -> None:
    if length > limit:
        raise WireError(f"a field has {length} bytes, more than its limit of {limit}")
