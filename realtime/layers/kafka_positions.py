"""Where to read on in a partition. It decides; who asks the broker is `kafka_subscriber`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiokafka.protocol.offset import OffsetRequest

from realtime.layers.kafka_cluster import NO_ERROR, Partition
from realtime.layers.kafka_connection import BrokerConnection, BrokerRefused

LATEST = -1
EARLIEST = -2
ASK_SECONDS = 1.5

Topics = list[tuple[str, list[Any]]]


def read_on_at(position: int | None, earliest: int, latest: int, *, is_new: bool, max_lag: int) -> tuple[int, int]:
    """The offset to read on at, and how many messages are lost by that (-1: nobody knows).

    A partition without a position is read from its end; one that appeared while the node was running (`is_new`) from
    its beginning, as others may have published to it before we saw it.
    """
    if position is None:
        position = earliest if is_new else latest
    elif not earliest <= position <= latest:  # the log was lost, cut, or is older than its retention
        return latest, -1
    if latest - position > max_lag:
        return latest, latest - position
    return position, 0


async def offsets(connection: BrokerConnection, partitions: Iterable[Partition], which: int) -> dict[Partition, int]:
    """The first (EARLIEST) or the next (LATEST) offset of partitions that this broker leads."""
    request = OffsetRequest(-1, 0, by_topic((partition, which) for partition in partitions))
    answer = await connection.ask(request, ASK_SECONDS)
    found = {}
    for topic, parts in answer.topics:
        for number, code, _, offset, *_ in parts:
            if code != NO_ERROR:
                raise BrokerRefused(f"{connection.name}: offsets of {topic} {number}: error {code}")
            found[topic, number] = offset
    return found


def by_topic(items: Iterable[tuple[Any, ...]]) -> Topics:
    """`((topic, number), …)` as requests want it: `(topic, [(number, …), …])`."""
    topics: dict[str, list[Any]] = {}
    for (topic, number), *rest in items:
        topics.setdefault(topic, []).append((number, *rest))
    return list(topics.items())
