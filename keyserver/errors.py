"""The errors of the key server, below SecureChatError.

KeyserverError
├── UnknownUserError          no such account in the caller's organisation
├── UnknownDeviceError        no such device in the account
├── NoPreKeysError            the device has published no prekeys that are in date
├── DeviceListConflictError   the list does not continue the one that is held
├── PreKeyConflictError       another prekey under an id that was used before, or an older lasting prekey
└── PreKeyLimitError          more one-time prekeys than are stored for one device
"""

from securechat.errors import SecureChatError


class KeyserverError(SecureChatError):
    """Base of the key server's errors."""

    code = "keyserver_error"


class UnknownUserError(KeyserverError):
    """There is no such account in the caller's organisation."""

    code = "unknown_user"

    def __init__(self) -> None:
        super().__init__("there is no such account in the caller's organisation")


class UnknownDeviceError(KeyserverError):
    """There is no such device in the account."""

    code = "unknown_device"


class NoPreKeysError(KeyserverError):
    """The device has published no prekeys that are in date; it will when it next connects."""

    code = "no_prekeys"


class DeviceListConflictError(KeyserverError):
    """The list does not continue the one that is held; fetch that one first."""

    code = "device_list_conflict"


class PreKeyConflictError(KeyserverError):
    """An id stands for another prekey already, or a lasting prekey is older than the one that is held."""

    code = "prekey_conflict"


class PreKeyLimitError(KeyserverError):
    """More one-time prekeys than are stored for one device."""

    code = "prekey_limit"
