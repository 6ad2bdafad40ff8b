"""What only the RabbitMQ layer promises, on a real RabbitMQ."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pika
import pytest
import pytest_asyncio

from devtools.ports import free_port
from realtime.exceptions import BackplaneUnavailable
from realtime.layers.rabbitmq import RabbitmqChannelLayer
from tests.contract.kinds import KINDS, Cluster, assert_works, node_channel
from tests.contract.recorder import Recorder
from tests.support.rabbitmq import RabbitServer

[RABBITMQ] = [kind for kind in KINDS if kind.name == "rabbitmq"]


@pytest_asyncio.fixture
async def cluster(rabbitmq_server: RabbitServer) -> AsyncIterator[Cluster]:
    cluster = Cluster(RABBITMQ, [rabbitmq_server])
    yield cluster
    await cluster.close()


# Publishing


async def test_what_nobody_is_bound_to_was_taken_by_nobody(cluster: Cluster) -> None:
    """A node or user that nobody listens for has 0 subscribers, which the broker says at once; of a room the number is
    not asked for. All of it was taken."""
    node, recorder = await cluster.node()
    await node.subscribe(["rt.u.7"])
    assert await node.publish_to(node.channel, b'{"n":1}') is None
    assert await node.publish("rt.u.7", b'{"n":2}') is None
    assert await node.publish_to("rt.node.gone", b"{}") == 0
    assert await node.publish("rt.u.8", b"{}") == 0
    assert await node.publish("rt.v.0123", b"{}") == 0
    assert await node.publish("rt.r.empty", b"{}") is None
    await recorder.until_count(2)
    assert recorder.envelopes == [b'{"n":1}', b'{"n":2}']


async def test_returned_and_routed_ones_are_told_apart(cluster: Cluster) -> None:
    """In one burst each publication gets its own answer, whatever the order in which the broker confirms."""
    node, recorder = await cluster.node()
    to = [node.channel if number % 3 else "rt.node.gone" for number in range(300)]
    results = await asyncio.gather(*[node.publish_to(channel, b"x" * 2_000) for channel in to])
    assert results == [None if number % 3 else 0 for number in range(300)]
    await recorder.until_count(200)


async def test_a_broker_short_of_memory_takes_nothing(cluster: Cluster, rabbitmq_server: RabbitServer) -> None:
    """While its memory alarm is on, publishes are BackplaneUnavailable and say why, at once after the first; the node
    receives on, and all is well when the alarm is over."""
    node, recorder = await cluster.node()
    await node.subscribe(["rt.r.x"])
    rabbitmq_server.control("set_vm_memory_high_watermark", "absolute", "1")
    try:
        async with asyncio.timeout(20):
            while not await refuses(node.publish("rt.r.x", b"{}"), "short"):
                await asyncio.sleep(0.05)
        assert node.publish("rt.r.x", b"{}").done()
    finally:
        rabbitmq_server.control("set_vm_memory_high_watermark", "absolute", "4GB")
    async with asyncio.timeout(20):
        while await refuses(node.publish("rt.r.x", b'{"now":1}'), ""):
            await asyncio.sleep(0.05)
    await recorder.until_envelope(b'{"now":1}')
    assert recorder.events == []


async def refuses(published: asyncio.Future[int | None], reason: str) -> bool:
    """Whether it fails with BackplaneUnavailable that gives this reason."""
    try:
        await published
    except BackplaneUnavailable as error:
        return reason in str(error)
    return False


async def test_what_a_queue_refuses_is_unavailable(cluster: Cluster, rabbitmq_server: RabbitServer) -> None:
    """A publication that the broker does not confirm, as another service's queue on the exchange is full and refuses
    more, is BackplaneUnavailable; the next one, for somebody else, is taken."""
    node, recorder = await cluster.node()
    await node.subscribe(["rt.r.x"])
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_server.url)) as connection:
        channel = connection.channel()
        refusing = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = channel.queue_declare("", exclusive=True, arguments=refusing).method.queue
        channel.queue_bind(queue, f"{cluster.prefix}.websocket", "room.full")
        assert await node.publish("rt.r.full", b"{}") is None
        assert await refuses(node.publish("rt.r.full", b"{}"), "could not take")
        assert await node.publish("rt.r.x", b'{"n":1}') is None
    await recorder.until_envelope(b'{"n":1}')
    assert recorder.events == []


# The queue


async def test_a_full_queue_drops_the_oldest_and_says_so(cluster: Cluster) -> None:
    """What finds no room in the broker's queue while the node is busy is dropped, the oldest first; each one is counted
    and told, and the newest arrive in order."""
    node, recorder = await cluster.node(cluster.layer(queue_length=50, prefetch=20, node_waiting_bytes=10_000))
    publisher, _ = await cluster.node()
    await node.subscribe(["rt.r.x"])
    recorder.gate = asyncio.Event()
    sent = [b'{"n":%d,"pad":"%b"}' % (number, b"x" * 2_000) for number in range(500)]
    for start in range(0, len(sent), 50):
        await asyncio.gather(*[publisher.publish("rt.r.x", each) for each in sent[start : start + 50]])
    recorder.gate.set()
    await recorder.until(lambda: len(recorder.envelopes) + recorder.dropped_count == len(sent))
    assert recorder.dropped_count > 300
    assert recorder.envelopes[-50:] == sent[-50:]
    assert recorder.envelopes == [each for each in sent if each in set(recorder.envelopes)]
    assert node.stats.dropped == recorder.dropped_count
    assert recorder.events == []


async def test_everything_arrives_with_a_small_prefetch(cluster: Cluster) -> None:
    """Messages are acknowledged as they are dealt with: far more than the prefetch pass, none is lost."""
    node, recorder = await cluster.node(cluster.layer(prefetch=8))
    await node.subscribe(["rt.r.x"])
    sent = [b'{"n":%d}' % number for number in range(2_000)]
    await asyncio.gather(*[node.publish("rt.r.x", each) for each in sent])
    await recorder.until_count(len(sent))
    assert recorder.envelopes == sent
    assert recorder.dropped_count == 0


async def test_a_node_has_one_queue_that_ends_with_it(cluster: Cluster, rabbitmq_server: RabbitServer) -> None:
    """One exclusive queue, and one for what it drops, named after the node; both are gone when the node closes."""
    node, _ = await cluster.node()
    await node.subscribe([f"rt.r.{number}" for number in range(100)])
    name = node.channel.removeprefix("rt.")
    found = queues(rabbitmq_server, cluster)
    assert len(found) == 2
    assert all(queue.startswith(f"{cluster.prefix}.websocket.{name}.") for queue in found)
    await node.close()
    assert queues(rabbitmq_server, cluster) == []


def queues(server: RabbitServer, cluster: Cluster) -> list[str]:
    names = server.control("list_queues", "--no-table-headers", "name").split()
    return [name for name in names if name.startswith(cluster.prefix)]


# The connection


async def test_an_operator_closes_the_connections(cluster: Cluster, rabbitmq_server: RabbitServer) -> None:
    """It is an interruption like any other: told, and everything is bound again."""
    node, recorder = await cluster.node()
    await node.subscribe(["rt.r.x"])
    await asyncio.to_thread(rabbitmq_server.control, "close_all_connections", "maintenance")
    await recorder.until_event("resumed")
    assert recorder.events[:2] == ["interrupted", "resumed"]
    assert recorder.groups[0] == frozenset({node.channel, "rt.r.x"})
    async with asyncio.timeout(10):
        while await refuses(node.publish("rt.r.x", b"{}"), ""):
            await asyncio.sleep(0.05)
    await recorder.until_envelope(b"{}")


async def test_another_member_of_the_cluster_is_tried(rabbitmq_server: RabbitServer) -> None:
    """With several hosts a dead one costs nothing but an attempt."""
    dead = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    for _ in range(4):  # they are tried in a random order
        await assert_works(RabbitmqChannelLayer([dead, rabbitmq_server.url], "several"))


async def test_a_wrong_password_says_so(rabbitmq_server: RabbitServer) -> None:
    """BackplaneUnavailable with the broker's word, and without the password."""
    layer = RabbitmqChannelLayer([f"amqp://guest:s3cret@127.0.0.1:{rabbitmq_server.port}/"])
    with pytest.raises(BackplaneUnavailable, match="ACCESS_REFUSED") as refusal:
        await layer.group_send("chat", {"type": "t"})
    assert "s3cret" not in str(refusal.value)
    await layer.close()


