"""What each balancer and backplane must carry: broadcast, room, private, the loss of a node and of the broker."""

from __future__ import annotations

import asyncio

from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import acquainted, assert_no_traceback, eventually
from tests.acceptance.outage import ready
from tests.support.cluster import Cluster
from tests.support.servers import Server

CLIENTS = 9
BACK_SECONDS = 20.0
BROKER_BACK_SECONDS = 30.0  # with one that starts slowly


async def connected_everywhere(cluster: Cluster, connect: Connect, url: str) -> list[Client]:
    """Clients that came through the balancer, at least one on each node."""
    clients = [await connect(url) for _ in range(CLIENTS)]
    assert len({client.node for client in clients}) == len(cluster.nodes)
    return clients


async def exchange(clients: list[Client], room: str) -> None:
    """A broadcast, a message in a room, and a private one each reach whom they should and nobody else."""
    first, last = clients[0], next(client for client in reversed(clients) if client.node != clients[0].node)
    members = [first, *clients[1::2], last]
    for client in dict.fromkeys(members):
        await client.join(room)
    await first.do("private", to=last.id, data=f"{room}: private")
    await first.do("room", room=room, data=f"{room}: room")
    await first.do("broadcast", data=f"{room}: broadcast")
    for client in clients[1:]:
        await client.expect("broadcast", data=f"{room}: broadcast")
        if client in members:
            await client.expect("room", room=room, data=f"{room}: room")
        if client is last:
            await client.expect("private", data=f"{room}: private")
    for client in clients[1:]:
        assert len(about(client, room)) == 1 + (client in members) + (client is last)
    await first.do("ping")
    assert about(first, room) == []


def about(client: Client, room: str) -> list[str]:
    """What one exchange has brought to a client."""
    return [data for push in client.pushes() if str(data := push.get("data", "")).startswith(f"{room}: ")]


async def lose_a_node(cluster: Cluster, connect: Connect, url: str, clients: list[Client]) -> list[Client]:
    """Kill a node under its clients: they come back on the others at once, and all of them hear each other again."""
    victim = cluster.nodes[-1]
    lost = [client for client in clients if client.node.startswith(f"{victim.name}-")]
    stayed = [client for client in clients if client not in lost]
    await asyncio.to_thread(victim.kill)
    assert {await client.closed() for client in lost} == {(1006, "")}
    returned = [await connect(url) for _ in lost]
    assert not {client.node for client in returned} & {client.node for client in lost}
    assert not any(client.is_closed for client in stayed)
    return [*stayed, *returned]


async def run_scenario(cluster: Cluster, connect: Connect, url: str, broker: Server) -> None:
    """1. Three nodes exchange messages. 2. One is killed; the others go on. 3. It comes back and takes part.
    4. The broker is killed and started again, and nobody has to connect anew."""
    await acquainted(cluster)
    clients = await connected_everywhere(cluster, connect, url)
    await exchange(clients, "three nodes")
    clients = await lose_a_node(cluster, connect, url, clients)
    await exchange(clients, "two nodes")
    await asyncio.to_thread(cluster.nodes[-1].restart)
    newcomer = await arrive_on(cluster, connect, url)
    await newcomer.do("broadcast", data="back")
    for client in clients:
        await client.expect("broadcast", data="back")
    clients.append(newcomer)
    await exchange(clients, "three again")
    broker.kill()
    await eventually(lambda: not any(node.is_ready for node in cluster.nodes), "all nodes noticed", BACK_SECONDS)
    broker.start()  # not in a thread: a Redis ends with the thread that started it
    await ready(cluster, BROKER_BACK_SECONDS)
    await exchange(clients, "after the broker")
    assert_no_traceback(cluster)


async def arrive_on(cluster: Cluster, connect: Connect, url: str) -> Client:
    """The first client that the balancer sends to the node that came back."""
    async with asyncio.timeout(BACK_SECONDS):
        while True:
            client = await connect(url)
            if client.node.startswith(f"{cluster.nodes[-1].name}-"):
                return client
            await client.close()
