"""A real cluster for acceptance tests: nodes as processes, on free ports, with nginx in front if wanted.

Everything here blocks. An async test that must go on meanwhile uses `await asyncio.to_thread(node.stop)`.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from devtools.packages import find_program
from devtools.ports import free_port
from nginx.render import Site, render
from tests.support.processes import CHECKOUT, START_SECONDS, ServerProcess, accepts
from tests.support.servers import require

OUR_VARIABLES = (
    "BACKPLANE_",
    "DATABASE_",
    "DEMO",
    "DJANGO_",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "NODE_",
    "REALTIME_",
    "STATIC_ROOT",
)


def require_program(name: str) -> str:
    """Path of a program; without it the test is skipped, or fails where CI=true."""
    return require(find_program(name), f"{name} is not installed")


class DaphneNode(ServerProcess):
    """One node: the plain `daphne config.asgi:application`."""

    def __init__(self, name: str, directory: Path, environment: Mapping[str, str], port: int | None = None) -> None:
        self.port = port or free_port()  # stays the same over restarts
        daphne = str(Path(sys.executable).with_name("daphne"))
        super().__init__(
            name,
            [sys.executable, daphne, "config.asgi:application", "--port", str(self.port)],
            {**environment, "NODE_NAME": name, "NODE_ADDRESS": f"127.0.0.1:{self.port}"},
            directory / f"{name}.log",
        )

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> DaphneNode:
        """Start it and wait until it is ready."""
        self.spawn()
        self.wait_ready()
        return self

    def restart(self) -> DaphneNode:
        """Kill it and start it again on the same port."""
        self.kill()
        return self.start()

    def wait_listening(self, seconds: float = START_SECONDS) -> None:
        self.wait_until(lambda: accepts(self.port), "listening", seconds)

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        self.wait_until(lambda: self.is_ready, "ready", seconds)

    def wait_not_ready(self, seconds: float = START_SECONDS) -> None:
        self.wait_until(lambda: not self.is_ready, "unready", seconds)

    @property
    def is_ready(self) -> bool:
        return http_status(self.port, "/health/ready") == 200


class NginxProxy(ServerProcess):
    """nginx with our own template, in front of the given ports; `changes` are fields of its Site."""

    def __init__(self, ports: list[int], directory: Path, **changes: Any) -> None:
        self.public_port = free_port()
        self.internal_port = free_port()
        run_dir = directory / "nginx"
        run_dir.mkdir()
        self.site = Site(
            nodes=[f"127.0.0.1:{port}" for port in ports],
            run_dir=run_dir,
            static_root=run_dir / "static",
            public=f"127.0.0.1:{self.public_port}",
            internal=f"127.0.0.1:{self.internal_port}",
            user="root" if os.geteuid() == 0 else "",
            workers="1",
            connections=4_096,
            address_connections=0,  # all clients are on this machine
            address_connects=0,
        )
        self.site = replace(self.site, **changes)
        self.configuration = run_dir / "nginx.conf"
        self.configuration.write_text(render(self.site))
        super().__init__("nginx", self._command(), os.environ, run_dir / "nginx-error.log")

    def _command(self) -> list[str]:
        files = ["-e", str(self.site.run_dir / "nginx-error.log"), "-c", str(self.configuration)]
        # One process, which the kernel can end with the test run; a killed master would leave its workers.
        is_single = self.site.workers == "1"
        self.parent_death = "KILL" if is_single else "TERM"
        processes = "daemon off; master_process off;" if is_single else "daemon off;"
        return [require_program("nginx"), "-p", str(self.site.run_dir), *files, "-g", processes]

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.public_port}/ws/"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.public_port}"

    @property
    def internal_url(self) -> str:
        return f"http://127.0.0.1:{self.internal_port}"

    def start(self) -> NginxProxy:
        self.spawn()
        self.wait_until(lambda: accepts(self.public_port), "listening")
        return self


class Cluster:
    """Some nodes on one backplane with a database of their own; a context manager.

    Each cluster has a prefix of its own, so that several may share one Redis.
    """

    def __init__(
        self,
        backplane_url: str,
        *,
        nodes: int = 3,
        nginx: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cluster-"))
        self.prefix = f"t{uuid.uuid4().hex[:10]}"
        self.database = self.directory / "db.sqlite3"
        self.environment = {
            **clean_environment(),
            "BACKPLANE_URL": backplane_url,
            "BACKPLANE_PREFIX": self.prefix,
            "DATABASE_URL": f"sqlite:///{self.database}",
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self.nodes = [DaphneNode(f"n{index}", self.directory, self.environment) for index in range(1, nodes + 1)]
        self.nginx = NginxProxy([node.port for node in self.nodes], self.directory) if nginx else None

    def start(self) -> Cluster:
        """Start all nodes at the same time, wait until each is ready, then start nginx."""
        shutil.copy(migrated_database(), self.database)
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            node.wait_ready()
        if self.nginx is not None:
            self.nginx.start()
        return self

    def stop(self) -> None:
        """Kill what runs and delete the files. Tests of stopping politely do so themselves."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def processes(self) -> Iterator[ServerProcess]:
        yield from self.nodes
        if self.nginx is not None:
            yield self.nginx

    def manage(self, *arguments: str) -> str:
        """Run `manage.py` on this cluster's database and backplane; its output."""
        done = run_manage(self.environment, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def logs(self) -> Iterator[tuple[str, str]]:
        """Name and log of each process."""
        for process in self.processes():
            yield process.name, process.log

    def __enter__(self) -> Cluster:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def clean_environment() -> dict[str, str]:
    """This process's environment without the variables that our settings read."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}


def run_manage(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=CHECKOUT,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=60,
    )


@functools.cache
def _template_directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="template-database-")


@functools.cache
def migrated_database() -> Path:
    """An empty database with all migrations applied; made once in a test run. Copy it, do not use it."""
    path = Path(_template_directory().name) / "db.sqlite3"
    environment = {**clean_environment(), "DATABASE_URL": f"sqlite:///{path}", "BACKPLANE_URL": "memory://"}
    done = run_manage(environment, "migrate", "--verbosity", "0")
    assert done.returncode == 0, done.stderr
    return path


def http_status(port: int, path: str, timeout: float = 5.0) -> int | None:
    """The status of a GET on the loopback, or None if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
