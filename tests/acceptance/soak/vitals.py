"""What a node holds, as the kernel and its own metrics say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.nodes import get
from tests.support.cluster import DaphneNode

PER_CLIENT = ("connections", "sockets", "writers", "protocols")
"""Objects of which a node has one for each client."""


@dataclass(frozen=True, slots=True)
class Held:
    """At a moment of rest. ``files`` and ``tasks``: without those of clients. ``left``: of who is gone."""

    memory: int
    blocks: int
    files: int
    threads: int
    tasks: int
    left: dict[str, int]


def held(node: DaphneNode, *, clients: int) -> Held:
    process = Path(f"/proc/{node.pid}")
    said = json.loads(get(f"{node.http_url}/held"))
    return Held(
        memory=said["memory"],
        blocks=said["blocks"],
        files=len(list((process / "fd").iterdir())) - clients,
        threads=len(list((process / "task").iterdir())),
        tasks=said["tasks"] - clients,
        # A client who came before the node was through with its start may be hidden from the collector: no objection.
        left={name: said[name] - clients for name in PER_CLIENT if said[name] > clients},
    )


def figures(node: DaphneNode) -> dict[str, float]:
    """All metrics of a node, each summed over its labels."""
    found: dict[str, float] = {}
    for line in get(f"{node.http_url}/metrics").splitlines():
        if not line.startswith("#"):
            sample, _, value = line.rpartition(" ")
            name = sample.partition("{")[0]
            found[name] = found.get(name, 0.0) + float(value)
    return found
