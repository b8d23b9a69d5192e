"""How a client behaves: the server's address, limits and waiting times. The defaults are for production."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from securechat.errors import SettingsError

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: the n-th wait is drawn from 0 to ``min(most_s, first_s * 2**n)`` seconds."""

    first_s: float = 0.5
    most_s: float = 30.0

    def ceiling_s(self, failures: int) -> float:
        """Return the longest wait after ``failures`` failures in a row, of which there is at least one."""
        return min(self.most_s, self.first_s * (1 << min(failures - 1, 16)))


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Everything that can be set; times carry their unit in the name."""

    window: int = 64  # envelopes sent and not yet accepted
    backoff: Backoff = field(default_factory=Backoff)
    request_timeout_s: float = 20.0
    heartbeat_s: float = 20.0  # a ping this often; silence for two of them ends the connection
    device_list_max_age_ms: int = HOUR_MS  # an older list is fetched again before a send
    refresh_interval_ms: int = HOUR_MS  # at most one automatic new session per peer device
    upkeep_interval_s: float = 6 * 3600.0
    clock_skew_ms: int = 5 * 60_000  # a larger skew is told
    keep_finished_ms: int = 30 * DAY_MS  # idempotency keys are remembered this long after the send
    expire_unsent_ms: int = 30 * DAY_MS  # an envelope that nobody accepted this long has failed
    keep_taken_ms: int = 60 * DAY_MS  # ids of messages taken in; longer than any server keeps a message
    held_per_user: int = 1_000  # messages kept back under a changed identity


def server_url(text: str, *, allow_plain_http: bool) -> str:
    """Return the server's base address without a trailing slash.

    Raises SettingsError: not http(s), no host, or plain http to another machine than this one.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError("the server's address is https://HOST[:PORT]")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not allow_plain_http:
        raise SettingsError("plain http is only for this machine; use https, or allow_plain_http=True")
    return text.rstrip("/")
