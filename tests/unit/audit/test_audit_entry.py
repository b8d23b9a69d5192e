"""Entries: one exact encoding, and a parser that reads nothing else."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.audit.support import make_event

from audit.catalogue import EventType
from audit.entry import MAX_BODY, QUERY_COLUMNS, Entry, encode_entry, parse_entry
from audit.errors import EventError
from audit.event import MAX_INT, Actor, ActorKind, AuditEvent, ObjectRef, Outcome, PolicyRef, Purpose, uuid7

_TAGS = st.text("ABZabz019_.:/-", min_size=1, max_size=128)
_IDENTIFIERS = st.text("abz019_.-", max_size=20).map(lambda rest: "a" + rest)
_TIMES = st.integers(0, MAX_INT)


def _always(raw: bytes) -> Callable[[int], bytes]:
    return lambda _: raw


_ACTORS = st.builds(
    Actor,
    id=_TAGS,
    kind=st.sampled_from(ActorKind),
    roles=st.sets(_TAGS, max_size=4).map(lambda roles: tuple(sorted(roles))),
    device=st.none() | _TAGS,
    session=st.none() | _TAGS,
    mfa=st.none() | st.booleans(),
    on_behalf=st.none() | _TAGS,
)
_EVENTS = st.builds(
    AuditEvent,
    id=st.builds(uuid7, st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10).map(_always)),
    type=st.sampled_from(EventType),
    outcome=st.sampled_from(Outcome),
    actor=_ACTORS,
    reason=st.none() | _IDENTIFIERS,
    object=st.none() | st.builds(ObjectRef, _IDENTIFIERS, _TAGS),
    patient=st.none() | _TAGS,
    org=st.none() | _TAGS,
    site=st.none() | _TAGS,
    purpose=st.none() | st.sampled_from(Purpose),
    grant=st.none() | _TAGS,
    policy=st.none() | st.builds(PolicyRef, _TAGS, st.lists(_TAGS, max_size=4).map(tuple)),
    node=st.none() | _TAGS,
    request_id=st.none() | _TAGS,
    n=st.integers(1, MAX_INT),
    te=st.none() | _TIMES,
)
ENTRIES = st.builds(Entry, _TIMES, _TIMES, _EVENTS)

_GOLDEN = (
    b'{"actor":{"device":"dev_5","id":"usr_1","kind":"user","mfa":true,"roles":["clinician"]},'
    b'"id":"01a1ee56-5e05-7000-8000-000000000005","object":{"id":"mbx_0","kind":"mailbox"},"org":"org_1",'
    b'"outcome":"ok","patient":"pat_2","policy":{"ids":["care-team"],"set":"9f2c1b7d"},"purpose":"TREAT",'
    b'"req":"req_5","seq":5,"t":1795000000000000,"type":"message.send","v":1}'
)


def _changed(**changes: object) -> bytes:
    return json.dumps(json.loads(_GOLDEN) | changes, sort_keys=True, separators=(",", ":")).encode()


def test_an_entry_has_these_bytes() -> None:
    entry = Entry(5, 1_795_000_000_000_000, make_event(5))
    assert encode_entry(entry) == _GOLDEN
    assert parse_entry(_GOLDEN) == entry


@given(ENTRIES)
def test_parsing_gives_back_what_was_encoded(entry: Entry) -> None:
    body = encode_entry(entry)
    assert len(body) <= MAX_BODY
    assert parse_entry(body) == entry
    assert encode_entry(parse_entry(body)) == body


def test_the_largest_entry_fits() -> None:
    tag = "x" * 128
    roles = tuple(sorted(f"{number:02}" + "r" * 126 for number in range(16)))
    event = make_event(
        1,
        actor=Actor(id=tag, roles=roles, device=tag, session=tag, mfa=False, on_behalf=tag),
        object=ObjectRef("k" * 64, tag),
        policy=PolicyRef(tag, (tag,) * 32),
        reason="r" * 64,
        **dict.fromkeys(("patient", "org", "site", "grant", "node", "request_id"), tag),
        n=MAX_INT,
        te=MAX_INT,
    )
    body = encode_entry(Entry(MAX_INT, MAX_INT, event))
    assert len(body) <= MAX_BODY
    assert parse_entry(body).event == event


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 10_000,
        b'{"a":' * 3_000,
        b"9" * 5_000,
        _GOLDEN + b"\n",
        b" " + _GOLDEN,
        _GOLDEN.replace(b":", b": ", 1),
        _GOLDEN.replace(b'"usr_1"', b'"usr_\\u0031"'),
        _GOLDEN.replace(b'"seq":5', b'"seq":5.0'),
        _GOLDEN.replace(b'"seq":5', b'"seq":05'),
        _GOLDEN.replace(b'"seq":5', b'"seq":5,"seq":5'),
        _GOLDEN.replace(b'"seq":5', b'"seq":4,"seq":5'),
        _GOLDEN.replace(b'"seq":5', b'"seq":5e0'),
        _GOLDEN.replace(b'"seq":5', b'"seq":true'),
        _GOLDEN.replace(b'"usr_1"', b'"usr_\\ud800"'),
        _GOLDEN[:-1] + b',"w":1}',
        b"x" * (MAX_BODY + 1),
    ],
)
def test_bytes_that_are_not_canonical_are_refused(body: bytes) -> None:
    with pytest.raises(EventError):
        parse_entry(body)


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"v": "1"},
        {"seq": -1},
        {"seq": 2**53},
        {"t": 2**53},
        {"t": None},
        {"id": None},
        {"type": "message.sent"},
        {"type": 3},
        {"outcome": "fine"},
        {"actor": None},
        {"actor": "usr_1"},
        {"actor": {"id": "usr_1"}},
        {"actor": {"id": "usr_1", "kind": "ghost"}},
        {"actor": {"id": "usr_1", "kind": "user", "name": "x"}},
        {"actor": {"id": "usr_1", "kind": "user", "mfa": None}},
        {"actor": {"id": "usr_1", "kind": "user", "mfa": 1}},
        {"actor": {"id": "usr_1", "kind": "user", "roles": []}},
        {"actor": {"id": "usr_1", "kind": "user", "roles": "admin"}},
        {"actor": {"id": "usr_1", "kind": "user", "roles": [1]}},
        {"object": None},
        {"object": {"id": "x"}},
        {"policy": {"set": "x", "ids": None}},
        {"policy": {"set": "x", "ids": {"a": 1}}},
        {"purpose": "FUN"},
        {"src": {}},
        {"src": {"node": "n1", "ip": "10.0.0.1"}},
        {"patient": None},
        {"patient": "Jane Roe"},
        {"n": 1},
        {"n": 0},
        {"te": None},
        {"note": "free text"},
    ],
)
def test_whatever_the_writer_would_not_have_written_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(EventError):
        parse_entry(_changed(**changes))


@given(st.integers(0, len(_GOLDEN) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_is_another_canonical_entry(at: int, value: int) -> None:
    body = _GOLDEN[:at] + bytes([value]) + _GOLDEN[at + 1 :]
    try:
        entry = parse_entry(body)
    except EventError:
        return
    assert encode_entry(entry) == body


@pytest.mark.parametrize(("seq", "t"), [(-1, 0), (MAX_INT + 1, 0), (0, -1), (0, MAX_INT + 1)])
def test_a_place_out_of_range_is_not_encoded(seq: int, t: int) -> None:
    with pytest.raises(EventError):
        encode_entry(Entry(seq, t, make_event(1)))


def test_an_error_about_bytes_does_not_quote_them() -> None:
    with pytest.raises(EventError) as caught:
        parse_entry(_changed(patient="Jane Roe"))
    assert "Jane" not in str(caught.value)


def test_the_query_columns_are_what_the_entry_says() -> None:
    columns = dict(zip(QUERY_COLUMNS, parse_entry(_GOLDEN).columns(), strict=True))
    assert columns == {
        "seq": 5,
        "t": 1_795_000_000_000_000,
        "id": "01a1ee56-5e05-7000-8000-000000000005",
        "type": "message.send",
        "outcome": "ok",
        "actor": "usr_1",
        "patient": "pat_2",
        "object_kind": "mailbox",
        "object_id": "mbx_0",
        "org": "org_1",
    }
