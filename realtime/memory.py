"""What this process holds in memory, as the kernel counts it, and how it gives some of it back."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
import time

_STATM = "/proc/self/statm"


def resident_bytes() -> int:
    """Resident memory now; where there is no ``/proc``, the most that it ever was."""
    try:
        with open(_STATM, "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def collect() -> float:
    """Free what only a full garbage collection finds; the seconds in which nothing else ran.

    Not for another thread: it would stop this one all the same, and end objects of the loop beside the loop.
    """
    began = time.perf_counter()
    gc.collect()
    return time.perf_counter() - began


def trim() -> None:
    """Give free memory back to the system, where the C library can (glibc). Other threads run meanwhile."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
