"""What the Kafka layer does beyond the contract: it reads on where it stopped, and says when it cannot."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from devtools.kafka import PARTITIONS
from realtime.exceptions import BackplaneUnavailable
from realtime.layers import kafka_subscriber
from realtime.layers.kafka import KafkaChannelLayer
from realtime.protocol.names import BROADCAST_GROUP
from tests.contract.kinds import KINDS, Cluster, node_channel
from tests.contract.recorder import Recorder
from tests.support.kafka import KafkaServer
from tests.support.kafka_admin import KafkaAdmin

[KAFKA] = [kind for kind in KINDS if kind.name == "kafka"]


@pytest_asyncio.fixture
async def cluster(kafka_server: KafkaServer) -> AsyncIterator[Cluster]:
    cluster = Cluster(KAFKA, [kafka_server])
    yield cluster
    if kafka_server.is_running:
        kafka_server.resume()
    await cluster.close()


@pytest_asyncio.fixture
async def admin(kafka_server: KafkaServer) -> AsyncIterator[KafkaAdmin]:
    async with KafkaAdmin(kafka_server.address) as admin:
        yield admin


@pytest.fixture
def whole(kafka_server: KafkaServer) -> None:
    """What the test asks of the broker is more than Tansu can."""
    if not kafka_server.broker.is_whole:
        pytest.skip(f"{kafka_server.broker.name} cannot do that")


@pytest.fixture
def own_topics() -> dict[str, str]:
    """Names that no other test uses, as options of a layer."""
    name = secrets.token_hex(4)
    return {f"{kind}_topic": f"t{name}-{kind}" for kind in ("broadcast", "room", "direct")}


async def test_subscribing_needs_no_broker(cluster: Cluster, kafka_server: KafkaServer) -> None:
    """While the broker hangs a node subscribes at once; what is published later arrives all the same."""
    node, recorder = await cluster.node()
    kafka_server.pause()
    async with asyncio.timeout(1):
        await node.subscribe(["rt.r.x"])
    kafka_server.resume()
    while True:
        try:
            await node.publish("rt.r.x", b'{"n":1}')
            break
        except BackplaneUnavailable:  # the machine took its time
            await recorder.until_event("resumed")
            recorder.events.clear()
    await recorder.until_envelope(b'{"n":1}')


async def test_a_silent_broker_is_noticed_and_nothing_is_lost(
    cluster: Cluster, kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen broker closes no connection; that it leaves a request unanswered gives it away. Reading goes on where
    it stopped, so no group is named."""
    monkeypatch.setattr(kafka_subscriber, "ANSWER_SECONDS", 0.3)
    node, recorder = await cluster.node()
    await node.subscribe(["rt.r.x"])
    kafka_server.pause()
    await recorder.until_event("interrupted")
    kafka_server.resume()
    await recorder.until_event("resumed")
    assert recorder.groups == [frozenset()]
    assert node.stats.missed == 0


@pytest.mark.usefixtures("whole")
async def test_what_a_node_had_not_read_it_reads_after_a_restart(cluster: Cluster, kafka_server: KafkaServer) -> None:
    """A node that was behind when the broker went down reads the rest when it is back: complete, in order, once."""
    node, recorder = await cluster.node(cluster.layer(node_waiting_bytes=10_000))
    publisher, _ = await cluster.node()
    await node.subscribe(["rt.r.x"])
    recorder.gate = asyncio.Event()
    sent = [b'{"n":%d}' % number for number in range(3_000)]
    for start in range(0, len(sent), 100):
        await asyncio.gather(*[publisher.publish("rt.r.x", envelope) for envelope in sent[start : start + 100]])
    kafka_server.kill()
    await recorder.until_event("interrupted")
    kafka_server.start()
    await recorder.until_event("resumed")
    recorder.gate.set()
    await recorder.until_envelope(sent[-1])
    assert recorder.envelopes == sent
    assert recorder.groups == [frozenset()]


