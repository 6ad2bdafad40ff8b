"""The layers under test, and what each of them can be asked for."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from channels.layers import InMemoryChannelLayer
from channels_redis.core import RedisChannelLayer as CoreLayer
from channels_redis.pubsub import RedisPubSubChannelLayer as PubSubLayer

from devtools.kafka import PARTITIONS
from realtime.layers.backplane import Backplane, backplane_for
from realtime.layers.kafka import KafkaChannelLayer
from realtime.layers.memory import MemoryChannelLayer
from realtime.layers.rabbitmq import RabbitmqChannelLayer
from realtime.layers.redis import RedisChannelLayer
from tests.contract.recorder import Recorder
from tests.support.rabbitmq import RabbitServer
from tests.support.servers import RedisServer, Server

CAPACITY = 100_000


def _core(hosts: list[str], prefix: str, options: dict[str, Any]) -> Any:
    addresses = [{"address": host, "socket_timeout": None} for host in hosts]
    return CoreLayer(hosts=addresses, prefix=prefix, capacity=CAPACITY, **options)


def _pubsub(hosts: list[str], prefix: str, options: dict[str, Any]) -> Any:
    return PubSubLayer(hosts=hosts, prefix=prefix, **options)


def _redis(hosts: list[str], prefix: str, options: dict[str, Any]) -> Any:
    return RedisChannelLayer(hosts, prefix, **options)


def _rabbitmq(hosts: list[str], prefix: str, options: dict[str, Any]) -> Any:
    return RabbitmqChannelLayer(hosts, prefix, **options)


def _kafka(hosts: list[str], prefix: str, options: dict[str, Any]) -> Any:
    return KafkaChannelLayer(hosts, prefix, **options)


def _in_memory(hosts: list[str], prefix: str, options: dict[str, Any]) -> Any:
    return InMemoryChannelLayer(capacity=CAPACITY, **options)


def _memory(hosts: list[str], prefix: str, options: dict[str, Any]) -> Any:
    return MemoryChannelLayer(**options)


@dataclass(frozen=True)
class Kind:
    name: str
    make: Callable[[list[str], str, dict[str, Any]], Any]
    servers: int  # that it needs; 0: it lives in one process
    broker: str = "redis"  # what these servers are: the fixtures `<broker>_servers` and `own_<broker>_servers`
    is_ours: bool = False
    checks_names: bool = True
    expires_groups: bool = False
    has_common_order: bool = True  # all subscribers of a group see the same sequence
    reads_on: bool = False  # after an interruption, where it had stopped: nothing is lost, and subscribing is local
    probes: int = 0  # groups that prove every part of it; 0: one for each server
    groups_seconds: float = 10.0  # in which it takes 10,000 groups (stock layers: 200)
    subscriptions: Callable[[Cluster], int] | None = None  # how many the servers hold for a cluster, if they say so


def _redis_channels(cluster: Cluster) -> int:
    count = 0
    for server in cluster.servers[: cluster.kind.servers]:
        assert isinstance(server, RedisServer)
        count += server.command("PUBSUB", "CHANNELS", f"{cluster.prefix}*").count(b"$")
    return count


def _rabbitmq_bindings(cluster: Cluster) -> int:
    [server] = cluster.servers
    assert isinstance(server, RabbitServer)
    sources = server.control("list_bindings", "--no-table-headers", "source_name").split()
    return sources.count(f"{cluster.prefix}.websocket")


def _kafka_routes(cluster: Cluster) -> int:
    """The broker knows nothing of groups: the nodes choose."""
    return sum(len(each.routes) for layer in cluster.layers for each in layer.in_this_loop().subscribers)


def _memory_groups(cluster: Cluster) -> int:
    return len(cluster.layers[0].groups)


KINDS = [
    Kind("in-memory", _in_memory, servers=0, expires_groups=True),
    Kind("core", _core, servers=1, expires_groups=True, has_common_order=False),
    Kind("pubsub", _pubsub, servers=1, checks_names=False),
    Kind("redis", _redis, servers=1, is_ours=True, groups_seconds=2.0, subscriptions=_redis_channels),
    Kind("shards", _redis, servers=2, is_ours=True, groups_seconds=2.0, subscriptions=_redis_channels),
    Kind(
        "rabbitmq",
        _rabbitmq,
        servers=1,
        broker="rabbitmq",
        is_ours=True,
        has_common_order=False,
        groups_seconds=60.0,
        subscriptions=_rabbitmq_bindings,
    ),
    Kind(
        "kafka",
        _kafka,
        servers=1,
        broker="kafka",
        is_ours=True,
        reads_on=True,
        probes=PARTITIONS,
        groups_seconds=2.0,
        subscriptions=_kafka_routes,
    ),
    Kind("memory", _memory, servers=0, is_ours=True, groups_seconds=2.0, subscriptions=_memory_groups),
]


@dataclass
class Cluster:
    """Several processes on one backplane, acted by several layer objects in one loop."""

    kind: Kind
    servers: Sequence[Server]
    prefix: str = field(default_factory=lambda: f"t{secrets.token_hex(6)}")
    layers: list[Any] = field(default_factory=list)
    backplanes: list[Backplane] = field(default_factory=list)

    def layer(self, **options: Any) -> Any:
        """The layer as one more process has it; layers that live in one process are the same object."""
        if self.kind.servers == 0 and self.layers and not options:
            return self.layers[0]
        hosts = [server.url for server in self.servers[: self.kind.servers]]
        layer = self.kind.make(hosts, self.prefix, options)
        self.layers.append(layer)
        return layer

    async def node(self, layer: Any = None) -> tuple[Backplane, Recorder]:
        """An open backplane and what it delivers."""
        backplane = self.backplane(layer)
        recorder = Recorder()
        await backplane.open(node_channel(), recorder)
        return backplane, recorder

    def backplane(self, layer: Any = None) -> Backplane:
        backplane = backplane_for(layer or self.layer())
        self.backplanes.append(backplane)
        return backplane

    async def close(self) -> None:
        for backplane in self.backplanes:
            await backplane.close()
        for layer in self.layers:
            await _close_layer(layer)


def node_channel() -> str:
    return f"rt.node.{secrets.token_hex(4)}"


async def assert_works(layer: Any) -> None:
    """A message goes there and back."""
    try:
        channel = await layer.new_channel()
        await layer.group_add("works", channel)
        await layer.group_send("works", {"type": "t"})
        assert await asyncio.wait_for(layer.receive(channel), 5) == {"type": "t"}
    finally:
        await layer.close()


async def _close_layer(layer: Any) -> None:
    if isinstance(layer, CoreLayer):
        await layer.close_pools()
    elif isinstance(layer, PubSubLayer):
        await layer.flush()
    else:
        await layer.close()
