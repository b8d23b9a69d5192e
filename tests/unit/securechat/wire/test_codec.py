"""Reader and Writer: the fields of every exact format."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.errors import WireError
from securechat.ids import ProtocolAddress, UserId, device_id, user_id
from securechat.wire.codec import MAX_U16, MAX_U32, MAX_U64, Reader, Writer

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


@given(
    st.integers(0, 255),
    st.integers(0, MAX_U16),
    st.integers(0, MAX_U32),
    st.integers(0, MAX_U64),
    st.binary(max_size=40),
    st.binary(max_size=300),
    st.binary(max_size=300),
    NAMES,
    st.integers(1, 2**31 - 1),
)
def test_fields_come_back_in_order(
    u8: int, u16: int, u32: int, u64: int, fixed: bytes, p16: bytes, p32: bytes, name: str, device: int
) -> None:
    address = ProtocolAddress(user_id(name), device_id(device))
    writer = Writer().u8(u8).u16(u16).u32(u32).u64(u64).fixed(fixed, len(fixed))
    raw = writer.prefixed16(p16, 300).prefixed32(p32, 300).address(address).done()
    reader = Reader(raw)
    assert (reader.u8(), reader.u16(), reader.u32(), reader.u64()) == (u8, u16, u32, u64)
    assert (reader.fixed(len(fixed)), reader.prefixed16(300), reader.prefixed32(300)) == (fixed, p16, p32)
    assert reader.address() == address
    reader.end()


@pytest.mark.parametrize("value", [-1, 256])
def test_an_integer_that_does_not_fit_is_refused(value: int) -> None:
    with pytest.raises(WireError):
        Writer().u8(value)


def test_integers_are_big_endian() -> None:
    assert Writer().u8(1).u16(2).u32(3).u64(4).done().hex() == "010002000000030000000000000004"


def test_a_field_of_another_length_is_not_written() -> None:
    with pytest.raises(WireError):
        Writer().fixed(b"abc", 4)


@pytest.mark.parametrize("size", [16, 32])
def test_a_length_above_its_limit_is_refused_before_anything_is_taken(size: int) -> None:
    writer = Writer()
    with pytest.raises(WireError, match="limit"):
        (writer.prefixed16 if size == 16 else writer.prefixed32)(b"12345", 4)
    reader = Reader((2**size - 1).to_bytes(size // 8, "big"))
    with pytest.raises(WireError, match="limit"):
        (reader.prefixed16 if size == 16 else reader.prefixed32)(4)


def test_too_few_bytes_are_refused_and_nothing_is_taken() -> None:
    reader = Reader(b"abc")
    with pytest.raises(WireError, match="4 bytes are needed, 3 are left"):
        reader.u32()
    assert reader.fixed(3) == b"abc"


def test_what_is_left_over_is_refused_and_rest_takes_it_within_its_limit() -> None:
    reader = Reader(b"abc")
    with pytest.raises(WireError, match="3 bytes are left over"):
        reader.end()
    with pytest.raises(WireError, match="limit"):
        reader.rest(2)
    assert reader.rest(3) == b"abc"
    reader.end()


@pytest.mark.parametrize(
    "raw", [b"\x00", b"\x01 ", b"\x02.a", b"\x01\xff", b"\x05abc", bytes([65]) + b"a" * 65]
)
def test_a_malformed_user_id_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        Reader(raw).user()


@pytest.mark.parametrize("number", [0, 2**31, MAX_U32])
def test_a_device_id_out_of_range_is_refused(number: int) -> None:
    with pytest.raises(WireError):
        Reader(number.to_bytes(4, "big")).device()


def test_an_unexpected_version_is_refused_by_number() -> None:
    with pytest.raises(WireError, match="the version is 2, not 1"):
        Reader(b"\x02").expect(1, "the version")


def test_a_name_takes_its_length_and_its_letters() -> None:
    assert Writer().name(UserId("pat")).done() == b"\x03pat"
