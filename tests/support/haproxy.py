"""HAProxy in front of nodes, or of servers that tests put in their place."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from devtools.ports import free_port
from haproxy.render import Site, render
from tests.support.backends import get
from tests.support.cluster import require_program
from tests.support.processes import ServerProcess, accepts


class HaproxyProxy(ServerProcess):
    """HAProxy with our own template, in front of the given ports; `changes` are fields of its Site."""

    def __init__(self, ports: Sequence[int], directory: Path, **changes: Any) -> None:
        self.public_port = free_port()
        self.internal_port = free_port()
        self.site = Site(
            nodes=[f"127.0.0.1:{port}" for port in ports],
            public=f"127.0.0.1:{self.public_port}",
            internal=f"127.0.0.1:{self.internal_port}",
            connections=2_000,
            check_ms=200,
        )
        self.site = replace(self.site, **changes)
        configuration = directory / "haproxy.cfg"
        configuration.write_text(render(self.site))
        command = [require_program("haproxy"), "-db", "-f", str(configuration)]
        super().__init__("haproxy", command, os.environ, directory / "haproxy.log")

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.public_port}/ws/"

    def start(self) -> HaproxyProxy:
        self.spawn()
        self.wait_until(lambda: accepts(self.public_port) and accepts(self.internal_port), "listening")
        return self

    def node(self, number: int) -> dict[str, str]:
        """What its page of statistics says of a node; `status` is UP or DOWN, with a fraction while it changes."""
        _, text = get(self.internal_port, "/haproxy;csv")
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        return next(row for row in rows if (row["pxname"], row["svname"]) == ("nodes", f"node_{number}"))

    def is_up(self, number: int) -> bool:
        """Whether the node gets new connections."""
        return self.node(number)["status"].startswith("UP")

    def wait_checked(self) -> None:
        """Wait until each node has passed a check: before that, a single one that fails takes it out."""
        numbers = range(1, len(self.site.nodes) + 1)
        self.wait_until(
            lambda: all(self.node(number)["check_status"] == "L7OK" for number in numbers), "sure that all are ready"
        )
