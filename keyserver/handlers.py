"""The key server's HTTP handlers: parse, check, one transaction, answer."""

from typing import Final

import msgspec
from aiohttp import web

from audit.catalogue import EventType
from audit.event import AuditEvent, ObjectRef
from keyserver.directory import PreKeyCounts
from keyserver.errors import UnknownUserError
from keyserver.messages import (
    ClaimedBundleBody,
    DeviceListBody,
    EnrollDevice,
    EnrolledDevices,
    PreKeyCountBody,
    PublishPreKeys,
)
from keyserver.service import KeyService, Plan
from securechat.authz.model import Action, Resource
from securechat.base64url import decode_base64url, encode_base64url
from securechat.errors import DeviceListError, DeviceUnknownError
from securechat.ids import DeviceId, ProtocolAddress, UserId, device_id, user_id
from securechat.ports import Clock
from securechat.web.accounts import Accounts
from securechat.web.authentication import Authenticator
from securechat.web.caller import Caller
from securechat.web.errors import BadRequestError
from securechat.web.rate_limits import Allowance, RateLimit, RateLimiter
from securechat.web.resources import Resources
from securechat.web.routes import Auth, Call, json_response
from securechat.wire.devices import (
    DeviceRecord,
    SignedDeviceList,
    check_device_list,
    parse_signed_device_list,
)
from securechat.wire.prekeys import parse_upload

CLAIMS_BY_REQUESTER: Final = RateLimit("claims", burst=200, window_s=200)
CLAIMS_OF_TARGET: Final = RateLimit("claims-target", burst=200, window_s=400)
CLAIMS_OF_PAIR: Final = RateLimit("claims-pair", burst=20, window_s=1200)  # one user, one target device
UPLOADS: Final = RateLimit("uploads", burst=60, window_s=600)  # each costs up to 202 signature checks
ENROLLMENTS: Final = RateLimit("enrollments", burst=20, window_s=3600)


class ClaimLimits(msgspec.Struct, frozen=True):
    """How many bundles one user may ask for, one device may be asked for, and both together;
    how often a user may change the device list and publish prekeys.
    """

    requester: RateLimit = CLAIMS_BY_REQUESTER
    target: RateLimit = CLAIMS_OF_TARGET
    pair: RateLimit = CLAIMS_OF_PAIR
    enrollments: RateLimit = ENROLLMENTS
    uploads: RateLimit = UPLOADS


