"""Device lists: their format, their signatures, and what may follow what."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from support.identities import NOW_MS, Person, RepeatableRandom, make_person
from support.mutation import check_exact_format

from securechat.crypto.keys import DhPublicKey, SigningKeyPair, VerifyKey
from securechat.errors import CryptoError, DeviceListError, InvalidSignatureError, WireError
from securechat.ids import ProtocolAddress, device_id, user_id
from securechat.protocol.devices import create_device, next_device_list
from securechat.wire.devices import (
    RECORD_BYTES,
    DeviceList,
    DeviceRecord,
    SignedDeviceList,
    check_device_list,
    check_successor,
    parse_signed_device_list,
    sign_device_list,
)

DRAW = RepeatableRandom("device lists")


def device_of(person: Person, number: int) -> DeviceRecord:
    """A further device of ``person``."""
    address = ProtocolAddress(person.local.address.user, device_id(number))
    return create_device(address, person.local.account, NOW_MS, DRAW)[1]


def list_of(person: Person, *numbers: int) -> SignedDeviceList:
    """Version 2 of ``person``'s list with further devices."""
    more = [device_of(person, number) for number in numbers]
    return next_device_list(
        person.account, person.device_list, [*person.device_list.value.devices, *more], NOW_MS
    )


@pytest.fixture(scope="module")
def pat() -> Person:
    return make_person("pat")


def test_lists_of_one_to_eight_devices_come_back_and_hold(pat: Person) -> None:
    for count in range(8):
        signed = list_of(pat, *range(2, 2 + count))
        parsed = parse_signed_device_list(signed.encode())
        assert parsed == signed
        check_device_list(parsed)
        check_successor(pat.device_list, parsed)


def test_every_mutant_is_refused_or_another_value(pat: Person) -> None:
    check_exact_format(list_of(pat, 2).encode(), parse_signed_device_list, SignedDeviceList.encode)


