"""Base64url without padding: what is written, and nothing else is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.base64url import decode_base64url, encode_base64url
from securechat.errors import WireError


@given(st.binary(max_size=200))
def test_bytes_come_back(raw: bytes) -> None:
    assert decode_base64url(encode_base64url(raw)) == raw


@given(st.text(max_size=40))
def test_whatever_is_read_is_what_would_have_been_written(text: str) -> None:
    try:
        raw = decode_base64url(text)
    except WireError:
        return
    assert encode_base64url(raw) == text


@pytest.mark.parametrize(
    "text", ["AA==", "A", "AB", "+/8A", "AAA\n", " AAA", "AAAé", "A A A", "\ud800", "AA=A"]
)
def test_padding_other_alphabets_and_loose_bits_are_refused(text: str) -> None:
    with pytest.raises(WireError):
        decode_base64url(text)
