"""The handshake's part of a prekey message."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.mutation import check_exact_format

from securechat.crypto.keys import DhPublicKey
from securechat.errors import WireError
from securechat.wire.codec import Reader, Writer
from securechat.wire.handshake import PqxdhHeader, read_pqxdh_header, write_pqxdh_header
from securechat.wire.prekeys import PreKeyKind

HEADER = PqxdhHeader(
    ephemeral=DhPublicKey(bytes(range(32))),
    signed_id=1,
    one_time_id=2,
    kem_kind=PreKeyKind.KEM_ONE_TIME,
    kem_id=3,
    kem_ciphertext=bytes(i % 251 for i in range(1568)),
)


def encode(header: PqxdhHeader) -> bytes:
    """The fragment as whole bytes."""
    writer = Writer()
    write_pqxdh_header(writer, header)
    return writer.done()


def parse(raw: bytes) -> PqxdhHeader:
    """Whole bytes as the fragment."""
    reader = Reader(raw)
    header = read_pqxdh_header(reader)
    reader.end()
    return header


def test_the_header_has_1614_bytes_or_1610_without_a_one_time_prekey() -> None:
    assert len(encode(HEADER)) == 1614
    assert len(encode(replace(HEADER, one_time_id=None))) == 1610


@given(
    st.integers(0, 2**32 - 1),
    st.none() | st.integers(0, 2**32 - 1),
    st.sampled_from([PreKeyKind.KEM_ONE_TIME, PreKeyKind.KEM_LAST_RESORT]),
    st.integers(0, 2**32 - 1),
)
def test_any_header_comes_back(
    signed_id: int, one_time_id: int | None, kind: PreKeyKind, kem_id: int
) -> None:
    header = replace(HEADER, signed_id=signed_id, one_time_id=one_time_id, kem_kind=kind, kem_id=kem_id)
    assert parse(encode(header)) == header


@pytest.mark.parametrize("one_time_id", [None, 2])
def test_every_mutant_is_refused_or_another_value(one_time_id: int | None) -> None:
    raw = encode(replace(HEADER, one_time_id=one_time_id))
    check_exact_format(raw, parse, encode, positions=[*range(60), *range(60, len(raw), 41), len(raw) - 1])


@pytest.mark.parametrize("kind", [PreKeyKind.SIGNED, PreKeyKind.ONE_TIME])
def test_a_kem_prekey_of_another_kind_is_refused_on_both_sides(kind: PreKeyKind) -> None:
    with pytest.raises(WireError):
        encode(replace(HEADER, kem_kind=kind))
    raw = encode(HEADER)
    with pytest.raises(WireError):
        parse(raw[:41] + bytes([kind]) + raw[42:])


def test_a_ciphertext_of_another_length_is_not_written() -> None:
    with pytest.raises(WireError):
        encode(replace(HEADER, kem_ciphertext=bytes(1088)))
