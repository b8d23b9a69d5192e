"""What the key server promises of its storage, on every way in which works are run.

``once`` runs each work as the server does; ``again`` runs it, undoes it and runs it again, as a database may.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.identities import NOW_MS, make_person
from support.key_storage import ANA, FOLDER, LEE, Server, TwiceDatabase, event, fresh_upload, next_list
from support.server_parts import ORG, HandClock, Journal

from audit.catalogue import EventType
from keyserver.directory import CLAIM_LIFETIME_MS, LOW_WATER, MAX_STORED, PreKeyCounts
from keyserver.errors import (
    DeviceListConflictError,
    NoPreKeysError,
    PreKeyConflictError,
    PreKeyLimitError,
    UnknownDeviceError,
    UnknownUserError,
)
from securechat.authz.model import AccountStatus
from securechat.errors import DeviceListError, InvalidSignatureError, StalePreKeyError, StoreError
from securechat.ids import ProtocolAddress, device_id, user_id
from securechat.sql.engine import open_database
from securechat.sql.migrate import migrate
from securechat.web.errors import IdempotencyMismatchError
from securechat.wire.devices import sign_device_list
from securechat.wire.prekeys import (
    DAY_MS,
    PreKeyKind,
    check_bundle,
    parse_bundle,
    sign_dh_prekey,
)


@pytest.fixture(params=["once", "again"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    journal, clock = Journal(), HandClock()
    database = open_database(f"sqlite:///{tmp_path / 'server.db'}", before_commit=journal)
    if request.param == "again":
        database.__class__ = TwiceDatabase
    migrate(database.engine, [FOLDER])
    yield Server(database, journal, clock)
    await database.close()


@pytest.fixture
async def ana(server: Server) -> Server:
    """A server where Ana has published 50 one-time prekeys of each kind."""
    await server.enroll(ANA.device_list)
    await server.publish(ANA)
    return server


async def test_a_first_list_makes_an_account_with_the_token_s_organisation_and_roles(
    server: Server,
) -> None:
    assert await server.accounts.account(user_id("ana")) is None
    await server.enroll(ANA.device_list, "patient")
    info = await server.accounts.account(user_id("ana"))
    assert info is not None
    assert (info.org, info.status) == (ORG, AccountStatus.ACTIVE)
    assert info.roles == {"patient"}
    assert await server.accounts.devices(user_id("ana")) == (1,)
    device = await server.accounts.device(ANA.local.address)
    assert device is not None
    assert device.signing == ANA.local.signing.public
    assert await server.service.device_list(user_id("ana")) == ANA.device_list.encode()


async def test_an_unknown_user_and_an_unknown_device_are_told_apart(ana: Server) -> None:
    with pytest.raises(UnknownUserError):
        await ana.service.device_list(user_id("nobody"))
    with pytest.raises(UnknownUserError):
        await ana.claim(ProtocolAddress(user_id("nobody"), device_id(1)))
    with pytest.raises(UnknownDeviceError):
        await ana.claim(ProtocolAddress(user_id("ana"), device_id(2)))
    assert await ana.accounts.device(ProtocolAddress(user_id("ana"), device_id(2))) is None
    assert await ana.accounts.devices(user_id("nobody")) == ()


async def test_of_two_lists_that_both_continue_the_held_one_the_first_wins(ana: Server) -> None:
    laptop, tablet = make_person("laptop", one_time=0), make_person("tablet", one_time=0)
    lists = [next_list(ANA.device_list, ANA, (2, laptop)), next_list(ANA.device_list, ANA, (3, tablet))]
    plans = [await ana.service.plan(new) for new in lists]
    claimed = ana.app.verifier.verify(ana.app.token("ana", "patient"))
    results = await asyncio.gather(
        *(ana.service.enroll(plan, claimed, (event(EventType.DEVICE_ENROLL),)) for plan in plans),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), DeviceListConflictError]
    assert await ana.service.device_list(user_id("ana")) == lists[0].encode()
    assert await ana.accounts.devices(user_id("ana")) == (1, 2)
    assert ana.told(EventType.DEVICE_ENROLL) == 2


async def test_a_removed_device_loses_its_prekeys_and_everybody_hears_of_it(server: Server) -> None:
    laptop = make_person("laptop", one_time=0)
    second = next_list(ANA.device_list, ANA, (2, laptop))
    await server.enroll(ANA.device_list)
    await server.enroll(second)
    assert await server.accounts.devices(user_id("ana")) == (1, 2)
    await server.publish(ANA)
    without = replace(second.value, version=3, previous_hash=second.hash(), devices=second.value.devices[1:])
    third = sign_device_list(without, ANA.account.signing)
    await server.enroll(third)
    assert server.heard.ended == [(user_id("ana"), 1)]
    assert await server.accounts.device(ANA.local.address) is None
    assert await server.rows("prekeys") == 0
    with pytest.raises(UnknownDeviceError):
        await server.publish(ANA)
    with pytest.raises(UnknownDeviceError):
        await server.claim()


async def test_a_removed_device_id_never_stands_for_other_keys(server: Server) -> None:
    laptop, other = make_person("laptop", one_time=0), make_person("other", one_time=0)
    second = next_list(ANA.device_list, ANA, (2, laptop))
    third = next_list(second, ANA)
    for each in (ANA.device_list, second, third):
        await server.enroll(each)
    with pytest.raises(DeviceListError):
        await server.enroll(next_list(third, ANA, (2, other)))
    await server.enroll(next_list(third, ANA, (2, laptop)))
    assert await server.accounts.devices(user_id("ana")) == (1, 2)


async def test_a_bundle_is_whole_and_its_signatures_hold(ana: Server) -> None:
    handed_out = await ana.claim()
    assert handed_out.device_list == ANA.device_list.encode()
    bundle = parse_bundle(handed_out.bundle)
    check_bundle(bundle, ANA.local.address, ANA.local.signing.public, NOW_MS)
    assert bundle.kem.kind is PreKeyKind.KEM_ONE_TIME
    assert bundle.one_time is not None


async def test_64_claims_at_once_of_50_prekeys_hand_each_out_exactly_once(ana: Server) -> None:
    handed_out = await asyncio.gather(*(ana.claim() for _ in range(64)))
    bundles = [parse_bundle(each.bundle) for each in handed_out]
    for bundle in bundles:
        check_bundle(bundle, ANA.local.address, ANA.local.signing.public, NOW_MS)
    one_time = [bundle.one_time.id for bundle in bundles if bundle.one_time is not None]
    kem = [bundle.kem.id for bundle in bundles if bundle.kem.kind is PreKeyKind.KEM_ONE_TIME]
    assert sorted(one_time) == [each.id for each in ANA.upload.one_time]
    assert sorted(kem) == [each.id for each in ANA.upload.kem_one_time]
    last_resort = [bundle.kem.id for bundle in bundles if bundle.kem.kind is PreKeyKind.KEM_LAST_RESORT]
    assert last_resort == [ANA.upload.last_resort.id] * 14
    assert sum(bundle.one_time is None for bundle in bundles) == 14
    assert await ana.service.counts(ANA.local.address) == PreKeyCounts(0, 0)
    assert ana.told(EventType.PREKEY_FETCH) == 64


async def test_publishing_again_never_brings_a_prekey_back_that_was_handed_out(ana: Server) -> None:
    first = parse_bundle((await ana.claim()).bundle)
    assert await ana.publish(ANA) == PreKeyCounts(49, 49)
    rest = [parse_bundle((await ana.claim()).bundle) for _ in range(49)]
    ids = [bundle.one_time.id for bundle in (first, *rest) if bundle.one_time is not None]
    assert len(ids) == len(set(ids)) == 50


async def test_the_low_water_mark_is_told_once_when_it_is_passed(ana: Server) -> None:
    for left in range(50, LOW_WATER, -1):
        assert ana.told(EventType.PREKEY_LOW) == 0, left
        await ana.claim()
    assert not (await ana.service.counts(ANA.local.address)).low
    await ana.claim()
    await ana.claim()
    assert (await ana.service.counts(ANA.local.address)).low
    assert ana.told(EventType.PREKEY_LOW) == 1


async def test_the_same_key_gets_the_same_bundle_for_ten_minutes(ana: Server) -> None:
    first = await ana.claim(key="k-1")
    again = await asyncio.gather(*(ana.claim(key="k-1") for _ in range(8)))
    assert {each.bundle for each in again} == {first.bundle}
    assert (await ana.claim(key="k-2")).bundle != first.bundle
    assert await ana.service.counts(ANA.local.address) == PreKeyCounts(48, 48)
    ana.clock.now_ms += CLAIM_LIFETIME_MS - 1
    assert (await ana.claim(key="k-1")).bundle == first.bundle
    ana.clock.now_ms += 1
    assert (await ana.claim(key="k-1")).bundle != first.bundle


async def test_a_key_that_was_used_for_another_device_is_refused(ana: Server) -> None:
    await ana.claim(key="k-1")
    await ana.enroll(LEE.device_list)
    with pytest.raises(IdempotencyMismatchError):
        await ana.claim(LEE.local.address, key="k-1")


async def test_a_device_without_prekeys_has_no_bundle(server: Server) -> None:
    await server.enroll(ANA.device_list)
    with pytest.raises(NoPreKeysError):
        await server.claim()
    assert server.told(EventType.PREKEY_FETCH) == 0


async def test_prekeys_past_their_time_are_not_handed_out(ana: Server) -> None:
    ana.clock.now_ms = max(each.expires_ms for each in ANA.upload.one_time)
    with pytest.raises(NoPreKeysError):
        await ana.claim()


async def test_expired_prekeys_claims_and_ids_are_cleaned_up(ana: Server) -> None:
    await ana.claim(key="k-1")
    assert await ana.rows("claims") == 1
    ana.clock.now_ms += 31 * DAY_MS
    upload = fresh_upload(1, now_ms=ana.clock(), one_time=2)
    upload = replace(
        upload,
        signed=sign_dh_prekey(
            ANA.local.signing, ANA.local.address, kind=PreKeyKind.SIGNED, key_id=777,
            public=upload.signed.public, created_ms=ana.clock(), expires_ms=ana.clock() + DAY_MS,
        ),
    )  # fmt: skip
    await ana.publish(ANA, upload)
    await ana.claim(key="k-2")
    assert await ana.rows("claims") == 1
    assert await ana.rows("prekeys") == 3
    assert await ana.rows("prekey_ids") == 4


async def test_badly_signed_expired_and_foreign_prekeys_are_refused(ana: Server) -> None:
    forged = replace(ANA.upload, signed=replace(ANA.upload.signed, signature=b"\0" * 64))
    with pytest.raises(InvalidSignatureError):
        await ana.publish(ANA, forged)
    await ana.enroll(LEE.device_list)
    with pytest.raises(InvalidSignatureError):
        await ana.publish(LEE, ANA.upload)
    ana.clock.now_ms += 31 * DAY_MS
    with pytest.raises(StalePreKeyError):
        await ana.publish(ANA)
    assert ana.told(EventType.PREKEY_PUBLISH) == 1


async def test_another_key_under_an_old_id_is_refused_even_after_it_was_handed_out(ana: Server) -> None:
    taken = parse_bundle((await ana.claim()).bundle).one_time
    assert taken is not None
    other = sign_dh_prekey(
        ANA.local.signing,
        ANA.local.address,
        kind=PreKeyKind.ONE_TIME,
        key_id=taken.id,
        public=LEE.local.agreement.public,
        created_ms=NOW_MS,
        expires_ms=NOW_MS + DAY_MS,
    )
    with pytest.raises(PreKeyConflictError):
        await ana.publish(ANA, replace(ANA.upload, one_time=(other,)))
    assert await ana.service.counts(ANA.local.address) == PreKeyCounts(49, 49)


async def test_no_more_prekeys_are_kept_than_the_cap_and_an_upload_is_taken_whole_or_not_at_all(
    ana: Server,
) -> None:
    lasting = replace(
        fresh_upload(0, one_time=0), signed=ANA.upload.signed, last_resort=ANA.upload.last_resort
    )
    for number in range(2):
        upload = replace(lasting, one_time=fresh_upload(number, one_time=75).one_time)
        counts = await ana.publish(ANA, upload)
    assert counts == PreKeyCounts(MAX_STORED, 50)
    with pytest.raises(PreKeyLimitError):
        await ana.publish(ANA, replace(lasting, one_time=fresh_upload(2, one_time=1).one_time))
    assert await ana.service.counts(ANA.local.address) == PreKeyCounts(MAX_STORED, 50)


async def test_what_cannot_be_recorded_does_not_happen(ana: Server) -> None:
    ana.journal.broken = True
    with pytest.raises(StoreError):
        await ana.claim(key="k-1")
    with pytest.raises(StoreError):
        await ana.enroll(LEE.device_list)
    with pytest.raises(StoreError):
        await ana.publish(ANA, replace(ANA.upload, one_time=fresh_upload(1).one_time))
    ana.journal.broken = False
    assert await ana.service.counts(ANA.local.address) == PreKeyCounts(50, 50)
    assert await ana.accounts.account(user_id("lee")) is None
    assert await ana.rows("claims") == 0


async def test_a_newer_token_changes_the_roles_and_an_older_one_does_not(ana: Server) -> None:
    older = ana.app.verifier.verify(ana.app.token("ana", "nurse"))
    ana.clock.advance(10)
    newer = ana.app.verifier.verify(ana.app.token("ana", "clinician"))
    await ana.accounts.take_roles(newer)
    await ana.accounts.take_roles(older)
    info = await ana.accounts.account(user_id("ana"))
    assert info is not None
    assert info.roles == {"clinician"}
    assert (ana.told(EventType.ROLE_ASSIGN), ana.told(EventType.ROLE_REVOKE)) == (1, 1)


async def test_a_suspension_is_seen_at_once_and_everybody_hears_of_it(ana: Server) -> None:
    for status in (AccountStatus.SUSPENDED, AccountStatus.ACTIVE):
        await ana.accounts.set_status(user_id("ana"), status, event(EventType.USER_SUSPEND))
        info = await ana.accounts.account(user_id("ana"))
        assert info is not None
        assert info.status is status
    assert ana.heard.ended == [(user_id("ana"), None)]


async def test_the_cache_never_shows_an_account_as_it_was_before_a_change(ana: Server) -> None:
    async def look() -> AccountStatus:
        info = await ana.accounts.account(user_id("ana"))
        assert info is not None
        return info.status

    for round_ in range(20):
        ana.accounts.changed(user_id("ana"))
        status = AccountStatus.SUSPENDED if round_ % 2 == 0 else AccountStatus.ACTIVE
        looks = [asyncio.create_task(look()) for _ in range(4)]
        change = asyncio.create_task(
            ana.accounts.set_status(user_id("ana"), status, event(EventType.USER_SUSPEND))
        )
        looks += [asyncio.create_task(look()) for _ in range(4)]
        await asyncio.gather(change, *looks)
        assert await look() is status
