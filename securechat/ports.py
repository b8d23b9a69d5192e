"""The two inputs that everybody needs and nobody may take from the environment: time and randomness."""

from collections.abc import Callable

Clock = Callable[[], int]  # UTC now, in milliseconds since 1970
RandomBytes = Callable[[int], bytes]  # that many bytes from the system's generator
FaultHook = Callable[[str], None]  # called with the name of a step; a test may end the process there


def no_fault(step: str) -> None:
    """The fault hook of every real run: does nothing."""
