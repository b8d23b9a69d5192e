"""The key server as its clients see it: over HTTP, on a real database, with policies and audit log."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.identities import NOW_MS, RepeatableRandom, make_person
from support.key_server import KeyServer, running_key_server
from support.server_parts import HandClock, b64

from audit.catalogue import EventType
from audit.event import Actor, AuditEvent, Outcome, uuid7
from keyserver.handlers import ClaimLimits
from securechat.authz.model import AccountStatus
from securechat.base64url import decode_base64url
from securechat.ids import ProtocolAddress, device_id, user_id
from securechat.protocol.devices import verified_devices
from securechat.protocol.pqxdh import initiate
from securechat.web.rate_limits import RateLimit
from securechat.wire.devices import (
    DeviceRecord,
    SignedDeviceList,
    parse_signed_device_list,
    sign_device_list,
    sign_device_record,
)
from securechat.wire.prekeys import DAY_MS, PreKeyKind, parse_bundle

ANA = make_person("ana", one_time=50)
LEE = make_person("lee", one_time=5)
SAM = make_person("sam", one_time=5)
KIM = make_person("kim", one_time=5)
LAPTOP = make_person("ana", device=2, random_bytes=RepeatableRandom("laptop"), one_time=0)
WIDE = RateLimit("claims", burst=10_000, window_s=1)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[KeyServer]:
    async with running_key_server(tmp_path, HandClock()) as running:
        yield running


def laptop_record() -> DeviceRecord:
    return sign_device_record(
        LAPTOP.local.address,
        ANA.account.signing.public,
        signing=LAPTOP.local.signing,
        agreement=LAPTOP.local.agreement.public,
        created_ms=NOW_MS,
    )


def following(held: SignedDeviceList, *devices: DeviceRecord) -> SignedDeviceList:
    value = replace(held.value, version=held.value.version + 1, previous_hash=held.hash(), devices=devices)
    return sign_device_list(value, ANA.account.signing)


async def test_a_clinician_fetches_a_patient_s_keys_and_starts_a_session(server: KeyServer) -> None:
    await server.join(ANA, "patient")
    lee = await server.join(LEE, "clinician")
    listed = await server.call("GET", "/v1/users/ana/devices", authorization=lee)
    signed = parse_signed_device_list(decode_base64url(listed.body["device_list"]))
    (peer,) = verified_devices(signed, user=user_id("ana"), pinned_account=None, last_seen=None)
    claimed = await server.claim(ANA, lee, key="first-contact")
    assert claimed.status == 200
    assert claimed.body["device_list"] == listed.body["device_list"]
    bundle = parse_bundle(decode_base64url(claimed.body["bundle"]))
    initiate(LEE.local, peer, bundle, now_ms=NOW_MS, random_bytes=RepeatableRandom("start"))
    assert await server.told() == [
        ("user.create", "ok", ""),
        ("device.enroll", "ok", ""),
        ("session.open", "ok", ""),
        ("prekey.publish", "ok", ""),
    ] * 2 + [("device.list", "ok", ""), ("prekey.fetch", "ok", "")]
    assert server.audit_is_intact()


async def test_64_callers_at_once_get_each_of_50_prekeys_once(tmp_path: Path) -> None:
    limits = ClaimLimits(requester=WIDE, target=WIDE, pair=WIDE)
    async with running_key_server(tmp_path, HandClock(), limits=limits) as server:
        await server.join(ANA, "patient")
        lee = await server.join(LEE, "clinician")
        replies = await asyncio.gather(*(server.claim(ANA, lee) for _ in range(64)))
        assert {reply.status for reply in replies} == {200}
        bundles = [parse_bundle(decode_base64url(reply.body["bundle"])) for reply in replies]
        one_time = [bundle.one_time.id for bundle in bundles if bundle.one_time is not None]
        kem = [bundle.kem.id for bundle in bundles if bundle.kem.kind is PreKeyKind.KEM_ONE_TIME]
        assert len(set(one_time)) == len(one_time) == 50
        assert len(set(kem)) == len(kem) == 50
        last_resort = [b for b in bundles if b.kem.kind is PreKeyKind.KEM_LAST_RESORT]
        assert len(last_resort) == 14
        counts = await server.call("GET", "/v1/prekeys", authorization=await server.join(ANA, "patient"))
        assert counts.body == {"one_time": 0, "kem_one_time": 0, "low": True}
        assert (await server.told()).count(("prekey.low", "ok", "")) == 1


async def test_a_repeated_claim_gets_the_same_answer_also_after_a_restart(tmp_path: Path) -> None:
    clock = HandClock()
    async with running_key_server(tmp_path, clock) as server:
        await server.join(ANA, "patient")
        first = await server.claim(ANA, await server.join(LEE, "clinician"), key="k-1")
    clock.advance(60)
    async with running_key_server(tmp_path, clock) as server:
        again = await server.claim(ANA, await server.join(LEE, "clinician"), key="k-1")
        assert again.body == first.body
        other = await server.claim(LEE, await server.join(LEE, "clinician"), key="k-1")
        assert (other.status, other.code) == (422, "idempotency_mismatch")
        assert server.audit_is_intact()


async def test_a_stolen_token_without_the_device_key_opens_nothing(server: KeyServer) -> None:
    ana = await server.join(ANA, "patient")
    token = server.app.token("ana", "patient")
    thief = make_person("ana", random_bytes=RepeatableRandom("thief"), one_time=0)
    opened = await server.log_in(ANA, token, signer=thief)
    assert (opened.status, opened.code) == (401, "proof_invalid")
    own_list = await server.enroll(thief, token)
    assert (own_list.status, own_list.code) == (409, "device_list_conflict")
    value = replace(thief.device_list.value, version=2, previous_hash=ANA.device_list.hash())
    taken_over = sign_device_list(value, thief.account.signing).encode()
    refused = await server.enroll(thief, token, device_list=taken_over)
    assert (refused.status, refused.code) == (422, "device_list_invalid")
    for path in ("/v1/prekeys", "/v1/users/ana/devices"):
        bearer = await server.call("GET", path, authorization=f"Bearer {token}")
        assert (bearer.status, bearer.code) == (401, "session_unknown")
    listed = await server.call("GET", "/v1/users/ana/devices", authorization=ana)
    assert listed.body["device_list"] == b64(ANA.device_list.encode())


async def test_enrolling_asks_for_a_proof_by_a_device_of_the_list(server: KeyServer) -> None:
    token = server.app.token("ana", "patient")
    refused = await server.enroll(ANA, token, signer=LEE)
    assert (refused.status, refused.code) == (401, "proof_invalid")
    other = await server.enroll(ANA, server.app.token("lee", "clinician"))
    assert (other.status, other.code) == (422, "device_list_invalid")
    forged = bytearray(ANA.device_list.encode())
    forged[-1] ^= 1
    badly_signed = await server.enroll(ANA, token, device_list=bytes(forged))
    assert (badly_signed.status, badly_signed.code) == (422, "invalid_signature")
    cut = await server.enroll(ANA, token, device_list=ANA.device_list.encode()[:-1])
    assert (cut.status, cut.code) == (400, "malformed")
    assert {outcome for kind, outcome, _ in await server.told()} == {"error"}
    assert await server.accounts.account(user_id("ana")) is None


async def test_the_same_list_again_is_a_200_and_a_fork_is_a_409(server: KeyServer) -> None:
    token = server.app.token("ana", "patient")
    assert (await server.enroll(ANA, token)).status == 201
    assert (await server.enroll(ANA, token)).status == 200
    second = following(ANA.device_list, ANA.device_list.value.devices[0], laptop_record())
    assert (await server.enroll(ANA, token, device_list=second.encode())).status == 201
    rolled_back = await server.enroll(ANA, token)
    assert (rolled_back.status, rolled_back.code) == (409, "device_list_conflict")


async def test_a_removed_device_is_out_at_once(server: KeyServer) -> None:
    ana = await server.join(ANA, "patient")
    token = server.app.token("ana", "patient")
    phone = ANA.device_list.value.devices[0]
    second = following(ANA.device_list, phone, laptop_record())
    third = following(second, laptop_record())
    assert (await server.enroll(LAPTOP, token, device_list=second.encode())).status == 201
    assert (await server.call("GET", "/v1/prekeys", authorization=ana)).status == 200
    assert (await server.enroll(LAPTOP, token, device_list=third.encode())).status == 201
    ended = await server.call("GET", "/v1/prekeys", authorization=ana)
    assert (ended.status, ended.code) == (401, "session_unknown")
    refused = await server.log_in(ANA, token)
    assert (refused.status, refused.code) == (401, "device_unknown")
    assert ("device.revoke", "ok", "") in await server.told()


async def test_a_suspended_account_does_nothing_and_is_not_reached(server: KeyServer) -> None:
    ana = await server.join(ANA, "patient")
    lee = await server.join(LEE, "clinician")
    suspend = AuditEvent(
        id=uuid7(NOW_MS, RepeatableRandom("suspend")),
        type=EventType.USER_SUSPEND,
        outcome=Outcome.OK,
        actor=Actor(id="admin"),
    )
    await server.accounts.set_status(user_id("ana"), AccountStatus.SUSPENDED, suspend)
    assert (await server.call("GET", "/v1/prekeys", authorization=ana)).code == "session_unknown"
    refused = await server.log_in(ANA, server.app.token("ana", "patient"))
    assert (refused.status, refused.code) == (403, "access_denied")
    claimed = await server.claim(ANA, lee)
    assert (claimed.status, claimed.code) == (403, "access_denied")
    told = await server.told()
    assert ("session.open", "deny", "guard-suspended") in told
    assert ("prekey.fetch", "deny", "recipient-suspended") in told


async def test_a_patient_gets_no_keys_of_another_patient(server: KeyServer) -> None:
    await server.join(ANA, "patient")
    sam = await server.join(SAM, "patient")
    refused = await server.claim(ANA, sam)
    assert (refused.status, refused.code) == (403, "access_denied")
    assert (await server.told())[-1] == ("prekey.fetch", "deny", "guard-patient-to-patient")


async def test_people_of_another_organisation_look_like_nobody(server: KeyServer) -> None:
    await server.join(ANA, "patient")
    kim = await server.join(KIM, "nurse", org="org-2")
    foreign = await server.claim(ANA, kim)
    nobody = await server.call("POST", "/v1/users/nobody/devices/1/bundle", authorization=kim)
    for reply in (foreign, nobody):
        assert (reply.status, reply.code) == (404, "unknown_user")
    assert {**foreign.body, "request_id": ""} == {**nobody.body, "request_id": ""}
    told = await server.told()
    assert ("prekey.fetch", "deny", "guard-organisation") in told
    assert ("prekey.fetch", "error", "unknown_user") in told


async def test_claims_are_limited_by_requester_by_target_and_by_pair(tmp_path: Path) -> None:
    clock = HandClock()
    limits = ClaimLimits(
        requester=RateLimit("claims", burst=5, window_s=50),
        target=RateLimit("claims-target", burst=5, window_s=500),
        pair=RateLimit("claims-pair", burst=3, window_s=300),
    )
    async with running_key_server(tmp_path, clock, limits=limits) as server:
        await server.join(ANA, "patient")
        await server.join(SAM, "patient")
        lee, kim = await server.join(LEE, "clinician"), await server.join(KIM, "nurse")
        statuses = [(await server.claim(ANA, lee)).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        last = await server.claim(SAM, lee)
        assert (last.status, last.headers["RateLimit"]) == (200, '"claims";r=0;t=50')
        refused = await server.claim(SAM, lee)
        assert (refused.status, refused.code, refused.body["retryable"]) == (429, "rate_limited", True)
        assert refused.headers["Retry-After"] == "10"
        assert refused.headers["RateLimit-Policy"] == '"claims";q=5;w=50'
        assert [(await server.claim(ANA, kim)).status for _ in range(3)] == [200, 200, 429]
        clock.advance(10)
        assert (await server.claim(SAM, lee)).status == 200
        assert (await server.told()).count(("prekey.fetch", "error", "rate_limited")) >= 2


async def test_a_second_device_of_a_requester_gets_no_second_allowance(tmp_path: Path) -> None:
    limits = ClaimLimits(pair=RateLimit("claims-pair", burst=3, window_s=300))
    async with running_key_server(tmp_path, HandClock(), limits=limits) as server:
        await server.join(LEE, "clinician")
        phone = await server.join(ANA, "patient")
        token = server.app.token("ana", "patient")
        both = following(ANA.device_list, *ANA.device_list.value.devices, laptop_record())
        assert (await server.enroll(LAPTOP, token, device_list=both.encode())).status == 201
        laptop = f"Session {(await server.log_in(LAPTOP, token)).body['session']}"
        statuses = [(await server.claim(LEE, session)).status for session in (phone, laptop) * 2]
        assert statuses == [200, 200, 200, 429]


async def test_uploads_are_limited_since_each_costs_many_signature_checks(tmp_path: Path) -> None:
    limits = ClaimLimits(uploads=RateLimit("uploads", burst=3, window_s=300))
    async with running_key_server(tmp_path, HandClock(), limits=limits) as server:
        session = await server.join(SAM, "patient")
        statuses = [(await server.publish(SAM, session)).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        server.clock.advance(100)
        assert (await server.publish(SAM, session)).status == 200


async def test_the_words_of_an_idempotency_key_are_not_stored(server: KeyServer) -> None:
    await server.join(ANA, "patient")
    lee = await server.join(LEE, "clinician")
    first = await server.claim(ANA, lee, key="canary: for Ana Moreau")
    assert (await server.claim(ANA, lee, key="canary: for Ana Moreau")).body == first.body
    files = [path.read_bytes() for path in server.path.parent.iterdir() if path.is_file()]
    assert not any(b"Moreau" in content for content in files)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/users/ana/devices/2/bundle", 404, "unknown_device"),
        ("/v1/users/ana/devices/0/bundle", 400, "invalid_id"),
        ("/v1/users/ana/devices/01/bundle", 400, "bad_request"),
        ("/v1/users/ana/devices/x/bundle", 400, "bad_request"),
        ("/v1/users/ana/devices/99999999999/bundle", 400, "bad_request"),
        ("/v1/users/ana%20smith/devices/1/bundle", 400, "invalid_id"),
        ("/v1/users//devices/1/bundle", 404, "not_found"),
        ("/v1/users/lee/devices/1/bundle", 409, "no_prekeys"),
    ],
)
async def test_a_claim_that_names_nothing_is_told_so(
    server: KeyServer, path: str, status: int, code: str
) -> None:
    await server.join(ANA, "patient")
    token = server.app.token("lee", "clinician")
    await server.enroll(LEE, token)
    session = f"Session {(await server.log_in(LEE, token)).body['session']}"
    reply = await server.call("POST", path, authorization=session)
    assert (reply.status, reply.code) == (status, code)


async def test_prekeys_that_are_too_old_or_too_many_are_refused(server: KeyServer) -> None:
    await server.join(ANA, "patient")
    server.clock.now_ms += 31 * DAY_MS
    token = server.app.token("ana", "patient")
    session = f"Session {(await server.log_in(ANA, token)).body['session']}"
    stale = await server.publish(ANA, session)
    assert (stale.status, stale.code) == (422, "stale_prekey")
    long = await server.call("PUT", "/v1/prekeys", {"upload": "A" * 300_000}, authorization=session)
    assert (long.status, long.code) == (413, "body_too_large")
    loose = await server.call("PUT", "/v1/prekeys", {"upload": "AB"}, authorization=session)
    assert (loose.status, loose.code) == (400, "malformed")


async def test_a_full_disk_refuses_writes_and_the_server_lives_on(tmp_path: Path) -> None:
    async with running_key_server(tmp_path, HandClock(), quota_bytes=400_000) as server:
        refused = None
        for number in range(60):
            person = make_person(f"user-{number}", one_time=5)
            reply = await server.enroll(person, server.app.token(f"user-{number}", "patient"))
            if reply.status != 201:
                refused = reply
                break
            opened = await server.log_in(person, server.app.token(f"user-{number}", "patient"))
            if opened.status != 201:
                refused = opened
                break
            reply = await server.publish(person, f"Session {opened.body['session']}")
            if reply.status != 200:
                refused = reply
                break
        assert refused is not None
        assert (refused.status, refused.code, refused.body["retryable"]) == (503, "store_full", True)
        assert (await server.call("GET", "/healthz")).status == 200
        assert server.audit_is_intact()


async def test_the_proof_must_come_from_the_device_that_the_body_names(server: KeyServer) -> None:
    token = server.app.token("ana", "patient")
    second = following(ANA.device_list, ANA.device_list.value.devices[0], laptop_record())
    assert (await server.enroll(ANA, token)).status == 201
    refused = await server.enroll(LAPTOP, token, device_list=second.encode(), signer=ANA)
    assert (refused.status, refused.code) == (401, "proof_invalid")
    assert (await server.enroll(LAPTOP, token, device_list=second.encode())).status == 201
    missing = ProtocolAddress(user_id("ana"), device_id(2))
    assert await server.accounts.device(missing) is not None