class KeyHandlers:
    """Handlers and resources of the key server's routes."""

    def __init__(
        self,
        service: KeyService,
        accounts: Accounts,
        authenticator: Authenticator,
        resources: Resources,
        clock: Clock,
        *,
        limits: ClaimLimits | None = None,
    ) -> None:
        limits = limits or ClaimLimits()
        self._service = service
        self._accounts = accounts
        self._authenticator = authenticator
        self.resources = resources
        self._by_requester = RateLimiter(limits.requester, clock)
        self._of_target = RateLimiter(limits.target, clock)
        self._of_pair = RateLimiter(limits.pair, clock)
        self._enrollments = RateLimiter(limits.enrollments, clock)
        self._uploads = RateLimiter(limits.uploads, clock)

    async def put_devices(self, call: Call) -> web.Response:
        """Put a device list in force; the first makes the account, a later one continues the one before."""
        body = await call.json(EnrollDevice)
        signed = parse_signed_device_list(decode_base64url(body.device_list))
        self._check_proof(call, body, signed)
        self._enrollments.take(call.caller.principal.user)
        plan = await self._service.plan(signed)
        events = await self._enrollment_events(call, plan)
        await self._service.enroll(plan, call.caller.claims, events)
        answer = EnrolledDevices(signed.value.version)
        return json_response(answer, status=200 if plan.change.same else 201)

    async def get_devices(self, call: Call) -> web.Response:
        """Return the signed device list of a user."""
        device_list = await self._service.device_list(_user(call.request))
        return json_response(DeviceListBody(encode_base64url(device_list)))

    async def put_prekeys(self, call: Call) -> web.Response:
        """Publish prekeys of the session's device; the same upload again changes nothing."""
        body = await call.json(PublishPreKeys)
        upload = parse_upload(decode_base64url(body.upload))
        owner = _own_address(call)
        self._uploads.take(owner.user)
        counts = await self._service.publish(owner, upload, call.event(object=_device_ref(owner)))
        return json_response(_count_body(counts))

    async def get_prekeys(self, call: Call) -> web.Response:
        """Return how many one-time prekeys of the session's device are left."""
        return json_response(_count_body(await self._service.counts(_own_address(call))))

    async def post_bundle(self, call: Call) -> web.Response:
        """Hand out a bundle; its one-time prekeys are handed out to nobody else."""
        target = ProtocolAddress(_user(call.request), _device(call.request))
        caller, key = _own_address(call), call.idempotency_key
        allowance = self._take_claim(caller, target)
        ref = _device_ref(target)
        handed_out = await self._service.claim(
            caller,
            target,
            key,
            event=call.event(object=ref),
            low_event=call.event(object=ref, type=EventType.PREKEY_LOW),
        )
        body = ClaimedBundleBody(
            encode_base64url(handed_out.device_list), encode_base64url(handed_out.bundle)
        )
        response = json_response(body)
        response.headers.extend(allowance.headers())
        return response

    async def account_of(self, request: web.Request, caller: Caller) -> Resource:
        """Return the account that the path names. Raises UnknownUserError and InvalidIdError."""
        info = await self._accounts.account(_user(request))
        if info is None:
            raise UnknownUserError
        return self.resources.account(info)

    def _take_claim(self, caller: ProtocolAddress, target: ProtocolAddress) -> Allowance:
        """Count a claim. By user: with a limit for each device, many devices could drain a target."""
        asked = f"{target.user}/{target.device}"
        # the requester's limit first: whoever asks too much uses up nobody else's
        allowance = self._by_requester.take(caller.user)
        self._of_pair.take(f"{caller.user} {asked}")
        self._of_target.take(asked)
        return allowance

    def _check_proof(self, call: Call, body: EnrollDevice, signed: SignedDeviceList) -> None:
        if signed.value.user != call.caller.principal.user:
            raise DeviceListError("the list belongs to another account")
        check_device_list(signed)
        record = _record(signed, device_id(body.device))
        self._authenticator.prove_enrollment(
            call.caller,
            call.credentials(Auth.TOKEN),
            ProtocolAddress(signed.value.user, record.device),
            record.signing,
            challenge=decode_base64url(body.challenge),
            signature=decode_base64url(body.signature),
        )

    async def _enrollment_events(self, call: Call, plan: Plan) -> tuple[AuditEvent, ...]:
        user = plan.new.value.user
        events = [call.event()] if not plan.change.added else []
        if plan.change.first:
            events.append(call.event(type=EventType.USER_CREATE))
        for record in plan.change.added:
            events.append(call.event(object=_device_ref(ProtocolAddress(user, record.device))))
        if plan.change.removed:
            ruling = await call.require(Action.DEVICE_REVOKE, self.resources.own_account(call.caller))
            for device in plan.change.removed:
                ref = _device_ref(ProtocolAddress(user, device))
                events.append(call.event(object=ref, type=EventType.DEVICE_REVOKE, ruling=ruling))
        return tuple(events)


def _record(signed: SignedDeviceList, device: DeviceId) -> DeviceRecord:
    for record in signed.value.devices:
        if record.device == device:
            return record
    raise DeviceListError("the device that proves itself is not in the list")


def _own_address(call: Call) -> ProtocolAddress:
    if call.caller.address is None:
        raise DeviceUnknownError("the session has no device")
    return call.caller.address


def _user(request: web.Request) -> UserId:
    return user_id(request.match_info["user"])


def _device(request: web.Request) -> DeviceId:
    text = request.match_info["device"]
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0
    if str(number) != text:
        raise BadRequestError("the path names no device id")
    return device_id(number)


def _device_ref(address: ProtocolAddress) -> ObjectRef:
    return ObjectRef("device", f"{address.user}/{address.device}")


def _count_body(counts: PreKeyCounts) -> PreKeyCountBody:
    return PreKeyCountBody(counts.one_time, counts.kem_one_time, counts.low)