async def test_an_unknown_virtual_host_says_so(rabbitmq_server: RabbitServer) -> None:
    """BackplaneUnavailable with the name of the virtual host."""
    layer = RabbitmqChannelLayer([f"{rabbitmq_server.url}nowhere"])
    with pytest.raises(BackplaneUnavailable, match="nowhere"):
        await layer.group_send("chat", {"type": "t"})
    await layer.close()


async def test_a_user_of_our_own_exchange(cluster: Cluster, rabbitmq_server: RabbitServer) -> None:
    """Rights on our own names, and to write to the default exchange, are enough; a foreign prefix is refused."""
    name = f"user-{cluster.prefix}"
    pattern = f"^{cluster.prefix}\\.websocket.*"
    rabbitmq_server.control("add_user", name, "s3cret")
    rabbitmq_server.control("set_permissions", name, pattern, f"{pattern}|amq\\.default", pattern)
    url = f"amqp://{name}:s3cret@127.0.0.1:{rabbitmq_server.port}/"
    await assert_works(RabbitmqChannelLayer([url], cluster.prefix))
    other = RabbitmqChannelLayer([url], "other")
    with pytest.raises(BackplaneUnavailable, match="ACCESS_REFUSED"):
        await other.group_send("chat", {"type": "t"})
    await other.close()


async def test_tls(rabbitmq_server: RabbitServer) -> None:
    """amqps:// with our own authority works, also unverified; without it the certificate is refused."""
    await assert_works(RabbitmqChannelLayer([rabbitmq_server.tls_url], "tls"))
    await assert_works(
        RabbitmqChannelLayer([f"amqps://localhost:{rabbitmq_server.tls_port}/?verify=verify_none"], "tls")
    )
    doubting = RabbitmqChannelLayer([f"amqps://localhost:{rabbitmq_server.tls_port}/"])
    with pytest.raises(BackplaneUnavailable, match=r"(?i)certificate"):
        await doubting.group_send("chat", {"type": "t"})
    await doubting.close()


async def test_what_is_no_amqp_server_is_refused() -> None:
    """A server that speaks something else is BackplaneUnavailable within 2 s."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    layer = RabbitmqChannelLayer([f"amqp://127.0.0.1:{port}/"])
    began = time.monotonic()
    with pytest.raises(BackplaneUnavailable):
        await layer.group_send("chat", {"type": "t"})
    assert time.monotonic() - began < 3
    await layer.close()
    server.close()
    await server.wait_closed()


async def test_missed_is_told_to_whoever_asked(cluster: Cluster, rabbitmq_server: RabbitServer) -> None:
    """on_missed gets the groups of this loop's consumers after an interruption, and they go on receiving."""
    told: list[frozenset[str]] = []
    layer = cluster.layer(on_missed=told.append)
    channel = await layer.new_channel()
    await layer.group_add("chat", channel)
    await asyncio.to_thread(rabbitmq_server.control, "close_all_connections", "maintenance")
    async with asyncio.timeout(15):
        while not told:
            await asyncio.sleep(0.01)
        while True:
            try:
                await layer.group_send("chat", {"type": "t"})
                break
            except BackplaneUnavailable:
                await asyncio.sleep(0.01)
    assert await asyncio.wait_for(layer.receive(channel), 5) == {"type": "t"}
    assert told[0] == frozenset({"chat"})


async def test_a_full_queue_is_told_to_consumers_as_well(cluster: Cluster) -> None:
    """on_drop hears of what the queue dropped for a consumer's channel while a node on the same layer was busy."""
    told: list[tuple[str, int]] = []
    layer = cluster.layer(
        queue_length=10, prefetch=5, node_waiting_bytes=10_000, on_drop=lambda *drop: told.append(drop)
    )
    channel = await layer.new_channel()
    await layer.group_add("chat", channel)
    node, recorder = layer.backplane(), Recorder()
    recorder.gate = asyncio.Event()
    await node.open(node_channel(), recorder)
    await node.subscribe(["rt.r.x"])
    publisher, _ = await cluster.node()
    for _ in range(10):
        await asyncio.gather(*[publisher.publish("rt.r.x", b"x" * 2_000) for _ in range(5)])
    for number in range(50):
        await cluster.layer().group_send("chat", {"type": "t", "number": number})
    recorder.gate.set()
    async with asyncio.timeout(10):
        while not told:
            await asyncio.sleep(0.01)
    assert {name for name, _ in told} == {channel}
    await node.close()
