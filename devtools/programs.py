"""A program that `make run` starts: its command, environment, address, and how to end it; and a node as one."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from devtools.options import Options
from devtools.ports import HOST

START_SECONDS = 30.0


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
    files: dict[Path, str] = field(default_factory=dict)  # written before it starts
    parent_death: str = "KILL"  # what the kernel sends when the supervisor is gone
    stop_seconds: float = 1.0  # from SIGTERM to SIGKILL
    start_seconds: float = START_SECONDS  # until its port must answer

    def write_files(self) -> None:
        for path, content in self.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def tied_command(self) -> list[str]:
        """The command line of the program, tied to the life of this process."""
        access_log = ["--access-log", str(self.access_log)] if self.access_log else []
        tied = ["--parent", str(os.getpid()), "--signal", self.parent_death, "--log", str(self.log)]
        return [sys.executable, "-m", "devtools.tied", *tied, *access_log, "--", *self.command]


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