@pytest.mark.usefixtures("whole")
async def test_a_lost_log_is_told_for_its_topic(
    cluster: Cluster, admin: KafkaAdmin, own_topics: dict[str, str]
) -> None:
    """Where the log does not reach back to a node's position any more, the groups of that topic are named, and reading
    goes on at the end."""
    node, recorder = await cluster.node(cluster.layer(node_waiting_bytes=10_000, **own_topics))
    await node.subscribe([BROADCAST_GROUP, "rt.r.x", "rt.u.somebody"])
    recorder.gate = asyncio.Event()
    for number in range(30):
        await node.publish("rt.r.x", b'{"n":%d,"pad":"%s"}' % (number, b"x" * 1000))
    await admin.delete_records(own_topics["room_topic"])
    recorder.gate.set()
    await recorder.until_event("resumed")
    assert recorder.events == ["interrupted", "resumed"]
    assert recorder.groups == [frozenset({"rt.r.x"})]
    assert node.stats.missed == 1
    assert len(recorder.envelopes) < 30
    await node.publish("rt.r.x", b'{"sentinel":1}')
    await recorder.until_envelope(b'{"sentinel":1}')


async def test_a_node_that_is_too_far_behind_skips_and_says_so(cluster: Cluster) -> None:
    """Beyond `max_lag` messages the rest is left out, counted and told; what comes later arrives."""
    node, recorder = await cluster.node(cluster.layer(node_waiting_bytes=10_000, max_lag=100))
    publisher, _ = await cluster.node()
    await node.subscribe(["rt.r.x"])
    recorder.gate = asyncio.Event()
    for number in range(40):
        batch = [b'{"n":%d,"pad":"%s"}' % (number, b"x" * 10_000)] * 20
        await asyncio.gather(*[publisher.publish("rt.r.x", envelope) for envelope in batch])
    recorder.gate.set()
    await recorder.until(lambda: recorder.dropped_count > 0)
    await publisher.publish("rt.r.x", b'{"sentinel":1}')
    await recorder.until_envelope(b'{"sentinel":1}')
    assert recorder.dropped_count == node.stats.dropped >= 100
    assert len(recorder.envelopes) - 1 + recorder.dropped_count == 800
    assert node.stats.lag == 0