def test_no_mutant_passes_the_signature_check(pat: Person) -> None:
    raw = list_of(pat, 2).encode()
    for at in range(len(raw)):
        try:
            parsed = parse_signed_device_list(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        except WireError:
            continue
        with pytest.raises(CryptoError):
            check_device_list(parsed)


def test_nine_devices_are_refused_on_both_sides(pat: Person) -> None:
    with pytest.raises(WireError, match="1 to 8 devices, not 9"):
        list_of(pat, *range(2, 10))
    signed = list_of(pat, *range(2, 9))
    count_at = len(signed.body) - 8 * RECORD_BYTES - 1
    assert signed.body[count_at] == 8
    nine = signed.body[:count_at] + b"\x09" + signed.body[count_at + 1 :]
    with pytest.raises(WireError, match="9 devices are more than 8"):
        parse_signed_device_list(replace(signed, body=nine).encode())


def test_no_device_is_refused(pat: Person) -> None:
    with pytest.raises(WireError, match="not 0"):
        next_device_list(pat.account, pat.device_list, [], NOW_MS)


def test_devices_out_of_order_or_twice_are_refused(pat: Person) -> None:
    [first] = pat.device_list.value.devices
    second = device_of(pat, 2)
    for devices in ((second, first), (first, first)):
        with pytest.raises(WireError, match="order"):
            sign_device_list(replace(pat.device_list.value, devices=devices), pat.account.signing)


@pytest.mark.parametrize(
    ("version", "previous"), [(0, bytes(32)), (0, b"\x01" * 32), (1, b"\x01" * 32), (2, bytes(32))]
)
def test_only_version_one_follows_no_list(pat: Person, version: int, previous: bytes) -> None:
    value = replace(pat.device_list.value, version=version, previous_hash=previous)
    with pytest.raises(WireError, match="version 1"):
        sign_device_list(value, pat.account.signing)


def test_a_list_signed_by_another_account_key_is_refused(pat: Person) -> None:
    thief = SigningKeyPair.generate(DRAW)
    with pytest.raises(InvalidSignatureError):
        check_device_list(sign_device_list(pat.device_list.value, thief))


def test_a_device_that_another_account_claims_is_refused(pat: Person) -> None:
    lee = make_person("lee")
    [stolen] = pat.device_list.value.devices
    value = replace(lee.device_list.value, devices=(stolen,))
    with pytest.raises(InvalidSignatureError):
        check_device_list(sign_device_list(value, lee.account.signing))


def test_a_device_claimed_under_another_user_or_id_is_refused(pat: Person) -> None:
    [record] = pat.device_list.value.devices
    renamed = replace(pat.device_list.value, user=user_id("lee"))
    renumbered = replace(pat.device_list.value, devices=(replace(record, device=device_id(2)),))
    for value in (renamed, renumbered):
        with pytest.raises(InvalidSignatureError):
            check_device_list(sign_device_list(value, pat.account.signing))


def test_a_device_whose_agreement_key_was_swapped_is_refused(pat: Person) -> None:
    [record] = pat.device_list.value.devices
    swapped = replace(record, agreement=DhPublicKey(b"\x09" + bytes(31)))
    value = replace(pat.device_list.value, devices=(swapped,))
    with pytest.raises(InvalidSignatureError):
        check_device_list(sign_device_list(value, pat.account.signing))


@pytest.mark.parametrize("shared", ["signing", "agreement"])
def test_two_devices_with_one_key_are_refused(pat: Person, shared: str) -> None:
    address = ProtocolAddress(user_id("pat"), device_id(2))
    local, record = create_device(address, pat.local.account, NOW_MS, DRAW)
    fresh = RepeatableRandom("twin")
    own_keys = {
        "signing": [local.signing.seed.reveal(), fresh(32)],
        "agreement": [fresh(32), local.agreement.private.reveal()],
    }
    keys = iter(own_keys[shared])
    address = ProtocolAddress(user_id("pat"), device_id(3))
    _, twin = create_device(address, pat.local.account, NOW_MS, lambda _: next(keys))
    signed = next_device_list(pat.account, pat.device_list, [record, twin], NOW_MS)
    with pytest.raises(DeviceListError, match="two places"):
        check_device_list(signed)


def test_the_account_key_is_no_devices_key(pat: Person) -> None:
    keys = iter([pat.account.signing.seed.reveal(), DRAW(32)])
    address = ProtocolAddress(user_id("pat"), device_id(2))
    _, record = create_device(address, pat.local.account, NOW_MS, lambda _: next(keys))
    with pytest.raises(DeviceListError, match="two places"):
        check_device_list(next_device_list(pat.account, pat.device_list, [record], NOW_MS))


Change = Callable[[Person, DeviceList], DeviceList]
NOT_SUCCESSORS: dict[str, Change] = {
    "the same version": lambda pat, value: replace(value, version=1, previous_hash=bytes(32)),
    "a version skipped": lambda pat, value: replace(value, version=3),
    "another history": lambda pat, value: replace(value, previous_hash=b"\x01" * 32),
    "another user": lambda pat, value: replace(value, user=user_id("lee")),
    "another account key": lambda pat, value: replace(value, account=VerifyKey(b"\x02" * 32)),
    "other keys under an id": lambda pat, value: replace(value, devices=(device_of(pat, 1),)),
}


@pytest.mark.parametrize("change", NOT_SUCCESSORS.values(), ids=NOT_SUCCESSORS)
def test_what_does_not_follow_is_refused(pat: Person, change: Change) -> None:
    following = next_device_list(pat.account, pat.device_list, pat.device_list.value.devices, NOW_MS)
    check_successor(pat.device_list, following)
    with pytest.raises(DeviceListError):
        check_successor(pat.device_list, sign_device_list(change(pat, following.value), pat.account.signing))


def test_the_hash_names_the_body_alone(pat: Person) -> None:
    other = replace(pat.device_list, signature=bytes(64))
    assert other.hash() == pat.device_list.hash()
    assert list_of(pat, 2).hash() != pat.device_list.hash()
