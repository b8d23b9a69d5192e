"""Prekeys, bundles and uploads: their formats, signatures, dates and places."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.identities import NOW_MS, Person, RepeatableRandom, make_person
from support.mutation import check_exact_format

from securechat.crypto.kem import KemKeyPair, KemKind, KemPublicKey
from securechat.crypto.keys import DhKeyPair, DhPublicKey
from securechat.errors import InvalidSignatureError, StalePreKeyError, WeakPublicKeyError, WireError
from securechat.ids import ProtocolAddress, device_id, user_id
from securechat.protocol.prekeys import generate_pool
from securechat.wire.prekeys import (
    DAY_MS,
    PreKeyKind,
    PreKeyUpload,
    SignedDhPreKey,
    SignedPreKey,
    check_bundle,
    check_prekey,
    check_upload,
    encode_bundle,
    encode_prekey,
    encode_upload,
    parse_bundle,
    parse_prekey,
    parse_upload,
    sign_dh_prekey,
    sign_kem_prekey,
)


@pytest.fixture(scope="module")
def lee() -> Person:
    return make_person("lee")


def every_prekey(person: Person) -> list[SignedPreKey]:
    """One prekey of each kind."""
    upload = person.upload
    return [upload.signed, upload.one_time[0], upload.kem_one_time[0], upload.last_resort]


def sparse(length: int) -> list[int]:
    """Positions in a format of ``length`` bytes that holds long keys: all at the ends, some between."""
    return sorted({*range(min(60, length)), *range(max(0, length - 140), length), *range(0, length, 37)})


def test_a_prekey_comes_back_in_118_or_1654_bytes(lee: Person) -> None:
    for prekey in every_prekey(lee):
        raw = encode_prekey(prekey)
        assert len(raw) == (118 if isinstance(prekey, SignedDhPreKey) else 1654)
        assert parse_prekey(raw) == prekey


def test_every_mutant_of_a_prekey_is_refused_or_another_value(lee: Person) -> None:
    for prekey in every_prekey(lee):
        raw = encode_prekey(prekey)
        check_exact_format(raw, parse_prekey, encode_prekey, positions=sparse(len(raw)))


def test_every_mutant_of_a_bundle_is_refused_or_another_value(lee: Person) -> None:
    for one_time in (True, False):
        raw = encode_bundle(lee.bundle(one_time=one_time))
        check_exact_format(raw, parse_bundle, encode_bundle, positions=sparse(len(raw)))


def test_every_mutant_of_an_upload_is_refused_or_another_value(lee: Person) -> None:
    raw = encode_upload(lee.upload)
    check_exact_format(raw, parse_upload, encode_upload, positions=sparse(len(raw)))


def test_no_mutant_of_a_prekey_passes_its_check(lee: Person) -> None:
    for prekey in every_prekey(lee):
        raw = encode_prekey(prekey)
        for at in sparse(len(raw)):
            try:
                mutant = parse_prekey(raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :])
            except WireError:
                continue
            with pytest.raises((InvalidSignatureError, StalePreKeyError)):
                check_prekey(mutant, lee.local.address, lee.peer.signing, NOW_MS)


def test_a_full_upload_has_178977_bytes_and_one_more_key_is_refused() -> None:
    local = make_person("lee").local
    _, upload = generate_pool(local, NOW_MS, RepeatableRandom("full"), one_time=100)
    raw = encode_upload(upload)
    assert len(raw) == 178_977
    assert parse_upload(raw) == upload
    check_upload(upload, local.address, local.signing.public, NOW_MS)
    extra = replace(upload.one_time[-1], id=upload.one_time[-1].id + 1)
    with pytest.raises(WireError, match="101 one-time prekeys"):
        encode_upload(replace(upload, one_time=(*upload.one_time, extra)))
    count_at = 1 + 118 + 1654
    with pytest.raises(WireError, match="101 one-time prekeys"):
        parse_upload(raw[:count_at] + b"\x00\x65" + raw[count_at + 2 :])


@pytest.mark.parametrize(
    ("age_ms", "life_ms"),
    [(0, 1), (30 * DAY_MS, 31 * DAY_MS), (-DAY_MS, 0), (7 * DAY_MS, 7 * DAY_MS + 1)],
)
def test_a_prekey_in_date_is_accepted(lee: Person, age_ms: int, life_ms: int) -> None:
    prekey = dated(lee, NOW_MS - age_ms, NOW_MS - age_ms + life_ms)
    check_prekey(prekey, lee.local.address, lee.peer.signing, NOW_MS)


@pytest.mark.parametrize(
    ("age_ms", "life_ms", "reason"),
    [
        (0, 0, "expired"),
        (5, 4, "expired"),
        (30 * DAY_MS + 1, 365 * DAY_MS, "older than 30 days"),
        (-DAY_MS - 1, 30 * DAY_MS, "ahead"),
    ],
)
def test_a_prekey_out_of_date_is_refused_in_spite_of_its_signature(
    lee: Person, age_ms: int, life_ms: int, reason: str
) -> None:
    prekey = dated(lee, NOW_MS - age_ms, NOW_MS - age_ms + life_ms)
    with pytest.raises(StalePreKeyError, match=reason):
        check_prekey(prekey, lee.local.address, lee.peer.signing, NOW_MS)


def dated(person: Person, created_ms: int, expires_ms: int) -> SignedDhPreKey:
    """A signed prekey of ``person`` with these dates."""
    return sign_dh_prekey(
        person.local.signing,
        person.local.address,
        kind=PreKeyKind.SIGNED,
        key_id=1,
        public=DhPublicKey(b"\x09" + bytes(31)),
        created_ms=created_ms,
        expires_ms=expires_ms,
    )


SWAPS: dict[str, Callable[[Person], SignedPreKey]] = {
    "kind": lambda p: replace(p.upload.signed, kind=PreKeyKind.ONE_TIME),
    "kem kind": lambda p: replace(p.upload.last_resort, kind=PreKeyKind.KEM_ONE_TIME),
    "id": lambda p: replace(p.upload.signed, id=p.upload.signed.id + 1),
    "id of another": lambda p: replace(p.upload.one_time[0], id=p.upload.one_time[1].id),
    "key of another": lambda p: replace(p.upload.one_time[0], public=p.upload.one_time[1].public),
    "signature of another": lambda p: replace(p.upload.signed, signature=p.upload.one_time[0].signature),
    "created": lambda p: replace(p.upload.signed, created_ms=p.upload.signed.created_ms + 1),
    "expiry": lambda p: replace(p.upload.signed, expires_ms=p.upload.signed.expires_ms + 1),
    "short signature": lambda p: replace(p.upload.signed, signature=bytes(63)),
}


@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS)
def test_whatever_is_swapped_breaks_the_signature(
    lee: Person, swap: Callable[[Person], SignedPreKey]
) -> None:
    with pytest.raises(InvalidSignatureError):
        check_prekey(swap(lee), lee.local.address, lee.peer.signing, NOW_MS)


def test_a_prekey_is_its_owners_alone(lee: Person) -> None:
    other_user = ProtocolAddress(user_id("pat"), lee.local.address.device)
    other_device = ProtocolAddress(lee.local.address.user, device_id(2))
    for address in (other_user, other_device):
        with pytest.raises(InvalidSignatureError):
            check_prekey(lee.upload.signed, address, lee.peer.signing, NOW_MS)
    with pytest.raises(InvalidSignatureError):
        check_prekey(lee.upload.signed, lee.local.address, make_person("pat").peer.signing, NOW_MS)


def test_a_kind_that_does_not_fit_the_key_is_refused_everywhere(lee: Person) -> None:
    wrong_dh = replace(lee.upload.signed, kind=PreKeyKind.KEM_ONE_TIME)
    wrong_kem = replace(lee.upload.last_resort, kind=PreKeyKind.SIGNED)
    for prekey in (wrong_dh, wrong_kem):
        with pytest.raises(WireError):
            encode_prekey(prekey)
        with pytest.raises(WireError):
            check_prekey(prekey, lee.local.address, lee.peer.signing, NOW_MS)
    dates = {"created_ms": 0, "expires_ms": 1}
    dh, kem = lee.upload.signed.public, lee.upload.last_resort.public
    with pytest.raises(WireError):
        sign_dh_prekey(
            lee.local.signing, lee.local.address, kind=PreKeyKind.KEM_ONE_TIME, key_id=1, public=dh, **dates
        )
    with pytest.raises(WireError):
        sign_kem_prekey(
            lee.local.signing, lee.local.address, kind=PreKeyKind.SIGNED, key_id=1, public=kem, **dates
        )


def test_prekeys_in_each_others_places_are_refused(lee: Person) -> None:
    upload, bundle = lee.upload, lee.bundle()
    for misplaced in (
        replace(bundle, signed=upload.one_time[0]),
        replace(bundle, one_time=upload.signed),
    ):
        with pytest.raises(WireError):
            encode_bundle(misplaced)
        with pytest.raises(WireError):
            check_bundle(misplaced, lee.local.address, lee.peer.signing, NOW_MS)
    for wrong in (
        replace(upload, signed=upload.one_time[0]),
        replace(upload, last_resort=upload.kem_one_time[0]),
        replace(upload, one_time=(upload.signed,)),
        replace(upload, kem_one_time=(upload.last_resort,)),
        replace(upload, one_time=tuple(reversed(upload.one_time))),
        replace(upload, kem_one_time=(upload.kem_one_time[0],) * 2),
    ):
        with pytest.raises(WireError):
            encode_upload(wrong)


def test_misplaced_prekeys_are_refused_by_the_parsers_too(lee: Person) -> None:
    signed, one_time = encode_prekey(lee.upload.signed), encode_prekey(lee.upload.one_time[0])
    bundle, upload = encode_bundle(lee.bundle()), encode_upload(lee.upload)
    for raw, parse in ((bundle, parse_bundle), (upload, parse_upload)):
        assert raw.count(signed) == 1
        with pytest.raises(WireError):
            parse(raw.replace(signed, one_time))
        with pytest.raises(WireError):
            parse(raw.replace(signed, encode_prekey(lee.upload.last_resort)))
        with pytest.raises(WireError):
            parse(raw.replace(one_time, signed))


def test_a_bundle_for_another_address_is_refused(lee: Person) -> None:
    with pytest.raises(InvalidSignatureError, match="another device"):
        check_bundle(lee.bundle(), make_person("pat").local.address, lee.peer.signing, NOW_MS)


def test_each_prekey_of_a_bundle_is_checked(lee: Person) -> None:
    bundle = lee.bundle()
    check_bundle(bundle, lee.local.address, lee.peer.signing, NOW_MS)
    assert bundle.one_time is not None
    for forged in (
        replace(bundle, signed=replace(bundle.signed, signature=bytes(64))),
        replace(bundle, kem=replace(bundle.kem, signature=bytes(64))),
        replace(bundle, one_time=replace(bundle.one_time, signature=bytes(64))),
    ):
        with pytest.raises(InvalidSignatureError):
            check_bundle(forged, lee.local.address, lee.peer.signing, NOW_MS)


def test_each_prekey_of_an_upload_is_checked(lee: Person) -> None:
    upload = lee.upload
    check_upload(upload, lee.local.address, lee.peer.signing, NOW_MS)
    bad = bytes(64)
    forged: list[PreKeyUpload] = [
        replace(upload, signed=replace(upload.signed, signature=bad)),
        replace(upload, last_resort=replace(upload.last_resort, signature=bad)),
        replace(upload, one_time=(upload.one_time[0], replace(upload.one_time[1], signature=bad))),
        replace(
            upload, kem_one_time=(upload.kem_one_time[0], replace(upload.kem_one_time[1], signature=bad))
        ),
    ]
    for wrong in forged:
        with pytest.raises(InvalidSignatureError):
            check_upload(wrong, lee.local.address, lee.peer.signing, NOW_MS)


def test_a_malformed_kem_key_in_an_upload_is_refused_though_it_is_signed(lee: Person) -> None:
    malformed = sign_kem_prekey(
        lee.local.signing,
        lee.local.address,
        kind=PreKeyKind.KEM_LAST_RESORT,
        key_id=lee.upload.last_resort.id,
        public=KemPublicKey(KemKind.ML_KEM_1024, b"\xff" * 1568),
        created_ms=NOW_MS,
        expires_ms=NOW_MS + DAY_MS,
    )
    with pytest.raises(WeakPublicKeyError):
        check_upload(replace(lee.upload, last_resort=malformed), lee.local.address, lee.peer.signing, NOW_MS)


def test_a_key_of_the_smaller_parameter_set_is_not_written(lee: Person) -> None:
    small = KemKeyPair.generate(KemKind.ML_KEM_768, RepeatableRandom("small")).public
    with pytest.raises(WireError):
        encode_prekey(replace(lee.upload.last_resort, public=small))


@given(
    st.sampled_from([PreKeyKind.SIGNED, PreKeyKind.ONE_TIME]),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=32, max_size=32).map(lambda raw: raw[:31] + bytes([raw[31] & 0x3F])),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=64, max_size=64),
)
def test_any_prekey_comes_back(
    kind: PreKeyKind, key_id: int, key: bytes, created_ms: int, expires_ms: int, signature: bytes
) -> None:
    prekey = SignedDhPreKey(kind, key_id, DhPublicKey(key), created_ms, expires_ms, signature)
    assert parse_prekey(encode_prekey(prekey)) == prekey


@given(st.binary(max_size=200))
def test_random_bytes_are_never_more_than_malformed(raw: bytes) -> None:
    for parse in (parse_prekey, parse_bundle, parse_upload):
        with pytest.raises(WireError):
            parse(raw)


def test_a_non_canonical_key_in_a_prekey_is_malformed(lee: Person) -> None:
    raw = encode_prekey(lee.upload.signed)
    with pytest.raises(WireError, match="canonical"):
        parse_prekey(raw[:22] + b"\xff" * 32 + raw[54:])


def test_the_public_halves_are_those_of_the_pool(lee: Person) -> None:
    assert DhKeyPair.from_private(lee.pool.signed.private).public == lee.upload.signed.public
