"""What a node holds, as the kernel and its own metrics say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.engine.memory import resident_bytes
from tests.acceptance.nodes import get
from tests.support.cluster import DaphneNode


@dataclass(frozen=True, slots=True)
class Held:
    """At a moment of rest. ``files``: open ones, without the sockets of clients."""

    memory: int
    files: int
    threads: int


def held(pid: int, *, clients: int) -> Held:
    process = Path(f"/proc/{pid}")
    return Held(
        memory=resident_bytes(pid),
        files=len(list((process / "fd").iterdir())) - clients,
        threads=len(list((process / "task").iterdir())),
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
