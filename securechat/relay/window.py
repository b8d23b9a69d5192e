"""The window of one connection: how much may be delivered before an acknowledgement must come back."""

from collections import deque
from dataclasses import dataclass
from typing import Final

WINDOW_MESSAGES: Final = 256
WINDOW_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """The size of a window. One message always fits an empty one."""

    messages: int = WINDOW_MESSAGES
    bytes: int = WINDOW_BYTES


class Window:
    """What was delivered on this connection and not acknowledged yet."""

    __slots__ = ("_bytes", "_limits", "_open")

    def __init__(self, limits: WindowLimits) -> None:
        self._limits = limits
        self._open: deque[tuple[int, int]] = deque()  # sequence number, size
        self._bytes = 0

    @property
    def empty(self) -> bool:
        """Whether everything delivered was acknowledged."""
        return not self._open

    @property
    def room(self) -> int:
        """How many more messages fit by number."""
        return self._limits.messages - len(self._open)

    def fits(self, size: int) -> bool:
        """Tell whether a message of ``size`` bytes may be delivered now."""
        if not self._open:
            return True
        return self.room > 0 and self._bytes + size <= self._limits.bytes

    def delivered(self, seq: int, size: int) -> None:
        """Count a delivery."""
        self._open.append((seq, size))
        self._bytes += size

    def acked(self, seq: int) -> int:
        """Release all up to ``seq``; return how many messages that were."""
        count = 0
        while self._open and self._open[0][0] <= seq:
            self._bytes -= self._open.popleft()[1]
            count += 1
        return count
