"""PQXDH: both sides agree, on everything, or on nothing."""

import os
from collections.abc import Callable
from dataclasses import fields, replace

import nacl.bindings as sodium
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.identities import NOW_MS, Person, RepeatableRandom, make_person

from securechat.crypto.kem import KemKeyPair, KemKind
from securechat.crypto.keys import DhKeyPair, DhPublicKey, SigningKeyPair, VerifyKey
from securechat.crypto.secret import SecretBytes
from securechat.errors import (
    DecryptionError,
    DuplicateMessageError,
    InvalidSignatureError,
    NoSessionError,
    StalePreKeyError,
    WeakPublicKeyError,
    WireError,
)
from securechat.ids import device_id, user_id
from securechat.protocol.pqxdh import (
    Handshake,
    LocalDevice,
    PeerDevice,
    PublicPreKeys,
    initiate,
    initiate_with,
    respond,
    transcript_hash,
)
from securechat.protocol.prekeys import consume
from securechat.wire.handshake import PqxdhHeader
from securechat.wire.prekeys import DAY_MS, PreKeyBundle, PreKeyKind, sign_dh_prekey, sign_kem_prekey

ORDER_8 = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
P = 2**255 - 19


@pytest.fixture(scope="module")
def pat() -> Person:
    return make_person("pat")


@pytest.fixture(scope="module")
def lee() -> Person:
    return make_person("lee")


def start(
    own: Person, peer: Person, bundle: PreKeyBundle, *, now_ms: int = NOW_MS
) -> tuple[PqxdhHeader, Handshake]:
    """Start a session with fresh randomness."""
    return initiate(own.local, peer.peer, bundle, now_ms=now_ms, random_bytes=os.urandom)


@pytest.mark.parametrize("one_time", [True, False])
@pytest.mark.parametrize("last_resort", [True, False])
def test_both_sides_agree_with_and_without_one_time_prekeys(
    pat: Person, lee: Person, one_time: bool, last_resort: bool
) -> None:
    header, ours = start(pat, lee, lee.bundle(one_time=one_time, last_resort=last_resort))
    theirs = respond(lee.local, pat.peer, header, lee.pool)
    assert theirs == ours
    assert len(ours.secret) == len(ours.associated_data) == len(ours.session_id) == 32
    assert header.one_time_id == (lee.upload.one_time[0].id if one_time else None)
    assert header.kem_kind is (PreKeyKind.KEM_LAST_RESORT if last_resort else PreKeyKind.KEM_ONE_TIME)


@given(st.integers(0, 2**32), st.booleans(), st.booleans())
@settings(max_examples=20)
def test_any_two_devices_agree(seed: int, one_time: bool, last_resort: bool) -> None:
    draw = RepeatableRandom(str(seed))
    a = make_person("a", one_time=1, random_bytes=draw)
    b = make_person("b", one_time=1, random_bytes=draw)
    header, ours = start(a, b, b.bundle(one_time=one_time, last_resort=last_resort))
    assert respond(b.local, a.peer, header, b.pool) == ours


def test_two_starts_share_nothing(pat: Person, lee: Person) -> None:
    bundle = lee.bundle(last_resort=True)
    (first, one), (second, other) = start(pat, lee, bundle), start(pat, lee, bundle)
    assert first.ephemeral != second.ephemeral
    assert first.kem_ciphertext != second.kem_ciphertext
    assert one.secret != other.secret
    assert one.session_id != other.session_id
    assert one.associated_data != other.associated_data


def test_the_handshake_shows_no_secret(pat: Person, lee: Person) -> None:
    _, handshake = start(pat, lee, lee.bundle())
    assert handshake.secret.reveal().hex() not in repr(handshake)
    assert repr(handshake.secret.reveal()) not in repr(handshake)


# -- what the bundle may not be -----------------------------------------------------------------------------


