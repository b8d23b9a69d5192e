"""Contents and their padding."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.mutation import check_exact_format

from securechat.errors import WireError
from securechat.ids import MessageId
from securechat.wire.content import (
    MAX_BODY_BYTES,
    MAX_NUMBER,
    MAX_PADDED_BYTES,
    MAX_TEXT_BYTES,
    Content,
    ContentKind,
    UnknownContent,
    encode_content,
    pad,
    parse_content,
    unpad,
)

ID = MessageId(b"m" * 16)
REPLY = MessageId(bytes(range(16)))
REPLIES = st.none() | st.binary(min_size=16, max_size=16).map(MessageId)
COUNTERS = st.integers(1, MAX_NUMBER)
TIMES = st.integers(0, MAX_NUMBER)


def text(value: str | bytes, *, counter: int = 1, reply_to: MessageId | None = None) -> Content:
    """A text content."""
    raw = value if isinstance(value, bytes) else value.encode()
    return Content(ContentKind.TEXT, ID, counter, 1_800_000_000_000, reply_to, raw)


@given(st.text(min_size=1, max_size=300).filter(lambda t: _is_encodable(t)), COUNTERS, TIMES, REPLIES)
def test_any_text_comes_back(value: str, counter: int, sent_ms: int, reply_to: MessageId | None) -> None:
    content = Content(ContentKind.TEXT, ID, counter, sent_ms, reply_to, value.encode())
    parsed = parse_content(unpad(pad(encode_content(content))))
    assert parsed == content
    assert isinstance(parsed, Content)
    assert parsed.text == value


def _is_encodable(value: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in value)


@given(
    st.integers(0, 255).filter(lambda kind: kind not in (1, 2)),
    COUNTERS,
    TIMES,
    REPLIES,
    st.binary(max_size=99),
)
def test_an_unknown_kind_is_a_value_with_its_bytes(
    kind: int, counter: int, sent_ms: int, reply_to: MessageId | None, body: bytes
) -> None:
    content = UnknownContent(kind, ID, counter, sent_ms, reply_to, body)
    assert parse_content(encode_content(content)) == content


@pytest.mark.parametrize("value", [" ", "\n", "\u200b", "نص عربي", "👩‍⚕️", "x" * MAX_TEXT_BYTES])
def test_empty_ish_and_long_texts_are_fine(value: str) -> None:
    assert parse_content(encode_content(text(value))) == text(value)


@pytest.mark.parametrize("raw", [b"", b"x" * (MAX_TEXT_BYTES + 1), b"\xff", b"\xed\xa0\x80", b"\xc0\x80"])
def test_empty_too_long_and_malformed_texts_are_refused_on_both_sides(raw: bytes) -> None:
    with pytest.raises(WireError):
        encode_content(text(raw))
    with pytest.raises(WireError):
        parse_content(encode_content(text("x"))[:-1] + raw)


def test_the_error_of_a_malformed_text_shows_nothing_of_it() -> None:
    with pytest.raises(WireError) as caught:
        encode_content(text(b"CANARY\xff"))
    assert "CANARY" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_session_refresh_has_no_body() -> None:
    refresh = Content(ContentKind.SESSION_REFRESH, ID, 1, 0, None, b"")
    assert parse_content(encode_content(refresh)) == refresh
    with pytest.raises(WireError):
        encode_content(Content(ContentKind.SESSION_REFRESH, ID, 1, 0, None, b"x"))
    with pytest.raises(WireError):
        parse_content(encode_content(refresh) + b"x")


def test_numbers_that_a_store_cannot_hold_are_refused_in_both_directions() -> None:
    largest = replace(text("x", counter=MAX_NUMBER), sent_ms=MAX_NUMBER)
    raw = encode_content(largest)
    numbers = MAX_NUMBER.to_bytes(8, "big")
    for at in (raw.index(numbers), raw.rindex(numbers)):
        with pytest.raises(WireError):
            parse_content(raw[:at] + b"\x80" + bytes(7) + raw[at + 8 :])
    with pytest.raises(WireError):
        encode_content(replace(largest, counter=MAX_NUMBER + 1))


def test_a_counter_starts_at_one() -> None:
    with pytest.raises(WireError):
        encode_content(text("x", counter=0))
    raw = encode_content(text("x"))
    with pytest.raises(WireError):
        parse_content(raw[:18] + bytes(8) + raw[26:])


def test_a_known_kind_is_not_written_as_an_unknown_one() -> None:
    with pytest.raises(WireError):
        encode_content(UnknownContent(1, ID, 1, 0, None, b"x"))


@pytest.mark.parametrize("reply_to", [None, REPLY])
def test_every_mutant_is_refused_or_another_value(reply_to: MessageId | None) -> None:
    check_exact_format(encode_content(text("Guten Tag", reply_to=reply_to)), parse_content, encode_content)


def test_the_repr_shows_no_body() -> None:
    assert "CANARY" not in repr(text("CANARY"))
    assert "CANARY" not in repr(UnknownContent(9, ID, 1, 0, None, b"CANARY"))


@given(st.binary(max_size=5000))
def test_padding_comes_off_again(raw: bytes) -> None:
    padded = pad(raw)
    assert unpad(padded) == raw
    assert len(padded) > len(raw)
    assert len(padded) in (128, 256, 512) or len(padded) % 1024 == 0


@pytest.mark.parametrize(
    ("length", "bucket"),
    [
        (0, 128),
        (127, 128),
        (128, 256),
        (255, 256),
        (256, 512),
        (511, 512),
        (512, 1024),
        (1023, 1024),
        (1024, 2048),
        (MAX_PADDED_BYTES - 1, MAX_PADDED_BYTES),
    ],
)
def test_buckets(length: int, bucket: int) -> None:
    assert len(pad(bytes(length))) == bucket


def test_the_largest_contents_fit_the_largest_bucket() -> None:
    longest = encode_content(text("x" * MAX_TEXT_BYTES, reply_to=REPLY))
    assert len(pad(longest)) == MAX_PADDED_BYTES
    unknown = encode_content(UnknownContent(9, ID, 1, 0, REPLY, bytes(MAX_BODY_BYTES)))
    assert len(pad(unknown)) == MAX_PADDED_BYTES
    with pytest.raises(WireError):
        pad(bytes(MAX_PADDED_BYTES))
    with pytest.raises(WireError):
        encode_content(UnknownContent(9, ID, 1, 0, REPLY, bytes(MAX_BODY_BYTES + 1)))


@pytest.mark.parametrize(
    "padded",
    [
        b"",
        bytes(128),
        b"\x80" + bytes(126),
        b"\x80" + bytes(128),
        b"\x80" + bytes(255),
        b"a" * 128,
        b"a" * 127 + b"\x81",
        b"a\x80" + bytes(510),
        b"\x80" + bytes(MAX_PADDED_BYTES + 1023),
    ],
)
def test_padding_that_we_would_not_have_written_is_refused(padded: bytes) -> None:
    with pytest.raises(WireError):
        unpad(padded)


@given(st.binary(max_size=600))
def test_unpadding_accepts_only_what_padding_wrote(padded: bytes) -> None:
    try:
        raw = unpad(padded)
    except WireError:
        return
    assert pad(raw) == padded
