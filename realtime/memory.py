"""What this process holds in memory, as the kernel counts it."""

from __future__ import annotations

import os
import resource
import sys

_STATM = "/proc/self/statm"


def resident_bytes() -> int:
    """Resident memory now; where there is no ``/proc``, the most that it ever was."""
    try:
        with open(_STATM, "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
