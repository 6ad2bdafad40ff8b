"""The parts of the Kafka layer that decide without a broker."""

from __future__ import annotations

import pytest
from aiokafka.record.memory_records import MemoryRecords

from realtime.layers.kafka_address import Address, Options, parse_hosts
from realtime.layers.kafka_cluster import Layout, NoLeader
from realtime.layers.kafka_positions import by_topic, read_on_at
from realtime.layers.kafka_publisher import partition_of, records_of, required_acks
from realtime.layers.kafka_topics import TopicNames
from realtime.layers.wire import channel_on_wire, group_on_wire
from realtime.protocol.names import BROADCAST_GROUP, NODES_GROUP, echo_stem, group_of_room, group_of_user, node_channel


@pytest.mark.parametrize(
    ("position", "earliest", "latest", "is_new", "expected"),
    [
        (None, 5, 70, False, (70, 0)),  # a node starts at the end
        (None, 5, 70, True, (5, 0)),  # a partition that appeared meanwhile is read from its beginning
        (None, 5, 700, True, (700, 695)),
        (60, 5, 70, False, (60, 0)),  # reading goes on
        (70, 5, 70, False, (70, 0)),
        (5, 5, 70, False, (5, 0)),
        (4, 5, 70, False, (70, -1)),  # older than the retention
        (71, 5, 70, False, (70, -1)),  # the log was cut
        (9, 0, 0, False, (0, -1)),  # the log is gone
        (5, 0, 105, False, (5, 0)),
        (5, 0, 106, False, (106, 101)),  # too far behind
    ],
)
def test_where_reading_goes_on(
    position: int | None, earliest: int, latest: int, is_new: bool, expected: tuple[int, int]
) -> None:
    """Where it stopped; at the end where it cannot, or would take too long; and how much is lost by that."""
    assert read_on_at(position, earliest, latest, is_new=is_new, max_lag=100) == expected


@pytest.mark.parametrize(
    ("key", "partition"),
    [("asgi__group__rt.r.lobby", 2), ("asgi__group__rt.all", 3), ("asgi__channel__rt.node.web-1-a1b2c3", 1)],
)
def test_partitions_are_those_of_every_kafka_client(key: str, partition: int) -> None:
    """Vectors for services in other languages: the partition of a key, of 8. kafkajs says the same."""
    assert partition_of(key.encode(), 8) == partition


def test_every_name_has_its_topic() -> None:
    """Broadcasts and talk between nodes; rooms, echoes and others' groups; users, nodes and others' channels."""
    names = TopicNames("p", Options())
    groups = {
        "websocket-broadcast": [BROADCAST_GROUP, NODES_GROUP],
        "websocket-room": [group_of_room("a"), group_of_room("ä"), f"{echo_stem('n')}.0", "chat", "u", "rt.u"],
        "websocket-direct": [group_of_user("a"), group_of_user("ä")],
    }
    for topic, members in groups.items():
        assert {names.topic_of(group_on_wire("p", group)) for group in members} == {topic}
    for channel in (node_channel("n"), "specific.x!y"):
        assert names.topic_of(channel_on_wire("p", channel)) == "websocket-direct"


def test_records_keep_their_order_and_bytes() -> None:
    """What a batch was made of comes out of it, keys and payloads."""
    batch = [(b"k%d" % number, bytes([number]) * number * 1000, None, 0.0) for number in range(100)]
    batches = MemoryRecords(records_of(batch))  # type: ignore[arg-type]
    found = [(record.key, record.value) for record in batches.next_batch()]
    assert found == [(key, payload) for key, payload, _, _ in batch]


def test_a_url_names_brokers_and_options() -> None:
    """Hosts with and without a port, a user, and options as the types that they have."""
    address, options = parse_hosts(
        ["kafka://me:se%40cret@a:1,b,[::1]:3/?partitions=8&acks=1&sasl_mechanism=SCRAM-SHA-256"]
    )
    assert address == Address((("a", 1), ("b", 9092), ("::1", 3)), "me", "se@cret", "SCRAM-SHA-256")
    assert options == {"partitions": 8, "acks": "1"}
    assert str(address) == "a:1,b:9092,::1:3"
    assert "se@cret" not in repr(address)


def test_hosts_may_be_written_plainly() -> None:
    """`host:port` without a scheme, several of them; without any, this machine."""
    assert parse_hosts(["a:1", "b:2"])[0].hosts == (("a", 1), ("b", 2))
    assert parse_hosts(None)[0].hosts == (("localhost", 9092),)


def test_tls_is_a_scheme_of_its_own() -> None:
    """kafka+ssl:// verifies the brokers' certificates."""
    assert parse_hosts(["kafka://a"])[0].tls is None
    context = parse_hosts(["kafka+ssl://a"])[0].tls
    assert context is not None
    assert context.check_hostname


def test_acks_are_what_kafka_calls_them() -> None:
    """All in-sync replicas, or the leader alone."""
    assert (required_acks("all"), required_acks("1")) == (-1, 1)


def test_a_partition_without_a_leader_is_found() -> None:
    """A layout serves when each partition has a leader with an address."""
    brokers = {1: ("a", 1)}
    Layout(brokers, {("t", 0): 1}).require_leaders()
    for leader in (-1, 2):
        with pytest.raises(NoLeader, match="partition 1 of t"):
            Layout(brokers, {("t", 0): 1, ("t", 1): leader}).require_leaders()


def test_requests_name_each_topic_once() -> None:
    """Partitions are grouped as Kafka's requests want them."""
    assert by_topic([(("t", 0), "a"), (("u", 0), "b"), (("t", 1), "c")]) == [
        ("t", [(0, "a"), (1, "c")]),
        ("u", [(0, "b")]),
    ]