async def test_the_lag_is_measured_while_nothing_is_read(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """`stats.lag` grows with what waits at the broker for a node that is busy."""
    monkeypatch.setattr("realtime.layers.kafka_link.LOOK_SECONDS", 0.1)
    node, recorder = await cluster.node(cluster.layer(node_waiting_bytes=10_000))
    publisher, _ = await cluster.node()
    await node.subscribe(["rt.r.x"])
    recorder.gate = asyncio.Event()
    for number in range(100):
        await publisher.publish("rt.r.x", b'{"n":%d,"pad":"%s"}' % (number, b"x" * 1000))
    async with asyncio.timeout(30):
        while node.stats.lag < 10:
            await asyncio.sleep(0.05)
    recorder.gate.set()
    await recorder.until_count(100)
    async with asyncio.timeout(30):
        while node.stats.lag:
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("whole")
async def test_new_partitions_are_read_from_their_beginning(
    cluster: Cluster, admin: KafkaAdmin, own_topics: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody published to a new partition before the node had seen it arrives as soon as it has."""
    monkeypatch.setattr("realtime.layers.kafka_link.LOOK_SECONDS", 0.1)
    layer = cluster.layer(partitions=1, **own_topics)
    node, recorder = await cluster.node(layer)
    await node.subscribe(["rt.r.x"])
    await admin.add_partitions(own_topics["room_topic"], 3)
    await admin.publish(own_topics["room_topic"], 2, f"{cluster.prefix}__group__rt.r.x".encode(), b'{"n":1}')
    await recorder.until_envelope(b'{"n":1}')
    assert recorder.events == []


@pytest.mark.usefixtures("whole")
async def test_publishers_use_new_partitions_when_all_nodes_read_them(
    cluster: Cluster, admin: KafkaAdmin, own_topics: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publisher goes on with the partitions that it knows, and changes later; probes then cover all of them."""
    monkeypatch.setattr("realtime.layers.kafka_link.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("realtime.layers.kafka_cluster.ADOPT_SECONDS", 0.5)
    node, _ = await cluster.node(cluster.layer(partitions=1, **own_topics))
    assert len(node.probe_groups("rt.echo.x")) == 1
    await admin.add_partitions(own_topics["room_topic"], 3)
    async with asyncio.timeout(30):
        while len(node.probe_groups("rt.echo.x")) == 1:
            await asyncio.sleep(0.05)
    assert len(node.probe_groups("rt.echo.x")) == 3


async def test_a_room_keeps_to_one_partition(cluster: Cluster, admin: KafkaAdmin, own_topics: dict[str, str]) -> None:
    """The key of a record is the group, and its partition the one that every Kafka client chooses for it."""
    node, _ = await cluster.node(cluster.layer(partitions=PARTITIONS, **own_topics))
    groups = [f"rt.r.{number}" for number in range(20)]
    await asyncio.gather(*[node.publish(group, b"{}") for group in groups for _ in range(3)])
    keys = await admin.keys_by_partition(own_topics["room_topic"], 60)
    wanted = {group: admin.partition_of(f"{cluster.prefix}__group__{group}", PARTITIONS) for group in groups}
    found = {key.decode().partition("__group__")[2]: number for number, each in keys.items() for key in each}
    assert found == wanted
    assert len(set(found.values())) == PARTITIONS


async def test_each_kind_of_name_has_its_topic(cluster: Cluster, admin: KafkaAdmin, own_topics: dict[str, str]) -> None:
    """Broadcasts, rooms and single recipients travel apart."""
    node, _ = await cluster.node(cluster.layer(**own_topics))
    await node.publish(BROADCAST_GROUP, b"{}")
    await node.publish("rt.r.x", b"{}")
    await node.publish("chat", b"{}")
    await node.publish("rt.u.somebody", b"{}")
    await node.publish_to("rt.node.y", b"{}")
    found = {
        kind: sorted(
            key.decode().partition("__")[2]
            for keys in (await admin.keys_by_partition(own_topics[f"{kind}_topic"], count)).values()
            for key in keys
        )
        for kind, count in (("broadcast", 1), ("room", 2), ("direct", 2))
    }
    assert found == {
        "broadcast": [f"group__{BROADCAST_GROUP}"],
        "room": ["group__chat", "group__rt.r.x"],
        "direct": ["channel__rt.node.y", "group__rt.u.somebody"],
    }


async def test_a_record_without_a_value_or_key_is_told(cluster: Cluster, admin: KafkaAdmin) -> None:
    """A record that is for a group of ours and has no payload is counted as dropped. One for another group, or without
    a key, is left out before anybody looks at its payload."""
    node, recorder = await cluster.node()
    await node.subscribe(["rt.r.x"])
    key = f"{cluster.prefix}__group__rt.r.x".encode()
    await admin.publish("websocket-room", 0, None, b"{}")
    await admin.publish("websocket-room", 0, f"{cluster.prefix}__group__rt.r.y".encode(), None)
    await admin.publish("websocket-room", 0, key, None)
    await recorder.until(lambda: recorder.dropped_count > 0)
    await admin.publish("websocket-room", 0, key, b'{"sentinel":1}')
    await recorder.until_envelope(b'{"sentinel":1}')
    assert (recorder.dropped_count, node.stats.dropped) == (1, 1)
    assert recorder.envelopes == [b'{"sentinel":1}']


async def test_compressed_records_are_read(cluster: Cluster, admin: KafkaAdmin) -> None:
    """A publisher in another language may compress its batches."""
    node, recorder = await cluster.node()
    await node.subscribe(["rt.r.x"])
    key = f"{cluster.prefix}__group__rt.r.x".encode()
    await admin.publish("websocket-room", 0, key, b'{"n":1}', compression="gzip")
    await recorder.until_envelope(b'{"n":1}')


@pytest.mark.usefixtures("whole")
async def test_a_topic_that_may_not_be_made_is_named(cluster: Cluster, own_topics: dict[str, str]) -> None:
    """Without the topics, and with no way to make them, opening fails and says which and why."""
    layer = cluster.layer(replication=7, **own_topics)
    node = cluster.backplane(layer)
    with pytest.raises(BackplaneUnavailable, match=own_topics["broadcast_topic"]):
        await node.open(node_channel(), Recorder())


@pytest.mark.parametrize(
    ("hosts", "options"),
    [
        ("kafka://h", {}),
        (["redis://h"], {}),
        (["kafka://h:0"], {}),
        (["kafka://h/path"], {}),
        (["kafka://h?unknown=1"], {}),
        (["kafka://h?ssl_cafile=x"], {}),
        (["kafka://u:p@h?sasl_mechanism=GSSAPI"], {}),
        (["kafka://h"], {"acks": "0"}),
        (["kafka://h"], {"partitions": 0}),
        (["kafka://h"], {"room_topic": "websocket-direct"}),
    ],
)
def test_bad_configuration_is_refused(hosts: object, options: dict[str, object]) -> None:
    """What would silently do something else stops the start."""
    with pytest.raises(ValueError, match=r"\w"):
        KafkaChannelLayer(hosts, **options)  # type: ignore[arg-type]
