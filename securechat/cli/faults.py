"""A fault hook from the environment: the test bench ends the process at a chosen step.

``SECURECHAT_FAULT=STEP[:N]`` kills the process (SIGKILL, no clean-up) when it passes STEP for the Nth time.
"""

import os
import signal
from typing import Final

from securechat.errors import SettingsError
from securechat.ports import FaultHook, no_fault

VARIABLE: Final = "SECURECHAT_FAULT"


def fault_from_environment() -> FaultHook:
    """Return the hook that the environment asks for; usually the one that does nothing."""
    text = os.environ.get(VARIABLE)
    if not text:
        return no_fault
    step, _, times = text.partition(":")
    if times and not times.isdigit():
        raise SettingsError(f"{VARIABLE} is STEP or STEP:N with a number N")
    return _kill_at(step, int(times or 1))


def _kill_at(step: str, times: int) -> FaultHook:
    left = times

    def hook(passed: str) -> None:
        nonlocal left
        if passed == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook
