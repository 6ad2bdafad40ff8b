"""A real RabbitMQ as a private process on free ports, that can be stopped, killed, paused and started again.

It is Debian's `rabbitmq-server`, with its files in a directory of its own and a port mapper (epmd) of its own, so that
no broker of the system is touched or needed. Both end with the test run, however that ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from devtools.ports import free_port
from devtools.rabbitmq import SCRIPT, private_environment
from tests.support.certificates import make_certificate
from tests.support.cluster import require_program
from tests.support.processes import ServerProcess, accepts
from tests.support.servers import require

START_SECONDS = 60.0  # 4 on an idle machine


class RabbitServer:
    """One broker with the user `guest`; a context manager. `lines` are added to its rabbitmq.conf."""

    def __init__(self, *lines: str) -> None:
        require(str(SCRIPT) if SCRIPT.exists() else None, "rabbitmq-server is not installed")
        self.directory = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        self.port = free_port()  # stays the same over restarts
        self._mapper_port = free_port()
        self.tls_port = free_port()
        self.certificate, self._key = make_certificate(self.directory)
        self._write_configuration(lines)
        private = private_environment(
            self.directory, port=self.port, mapper_port=self._mapper_port, distribution_port=free_port()
        )
        self._environment = {**os.environ, **private}
        self._mapper = ServerProcess("epmd", [require_program("epmd")], self._environment, self.directory / "epmd.log")
        self._broker = ServerProcess("rabbitmq", [str(SCRIPT)], self._environment, self.directory / "log")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def tls_url(self) -> str:
        """Over TLS, trusting our own authority."""
        return f"amqps://guest:guest@localhost:{self.tls_port}/?cacertfile={self.certificate}"

    @property
    def pid(self) -> int:
        return self._broker.pid

    @property
    def is_running(self) -> bool:
        return self._broker.is_running

    @property
    def log(self) -> str:
        return self._broker.log

    def start(self) -> RabbitServer:
        """Start it (or do nothing if it runs) and wait until it accepts connections."""
        if not self._mapper.is_running:
            self._mapper.spawn()
            self._mapper.wait_until(lambda: accepts(self._mapper_port), "listening")
        if not self._broker.is_running:
            self._broker.spawn()
            self._broker.wait_until(lambda: accepts(self.port), "listening", START_SECONDS)
        return self

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would; `start()` or `restart()` brings it back on the same port."""
        self._broker.kill()

    def restart(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing answers. Returns when all its threads stand still."""
        self._broker.pause()

    def resume(self) -> None:
        self._broker.resume()

    def stop(self) -> None:
        """End it and its port mapper, and delete its files. Nothing in them is worth a polite end."""
        self._broker.kill()
        self._mapper.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl with a node name, cookie and port mapper of this broker; its output."""
        command = [str(SCRIPT.with_name("rabbitmqctl")), "--quiet", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    def __enter__(self) -> RabbitServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _write_configuration(self, lines: Sequence[str]) -> None:
        (self.directory / "plugins").write_text("[].")
        options = {"cacertfile": self.certificate, "certfile": self.certificate, "keyfile": self._key}
        tls = [f"ssl_options.{name} = {path}" for name, path in options.items()]
        tls += [f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}", "ssl_options.verify = verify_none"]
        (self.directory / "rabbitmq.conf").write_text("\n".join([*tls, *lines, ""]))
