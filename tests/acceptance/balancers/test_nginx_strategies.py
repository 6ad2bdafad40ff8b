"""What each strategy of nginx does with 300 connections to three nodes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.acceptance.balancers.conftest import InFront
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.conftest import StartCluster
from tests.support.cluster import Cluster

CONNECTIONS = 300
AT_ONCE = 30
WORKERS = "2"  # what one of them knows the other must know, too


async def open_all(connect: Connect, url: str, each: Iterable[dict[str, Any]]) -> list[Client]:
    """A client for each set of options, in this order; `key` goes into the address."""
    clients: list[Client] = []
    options = list(each)
    for start in range(0, len(options), AT_ONCE):
        batch = options[start : start + AT_ONCE]
        calls = [
            connect(f"{url}?key={one.get('key', '')}", **{k: v for k, v in one.items() if k != "key"}) for one in batch
        ]
        clients += await asyncio.gather(*calls)
    return clients


def by_node(clients: Iterable[Client]) -> Counter[str]:
    return Counter(client.node for client in clients)


def spread(counts: Counter[str]) -> int:
    """How far apart the fullest and the emptiest of three nodes are."""
    assert len(counts) == 3
    return max(counts.values()) - min(counts.values())


async def close_all(clients: Iterable[Client]) -> None:
    await asyncio.gather(*(client.close() for client in clients))


async def test_least_conn_fills_the_emptiest_node(nodes: Cluster, in_front: InFront, connect: Connect) -> None:
    """300 connections are within one of each other; after 60 of one node have ended, the next 60 go there."""
    nginx = in_front("nginx", nodes, workers=WORKERS)
    clients = await open_all(connect, nginx.url, [{}] * CONNECTIONS)
    assert spread(by_node(clients)) <= 1
    leaving = [client for client in clients if client.node == clients[0].node][:60]
    await close_all(leaving)
    coming = await open_all(connect, nginx.url, [{}] * len(leaving))
    assert by_node(coming)[clients[0].node] >= len(leaving) - 2
    assert spread(by_node(clients) - by_node(leaving) + by_node(coming)) <= 1


async def test_round_robin_takes_turns(nodes: Cluster, in_front: InFront, connect: Connect) -> None:
    """300 connections are within one of each other; who has left does not count: the next 60 are spread as well."""
    nginx = in_front("nginx", nodes, strategy="round_robin", workers=WORKERS)
    clients = await open_all(connect, nginx.url, [{}] * CONNECTIONS)
    assert spread(by_node(clients)) <= 1
    await close_all([client for client in clients if client.node == clients[0].node][:60])
    assert spread(by_node(await open_all(connect, nginx.url, [{}] * 60))) <= 1


async def test_ip_hash_keeps_an_address_on_its_node(nodes: Cluster, in_front: InFront, connect: Connect) -> None:
    """All connections of a network of 256 addresses are on one node, and all nodes have networks."""
    nginx = in_front("nginx", nodes, strategy="ip_hash", workers=WORKERS)
    networks = range(30)
    addresses = [(network, f"127.0.{network}.{host}") for network in networks for host in range(1, 11)]
    assert len(addresses) == CONNECTIONS
    clients = await open_all(connect, nginx.url, [{"local_addr": (address, 0)} for _, address in addresses])
    nodes_of: dict[int, set[str]] = {network: set() for network in networks}
    for (network, _), client in zip(addresses, clients, strict=True):
        nodes_of[network].add(client.node)
    assert {len(found) for found in nodes_of.values()} == {1}
    assert len(by_node(clients)) == 3


async def test_a_hash_keeps_a_key_on_its_node(start_cluster: StartCluster, in_front: InFront, connect: Connect) -> None:
    """A key finds its node again; when a node dies, only its own keys move, and both others take some of them; taken
    out of the configuration it changes no more than that."""
    cluster = start_cluster(nodes=3)
    nginx = in_front("nginx", cluster, strategy="hash", workers=WORKERS)
    keys = [f"user-{number}" for number in range(CONNECTIONS)]
    wanted = [{"key": key} for key in keys]
    first = await open_all(connect, nginx.url, wanted)
    assert min(by_node(first).values()) > CONNECTIONS / 3 / 2  # the ring is not even, but nearly
    again = await open_all(connect, nginx.url, wanted)
    assert [client.node for client in again] == [client.node for client in first]

    dead = first[0].node
    victim = next(node for node in cluster.nodes if dead.startswith(f"{node.name}-"))
    await asyncio.to_thread(victim.kill)
    after = await open_all(connect, nginx.url, wanted)
    moved = [new for old, new in zip(first, after, strict=True) if new.node != old.node]
    assert len(moved) == by_node(first)[dead]
    assert len(by_node(moved)) == 2

    smaller = in_front("nginx", cluster, strategy="hash", workers=WORKERS)
    last = await open_all(connect, smaller.url, wanted)
    assert [client.node for client in last] == [client.node for client in after]


async def test_a_hash_without_a_key_is_one_of_the_address(nodes: Cluster, in_front: InFront, connect: Connect) -> None:
    """Clients that name no key are told apart by their address, instead of all being on one node."""
    nginx = in_front("nginx", nodes, strategy="hash", workers=WORKERS)
    addresses = [f"127.0.0.{host}" for host in range(1, 41)]
    wanted = [{"local_addr": (address, 0)} for address in addresses]
    first = await open_all(connect, nginx.url, wanted)
    again = await open_all(connect, nginx.url, wanted)
    assert [client.node for client in again] == [client.node for client in first]
    assert len(by_node(first)) == 3
