"""What only our own memory layer promises."""

from __future__ import annotations

import asyncio
import threading

import pytest
from channels.exceptions import ChannelFull
from channels_redis.pubsub import RedisPubSubChannelLayer

from realtime.layers.backplane import capacity_of
from realtime.layers.memory import MemoryChannelLayer
from tests.contract.recorder import Recorder


async def test_drops_are_counted_and_told_to_the_node() -> None:
    """A node that is too slow for its capacity learns how many envelopes it did not get."""
    layer = MemoryChannelLayer(capacity=10)
    node, recorder = layer.backplane(), Recorder()
    await node.open("rt.node.a", recorder)
    await node.subscribe(["rt.r.x"])
    results = [await node.publish("rt.r.x", b"{}") for _ in range(15)]
    await recorder.until(lambda: recorder.dropped_count == 5)
    assert results == [1] * 10 + [0] * 5
    assert len(recorder.envelopes) == 10
    assert layer.stats.dropped == 5
    await node.close()


async def test_a_full_channel_raises() -> None:
    """send() raises ChannelFull, as Channels documents; group_send() does not."""
    layer = MemoryChannelLayer(capacity=1)
    await layer.group_add("chat", "specific.x")
    await layer.send("specific.x", {"type": "t"})
    with pytest.raises(ChannelFull):
        await layer.send("specific.x", {"type": "t"})
    await layer.group_send("chat", {"type": "t"})
    assert layer.stats.dropped == 2


async def test_envelopes_are_not_copied() -> None:
    """Every node gets the very bytes object that was published."""
    layer = MemoryChannelLayer()
    nodes = [(layer.backplane(), Recorder()) for _ in range(3)]
    for number, (node, recorder) in enumerate(nodes):
        await node.open(f"rt.node.{number}", recorder)
        await node.subscribe(["rt.r.x"])
    envelope = b'{"v":' + b"1" * 100 + b"}"
    assert await nodes[0][0].publish("rt.r.x", envelope) == 3
    for _, recorder in nodes:
        await recorder.until_count(1)
        assert recorder.envelopes[0] is envelope
    for node, _ in nodes:
        await node.close()


async def test_many_threads_publish_into_one_node() -> None:
    """Loops in other threads lose nothing and keep each thread's order."""
    layer = MemoryChannelLayer()
    node, recorder = layer.backplane(), Recorder()
    await node.open("rt.node.a", recorder)
    await node.subscribe(["rt.r.x"])

    async def burst(who: int) -> None:
        for number in range(500):
            message = {"type": "rt.envelope", "text": f'{{"who":{who},"number":{number:03d}}}'}
            await layer.group_send("rt.r.x", message)

    threads = [threading.Thread(target=lambda who=who: asyncio.run(burst(who))) for who in range(4)]
    for thread in threads:
        thread.start()
    await recorder.until_count(2_000)
    for thread in threads:
        thread.join()
    for who in range(4):
        own = [each for each in recorder.envelopes if each.startswith(b'{"who":%d' % who)]
        assert own == sorted(own)
        assert len(own) == 500
    await node.close()


async def test_a_sleeping_node_is_woken_from_another_thread() -> None:
    """A message from a thread reaches a node whose loop has nothing else to do, without delay."""
    layer = MemoryChannelLayer()
    node, recorder = layer.backplane(), Recorder()
    await node.open("rt.node.a", recorder)
    message = {"type": "rt.envelope", "text": "{}"}
    timer = threading.Timer(0.1, lambda: asyncio.run(layer.send("rt.node.a", message)))
    timer.start()
    await recorder.until_envelope(b"{}", seconds=1)
    timer.join()
    await node.close()


async def test_channels_that_nobody_receives_from_are_let_go() -> None:
    """Messages to nowhere do not pile up: after `expiry` their channel is forgotten and leaves its groups."""
    layer = MemoryChannelLayer(expiry=0)
    await layer.group_add("chat", "specific.gone")
    await layer.send("specific.gone", {"type": "t"})
    await asyncio.sleep(0.01)
    await layer.send("specific.new", {"type": "t"})
    assert list(layer.mailboxes) == ["specific.new"]
    assert layer.groups == {}


def test_capacity_is_readable_without_a_loop() -> None:
    """A system check can ask any layer for its capacity; one without such a limit has none."""
    assert capacity_of(MemoryChannelLayer(capacity=7)) == 7
    assert capacity_of(RedisPubSubChannelLayer()) is None
