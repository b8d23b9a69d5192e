"""What the exit status of every command means (docs/reference/exit-codes.md)."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit statuses of ``python -m securechat``."""

    OK = 0
    FAILED = 1  # a check failed, or the act could not be done
    USAGE = 2  # the command line or a setting is wrong
    REFUSED = 3  # the policy or the authentication refuses
    UNREACHABLE = 4  # the server cannot be reached; trying again can help
    STORE = 5  # the local store cannot be used (key, lock, disk)
    INTERRUPTED = 130  # Ctrl-C
