"""The client library: ``Client`` and what it returns, tells and raises.

The errors are in ``securechat.errors``; docs/reference/client.md is the reference.
"""

from securechat.client.client import Client
from securechat.client.config import Backoff, ClientConfig
from securechat.client.conversation import Conversation, Reader, Sent
from securechat.client.events import (
    CaughtUp,
    ClockSkew,
    DecryptFailed,
    Event,
    IdentityChanged,
    Message,
    SendFailed,
    StoreRestored,
    Unsupported,
)
from securechat.client.sync import SyncClient

__all__ = [
    "Client",
    "SyncClient",
    "ClientConfig",
    "Backoff",
    "Conversation",
    "Reader",
    "Sent",
    "Event",
    "Message",
    "DecryptFailed",
    "SendFailed",
    "IdentityChanged",
    "Unsupported",
    "StoreRestored",
    "CaughtUp",
    "ClockSkew",
]
