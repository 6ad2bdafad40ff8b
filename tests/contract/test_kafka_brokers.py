"""Several brokers: partitions that move, brokers that go down and come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.backplane import Backplane
from realtime.layers.kafka import KafkaChannelLayer
from realtime.layers.kafka_address import Options
from tests.contract.kinds import node_channel
from tests.contract.recorder import PATIENCE_SECONDS, Recorder
from tests.support.kafka_mock import BROKERS, MockCluster

PARTITIONS = 3
TOPICS = Options().topics
ROOM = Options().room_topic
GROUPS = [f"rt.r.{number}" for number in range(12)]  # in all partitions


@pytest.fixture
def brokers() -> Iterator[MockCluster]:
    with MockCluster(TOPICS, PARTITIONS) as cluster:
        for topic in TOPICS:
            for number in range(PARTITIONS):
                cluster.lead(BROKERS[number], topic, [number])
        yield cluster


@pytest_asyncio.fixture
async def layer(brokers: MockCluster) -> AsyncIterator[KafkaChannelLayer]:
    layer = KafkaChannelLayer([brokers.url])
    yield layer
    await layer.close()


@pytest_asyncio.fixture
async def node(layer: KafkaChannelLayer) -> AsyncIterator[tuple[Backplane, Recorder]]:
    """A node that is in all groups."""
    node, recorder = layer.backplane(), Recorder()
    await node.open(node_channel(), recorder)
    await node.subscribe(GROUPS)
    yield node, recorder
    await node.close()


async def test_all_brokers_are_read_and_written(node: tuple[Backplane, Recorder]) -> None:
    """Partitions are on three brokers; every group works, and every probe comes back."""
    backplane, recorder = node
    probes = backplane.probe_groups("rt.echo.x")
    assert len(probes) == PARTITIONS
    await backplane.subscribe(probes)
    for group in [*GROUPS, *probes]:
        await backplane.publish(group, group.encode())
    await recorder.until_count(len(GROUPS) + PARTITIONS)
    assert sorted(recorder.envelopes) == sorted(group.encode() for group in [*GROUPS, *probes])


async def test_partitions_move_and_nobody_notices(brokers: MockCluster, node: tuple[Backplane, Recorder]) -> None:
    """When partitions get another leader under traffic, every message is taken, and arrives in order and once."""
    backplane, recorder = node
    sent = [b'{"n":%d}' % number for number in range(600)]
    for start in range(0, len(sent), 20):
        if start % 100 == 0:
            for number in range(PARTITIONS):
                brokers.lead(BROKERS[(start // 100 + number) % 3], ROOM, [number])
        await asyncio.gather(*[backplane.publish("rt.r.0", envelope) for envelope in sent[start : start + 20]])
    await recorder.until_count(len(sent))
    assert recorder.envelopes == sent
    assert recorder.events == []


async def test_a_broker_goes_down_and_its_partitions_move(
    brokers: MockCluster, node: tuple[Backplane, Recorder]
) -> None:
    """With one broker gone and its partitions led by others, everything works on."""
    backplane, recorder = node
    for topic in TOPICS:
        brokers.lead(2, topic, [0])
    brokers.take_down(1)
    await until_published(backplane, GROUPS)
    await recorder.until(lambda: {group.encode() for group in GROUPS} <= set(recorder.envelopes))


async def test_a_broker_goes_down_with_its_partitions(brokers: MockCluster, node: tuple[Backplane, Recorder]) -> None:
    """While a partition has no leader the node cannot reach some of its rooms, and says so; when the broker is back it
    reads on, and nothing is lost."""
    backplane, recorder = node
    for topic in TOPICS:
        brokers.lead(1, topic, range(PARTITIONS))
    await until_published(backplane, GROUPS)
    brokers.take_down(1)
    await recorder.until_event("interrupted")
    with pytest.raises(BackplaneUnavailable):
        await backplane.publish("rt.r.0", b"{}")
    brokers.bring_up(1)
    await recorder.until_event("resumed")
    assert recorder.groups == [frozenset()] * len(recorder.groups)
    recorder.envelopes.clear()
    await until_published(backplane, GROUPS)
    await recorder.until(lambda: {group.encode() for group in GROUPS} <= set(recorder.envelopes))


async def test_all_brokers_go_down_and_come_back(brokers: MockCluster, node: tuple[Backplane, Recorder]) -> None:
    """One after the other, as in an outage of the network."""
    backplane, recorder = node
    for broker in BROKERS:
        brokers.take_down(broker)
    await recorder.until_event("interrupted")
    assert backplane.publish("rt.r.0", b"{}").done()
    for broker in BROKERS:
        brokers.bring_up(broker)
    await recorder.until_event("resumed")
    await until_published(backplane, GROUPS)
    await recorder.until(lambda: {group.encode() for group in GROUPS} <= set(recorder.envelopes))


async def until_published(backplane: Backplane, groups: list[str]) -> None:
    """Publish each group's name to it; try again while it is unavailable."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        for group in groups:
            while True:
                try:
                    await backplane.publish(group, group.encode())
                    break
                except BackplaneUnavailable:
                    await asyncio.sleep(0.05)
