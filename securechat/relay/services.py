"""What every connection and every request of the relay works with; made once, by ``securechat.relay.app``."""

from dataclasses import dataclass

from securechat.ports import Clock, FaultHook
from securechat.relay.connections import Connections
from securechat.relay.intake import Intake
from securechat.relay.limits import RelayLimits
from securechat.relay.permits import Permits
from securechat.relay.ports import Authority, Bus, DeviceLogin
from securechat.relay.store import MailboxStore
from securechat.sql.engine import Database
from securechat.wire.frames import FrameCodec


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayServices:
    """The parts of one relay; ``node`` names this process."""

    node: str
    database: Database
    store: MailboxStore
    intake: Intake
    connections: Connections
    permits: Permits
    authority: Authority
    login: DeviceLogin
    bus: Bus
    codec: FrameCodec
    limits: RelayLimits
    clock: Clock
    fault: FaultHook
