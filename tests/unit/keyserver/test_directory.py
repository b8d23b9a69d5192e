"""The directory's rules: which list follows which, which prekeys are new, how many are kept."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.identities import NOW_MS, RepeatableRandom, make_person

from keyserver.directory import (
    LOW_WATER,
    MAX_STORED,
    HeldPreKeys,
    PreKeyCounts,
    StoredPreKey,
    judge_list,
    new_prekeys,
    stored_prekeys,
)
from keyserver.errors import DeviceListConflictError, PreKeyConflictError, PreKeyLimitError
from securechat.errors import DeviceListError
from securechat.ids import DeviceId, ProtocolAddress, device_id
from securechat.wire.devices import (
    NO_PREVIOUS,
    DeviceList,
    DeviceRecord,
    SignedDeviceList,
    sign_device_list,
    sign_device_record,
)
from securechat.wire.prekeys import DAY_MS, PreKeyKind

ANA = make_person("ana", one_time=3)
LAPTOP = make_person("ana-laptop", one_time=0)
NOTHING = HeldPreKeys({}, {}, {})
UPLOADED = stored_prekeys(ANA.upload)


def laptop(device: int = 2) -> DeviceRecord:
    return sign_device_record(
        ProtocolAddress(ANA.local.address.user, device_id(device)),
        ANA.account.signing.public,
        signing=LAPTOP.local.signing,
        agreement=LAPTOP.local.agreement.public,
        created_ms=NOW_MS,
    )


def follow(held: SignedDeviceList, *devices: DeviceRecord, **changes: object) -> SignedDeviceList:
    value = replace(held.value, version=held.value.version + 1, previous_hash=held.hash(), devices=devices)
    changed: DeviceList = replace(value, **changes)  # type: ignore[arg-type]  # a test's own shorthand
    return sign_device_list(changed, ANA.account.signing)


FIRST = ANA.device_list
PHONE = FIRST.value.devices[0]
SECOND = follow(FIRST, PHONE, laptop())


def test_a_first_list_makes_the_account() -> None:
    change = judge_list(None, FIRST, NOW_MS)
    assert (change.first, change.same, change.removed) == (True, False, ())
    assert [record.device for record in change.added] == [1]


def test_the_held_list_again_changes_nothing() -> None:
    change = judge_list(FIRST, FIRST, NOW_MS + 400 * DAY_MS)
    assert (change.same, change.first, change.added, change.removed) == (True, False, (), ())


def test_the_next_list_tells_who_came_and_who_went() -> None:
    change = judge_list(FIRST, SECOND, NOW_MS)
    assert ([record.device for record in change.added], change.removed) == ([2], ())
    third = follow(SECOND, laptop())
    assert judge_list(SECOND, third, NOW_MS).removed == (PHONE.device,)


def test_a_first_list_of_a_later_version_is_a_conflict() -> None:
    with pytest.raises(DeviceListConflictError):
        judge_list(None, SECOND, NOW_MS)


def test_an_older_a_skipped_and_a_forked_list_are_conflicts() -> None:
    third = follow(SECOND, PHONE)
    fork = follow(FIRST, PHONE, issued_ms=NOW_MS + 1)
    for held, new in ((SECOND, FIRST), (FIRST, third), (SECOND, follow(fork, PHONE)), (SECOND, fork)):
        with pytest.raises(DeviceListConflictError):
            judge_list(held, new, NOW_MS)


def test_another_account_key_cannot_take_an_account_over() -> None:
    thief = make_person("ana", random_bytes=RepeatableRandom("thief"), one_time=0)
    with pytest.raises(DeviceListConflictError):
        judge_list(FIRST, thief.device_list, NOW_MS)
    value = replace(thief.device_list.value, version=2, previous_hash=FIRST.hash(), issued_ms=NOW_MS)
    with pytest.raises(DeviceListError) as caught:
        judge_list(FIRST, sign_device_list(value, thief.account.signing), NOW_MS)
    assert not isinstance(caught.value, DeviceListConflictError)


def test_a_device_id_cannot_change_its_keys() -> None:
    with pytest.raises(DeviceListError):
        judge_list(FIRST, follow(FIRST, laptop(device=1)), NOW_MS)


def test_a_list_dated_more_than_a_day_ahead_is_refused() -> None:
    judge_list(FIRST, follow(FIRST, PHONE, issued_ms=NOW_MS + DAY_MS), NOW_MS)
    with pytest.raises(DeviceListError):
        judge_list(FIRST, follow(FIRST, PHONE, issued_ms=NOW_MS + DAY_MS + 1), NOW_MS)


def test_no_previous_list_is_32_zero_bytes() -> None:
    assert FIRST.value.previous_hash == NO_PREVIOUS


def held_after(prekeys: tuple[StoredPreKey, ...], *, counts: Mapping[PreKeyKind, int]) -> HeldPreKeys:
    return HeldPreKeys(
        digests={prekey.name: prekey.digest for prekey in prekeys},
        lasting={prekey.kind: prekey.created_ms for prekey in prekeys[:2]},
        counts=counts,
    )


def test_a_first_upload_is_new_in_every_part() -> None:
    assert new_prekeys(UPLOADED, NOTHING) == UPLOADED
    assert [prekey.kind.value for prekey in UPLOADED] == [1, 4, 2, 2, 2, 3, 3, 3]


def test_the_same_upload_again_is_new_in_no_part_even_if_its_prekeys_were_handed_out() -> None:
    assert new_prekeys(UPLOADED, held_after(UPLOADED, counts={})) == ()


def test_another_key_under_an_old_id_is_a_conflict() -> None:
    held = held_after(UPLOADED, counts={})
    for index in range(len(UPLOADED)):
        changed = replace(UPLOADED[index], digest=b"\0" * 32)
        with pytest.raises(PreKeyConflictError):
            new_prekeys((*UPLOADED[:index], changed, *UPLOADED[index + 1 :]), held)


@pytest.mark.parametrize("kind", [PreKeyKind.SIGNED, PreKeyKind.KEM_LAST_RESORT])
def test_a_lasting_prekey_gives_way_to_a_newer_one_only(kind: PreKeyKind) -> None:
    held = held_after(UPLOADED, counts={})
    old = next(prekey for prekey in UPLOADED if prekey.kind is kind)
    newer = replace(old, id=1000, digest=b"\1" * 32, created_ms=old.created_ms + 1)
    assert new_prekeys((newer,), held) == (newer,)
    with pytest.raises(PreKeyConflictError):
        new_prekeys((replace(newer, created_ms=old.created_ms - 1),), held)


@pytest.mark.parametrize("kind", [PreKeyKind.ONE_TIME, PreKeyKind.KEM_ONE_TIME])
def test_no_more_than_200_one_time_prekeys_of_a_kind_are_kept(kind: PreKeyKind) -> None:
    room = len([prekey for prekey in UPLOADED if prekey.kind is kind])
    fits = HeldPreKeys({}, {}, {kind: MAX_STORED - room})
    assert new_prekeys(UPLOADED, fits) == UPLOADED
    with pytest.raises(PreKeyLimitError):
        new_prekeys(UPLOADED, HeldPreKeys({}, {}, {kind: MAX_STORED - room + 1}))


@given(st.integers(0, MAX_STORED), st.integers(0, MAX_STORED))
def test_a_device_is_low_as_soon_as_one_kind_is(one_time: int, kem: int) -> None:
    assert PreKeyCounts(one_time, kem).low == (one_time < LOW_WATER or kem < LOW_WATER)


def test_device_ids_stay_typed() -> None:
    change = judge_list(FIRST, SECOND, NOW_MS)
    ids: list[DeviceId] = [record.device for record in change.added]
    assert ids == [2]
