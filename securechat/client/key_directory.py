"""The key server over HTTP (docs/reference/http-api.md)."""

import msgspec

from securechat.base64url import decode_base64url, encode_base64url
from securechat.client.http import HttpClient, Request, decode_answer
from securechat.client.ports import ClaimedBundle
from securechat.client.server_session import ServerSession
from securechat.crypto.keys import SigningKeyPair
from securechat.errors import AuthenticationError, TransportError, WireError
from securechat.ids import ProtocolAddress, UserId
from securechat.protocol.prekeys import PreKeyCounts
from securechat.wire.auth import ChallengePurpose


class _Enrollment(msgspec.Struct):
    device_list: str
    device: int
    challenge: str
    signature: str


class _Upload(msgspec.Struct):
    upload: str


class _Counts(msgspec.Struct):
    one_time: int
    kem_one_time: int


class _DeviceList(msgspec.Struct):
    device_list: str


class _Bundle(msgspec.Struct):
    device_list: str
    bundle: str


class HttpKeyDirectory:
    """The KeyDirectory port. A user id needs no escaping in a path: its alphabet is a URL's."""

    def __init__(self, http: HttpClient, session: ServerSession) -> None:
        self._http = http
        self._session = session

    async def enroll(self, address: ProtocolAddress, signing: SigningKeyPair, device_list: bytes) -> None:
        """Publish the device list with a proof by this device; a refused token is replaced once."""
        token = await self._session.token()
        try:
            await self._enroll(address, device_list, token)
        except AuthenticationError:
            self._session.refuse_token(token)
            await self._enroll(address, device_list, await self._session.token())

    async def device_list(self, user: UserId) -> bytes:
        """Return the signed device list of ``user``."""
        raw = await self._session.send(Request("GET", f"/v1/users/{user}/devices"))
        return _decoded(decode_answer(raw, _DeviceList).device_list)

    async def upload_prekeys(self, upload: bytes) -> PreKeyCounts:
        """Publish prekeys; the same upload again changes nothing."""
        body = msgspec.json.encode(_Upload(encode_base64url(upload)))
        return _counts(await self._session.send(Request("PUT", "/v1/prekeys", body)))

    async def prekey_counts(self) -> PreKeyCounts:
        """Return how many one-time prekeys the server still holds."""
        return _counts(await self._session.send(Request("GET", "/v1/prekeys")))

    async def claim_bundle(self, address: ProtocolAddress, idempotency_key: str) -> ClaimedBundle:
        """Claim a bundle; the same key returns the same bundle."""
        path = f"/v1/users/{address.user}/devices/{address.device}/bundle"
        request = Request("POST", path, idempotency_key=idempotency_key)
        answer = decode_answer(await self._session.send(request), _Bundle)
        return ClaimedBundle(_decoded(answer.device_list), _decoded(answer.bundle))

    async def _enroll(self, address: ProtocolAddress, device_list: bytes, token: str) -> None:
        challenge, signature = await self._session.prove(ChallengePurpose.ENROLLMENT, token)
        body = _Enrollment(
            device_list=encode_base64url(device_list),
            device=address.device,
            challenge=encode_base64url(challenge),
            signature=encode_base64url(signature),
        )
        request = Request("PUT", "/v1/devices", msgspec.json.encode(body))
        await self._http.send(request, authorization=f"Bearer {token}")


def _counts(raw: bytes) -> PreKeyCounts:
    answer = decode_answer(raw, _Counts)
    return PreKeyCounts(answer.one_time, answer.kem_one_time)


def _decoded(text: str) -> bytes:
    try:
        return decode_base64url(text)
    except WireError:
        raise TransportError("the server's answer is malformed") from None