def redated(person: Person, *, created_ms: int, life_ms: int = 365 * DAY_MS) -> list[PreKeyBundle]:
    """Bundles of ``person`` with one prekey each signed again for other dates."""
    bundle, local = person.bundle(), person.local
    assert bundle.one_time is not None
    dates = {"created_ms": created_ms, "expires_ms": created_ms + life_ms}
    dh = [
        sign_dh_prekey(local.signing, local.address, kind=p.kind, key_id=p.id, public=p.public, **dates)
        for p in (bundle.signed, bundle.one_time)
    ]
    kem = sign_kem_prekey(
        local.signing,
        local.address,
        kind=bundle.kem.kind,
        key_id=bundle.kem.id,
        public=bundle.kem.public,
        **dates,
    )
    return [replace(bundle, signed=dh[0]), replace(bundle, one_time=dh[1]), replace(bundle, kem=kem)]


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize(
    ("age_ms", "life_ms"), [(31 * DAY_MS, 365 * DAY_MS), (2 * DAY_MS, DAY_MS), (-2 * DAY_MS, 9 * DAY_MS)]
)
def test_one_prekey_out_of_date_refuses_the_bundle(
    pat: Person, lee: Person, at: int, age_ms: int, life_ms: int
) -> None:
    bundle = redated(lee, created_ms=NOW_MS - age_ms, life_ms=life_ms)[at]
    with pytest.raises(StalePreKeyError):
        start(pat, lee, bundle)


def test_an_old_bundle_served_again_is_refused_after_its_time(pat: Person, lee: Person) -> None:
    start(pat, lee, lee.bundle(), now_ms=NOW_MS + 30 * DAY_MS - 1)
    with pytest.raises(StalePreKeyError):
        start(pat, lee, lee.bundle(), now_ms=NOW_MS + 30 * DAY_MS)


