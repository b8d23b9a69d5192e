"""Identifiers, checked once where they enter; whoever holds one may trust it.

All of them are opaque to the server. An app should hand out random user ids, never names or record numbers.
"""

import re
from dataclasses import dataclass
from typing import Final, NewType

from securechat.errors import InvalidIdError

UserId = NewType("UserId", str)  # 1-64 characters of [A-Za-z0-9._-], starting with a letter or digit
OrgId = NewType("OrgId", str)  # the same alphabet and length
DeviceId = NewType("DeviceId", int)  # 1 .. 2**31 - 1, unique within the account
MessageId = NewType("MessageId", bytes)  # 16 random bytes, chosen by the sending device
SessionId = NewType("SessionId", bytes)  # 32 bytes, derived from the handshake

MAX_ID_CHARS: Final = 64
MESSAGE_ID_BYTES: Final = 16
MAX_DEVICE_ID: Final = 2**31 - 1

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class ProtocolAddress:
    """One device of one user: where a session ends."""

    user: UserId
    device: DeviceId


def user_id(text: str) -> UserId:
    """Return ``text`` as a user id. Raises InvalidIdError."""
    return UserId(_name(text, "user id"))


def org_id(text: str) -> OrgId:
    """Return ``text`` as an organisation id. Raises InvalidIdError."""
    return OrgId(_name(text, "organisation id"))


def device_id(number: int) -> DeviceId:
    """Return ``number`` as a device id. Raises InvalidIdError."""
    if not 1 <= number <= MAX_DEVICE_ID:
        raise InvalidIdError(f"a device id is 1 to {MAX_DEVICE_ID}")
    return DeviceId(number)


def message_id(raw: bytes) -> MessageId:
    """Return 16 ``raw`` bytes as a message id. Raises InvalidIdError."""
    if len(raw) != MESSAGE_ID_BYTES:
        raise InvalidIdError(f"a message id has {MESSAGE_ID_BYTES} bytes, not {len(raw)}")
    return MessageId(raw)


def _name(text: str, what: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise InvalidIdError(f"a {what} is 1 to {MAX_ID_CHARS} letters, digits, '.', '_' or '-'")
    return text
