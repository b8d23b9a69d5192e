"""All limits of a relay in one value; the defaults suit a clinic and a busy hospital alike."""

from dataclasses import dataclass, field

from securechat.relay.flood import FrameRate
from securechat.relay.mailbox import Quota
from securechat.relay.window import WindowLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """Times are in seconds."""

    quota: Quota = field(default_factory=Quota)
    window: WindowLimits = field(default_factory=WindowLimits)  # delivered and not acknowledged
    rate: FrameRate = field(default_factory=FrameRate)
    unanswered_sends: int = 256  # of one connection; then its socket is not read until a commit
    unanswered_bytes: int = 2**20
    buffered_bytes: int = 4 * 2**20  # written and not taken by the peer; above it the connection is closed
    login_s: float = 10.0  # from connecting to the Authenticate frame
    ping_after_s: float = 20.0  # silence after which a ping is sent
    silent_s: float = 45.0  # silence after which the connection counts as lost
    stalled_s: float = 30.0  # time without progress of what waits to be written
    close_s: float = 5.0  # how long a peer may take to answer a close frame
    tick_s: float = 1.0  # between two looks at all connections
    poll_s: float = 5.0  # between two looks at the mailboxes of connected devices, for lost wake-ups
    sweep_s: float = 3600.0  # between two searches for what has expired
    permit_s: float = 1.0  # how long a permission to send to one device is used without asking again
    retry_after_ms: int = 1000  # what a sender is told after a refusal for now
