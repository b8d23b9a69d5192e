"""The JSON bodies of the key server's routes; bytes stand as base64url without padding."""

import msgspec

from securechat.web.session_api import Base64Url


class EnrollDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed device list, and the proof of one of its devices (purpose ENROLLMENT)."""

    device_list: Base64Url
    device: int
    challenge: Base64Url
    signature: Base64Url


class DeviceListBody(msgspec.Struct, frozen=True):
    """A signed device list."""

    device_list: Base64Url


class EnrolledDevices(msgspec.Struct, frozen=True):
    """The version of the list that is in force now."""

    version: int


class PublishPreKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A prekey upload of the session's device."""

    upload: Base64Url


class PreKeyCountBody(msgspec.Struct, frozen=True):
    """One-time prekeys left, and whether the device should publish more."""

    one_time: int
    kem_one_time: int
    low: bool


class ClaimedBundleBody(msgspec.Struct, frozen=True):
    """The device list of the account and a prekey bundle of the device."""

    device_list: Base64Url
    bundle: Base64Url