Change = Callable[[PreKeyBundle], PreKeyBundle]
MALLORY = make_person("mallory")
FORGERIES: dict[str, Change] = {
    "signed prekey of another": lambda b: replace(b, signed=MALLORY.upload.signed),
    "one-time prekey of another": lambda b: replace(b, one_time=MALLORY.upload.one_time[0]),
    "KEM prekey of another": lambda b: replace(b, kem=MALLORY.upload.kem_one_time[0]),
    "KEM key swapped": lambda b: replace(b, kem=replace(b.kem, public=MALLORY.upload.kem_one_time[0].public)),
    "kinds of the KEM prekeys swapped": lambda b: replace(
        b, kem=replace(b.kem, kind=PreKeyKind.KEM_LAST_RESORT)
    ),
    "id swapped": lambda b: replace(b, signed=replace(b.signed, id=b.signed.id + 1)),
    "address": lambda b: replace(b, address=MALLORY.local.address),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_bundle_is_refused(pat: Person, lee: Person, forge: Change) -> None:
    with pytest.raises(InvalidSignatureError):
        start(pat, lee, forge(lee.bundle()))


def test_a_signed_prekey_in_the_one_time_place_is_refused(pat: Person, lee: Person) -> None:
    with pytest.raises(WireError):
        start(pat, lee, replace(lee.bundle(), one_time=lee.upload.signed))


def test_a_small_order_key_is_refused_though_it_is_signed(pat: Person, lee: Person) -> None:
    zero = sign_dh_prekey(
        lee.local.signing,
        lee.local.address,
        kind=PreKeyKind.SIGNED,
        key_id=9,
        public=DhPublicKey(bytes(32)),
        created_ms=NOW_MS,
        expires_ms=NOW_MS + DAY_MS,
    )
    with pytest.raises(WeakPublicKeyError):
        start(pat, lee, replace(lee.bundle(), signed=zero))


def test_a_device_starts_no_session_with_itself(lee: Person) -> None:
    with pytest.raises(NoSessionError):
        start(lee, lee, lee.bundle())
    header, _ = start(MALLORY, lee, lee.bundle())
    with pytest.raises(NoSessionError):
        respond(lee.local, lee.peer, header, lee.pool)


# -- what both sides must share -----------------------------------------------------------------------------


def answers_differ(
    lee: LocalDevice, pat: PeerDevice, header: PqxdhHeader, person: Person, ours: Handshake
) -> None:
    """Check that this responder arrives at nothing in common with the initiator."""
    theirs = respond(lee, pat, header, person.pool)
    assert theirs.secret != ours.secret
    assert theirs.session_id != ours.session_id
    assert theirs.associated_data != ours.associated_data


def test_a_message_redirected_or_attributed_to_another_gives_another_secret(pat: Person, lee: Person) -> None:
    header, ours = start(pat, lee, lee.bundle())
    other_user = replace(lee.local.address, user=user_id("other"))
    other_device = replace(lee.local.address, device=device_id(2))
    for address in (other_user, other_device):
        answers_differ(replace(lee.local, address=address), pat.peer, header, lee, ours)
    for peer in (
        replace(pat.peer, address=replace(pat.peer.address, user=user_id("other"))),
        replace(pat.peer, address=replace(pat.peer.address, device=device_id(2))),
        replace(pat.peer, account=MALLORY.peer.account),
        replace(pat.peer, signing=MALLORY.peer.signing),
        replace(pat.peer, agreement=MALLORY.peer.agreement),
    ):
        answers_differ(lee.local, peer, header, lee, ours)
    answers_differ(replace(lee.local, account=MALLORY.peer.account), pat.peer, header, lee, ours)


def test_each_changed_field_of_the_header_gives_another_secret_or_a_refusal(pat: Person, lee: Person) -> None:
    header, ours = start(pat, lee, lee.bundle())
    answers_differ(lee.local, pat.peer, replace(header, ephemeral=MALLORY.peer.agreement), lee, ours)
    answers_differ(lee.local, pat.peer, replace(header, one_time_id=None), lee, ours)
    answers_differ(lee.local, pat.peer, replace(header, one_time_id=lee.upload.one_time[1].id), lee, ours)
    answers_differ(lee.local, pat.peer, replace(header, kem_id=lee.upload.kem_one_time[1].id), lee, ours)
    for at in (0, 700, 1567):
        changed = bytes(b ^ (i == at) for i, b in enumerate(header.kem_ciphertext))
        answers_differ(lee.local, pat.peer, replace(header, kem_ciphertext=changed), lee, ours)
    for unknown in (
        replace(header, signed_id=1),
        replace(header, one_time_id=1),
        replace(header, kem_id=1),
        replace(header, kem_kind=PreKeyKind.KEM_LAST_RESORT),
        replace(header, signed_id=lee.upload.last_resort.id),
    ):
        with pytest.raises(StalePreKeyError):
            respond(lee.local, pat.peer, unknown, lee.pool)
    with pytest.raises(DecryptionError):
        respond(lee.local, pat.peer, replace(header, kem_ciphertext=bytes(1088)), lee.pool)
    with pytest.raises(WeakPublicKeyError):
        respond(lee.local, pat.peer, replace(header, ephemeral=DhPublicKey(bytes(32))), lee.pool)


def test_every_element_of_the_transcript_changes_its_hash(pat: Person, lee: Person) -> None:
    prekeys = PublicPreKeys(
        signed_id=1,
        signed=lee.upload.signed.public,
        one_time_id=2,
        one_time=lee.upload.one_time[0].public,
        kem_kind=PreKeyKind.KEM_ONE_TIME,
        kem_id=3,
        kem=lee.upload.kem_one_time[0].public,
    )
    base, ciphertext = MALLORY.peer.agreement, bytes(1568)
    other_dh, other_kem = MALLORY.upload.signed.public, MALLORY.upload.last_resort.public
    changes: dict[str, PublicPreKeys] = {
        "signed_id": replace(prekeys, signed_id=9),
        "signed": replace(prekeys, signed=other_dh),
        "one_time_id": replace(prekeys, one_time_id=9),
        "one_time": replace(prekeys, one_time=other_dh),
        "kem_kind": replace(prekeys, kem_kind=PreKeyKind.KEM_LAST_RESORT),
        "kem_id": replace(prekeys, kem_id=9),
        "kem": replace(prekeys, kem=other_kem),
    }
    assert set(changes) == {f.name for f in fields(PublicPreKeys)}
    one, two = pat.peer, lee.peer
    hashes = [
        transcript_hash(one, two, base, prekeys, ciphertext),
        transcript_hash(two, one, base, prekeys, ciphertext),
        transcript_hash(one, two, other_dh, prekeys, ciphertext),
        transcript_hash(one, two, base, prekeys, b"\x01" + bytes(1567)),
        transcript_hash(one, two, base, replace(prekeys, one_time=None, one_time_id=None), ciphertext),
        *(transcript_hash(one, two, base, changed, ciphertext) for changed in changes.values()),
        *(transcript_hash(device, two, base, prekeys, ciphertext) for device in changed_devices(one)),
        *(transcript_hash(one, device, base, prekeys, ciphertext) for device in changed_devices(two)),
    ]
    assert len(set(hashes)) == len(hashes) == 5 + 7 + 10


def changed_devices(device: PeerDevice) -> list[PeerDevice]:
    """``device`` with each of its parts changed."""
    key = VerifyKey(b"\x07" * 32)
    return [
        replace(device, address=replace(device.address, user=user_id("other"))),
        replace(device, address=replace(device.address, device=device_id(99))),
        replace(device, account=key),
        replace(device, signing=key),
        replace(device, agreement=DhPublicKey(b"\x07" * 32)),
    ]


def test_a_base_key_plus_torsion_agrees_in_x25519_but_not_in_the_handshake(pat: Person, lee: Person) -> None:
    header, _ = start(pat, lee, lee.bundle())
    twisted, plain = torsioned_pair()
    assert lee.local.agreement.agree(twisted) == lee.local.agreement.agree(plain)
    one = respond(lee.local, pat.peer, replace(header, ephemeral=plain), lee.pool)
    other = respond(lee.local, pat.peer, replace(header, ephemeral=twisted), lee.pool)
    assert one.secret != other.secret
    assert one.session_id != other.session_id


def torsioned_pair() -> tuple[DhPublicKey, DhPublicKey]:
    """Two encodings of one base key: with a point of order 8 added, and plain."""
    point = SigningKeyPair.from_seed(SecretBytes(bytes(32))).public.raw
    return montgomery(sodium.crypto_core_ed25519_add(point, ORDER_8)), montgomery(point)


def montgomery(point: bytes) -> DhPublicKey:
    """Return u = (1 + y) / (1 - y) of an Edwards point (RFC 7748 section 4.1)."""
    y = int.from_bytes(point, "little") & (2**255 - 1)
    return DhPublicKey(((1 + y) * pow(1 - y, -1, P) % P).to_bytes(32, "little"))


# -- replays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one_time", [True, False])
def test_a_handshake_is_answered_once(pat: Person, lee: Person, one_time: bool) -> None:
    header, _ = start(pat, lee, lee.bundle(one_time=one_time, last_resort=not one_time))
    respond(lee.local, pat.peer, header, lee.pool)
    respond(lee.local, pat.peer, header, lee.pool)  # an attempt alone uses nothing up
    used = consume(lee.pool, header)
    with pytest.raises(DuplicateMessageError):
        respond(lee.local, pat.peer, header, used)


def test_a_second_initiator_with_the_same_one_time_prekey_is_refused(pat: Person, lee: Person) -> None:
    header, _ = start(pat, lee, lee.bundle())
    second, _ = start(MALLORY, lee, lee.bundle())
    with pytest.raises(StalePreKeyError):
        respond(lee.local, MALLORY.peer, second, consume(lee.pool, header))


def test_a_used_base_key_is_refused_under_other_prekeys_too(pat: Person, lee: Person) -> None:
    header, _ = start(pat, lee, lee.bundle())
    used = consume(lee.pool, header)
    again = replace(
        header, one_time_id=None, kem_kind=PreKeyKind.KEM_LAST_RESORT, kem_id=lee.upload.last_resort.id
    )
    with pytest.raises(DuplicateMessageError):
        respond(lee.local, pat.peer, again, used)


# -- what stolen keys give ----------------------------------------------------------------------------------


def test_the_responders_identity_key_alone_opens_nothing(pat: Person, lee: Person) -> None:
    header, ours = start(pat, lee, lee.bundle(one_time=False, last_resort=True))
    thief = make_person("lee", random_bytes=RepeatableRandom("thief"))
    stolen = replace(
        thief.local, account=lee.local.account, signing=lee.local.signing, agreement=lee.local.agreement
    )
    guess = replace(header, signed_id=thief.upload.signed.id, kem_id=thief.upload.last_resort.id)
    answer = respond(stolen, pat.peer, guess, thief.pool)
    assert answer.secret != ours.secret


def test_the_kem_secret_alone_decides(pat: Person, lee: Person) -> None:
    base, ciphertext = DhKeyPair.generate(os.urandom), bytes(1568)
    one, other = (
        initiate_with(pat.local, lee.peer, lee.bundle(), base, SecretBytes(secret), ciphertext)[1]
        for secret in (bytes(32), bytes(31) + b"\x01")
    )
    assert one.secret != other.secret
    assert one.session_id == other.session_id  # made of public values alone


def test_breaking_x25519_alone_does_not_give_the_secret(pat: Person, lee: Person) -> None:
    header, ours = start(pat, lee, lee.bundle())
    other = KemKeyPair(KemKind.ML_KEM_1024, SecretBytes(bytes(64)))
    fake = replace(lee.pool.kem_one_time[header.kem_id], private=other.seed)
    guess = replace(lee.pool, kem_one_time={header.kem_id: fake})
    assert respond(lee.local, pat.peer, header, guess).secret != ours.secret
