"""What tests of a backplane that goes away and comes back have in common."""

from __future__ import annotations

import time
from typing import Any

from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import eventually
from tests.support.cluster import Cluster, DaphneNode, http_status

FAST_SECONDS = 1.0  # an answer that waits for no time-out, on a busy machine
ONE_MISSED = [{"type": "missed", "rooms": None}]


async def members(cluster: Cluster, connect: Connect, per_node: int = 2) -> list[Client]:
    """Clients of each node, all in one room."""
    clients = [await connect(node.url) for node in cluster.nodes for _ in range(per_node)]
    for client in clients:
        await client.join("room", f"own-{client.id}"[:60])
    return clients


async def assert_unavailable(client: Client, within: float, **command: Any) -> None:
    began = time.monotonic()
    reply = await client.ask(**command)
    assert (reply["type"], reply.get("code")) == ("error", "unavailable")
    assert time.monotonic() - began < within


async def assert_everything_arrives(clients: list[Client]) -> None:
    """Each reaches all the others by broadcast, by room and in private."""
    for number, sender in enumerate(clients):
        await sender.do("broadcast", data=f"b{number}", echo=True)
        await sender.do("room", room="room", data=f"r{number}", echo=True)
        for recipient in clients:
            await sender.do("private", to=recipient.id, data=f"p{number}")
    for client in clients:
        for number in range(len(clients)):
            await client.expect("broadcast", data=f"b{number}")
            await client.expect("room", data=f"r{number}")
            await client.expect("private", data=f"p{number}")


async def ready(cluster: Cluster, within: float = 10.0) -> None:
    await eventually(lambda: all(node.is_ready for node in cluster.nodes), "all nodes are ready", within)


def status(node: DaphneNode) -> int | None:
    return http_status(node.port, "/health/ready")
