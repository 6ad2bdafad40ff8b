"""What several tests ask of nodes."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Callable

from tests.support.cluster import Cluster, DaphneNode


def get(url: str) -> str:
    """The body of a page of a node."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def metric(node: DaphneNode, name: str) -> float:
    """The sum of a metric over its labels."""
    samples = (line.rpartition(" ") for line in get(f"{node.http_url}/metrics").splitlines())
    return sum(float(value) for sample, _, value in samples if sample.partition("{")[0] == name)


async def eventually(holds: Callable[[], bool], what: str, within: float = 10.0) -> float:
    """Ask again until it holds; the seconds that it took. The question is asked in a thread."""
    began = time.monotonic()
    while not await asyncio.to_thread(holds):
        assert time.monotonic() - began < within, f"{what}: not within {within:g} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def acquainted(cluster: Cluster, within: float = 10.0) -> None:
    """Wait until each node knows of all the others."""
    running = [node for node in cluster.nodes if node.is_running]
    await eventually(
        lambda: all(metric(node, "realtime_nodes") == len(running) for node in running),
        "the nodes know each other",
        within,
    )


def assert_no_traceback(cluster: Cluster) -> None:
    """Nothing that happened so far was a surprise to a node."""
    for name, log in cluster.logs():
        assert "Traceback" not in log, f"{name}: {log[log.index('Traceback') :][:3000]}"


def use_application(cluster: Cluster, application: str) -> Cluster:
    """Let the nodes serve another ASGI application than config.asgi:application. Before they start."""
    for node in cluster.nodes:
        node.command = [application if word == "config.asgi:application" else word for word in node.command]
    return cluster
