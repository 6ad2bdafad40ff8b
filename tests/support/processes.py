"""One program that a test starts, in a process that cannot outlive the test run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from devtools.tied import kill_group

CHECKOUT = Path(__file__).resolve().parents[2]
# The kernel ties a child to the thread that started it, so all are started by one that lasts as long as the
# run.
starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")
START_SECONDS = 20.0


class ProcessFailed(AssertionError):
    """The program ended, or did not do in time what was waited for; the message has the end of its log."""


class ServerProcess:
    """A program with its output in a file. It may be started again after it has ended."""

    parent_death = "KILL"  # what the kernel sends when the test run is gone

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.command = list(command)
        self.environment = dict(environment)
        self.log_path = log
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._started().pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        """Everything it has written so far, over all its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def spawn(self) -> None:
        """Start it, without waiting for anything."""
        if self.is_running:
            raise ProcessFailed(f"{self.name} is running already")
        tied = [
            "--parent",
            str(os.getpid()),
            "--signal",
            self.parent_death,
            "--log",
            str(self.log_path),
            "--",
            *self.command,
        ]
        command = [sys.executable, "-m", "devtools.tied", *tied]
        self.process = starter.submit(self._open, command).result()

    def kill(self) -> None:
        """SIGKILL, as a crash would; returns when it is gone."""
        if self.is_running:
            self._started().kill()
            self._started().wait(10)
        if self.process is not None:
            kill_group(self.process.pid)

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self._started().send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 15.0) -> int:
        """Its exit status, when it ends by itself in that time."""
        try:
            return self._started().wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.failed(f"has not ended after {seconds:g} s") from None

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM, and its exit status when it has ended."""
        self.terminate()
        return self.wait(seconds)

    def pause(self) -> None:
        """SIGSTOP: its sockets stay open, nothing answers. Returns when all its threads stand still: on a busy machine
        they go on for a moment."""
        self._started().send_signal(signal.SIGSTOP)
        self.wait_until(lambda: stands_still(self.pid), "stopped")

    def resume(self) -> None:
        self._started().send_signal(signal.SIGCONT)

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        """Poll until the condition holds; ProcessFailed when the process ends before, or after that time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if not self.is_running:
                raise self.failed(f"ended before it was {what}")
            if time.monotonic() > deadline:
                raise self.failed(f"is not {what} after {seconds:g} s")
            time.sleep(0.02)

    def failed(self, what: str) -> ProcessFailed:
        return ProcessFailed(f"{self.name} {what}. The end of its log:\n{self.log[-4000:]}")

    def _open(self, command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, cwd=CHECKOUT, env=self.environment, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise ProcessFailed(f"{self.name} was not started")
        return self.process


def stands_still(pid: int) -> bool:
    """Whether all threads of a process are stopped; True where that cannot be seen."""
    return all(state_of(thread) in "TX" for thread in Path(f"/proc/{pid}/task").glob("*"))


def state_of(thread: Path) -> str:
    """The letter that the kernel has for what a thread does; X if it has ended meanwhile."""
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def accepts(port: int) -> bool:
    """Whether something on the loopback accepts connections on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
