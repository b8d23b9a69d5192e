"""The key server's whole surface: its routes, and how its errors are answered."""

from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from keyserver.errors import (
    DeviceListConflictError,
    NoPreKeysError,
    PreKeyConflictError,
    PreKeyLimitError,
    UnknownDeviceError,
    UnknownUserError,
)
from keyserver.handlers import KeyHandlers
from keyserver.messages import (
    ClaimedBundleBody,
    DeviceListBody,
    EnrollDevice,
    EnrolledDevices,
    PreKeyCountBody,
    PublishPreKeys,
)
from securechat.authz.model import Action
from securechat.web.problems import Answer, ProblemTable
from securechat.web.routes import Auth, Docs, RecordedBy, Route

MAX_UPLOAD_BODY: Final = 256 * 1024  # bytes of JSON; the largest upload has 178,977 bytes before base64

KEYSERVER_PROBLEMS: Final[ProblemTable] = MappingProxyType(
    {
        UnknownUserError: Answer(HTTPStatus.NOT_FOUND),
        UnknownDeviceError: Answer(HTTPStatus.NOT_FOUND),
        NoPreKeysError: Answer(HTTPStatus.CONFLICT, retryable=True),
        DeviceListConflictError: Answer(HTTPStatus.CONFLICT),
        PreKeyConflictError: Answer(HTTPStatus.CONFLICT),
        PreKeyLimitError: Answer(HTTPStatus.CONFLICT),
    }
)


def keyserver_routes(handlers: KeyHandlers) -> tuple[Route, ...]:
    """Return the routes of ``handlers``."""
    own, account = handlers.resources.own_account_of, handlers.account_of
    return (
        Route(
            "PUT",
            "/v1/devices",
            handlers.put_devices,
            Action.DEVICE_ENROLL,
            Auth.TOKEN,
            own,
            RecordedBy.HANDLER,
            Docs(
                summary="Put a signed device list in force (201), or the same again (200)",
                body=EnrollDevice,
                answer=EnrolledDevices,
                status=201,
                errors=(409, 422, 429),
            ),
        ),
        Route(
            "GET",
            "/v1/users/{user}/devices",
            handlers.get_devices,
            Action.DEVICE_LIST,
            Auth.SESSION,
            account,
            RecordedBy.LAYER,
            Docs(summary="Get the signed device list of a user", answer=DeviceListBody, errors=(404,)),
            hidden_as=UnknownUserError,
        ),
        Route(
            "PUT",
            "/v1/prekeys",
            handlers.put_prekeys,
            Action.PREKEY_PUBLISH,
            Auth.SESSION,
            own,
            RecordedBy.HANDLER,
            Docs(
                summary="Publish prekeys of the session's device",
                body=PublishPreKeys,
                answer=PreKeyCountBody,
                errors=(409, 422),
            ),
            max_body_bytes=MAX_UPLOAD_BODY,
        ),
        Route(
            "GET",
            "/v1/prekeys",
            handlers.get_prekeys,
            Action.PREKEY_COUNT,
            Auth.SESSION,
            own,
            RecordedBy.LAYER,
            Docs(summary="Count the one-time prekeys left", answer=PreKeyCountBody),
        ),
        Route(
            "POST",
            "/v1/users/{user}/devices/{device}/bundle",
            handlers.post_bundle,
            Action.PREKEY_FETCH,
            Auth.SESSION,
            account,
            RecordedBy.HANDLER,
            Docs(
                summary="Claim a prekey bundle of a device",
                answer=ClaimedBundleBody,
                errors=(404, 409, 422, 429),
            ),
            hidden_as=UnknownUserError,
        ),
    )
