"""Searches the memory of another process (Linux): ``/proc/PID/maps`` and ``/proc/PID/mem``."""

import re
from collections.abc import Iterable
from pathlib import Path

_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r")
_KERNEL = ("[vvar", "[vsyscall]", "[vdso]")


def found_in_memory(pid: int, needles: Iterable[bytes]) -> set[bytes]:
    """Return those of ``needles`` that stand in a readable page of the process ``pid``."""
    wanted = set(needles)
    found: set[bytes] = set()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            mapping = _MAPPING.match(line)
            if mapping is None or line.endswith(_KERNEL) or any(name in line for name in _KERNEL):
                continue
            start, end = (int(part, 16) for part in mapping.groups())
            try:
                memory.seek(start)
                raw = memory.read(end - start)
            except (OSError, OverflowError):
                continue
            found |= {needle for needle in wanted - found if needle in raw}
    return found
