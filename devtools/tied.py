"""Runs one program that ends when its parent ends, with its output in files.

    python -m devtools.tied --parent PID --signal KILL --log FILE [--access-log FILE] -- PROGRAM ARGUMENT…

The kernel sends the signal when the parent is gone, however it went (Linux; elsewhere the program is only
started). The program replaces this process, so it keeps the process id that its supervisor knows.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def end_with_parent(number: signal.Signals, parent: int) -> None:
    """Ask the kernel for `number` when the parent ends; ends at once if it has ended already."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, number) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal; False where that cannot be seen."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def kill_group(pid: int) -> None:
    """Kill what is left of a program that was started in a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devtools.tied")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    parser.add_argument("--log", type=Path, required=True, help="standard error, and standard output as well")
    parser.add_argument("--access-log", type=Path, help="standard output, instead of the log")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    end_with_parent(signal.Signals[f"SIG{options.signal}"], options.parent)
    _send_to(options.log, 2)
    _send_to(options.access_log or options.log, 1)
    try:
        os.execvp(options.command[0], options.command)
    except OSError as error:
        sys.exit(f"{options.command[0]}: {error.strerror}")


def _send_to(path: Path, descriptor: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, descriptor)
    os.close(file)


if __name__ == "__main__":
    main()
