"""Prekey pools: made, refilled, rotated, used once, forgotten and stored."""

import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.identities import NOW_MS, Person, RepeatableRandom, make_person
from support.mutation import check_exact_format

from securechat.crypto.kem import KemKeyPair
from securechat.errors import StalePreKeyError, WireError
from securechat.protocol.pqxdh import initiate, respond
from securechat.protocol.prekey_rows import (
    assemble_pool,
    difference,
    encode_pool,
    encode_secret,
    parse_pool,
    parse_secret,
)
from securechat.protocol.prekeys import (
    LOW_WATER,
    PreKeyCounts,
    PreKeyPool,
    UsedHandshake,
    consume,
    generate_pool,
    needs_upkeep,
    published,
    refill,
    rotate,
    skip_ids,
)
from securechat.wire.handshake import PqxdhHeader
from securechat.wire.prekeys import (
    DAY_MS,
    PreKeyBundle,
    PreKeyKind,
    SignedPreKey,
    check_upload,
    encode_upload,
    parse_upload,
)

FULL = PreKeyCounts(100, 100)
WEEK_MS = 7 * DAY_MS


@pytest.fixture(scope="module")
def lee() -> Person:
    return make_person("lee")


@pytest.fixture(scope="module")
def pat() -> Person:
    return make_person("pat")


def header_to(pat: Person, lee: Person, bundle: PreKeyBundle, now_ms: int = NOW_MS) -> PqxdhHeader:
    """A handshake of ``pat`` with ``lee``."""
    return initiate(pat.local, lee.peer, bundle, now_ms=now_ms, random_bytes=os.urandom)[0]


def test_a_new_pool_has_a_hundred_keys_of_each_one_time_kind_and_its_upload_is_sound(lee: Person) -> None:
    pool, upload = generate_pool(lee.local, NOW_MS, os.urandom)
    assert len(pool.one_time) == len(pool.kem_one_time) == 100
    assert [p.id for p in upload.one_time] == sorted(pool.one_time)
    assert [p.id for p in upload.kem_one_time] == sorted(pool.kem_one_time)
    ids = [secret.id for secret in pool.secrets()]
    assert len(set(ids)) == len(ids) == 202
    assert pool.next_id == max(ids) + 1
    assert parse_upload(encode_upload(upload)) == upload
    check_upload(upload, lee.local.address, lee.peer.signing, NOW_MS)


def test_two_devices_do_not_start_at_one_id(lee: Person) -> None:
    firsts = {generate_pool(lee.local, NOW_MS, os.urandom, one_time=0)[0].signed.id for _ in range(8)}
    assert len(firsts) > 1


def test_a_prekey_is_published_in_the_same_bytes_every_time(lee: Person) -> None:
    dh: list[SignedPreKey] = [lee.upload.signed, *lee.upload.one_time]
    kem: list[SignedPreKey] = [*lee.upload.kem_one_time, lee.upload.last_resort]
    assert [published(secret, lee.local) for secret in lee.pool.secrets()] == [*dh, *kem]


def test_generation_is_repeatable_from_its_randomness(lee: Person) -> None:
    one = generate_pool(lee.local, NOW_MS, RepeatableRandom("x"), one_time=3)
    assert one == generate_pool(lee.local, NOW_MS, RepeatableRandom("x"), one_time=3)


# -- use ----------------------------------------------------------------------------------------------------


def test_consuming_deletes_the_one_time_halves_and_remembers_the_base_key(pat: Person, lee: Person) -> None:
    header = header_to(pat, lee, lee.bundle())
    used = consume(lee.pool, header)
    assert set(lee.pool.one_time) - set(used.one_time) == {header.one_time_id}
    assert set(lee.pool.kem_one_time) - set(used.kem_one_time) == {header.kem_id}
    assert used.used == {UsedHandshake(header.signed_id, header.ephemeral.raw)}
    assert not lee.pool.used
    with pytest.raises(StalePreKeyError):
        used.one_time_pair(header)
    with pytest.raises(StalePreKeyError):
        used.kem_pair(header)
    assert used.signed_pair(header).public == lee.upload.signed.public


def test_a_last_resort_key_stays(pat: Person, lee: Person) -> None:
    header = header_to(pat, lee, lee.bundle(one_time=False, last_resort=True))
    used = consume(lee.pool, header)
    assert (used.one_time, used.kem_one_time) == (lee.pool.one_time, lee.pool.kem_one_time)
    assert used.kem_pair(header).public == lee.upload.last_resort.public


