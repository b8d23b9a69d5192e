"""Accounts and devices as a client checks them."""

from dataclasses import replace

import pytest
from support.identities import NOW_MS, Person, RepeatableRandom, make_person
from support.mutation import check_exact_format

from securechat.crypto.keys import SigningKeyPair
from securechat.errors import (
    CryptoError,
    DeviceListError,
    IdentityChangedError,
    InvalidSignatureError,
    WireError,
)
from securechat.ids import ProtocolAddress, device_id, user_id
from securechat.protocol.devices import (
    create_account,
    create_device,
    encode_account_keys,
    encode_local_device,
    next_device_list,
    parse_account_keys,
    parse_local_device,
    verified_devices,
)
from securechat.wire.devices import SignedDeviceList, parse_signed_device_list, sign_device_list

PAT = user_id("pat")
DRAW = RepeatableRandom("devices")


@pytest.fixture(scope="module")
def pat() -> Person:
    return make_person("pat")


@pytest.fixture(scope="module")
def lists(pat: Person) -> list[SignedDeviceList]:
    """Versions 1 to 4 of pat's list, each with one device more."""
    grown = [pat.device_list]
    for number in range(2, 5):
        address = ProtocolAddress(PAT, device_id(number))
        record = create_device(address, pat.local.account, NOW_MS, DRAW)[1]
        grown.append(next_device_list(pat.account, grown[-1], [*grown[-1].value.devices, record], NOW_MS))
    return grown


def devices(
    signed: SignedDeviceList, *, pinned: Person | None = None, last_seen: SignedDeviceList | None = None
) -> list[int]:
    """The device ids that a client would accept for pat."""
    pin = None if pinned is None else pinned.local.account
    peers = verified_devices(signed, user=PAT, pinned_account=pin, last_seen=last_seen)
    return [peer.address.device for peer in peers]


def test_a_new_account_has_one_device_that_everybody_can_check(pat: Person) -> None:
    parsed = parse_signed_device_list(pat.device_list.encode())
    [peer] = verified_devices(parsed, user=PAT, pinned_account=None, last_seen=None)
    assert peer == pat.peer
    assert (parsed.value.version, parsed.value.previous_hash) == (1, bytes(32))


def test_an_account_is_repeatable_from_its_randomness() -> None:
    one, other = (create_account(PAT, device_id(1), NOW_MS, RepeatableRandom("x")) for _ in range(2))
    assert one == other
    assert one != create_account(PAT, device_id(1), NOW_MS, RepeatableRandom("y"))


def test_later_lists_are_accepted_also_past_lists_never_seen(
    pat: Person, lists: list[SignedDeviceList]
) -> None:
    assert devices(lists[0], pinned=pat) == [1]
    assert devices(lists[1], pinned=pat, last_seen=lists[0]) == [1, 2]
    assert devices(lists[3], pinned=pat, last_seen=lists[0]) == [1, 2, 3, 4]
    assert devices(lists[3], pinned=pat, last_seen=lists[3]) == [1, 2, 3, 4]


def test_a_list_rolled_back_is_refused(pat: Person, lists: list[SignedDeviceList]) -> None:
    for old in lists[:3]:
        with pytest.raises(DeviceListError, match="not later"):
            devices(old, pinned=pat, last_seen=lists[3])


def test_a_forked_list_is_refused(pat: Person, lists: list[SignedDeviceList]) -> None:
    fork = next_device_list(pat.account, lists[0], lists[0].value.devices, NOW_MS + 1)
    with pytest.raises(DeviceListError, match="not later"):
        devices(fork, pinned=pat, last_seen=lists[1])
    after_fork = next_device_list(pat.account, fork, fork.value.devices, NOW_MS)
    with pytest.raises(DeviceListError, match="does not continue"):
        devices(after_fork, pinned=pat, last_seen=lists[1])


def test_a_device_that_changes_its_keys_is_refused_even_past_a_gap(
    pat: Person, lists: list[SignedDeviceList]
) -> None:
    address = ProtocolAddress(PAT, device_id(2))
    replaced = create_device(address, pat.local.account, NOW_MS, DRAW)[1]
    kept = lists[3].value.devices[0]
    forged = next_device_list(pat.account, lists[3], [kept, replaced], NOW_MS)
    with pytest.raises(DeviceListError, match="changed its keys"):
        devices(forged, pinned=pat, last_seen=lists[1])


def test_a_device_may_leave(pat: Person, lists: list[SignedDeviceList]) -> None:
    fewer = next_device_list(pat.account, lists[3], lists[3].value.devices[1:], NOW_MS)
    assert devices(fewer, pinned=pat, last_seen=lists[3]) == [2, 3, 4]


def test_the_servers_own_device_cannot_join(pat: Person, lists: list[SignedDeviceList]) -> None:
    server = SigningKeyPair.generate(DRAW)
    address = ProtocolAddress(PAT, device_id(9))
    ghost = create_device(address, pat.local.account, NOW_MS, DRAW)[1]
    value = replace(lists[0].value, version=2, previous_hash=lists[0].hash())
    value = replace(value, devices=(*lists[0].value.devices, ghost))
    with pytest.raises(InvalidSignatureError):
        devices(sign_device_list(value, server), pinned=pat, last_seen=lists[0])
    resigned = replace(lists[0], body=sign_device_list(value, server).body, value=value)
    with pytest.raises(InvalidSignatureError):
        devices(resigned, pinned=pat, last_seen=lists[0])


def test_another_account_key_is_a_change_of_identity(pat: Person, lists: list[SignedDeviceList]) -> None:
    impostor = make_person("pat", random_bytes=RepeatableRandom("impostor"))
    with pytest.raises(IdentityChangedError):
        devices(impostor.device_list, pinned=pat)
    with pytest.raises(IdentityChangedError):
        devices(impostor.device_list, last_seen=lists[3])
    assert devices(impostor.device_list) == [1]


def test_a_forged_list_is_not_reported_as_a_change_of_identity(pat: Person) -> None:
    impostor = make_person("pat", random_bytes=RepeatableRandom("impostor"))
    with pytest.raises(InvalidSignatureError):
        devices(replace(impostor.device_list, signature=bytes(64)), pinned=pat)


def test_another_users_list_is_refused_though_it_is_sound() -> None:
    with pytest.raises(DeviceListError, match="another user"):
        devices(make_person("lee").device_list)


def test_secret_forms_come_back_and_obey_the_law(pat: Person) -> None:
    account, local = encode_account_keys(pat.account), encode_local_device(pat.local)
    assert parse_account_keys(account) == pat.account
    assert parse_local_device(local) == pat.local
    check_exact_format(account, parse_account_keys, encode_account_keys)
    check_exact_format(local, parse_local_device, encode_local_device)
    with pytest.raises(WireError):
        parse_local_device(account)


def test_reprs_show_no_secret(pat: Person) -> None:
    shown = repr(pat.account) + repr(pat.local)
    for secret in (pat.account.signing.seed, pat.local.signing.expanded, pat.local.agreement.private):
        assert repr(secret.reveal())[2:-1] not in shown


def test_errors_of_lists_name_no_user(lists: list[SignedDeviceList]) -> None:
    for signed in (make_person("lee").device_list, replace(lists[0], signature=bytes(64))):
        with pytest.raises((DeviceListError, CryptoError)) as caught:
            devices(signed)
        assert "lee" not in str(caught.value)
        assert "pat" not in str(caught.value)
