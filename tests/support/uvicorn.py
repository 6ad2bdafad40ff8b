"""Nodes on uvicorn, for clusters of daphne and uvicorn."""

from __future__ import annotations

import sys

from tests.support.cluster import Cluster, DaphneNode

UNCOMPRESSED = ("--ws-per-message-deflate", "false")


class UvicornNode(DaphneNode):
    """One node: the plain `uvicorn config.asgi:application`, with some arguments more."""

    def __init__(
        self, name: str, cluster: Cluster, *arguments: str, application: str = "config.asgi:application"
    ) -> None:
        super().__init__(name, cluster.directory, cluster.environment)
        self.command = [sys.executable, "-m", "uvicorn", application, "--port", str(self.port), *arguments]

    @property
    def is_ready(self) -> bool:
        if "--ssl-certfile" not in self.command:
            return super().is_ready
        return "Uvicorn running on" in self.log and "node_ready" in self.log


def add_uvicorn(cluster: Cluster, *arguments: str, application: str = "config.asgi:application") -> UvicornNode:
    """One more node for a cluster that has not started yet."""
    node = UvicornNode(f"u{len(cluster.nodes) + 1}", cluster, *arguments, application=application)
    cluster.nodes.append(node)
    return node
