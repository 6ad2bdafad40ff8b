"""The Kafka channel layer in one event loop: one link to the cluster, and both halves on it."""

from __future__ import annotations

from itertools import count

from realtime.layers.kafka_address import Address, Options
from realtime.layers.kafka_cluster import Cluster
from realtime.layers.kafka_link import KafkaLink
from realtime.layers.kafka_publisher import KafkaPublisher, partition_of
from realtime.layers.kafka_subscriber import KafkaSubscriber
from realtime.layers.kafka_topics import TopicNames
from realtime.layers.linked_loop import LinkedLoop, Shared
from realtime.layers.wire import channel_on_wire, group_on_wire

SHARD = 0  # the cluster is one


class KafkaLoop(LinkedLoop):
    """A lost connection loses nothing here: reading goes on where it stopped. `gaps` says where it could not."""

    def __init__(self, address: Address, options: Options, prefix: str, shared: Shared) -> None:
        super().__init__(shared)
        self.gaps: frozenset[str] = frozenset()  # topics in which something was lost, while the watchers are told
        self._prefix = prefix
        self._options = options
        self._names = TopicNames(prefix, options)
        cluster = Cluster(address, options)
        self._link = KafkaLink(cluster, self.stats)
        publisher = self._make_publisher(cluster, shared.max_pending_bytes)
        subscriber = self._make_subscriber(cluster)
        self._link.halves = (publisher, subscriber)
        self.publishers = [publisher]
        self.subscribers = [subscriber]

    def _make_publisher(self, cluster: Cluster, max_bytes: int) -> KafkaPublisher:
        return KafkaPublisher(
            cluster,
            self._link,
            self.stats,
            topic_of=self._names.topic_of,
            acks=self._options.acks,
            linger_ms=self._options.linger_ms,
            max_bytes=max_bytes,
            on_up=self._publisher_up,
        )

    def _make_subscriber(self, cluster: Cluster) -> KafkaSubscriber:
        return KafkaSubscriber(
            cluster,
            self._link,
            self.stats,
            max_wait_ms=self._options.fetch_max_wait_ms,
            max_lag=self._options.max_lag,
            unseal=self._unseal,
            is_full=self._is_full,
            on_lost=lambda: self._shard_lost(self.subscribers[SHARD]),
            on_up=self._read_again,
            on_dropped=self._unreadable,
        )

    def group_on_wire(self, group: str) -> bytes:
        return group_on_wire(self._prefix, group)

    def channel_on_wire(self, channel: str) -> bytes:
        return channel_on_wire(self._prefix, channel)

    def is_in(self, topics: frozenset[str], name: bytes) -> bool:
        """Whether this name on the wire is carried by one of the topics."""
        return self._names.topic_of(name) in topics

    def probe_groups(self, stem: str) -> list[str]:
        """One group for each partition of the rooms' topic."""
        partitions = self._link.partitions_of(self._options.room_topic) or self._options.partitions
        found: dict[int, str] = {}
        for number in count():
            if len(found) == partitions:
                return [found[partition] for partition in sorted(found)]
            group = f"{stem}.{number}"
            found.setdefault(partition_of(self.group_on_wire(group), partitions), group)
        raise AssertionError("unreachable")

    def _read_again(self, gaps: frozenset[str]) -> None:
        """All partitions are read; in the topics `gaps` something was lost."""
        [subscriber] = self.subscribers
        if gaps:
            if SHARD not in self._lost:  # found out without an interruption: it is one all the same
                self._shard_lost(subscriber)
            self.stats.missed += 1
            self._on_missed(
                frozenset(
                    group
                    for groups in self.groups.values()
                    for group in groups
                    if self.is_in(gaps, self.group_on_wire(group))
                )
            )
        self._lost.discard(SHARD)
        self.gaps = gaps
        for watcher in self.watchers:
            watcher.shard_up(SHARD)
        self.gaps = frozenset()
