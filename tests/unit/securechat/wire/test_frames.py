"""Frames of a relay connection: round trip, limits, and nothing but our own frames."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.errors import WireError
from securechat.wire.frames import (
    MAX_BODY_BYTES,
    MAX_FRAME_BYTES,
    MAX_SEQ,
    Accepted,
    Ack,
    Authenticate,
    Challenge,
    ClientFrame,
    Deliver,
    Error,
    FrameCodec,
    Ping,
    Pong,
    QueueEmpty,
    Ready,
    Send,
    ServerFrame,
)

CODEC = FrameCodec()
ID = bytes(range(16))

seqs = st.integers(0, MAX_SEQ)
ids = st.binary(min_size=16, max_size=16)
users = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
devices = st.integers(1, 2**31 - 1)
bodies = st.binary(max_size=300)
client_frames: st.SearchStrategy[ClientFrame] = st.one_of(
    st.builds(Authenticate, st.text(max_size=90), users, devices, st.binary(min_size=64, max_size=64)),
    st.builds(Send, ids, users, devices, bodies, st.booleans(), st.booleans()),
    st.builds(Ack, ids, seqs),
    st.builds(Ping, seqs),
)
server_frames: st.SearchStrategy[ServerFrame] = st.one_of(
    st.builds(Challenge, st.binary(min_size=32, max_size=32), seqs),
    st.builds(Ready, ids, seqs, seqs, seqs),
    st.builds(Accepted, st.lists(ids, max_size=5)),
    st.builds(Deliver, seqs, ids, users, devices, seqs, st.integers(0, 3), bodies),
    st.builds(QueueEmpty, seqs),
    st.builds(Error, st.text(max_size=64), st.none() | ids, st.booleans(), seqs),
    st.builds(Pong, seqs),
)


@given(client_frames)
def test_a_client_frame_reads_back_as_it_was(frame: ClientFrame) -> None:
    assert CODEC.decode_client(CODEC.encode(frame)) == frame


@given(server_frames)
def test_a_server_frame_reads_back_as_it_was(frame: ServerFrame) -> None:
    assert CODEC.decode_server(CODEC.encode(frame)) == frame


@given(server_frames)
def test_a_server_frame_is_not_a_client_frame(frame: ServerFrame) -> None:
    with pytest.raises(WireError):
        CODEC.decode_client(CODEC.encode(frame))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_refused(raw: bytes) -> None:
    try:
        CODEC.decode_client(raw)
    except WireError:
        return


@given(client_frames, st.data())
def test_a_cut_or_longer_frame_is_refused(frame: ClientFrame, data: st.DataObject) -> None:
    raw = CODEC.encode(frame)
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    for bad in (cut, raw + b"\x00"):
        with pytest.raises(WireError):
            CODEC.decode_client(bad)


BAD: list[list[object]] = [
    [],
    [99, 1],
    [2, ID[:15], "pat", 1, b"", False, False],
    [2, ID + b"\x00", "pat", 1, b"", False, False],
    [2, ID, "", 1, b"", False, False],
    [2, ID, "pat\n", 1, b"", False, False],
    [2, ID, "-pat", 1, b"", False, False],
    [2, ID, "p" * 65, 1, b"", False, False],
    [2, ID, "pat", 0, b"", False, False],
    [2, ID, "pat", 2**31, b"", False, False],
    [2, ID, "pat", 1.5, b"", False, False],
    [2, ID, "pat", 1, "text", False, False],
    [2, ID, "pat", 1, bytes(MAX_BODY_BYTES + 1), False, False],
    [2, ID, "pat", 1, b"", 1, False],
    [2, ID, "pat", 1, b"", False, False, 0],
    [2, ID, "pat", 1],
    [3, ID, -1],
    [3, ID, MAX_SEQ + 1],
    [1, "t" * 4097, "pat", 1, bytes(64)],
    [1, "t", "pat", 1, bytes(63)],
]


@pytest.mark.parametrize("items", BAD, ids=range(len(BAD)))
def test_a_frame_outside_its_limits_is_refused(items: list[object]) -> None:
    with pytest.raises(WireError):
        CODEC.decode_client(msgspec.msgpack.encode(items))


def test_the_largest_frames_fit_and_anything_longer_is_not_even_decoded() -> None:
    body = bytes(MAX_BODY_BYTES)
    send = Send(ID, "u" * 64, 2**31 - 1, body, True, True)
    deliver = Deliver(MAX_SEQ, ID, "u" * 64, 2**31 - 1, MAX_SEQ, 3, body)
    assert CODEC.decode_client(CODEC.encode(send)) == send
    assert CODEC.decode_server(CODEC.encode(deliver)) == deliver
    with pytest.raises(WireError, match="more than"):
        CODEC.decode_client(bytes(MAX_FRAME_BYTES + 1))


def test_the_bytes_of_a_frame_are_stable() -> None:
    assert CODEC.encode(Ack(ID, 300)) == b"\x93\x03\xc4\x10" + ID + b"\xcd\x01\x2c"
    assert CODEC.encode(Accepted([ID])) == b"\x92\x12\x91\xc4\x10" + ID


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(WireError):
        CODEC.decode_client(b"\x91" * 50_000 + b"\x01")


CANARY = "canary-token"


def test_a_token_does_not_show_in_a_frames_repr() -> None:
    assert CANARY not in repr(Authenticate(CANARY, "pat", 1, bytes(64)))