def test_one_message_expands_only_the_keys_that_it_names(
    pat: Person, lee: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = parse_pool(encode_pool(lee.pool))
    header = header_to(pat, lee, lee.bundle())
    again = header_to(pat, lee, lee.bundle(last_resort=True))
    expanded: list[str] = []
    build = KemKeyPair.__init__

    def counting(self: KemKeyPair, *arguments: object) -> None:
        expanded.append("one")
        build(self, *arguments)  # type: ignore[arg-type]  # hands on what it was given

    monkeypatch.setattr(KemKeyPair, "__init__", counting)
    respond(lee.local, pat.peer, header, pool)
    assert len(expanded) == 1
    for _ in range(3):
        respond(lee.local, pat.peer, again, pool)
    assert len(expanded) == 2  # the last-resort key is kept once expanded


def test_a_pool_of_the_named_rows_alone_answers(pat: Person, lee: Person) -> None:
    header, ours = initiate(pat.local, lee.peer, lee.bundle(), now_ms=NOW_MS, random_bytes=os.urandom)
    wanted = {header.one_time_id, header.kem_id}
    rows = [
        s
        for s in lee.pool.secrets()
        if s.id in wanted or s.id in (lee.pool.signed.id, lee.pool.last_resort.id)
    ]
    assert len(rows) == 4
    part = assemble_pool(lee.pool.next_id, rows, [])
    assert respond(lee.local, pat.peer, header, part) == ours
    change = difference(part, consume(part, header))
    assert {key for _, key in change.deleted} == wanted
    assert (change.stored, change.used_deleted) == ((), ())
    assert [used.base_key for used in change.used_stored] == [header.ephemeral.raw]


# -- rotation and refill ------------------------------------------------------------------------------------


def test_lasting_keys_are_replaced_after_seven_days_and_not_before(lee: Person) -> None:
    assert rotate(lee.pool, NOW_MS + WEEK_MS - 1, os.urandom) == lee.pool
    assert not needs_upkeep(lee.pool, FULL, NOW_MS + WEEK_MS - 1)
    later = NOW_MS + WEEK_MS
    assert needs_upkeep(lee.pool, FULL, later)
    rotated = rotate(lee.pool, later, os.urandom)
    assert rotated.signed.id == lee.pool.next_id
    assert rotated.last_resort.id == lee.pool.next_id + 1
    assert rotated.next_id == lee.pool.next_id + 2
    assert [(s.kind, s.id, s.retired_ms) for s in rotated.retired] == [
        (PreKeyKind.SIGNED, lee.pool.signed.id, later),
        (PreKeyKind.KEM_LAST_RESORT, lee.pool.last_resort.id, later),
    ]
    assert not needs_upkeep(rotated, FULL, later)


def test_retired_keys_open_for_thirty_days_and_their_replay_memory_lives_as_long(
    pat: Person, lee: Person
) -> None:
    bundle = lee.bundle(one_time=False, last_resort=True)
    header, ours = initiate(pat.local, lee.peer, bundle, now_ms=NOW_MS, random_bytes=os.urandom)
    retired_at = NOW_MS + WEEK_MS
    pool = rotate(consume(lee.pool, header_to(pat, lee, bundle)), retired_at, os.urandom)
    assert respond(lee.local, pat.peer, header, pool) == ours
    last_moment = retired_at + 30 * DAY_MS
    held = rotate(pool, last_moment, os.urandom)
    assert respond(lee.local, pat.peer, header, held) == ours
    assert len(held.used) == 1
    gone = rotate(held, last_moment + 1, os.urandom)
    with pytest.raises(StalePreKeyError):
        respond(lee.local, pat.peer, header, gone)
    assert not gone.used
    assert all(secret.id != header.signed_id for secret in gone.secrets())


def test_one_time_keys_are_forgotten_thirty_days_past_their_expiry(lee: Person) -> None:
    last_moment = NOW_MS + 60 * DAY_MS
    assert rotate(lee.pool, last_moment, os.urandom).one_time == lee.pool.one_time
    gone = rotate(lee.pool, last_moment + 1, os.urandom)
    assert not gone.one_time
    assert not gone.kem_one_time


def test_years_of_rotation_keep_the_pool_small(lee: Person) -> None:
    pool, now = lee.pool, NOW_MS
    for _ in range(100):
        now += WEEK_MS
        pool = rotate(pool, now, os.urandom)
    assert len(pool.retired) == 10  # five weeks of both kinds
    assert len({secret.id for secret in pool.secrets()}) == len(pool.secrets())


def test_keys_dated_far_ahead_by_a_wrong_clock_are_replaced_at_once(lee: Person) -> None:
    ahead = make_person("lee", now_ms=NOW_MS + 400 * DAY_MS)
    assert needs_upkeep(ahead.pool, FULL, NOW_MS)
    mended = rotate(ahead.pool, NOW_MS, os.urandom)
    assert mended.signed.created_ms == NOW_MS
    assert not needs_upkeep(lee.pool, FULL, NOW_MS - DAY_MS)


@pytest.mark.parametrize(
    "counts", [PreKeyCounts(LOW_WATER - 1, 100), PreKeyCounts(100, LOW_WATER - 1), PreKeyCounts(0, 0)]
)
def test_few_keys_left_at_the_server_need_upkeep(lee: Person, counts: PreKeyCounts) -> None:
    assert needs_upkeep(lee.pool, counts, NOW_MS)
    assert not needs_upkeep(lee.pool, PreKeyCounts(LOW_WATER, LOW_WATER), NOW_MS)


def test_refill_makes_what_the_server_lacks_under_new_ids(lee: Person) -> None:
    grown, upload = refill(lee.pool, lee.local, PreKeyCounts(90, 97), NOW_MS + 5, os.urandom)
    assert (len(upload.one_time), len(upload.kem_one_time)) == (10, 3)
    assert upload.one_time[0].id == lee.pool.next_id
    assert upload.kem_one_time[0].id == lee.pool.next_id + 10
    assert grown.next_id == lee.pool.next_id + 13
    assert set(lee.pool.one_time) < set(grown.one_time)
    assert upload.signed == lee.upload.signed
    check_upload(upload, lee.local.address, lee.peer.signing, NOW_MS + 5)


def test_refill_of_a_full_server_publishes_the_lasting_keys_alone(lee: Person) -> None:
    grown, upload = refill(lee.pool, lee.local, PreKeyCounts(100, 130), NOW_MS, os.urandom)
    assert grown == lee.pool
    assert not upload.one_time
    assert not upload.kem_one_time


def test_ids_start_again_at_one_before_they_leave_32_bits(lee: Person) -> None:
    late = replace(lee.pool, next_id=2**32 - 50)
    grown, upload = refill(late, lee.local, PreKeyCounts(0, 0), NOW_MS, os.urandom)
    assert upload.one_time[0].id == 1
    assert grown.next_id == 201
    rotated = rotate(replace(lee.pool, next_id=2**32 - 1), NOW_MS + WEEK_MS, os.urandom)
    assert (rotated.signed.id, rotated.last_resort.id, rotated.next_id) == (2**32 - 1, 1, 2)


def test_a_restored_pool_moves_past_ids_that_the_server_may_know(lee: Person) -> None:
    moved = skip_ids(lee.pool, os.urandom)
    assert 2**24 <= moved.next_id - lee.pool.next_id < 2**25
    assert skip_ids(replace(lee.pool, next_id=2**32 - 1), os.urandom).next_id >= 2**24


# -- storage ------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["use", "week", "refill", "month"]), max_size=6))
@settings(max_examples=25, deadline=None)
def test_a_store_that_applies_the_differences_holds_the_same_pool(steps: list[str]) -> None:
    pat, lee = make_person("pat", one_time=0), make_person("lee", one_time=2)
    pool, now, draw = lee.pool, NOW_MS, RepeatableRandom("steps")
    rows = {(s.kind, s.id): encode_secret(s) for s in pool.secrets()}
    used: set[UsedHandshake] = set()
    for step in steps:
        new = _next_pool(step, pool, now, pat, lee, draw)
        change = difference(pool, new)
        rows.update({(s.kind, s.id): encode_secret(s) for s in change.stored})
        for key in change.deleted:
            del rows[key]
        used = (used | set(change.used_stored)) - set(change.used_deleted)
        now += {"use": 1, "week": WEEK_MS, "refill": 1, "month": 31 * DAY_MS}[step]
        pool = new
        assert assemble_pool(change.next_id, map(parse_secret, rows.values()), used) == pool
        assert parse_pool(encode_pool(pool)) == pool


def _next_pool(
    step: str, pool: PreKeyPool, now: int, pat: Person, lee: Person, draw: RepeatableRandom
) -> PreKeyPool:
    if step == "refill":
        return refill(pool, lee.local, PreKeyCounts(99, 98), now, draw)[0]
    if step == "use":
        current = refill(pool, lee.local, FULL, now, draw)[1]
        bundle = PreKeyBundle(lee.local.address, current.signed, current.last_resort, None)
        if now - pool.signed.created_ms >= 30 * DAY_MS:
            return pool
        return consume(pool, header_to(pat, lee, bundle, now))
    return rotate(pool, now, draw)


def test_rows_have_62_or_94_bytes_and_obey_the_law(lee: Person) -> None:
    for secret in lee.pool.secrets():
        raw = encode_secret(secret)
        assert len(raw) == (62 if secret.kind in (PreKeyKind.SIGNED, PreKeyKind.ONE_TIME) else 94)
        check_exact_format(raw, parse_secret, encode_secret)


def test_a_whole_pool_obeys_the_law(pat: Person, lee: Person) -> None:
    pool = rotate(consume(lee.pool, header_to(pat, lee, lee.bundle())), NOW_MS + WEEK_MS, os.urandom)
    check_exact_format(encode_pool(pool), parse_pool, encode_pool)


def test_rows_without_one_current_key_of_each_lasting_kind_are_no_pool(lee: Person) -> None:
    one, other = lee.pool.signed, replace(lee.pool.signed, id=1)
    for rows in ([], [one], [one, other, lee.pool.last_resort]):
        with pytest.raises(WireError, match="current prekeys"):
            assemble_pool(1, rows, [])


def test_the_repr_of_a_pool_shows_no_secret(lee: Person) -> None:
    lee.pool.last_resort.kem_pair()
    shown = repr(lee.pool)
    for secret in lee.pool.secrets():
        assert secret.private.reveal().hex() not in shown
        assert repr(secret.private.reveal()) not in shown
