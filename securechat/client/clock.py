"""Time as the server sees it, within bounds (docs/reference/client.md, "Clock")."""

from typing import Final

from securechat.ports import Clock

MAX_CORRECTION_MS: Final = 2 * 86_400_000  # a lying server can make a prekey look two days younger, no more


class CorrectedClock:
    """The device's clock plus the skew that the server's answers show, at most two days either way."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.skew_ms = 0

    def now_ms(self) -> int:
        """Return the corrected time in milliseconds since 1970."""
        return self._clock() + max(-MAX_CORRECTION_MS, min(MAX_CORRECTION_MS, self.skew_ms))

    def server_now_ms(self) -> int:
        """Return the server's time without the bound, for nothing but the expiry of tokens."""
        return self._clock() + self.skew_ms

    def learn(self, server_time_ms: int) -> None:
        """Take a server's time that was just received."""
        self.skew_ms = server_time_ms - self._clock()
